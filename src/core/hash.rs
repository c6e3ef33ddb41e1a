//! SHA-256 and SHA-512 (FIPS 180-4), and the lower-case hexadecimal form of a SHA-256.

use sha2::{Digest, Sha256, Sha512};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA-512, which SSH signatures are over.
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    Sha512::digest(bytes).into()
}

/// Lower-case hexadecimal, two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    write_hex(bytes, &mut text);
    text
}

/// The same, at the end of a text.
pub fn write_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads exactly 64 lower-case hexadecimal digits.
pub fn unhex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0u8; 32];
    let mut all = 0;
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        *byte = high << 4 | low;
        all |= high | low;
    }
    (all < 16).then_some(hash)
}

/// The value of each digit; what is none is no value of four bits. Opening reads millions.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// Whether the text is 16 bytes in lower-case hexadecimal, as what is named at random is.
pub fn is_random(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_value_in_fips_180_4() {
        let hash = sha256(&[b"a", b"", b"bc"]);
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&hash), expected);
        assert_eq!(unhex(expected), Some(hash));
    }

    #[test]
    fn only_64_lower_case_digits_are_a_hash() {
        let good = "a".repeat(64);
        assert!(unhex(&good).is_some());
        for bad in ["", "a", &good[1..], &"A".repeat(64), &"g".repeat(64), &"a".repeat(66)] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
        assert_eq!(unhex(&format!("{}é", "a".repeat(62))), None);
    }
}
