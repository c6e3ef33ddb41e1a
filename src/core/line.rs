//! One line of a segment: a canonical JSON object, written and taken apart without a tree.
//!
//! A record holds payloads and results of up to a megabyte that are canonical text already. The
//! writer embeds them as they are; the reader finds the top-level fields and leaves them as slices.

use crate::core::json::{Value, canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;

/// Builds a line field by field. Names must be given in ascending order: that is what makes the
/// line canonical (RFC 8785, section 3.2.3; all names are ASCII).
#[must_use]
pub struct LineWriter {
    text: String,
    #[cfg(debug_assertions)]
    last: &'static str,
}

impl LineWriter {
    pub fn start() -> Self {
        LineWriter {
            text: String::from("{"),
            #[cfg(debug_assertions)]
            last: "",
        }
    }

    /// A field whose value is canonical text already.
    pub fn raw(mut self, name: &'static str, value: &str) -> Self {
        self.name(name);
        self.text.push_str(value);
        self
    }

    pub fn text(mut self, name: &'static str, value: &str) -> Self {
        self.name(name);
        canonical::write_string(value, &mut self.text);
        self
    }

    /// Numbers in records are counts far below 2^53, which every JSON parser reads alike.
    pub fn number(self, name: &'static str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    pub fn optional(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    pub fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &'static str) {
        #[cfg(debug_assertions)]
        {
            debug_assert!(self.last < name, "{} before {name}", self.last);
            self.last = name;
        }
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
    }
}

/// Fields in one record: no kind has more.
const FIELDS_MAX: usize = 16;

/// The top-level fields of a line, as slices of it.
pub struct Fields<'a> {
    fields: [(&'a str, &'a str); FIELDS_MAX],
    count: usize,
}

impl<'a> Fields<'a> {
    /// `None` unless the line is one object with plain ascending names, without spaces between
    /// them. Nested values are skipped by their brackets and strings, not judged.
    pub fn of(line: &'a str) -> Option<Self> {
        let mut found = Fields { fields: [("", ""); FIELDS_MAX], count: 0 };
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
            if bytes.get(name_end) != Some(&b':') || found.count == FIELDS_MAX {
                return None;
            }
            if found.count > 0 && found.fields[found.count - 1].0 >= name {
                return None;
            }
            let value_end = end_of_value(bytes, name_end + 1)?;
            found.fields[found.count] = (name, line.get(name_end + 1..value_end)?);
            found.count += 1;
            match bytes.get(value_end)? {
                b',' => at = value_end + 1,
                b'}' if value_end + 1 == bytes.len() => return Some(found),
                _ => return None,
            }
        }
    }

    /// Whether the names are exactly these, in ascending order.
    pub fn are(&self, names: &[&str]) -> bool {
        self.fields[..self.count].iter().map(|(name, _)| *name).eq(names.iter().copied())
    }

    /// The canonical text of a field's value.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let fields = &self.fields[..self.count];
        fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub fn value(&self, name: &str) -> Option<Value> {
        strict::read(self.raw(name)?.as_bytes(), RECORD_DEPTH_MAX).ok()
    }

    /// A string in its one canonical spelling.
    pub fn text(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
        if !inside.bytes().any(|byte| byte == b'\\' || byte < b' ') {
            return Some(inside.to_owned());
        }
        let text = self.value(name)?.as_str()?.to_owned();
        let mut spelled = String::with_capacity(raw.len());
        canonical::write_string(&text, &mut spelled);
        (spelled == raw).then_some(text)
    }

    /// A string that needs no escape, such as a hash or a time.
    pub fn plain(&self, name: &str) -> Option<&'a str> {
        let inside = self.raw(name)?.strip_prefix('"')?.strip_suffix('"')?;
        (!inside.contains('\\')).then_some(inside)
    }

    /// Digits without a leading zero; at most 2^53 - 1, as every JSON parser reads alike.
    pub fn number(&self, name: &str) -> Option<u64> {
        let raw = self.raw(name)?;
        let canonical = raw == "0" || !raw.starts_with('0');
        (canonical && raw.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| raw.parse().ok())?
            .filter(|number| *number < 1 << 53)
    }
}

/// The offset after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\');
        at += bytes.get(at..)?.iter().position(special)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
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
        let line = LineWriter::start()
            .text("a", "x\"\\y")
            .raw("b", r#"{"k":["}",1,{"z":"]"}]}"#)
            .number("c", 7)
            .optional("d", None)
            .end();
        let fields = Fields::of(&line).expect("a line");
        assert!(fields.are(&["a", "b", "c", "d"]));
        assert_eq!(fields.text("a").as_deref(), Some("x\"\\y"));
        assert_eq!(fields.plain("a"), None);
        assert_eq!(fields.raw("b"), Some(r#"{"k":["}",1,{"z":"]"}]}"#));
        assert_eq!(fields.number("c"), Some(7));
        assert_eq!(fields.raw("d"), Some("null"));
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
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{\"b\":1,\"a\":2}",
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
