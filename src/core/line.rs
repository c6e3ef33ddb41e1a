//! One line of a segment: a canonical JSON object, written and taken apart without a tree.
//!
//! A record holds payloads and results of up to a megabyte that are canonical text already. The
//! writer embeds them as they are; the reader expects each field where the writer puts it, and leaves them as slices.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::BufRead;
use std::ops::Deref;

use crate::core::json::{canonical, strict};

/// Builds a line field by field. Names must be given in ascending order: that is what makes the
/// line canonical (RFC 8785, section 3.2.3; all names are ASCII).
#[must_use]
pub struct LineWriter {
    text: String,
    /// Written once its turn comes.
    kind: Option<&'static str>,
    last: &'static str,
}

impl LineWriter {
    /// Of a record of that kind.
    pub fn of(kind: &'static str) -> Self {
        LineWriter { kind: Some(kind), ..LineWriter::start() }
    }

    pub fn start() -> Self {
        // Most lines are shorter.
        let mut text = String::with_capacity(512);
        text.push('{');
        LineWriter { text, kind: None, last: "" }
    }

    pub fn with<'a>(mut self, name: &'static str, value: &impl Field<'a>) -> Self {
        value.put(name, &mut self);
        self
    }

    /// A field only where it has a value.
    pub fn given<'a>(self, name: &'static str, value: Option<impl Field<'a>>) -> Self {
        value.into_iter().fold(self, |line, value| line.with(name, &value))
    }

    pub fn end(mut self) -> String {
        self.put_kind();
        self.text.push('}');
        self.text
    }

    fn put_kind(&mut self) {
        if let Some(kind) = self.kind.take() {
            kind.put("kind", self);
        }
    }

    fn name(&mut self, name: &'static str) {
        if name > "kind" {
            self.put_kind();
        }
        debug_assert!(self.last < name, "{} before {name}", self.last);
        self.last = name;
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
    }
}

/// What a field of a record may be.
pub trait Field<'a>: Sized {
    fn put(&self, name: &'static str, line: &mut LineWriter);
    /// Takes it if it comes next.
    fn take_from(line: &mut LineReader<'a>, name: &'static str) -> Option<Self>;
}

/// A value that has one spelling.
pub trait Spelled<'a>: Sized {
    fn write(&self, text: &mut String);
    /// Takes what [`Self::write`] writes, and nothing else, from the front of the text.
    fn take(text: &mut &'a str) -> Option<Self>;
}

impl<'a, T: Spelled<'a>> Field<'a> for T {
    fn put(&self, name: &'static str, line: &mut LineWriter) {
        line.name(name);
        self.write(&mut line.text);
    }

    fn take_from(line: &mut LineReader<'a>, name: &'static str) -> Option<Self> {
        line.name(name)?;
        let value = Self::take(&mut line.rest);
        // Nothing follows what is wrong.
        line.rest = if value.is_some() { line.rest } else { "" };
        value
    }
}

/// Canonical text of a value that is not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(pub &'a str);

impl Deref for Json<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl<'a> Spelled<'a> for Json<'a> {
    fn write(&self, text: &mut String) {
        text.push_str(self.0);
    }

    fn take(text: &mut &'a str) -> Option<Self> {
        cut(text, end_of_value(text.as_bytes())?).map(Json)
    }
}

/// Takes so many bytes from the front, up to a boundary of characters.
fn cut<'a>(text: &mut &'a str, bytes: usize) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(bytes)?;
    *text = rest;
    Some(front)
}

/// Takes the text if it stands at the front.
fn expect(text: &mut &str, front: &str) -> Option<()> {
    *text = text.strip_prefix(front)?;
    Some(())
}

/// Takes a string of so many bytes, whatever they are.
pub fn quoted<'a>(text: &mut &'a str, bytes: usize) -> Option<&'a str> {
    expect(text, "\"")?;
    let inside = cut(text, bytes)?;
    expect(text, "\"")?;
    Some(inside)
}

