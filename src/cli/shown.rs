//! What was received, as people may safely see it on a terminal.
//!
//! Invariant: a text that is shown has one reading. Characters that a terminal obeys, that change
//! the order of others, or that take no or blank space are shown as `\u{..}`; a backslash of the
//! text itself is shown doubled, so that nothing can pass for such an escape. (Letters that look
//! alike in two scripts are beyond this: the hash tells them apart.)

use crate::json::visible::is_visible;
use crate::json::{Value, canonical};

const INDENT: &str = "  ";
/// Terminals are wider, so that they wrap no line by themselves: where they do, a text could begin a
/// line and pass for one of ours.
const COLUMNS_MAX: usize = 78;
/// How a line goes on. None of ours begins with it.
const CONTINUED: &str = "| ";

/// A JSON value on lines of its own, in the order and the spelling that are hashed.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

/// A text in quotation marks.
pub fn quoted(text: &str) -> String {
    let mut json = String::new();
    canonical::write_string(text, &mut json);
    visible(&json)
}

/// The text with its long lines broken; what goes on is marked.
pub fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for line in text.split_inclusive('\n') {
        let mut column = 0;
        for char in line.chars() {
            // No character takes more than two columns; which ones do, terminals disagree.
            let width = if char.is_ascii() { 1 } else { 2 };
            if char != '\n' && column + width > COLUMNS_MAX {
                out.push('\n');
                out.push_str(CONTINUED);
                column = CONTINUED.len();
            }
            out.push(char);
            column += width;
        }
    }
    out
}

/// A text with nothing invisible in it. Backslashes are left: it is for what has them doubled.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_visible(char) {
            out.push(char);
        } else {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
        }
    }
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&INDENT.repeat(depth));
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            // The canonical writer's order: the members' names by their UTF-16 code units.
            let mut names: Vec<&String> = object.keys().collect();
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                out.push_str(&quoted(name));
                out.push_str(": ");
                write(&object[name], depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write(item, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        scalar => out.push_str(&visible(&canonical::to_string(scalar))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_shown() {
        for hidden in "\u{0}\u{7}\u{8}\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{34f}\u{61c}\
                       \u{115f}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\
                       \u{202b}\u{202c}\u{202d}\u{202e}\u{202f}\u{2060}\u{2066}\u{2067}\u{2068}\
                       \u{2069}\u{2800}\u{3000}\u{3164}\u{e000}\u{fe0f}\u{feff}\u{ffa0}\u{fffb}\
                       \u{ffff}\u{e0001}\u{e0100}\u{f0000}\u{10ffff}"
            .chars()
        {
            let shown = quoted(&format!("a{hidden}b"));
            assert!(shown.chars().all(is_visible), "{shown}");
            assert!(shown.contains('\\') && !shown.contains(hidden), "{hidden:?}: {shown}");
        }
    }

    #[test]
    fn what_people_write_is_left_as_it_is() {
        for text in ["hello world", "Grüße, 東京, עברית, مرحبا, हिन्दी", "5 € → 😀 ½"]
        {
            assert_eq!(quoted(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn an_escape_cannot_be_forged() {
        assert_eq!(quoted("\u{202e}"), "\"\\u{202e}\"");
        assert_eq!(quoted("\\u{202e}"), "\"\\\\u{202e}\"");
    }

    #[test]
    fn nothing_that_was_received_begins_a_line() {
        let forged = format!("{}action   echo{}", " ".repeat(200), "宽".repeat(100));
        let text = format!("payload\n  \"x\": {}\nnonce    any\n", quoted(&forged));
        let shown = folded(&text);
        assert_eq!(shown.replace("\n| ", ""), text, "nothing is lost");
        for line in shown.lines() {
            assert!(line.chars().map(|c| 1 + usize::from(!c.is_ascii())).sum::<usize>() <= 78);
            let known = ["payload", "  \"x\"", "| ", "nonce"];
            assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
        }
        assert_eq!(folded(&"x".repeat(78)), "x".repeat(78));
    }

    #[test]
    fn a_value_is_shown_in_the_order_and_spelling_that_are_hashed() {
        let value = serde_json::json!({
            "b": [1.0, {"x": null}, [], {}], "a": "\u{1b}[2J", "\u{202e}": true
        });
        assert_eq!(
            pretty(&value),
            "{\n  \"a\": \"\\u001b[2J\",\n  \"b\": [\n    1,\n    {\n      \"x\": null\n    },\n    \
             [],\n    {}\n  ],\n  \"\\u{202e}\": true\n}"
        );
    }
}
