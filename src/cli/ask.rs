//! A question to the person who sits there.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};

use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::sys::exit::Failure;
use crate::sys::page::Page;

/// The terminal of whoever sits there, whatever the standard streams are: a pipe cannot answer.
const TERMINAL: &str = "/dev/tty";

/// Shows the page and takes `yes`, both on the terminal itself. `None` where there is none.
pub fn says_yes(page: &Page) -> Result<Option<bool>, Failure> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let Ok(mut terminal) = terminal else { return Ok(None) };
    let text = page.text(true);
    let mut answer = String::new();
    let asked = terminal
        .write_all(format!("{text}Type yes: ").as_bytes())
        .and_then(|()| BufReader::new(&terminal).take(SMALL_FILE_BYTES_MAX).read_line(&mut answer));
    asked.map_err(|error| Failure::io(TERMINAL.to_owned(), &error))?;
    Ok(Some(answer.trim() == "yes"))
}
