//! Who signs: the key that was given, or somebody else, of whom a signature was brought.

use std::fs::File;
use std::io::Read;

use openexec::core::limits::SMALL_FILE_BYTES_MAX;
use openexec::sys::exit::Failure;

use crate::key::Key;
use crate::message::Unsigned;
use crate::options::Options;
use crate::{refused, terminal, usage};

/// How the signature comes to be.
pub enum Signer {
    Key(Key),
    /// The message is printed, and nothing is signed.
    Printed(Key),
    /// Both were read.
    Brought {
        key: Key,
        message: Unsigned,
        signature: Vec<u8>,
    },
}

impl Signer {
    pub fn of(options: &Options) -> Result<Self, Failure> {
        let key = options.required("--key")?;
        let files = (options.get("--message"), options.get("--signature"));
        match (options.has("--print-message"), files) {
            (false, (None, None)) => Ok(Signer::Key(Key::read(key)?)),
            (true, (None, None)) => Ok(Signer::Printed(Key::read(key)?)),
            (false, (Some(message), Some(signature))) => Ok(Signer::Brought {
                key: Key::read(key)?,
                message: Unsigned::of_message(&small(message)?)?,
                signature: small(signature)?,
            }),
            _ => Err(usage("give --print-message, or --message and --signature, or none of them")),
        }
    }

    pub fn key(&self) -> &Key {
        match self {
            Signer::Key(key) | Signer::Printed(key) | Signer::Brought { key, .. } => key,
        }
    }

    /// Before anything is asked: whether anything could follow.
    ///
    /// # Errors
    /// 78 where the key cannot sign.
    pub fn ready(self) -> Result<Self, Failure> {
        match &self {
            Signer::Key(key) if !key.signs() => key.sign(b"").map(|_| self),
            _ => Ok(self),
        }
    }

    /// The message that was brought, or a fresh one.
    pub fn message(
        &mut self,
        fresh: impl FnOnce() -> Result<Unsigned, Failure>,
    ) -> Result<Unsigned, Failure> {
        match self {
            Signer::Brought { message, .. } => Unsigned::of_message(message.message()),
            _ => fresh(),
        }
    }

    /// The signed statement as canonical JSON; `None` where its message was printed instead.
    pub fn sign(&self, unsigned: Unsigned) -> Result<Option<String>, Failure> {
        let signature = match self {
            Signer::Key(key) => key.sign(unsigned.message())?,
            Signer::Brought { key, signature, .. } => key.take(unsigned.message(), signature)?,
            Signer::Printed(_) => {
                // Every byte counts: no line end.
                let text = String::from_utf8_lossy(unsigned.message());
                terminal::print(&text)?;
                return Ok(None);
            }
        };
        Ok(Some(unsigned.signed(&signature)))
    }
}

fn small(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| Failure::io(format!("reading {path}"), &error))?;
    match bytes.len() as u64 == SMALL_FILE_BYTES_MAX {
        true => Err(refused(format!("{path} is too large"))),
        false => Ok(bytes),
    }
}
