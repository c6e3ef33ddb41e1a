//! Keys that OpenSSH holds: in a file, in its agent, on a hardware token. `ssh-keygen -Y sign` signs with them.
//!
//! Owns the form of a key's file (PROTOCOL.key of OpenSSH); keys and signatures are read and judged by what the service
//! does it with. What comes back is verified here before anybody else sees it: an agent may hold another key than the
//! file says.

#![allow(clippy::disallowed_types, reason = "`ssh-keygen` is the process that is started")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use openexec::core::approval::public::{Public, SSH, TOKEN};
use openexec::core::approval::signature::Signature;
use openexec::core::base64;
use openexec::core::hash::hex;
use openexec::core::ssh::Reader;
use openexec::sys::exit::{self, Failure};
use openexec::sys::pem;
use serde_json::json;

use crate::refused;

/// What the service takes signatures of (SSHSIG's namespace).
const NAMESPACE: &str = "openexec";

/// A public key of OpenSSH, as the service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    public: Public,
}

impl PublicKey {
    /// Reads a line of a `.pub` file.
    ///
    /// # Errors
    /// A sentence that repeats nothing of the text.
    pub fn of_line(text: &str) -> Result<Self, &'static str> {
        let mut words = text.split_ascii_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if ![SSH, TOKEN].contains(&kind) {
            return Err("an OpenSSH key must be of the type ed25519 or ed25519-sk");
        }
        let blob = base64::decode(key).ok_or("the OpenSSH public key is no base64")?;
        Self::of_blob(&blob)
    }

    /// Reads the public half of an OpenSSH private key file, which is in it as it is.
    ///
    /// # Errors
    /// As above.
    pub fn of_private(text: &str) -> Result<Self, &'static str> {
        let broken = "the OpenSSH private key is damaged";
        let blocks = pem::blocks(text)?;
        let der = blocks.first().and_then(pem::Block::der).ok_or(broken)?;
        let der = zeroize::Zeroizing::new(der);
        let mut wire = Reader(der.strip_prefix(b"openssh-key-v1\0").ok_or(broken)?);
        // The cipher, its derivation and that one's options.
        for _ in 0..3 {
            wire.string().ok_or(broken)?;
        }
        if wire.array() != Some([0, 0, 0, 1]) {
            return Err("the OpenSSH private key file must hold one key");
        }
        Self::of_blob(wire.string().ok_or(broken)?)
    }

    fn of_blob(blob: &[u8]) -> Result<Self, &'static str> {
        let mut wire = Reader(blob);
        let kind = wire.string();
        let kind = [SSH, TOKEN].into_iter().find(|known| kind == Some(known.as_bytes()));
        let kind = kind.ok_or("an OpenSSH key must be of the type ed25519 or ed25519-sk")?;
        let point = wire.string().map(hex);
        let application = match kind {
            TOKEN => wire.string().and_then(|text| std::str::from_utf8(text).ok()),
            _ => None,
        };
        let key = json!({"type": kind, "public_key": point, "application": application});
        match Public::read(&key) {
            Ok(public) if wire.is_empty() => Ok(PublicKey { public }),
            _ => Err("the OpenSSH public key is damaged"),
        }
    }

    /// The 32 bytes of the key.
    pub fn point(&self) -> &[u8; 32] {
        &self.public.key
    }

    /// Whether the SSHSIG blob is this key's signature of the message: as the service judges it.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::read(signature).is_ok_and(|signature| signature.is_by(&self.public, message))
    }
}

/// Has `ssh-keygen` sign: it asks for the passphrase, the agent, or a touch of the token by itself.
///
/// # Errors
/// 74 where it cannot be run, 78 where it does not sign.
pub fn sign(path: &Path, key: &PublicKey, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let started = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let io = |error| Failure::io("running ssh-keygen (of OpenSSH 8.2 or later)".to_owned(), &error);
    let mut child = started.map_err(io)?;
    if let Some(mut input) = child.stdin.take() {
        // One that ended without reading says why by itself.
        let _ = input.write_all(message);
    }
    let output = child.wait_with_output().map_err(io)?;
    let failed = |why| Failure::new(exit::CONFIGURATION, why);
    if !output.status.success() {
        return Err(failed("ssh-keygen did not sign; nothing was signed"));
    }
    let signature =
        of_armor(&output.stdout).ok_or_else(|| failed("ssh-keygen wrote no signature"))?;
    match key.verifies(message, &signature) {
        true => Ok(signature),
        false => {
            Err(failed("ssh-keygen signed with another key, or something else; it is not used"))
        }
    }
}

/// The blob of an armored SSH signature; `None` where it is none.
pub fn of_armor(text: &[u8]) -> Option<Vec<u8>> {
    match &pem::blocks(std::str::from_utf8(text).ok()?).ok()?[..] {
        [block] if block.label == "SSH SIGNATURE" => block.der(),
        _ => None,
    }
}

/// What somebody else signed must be ours all the same.
pub fn checked(key: &PublicKey, message: &[u8], signature: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match key.verifies(message, &signature) {
        true => Ok(signature),
        false => Err(refused("the signature is not this key's signature of this message")),
    }
}
