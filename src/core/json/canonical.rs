//! The canonical encoding: RFC 8785, the JSON Canonicalization Scheme.
//!
//! Invariant: equal values have equal text. This is the encoding of every hash, every stored
//! record and every answer, so a change of one byte here breaks every approval and every log.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Number;

use super::decimal::Decimal;
use super::write::{self, Form};
use super::{Object, Value, is_special};
use crate::core::limits::NUMBER_MAGNITUDE_MAX;

/// The canonical text of `value`.
pub fn to_string(value: &Value) -> String {
    let mut out = String::with_capacity(128);
    write(value, &mut out);
    out
}

/// Appends the canonical text of `value` to `out`.
pub fn write(value: &Value, out: &mut String) {
    write::value::<Canonical>(value, out);
}

/// Appends `string` in quotation marks.
pub fn write_string(string: &str, out: &mut String) {
    write::string::<Canonical>(string, out);
}

/// An object's members in the order of its canonical text.
pub fn members(object: &Object) -> Vec<(&String, &Value)> {
    write::in_order(object, Canonical::order)
}

/// Makes of a value that was read the one that its canonical text reads as: `1.0` is `1`.
pub fn normalise(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|double| number.is_f64() && double.fract() == 0.0);
            *number = whole.map_or(number.clone(), |whole| Number::from(whole as i64));
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(members) => members.values_mut().for_each(normalise),
        _ => {}
    }
}

struct Canonical;

impl Form for Canonical {
    /// RFC 8785, section 3.2.2.2: control characters, the quotation mark and the backslash are escaped
    /// in their shortest form, nothing else is.
    fn is_special(byte: u8) -> bool {
        is_special(byte)
    }

    /// RFC 8785, section 3.2.3: by UTF-16 code units. Surrogates sort before U+E000 to U+FFFF, while the
    /// characters they spell come after.
    fn order(a: &str, b: &str) -> Ordering {
        a.encode_utf16().cmp(b.encode_utf16())
    }

    /// RFC 8785, section 3.2.2.3: every number is a double, whatever type holds it here. Integers up
    /// to 2^53 - 1 are written from the integer, which is the same text and quicker.
    fn number(number: &Number, out: &mut String) {
        let written = match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) if integer.unsigned_abs() <= NUMBER_MAGNITUDE_MAX as u64 => {
                write!(out, "{integer}")
            }
            (_, Some(double)) => write!(out, "{}", ecmascript(double)),
            // Not reached, since serde_json holds no infinity; ECMAScript would write this.
            (_, None) => write!(out, "null"),
        };
        written.expect("a String takes all that is written to it");
    }
}

/// ECMAScript's `Number::toString` (ECMA-262, section 6.1.6.1.20).
fn ecmascript(double: f64) -> String {
    // Also for -0.
    let sign = if double < 0.0 { "-" } else { "" };
    let decimal = Decimal::of(double);
    match decimal.exponent {
        -6..=20 => format!("{sign}{}", decimal.positional()),
        exponent => format!("{sign}{}e{exponent:+}", decimal.mantissa()),
    }
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
