//! The strict reader: bytes to a [`Value`], or the first reason why not.
//!
//! Invariant: a text that passes has one meaning for every JSON parser. Parsers part ways on
//! duplicate keys, lone surrogates, large numbers, deep nesting, malformed UTF-8 and what follows
//! the value (RFC 8259, sections 4, 6, 8 and 9); all of these are refused, and nothing is mended.
//!
//! Which error is reported is deterministic. UTF-8 is judged first, over the whole text. After
//! that the first error in reading order wins, and each is judged as soon as it can be: depth at
//! the opening bracket, an escape at its end, a key at its closing quote, a number at its end.
//!
//! One pass, which builds the value itself. Strings are copied in runs; the keys of an object are
//! looked up in its ordered map, so that no choice of keys makes the search for duplicates slow.

use std::fmt;

use serde_json::Number;
use serde_json::map::Entry;

use super::{Object, Value, is_special, plain_len};
use crate::core::limits::{
    JSON_OBJECT_VALUES, JSON_VALUES_MAX, NUMBER_BYTES_MAX, NUMBER_MAGNITUDE_MAX, OWN_VALUES_MAX,
    RECORD_DEPTH_MAX,
};
use crate::core::problem::Code;

/// The reader calls itself for every open container: no caller may ask for more than this.
const DEPTH_CEILING: usize = 128;

/// A way in which a text is refused: its code, and what is told.
type Way = (Code, &'static str);

/// Not one JSON value with nothing but whitespace around it (RFC 8259, section 2).
const MALFORMED: Way = (Code::MalformedJson, "the text is not one JSON value");
/// A byte order mark where JSON has none (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: Way =
    (Code::MalformedJson, "a byte order mark stands in the text; send it without one");
/// A key that its object already has, after unescaping (RFC 8259, section 4).
const DUPLICATE_KEY: Way =
    (Code::DuplicateKey, "an object has the same key twice; give each key once");
/// A number whose nearest double has a magnitude above 2^53 - 1 (RFC 7493, section 2.2), or is
/// zero where the number is not, or that takes more than 1,100 bytes to spell.
const OUT_OF_RANGE: Way = (
    Code::NumberOutOfRange,
    "a number is too large, or too near to zero, to be read alike by every parser; send it as a string",
);
/// An escaped surrogate that is not half of a pair (RFC 8259, section 8.2).
const LONE_SURROGATE: Way =
    (Code::LoneSurrogate, "an escaped surrogate stands alone; send whole characters");
/// More open containers than the caller allows (RFC 8259, section 9).
const TOO_DEEP: Way = (Code::TooDeep, "containers are nested too deep; nest them less");
/// More values than there is memory for.
const TOO_MANY: Way = (Code::TooManyValues, "there are too many values; send fewer");
/// Not UTF-8 (RFC 8259, section 8.1).
const NOT_UTF8: Way = (Code::InvalidUtf8, "the text is not UTF-8");

/// Why a text was refused, and where.
///
/// It never holds any of the text: an error is logged and answered where the text must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    pub code: Code,
    says: &'static str,
    /// In bytes from the start of the text: of the first byte that does not fit (the length of
    /// the text if it ends too early), or of the first byte of the key, number, escape or
    /// container that is refused.
    pub offset: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.says, self.offset)
    }
}

impl std::error::Error for JsonError {}

/// Reads one JSON text (RFC 8259) with at most `depth_max` containers open at once.
///
/// An integer spelt as one becomes an integer (`-0` becomes `0`); `1.0`, `1e2` and `-0.0` stay
/// doubles, so that the legacy encoding can show how they were spelt.
pub fn read(text: &[u8], depth_max: usize) -> Result<Value, JsonError> {
    read_nested(text, 0, depth_max)
}

/// As [`read`], for a text that this program made of such as were accepted: a record, an answer, or a part of one.
pub fn read_own(text: &[u8]) -> Result<Value, JsonError> {
    read_within(text, 0, RECORD_DEPTH_MAX, OWN_VALUES_MAX)
}

/// As [`read`], for a text found in a string around which `depth` containers are open.
/// The error's offset is from the start of this text.
pub fn read_nested(text: &[u8], depth: usize, depth_max: usize) -> Result<Value, JsonError> {
    read_within(text, depth, depth_max, JSON_VALUES_MAX)
}

