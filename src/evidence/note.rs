//! Signed notes (c2sp.org/signed-note), with Ed25519 keys: a log's own, signature type 0x01, and those of witnesses, 0x04.
//!
//! A note is a text, an empty line, and signature lines `— NAME BASE64(key id || signature)`. Lines
//! of unknown keys are passed over, as the format asks: that is how witnesses add theirs. Every line
//! of the known key must verify.

use std::fmt;

use ed25519_compact::{PublicKey, Signature};

use crate::core::base64;
use crate::core::hash::{hex, sha256};
use crate::sys::limits::LOG_ORIGIN_BYTES_MAX;

/// Ed25519 as the format itself defines it.
const ED25519: u8 = 0x01;
/// A cosignature with its time (c2sp.org/tlog-cosignature).
pub const COSIGNATURE: u8 = 0x04;
/// What every signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The public half of a note's key: `NAME+ID+BASE64(type || key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: u8,
    id: [u8; 4],
    key: PublicKey,
}

/// Why a note says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteFault {
    /// What of its form is wrong.
    Malformed(&'static str),
    /// No signature is by the key.
    NotSigned,
    /// One that says it is does not verify.
    BadSignature,
}

/// Whether a name can stand in a signature line. Bounded, and without what a terminal or a log could
/// take for something else.
pub fn is_key_name(name: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    (1..=LOG_ORIGIN_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain)
}

impl VerifierKey {
    /// A log's key; `None` where the name cannot stand in a signature line.
    pub fn new(name: &str, key: PublicKey) -> Option<Self> {
        Self::of(ED25519, name, key)
    }

    fn of(kind: u8, name: &str, key: PublicKey) -> Option<Self> {
        if !is_key_name(name) {
            return None;
        }
        let id = sha256(&[name.as_bytes(), b"\n", &[kind], &key[..]]);
        Some(VerifierKey { name: name.to_owned(), kind, id: [id[0], id[1], id[2], id[3]], key })
    }

    /// Reads what [`VerifierKey`] writes. The id must be the hash of the rest, and a weak key, under
    /// which anyone could make a signature, is refused.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_as(ED25519, text)
    }

    /// The same, of a key of that signature type.
    pub fn parse_as(kind: u8, text: &str) -> Option<Self> {
        // Base64 may hold a plus, a name and an id may not.
        let mut parts = text.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = base64::decode(key)?;
        let key = PublicKey::from_slice(key.strip_prefix(&[kind])?).ok()?;
        key.validate().ok()?;
        Self::of(kind, name, key).filter(|known| hex(&known.id) == id)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// One signature line.
    pub fn line(&self, signature: &Signature) -> String {
        let bytes = [&self.id[..], signature.as_ref()].concat();
        format!("{DASH}{} {}\n", self.name, base64::encode(&bytes))
    }

    /// The text of a note that this key has signed.
    ///
    /// # Errors
    /// Nothing of the note may be believed then.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteFault> {
        let (text, lines) = split(note)?;
        let mut is_signed = false;
        for line in lines.lines() {
            let Some(signature) = self.signature(line)? else { continue };
            self.verify(text, &signature)?;
            is_signed = true;
        }
        if is_signed { Ok(text) } else { Err(NoteFault::NotSigned) }
    }

    /// What this key has signed by a line of a note; `None` where the line is another key's.
    pub fn signature(&self, line: &str) -> Result<Option<Vec<u8>>, NoteFault> {
        let (name, bytes) = signature(line)?;
        let is_own = name == self.name && bytes[..4] == self.id;
        Ok(is_own.then(|| bytes[4..].to_vec()))
    }

    pub(super) fn verify(&self, text: &str, signature: &[u8]) -> Result<(), NoteFault> {
        let signature = Signature::from_slice(signature).map_err(|_| NoteFault::BadSignature)?;
        self.key.verify(text, &signature).map_err(|_| NoteFault::BadSignature)
    }
}

/// A note's text and its signature lines, which nobody has verified yet.
pub fn split(note: &str) -> Result<(&str, &str), NoteFault> {
    let malformed = |why| Err(NoteFault::Malformed(why));
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return malformed("it has a control character");
    }
    let Some(end) = note.rfind("\n\n") else {
        return malformed("it has no empty line before signatures");
    };
    let (text, lines) = (&note[..=end], &note[end + 2..]);
    if lines.is_empty() || !lines.ends_with('\n') {
        return malformed("it does not end with a signature line");
    }
    for line in lines.lines() {
        signature(line)?;
    }
    Ok((text, lines))
}

/// The key's name of one line; its id and signature.
fn signature(line: &str) -> Result<(&str, Vec<u8>), NoteFault> {
    let malformed = NoteFault::Malformed("a signature line is not formed as one");
    let parts = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' '));
    let (name, bytes) = parts.filter(|(name, _)| is_key_name(name)).ok_or(malformed)?;
    let bytes = base64::decode(bytes).filter(|bytes| bytes.len() > 4).ok_or(malformed)?;
    Ok((name, bytes))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = base64::encode(&[&[self.kind][..], &self.key[..]].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id))
    }
}

impl fmt::Display for NoteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "it is no signed note: {why}"),
            Self::NotSigned => f.write_str("it is not signed by this key"),
            Self::BadSignature => f.write_str("its signature by this key is wrong"),
        }
    }
}
