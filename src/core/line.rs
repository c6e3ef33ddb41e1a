//! One line of a segment: a canonical JSON object, written and taken apart without a tree.
//!
//! A record holds payloads and results of up to a megabyte that are canonical text already. The
//! writer embeds them as they are; the reader finds the top-level fields and leaves them as slices.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::BufRead;
use std::ops::Deref;

use crate::core::json::{canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;

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
    fn take_from(fields: &mut Fields<'a>, name: &'static str) -> Option<Self>;
}

/// A value that has one spelling.
pub trait Spelled<'a>: Sized {
    fn write(&self, text: &mut String);
    /// Reads what [`Self::write`] writes, and nothing else.
    fn read(raw: &'a str) -> Option<Self>;
}

impl<'a, T: Spelled<'a>> Field<'a> for T {
    fn put(&self, name: &'static str, line: &mut LineWriter) {
        line.name(name);
        self.write(&mut line.text);
    }

    fn take_from(fields: &mut Fields<'a>, name: &'static str) -> Option<Self> {
        Self::read(fields.next(name)?)
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

    fn read(raw: &'a str) -> Option<Self> {
        Some(Json(raw))
    }
}

/// What stands between two quotation marks. (`strip_prefix` and `strip_suffix` call the library for each byte, and
/// opening reads millions of strings.)
fn unquoted(raw: &str) -> Option<&str> {
    match raw.as_bytes() {
        [b'"', .., b'"'] => raw.get(1..raw.len() - 1),
        _ => None,
    }
}

/// A string that needs no escape, such as a hash or a time.
impl<'a> Spelled<'a> for &'a str {
    fn write(&self, text: &mut String) {
        canonical::write_string(self, text);
    }

    fn read(raw: &'a str) -> Option<Self> {
        unquoted(raw).filter(|inside| !inside.contains('\\'))
    }
}

/// Any string.
impl<'a> Spelled<'a> for Cow<'a, str> {
    fn write(&self, text: &mut String) {
        canonical::write_string(self, text);
    }

    fn read(raw: &'a str) -> Option<Self> {
        let inside = unquoted(raw)?;
        if !inside.bytes().any(|byte| byte == b'\\' || byte < b' ') {
            return Some(Cow::Borrowed(inside));
        }
        let value = strict::read(raw.as_bytes(), RECORD_DEPTH_MAX).ok()?;
        let text = value.as_str().filter(|_| canonical::to_string(&value) == raw)?;
        Some(Cow::Owned(text.to_owned()))
    }
}

impl<'a> Spelled<'a> for String {
    fn write(&self, text: &mut String) {
        canonical::write_string(self, text);
    }

    fn read(raw: &'a str) -> Option<Self> {
        Cow::read(raw).map(Cow::into_owned)
    }
}

/// Digits without a leading zero; at most 2^53 - 1, as every JSON parser reads alike.
impl Spelled<'_> for u64 {
    fn write(&self, text: &mut String) {
        write!(text, "{self}").expect("a String takes all that is written to it");
    }

    fn read(raw: &str) -> Option<Self> {
        let canonical = raw == "0" || !raw.starts_with('0');
        (canonical && raw.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| raw.parse().ok())?
            .filter(|number| *number < 1 << 53)
    }
}

impl Spelled<'_> for bool {
    fn write(&self, text: &mut String) {
        text.push_str(if *self { "true" } else { "false" });
    }

    fn read(raw: &str) -> Option<Self> {
        raw.parse().ok()
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

            fn read(raw: &str) -> Option<Self> {
                let word = <&str as $crate::core::line::Spelled>::read(raw)?;
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

    fn read(raw: &'a str) -> Option<Self> {
        if raw == "null" { Some(None) } else { T::read(raw).map(Some) }
    }
}

/// Fields in one record: no kind has more.
const FIELDS_MAX: usize = 16;

/// The top-level fields of a line, as slices of it, to be taken in their order; and its kind.
pub struct Fields<'a> {
    kind: Option<&'a str>,
    fields: [(&'a str, &'a str); FIELDS_MAX],
    count: usize,
    taken: usize,
}

impl<'a> Fields<'a> {
    /// `None` unless the line is one object with plain names, without spaces between them, and its kind in
    /// its place. Nested values are skipped by their brackets and strings, not judged.
    pub fn of(line: &'a str) -> Option<Self> {
        let fields = [("", ""); FIELDS_MAX];
        let (mut found, mut last) = (Fields { kind: None, fields, count: 0, taken: 0 }, "");
        let bytes = line.as_bytes();
        if bytes.first() != Some(&b'{') {
            return None;
        }
        let mut at = 1;
        loop {
            if bytes.get(at) != Some(&b'"') {
                return None;
            }
            let name_end = end_of_string(bytes, at)?;
            let name = line.get(at + 1..name_end - 1)?;
            // Of the others each is taken by its name, in the order that its kind gives.
            let is_misplaced = (name == "kind" || last == "kind") && name <= last;
            if bytes.get(name_end) != Some(&b':') || found.count == FIELDS_MAX || is_misplaced {
                return None;
            }
            let value_end = end_of_value(bytes, name_end + 1)?;
            let value = line.get(name_end + 1..value_end)?;
            if name == "kind" {
                found.kind = <&str>::read(value);
            } else {
                found.fields[found.count] = (name, value);
                found.count += 1;
            }
            last = name;
            match bytes.get(value_end)? {
                b',' => at = value_end + 1,
                b'}' if value_end + 1 == bytes.len() => return Some(found),
                _ => return None,
            }
        }
    }

    pub fn kind(&self) -> Option<&'a str> {
        self.kind
    }

    /// The text of the next field, the kind left out, if that is its name.
    pub fn next(&mut self, name: &str) -> Option<&'a str> {
        let (known, raw) = *self.fields[..self.count].get(self.taken)?;
        self.taken += usize::from(known == name);
        (known == name).then_some(raw)
    }

    pub fn are_taken(&self) -> bool {
        self.taken == self.count
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

/// The offset after the value that begins at `start`.
fn end_of_value(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
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
            b',' | b'}' | b']' if depth == 0 => return (at > start).then_some(at),
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
        let mut fields = Fields::of(&line).expect("a line");
        assert_eq!(fields.kind(), Some("test"));
        assert_eq!(<&str>::take_from(&mut Fields::of(&line).expect("a line"), "a"), None);
        assert_eq!(Cow::take_from(&mut fields, "a").as_deref(), Some("x\"\\y"));
        assert_eq!(u64::take_from(&mut fields, "c"), None, "it is not the next one");
        assert_eq!(Json::take_from(&mut fields, "b"), Some(Json(nested)));
        assert_eq!(u64::take_from(&mut fields, "c"), Some(7));
        assert!(!fields.are_taken());
        assert_eq!(Option::<&str>::take_from(&mut fields, "l"), Some(None));
        assert!(fields.are_taken());
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
            let found = Fields::of(bad);
            assert!(found.is_none() || bad == "{\"a\":[1}", "{bad}");
        }
    }
}
