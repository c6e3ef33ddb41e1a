//! The command line: finds the command, runs it, and turns its end into an exit code.

mod approved;
mod ask;
mod backup;
mod check;
mod checkpoint;
mod evidence;
pub mod existing;
mod files;
mod freeze;
mod hash;
mod healthcheck;
mod help;
mod history;
mod init;
mod kept;
pub mod options;
mod requests;
mod verify;
mod waiting;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

pub use self::check::configuration;
use self::existing::Find;
use self::files::Files;
pub use self::healthcheck::healthcheck;
pub use self::help::{COMMANDS, Command};
use self::options::Options;
use self::waiting::Waiting;
use crate::handlers::Handler;
use crate::serve::callers;
use crate::serve::config::Problems;
use crate::serve::server;
use crate::serve::source::InFiles;
use crate::sys::exit::{self, Failure, usage};
use crate::sys::journal;
use crate::sys::page::Page;
use crate::sys::random;

/// Runs one command with the process's arguments and environment.
pub fn main(handlers: &'static [Handler]) -> ExitCode {
    program("openexec", || run(handlers))
}

/// A program of that name: runs it, and says on standard error why it failed.
pub fn program(name: &str, body: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    // Its message may hold what was received; its place does not.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        Page::new().line("openexec: ", format_args!("a bug: a panic at {place}")).say();
    }));
    match body() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let page = match &failure.text {
                // A literal is ours: it stays whole on a terminal too, where people search for it.
                Cow::Borrowed(sentence) => Page::new().own(format_args!("openexec: {sentence}")),
                Cow::Owned(text) => Page::new().line("openexec: ", text),
            };
            let hint = format_args!("`{name} --help` lists the commands");
            let page = if failure.code == exit::USAGE { page.own(hint) } else { page };
            let page = failure.problems.iter().fold(page, |page, one| page.line("  - ", one));
            // Why it ends is the last line.
            journal::last(page);
            ExitCode::from(failure.code)
        }
    }
}

fn run(handlers: &'static [Handler]) -> Result<(), Failure> {
    let arguments = std::env::args_os().skip(1).map(OsString::into_string);
    let arguments: Result<Vec<_>, _> = arguments.collect();
    let arguments = arguments.map_err(|_| usage("an argument is not UTF-8"))?;
    let (name, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h") => return help::all(),
        Some((first, _)) if matches!(first.as_str(), "--version" | "-V") => {
            return own(concat!("openexec ", env!("CARGO_PKG_VERSION")));
        }
        _ => ("serve", &arguments[..]),
    };
    if rest.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        return help::one(help::named(name)?);
    }
    over(name, rest, handlers, |options, directory| Ok(Box::new(Files::find(options, directory)?)))
}

/// Runs the command of that name over the log that `find` finds.
pub fn over(
    name: &str,
    arguments: &[String],
    handlers: &'static [Handler],
    find: Find,
) -> Result<(), Failure> {
    let command = help::named(name)?;
    (command.run)(&Options::read(arguments, command, handlers, find)?)
}

fn serve(options: &Options) -> Result<(), Failure> {
    server::serve(options.config()?, Box::new(InFiles::default()))
}

/// All problems at once, a line each.
pub fn refused(Problems(problems): Problems) -> Failure {
    Failure { problems, ..exit::configuration("the configuration is refused:") }
}

/// What an operator says in passing; nothing where it is not given.
fn one_line<'a>(options: &'a Options, name: &'static str) -> Result<&'a str, Failure> {
    const BYTES_MAX: usize = 400;
    let text = options.get(name).unwrap_or("");
    if text.len() > BYTES_MAX || text.chars().any(char::is_control) {
        return Err(usage(format!("{name} takes one line of at most {BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn pending(options: &Options) -> Result<(), Failure> {
    let store = options.existing(None)?;
    // Where nobody can tell, it is frozen.
    let is_frozen = store.is_frozen().unwrap_or(true);
    Waiting::judged(store.as_ref(), is_frozen)?.print()
}

fn actions(options: &Options) -> Result<(), Failure> {
    let (config, mut page) = (options.config()?, Page::new());
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

fn token(options: &Options) -> Result<(), Failure> {
    let name = options.word().filter(|name| callers::is_caller_name(name));
    let name = name.ok_or_else(|| usage(callers::NAME_FORM))?;
    let failed = |error| Failure::io("/dev/urandom".to_owned(), &error);
    let random = [random::bytes().map_err(failed)?, random::bytes().map_err(failed)?].concat();
    let (token, line) = callers::made(name, &random);
    own(token)?;
    own(line)
}

/// At most so many bytes of a file, or of standard input without one or with `-`.
fn read(file: Option<&str>, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let shown = file.unwrap_or("-");
    let (mut bytes, limit) = (Vec::new(), bytes_max as u64 + 1);
    let read = match file {
        None | Some("-") => std::io::stdin().take(limit).read_to_end(&mut bytes),
        Some(path) => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(Failure::while_doing(format_args!("reading {shown}")))?;
    if bytes.len() > bytes_max {
        return Err(exit::data(format!("{shown} is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Prints one line: a word of ours, and what may have been received.
fn print(label: &'static str, rest: impl Display) -> Result<(), Failure> {
    Page::new().line(label, rest).print()
}

/// Prints one line of which every byte is ours.
fn own(text: impl Display) -> Result<(), Failure> {
    Page::new().own(text).print()
}
