//! Base64 as RFC 4648, section 4 has it, and nothing looser.
//!
//! Owns one rule: a text decodes only if encoding the bytes gives that text again. So the alphabet
//! is `+/`, padding is required, the bits that padding leaves over are zero, and there is no
//! whitespace. A decoder that is lenient about any of these lets one signature have many spellings.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with padding, without line breaks.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0u8; 3];
        padded[..group.len()].copy_from_slice(group);
        let [first, second, third] = padded;
        let sextets = [
            first >> 2,
            (first & 3) << 4 | second >> 4,
            (second & 15) << 2 | third >> 6,
            third & 63,
        ];
        for (index, sextet) in sextets.into_iter().enumerate() {
            // A group of n bytes needs n + 1 characters.
            text.push(if index <= group.len() {
                char::from(ALPHABET[usize::from(sextet)])
            } else {
                '='
            });
        }
    }
    text
}

/// Decodes exactly what [`encode`] writes; anything else is `None`.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    decode_characters(text.bytes(), text.len())
}

/// The same for the inside of a PEM block (RFC 7468), which may be broken into lines anywhere:
/// line feeds and carriage returns are skipped, and nothing else is.
pub fn decode_lines(text: &str) -> Option<Vec<u8>> {
    let characters = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    decode_characters(characters, text.len())
}

/// `length` is an upper bound of the characters. All room is taken at once: what is decoded may be a
/// private key, and a vector that grew would leave pieces of it behind.
fn decode_characters(mut characters: impl Iterator<Item = u8>, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.div_ceil(4) * 3);
    while let Some(first) = characters.next() {
        let first = sextet(first)?;
        let second = sextet(characters.next()?)?;
        let (third, fourth) = (characters.next()?, characters.next()?);
        bytes.push(first << 2 | second >> 4);
        if third == b'=' {
            let canonical = fourth == b'=' && second & 15 == 0;
            return (canonical && characters.next().is_none()).then_some(bytes);
        }
        let third = sextet(third)?;
        bytes.push((second & 15) << 4 | third >> 2);
        if fourth == b'=' {
            let canonical = third & 3 == 0;
            return (canonical && characters.next().is_none()).then_some(bytes);
        }
        bytes.push((third & 3) << 6 | sextet(fourth)?);
    }
    Some(bytes)
}

fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4648, section 10.
    const PUBLISHED: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn the_published_vectors_hold_both_ways() {
        for (bytes, text) in PUBLISHED {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn whatever_is_not_the_one_spelling_is_refused() {
        for text in [
            "Z",
            "Zg",
            "Zg=",
            "Zm8",
            "Zm9vYg",
            "Zm9vYg=", // padding missing
            "=",
            "==",
            "====",
            "=Zg=",
            "Z===",
            "Zg===",
            "Zg====",
            "Zm8==", // too much of it
            "Zg==Zg==",
            "Zm8=Zm8=",
            "Zg==\n",
            "Zg=\u{3d}x", // something after it
            "Zh==",
            "Zi==",
            "Zo==",
            "Z/==",
            "Zm9=",
            "Zm+=",
            "Zm8/=", // trailing bits not zero
            "-_-_",
            "Zm9v-w==", // the URL alphabet
            " Zg==",
            "Zg== ",
            "Z g==",
            "Zm9v\nYmFy",
            "Zm9v\r\n",
            "\tZg==",
            "Zm9v ", // whitespace
            "Zm9*",
            "Zm9v!",
            "Zm9\0",
            "Zm9vé",
            "Ｚg==",
            "Zg\u{200b}==",
            "\u{feff}Zg==", // junk
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn of_all_last_groups_exactly_one_spelling_decodes_to_each_byte() {
        let mut seen = [0u32; 256];
        for a in ALPHABET {
            for b in ALPHABET {
                let text = format!("{}{}==", char::from(*a), char::from(*b));
                if let Some(bytes) = decode(&text) {
                    assert_eq!(bytes.len(), 1);
                    seen[usize::from(bytes[0])] += 1;
                }
            }
        }
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn lines_may_break_anywhere_and_that_is_all() {
        for text in ["Zm9v\nYmFy", "Zm9v\r\nYmFy\r\n", "\nZ\nm\n9vYmFy\n\n"] {
            assert_eq!(decode_lines(text).as_deref(), Some(&b"foobar"[..]));
        }
        assert_eq!(decode_lines("Zg=\n=\n"), Some(b"f".to_vec()));
        for text in ["Zm9v YmFy", "Zm9v\tYmFy", "Zm9v\nYmF", "Zg==\nZg==", "Zm9v\u{b}YmFy"] {
            assert_eq!(decode_lines(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn what_decodes_is_what_encode_writes(text in "[A-Za-e+/=]{0,12}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
