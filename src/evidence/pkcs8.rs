//! Private keys in files: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
//!
//! Shared by the two kinds of private key there are, each with a type of its own around what is read
//! here: the approver's (`approval::mint`, for `openexec approve` alone) and the log's
//! (`witness::key`, which can sign checkpoints and nothing else). A test holds that nobody else names
//! this module. What is read is overwritten as soon as the key is made of it; what the compiler keeps
//! in registers and on the stack is out of its reach.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ed25519_compact::{KeyPair, Seed};

use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::core::pem;

/// PKCS#8 (RFC 5958) of an Ed25519 private key (RFC 8410, section 7) up to the 32 bytes of the seed.
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why a text is no private key: a sentence that repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFault(&'static str);

/// Why a file gave no private key.
#[derive(Debug)]
pub enum Unreadable {
    Io(io::Error),
    /// A sentence with what to do.
    Refused(String),
}

/// Reads a file, or a pipe, of one key.
pub fn read(path: &Path) -> Result<KeyPair, Unreadable> {
    let refused = |why: String| Err(Unreadable::Refused(why));
    let mut file = File::open(path).map_err(Unreadable::Io)?;
    let metadata = file.metadata().map_err(Unreadable::Io)?;
    if metadata.mode() & 0o007 != 0 {
        return refused(format!("it is open to others; run chmod o= {}", path.display()));
    }
    // Whole from the start: growing would leave copies of the key behind.
    let mut text = vec![0; SMALL_FILE_BYTES_MAX as usize];
    let mut filled = 0;
    let read = loop {
        match file.read(&mut text[filled..]) {
            Ok(0) => break Ok(()),
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let pair = match std::str::from_utf8(&text[..filled]) {
        _ if filled == text.len() => refused("it is too large for a key".to_owned()),
        Ok(text) => pair_of_pem(text).map_err(|fault| Unreadable::Refused(fault.to_string())),
        Err(_) => refused("it is no PEM file".to_owned()),
    };
    wipe(&mut text);
    read.map_err(Unreadable::Io)?;
    pair
}

/// Reads one PEM `PRIVATE KEY` block and nothing beside it.
pub fn pair_of_pem(text: &str) -> Result<KeyPair, KeyFault> {
    let blocks = pem::blocks(text).map_err(KeyFault)?;
    let [block] = &blocks[..] else {
        return Err(KeyFault("there is more than one PEM block in it; give one key"));
    };
    match block.label {
        "PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => {
            return Err(KeyFault(
                "the key is encrypted; decrypt it into a pipe with `openssl pkey -in KEY.pem`",
            ));
        }
        _ => {
            return Err(KeyFault(
                "the PEM block is no PRIVATE KEY; make one with \
                 `openssl genpkey -algorithm ed25519`",
            ));
        }
    }
    let mut der = block.der().ok_or(KeyFault("the PRIVATE KEY block is not strict base64"))?;
    let seed = der.strip_prefix(&PREFIX).and_then(|seed| Seed::from_slice(seed).ok());
    wipe(&mut der);
    let mut seed = seed.ok_or(KeyFault(
        "the PRIVATE KEY block is no Ed25519 key; make one with \
         `openssl genpkey -algorithm ed25519`",
    ))?;
    let pair = KeyPair::try_from_seed(seed);
    seed.wipe_mut();
    pair.map_err(|_| KeyFault("the private key is all zeros; make another"))
}

/// Overwrites with zeros; `black_box` keeps the compiler from dropping stores nobody reads.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
