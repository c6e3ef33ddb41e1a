//! JSON text of which every character can be seen and none is obeyed, moved or hidden by a terminal.

use std::borrow::Cow;

use crate::core::json::canonical;

/// The same JSON text, with every character but printable ASCII (space to `~`) spelt as its escape,
/// `\u` and four lower-case digits for each UTF-16 code unit. Outside strings JSON is ASCII, so all
/// that is replaced is in one: a parser reads the same.
pub fn escaped(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| is_visible(byte.into())) {
        return json.into();
    }
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
    out.into()
}

/// Printable ASCII. Every other script has letters that reorder what stands beside them, that join,
/// or that look like others.
pub fn is_visible(char: char) -> bool {
    matches!(char, ' '..='~')
}

/// A text as a JSON string that is only printable ASCII: two texts never look alike.
pub fn quoted(text: &str) -> String {
    let mut json = String::new();
    canonical::write_string(text, &mut json);
    escaped(&json).into_owned()
}

/// ASCII text in which every space stands between two characters that can be seen; the others are
/// escaped. So none is lost at the end of a line.
pub fn countable(text: &str, mut after_a_space: bool) -> Cow<'_, str> {
    let begins_uncounted = after_a_space && text.starts_with(' ');
    if !begins_uncounted && !text.ends_with(' ') && !text.contains("  ") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        if char == ' ' && (after_a_space || rest.peek().is_none()) {
            out.push_str("\\u0020");
            after_a_space = false;
        } else {
            out.push(char);
            after_a_space = char == ' ';
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::strict;

    #[test]
    fn all_but_printable_ascii_is_escaped_and_means_the_same() {
        let mut texts = vec![
            "a\u{202e}b\u{e0041}\u{200b}\u{0}\n\\ Gr\u{fc}\u{df}e, \u{6771}\u{4eac} \u{1f600}"
                .into(),
            "\\u202e".to_owned(),
            "\u{5ea} 200 100".to_owned(),
            "100 200 \u{5ea}".to_owned(),
            "e\u{301}".to_owned(),
            "\"\u{7f}\u{80}\u{9b}\u{ffff}\u{10ffff}".to_owned(),
        ];
        texts.extend((0..0x3000).filter_map(char::from_u32).map(String::from));
        let mut seen = std::collections::HashSet::new();
        for text in texts {
            let json = quoted(&text);
            assert!(json.chars().all(is_visible), "{json}");
            assert_eq!(strict::read(json.as_bytes(), 4), Ok(text.clone().into()), "{json}");
            assert!(seen.insert(json), "{text:?}");
        }
    }

    #[test]
    fn spaces_can_be_counted() {
        for (text, shown) in [
            ("", ""),
            (" ", "\\u0020"),
            ("a b", "a b"),
            ("a  b", "a \\u0020b"),
            ("a   b", "a \\u0020 b"),
            (" a", "\\u0020a"),
            ("a ", "a\\u0020"),
        ] {
            assert_eq!(countable(text, true), shown);
            let read = serde_json::from_str::<String>(&format!("\"{shown}\""));
            assert_eq!(read.expect("JSON"), text);
        }
    }
}
