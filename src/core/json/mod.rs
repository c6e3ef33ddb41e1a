//! JSON in and out: one strict reader, one canonical writer, one legacy writer.

pub mod canonical;
mod decimal;
pub mod legacy;
pub mod strict;
pub mod visible;

pub use serde_json::Value;
/// A JSON object.
pub type Object = serde_json::Map<String, Value>;

/// How many bytes at the start of `bytes` stand for themselves inside a JSON string: neither a
/// quotation mark, nor a backslash, nor a control character (RFC 8259, section 7).
fn plain_len(bytes: &[u8]) -> usize {
    // In blocks, without an early exit inside one: this compiles to vector instructions.
    let mut len = 0;
    for block in bytes.chunks_exact(32) {
        if block.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        len += block.len();
    }
    let rest = &bytes[len..];
    let found = rest.iter().position(|&byte| is_special(byte));
    len + found.unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}
