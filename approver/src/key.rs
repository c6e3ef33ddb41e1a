//! The approver's key, in whichever form they have it.
//!
//! Owns the only type that an approver's private key becomes. What is read of a file is overwritten once the key is
//! made of it; what the compiler keeps in registers and on the stack is out of reach.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use openexec::core::hash::{hex, sha256};
use openexec::core::limits::SMALL_FILE_BYTES_MAX;
use openexec::sys::exit::{self, Failure};
use openexec::sys::pem;
use pkcs8::EncryptedPrivateKeyInfoRef;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::{ssh, terminal};

/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4) up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The public key of the private key that is all zeros: what a file that was wiped holds.
const OF_ZEROS: [u8; 32] = [
    0x3b, 0x6a, 0x27, 0xbc, 0xce, 0xb6, 0xa4, 0x2d, 0x62, 0xa3, 0xa8, 0xd0, 0x2a, 0x6f, 0x0d, 0x73,
    0x65, 0x32, 0x15, 0x77, 0x1d, 0xe2, 0x43, 0xa6, 0x3a, 0xc0, 0x48, 0xa1, 0x8b, 0x59, 0xda, 0x29,
];

pub enum Key {
    /// A PKCS#8 private key, read and, where it was encrypted, decrypted. It signs the message as it is.
    Private(Ed25519KeyPair),
    /// A key of OpenSSH, which `ssh-keygen` signs with, or one of its public keys. It signs by SSHSIG.
    Ssh(PathBuf, ssh::PublicKey),
    /// A PEM public key: somebody else signs.
    Public([u8; 32]),
}

impl Key {
    /// Reads a file, or the pipe that a decrypting command writes to; asks for a passphrase where one is needed.
    ///
    /// # Errors
    /// 74 where it cannot be read; 78 where it is no key, or is open to others: a sentence that repeats nothing of
    /// what was read.
    pub fn read(path: &str) -> Result<Self, Failure> {
        let failed = |error| Failure::io(format!("reading the key {path}"), &error);
        let refused =
            |why: &str| Failure::new(exit::CONFIGURATION, format!("the key {path}: {why}"));
        let file = File::open(path).map_err(failed)?;
        let is_open = file.metadata().map_err(failed)?.mode() & 0o007 != 0;
        // Room for the whole from the start, and more: growing would leave copies of the key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * SMALL_FILE_BYTES_MAX as usize));
        file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 == SMALL_FILE_BYTES_MAX {
            return Err(refused("it is too large for a key"));
        }
        let text = std::str::from_utf8(&text).map_err(|_| refused("it is no text"))?;
        let key = Self::of_text(text, Path::new(path), || {
            terminal::passphrase("Passphrase of the key: ")
        });
        match key {
            Ok(Ok(key)) if is_open && matches!(key, Key::Private(_)) => {
                Err(refused(&format!("it is open to others; run chmod o= {path}")))
            }
            Ok(key) => key.map_err(refused),
            Err(failure) => Err(failure),
        }
    }

    fn of_text(
        text: &str,
        path: &Path,
        passphrase: impl Fn() -> Result<Zeroizing<Vec<u8>>, Failure>,
    ) -> Result<Result<Self, &'static str>, Failure> {
        if !text.trim_start().starts_with("-----BEGIN ") && text.contains("ssh-") {
            return Ok(ssh::PublicKey::of_line(text).map(|key| Key::Ssh(path.to_owned(), key)));
        }
        let blocks = match pem::blocks(text) {
            Ok(blocks) => blocks,
            Err(why) => return Ok(Err(why)),
        };
        let [block] = &blocks[..] else {
            return Ok(Err("there is more than one PEM block in it; give one key"));
        };
        if block.label == "OPENSSH PRIVATE KEY" {
            return Ok(ssh::PublicKey::of_private(text).map(|key| Key::Ssh(path.to_owned(), key)));
        }
        let Some(der) = block.der().map(Zeroizing::new) else {
            return Ok(Err("the PEM block is not strict base64"));
        };
        Ok(match block.label {
            "PRIVATE KEY" => private(&der),
            "ENCRYPTED PRIVATE KEY" => match EncryptedPrivateKeyInfoRef::try_from(&der[..]) {
                Ok(encrypted) => match encrypted.decrypt(&*passphrase()?) {
                    Ok(document) => private(document.as_bytes()),
                    Err(_) => {
                        Err("it does not open: the passphrase is wrong, or its encryption is none \
                                   of PBKDF2 or scrypt with AES")
                    }
                },
                Err(_) => Err("the encrypted key is damaged"),
            },
            "PUBLIC KEY" => der
                .strip_prefix(&SPKI_PREFIX)
                .and_then(|key| key.try_into().ok())
                .map(Key::Public)
                .ok_or("the PUBLIC KEY block is no Ed25519 key"),
            _ => Err(
                "the PEM block is no PRIVATE KEY; make one with `openssl genpkey -algorithm ed25519`",
            ),
        })
    }

    /// What goes into the keys file, and what tells two keys apart.
    fn point(&self) -> &[u8] {
        match self {
            Key::Private(pair) => pair.public_key().as_ref(),
            Key::Ssh(_, key) => key.point(),
            Key::Public(key) => key,
        }
    }

    /// As the service shows it: the first 16 hexadecimal digits of the SHA-256 of the 32 bytes.
    pub fn fingerprint(&self) -> String {
        let mut digits = hex(&sha256(&[self.point()]));
        digits.truncate(16);
        digits
    }

    /// Whether it can sign, or only says whose signature is meant.
    pub fn signs(&self) -> bool {
        !matches!(self, Key::Public(_))
    }

    /// # Errors
    /// 78 where it is a public key, or OpenSSH does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Key::Private(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Key::Ssh(path, key) => ssh::sign(path, key, message),
            Key::Public(_) => Err(Failure::new(
                exit::CONFIGURATION,
                "--key is a public key, which cannot sign; give the private key, or --print-message",
            )),
        }
    }

    /// A signature that was made elsewhere, once it is this key's: 64 bytes, their base64, or an SSH signature.
    ///
    /// # Errors
    /// 65 where it is not.
    pub fn take(&self, message: &[u8], given: &[u8]) -> Result<Vec<u8>, Failure> {
        let wrong = || crate::refused("the signature is not this key's signature of this message");
        if let Key::Ssh(_, key) = self {
            return ssh::checked(key, message, ssh::of_armor(given).ok_or_else(wrong)?);
        }
        let signature = match given.len() {
            64 => Some(given.to_vec()),
            _ => std::str::from_utf8(given)
                .ok()
                .and_then(|text| openexec::core::base64::decode(text.trim_ascii())),
        };
        let signature = signature.ok_or_else(wrong)?;
        UnparsedPublicKey::new(&ED25519, self.point())
            .verify(message, &signature)
            .map_err(|_| wrong())?;
        Ok(signature)
    }
}

fn private(der: &[u8]) -> Result<Key, &'static str> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
    let pair = pair.map_err(|_| {
        "the PRIVATE KEY block is no Ed25519 key; make one with \
                                 `openssl genpkey -algorithm ed25519`"
    })?;
    match pair.public_key().as_ref() == OF_ZEROS {
        true => Err("the private key is all zeros; make another"),
        false => Ok(Key::Private(pair)),
    }
}
