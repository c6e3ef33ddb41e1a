//! The one writer of both encodings. It calls itself for every level: the depth of what it is given is the
//! caller's to bound.

use std::cmp::Ordering;

use serde_json::Number;

use super::{Object, Value, plain_len};

/// Where two encodings differ.
pub trait Form {
    /// Whether a byte of a string does not stand for itself: beyond ASCII, every byte or none.
    fn is_special(byte: u8) -> bool;
    /// In which order members stand. The map's own order is not relied on: somebody who builds on this
    /// library may have turned on serde_json's `preserve_order`, which must not change a hash.
    fn order(a: &str, b: &str) -> Ordering;
    fn number(number: &Number, out: &mut String);
}

/// Appends the text of a value.
pub fn value<F: Form>(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => F::number(number, out),
        Value::String(text) => string::<F>(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                comma(index, out);
                self::value::<F>(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (key, member)) in in_order(object, F::order).into_iter().enumerate() {
                comma(index, out);
                string::<F>(key, out);
                out.push(':');
                self::value::<F>(member, out);
            }
            out.push('}');
        }
    }
}

/// An object's members in that order.
pub fn in_order(object: &Object, order: fn(&str, &str) -> Ordering) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by(|(a, _), (b, _)| order(a, b));
    members
}

/// Appends a string in quotation marks.
pub fn string<F: Form>(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    loop {
        // A run ends where a character does: before an ASCII byte, or before the first one beyond.
        let (run, special) = rest.split_at(plain_len(rest.as_bytes(), F::is_special));
        out.push_str(run);
        let mut chars = special.chars();
        let Some(char) = chars.next() else { break };
        escape(char, out);
        rest = chars.as_str();
    }
    out.push('"');
}

fn escape(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        _ => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

fn comma(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}
