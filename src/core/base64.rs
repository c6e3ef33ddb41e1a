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
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*group.get(at).unwrap_or(&0)));
        for index in 0..4 {
            // A group of n bytes needs n + 1 characters.
            let sextet = (index <= group.len()).then(|| bits >> (18 - 6 * index) & 63);
            text.push(sextet.map_or('=', |sextet| char::from(ALPHABET[sextet])));
        }
    }
    text
}

/// Decodes exactly what [`encode`] writes; anything else is `None`.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    decode_characters(text.bytes(), text.len())
}

/// The same of characters. `length` is an upper bound of them. All room is taken at once: what is decoded may be a
/// private key, and a vector that grew would leave pieces of it behind.
pub fn decode_characters(characters: impl Iterator<Item = u8>, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.div_ceil(4) * 3);
    let (mut bits, mut count, mut padding) = (0u32, 0, 0);
    for character in characters {
        let sextet = match character {
            b'=' if padding < 2 => {
                padding += 1;
                0
            }
            // Only padding follows padding.
            _ if padding > 0 => return None,
            character => sextet(character)?,
        };
        (bits, count) = (bits << 6 | u32::from(sextet), count + 1);
        if count % 4 == 0 {
            let [_, group @ ..] = bits.to_be_bytes();
            let (data, left_over) = group.split_at(3 - padding);
            bytes.extend(data);
            if left_over.iter().any(|byte| *byte != 0) {
                return None;
            }
            bits = 0;
        }
    }
    (count % 4 == 0).then_some(bytes)
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
