//! `openexec-approve`: the approver's tool.
//!
//! It shows what somebody proposes, asks, and signs a yes or a no with the approver's key. It runs on the
//! approver's machine, never on the execution host. What it signs is the hash of what it showed, made here by the
//! service's own library; a hash that somebody sent along is only compared.

#![forbid(unsafe_code)]
// `terminal` says what there is to say, and `screen` escapes it.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod http;
mod key;
mod message;
mod offline;
mod online;
pub mod options;
mod outside;
mod page;
mod proposal;
mod reading;
mod request;
mod screen;
mod ssh;
mod terminal;
mod waiting;
mod words;

use std::borrow::Cow;
use std::process::ExitCode;

use openexec::sys::exit::{self, Failure};

use options::Options;
use screen::Screen;

/// Runs one command with the process's arguments; returns its exit code (sysexits.h).
pub fn main() -> ExitCode {
    // Its message may hold what was received; its place does not.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        Screen::new().line("openexec-approve: ", format_args!("a bug: a panic at {place}")).say();
    }));
    let run = || std::panic::catch_unwind(run).unwrap_or_else(|_| Err(Failure::new(exit::BUG, "")));
    let Err(failure) = run() else { return ExitCode::SUCCESS };
    if !failure.text.is_empty() {
        let screen = Screen::new().line("openexec-approve: ", &failure.text);
        match failure.code {
            exit::USAGE => screen.line("`openexec-approve --help` lists the commands", ""),
            _ => screen,
        }
        .say();
    }
    ExitCode::from(failure.code)
}

fn run() -> Result<(), Failure> {
    let mut arguments = Vec::new();
    for argument in std::env::args_os().skip(1) {
        arguments.push(argument.into_string().map_err(|_| usage("an argument is not UTF-8"))?);
    }
    let (name, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some((first, _)) if matches!(first.as_str(), "--version" | "-V") => {
            return say(concat!("openexec-approve ", env!("CARGO_PKG_VERSION")));
        }
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h") => {
            return say(options::all().trim_end());
        }
        Some((first, _)) => return Err(usage(format!("a command comes first, not {first:?}"))),
        None => return Err(usage("give a command")),
    };
    let command = options::named(name)?;
    if rest.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        return say(options::one(command).trim_end());
    }
    (command.run)(&Options::read(rest, command)?)
}

/// Text of ours, as it is.
fn say(text: &str) -> Result<(), Failure> {
    terminal::print(&format!("{text}\n"))
}

fn usage(problem: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(exit::USAGE, problem)
}

/// What was received is not what it should be.
fn refused(why: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(exit::DATA, why)
}
