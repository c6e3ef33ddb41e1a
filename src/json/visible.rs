//! Which characters a person can see, and JSON text in which nothing else stands.

/// Neither a control (Cc), a format character (Cf), a blank other than the space (Zs, Zl, Zp), a
/// character that renderers leave out (Default_Ignorable_Code_Point, Unicode 16), nor one that has
/// no agreed look (private use, noncharacters).
pub fn is_visible(char: char) -> bool {
    if char == ' ' {
        return true;
    }
    !(char.is_control()
        || char.is_whitespace()
        || matches!(u32::from(char),
            0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
            | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164 | 0xe000..=0xf8ff
            | 0xfdd0..=0xfdef | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd
            | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d159 | 0x1d173..=0x1d17a
            | 0xe0000..)
        || u32::from(char) & 0xfffe == 0xfffe)
}

/// The same JSON text, with every character that cannot be seen spelt as its escape: what a person
/// reads is what a parser reads. Outside strings JSON is ASCII, so all that is replaced is in one.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if is_visible(char) {
            out.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{canonical, strict};

    #[test]
    fn what_is_escaped_is_visible_and_means_the_same() {
        let text = "a\u{202e}b\u{e0041}\u{200b}\u{0}\n\\ Grüße, 東京 😀";
        let value = serde_json::json!({ text: [text, 1.5, null] });
        let json = escaped(&canonical::to_string(&value));
        assert!(json.chars().all(is_visible), "{json}");
        assert!(json.contains("\\u202e") && json.contains("\\udb40\\udc41"), "{json}");
        assert!(json.contains("Grüße, 東京 😀"), "{json}");
        assert_eq!(strict::read(json.as_bytes(), 4), Ok(value));
    }
}
