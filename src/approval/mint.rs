//! The approver's side: a private key, and an artifact signed with it.
//!
//! Owns the only code that reads an approver's private key. It is for `openexec approve`, on the
//! machine where the key lives; a test holds that nothing on the serving path names this module.

use std::fmt;
use std::hint::black_box;

use ed25519_compact::{KeyPair, PublicKey, Seed};

use super::artifact::{self, Artifact, Malformed};
use super::pem;
use crate::base64;
use crate::hash::{self, Hash};
use crate::json::{Object, Value};
use crate::time::Time;

/// PKCS#8 (RFC 5958) of an Ed25519 private key (RFC 8410, section 7) up to the 32 bytes of the seed,
/// as `openssl genpkey -algorithm ed25519` writes it.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// An approver's key. It is overwritten when dropped, as is every copy made here; what the compiler
/// keeps in registers and on the stack, and the text it was read from, are out of its reach.
pub struct PrivateKey {
    pair: KeyPair,
}

/// Why a private key could not be read: a sentence that repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivateKeyError(&'static str);

impl PrivateKey {
    /// Reads one PEM `PRIVATE KEY` block and nothing beside it.
    pub fn from_pem(text: &str) -> Result<Self, PrivateKeyError> {
        let blocks = pem::blocks(text).map_err(PrivateKeyError)?;
        let [block] = &blocks[..] else {
            return Err(PrivateKeyError("there is more than one PEM block in it; give one key"));
        };
        match block.label {
            "PRIVATE KEY" => {}
            "ENCRYPTED PRIVATE KEY" => {
                return Err(PrivateKeyError(
                    "the key is encrypted; decrypt it into a pipe with `openssl pkey -in KEY.pem`",
                ));
            }
            _ => {
                return Err(PrivateKeyError(
                    "the PEM block is no PRIVATE KEY; make one with \
                     `openssl genpkey -algorithm ed25519`",
                ));
            }
        }
        let mut der =
            block.der().ok_or(PrivateKeyError("the PRIVATE KEY block is not strict base64"))?;
        let seed = der.strip_prefix(&PKCS8_PREFIX).and_then(|seed| Seed::from_slice(seed).ok());
        wipe(&mut der);
        let mut seed = seed.ok_or(PrivateKeyError(
            "the PRIVATE KEY block is no Ed25519 key; make one with \
             `openssl genpkey -algorithm ed25519`",
        ))?;
        let pair = KeyPair::try_from_seed(seed);
        seed.wipe_mut();
        let pair =
            pair.map_err(|_| PrivateKeyError("the private key is all zeros; make another"))?;
        Ok(PrivateKey { pair })
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

/// Overwrites with zeros; `black_box` keeps the compiler from dropping stores nobody reads.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

impl fmt::Display for PrivateKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for PrivateKeyError {}
