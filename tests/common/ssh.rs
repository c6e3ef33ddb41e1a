//! Keys as OpenSSH has them, security keys too, in software: lines of .pub files and SSHSIG signatures
//! (OpenSSH, PROTOCOL.sshsig and PROTOCOL.u2f), written here from the specifications.

use ed25519_compact::{KeyPair, Seed};
use openexec::core::base64;
use sha2::{Digest, Sha256, Sha512};

/// What is signed, and what the signature says of it; [`Default`] gives what OpenExec takes.
#[derive(Clone)]
pub struct How {
    pub version: u32,
    pub namespace: &'static str,
    pub reserved: &'static str,
    /// What it says it is over; SHA-512 it is unless this says `sha256`.
    pub hash: &'static str,
    pub flags: u8,
    pub counter: u32,
}

impl Default for How {
    fn default() -> Self {
        let (namespace, hash) = ("openexec", "sha512");
        How { version: 1, namespace, reserved: "", hash, flags: 0x01, counter: 7 }
    }
}

/// A holder of a key: of a security key, where there is an application.
#[derive(Clone)]
pub struct Signer {
    pub pair: KeyPair,
    pub application: Option<&'static str>,
}

pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

/// SHA-512 where nothing else is said.
pub fn hash(name: &str, message: &[u8]) -> Vec<u8> {
    match name {
        "sha256" => Sha256::digest(message).to_vec(),
        _ => Sha512::digest(message).to_vec(),
    }
}

/// What an SSH key signs for a message.
pub fn signed(how: &How, message: &[u8]) -> Vec<u8> {
    let parts = [
        b"SSHSIG".to_vec(),
        string(how.namespace),
        string(how.reserved),
        string(how.hash),
        string(hash(how.hash, message)),
    ];
    parts.concat()
}

/// What a security key signs for the same.
pub fn touched(application: &str, flags: u8, counter: u32, signed: &[u8]) -> Vec<u8> {
    let (application, signed) = (Sha256::digest(application), Sha256::digest(signed));
    [&application[..], &[flags], &counter.to_be_bytes(), &signed].concat()
}

impl Signer {
    pub fn ssh(seed: u8) -> Self {
        Signer { pair: KeyPair::from_seed(Seed::new([seed; 32])), application: None }
    }

    pub fn token(seed: u8) -> Self {
        Signer { application: Some("ssh:"), ..Self::ssh(seed) }
    }

    pub fn kind(&self) -> &'static str {
        match self.application {
            Some(_) => "sk-ssh-ed25519@openssh.com",
            None => "ssh-ed25519",
        }
    }

    pub fn key(&self) -> Vec<u8> {
        let application = self.application.map(string).unwrap_or_default();
        [string(self.kind()), string(&self.pair.pk[..]), application].concat()
    }

    /// As a .pub file has it.
    pub fn line(&self) -> String {
        format!("{} {} of nowhere\n", self.kind(), base64::encode(&self.key()))
    }

    /// The inner signature, with what goes with it.
    pub fn inner(&self, message: &[u8], how: &How) -> Vec<u8> {
        let signed = signed(how, message);
        let (signed, rest) = match self.application {
            None => (signed, Vec::new()),
            Some(application) => {
                let rest = [&[how.flags][..], &how.counter.to_be_bytes()].concat();
                (touched(application, how.flags, how.counter, &signed), rest)
            }
        };
        let bytes = self.pair.sk.sign(signed, None);
        [string(self.kind()), string(&bytes[..]), rest].concat()
    }

    /// The blob, of which `signature` is the base64.
    pub fn sign(&self, message: &[u8], how: &How) -> Vec<u8> {
        assembled(how, &self.key(), &self.inner(message, how))
    }
}

pub fn assembled(how: &How, key: &[u8], inner: &[u8]) -> Vec<u8> {
    let parts = [
        b"SSHSIG".to_vec(),
        how.version.to_be_bytes().to_vec(),
        string(key),
        string(how.namespace),
        string(how.reserved),
        string(how.hash),
        string(inner),
    ];
    parts.concat()
}
