//! The terminal: how wide it is, what it is told, and what the person at it answers. The one place that writes.

#![allow(clippy::disallowed_methods, reason = "what `screen` made is written here")]

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;

use openexec::sys::exit::{self, Failure};
use rustix::termios::{self, LocalModes, OptionalActions, QueueSelector};
use zeroize::Zeroizing;

use crate::screen::Screen;
use crate::usage;

/// The terminal of whoever sits there, whatever the standard streams are: a pipe cannot answer.
const TERMINAL: &str = "/dev/tty";
/// Where the terminal does not say: narrower than any that people use.
const COLUMNS_UNKNOWN: usize = 39;
/// Narrower ones wrap lines.
const COLUMNS_MIN: usize = 20;
/// So many rows are shown at once: what any terminal can scroll back.
const ROWS_AT_ONCE: usize = 200;
/// An answer, or a passphrase.
const ANSWER_BYTES_MAX: usize = 1024;

/// How rows must be made for a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// One less than it has: some go to the next row behind the last column.
    pub columns: usize,
    /// Whether it takes UTF-8. Another would take bytes of letters for commands.
    pub utf8: bool,
}

/// `None` where it is no terminal.
fn looks(stream: &(impl AsFd + IsTerminal)) -> Option<Looks> {
    if !stream.is_terminal() {
        return None;
    }
    let columns = termios::tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    let columns = match columns {
        0 => COLUMNS_UNKNOWN,
        columns => (columns - 1).max(COLUMNS_MIN),
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().to_ascii_lowercase().replace('-', ""));
    Some(Looks { columns, utf8: locale.is_some_and(|locale| locale.ends_with("utf8")) })
}

/// Of standard output.
pub fn looks_of_output() -> Option<Looks> {
    looks(&std::io::stdout())
}

/// Of standard error.
pub fn looks_of_errors() -> Option<Looks> {
    looks(&std::io::stderr())
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::io("writing to standard output".to_owned(), &error))
}

/// Writes to standard error.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

pub enum Answer {
    Yes,
    No,
    /// Of several: no more of them.
    Stop,
}

/// Shows it and asks, both on the terminal itself. What was typed before the question is no answer to it. Where the
/// width has changed while it was looked at, the terminal may have wrapped rows: it is shown again.
///
/// # Errors
/// 64 where there is no terminal.
pub fn ask(screen: &Screen, prompt: &str) -> Result<Answer, Failure> {
    let mut terminal = open()?;
    loop {
        let looks = looks(&terminal);
        let rows = screen.rows(looks);
        for (index, chunk) in rows.chunks(ROWS_AT_ONCE).enumerate() {
            if index > 0 {
                let shown = index * ROWS_AT_ONCE;
                let more = format!("({shown} of {}: Enter; q ends) ", rows.len());
                if answer(&mut terminal, &more)?.trim() == "q" {
                    return Ok(Answer::No);
                }
            }
            let text: String = chunk.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
            terminal.write_all(text.as_bytes()).map_err(failed)?;
        }
        let answer = answer(&mut terminal, prompt)?;
        if self::looks(&terminal) != looks {
            terminal.write_all(b"\nThe width has changed. Again:\n\n").map_err(failed)?;
            continue;
        }
        return Ok(match answer.trim() {
            "yes" => Answer::Yes,
            "stop" => Answer::Stop,
            _ => Answer::No,
        });
    }
}

fn open() -> Result<File, Failure> {
    OpenOptions::new().read(true).write(true).open(TERMINAL).map_err(|_| {
        usage("there is no terminal to ask on; with --yes nothing is asked, so look before")
    })
}

fn failed(error: std::io::Error) -> Failure {
    Failure::io(TERMINAL.to_owned(), &error)
}

/// One line. An end of input is an empty one.
fn answer(terminal: &mut File, prompt: &str) -> Result<String, Failure> {
    termios::tcflush(&*terminal, QueueSelector::IFlush).map_err(|error| failed(error.into()))?;
    terminal.write_all(prompt.as_bytes()).map_err(failed)?;
    // A terminal gives a line at a time.
    let mut line = vec![0; ANSWER_BYTES_MAX];
    let length = terminal.read(&mut line).map_err(failed)?;
    Ok(String::from_utf8_lossy(&line[..length]).into_owned())
}

/// Asks for a passphrase, which is not shown.
///
/// # Errors
/// 64 where there is no terminal, or where Ctrl-C or Ctrl-D came instead.
pub fn passphrase(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut terminal = open()?;
    let io = |error: rustix::io::Errno| failed(error.into());
    let before = termios::tcgetattr(&terminal).map_err(io)?;
    let mut quiet = before.clone();
    // Keys come one by one, and Ctrl-C as a byte: nothing ends this before the echo is back.
    quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    termios::tcsetattr(&terminal, OptionalActions::Flush, &quiet).map_err(io)?;
    let read = terminal.write_all(prompt.as_bytes()).map_err(failed);
    let read = read.and_then(|()| keys(&mut terminal));
    termios::tcsetattr(&terminal, OptionalActions::Now, &before).map_err(io)?;
    let _ = terminal.write_all(b"\n");
    read
}

fn keys(terminal: &mut File) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room for all: growing would leave copies behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
    let mut key = [0; 1];
    while typed.len() < ANSWER_BYTES_MAX {
        if terminal.read(&mut key).map_err(failed)? == 0 {
            break;
        }
        match key[0] {
            b'\n' | b'\r' => return Ok(typed),
            // Ctrl-C, Ctrl-D.
            3 | 4 => return Err(usage("no passphrase was given")),
            // Backspace takes back a character, which may be several bytes; Ctrl-U all.
            8 | 127 => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            21 => typed.clear(),
            byte => typed.push(byte),
        }
    }
    Err(Failure::new(exit::CONFIGURATION, "the passphrase is too long, or the terminal is gone"))
}
