//! Private keys in files: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
//!
//! The one kind of private key that there is here is the log's (`evidence::key`), which can sign checkpoints
//! and nothing else. A test holds that nobody else names this module. What is read is overwritten as soon as
//! the key is made of it; what the compiler keeps in registers and on the stack is out of its reach.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ed25519_compact::{KeyPair, Seed};

use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::sys::pem;

/// PKCS#8 (RFC 5958) of an Ed25519 private key (RFC 8410, section 7) up to the 32 bytes of the seed.
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Reads a file, or a pipe, of one key.
///
/// # Errors
/// Of the kind `InvalidData` where it is no key, or one open to others: a sentence with what to do.
pub fn read(path: &Path) -> io::Result<KeyPair> {
    let refused = |why: &str| io::Error::new(ErrorKind::InvalidData, why);
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o007 != 0 {
        return Err(refused(&format!("it is open to others; run chmod o= {}", path.display())));
    }
    // Room for the whole from the start, and more: growing would leave copies of the key behind.
    let mut text = Vec::with_capacity(2 * SMALL_FILE_BYTES_MAX as usize);
    let read = file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut text);
    let pair = match std::str::from_utf8(&text) {
        _ if text.len() as u64 == SMALL_FILE_BYTES_MAX => Err("it is too large for a key"),
        Ok(text) => pair_of_pem(text),
        Err(_) => Err("it is no PEM file"),
    };
    wipe(&mut text);
    read.and(pair.map_err(refused))
}

/// Reads one PEM `PRIVATE KEY` block and nothing beside it.
///
/// # Errors
/// A sentence that repeats nothing of the text.
fn pair_of_pem(text: &str) -> Result<KeyPair, &'static str> {
    let blocks = pem::blocks(text)?;
    let [block] = &blocks[..] else {
        return Err("there is more than one PEM block in it; give one key");
    };
    if block.label == "ENCRYPTED PRIVATE KEY" {
        return Err("the key is encrypted; decrypt it into a pipe with `openssl pkey -in KEY.pem`");
    }
    if block.label != "PRIVATE KEY" {
        return Err("the PEM block is no PRIVATE KEY; make one with \
                    `openssl genpkey -algorithm ed25519`");
    }
    let mut der = block.der().ok_or("the PRIVATE KEY block is not strict base64")?;
    let seed = der.strip_prefix(&PREFIX).and_then(|seed| Seed::from_slice(seed).ok());
    wipe(&mut der);
    let mut seed = seed.ok_or(
        "the PRIVATE KEY block is no Ed25519 key; make one with \
         `openssl genpkey -algorithm ed25519`",
    )?;
    let pair = KeyPair::try_from_seed(seed);
    seed.wipe_mut();
    pair.map_err(|_| "the private key is all zeros; make another")
}

/// Overwrites with zeros; `black_box` keeps the compiler from dropping stores nobody reads.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::base64;
    use crate::core::hash::hex;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::encode(der))
    }

    fn private(prefix: &[u8], seed: &[u8]) -> String {
        pem("PRIVATE KEY", &[prefix, seed].concat())
    }

    #[test]
    fn a_key_is_read_as_openssl_writes_it() {
        let pair = pair_of_pem(&private(&PREFIX, &[1; 32])).expect("a key");
        let expected = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        assert_eq!(hex(&pair.pk[..]), expected);
    }

    #[test]
    fn whatever_is_no_ed25519_private_key_is_refused() {
        let good = private(&PREFIX, &[1; 32]);
        let changed = |at: usize, to: u8| {
            let mut prefix = PREFIX;
            prefix[at] = to;
            private(&prefix, &[1; 32])
        };
        for (text, sentence) in [
            (String::new(), "no PEM block"),
            (pem("PUBLIC KEY", &[1; 44]), "no PRIVATE KEY"),
            (format!("{good}{}", pem("PUBLIC KEY", &[1; 44])), "more than one"),
            (format!("x\n{good}"), "outside"),
            (good.replace('\n', "\\n"), "line break"),
            (good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "encrypted"),
            (good.replace("PRIVATE KEY", "RSA PRIVATE KEY"), "no PRIVATE KEY"),
            (good.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "no PRIVATE KEY"),
            (good.replacen("MC4C", "MC4 C", 1), "base64"),
            (private(&PREFIX, &[1; 31]), "no Ed25519"),
            (private(&PREFIX, &[1; 33]), "no Ed25519"),
            (changed(11, 0x6e), "no Ed25519"), // X25519
            (changed(4, 1), "no Ed25519"),
            (private(&[], &[1; 32]), "no Ed25519"),
            (private(&PREFIX, &[0; 32]), "all zeros"),
        ] {
            let fault = pair_of_pem(&text).expect_err("refused");
            assert!(fault.contains(sentence), "{text:?}: {fault}");
        }
    }
}
