//! The command line: finds the command, runs it, and turns its end into an exit code.

mod approve;
mod check;
mod checkpoint;
mod existing;
mod freeze;
mod hash;
mod healthcheck;
mod help;
mod init;
mod options;
mod pending;
mod shown;
mod verify;

use std::io::Write;
use std::process::ExitCode;

pub use self::help::{COMMANDS, Command};
use self::options::Options;
use crate::config::{self, Config, Environment, Problems};
use crate::exit::{self, Failure};
use crate::handlers::Handler;
use crate::server;

/// Runs one command with the process's arguments and environment.
pub fn main(handlers: &'static [Handler]) -> ExitCode {
    match run(handlers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                // A reader that went away must not change the exit code.
                let _ = writeln!(std::io::stderr(), "openexec: {failure}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(handlers: &'static [Handler]) -> Result<(), Failure> {
    let mut arguments = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(argument) => arguments.push(argument),
            Err(_) => return Err(usage("an argument is not UTF-8")),
        }
    }
    let (name, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h") => return help::all(),
        Some((first, _)) if matches!(first.as_str(), "--version" | "-V") => {
            return print(&format!("openexec {}\n", env!("CARGO_PKG_VERSION")));
        }
        _ => ("serve", &arguments[..]),
    };
    let command = help::command(name)?;
    if rest.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        return help::one(command);
    }
    let options = Options::read(rest, command)?;
    match name {
        "init" => init::run(&configured(handlers)?),
        "check" => check::run(&configured(handlers)?),
        "hash" => hash::run(&options),
        "approve" => approve::run(&options),
        "pending" => pending::run(&environment()?),
        "freeze" => freeze::freeze(&options, &environment()?),
        "unfreeze" => freeze::unfreeze(&environment()?),
        "verify" => verify::run(&options),
        "checkpoint" => checkpoint::run(&options, handlers),
        "healthcheck" => healthcheck::run(&environment()?),
        "actions" => actions(&configured(handlers)?),
        _ => serve(&options, handlers),
    }
}

fn serve(options: &Options, handlers: &'static [Handler]) -> Result<(), Failure> {
    let listen = match (options.get("--listen"), options.get("--host"), options.get("--port")) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(usage("give --listen, or --host and --port, not both"));
        }
        (Some(listen), None, None) => Some(listen.to_owned()),
        (None, None, None) => None,
        (None, host, port) => {
            let host = host.unwrap_or("127.0.0.1");
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Some(format!("{host}:{}", port.unwrap_or("5000")))
        }
    };
    let environment = environment()?;
    let config = config::read(&environment, listen.as_deref(), handlers).map_err(refused)?;
    Err(server::serve(config))
}

/// The environment's names of ours.
fn environment() -> Result<Environment, Failure> {
    config::environment().map_err(refused)
}

/// The whole configuration.
fn configured(handlers: &'static [Handler]) -> Result<Config, Failure> {
    config::read(&environment()?, None, handlers).map_err(refused)
}

/// All problems at once, a line each.
fn refused(Problems(problems): Problems) -> Failure {
    let mut text = "the configuration is refused:".to_owned();
    for problem in problems {
        text.push_str("\n  - ");
        text.push_str(&problem);
    }
    Failure::new(exit::CONFIGURATION, text)
}

fn usage(problem: &str) -> Failure {
    Failure::new(exit::USAGE, format!("{problem}; `openexec --help` lists the commands"))
}

fn actions(config: &Config) -> Result<(), Failure> {
    let mut text = String::new();
    for handler in config.policy.handlers {
        let state = match config.policy.handler(handler.action) {
            Ok(_) => "allowed".to_owned(),
            Err(problem) => problem.detail,
        };
        let (action, effect) = (handler.action, handler.effect.name());
        text.push_str(&format!("{action:<16} {effect:<10} {state}\n    {}\n", handler.summary));
    }
    print(&text)
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::io("writing to standard output".to_owned(), &error))
}