/// As [`read`], of a text in which `depth` containers are open already, and of so many values.
pub fn read_within(
    text: &[u8],
    depth: usize,
    depth_max: usize,
    values_max: usize,
) -> Result<Value, JsonError> {
    assert!(depth_max <= DEPTH_CEILING, "the reader's stack is bounded");
    let text = std::str::from_utf8(text).map_err(|wrong| error(NOT_UTF8, wrong.valid_up_to()))?;
    let mut reader = Reader { text, at: 0, depth, depth_max, values_left: values_max };
    reader.skip_whitespace();
    let value = reader.value()?;
    reader.skip_whitespace();
    if reader.at < text.len() {
        return Err(reader.malformed());
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    /// The next byte to read; at most the length of the text.
    at: usize,
    /// Containers open.
    depth: usize,
    depth_max: usize,
    /// Values that may still begin, an object counted as what it takes.
    values_left: usize,
}

impl Reader<'_> {
    /// RFC 8259, section 3. Whitespace around the value is the caller's.
    fn value(&mut self) -> Result<Value, JsonError> {
        let takes = if self.peek() == Some(b'{') { JSON_OBJECT_VALUES } else { 1 };
        let left = self.values_left.checked_sub(takes).ok_or(error(TOO_MANY, self.at))?;
        self.values_left = left;
        match self.peek() {
            Some(b'{') => self.object().map(Value::Object),
            Some(b'[') => self.array().map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.literal(b"true", Value::Bool(true)),
            Some(b'f') => self.literal(b"false", Value::Bool(false)),
            Some(b'n') => self.literal(b"null", Value::Null),
            _ => Err(self.malformed()),
        }
    }

    /// RFC 8259, section 4.
    fn object(&mut self) -> Result<Object, JsonError> {
        let mut object = Object::new();
        self.container(b'}', |reader| reader.member(&mut object))?;
        Ok(object)
    }

    /// RFC 8259, section 4. The key is judged before its value is read.
    fn member(&mut self, object: &mut Object) -> Result<(), JsonError> {
        let key_at = self.at;
        let key = self.string()?;
        let Entry::Vacant(place) = object.entry(key) else {
            return Err(error(DUPLICATE_KEY, key_at));
        };
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        place.insert(self.value()?);
        Ok(())
    }

    /// RFC 8259, section 5.
    fn array(&mut self) -> Result<Vec<Value>, JsonError> {
        let mut items = Vec::new();
        self.container(b']', |reader| reader.value().map(|item| items.push(item)))?;
        // A Vec starts with room for four: `[[0],[0],...]` would take four times what it needs.
        items.shrink_to_fit();
        Ok(items)
    }

    /// From the bracket under the cursor to the one that closes it: what `read` reads, with commas between.
    fn container(
        &mut self,
        close: u8,
        mut read: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.depth >= self.depth_max {
            return Err(error(TOO_DEEP, self.at));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_whitespace();
        let mut goes_on = self.peek() != Some(close);
        while goes_on {
            read(self)?;
            self.skip_whitespace();
            goes_on = self.take(b',');
            self.skip_whitespace();
        }
        self.expect(close)?;
        self.depth -= 1;
        Ok(())
    }

    /// RFC 8259, section 7, from quote to quote.
    fn string(&mut self) -> Result<String, JsonError> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            // A run starts and ends beside an ASCII byte or at the end: never inside a character.
            let run = &self.text[self.at..];
            let run = &run[..plain_len(run.as_bytes(), is_special)];
            string.push_str(run);
            self.at += run.len();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                // A control character, or the end.
                _ => return Err(self.malformed()),
            }
        }
    }

    /// RFC 8259, section 7, from the backslash under the cursor.
    fn escape(&mut self) -> Result<char, JsonError> {
        let escape_at = self.at;
        self.at += 1;
        let char = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(escape_at);
            }
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.malformed()),
        };
        self.at += 1;
        Ok(char)
    }

    /// RFC 8259, section 7, from behind `\u`: one code unit, or a surrogate pair in two escapes.
    fn unicode_escape(&mut self, escape_at: usize) -> Result<char, JsonError> {
        let lone = error(LONE_SURROGATE, escape_at);
        let first = self.code_unit()?;
        if let Some(char) = char::from_u32(first) {
            return Ok(char);
        }
        // What comes second in a pair cannot come first.
        if first >= 0xdc00 || !self.text[self.at..].starts_with("\\u") {
            return Err(lone);
        }
        self.at += 2;
        let second = self.code_unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone);
        }
        let code_point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(code_point).ok_or(lone)
    }

    /// Four hexadecimal digits, in either case.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.malformed())?;
            self.at += 1;
        }
        Ok(unit)
    }

    /// RFC 8259, section 6.
    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        let negative = self.take(b'-');
        let integer_at = self.at;
        if !self.take(b'0') {
            self.digits()?;
        }
        let integer = &self.text[integer_at..self.at];
        let mut is_integer = true;
        if self.take(b'.') {
            is_integer = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            is_integer = false;
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number = if is_integer {
            integer_number(negative, integer)
        } else {
            float_number(&self.text[start..self.at])
        };
        number.ok_or(error(OUT_OF_RANGE, start))
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.malformed());
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8], value: Value) -> Result<Value, JsonError> {
        for &byte in word {
            self.expect(byte)?;
        }
        Ok(value)
    }

    /// RFC 8259, section 2: these four and no others.
    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    /// The byte under the cursor does not fit, or there is none.
    fn malformed(&self) -> JsonError {
        let is_mark = self.text.as_bytes()[self.at..].starts_with("\u{feff}".as_bytes());
        error(if is_mark { BYTE_ORDER_MARK } else { MALFORMED }, self.at)
    }
}

