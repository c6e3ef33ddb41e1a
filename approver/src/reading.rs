//! How a value reads, for people, beside its exact spelling: amounts, texts of several lines, letters of other scripts.
//!
//! Invariant: a [`Readable`] is one line in which no character reorders, combines with, hides or moves another: each is
//! printable ASCII or of [`LETTERS`], a list of scripts that are written from left to right, a letter a place. Every
//! other character is spelt `\u` and four digits for each UTF-16 code unit. Two texts may read alike (a Cyrillic letter
//! can look like a Latin one); the exact line above tells them apart.

use std::fmt;

use openexec::core::json::{Object, Value};
use openexec::sys::visible;

/// Letters that stand for themselves: first and last of each range. Held by `tests/terminal/letters.py` to what
/// Unicode says: assigned, from left to right or neutral, no mark, no space, nothing that normalisation changes.
pub const LETTERS: &[(char, char)] = &[
    ('\u{a1}', '\u{a7}'), // Latin-1: signs
    ('\u{a9}', '\u{a9}'),
    ('\u{ab}', '\u{ac}'),
    ('\u{ae}', '\u{ae}'),
    ('\u{b0}', '\u{b1}'),
    ('\u{b6}', '\u{b7}'),
    ('\u{bb}', '\u{bb}'),
    ('\u{bf}', '\u{131}'), // Latin
    ('\u{134}', '\u{13e}'),
    ('\u{141}', '\u{148}'),
    ('\u{14a}', '\u{17e}'),
    ('\u{218}', '\u{21b}'),
    ('\u{386}', '\u{386}'), // Greek
    ('\u{388}', '\u{38a}'),
    ('\u{38c}', '\u{38c}'),
    ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3ce}'),
    ('\u{400}', '\u{45f}'), // Cyrillic
    ('\u{490}', '\u{491}'),
    ('\u{10d0}', '\u{10fa}'), // Georgian
    ('\u{1e9e}', '\u{1e9e}'), // Latin
    ('\u{1ea0}', '\u{1ef9}'), // Vietnamese
    ('\u{2013}', '\u{2014}'), // dashes and quotation marks
    ('\u{2018}', '\u{201e}'),
    ('\u{20ac}', '\u{20ac}'), // euro
    ('\u{3001}', '\u{3002}'), // Japanese and Chinese
    ('\u{300c}', '\u{300f}'),
    ('\u{3041}', '\u{3096}'),
    ('\u{30a1}', '\u{30fe}'),
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{ac00}', '\u{d7a3}'), // Korean
];

/// At most so many digits behind the point.
const EXPONENT_MAX: u64 = 12;

/// One line that a terminal takes as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Readable {
    line: String,
    /// Whether it is money, with its point.
    pub is_amount: bool,
}

impl Readable {
    pub fn new(text: &str) -> Self {
        let mut line = String::new();
        for char in text.chars() {
            if visible::is_visible(char) || is_letter(char) {
                line.push(char);
            } else {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        Readable { line, is_amount: false }
    }

    pub fn is_ascii(&self) -> bool {
        self.line.is_ascii()
    }
}

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

fn is_letter(char: char) -> bool {
    LETTERS.iter().any(|(first, last)| (*first..=*last).contains(&char))
}

/// The most columns that a terminal may give this character: some give two to every letter that is not ASCII.
pub fn columns_of(char: char) -> usize {
    if char.is_ascii() { 1 } else { 2 }
}

pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The readings of a scalar: none where its exact line says it all.
pub fn of(value: &Value, schema: Option<&Value>, siblings: Option<&Object>) -> Vec<Readable> {
    let display = schema.and_then(|schema| schema["x-display"].as_str());
    match (value, display) {
        (Value::String(text), Some("text")) => lines(text),
        (Value::String(text), _) => of_text(text),
        (Value::Number(number), Some("money")) => {
            let schema = schema.unwrap_or(&Value::Null);
            number
                .as_i64()
                .and_then(|amount| money(amount, schema, siblings?))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A text of several lines, or with letters of another script, as it is written there.
pub fn of_text(text: &str) -> Vec<Readable> {
    match text.chars().any(|char| char == '\n' || is_letter(char)) {
        true => lines(text),
        false => Vec::new(),
    }
}

fn lines(text: &str) -> Vec<Readable> {
    text.split('\n').map(|line| Readable::new(line.strip_suffix('\r').unwrap_or(line))).collect()
}

/// `49.00 EUR` of 4900 where the schema gives EUR two digits.
fn money(amount: i64, schema: &Value, siblings: &Object) -> Option<Readable> {
    let currency = siblings.get(schema["x-currency"].as_str()?)?.as_str()?;
    let exponent = schema["x-exponents"].get(currency)?.as_u64().filter(|n| *n <= EXPONENT_MAX)?;
    let width = usize::try_from(exponent).ok()?;
    let digits = format!("{:0>1$}", amount.unsigned_abs(), width + 1);
    let (whole, part) = digits.split_at(digits.len() - width);
    let sign = if amount < 0 { "-" } else { "" };
    let point = if part.is_empty() { "" } else { "." };
    let line = Readable::new(&format!("{sign}{whole}{point}{part} {currency}"));
    Some(Readable { is_amount: true, ..line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_its_point_where_the_schema_puts_it() {
        let schema = serde_json::json!({"x-display": "money", "x-currency": "c",
            "x-exponents": {"EUR": 2, "JPY": 0, "XXX": 99, "\u{202e}": 1}});
        for (amount, currency, shown) in [
            (4900, "EUR", Some("49.00 EUR")),
            (5, "EUR", Some("0.05 EUR")),
            (-5, "EUR", Some("-0.05 EUR")),
            (0, "EUR", Some("0.00 EUR")),
            (i64::MIN, "EUR", Some("-92233720368547758.08 EUR")),
            (4900, "JPY", Some("4900 JPY")),
            (4900, "\u{202e}", Some("490.0 \\u202e")),
            (4900, "XXX", None),
            (4900, "USD", None),
        ] {
            let siblings = serde_json::json!({"c": currency});
            let read = of(&amount.into(), Some(&schema), siblings.as_object());
            assert_eq!(
                read.first().map(ToString::to_string).as_deref(),
                shown,
                "{amount} {currency}"
            );
        }
        let half = serde_json::json!(1.5);
        assert_eq!(of(&half, Some(&schema), serde_json::json!({"c": "EUR"}).as_object()), []);
        assert_eq!(of(&1.into(), Some(&schema), None), []);
    }
}
