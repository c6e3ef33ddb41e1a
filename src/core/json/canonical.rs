//! The canonical writer: RFC 8785, the JSON Canonicalization Scheme.
//!
//! Invariant: equal values have equal text. This is the encoding of every hash, every stored
//! record and every answer, so a change of one byte here breaks every approval and every log.
//!
//! The writer calls itself for every level: the depth of what it is given is the caller's to bound.

use std::fmt::Write;

use serde_json::Number;

use super::decimal::Decimal;
use super::{Object, Value, plain_len};
use crate::core::limits::NUMBER_MAGNITUDE_MAX;

/// The canonical text of `value`.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// Appends the canonical text of `value` to `out`.
pub fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out),
        Value::String(string) => write_string(string, out),
        Value::Array(items) => write_array(items, out),
        Value::Object(object) => write_object(object, out),
    }
}

/// Appends `string` in quotation marks (RFC 8785, section 3.2.2.2): control characters, the
/// quotation mark and the backslash are escaped in their shortest form, nothing else is.
pub fn write_string(string: &str, out: &mut String) {
    out.push('"');
    let mut rest = string;
    loop {
        // Only ASCII bytes are special, so a run ends where a character does.
        let (run, special) = rest.split_at(plain_len(rest.as_bytes()));
        out.push_str(run);
        let mut chars = special.chars();
        let Some(char) = chars.next() else { break };
        write_escape(char, out);
        rest = chars.as_str();
    }
    out.push('"');
}

fn write_escape(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        control => push(out, format_args!("\\u{:04x}", u32::from(control))),
    }
}

fn write_array(items: &[Value], out: &mut String) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(']');
}

/// RFC 8785, section 3.2.3: members in the order of their keys' UTF-16 code units.
fn write_object(object: &Object, out: &mut String) {
    if is_in_order(object) {
        return write_members(object.iter(), out);
    }
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    write_members(members.into_iter(), out);
}

/// Whether the map's own order is that of UTF-16 code units; it may be `false` without need.
///
/// The map is sorted by bytes, unless somebody who builds on this library has turned on
/// serde_json's `preserve_order`, which must not change a hash. Bytes and code units order alike
/// but for surrogates, which sort before U+E000 to U+FFFF while the characters they spell come
/// after. In UTF-8 either kind of character starts with a byte of at least 0xEE.
fn is_in_order(object: &Object) -> bool {
    object.keys().is_sorted() && !object.keys().any(|key| key.bytes().any(|byte| byte >= 0xee))
}

fn write_members<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    out.push('{');
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// RFC 8785, section 3.2.2.3: every number is a double, whatever type holds it here. Integers up
/// to 2^53 - 1 are written from the integer, which is the same text and quicker.
fn write_number(number: &Number, out: &mut String) {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) if integer.unsigned_abs() <= NUMBER_MAGNITUDE_MAX as u64 => {
            push(out, format_args!("{integer}"));
        }
        (_, Some(double)) => write_double(double, out),
        // Not reached, since serde_json holds no infinity; ECMAScript would write this.
        (_, None) => out.push_str("null"),
    }
}

/// ECMAScript's `Number::toString` (ECMA-262, section 6.1.6.1.20).
fn write_double(double: f64, out: &mut String) {
    if double == 0.0 {
        // Also for -0.
        return out.push('0');
    }
    if double < 0.0 {
        out.push('-');
    }
    let decimal = Decimal::of(double);
    match decimal.exponent {
        -6..=20 => out.push_str(&decimal.positional()),
        exponent => {
            let mantissa = decimal.mantissa();
            push(out, format_args!("{mantissa}e{exponent:+}"));
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_sort_by_utf16_code_units() {
        // U+1F600 is D83D DE00 in UTF-16: before U+E000 and U+FB33, though its code point is after.
        let value = json!({"\u{fb33}": 1, "\u{1f600}": 2, "\u{e000}": 3, "z": 4, "\u{d7ff}": 5});
        assert_eq!(
            to_string(&value),
            "{\"z\":4,\"\u{d7ff}\":5,\"\u{1f600}\":2,\"\u{e000}\":3,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        let mut out = String::new();
        write_string("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2028}é", &mut out);
        assert_eq!(out, "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}é\"");
    }

    #[test]
    fn an_integer_beyond_the_exact_range_is_written_as_the_double_it_is() {
        assert_eq!(to_string(&json!(i64::MAX)), "9223372036854776000");
        assert_eq!(to_string(&json!(u64::MAX)), "18446744073709552000");
        assert_eq!(to_string(&json!(-9_007_199_254_740_991_i64)), "-9007199254740991");
    }

    #[test]
    fn runs_of_every_length_around_the_block_are_copied_whole() {
        for len in 0..100 {
            let plain = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let mut out = String::new();
            write_string(&format!("{plain}\n{plain}"), &mut out);
            assert_eq!(out, format!("\"{plain}\\n{plain}\""));
        }
    }
}
