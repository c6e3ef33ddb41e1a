//! The command line: finds the command, runs it, and turns its end into an exit code.

mod approve;
mod check;
mod checkpoint;
mod existing;
mod freeze;
mod hash;
mod healthcheck;
mod init;
mod options;
mod pending;
mod shown;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use self::options::Options;
use crate::config::{self, Config, Environment, NAMES, Problems};
use crate::exit::{self, Failure};
use crate::handlers::Handler;
use crate::server;

/// Every command, its arguments and what it does: the help, and the list that tests hold it to.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("serve", "[--listen ADDRESS | --host IP --port PORT]", "the service (also without a command)"),
    ("init", "", "makes a store for the configured mode; refuses an existing one"),
    ("check", "", "tests configuration, keys, clock, store and space, as `nginx -t`"),
    ("hash", "[FILE]", "prints the hashes of a request, from FILE or standard input"),
    (
        "approve",
        "--key KEY.pem --tenant T [--ttl SECONDS] [--bind-nonce] [--yes] [FILE]",
        "shows a request, asks, and prints an approval of it; where the private key lives",
    ),
    ("pending", "", "lists what was refused for want of an approval and not executed since"),
    ("freeze", "[--reason TEXT]", "stops new executions, now and after restarts"),
    ("unfreeze", "", "lets them go on"),
    (
        "verify",
        "[DIR] [--keys FILE] [--checkpoint FILE [--log-key VKEY]] [--json]",
        "audits a whole store, beside a live server too; keys FILE: every key ever used",
    ),
    ("verify", "--proof FILE --log-key VKEY", "checks a proof, offline and with no store"),
    (
        "checkpoint",
        "[DIR | --create | --vkey]",
        "prints how far the log has come; makes the checkpoint file; prints the log's public key",
    ),
    ("healthcheck", "", "asks the running server for /health"),
    ("actions", "", "lists the registered handlers"),
];

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
    let (command, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h") => return help(),
        Some((first, _)) if matches!(first.as_str(), "--version" | "-V") => {
            return print(&format!("openexec {}\n", env!("CARGO_PKG_VERSION")));
        }
        _ => ("serve", &arguments[..]),
    };
    if rest.iter().any(|argument| argument == "--help") {
        return help();
    }
    match command {
        "serve" => serve(rest, handlers),
        "init" => init::run(&configured(Options::none(rest)?, handlers)?),
        "check" => check::run(Options::none(rest)?, handlers),
        "hash" => hash::run(rest),
        "approve" => approve::run(rest),
        "pending" => {
            Options::none(rest)?;
            pending::run(&environment()?)
        }
        "freeze" => freeze::freeze(rest, &environment()?),
        "unfreeze" => freeze::unfreeze(rest, &environment()?),
        "verify" => verify::run(rest),
        "checkpoint" => checkpoint::run(rest, handlers),
        "healthcheck" => {
            Options::none(rest)?;
            healthcheck::run(&environment()?)
        }
        "actions" => {
            let config = configured(Options::none(rest)?, handlers)?;
            actions(&config)
        }
        other => Err(usage(&format!("there is no command {other:?}"))),
    }
}

fn serve(arguments: &[String], handlers: &'static [Handler]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["--listen", "--host", "--port"], 0)?;
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

/// The whole configuration, for a command that takes no arguments.
fn configured(_: Options, handlers: &'static [Handler]) -> Result<Config, Failure> {
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

fn help() -> Result<(), Failure> {
    let mut text = "OpenExec: executes what was approved, as approved, once.\n\n\
                    usage: openexec [COMMAND]\n\ncommands:\n"
        .to_owned();
    for (name, arguments, meaning) in COMMANDS {
        text.push_str(&format!("  {:<13}{meaning}\n", name));
        if !arguments.is_empty() {
            text.push_str(&format!("               {name} {arguments}\n"));
        }
    }
    text.push_str(
        "  --help       this text\n  --version    the version\n\nsettings (environment):\n",
    );
    for (name, default, meaning) in NAMES {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        text.push_str(&format!("  {name}{default}\n      {meaning}\n"));
    }
    text.push_str(
        "\nexit codes: 0; 64 usage; 65 the data is wrong; 70 a bug; 74 input/output;\n\
         75 the store or the address is in use; 78 configuration\n",
    );
    print(&text)
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::io("writing to standard output".to_owned(), &error))
}
