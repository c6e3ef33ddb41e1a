//! A public key, and how its holder signs.
//!
//! Owns [`Public`]. Its invariants: a key has one way to sign, and none is weak. A plain key signs the message
//! itself; a key of OpenSSH signs what SSH makes of it, and nothing else. So a signature that was made for
//! something else, by `ssh` to log in for one, is never an approval.

use ed25519_compact::PublicKey;

use crate::core::hash::unhex;
use crate::core::json::Value;
use crate::core::ssh::string;

/// How the kinds of keys are called in a policy record, and the last two by SSH.
pub const RAW: &str = "ed25519";
pub const SSH: &str = "ssh-ed25519";
/// A security key's (OpenSSH, PROTOCOL.u2f).
pub const TOKEN: &str = "sk-ssh-ed25519@openssh.com";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    pub key: PublicKey,
    pub scheme: Scheme,
}

/// How the holder of a key signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    Raw,
    Ssh,
    Token {
        /// What the security key was registered for, `ssh:` as a rule.
        application: String,
        /// It must have asked its holder for a PIN or the like, and not only for a touch.
        verified: bool,
    },
}

impl Public {
    /// Of a policy record's key: by `type`, `public_key`, `application` and `verified`.
    ///
    /// # Errors
    /// What is wrong, to stand behind the place of the key.
    pub fn read(key: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| key[name].as_str();
        let verified = match &key["verified"] {
            Value::Null => false,
            verified => verified.as_bool().ok_or(".verified must be true or false")?,
        };
        let scheme = match (text("type"), text("application")) {
            (Some(TOKEN), Some(application)) => {
                Scheme::Token { application: application.to_owned(), verified }
            }
            _ if verified => return Err(".verified can be true of a security key alone"),
            (Some(RAW), None) => Scheme::Raw,
            (Some(SSH), None) => Scheme::Ssh,
            _ => return Err(" is of no type of keys"),
        };
        let key = text("public_key").and_then(unhex).map(PublicKey::new);
        let key = key.ok_or(".public_key is none")?;
        match key.validate() {
            Ok(()) => Ok(Public { key, scheme }),
            Err(_) => Err(
                ".public_key is weak (no point of the curve, not canonical, or of small order): anyone \
                           could sign for it; make another with `openssl genpkey -algorithm ed25519`",
            ),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self.scheme {
            Scheme::Raw => RAW,
            Scheme::Ssh => SSH,
            Scheme::Token { .. } => TOKEN,
        }
    }

    pub fn application(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::Token { application, .. } => Some(application),
            _ => None,
        }
    }

    /// As SSH encodes it, in lines and in signatures.
    pub fn wire(&self) -> Vec<u8> {
        let application = self.application().map(|text| string(text.as_bytes()));
        let parts = [string(self.kind().as_bytes()), string(&self.key[..])];
        [parts.concat(), application.unwrap_or_default()].concat()
    }
}
