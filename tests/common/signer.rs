//! An approver, for tests and benchmarks: the program itself has none. `openexec-approve` is the real one.
#![allow(dead_code, reason = "each uses a part of it")]

use ed25519_compact::{KeyPair, PublicKey, Seed};
use openexec::core::approval::artifact::{self, Artifact};
use openexec::core::base64;
use openexec::core::hash::{Hash, hex};
use openexec::core::time::Time;
use openexec::sys::pem;
use serde_json::json;

pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// Reads one PKCS#8 PEM block as `openssl` writes it: the seed is its end.
    pub fn from_pem(text: &str) -> Option<Self> {
        let der = pem::blocks(text).ok()?.first()?.der()?;
        let seed = Seed::from_slice(der.get(16..)?).ok()?;
        Some(PrivateKey(KeyPair::from_seed(seed)))
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.0.pk
    }
}

/// Signs one approval, which the service's own reader must read.
pub fn mint(
    key: &PrivateKey,
    tenant_id: &str,
    action_hash: &Hash,
    issued_at: Time,
    expires_at: Time,
    approval_id: &str,
) -> Result<Artifact, String> {
    let [hash, issued, expires] = [hex(action_hash), issued_at.to_string(), expires_at.to_string()];
    let message = [approval_id, tenant_id, &hash, &issued, &expires].concat();
    let signature = base64::encode(key.0.sk.sign(&message, None).as_ref());
    let mut artifacts = artifact::parse(&json!({
        "approval_id": approval_id, "tenant_id": tenant_id, "action_hash": hash,
        "issued_at": issued, "expires_at": expires, "signature": signature,
    }))?;
    Ok(artifacts.remove(0))
}

/// A version 4 UUID (RFC 9562, section 5.4) from 16 bytes.
pub fn approval_id(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let digits = hex(&random);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
