//! PEM (RFC 7468), as far as keys need it: blocks, one after another, and nothing around them.

use crate::core::base64;

/// One `-----BEGIN label-----` block.
pub struct Block<'a> {
    pub label: &'a str,
    /// What lies between the two boundary lines, line breaks included.
    body: &'a str,
}

/// Splits a text into its blocks. Empty lines may stand between them; any other text, a boundary
/// that is not closed by its own label, or no block at all is an error: a sentence that repeats
/// nothing of the text, which may be a private key.
pub fn blocks(text: &str) -> Result<Vec<Block<'_>>, &'static str> {
    let mut blocks = Vec::new();
    let mut rest = skip_blank(text);
    while !rest.is_empty() {
        let (label, after) = rest
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.split_once("-----"))
            .filter(|(label, _)| !label.contains(['\n', '\r', '-']))
            .ok_or("there is text outside the -----BEGIN and -----END lines; remove it")?;
        let after =
            line_break(after).ok_or("a -----BEGIN line must be followed by a line break")?;
        // The body holds no hyphen, so the first one begins the closing line.
        let end = after.find('-').ok_or("a -----BEGIN line has no -----END line after it")?;
        let (body, closing) = after.split_at(end);
        let after = closing
            .strip_prefix("-----END ")
            .and_then(|rest| rest.strip_prefix(label))
            .and_then(|rest| rest.strip_prefix("-----"))
            .filter(|_| body.ends_with('\n'))
            .ok_or("a -----END line does not match its -----BEGIN line")?;
        blocks.push(Block { label, body });
        rest = match line_break(after) {
            Some(after) => skip_blank(after),
            None if after.is_empty() => after,
            None => return Err("a -----END line must end its line"),
        };
    }
    if blocks.is_empty() {
        return Err("there is no PEM block in it");
    }
    Ok(blocks)
}

impl Block<'_> {
    /// The DER inside, or `None` where the base64 is not strict.
    pub fn der(&self) -> Option<Vec<u8>> {
        // It may be broken into lines anywhere: these two are skipped, and nothing else is.
        let characters = self.body.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
        base64::decode_characters(characters, self.body.len())
    }
}

fn skip_blank(text: &str) -> &str {
    text.trim_start_matches(['\r', '\n'])
}

fn line_break(text: &str) -> Option<&str> {
    text.strip_prefix('\n').or_else(|| text.strip_prefix("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_break_anywhere_and_that_is_all() {
        let der = |body| Block { label: "", body }.der();
        for text in ["Zm9v\nYmFy", "Zm9v\r\nYmFy\r\n", "\nZ\nm\n9vYmFy\n\n"] {
            assert_eq!(der(text).as_deref(), Some(&b"foobar"[..]));
        }
        assert_eq!(der("Zg=\n=\n"), Some(b"f".to_vec()));
        for text in ["Zm9v YmFy", "Zm9v\tYmFy", "Zm9v\nYmF", "Zg==\nZg==", "Zm9v\u{b}YmFy"] {
            assert_eq!(der(text), None, "{text:?}");
        }
    }
}
