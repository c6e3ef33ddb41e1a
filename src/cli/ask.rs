//! A question to the person who sits there.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};

use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;

/// The terminal of whoever sits there, whatever the standard streams are: a pipe cannot answer.
const TERMINAL: &str = "/dev/tty";

/// Whether there is one.
pub fn can_ask() -> bool {
    OpenOptions::new().read(true).write(true).open(TERMINAL).is_ok()
}

/// Shows the page and goes on only with `yes`, both on the terminal itself.
///
/// # Errors
/// 65 and `no` where the answer is another; 64 with it and `instead` where there is no terminal.
pub fn ask(page: &Page, no: &'static str, instead: &str) -> Result<(), Failure> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let nobody = || exit::usage(format!("{no}: there is no terminal to ask on; {instead}"));
    let Ok(mut terminal) = terminal else { return Err(nobody()) };
    let text = page.text(true);
    let mut answer = String::new();
    let asked = terminal
        .write_all(format!("{text}Type yes: ").as_bytes())
        .and_then(|()| BufReader::new(&terminal).take(SMALL_FILE_BYTES_MAX).read_line(&mut answer));
    asked.map_err(|error| Failure::io(TERMINAL.to_owned(), &error))?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(exit::DATA, no)),
    }
}
