//! What is shown: lines that are complete, that fit, and that nothing received can imitate.
//!
//! Two kinds of lines. An *exact* one is printable ASCII: every other character is spelt `\u` and four digits, and so
//! is a space that nobody could count. Different values have different exact lines, at every width. A *reading* stands
//! below an exact line, begins with `~`, and says the same for people: an amount with its point, a text with its line
//! breaks, letters of other scripts as themselves where that is safe ([`crate::reading`]). No line begins with received
//! text, and a line that goes on says so.

use std::fmt::Display;

use openexec::core::json::{Object, Value, canonical};
use openexec::sys::exit::Failure;
use openexec::sys::visible::{countable, escaped, quoted};

use crate::reading::{self, Readable};
use crate::terminal::{self, Looks};

/// How a folded line goes on. None of ours begins with it.
const CONTINUED: &str = "| ";
/// What a reading begins with, behind its indentation, and how it goes on.
const READS: &str = "~ ";
const READS_ON: &str = "~| ";
/// The indentation of what lies inside one another; it stops where it would fill the line. The brackets say how
/// deep it goes.
const INDENT: &str = "                ";
const INDENT_COLUMNS: usize = 2;

#[derive(Default)]
#[must_use]
pub struct Screen(Vec<Line>);

pub enum Line {
    /// A word of ours, or an indentation; and the rest, which is printable ASCII.
    Exact(&'static str, String),
    /// Its indentation, and what it reads.
    Reading(&'static str, Readable),
}

impl Screen {
    pub fn new() -> Self {
        Self::default()
    }

    /// A line that begins with a word of ours; the rest may have been received.
    pub fn line(mut self, label: &'static str, rest: impl Display) -> Self {
        let rest = rest.to_string();
        let rest = escaped(&rest);
        let rest = countable(&rest, !label.ends_with(|char: char| char != ' '));
        self.0.push(Line::Exact(label, rest.into_owned()));
        self
    }

    /// This one's lines, then those.
    pub fn and(mut self, more: Screen) -> Self {
        self.0.extend(more.0);
        self
    }

    pub fn lines(&self) -> &[Line] {
        &self.0
    }

    /// A text as JSON, and how it reads where that is not the same.
    pub fn text(self, label: &'static str, text: &str) -> Self {
        self.line(label, quoted(text)).reading("", reading::of_text(text))
    }

    /// A JSON value on lines of its own, in the order and the spelling that are hashed; what its schema says of how
    /// to show it goes beside that, never in its place.
    ///
    /// It calls itself for every level: the depth of what it is given is the caller's to bound.
    pub fn value(self, value: &Value, schema: Option<&Value>) -> Self {
        self.member(&Place { name: "", comma: "", depth: 1, schema, siblings: None }, value)
    }

    fn member(mut self, place: &Place<'_>, value: &Value) -> Self {
        let indent = &INDENT[..INDENT.len().min(place.depth * INDENT_COLUMNS)];
        let name = if place.name.is_empty() { String::new() } else { quoted(place.name) + ": " };
        let comma = |index, count| if index + 1 < count { "," } else { "" };
        let depth = place.depth + 1;
        match value {
            Value::Object(object) if !object.is_empty() => {
                self = self.line(indent, format_args!("{name}{{"));
                // The canonical writer's order: the members' names by their UTF-16 code units.
                let mut members: Vec<_> = object.iter().collect();
                members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                for (index, (name, value)) in members.into_iter().enumerate() {
                    let schema = place.schema.and_then(|schema| schema["properties"].get(name));
                    let comma = comma(index, object.len());
                    let siblings = Some(object);
                    self = self.member(&Place { name, comma, depth, schema, siblings }, value);
                }
                self.line(indent, format_args!("}}{}", place.comma))
            }
            Value::Array(items) if !items.is_empty() => {
                self = self.line(indent, format_args!("{name}["));
                let schema = place.schema.and_then(|schema| schema.get("items"));
                for (index, value) in items.iter().enumerate() {
                    let comma = comma(index, items.len());
                    let inner = Place { name: "", comma, depth, schema, siblings: None };
                    self = self.member(&inner, value);
                }
                self.line(indent, format_args!("]{}", place.comma))
            }
            scalar => {
                let text = canonical::to_string(scalar);
                let text = escaped(&text);
                self.line(indent, format_args!("{name}{text}{}", place.comma))
                    .reading(indent, reading::of(scalar, place.schema, place.siblings))
            }
        }
    }

    fn reading(mut self, indent: &'static str, reads: Vec<Readable>) -> Self {
        self.0.extend(reads.into_iter().map(|line| Line::Reading(indent, line)));
        self
    }

    /// As rows of a terminal that looks so; without one, each line whole.
    pub fn rows(&self, looks: Option<Looks>) -> Vec<String> {
        let mut rows = Vec::new();
        for line in &self.0 {
            match (line, looks) {
                (Line::Exact(label, text), None) => rows.push(format!("{label}{text}")),
                (Line::Exact(label, text), Some(looks)) => {
                    fold(&format!("{label}{text}"), CONTINUED, looks.columns, &mut rows);
                }
                // Readings are for eyes.
                (Line::Reading(..), None) => {}
                (Line::Reading(_, text), Some(Looks { utf8: false, .. })) if !text.is_ascii() => {}
                (Line::Reading(indent, text), Some(looks)) => {
                    let text = format!("{indent}{READS}{text}");
                    fold(&text, READS_ON, looks.columns, &mut rows);
                }
            }
        }
        rows
    }

    /// Writes to standard output.
    pub fn print(self) -> Result<(), Failure> {
        terminal::print(&joined(&self.rows(terminal::looks_of_output())))
    }

    /// Writes to standard error. A reader that went away changes nothing.
    pub fn say(self) {
        terminal::say(&joined(&self.rows(terminal::looks_of_errors())));
    }
}

struct Place<'a> {
    name: &'a str,
    comma: &'static str,
    depth: usize,
    /// What the action's schema says of the value here.
    schema: Option<&'a Value>,
    /// The object that the value is a member of.
    siblings: Option<&'a Object>,
}

fn joined(rows: &[String]) -> String {
    rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect()
}

/// One line as rows: broken behind a space, where there is one in the second half, or else where the row is full. So a
/// row that is shorter than it could be stands for one space.
fn fold(text: &str, continued: &'static str, columns: usize, rows: &mut Vec<String>) {
    let mut rest = text;
    let mut head = "";
    loop {
        let room = columns - head.len();
        let Some(full) = beyond(rest, room) else { break };
        let space = rest[..full].rfind(' ').filter(|at| reading::columns(&rest[..*at]) >= room / 2);
        let (row, more) = rest.split_at(space.map_or(full, |at| at + 1));
        rows.push(format!("{head}{row}"));
        (rest, head) = (more, continued);
    }
    rows.push(format!("{head}{rest}"));
}

/// Where the first character stands that has no room, if there is one.
fn beyond(text: &str, room: usize) -> Option<usize> {
    let mut taken = 0;
    text.char_indices().find_map(|(at, char)| {
        taken += reading::columns_of(char);
        (taken > room).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(columns: usize) -> Option<Looks> {
        Some(Looks { columns, utf8: true })
    }

    #[test]
    fn nothing_that_was_received_begins_a_row_and_different_texts_look_different() {
        let mut texts = vec![
            format!("{}action   echo{}", " ".repeat(200), "x".repeat(100)),
            "a b c ".repeat(60),
            "\n| nonce    any\r\u{1b}[2J\u{8}\t".to_owned(),
            "~ 1.00 EUR".to_owned(),
            "\u{5ea} 200 100".to_owned(),
            "e\u{301}".to_owned(),
            "\u{e9}".to_owned(),
        ];
        for length in 0..119 {
            texts.push("x".repeat(length));
            texts.push(format!("{} y", "x".repeat(length)));
            texts.push(format!("{}  y", "x".repeat(length)));
            texts.push("\u{6771}".repeat(length + 1));
        }
        for columns in 20..80 {
            let mut seen = std::collections::HashSet::new();
            for text in &texts {
                let rows = Screen::new().text("tenant   ", text).rows(looks(columns));
                for (index, row) in rows.iter().enumerate() {
                    assert!(reading::columns(row) <= columns, "{row}");
                    let ours = ["tenant ", CONTINUED, READS, READS_ON];
                    assert!(ours.iter().any(|word| row.starts_with(word)), "{row}");
                    assert!(index > 0 || row.starts_with("tenant "), "{row}");
                }
                let exact: Vec<String> = rows
                    .iter()
                    .take_while(|row| !row.starts_with('~'))
                    .map(|row| row.trim_end().to_owned())
                    .collect();
                assert!(seen.insert(exact), "{text:?} looks like another");
            }
        }
    }

    #[test]
    fn what_a_schema_says_stands_beside_the_value_and_never_in_its_place() {
        let value = serde_json::json!({
            "amount": 4900, "currency": "EUR", "body": "one\ntwo \u{202e}x", "to": "Gr\u{fc}\u{df}e"
        });
        let schema = serde_json::json!({"properties": {
            "amount": {"x-display": "money", "x-currency": "currency", "x-exponents": {"EUR": 2}},
            "body": {"x-display": "text"},
        }});
        let shown = Screen::new().value(&value, Some(&schema)).rows(looks(79));
        assert_eq!(
            shown,
            [
                "  {",
                "    \"amount\": 4900,",
                "    ~ 49.00 EUR",
                "    \"body\": \"one\\ntwo \\u202ex\",",
                "    ~ one",
                "    ~ two \\u202ex",
                "    \"currency\": \"EUR\",",
                "    \"to\": \"Gr\\u00fc\\u00dfe\"",
                "    ~ Gr\u{fc}\u{df}e",
                "  }",
            ]
        );
        let ascii =
            Screen::new().value(&value, None).rows(Some(Looks { columns: 79, utf8: false }));
        assert!(ascii.iter().all(|row| row.is_ascii()), "{ascii:?}");
        assert_eq!(ascii.iter().filter(|row| row.contains('~')).count(), 2, "{ascii:?}");
    }
}
