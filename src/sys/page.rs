//! Everything that this program says on its standard streams and on a terminal goes through here.
//!
//! Invariant: nothing is written but printable ASCII and line ends, and no line begins with received
//! text. Every other character is shown as `\u` and four digits; so is a space that stands beside
//! another or at an end of the received text, where nobody could count it. On a terminal such lines
//! are folded to 39 columns, narrower than any terminal that people use, so that no terminal wraps
//! one; what goes on is marked. The real width would take a system call that safe Rust does not
//! have, and it changes after it was asked. Held by `tests/terminal/screens.py`.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use crate::core::json::{Value, canonical};
use crate::sys::exit::Failure;
use crate::sys::visible::{countable, escaped, quoted};

/// What a terminal of 40 columns takes without wrapping, whether or not it wraps at the last one.
const COLUMNS_MAX: usize = 39;
/// How a folded line goes on. None of ours begins with it.
const CONTINUED: &str = "| ";
/// The indentation of what lies inside one another; it stops where it would fill the line. The
/// brackets say how deep it goes.
const INDENT: &str = "                ";
const INDENT_COLUMNS: usize = 2;

/// Lines for people or programs, until they are written.
#[derive(Default)]
#[must_use]
pub struct Page(Vec<Line>);

struct Line {
    text: String,
    /// On a terminal; elsewhere every line is whole.
    is_folded: bool,
}

impl Page {
    pub fn new() -> Self {
        Self::default()
    }

    /// A line that begins with a word of ours; the rest may have been received.
    pub fn line(mut self, label: &'static str, rest: impl Display) -> Self {
        let after_a_space = !label.ends_with(|char: char| char != ' ');
        let rest = rest.to_string();
        let text = [escaped(label), countable(&escaped(&rest), after_a_space)].concat();
        self.0.push(Line { text, is_folded: true });
        self
    }

    /// A JSON object for programs, on one line.
    pub fn json(self, object: &str) -> Self {
        self.line("{", object.strip_prefix('{').unwrap_or(object))
    }

    /// The lines of somebody's format in which bytes count, as they are: a signed note. On a terminal they are lines
    /// as others.
    pub fn data(mut self, text: &str) -> Self {
        for line in text.lines() {
            match stdout_is_terminal() {
                true => self = self.line("  ", line),
                false => self.0.push(Line { text: line.to_owned(), is_folded: false }),
            }
        }
        self
    }

    /// Lines of which every byte is ours (words, numbers, hexadecimal digits): they are never
    /// folded, so that they can be copied.
    pub fn own(mut self, text: impl Display) -> Self {
        for line in text.to_string().split('\n') {
            self.0.push(Line { text: escaped(line).into_owned(), is_folded: false });
        }
        self
    }

    /// A JSON value on lines of its own, in the order and the spelling that are hashed.
    ///
    /// It calls itself for every level: the depth of what it is given is the caller's to bound.
    pub fn value(self, value: &Value) -> Self {
        self.member("", value, "", 1)
    }

    fn member(mut self, name: &str, value: &Value, comma: &str, depth: usize) -> Self {
        let indent = &INDENT[..INDENT.len().min(depth * INDENT_COLUMNS)];
        let separator = |index, count| if index + 1 < count { "," } else { "" };
        match value {
            Value::Object(object) if !object.is_empty() => {
                self = self.line(indent, format_args!("{name}{{"));
                for (index, (name, value)) in canonical::members(object).into_iter().enumerate() {
                    let name = quoted(name) + ": ";
                    self = self.member(&name, value, separator(index, object.len()), depth + 1);
                }
                self.line(indent, format_args!("}}{comma}"))
            }
            Value::Array(items) if !items.is_empty() => {
                self = self.line(indent, format_args!("{name}["));
                for (index, value) in items.iter().enumerate() {
                    self = self.member("", value, separator(index, items.len()), depth + 1);
                }
                self.line(indent, format_args!("]{comma}"))
            }
            scalar => {
                let scalar = canonical::to_string(scalar);
                let scalar = escaped(&scalar);
                self.line(indent, format_args!("{name}{scalar}{comma}"))
            }
        }
    }

    /// These lines, and then those.
    pub fn and(mut self, more: Page) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Writes to standard output.
    pub fn print(self) -> Result<(), Failure> {
        let text = self.text(stdout_is_terminal());
        #[allow(clippy::disallowed_methods, reason = "a page is written here")]
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Failure::while_doing("writing to standard output"))
    }

    /// Writes to standard error. A reader that went away changes nothing.
    pub fn say(self) {
        let text = self.text(stderr_is_terminal());
        #[allow(clippy::disallowed_methods, reason = "a page is written here")]
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// The lines, folded as a terminal needs them or whole.
    pub fn text(&self, is_terminal: bool) -> String {
        let mut out = String::new();
        for line in &self.0 {
            match line.is_folded && is_terminal {
                true => fold(&line.text, &mut out),
                false => out.push_str(&line.text),
            }
            out.push('\n');
        }
        out
    }
}