/// A string that needs no escape, such as a word.
impl<'a> Spelled<'a> for &'a str {
    fn write(&self, text: &mut String) {
        canonical::write_string(self, text);
    }

    fn take(text: &mut &'a str) -> Option<Self> {
        let is_special = |byte| matches!(byte, b'"' | b'\\');
        quoted(text, text.bytes().skip(1).position(is_special)?)
    }
}

/// Any string.
impl<'a> Spelled<'a> for Cow<'a, str> {
    fn write(&self, text: &mut String) {
        canonical::write_string(self, text);
    }

    fn take(text: &mut &'a str) -> Option<Self> {
        let raw = cut(text, end_of_string(text.as_bytes(), 0)?)?;
        let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
        if !inside.bytes().any(|byte| byte == b'\\' || byte < b' ') {
            return Some(Cow::Borrowed(inside));
        }
        let value = strict::read_own(raw.as_bytes()).ok()?;
        let text = value.as_str().filter(|_| canonical::to_string(&value) == raw)?;
        Some(Cow::Owned(text.to_owned()))
    }
}

/// Digits without a leading zero; at most 2^53 - 1, as every JSON parser reads alike.
impl Spelled<'_> for u64 {
    fn write(&self, text: &mut String) {
        write!(text, "{self}").expect("a String takes all that is written to it");
    }

    fn take(text: &mut &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let digits =
            cut(text, digits).filter(|digits| *digits == "0" || !digits.starts_with('0'))?;
        digits.parse().ok().filter(|number| *number < 1 << 53)
    }
}

impl Spelled<'_> for bool {
    fn write(&self, text: &mut String) {
        text.push_str(if *self { "true" } else { "false" });
    }

    fn take(text: &mut &str) -> Option<Self> {
        let is_true = expect(text, "true").is_some();
        (is_true || expect(text, "false").is_some()).then_some(is_true)
    }
}

/// Makes of each table a type of words, which have the same spelling everywhere.
macro_rules! words {
    ($($(#[$about:meta])* $Type:ident { $($(#[$note:meta])* $Word:ident = $word:literal,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Type { $($(#[$note])* $Word,)* }

        impl $Type {
            pub const ALL: [$Type; [$($word,)*].len()] = [$($Type::$Word,)*];

            pub const fn name(self) -> &'static str {
                match self { $($Type::$Word => $word,)* }
            }
        }

        impl $crate::core::line::Spelled<'_> for $Type {
            fn write(&self, text: &mut String) {
                $crate::core::line::Spelled::write(&self.name(), text);
            }

            fn take(text: &mut &str) -> Option<Self> {
                let word = <&str as $crate::core::line::Spelled>::take(text)?;
                Self::ALL.into_iter().find(|known| known.name() == word)
            }
        }
    )*};
}
pub(crate) use words;

/// `null`, or the value.
impl<'a, T: Spelled<'a>> Spelled<'a> for Option<T> {
    fn write(&self, text: &mut String) {
        match self {
            Some(value) => value.write(text),
            None => text.push_str("null"),
        }
    }

    fn take(text: &mut &'a str) -> Option<Self> {
        if expect(text, "null").is_some() { Some(None) } else { T::take(text).map(Some) }
    }
}

/// Takes apart a line that [`LineWriter`] wrote, field by field, and its kind in its place.
#[must_use]
pub struct LineReader<'a> {
    rest: &'a str,
    /// Read once its turn comes.
    kind: Option<&'static str>,
    /// What stands before the next name.
    separator: &'static str,
}

impl<'a> LineReader<'a> {
    pub fn of(kind: &'static str, line: &'a str) -> Self {
        LineReader { kind: Some(kind), ..LineReader::start(line) }
    }

    pub fn start(rest: &'a str) -> Self {
        LineReader { rest, kind: None, separator: "{\"" }
    }

    /// Takes the name if it comes next; otherwise nothing but the kind, if that was next.
    fn name(&mut self, name: &str) -> Option<()> {
        if name > "kind" {
            self.take_kind()?;
        }
        let after = self.rest.strip_prefix(self.separator)?.strip_prefix(name)?;
        self.rest = after.strip_prefix("\":")?;
        self.separator = ",\"";
        Some(())
    }

