//! The legacy writer: Python's `json.dumps(value, sort_keys=True, separators=(",",":"))`.
//!
//! It is what ClawShield's existing approvals hash, and serves to recognise those hashes alone.
//!
//! Invariant: for whatever the strict reader accepts, byte for byte what Python writes after
//! `json.loads` of the same text, or nothing. The text is ASCII without control characters.

use serde_json::Number;

use super::decimal::Decimal;
use super::{Object, Value};

/// The legacy text of `value`; `None` if it does not fit.
///
/// `bytes_max` bounds the text as a record holds it, in a canonical JSON string, where every
/// quotation mark and backslash takes two bytes; the string's own quotation marks are not counted.
/// No more than that is ever built.
pub fn to_string(value: &Value, bytes_max: usize) -> Option<String> {
    let mut writer = Writer { out: String::new(), bytes_left: bytes_max };
    writer.value(value)?;
    Some(writer.out)
}

struct Writer {
    out: String,
    /// What may still be added, counted as it would stand inside a JSON string.
    bytes_left: usize,
}

/// Every function returns `None` once the text does not fit.
impl Writer {
    fn value(&mut self, value: &Value) -> Option<()> {
        match value {
            Value::Null => self.push("null"),
            Value::Bool(true) => self.push("true"),
            Value::Bool(false) => self.push("false"),
            Value::Number(number) => self.push(&number_text(number)),
            Value::String(string) => self.string(string),
            Value::Array(items) => self.array(items),
            Value::Object(object) => self.object(object),
        }
    }

    fn array(&mut self, items: &[Value]) -> Option<()> {
        self.push("[")?;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(",")?;
            }
            self.value(item)?;
        }
        self.push("]")
    }

    /// Python compares strings by code point, which is how UTF-8 compares by bytes. The map is
    /// sorted that way unless a dependant has turned on serde_json's `preserve_order`.
    fn object(&mut self, object: &Object) -> Option<()> {
        let mut members: Vec<_> = object.iter().collect();
        members.sort_unstable_by_key(|(key, _)| *key);
        self.push("{")?;
        for (index, (key, value)) in members.into_iter().enumerate() {
            if index > 0 {
                self.push(",")?;
            }
            self.string(key)?;
            self.push(":")?;
            self.value(value)?;
        }
        self.push("}")
    }

    fn string(&mut self, string: &str) -> Option<()> {
        self.push("\"")?;
        let mut rest = string;
        loop {
            let (run, special) = rest.split_at(printable_len(rest));
            self.push(run)?;
            let mut chars = special.chars();
            let Some(char) = chars.next() else { break };
            self.escape(char)?;
            rest = chars.as_str();
        }
        self.push("\"")
    }

    /// Python's `ensure_ascii` escapes all but U+0020 to U+007E, so U+007F too.
    fn escape(&mut self, char: char) -> Option<()> {
        match char {
            '"' => self.push("\\\""),
            '\\' => self.push("\\\\"),
            '\u{8}' => self.push("\\b"),
            '\t' => self.push("\\t"),
            '\n' => self.push("\\n"),
            '\u{c}' => self.push("\\f"),
            '\r' => self.push("\\r"),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    self.push(&format!("\\u{unit:04x}"))?;
                }
                Some(())
            }
        }
    }

    /// `text` is printable ASCII.
    fn push(&mut self, text: &str) -> Option<()> {
        let doubled = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
        let bytes = text.len() + doubled.count();
        self.bytes_left = self.bytes_left.checked_sub(bytes)?;
        self.out.push_str(text);
        Some(())
    }
}

/// How many bytes at the start of `string` Python writes as they are.
fn printable_len(string: &str) -> usize {
    let is_special = |byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    let found = string.bytes().position(is_special);
    found.unwrap_or(string.len())
}

/// Integers exactly, doubles by Python's `float.__repr__`.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(double) if number.is_f64() => double_text(double),
        _ => number.to_string(),
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

    #[test]
    fn a_text_that_does_not_fit_is_given_up_at_the_first_byte_too_many() {
        assert_eq!(to_string(&json!(null), 4).as_deref(), Some("null"));
        assert_eq!(to_string(&json!(null), 3), None);
        assert_eq!(to_string(&json!([]), 0), None);
    }
}
