//! The legacy encoding: Python's `json.dumps(value, sort_keys=True, separators=(",",":"))`.
//!
//! It is what ClawShield's existing approvals hash, and serves to recognise those hashes alone. The core trusts no such
//! text: it reads it again, and it must say what is executed ([`crate::core::approval::stored`]).
//!
//! Invariant: for whatever the strict reader accepts, byte for byte what Python writes after
//! `json.loads` of the same text, or nothing. The text is ASCII without control characters.

use std::cmp::Ordering;

use serde_json::Number;

use crate::core::json::decimal::Decimal;
use crate::core::json::write::{self, Form};
use crate::core::json::{Value, is_special};

/// The legacy text of `value`; `None` if it does not fit.
///
/// `bytes_max` bounds the text as a record holds it, in a canonical JSON string, where every
/// quotation mark and backslash takes two bytes; the string's own quotation marks are not counted.
pub fn to_string(value: &Value, bytes_max: usize) -> Option<String> {
    let mut text = String::new();
    write::value::<Legacy>(value, &mut text);
    let doubled = text.bytes().filter(|byte| is_special(*byte)).count();
    (text.len() + doubled <= bytes_max).then_some(text)
}

struct Legacy;

impl Form for Legacy {
    /// Python's `ensure_ascii` escapes all but U+0020 to U+007E, so U+007F too.
    fn is_special(byte: u8) -> bool {
        is_special(byte) || byte >= 0x7f
    }

    /// Python compares strings by code point, which is how UTF-8 compares by bytes.
    fn order(a: &str, b: &str) -> Ordering {
        a.cmp(b)
    }

    /// Integers exactly, doubles by Python's `float.__repr__`.
    fn number(number: &Number, out: &mut String) {
        match number.as_f64() {
            Some(double) if number.is_f64() => out.push_str(&double_text(double)),
            _ => out.push_str(&number.to_string()),
        }
    }
}

/// Python writes an exponent, signed and of two digits or more, below 1e-4 and from 1e16, and
/// otherwise always a fraction.
fn double_text(double: f64) -> String {
    let sign = if double.is_sign_negative() { "-" } else { "" };
    let decimal = Decimal::of(double);
    match decimal.exponent {
        -4..=15 => {
            let text = decimal.positional();
            let fraction = if text.contains('.') { "" } else { ".0" };
            format!("{sign}{text}{fraction}")
        }
        exponent => format!("{sign}{}e{exponent:+03}", decimal.mantissa()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_spelt_as_python_spells_them() {
        let cases = [
            (json!(1.0), "1.0"),
            (json!(-0.0), "-0.0"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001234), "1.234e-05"),
            (json!(1e-7), "1e-07"),
            (json!(5e-324), "5e-324"),
            (json!(9_007_199_254_740_991.0), "9007199254740991.0"),
            (json!(1e16), "1e+16"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
        ];
        for (value, text) in cases {
            assert_eq!(to_string(&value, 100).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_bound_counts_the_text_as_a_record_would_hold_it() {
        let value = json!({"k": "\"\\\n\u{7f}\u{1f600}"});
        let text = r#"{"k":"\"\\\n\u007f\ud83d\ude00"}"#;
        let bytes = json!(text).to_string().len() - "\"\"".len();
        assert_eq!(to_string(&value, bytes).as_deref(), Some(text));
        assert_eq!(to_string(&value, bytes - 1), None);
    }
}