pub fn stdout_is_terminal() -> bool {
    #[allow(clippy::disallowed_methods, reason = "nothing is written")]
    std::io::stdout().is_terminal()
}

pub fn stderr_is_terminal() -> bool {
    #[allow(clippy::disallowed_methods, reason = "nothing is written")]
    std::io::stderr().is_terminal()
}

/// Reading less than this takes no time worth a word: a few segments.
const WORTH_SHOWING_BYTES: u64 = 128 << 20;

/// Shows on standard error, if that is a terminal, how many of `total` bytes have been read.
pub fn progress(done: u64, total: u64) {
    if total >= WORTH_SHOWING_BYTES && stderr_is_terminal() {
        let end = if done == total { "\n" } else { "" };
        let text = format!("\r{} of {} MiB read{end}", done >> 20, total >> 20);
        #[allow(clippy::disallowed_methods, reason = "the one line that is written over itself")]
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// One line as several: broken behind a space, where there is one in the second half, or else at the
/// last column. So a line that is shorter than it could be stands for one space.
fn fold(text: &str, out: &mut String) {
    let mut rest = text;
    let mut columns = COLUMNS_MAX;
    while rest.len() > columns {
        let space = rest[..columns].rfind(' ').filter(|at| *at >= columns / 2);
        let (line, more) = rest.split_at(space.map_or(columns, |at| at + 1));
        out.push_str(line);
        out.push('\n');
        out.push_str(CONTINUED);
        rest = more;
        columns = COLUMNS_MAX - CONTINUED.len();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was folded, from what is on the screen: without the spaces at the ends of lines.
    fn unfolded(shown: &str) -> String {
        let mut text = String::new();
        for (index, line) in shown.lines().enumerate() {
            match line.strip_prefix(CONTINUED) {
                Some(more) if index > 0 => text.push_str(more.trim_end()),
                _ => text.push_str(line.trim_end()),
            }
            let is_last = index + 1 == shown.lines().count();
            if !is_last && line.trim_end().len() < COLUMNS_MAX {
                text.push(' ');
            }
        }
        text
    }

    #[test]
    fn nothing_that_was_received_begins_a_line_and_nothing_is_lost() {
        let mut texts = vec![
            format!("{}action   echo{}", " ".repeat(200), "x".repeat(100)),
            "a b c ".repeat(60),
            format!("{} {}", "x".repeat(29), "y".repeat(60)),
            "\n| nonce    any\r\u{1b}[2J\u{8}\t".to_owned(),
        ];
        for length in 0..119 {
            texts.push("x".repeat(length));
            texts.push(format!("{} y", "x".repeat(length)));
            texts.push(format!("{}  y", "x".repeat(length)));
            texts.push(format!("{} {}", "x".repeat(length), "y".repeat(120 - length)));
        }
        let mut seen = std::collections::HashSet::new();
        for text in texts {
            let page = Page::new().line("tenant ", quoted(&text));
            let (whole, shown) = (page.text(false), page.text(true));
            assert_eq!(unfolded(&shown) + "\n", whole);
            for (index, line) in shown.lines().enumerate() {
                assert!(line.len() <= COLUMNS_MAX, "{line}");
                assert!(line.starts_with(if index == 0 { "tenant " } else { CONTINUED }), "{line}");
                assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
            }
            let trimmed: Vec<&str> = shown.lines().map(str::trim_end).collect();
            assert!(seen.insert(trimmed.join("\n")), "{text:?} looks like another");
        }
    }

    #[test]
    fn a_value_is_shown_in_the_order_and_spelling_that_are_hashed() {
        let value = serde_json::json!({
            "b": [1.0, {"x": null}, [], {}], "a": "\u{1b}[2J", "\u{202e}": true
        });
        let shown = Page::new().value(&value).text(true);
        let expected = "  {\n    \"a\": \"\\u001b[2J\",\n    \"b\": [\n      1,\n      {\n        \
                        \"x\": null\n      },\n      [],\n      {}\n    ],\n    \"\\u202e\": true\n  }\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_deepest_value_that_is_accepted_leaves_room_for_its_text() {
        let text = format!("{}\"{}\"{}", "[".repeat(64), "x".repeat(50), "]".repeat(64));
        let value = serde_json::from_str(&text).expect("JSON");
        let shown = Page::new().value(&value).text(true);
        assert!(shown.lines().all(|line| line.len() <= COLUMNS_MAX), "{shown}");
        assert_eq!(shown.lines().count(), 64 + 2 + 64);
    }
}
