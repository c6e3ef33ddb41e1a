//! Clawshield mode: keys, and artifacts minted for the moment.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use openexec::cli::mint::{PrivateKey, mint};
use openexec::core::hash::{Hash, unhex};
use openexec::core::time::Time;
use serde_json::{Value, json};

use super::approval_support::{private_key, public_pem};
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

/// A file that nobody else can write.
pub fn private_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("changed");
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
        let hash: Hash = unhex(&self.action_hash).expect("a hash");
        let now = Time::now();
        let issued = now.plus_seconds(self.issued_seconds);
        let expires = now.plus_seconds(self.expires_seconds);
        mint(&key, self.tenant, &hash, issued, expires, &self.approval_id)
            .expect("well formed")
            .to_value()
    }
}
