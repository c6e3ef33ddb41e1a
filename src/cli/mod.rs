//! The command line: finds the command, runs it, and turns its end into an exit code.

mod abandon;
mod approve;
mod ask;
mod check;
mod checkpoint;
mod existing;
mod freeze;
mod hash;
mod healthcheck;
mod help;
mod init;
pub mod mint;
mod options;
mod owed;
mod pending;
mod verify;

use std::fmt::Display;
use std::process::ExitCode;

pub use self::help::{COMMANDS, Command};
use self::options::Options;
use crate::handlers::Handler;
use crate::serve::config::{self, Config, Environment, Problems};
use crate::serve::server;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;

/// Runs one command with the process's arguments and environment.
pub fn main(handlers: &'static [Handler]) -> ExitCode {
    // Its message may hold what was received; its place does not.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        Page::new().line("openexec: ", format_args!("a bug: a panic at {place}")).say();
    }));
    match run(handlers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let page = Page::new().line("openexec: ", &failure.text);
            failure.problems.iter().fold(page, |page, problem| page.line("  - ", problem)).say();
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
            return own(concat!("openexec ", env!("CARGO_PKG_VERSION")));
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
        "unfreeze" => freeze::unfreeze(&options, &environment()?),
        "abandon" => abandon::run(&options, &environment()?, handlers),
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
        (None, None, Some(port)) => Some(format!("loopback:{port}")),
        (None, Some(host), port) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Some(format!("{host}:{}", port.unwrap_or("5000")))
        }
    };
    let mut environment = environment()?;
    environment.extend(listen.map(|listen| ("OPENEXEC_LISTEN".to_owned(), listen)));
    let config = config::read(&environment, handlers).map_err(refused)?;
    Err(server::serve(config))
}

/// The environment's names of ours.
fn environment() -> Result<Environment, Failure> {
    config::environment().map_err(refused)
}

/// The whole configuration.
fn configured(handlers: &'static [Handler]) -> Result<Config, Failure> {
    config::read(&environment()?, handlers).map_err(refused)
}

/// All problems at once, a line each.
fn refused(Problems(problems): Problems) -> Failure {
    let text = "the configuration is refused:".to_owned();
    Failure { code: exit::CONFIGURATION, text, problems }
}

fn usage(problem: &str) -> Failure {
    Failure::new(exit::USAGE, format!("{problem}; `openexec --help` lists the commands"))
}

fn actions(config: &Config) -> Result<(), Failure> {
    let mut page = Page::new();
    for handler in config.policy.handlers {
        let state = match config.policy.handler(handler.action) {
            Ok(_) => "allowed".to_owned(),
            Err(problem) => problem.detail,
        };
        let (action, effect) = (handler.action, handler.effect.name());
        page = page.own(format_args!("{action:<16} {effect:<10} {state}"));
        page = page.own(format_args!("    {}", handler.summary));
    }
    page.print()
}

/// Prints one line: a word of ours, and what may have been received.
fn print(label: &'static str, rest: impl Display) -> Result<(), Failure> {
    Page::new().line(label, rest).print()
}

/// Prints one line of which every byte is ours.
fn own(text: impl Display) -> Result<(), Failure> {
    Page::new().own(text).print()
}
