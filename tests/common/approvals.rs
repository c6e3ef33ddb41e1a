//! Clawshield mode: keys, approvals made for the moment, and the files that the approval tests read.

use std::sync::atomic::{AtomicU64, Ordering};

use openexec::core::base64;
use openexec::core::hash::{self, Hash};
use openexec::serve::keys::from_keys_file;
use openexec::sys::clock;
use serde_json::{Value, json};

use super::signer::{PrivateKey, mint};
use super::{Scratch, Server, canonical, cli, sha256};

pub const TENANT: &str = "tenant-1";
/// The seed of the key that [`Minted`] signs with unless told otherwise.
pub const OPS: u8 = 1;

/// The settings of clawshield mode with one key, [`OPS`].
pub fn settings() -> Vec<(String, String)> {
    [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", TENANT),
        ("CLAWSHIELD_PUBLIC_KEY", &public_pem(OPS)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

pub fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Makes a store and serves it.
pub fn start(scratch: &Scratch, settings: &[(&str, &str)]) -> Server {
    let made = cli(scratch, settings, &["init"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    Server::start(scratch, settings)
}

/// A signed no to that one, by [`OPS`].
pub fn no(exec_id: &str) -> Value {
    let mut no = json!({"rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "tenant_id": TENANT,
        "exec_id": exec_id, "issued_at": clock::now().to_string(), "justification": "no"});
    let message = format!("openexec-rejection-v1\n{}", canonical(&no));
    let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([OPS; 32]));
    no["signature"] = base64::encode(&pair.sk.sign(message, None)[..]).into();
    no
}

/// An approval to be: valid as it stands, each field to be changed before it is signed.
pub struct Minted {
    pub key: u8,
    pub tenant: &'static str,
    pub action_hash: String,
    pub issued_seconds: i64,
    pub expires_seconds: i64,
    pub approval_id: String,
}

impl Minted {
    /// For this action and payload under any nonce, from now for ten minutes.
    pub fn of(action: &str, payload: &Value) -> Self {
        Self::hashed(&canonical(&json!({"action": action, "payload": payload})))
    }

    /// For the text whose hash an artifact holds.
    pub fn hashed(text: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Minted {
            key: OPS,
            tenant: TENANT,
            action_hash: sha256(text),
            issued_seconds: 0,
            expires_seconds: 600,
            approval_id: format!("3f0d6f0a-6d0c-4b7e-9a55-{number:012x}"),
        }
    }

    /// Signs it; the times are seconds from now.
    pub fn sign(&self) -> Value {
        let key: PrivateKey = private_key(self.key);
        let hash: Hash = hash::unhex(&self.action_hash).expect("a hash");
        let now = clock::now();
        let issued = now.plus_seconds(self.issued_seconds);
        let expires = now.plus_seconds(self.expires_seconds);
        mint(&key, self.tenant, &hash, issued, expires, &self.approval_id)
            .expect("well formed")
            .to_value()
    }
}

/// The private key whose seed is this byte 32 times.
pub fn private_key(seed: u8) -> PrivateKey {
    PrivateKey::from_pem(&private_pem(&[seed; 32])).expect("a private key")
}

pub fn private_pem(seed: &[u8]) -> String {
    pem("PRIVATE KEY", &[&unhex("302e020100300506032b657004220420")[..], seed].concat())
}

pub fn public_pem(seed: u8) -> String {
    point_pem(&private_key(seed).public_key()[..])
}

/// PEM of 32 bytes as a public key, whatever they are.
pub fn point_pem(point: &[u8]) -> String {
    pem("PUBLIC KEY", &[&unhex("302a300506032b6570032100")[..], point].concat())
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The sentence with which a keys file is refused.
pub fn keys_file_fault(text: &str) -> String {
    match from_keys_file(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

pub fn read_json(name: &str) -> Value {
    let path = format!("{}/tests/vectors/approval/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a vector file");
    serde_json::from_str(&text).expect("JSON")
}
