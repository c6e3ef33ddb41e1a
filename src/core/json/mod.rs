//! JSON in and out: one strict reader, and one writer, of the canonical encoding here and of a legacy one elsewhere.

pub mod canonical;
pub mod decimal;
pub mod strict;
pub mod write;

pub use serde_json::Value;
/// A JSON object.
pub type Object = serde_json::Map<String, Value>;

/// The object of these members. (To collect them would sort them first, by code of its own for each kind of iterator.)
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Object {
    let mut object = Object::new();
    object.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    object
}

/// How many bytes at the start of `bytes` are not special.
fn plain_len(bytes: &[u8], is_special: impl Fn(u8) -> bool) -> usize {
    // In blocks, without an early exit inside one: this compiles to vector instructions.
    let is_plain = |block: &&[u8]| !block.iter().fold(false, |any, &byte| any | is_special(byte));
    let len = 32 * bytes.chunks_exact(32).take_while(is_plain).count();
    let rest = &bytes[len..];
    let found = rest.iter().position(|&byte| is_special(byte));
    len + found.unwrap_or(rest.len())
}

/// Whether a byte cannot stand for itself inside a JSON string: a quotation mark, a backslash or a control
/// character (RFC 8259, section 7).
pub fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}