    fn take_kind(&mut self) -> Option<()> {
        let Some(kind) = self.kind.take() else { return Some(()) };
        let found = <&str>::take_from(self, "kind").filter(|found| *found == kind);
        self.rest = if found.is_some() { self.rest } else { "" };
        found.map(|_| ())
    }

    /// Whether nothing follows.
    pub fn is_over(mut self) -> bool {
        self.take_kind().is_some() && self.rest == "}"
    }
}

/// The offset after the string that begins at `start`: a quotation mark behind an even number of
/// backslashes. (`skip_until` is the standard library's vectorised search.)
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let skipped = bytes.get(at..)?.skip_until(b'"').ok()?;
        if skipped == 0 {
            return None;
        }
        at += skipped;
        let [inside @ .., b'"'] = &bytes[start + 1..at] else { return None };
        if inside.iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2) {
            return Some(at);
        }
    }
}

/// The offset after the value that begins the text. What is nested is skipped by its brackets and strings, not judged.
fn end_of_value(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b',' | b'}' | b']' if depth == 0 => return (at > 0).then_some(at),
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let mut line = LineWriter::of("test");
        let nested = r#"{"k":["}",1,{"z":"]"}]}"#;
        Cow::from("x\"\\y").put("a", &mut line);
        Json(nested).put("b", &mut line);
        7u64.put("c", &mut line);
        Option::<&str>::None.put("l", &mut line);
        let line = line.end();
        let read = || LineReader::of("test", &line);
        let mut fields = read();
        assert_eq!(<&str>::take_from(&mut read(), "a"), None, "it has escapes");
        assert_eq!(Cow::take_from(&mut fields, "a").as_deref(), Some("x\"\\y"));
        assert_eq!(u64::take_from(&mut fields, "c"), None, "it is not the next one");
        assert_eq!(Json::take_from(&mut fields, "b"), Some(Json(nested)));
        assert_eq!(u64::take_from(&mut fields, "c"), Some(7));
        assert_eq!(Option::<&str>::take_from(&mut fields, "l"), Some(None));
        assert!(fields.is_over());
        // What is wrong once stays wrong.
        let mut wrong = LineReader::of("k", r#"{"a":,"b":{},"kind":"k"}"#);
        assert_eq!(Json::take_from(&mut wrong, "a"), None);
        assert_eq!(Json::take_from(&mut wrong, "b"), None);
        let mut wrong = LineReader::of("k", r#"{"a":1,"l":2}"#);
        assert_eq!(u64::take_from(&mut wrong, "a"), Some(1));
        assert_eq!([u64::take_from(&mut wrong, "l"), u64::take_from(&mut wrong, "l")], [None; 2]);
        for unquoted in ["Xab\"", "\u{e9}ab\"", "ab\"", "\"ab", "\"", ""] {
            assert_eq!(Cow::take(&mut &*format!("{unquoted},")), None, "{unquoted}");
            assert_eq!(<&str>::take(&mut &*format!("{unquoted},")), None, "{unquoted}");
        }
        let mut other = LineReader::of("other", &line);
        assert!(Json::take_from(&mut other, "a").is_some());
        assert!(!read().is_over());
    }

    #[test]
    fn what_is_not_a_line_is_none() {
        for bad in [
            "",
            "{",
            "{}",
            "[]",
            "x",
            "{\"a\"}",
            // Of a string without an end, behind each number of backslashes.
            "{\"",
            "{\"\\\"",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":\"\\\"",
            "{\"a\":\"\\\\",
            "{\"a\":\"x\\\"y\\\"",
            "{\"a\":[\"\\\"",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{\"l\":1,\"kind\":\"k\"}",
            "{\"kind\":\"k\",\"a\":2}",
            "{\"kind\":\"k\",\"kind\":\"k\"}",
            "{\"a\":\"x}",
            "{\"a\":[1}",
            " {\"a\":1}",
            "{\"a\":\"\\",
            "{\"a\" :1}",
        ] {
            // A bracket that closes another kind is skipped, so only the framing is judged here.
            let mut line = LineReader::of("k", bad);
            let is_read = Json::take_from(&mut line, "a").is_some() && line.is_over();
            assert!(!is_read, "{bad}");
        }
    }
}
