//! Keys that OpenSSH holds: in a file, in its agent, on a hardware token. `ssh-keygen -Y sign` signs with them.
//!
//! Owns the forms (PROTOCOL.key, PROTOCOL.sshsig, PROTOCOL.u2f of OpenSSH). What comes back is verified here before
//! anybody else sees it: an agent may hold another key than the file says.

#![allow(clippy::disallowed_types, reason = "`ssh-keygen` is the process that is started")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use openexec::core::base64;
use openexec::sys::exit::{self, Failure};
use openexec::sys::pem;
use ring::digest::{SHA256, SHA512, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::refused;

/// What the service takes signatures of (SSHSIG's namespace).
const NAMESPACE: &str = "openexec";
const PLAIN: &str = "ssh-ed25519";
const HARDWARE: &str = "sk-ssh-ed25519@openssh.com";
/// Somebody touched the token.
const PRESENT: u8 = 0x01;

/// A public key of OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// As OpenSSH has it on the wire.
    blob: Vec<u8>,
    pub point: [u8; 32],
    /// Of a hardware token: whom it signs for.
    application: Option<Vec<u8>>,
}

impl PublicKey {
    /// Reads a line of a `.pub` file.
    ///
    /// # Errors
    /// A sentence that repeats nothing of the text.
    pub fn of_line(text: &str) -> Result<Self, &'static str> {
        let mut words = text.split_ascii_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if ![PLAIN, HARDWARE].contains(&kind) {
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
        let mut wire = Wire(der.strip_prefix(b"openssh-key-v1\0").ok_or(broken)?);
        // The cipher, its derivation and that one's options.
        for _ in 0..3 {
            wire.string().ok_or(broken)?;
        }
        if wire.number() != Some(1) {
            return Err("the OpenSSH private key file must hold one key");
        }
        Self::of_blob(wire.string().ok_or(broken)?)
    }

    fn of_blob(blob: &[u8]) -> Result<Self, &'static str> {
        let mut wire = Wire(blob);
        let kind = wire.string();
        let point = wire.string().and_then(|point| point.try_into().ok());
        let application = match kind {
            Some(kind) if kind == HARDWARE.as_bytes() => wire.string().map(<[u8]>::to_vec),
            Some(kind) if kind == PLAIN.as_bytes() => None,
            _ => return Err("an OpenSSH key must be of the type ed25519 or ed25519-sk"),
        };
        let is_whole =
            wire.0.is_empty() && (kind == Some(PLAIN.as_bytes()) || application.is_some());
        match point {
            Some(point) if is_whole => Ok(PublicKey { blob: blob.to_vec(), point, application }),
            _ => Err("the OpenSSH public key is damaged"),
        }
    }

    /// Whether the SSHSIG blob is this key's signature of the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.check(message, signature).is_some()
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        let mut wire = Wire(signature.strip_prefix(b"SSHSIG")?);
        let is_version_1 = wire.number()? == 1;
        let (key, namespace) = (wire.string()?, wire.string()?);
        let (reserved, hash) = (wire.string()?, wire.string()?);
        let mut inner = Wire(wire.string()?);
        let is_ours = is_version_1 && key == self.blob && namespace == NAMESPACE.as_bytes();
        if !is_ours || !reserved.is_empty() || hash != b"sha512" || !wire.0.is_empty() {
            return None;
        }
        let mut signed = b"SSHSIG".to_vec();
        for part in [namespace, reserved, hash, digest(&SHA512, message).as_ref()] {
            put(&mut signed, part);
        }
        let kind = inner.string()?;
        let point = inner.string()?;
        let signed = match &self.application {
            None if kind == PLAIN.as_bytes() && inner.0.is_empty() => signed,
            Some(application) if kind == HARDWARE.as_bytes() && inner.0.len() == 5 => {
                if inner.0[0] & PRESENT == 0 {
                    return None;
                }
                let application = digest(&SHA256, application);
                let signed = digest(&SHA256, &signed);
                [application.as_ref(), inner.0, signed.as_ref()].concat()
            }
            _ => return None,
        };
        UnparsedPublicKey::new(&ED25519, &self.point).verify(&signed, point).ok()
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

/// The wire format of SSH (RFC 4251, section 5).
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a part is short");
    out.extend(length.to_be_bytes());
    out.extend(part);
}

/// What somebody else signed must be ours all the same.
pub fn checked(key: &PublicKey, message: &[u8], signature: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match key.verifies(message, &signature) {
        true => Ok(signature),
        false => Err(refused("the signature is not this key's signature of this message")),
    }
}
