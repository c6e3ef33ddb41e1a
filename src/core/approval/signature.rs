//! A signature, in each of its forms, and which key made it.
//!
//! An OpenSSH key signs by SSHSIG (OpenSSH, PROTOCOL.sshsig; security keys: PROTOCOL.u2f):
//!
//! ```text
//! "SSHSIG" version=1 string(key) string("openexec") string("") string("sha512") string(signature)
//! key:        string(type) string(32 bytes), and of a security key string(application)
//! signature:  string(type) string(64 bytes), and of a security key flags (1 byte) counter (4)
//! signed is:  "SSHSIG" string("openexec") string("") string("sha512") string(SHA-512(message)) = S
//!             and by a security key SHA-256(application) flags counter SHA-256(S)
//! ```
//!
//! Everything but the 64 bytes, the flags and the counter is one fixed text for one key: there is no
//! second spelling of a signature.

use std::borrow::Cow;

use ed25519_compact::Signature as Ed25519;

use super::public::{Public, SSH, Scheme, TOKEN};
use crate::core::hash::{sha256, sha512};
use crate::core::ssh::{Reader, string};

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: [u8; 4] = [0, 0, 0, 1];
/// What a signature is for: one that was made for files or mail is no approval.
const NAMESPACE: &[u8] = b"openexec";
const HASH: &[u8] = b"sha512";

/// Flags of a security key: its holder touched it; and was verified too, by a PIN for one.
const TOUCHED: u8 = 0x01;
const TOUCHED_AND_VERIFIED: u8 = 0x05;

/// An Ed25519 signature (RFC 8032): R and S, 32 bytes each.
type Bytes = [u8; 64];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Over the message itself.
    Raw(Bytes),
    /// What `ssh-keygen -Y sign -n openexec` makes.
    Ssh {
        /// The key that it says it is of, as SSH encodes it.
        key: Vec<u8>,
        bytes: Bytes,
        /// Of a security key: flags and counter.
        touch: Option<[u8; 5]>,
    },
}

impl Signature {
    /// # Errors
    /// What is wrong with the form, to stand behind "the signature".
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        if let Ok(bytes) = bytes.try_into() {
            return Ok(Signature::Raw(bytes));
        }
        let cut = "is an SSH signature that is cut short";
        let mut blob = Reader(bytes);
        if blob.take(MAGIC.len()) != Some(MAGIC) {
            return Err("is neither 64 bytes nor an SSH signature");
        }
        if blob.array().ok_or(cut)? != VERSION {
            return Err("is an SSH signature of another version than 1");
        }
        let key = blob.string().ok_or(cut)?;
        let kind = Reader(key).string().ok_or(cut)?;
        if ![SSH, TOKEN].iter().any(|known| known.as_bytes() == kind) {
            return Err(
                "is by an SSH key of another type than ssh-ed25519 and sk-ssh-ed25519@openssh.com",
            );
        }
        for (expected, why) in [
            (NAMESPACE, "has another namespace; sign with `ssh-keygen -Y sign -n openexec`"),
            (b"", "has something in its reserved part"),
            (HASH, "is over another hash than sha512"),
        ] {
            if blob.string().ok_or(cut)? != expected {
                return Err(why);
            }
        }
        let mut inner = Reader(blob.string().ok_or(cut)?);
        if inner.string().ok_or(cut)? != kind {
            return Err("is of another type than its key");
        }
        let bytes = inner.string().and_then(|bytes| bytes.try_into().ok()).ok_or(cut)?;
        let touch: Option<[u8; 5]> = match kind == TOKEN.as_bytes() {
            true => Some(inner.array().ok_or(cut)?),
            false => None,
        };
        if !blob.is_empty() || !inner.is_empty() {
            return Err("is an SSH signature with more behind its end");
        }
        if touch.is_some_and(|touch| ![TOUCHED, TOUCHED_AND_VERIFIED].contains(&touch[0])) {
            return Err("says that nobody touched the security key, or more than that and a PIN");
        }
        Ok(Signature::Ssh { key: key.to_vec(), bytes, touch })
    }

    /// Whether this key made it over this message, in the way in which this key signs.
    pub fn is_by(&self, public: &Public, message: &[u8]) -> bool {
        let (signed, bytes) = match (self, &public.scheme) {
            (Signature::Raw(bytes), Scheme::Raw) => (Cow::from(message), bytes),
            (Signature::Ssh { key, bytes, touch }, scheme) if *key == public.wire() => {
                let hash = string(&sha512(message));
                let parts = [MAGIC, &string(NAMESPACE), &string(b""), &string(HASH), &hash];
                let signed = match (scheme, touch) {
                    (Scheme::Ssh, None) => parts.concat(),
                    (Scheme::Token { application, verified }, Some(touch))
                        if !verified || touch[0] == TOUCHED_AND_VERIFIED =>
                    {
                        let application = sha256(&[application.as_bytes()]);
                        [&application[..], touch, &sha256(&parts)].concat()
                    }
                    _ => return false,
                };
                (Cow::from(signed), bytes)
            }
            _ => return false,
        };
        public.key.verify(signed, &Ed25519::new(*bytes)).is_ok()
    }
}
