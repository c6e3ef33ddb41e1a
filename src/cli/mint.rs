//! The approver's side: a private key, and an artifact signed with it.
//!
//! Owns the only type that an approver's private key can become. It is for `openexec approve`, on the
//! machine where the key lives; a test holds that nothing on the serving path names this module.

use std::io;
use std::path::Path;

use ed25519_compact::{KeyPair, PublicKey};

use crate::core::approval::artifact::{self, Artifact, Malformed};
use crate::core::base64;
use crate::core::hash::{self, Hash};
use crate::core::json::{Object, Value};
use crate::core::time::Time;
use crate::evidence::pkcs8;

/// An approver's key. It is overwritten when dropped, as is every copy made here; what the compiler
/// keeps in registers and on the stack, and the text it was read from, are out of its reach.
pub struct PrivateKey {
    pair: KeyPair,
}

impl PrivateKey {
    /// Reads one PEM `PRIVATE KEY` block and nothing beside it.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        pkcs8::pair_of_pem(text).map(|pair| PrivateKey { pair })
    }

    /// Reads a file, or the pipe that a decrypting command writes to.
    pub fn read(path: &Path) -> io::Result<Self> {
        pkcs8::read(path).map(|pair| PrivateKey { pair })
    }

    /// What goes into the keys file, and what tells two keys apart.
    pub fn public_key(&self) -> &PublicKey {
        &self.pair.pk
    }
}

/// Signs one approval.
///
/// # Errors
///
/// [`Malformed`] when the approval would not be one that can be read: an id that is no UUID, or a
/// time beyond the year 9999. Whether it will be accepted is for the service to say.
pub fn mint(
    key: &PrivateKey,
    tenant_id: &str,
    action_hash: &Hash,
    issued_at: Time,
    expires_at: Time,
    approval_id: &str,
) -> Result<Artifact, Malformed> {
    let (issued_at, expires_at) = (issued_at.to_string(), expires_at.to_string());
    let message =
        artifact::signed_message(approval_id, tenant_id, action_hash, &issued_at, &expires_at);
    // Deterministic, as RFC 8032 has it: an approver's machine may have no good random numbers.
    let signature = base64::encode(key.pair.sk.sign(&message, None).as_ref());
    let fields = [
        ("approval_id", approval_id.to_owned()),
        ("tenant_id", tenant_id.to_owned()),
        ("action_hash", hash::hex(action_hash)),
        ("issued_at", issued_at),
        ("expires_at", expires_at),
        ("signature", signature),
    ];
    let fields: Object =
        fields.map(|(name, text)| (name.to_owned(), Value::String(text))).into_iter().collect();
    // Read back by the reader of the service, so that nothing is signed that it would not read.
    let mut artifacts = artifact::parse(&Value::Object(fields))?;
    Ok(artifacts.remove(0))
}

/// A version 4 UUID (RFC 9562, section 5.4) from 16 random bytes.
pub fn approval_id(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let digits = hash::hex(&random);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
