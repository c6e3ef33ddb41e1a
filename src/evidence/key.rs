//! The log's own key: it says "this is my log", and can approve nothing.
//!
//! Its one operation signs a checkpoint. The message of an approval is no checkpoint's text: that has
//! line breaks, which no field of an approval may hold.

use std::path::Path;

use ed25519_compact::KeyPair;

use super::checkpoint::Checkpoint;
use super::note::VerifierKey;
use crate::core::tree::Head;
use crate::evidence::pkcs8;

pub struct LogKey {
    pair: KeyPair,
    verifier: VerifierKey,
}

impl LogKey {
    /// Reads the file that `OPENEXEC_LOG_KEY_FILE` names; `origin` is the log's name.
    ///
    /// # Errors
    /// A sentence with what to do, which repeats nothing of the key.
    pub fn read(path: &Path, origin: &str) -> Result<Self, String> {
        let shown = path.display();
        let pair = pkcs8::read(path).map_err(|error| format!("{shown}: {error}"))?;
        let verifier = VerifierKey::new(origin, pair.pk).ok_or("the log's name is no key name")?;
        Ok(LogKey { pair, verifier })
    }

    /// What others check by.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A whole note: the checkpoint of this head and its signature. The same head gives the same
    /// bytes (RFC 8032 is deterministic), so that to sign one again says nothing new.
    pub fn sign(&self, head: Head) -> String {
        let text = Checkpoint { origin: self.verifier.name().to_owned(), head }.text();
        let signature = self.pair.sk.sign(&text, None);
        format!("{text}\n{}", self.verifier.line(&signature))
    }
}