fn error((code, says): Way, offset: usize) -> JsonError {
    JsonError { code, says, offset }
}

/// An integer spelt as one, exactly; `None` beyond 2^53 - 1.
fn integer_number(negative: bool, digits: &str) -> Option<Number> {
    // What does not fit is beyond it, and of what fits the nearest double is on the same side of the limit.
    let magnitude: i64 = digits.parse().ok()?;
    if magnitude as f64 > NUMBER_MAGNITUDE_MAX {
        return None;
    }
    Some(Number::from(if negative { -magnitude } else { magnitude }))
}

/// A number spelt with a fraction or an exponent, as the nearest double.
fn float_number(token: &str) -> Option<Number> {
    if token.len() > NUMBER_BYTES_MAX {
        return None;
    }
    // The standard library rounds correctly.
    let number: f64 = token.parse().ok()?;
    // One that is not zero and reads as zero is to another parser something else.
    let mantissa = token.split(['e', 'E']).next().unwrap_or_default();
    let vanishes = number == 0.0 && mantissa.contains(|digit| matches!(digit, '1'..='9'));
    if number.abs() > NUMBER_MAGNITUDE_MAX || vanishes {
        return None;
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spellings_are_kept_apart_where_the_legacy_encoding_needs_them() {
        let value = read(b" [0, -0, -0.0, 1, 1.0, 1e2, -7]\r\n\t", 1);
        assert_eq!(value, Ok(json!([0, 0, -0.0, 1, 1.0, 100.0, -7])));
        let text = value.map(|value| value.to_string());
        assert_eq!(text.as_deref(), Ok("[0,0,-0.0,1,1.0,100.0,-7]"));
    }

    #[test]
    fn a_nested_text_counts_from_where_it_stands() {
        assert_eq!(read_nested(b"[[]]", 1, 3), Ok(json!([[]])));
        let refused = error(TOO_DEEP, 1);
        assert_eq!(read_nested(b"[[]]", 2, 3), Err(refused));
        let refused = error(TOO_DEEP, 0);
        assert_eq!(read_nested(b"[[]]", 4, 3), Err(refused));
    }

    #[test]
    fn depth_is_what_is_open_and_not_what_was_opened() {
        assert_eq!(read(b"[[],{},[[]]]", 3), Ok(json!([[], {}, [[]]])));
    }

    #[test]
    fn an_array_holds_no_more_memory_than_its_items() {
        let text = format!("[{}0]", "0,".repeat(99_999));
        match read(text.as_bytes(), 1) {
            Ok(Value::Array(items)) => assert_eq!(items.capacity(), 100_000),
            other => panic!("not an array: {other:?}"),
        }
    }

    #[test]
    fn the_range_of_numbers_ends_where_doubles_stop_being_exact() {
        assert_eq!(read(b"-9007199254740991", 0), Ok(json!(-(1_i64 << 53) + 1)));
        assert_eq!(read(b"9007199254740991.4", 0), Ok(json!(9_007_199_254_740_991.0)));
        let refused = Err(error(OUT_OF_RANGE, 0));
        assert_eq!(read(b"9007199254740992", 0), refused);
        assert_eq!(read(b"9007199254740991.5", 0), refused);
        assert_eq!(read(b"-1e400", 0), refused);
        let long = format!("0.{}", "1".repeat(NUMBER_BYTES_MAX - 2));
        assert!(read(long.as_bytes(), 0).is_ok());
        assert_eq!(read(format!("{long}1").as_bytes(), 0), refused);
    }

    #[test]
    fn an_error_names_the_place_and_echoes_nothing() {
        let Err(error) = read(b"{\"secret\":1,\"secret\":2}", 1) else {
            panic!("a duplicate key was read");
        };
        assert_eq!(
            error.to_string(),
            "an object has the same key twice; give each key once (byte 12)"
        );
    }
}
