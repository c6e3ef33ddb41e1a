//! What witnesses say of a checkpoint (c2sp.org/tlog-cosignature, version 1): that it extends every one that they
//! have seen of this log, and when they saw it. So a log that shows two histories needs as many witnesses that lie.
//!
//! ```text
//! — witness.example/w1 BASE64(key id || seconds, 8 bytes || signature)
//! ```

use std::collections::BTreeMap;

use super::note::{COSIGNATURE, NoteFault, VerifierKey, split};
use crate::core::time::Time;

const SECONDS_BYTES: usize = 8;
/// The last second that a date of four digits has.
const SECONDS_MAX: u64 = 253_402_300_799;
const MICROS: i64 = 1_000_000;

/// The keys of witnesses, each once.
pub struct Witnesses(Vec<VerifierKey>);

impl Witnesses {
    /// Reads `NAME+ID+BASE64(0x04 || key)`, each.
    ///
    /// # Errors
    /// A sentence: one is no such key, or two have one name or the same 32 bytes.
    pub fn read<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut known: Vec<VerifierKey> = Vec::new();
        for text in texts {
            let key = VerifierKey::parse_as(COSIGNATURE, text);
            let key = key.ok_or_else(|| format!("{text:?} is no key of a witness"))?;
            if known.iter().any(|other| other.key() == key.key() || other.name() == key.name()) {
                return Err(format!("the witness {:?} is given twice", key.name()));
            }
            known.push(key);
        }
        Ok(Witnesses(known))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this signature line is one of theirs.
    pub fn has(&self, line: &str) -> bool {
        self.0.iter().any(|key| matches!(key.signature(line), Ok(Some(_))))
    }

    /// Those that have cosigned the note, by name, and when at last.
    ///
    /// # Errors
    /// A line by one of them does not verify: nothing of the note may be believed then.
    pub fn of(&self, note: &str) -> Result<BTreeMap<String, Time>, NoteFault> {
        let (text, lines) = split(note)?;
        let mut seen = BTreeMap::new();
        for (line, key) in lines.lines().flat_map(|line| self.0.iter().map(move |key| (line, key)))
        {
            let Some(bytes) = key.signature(line)? else { continue };
            let Some((seconds, signature)) = bytes.split_first_chunk::<SECONDS_BYTES>() else {
                return Err(NoteFault::BadSignature);
            };
            let seconds = u64::from_be_bytes(*seconds);
            key.verify(&format!("cosignature/v1\ntime {seconds}\n{text}"), signature)?;
            if seconds > SECONDS_MAX {
                return Err(NoteFault::Malformed("a witness's time is after the year 9999"));
            }
            let at = Time::from_micros(seconds as i64 * MICROS);
            let newest = seen.entry(key.name().to_owned()).or_insert(at);
            *newest = at.max(*newest);
        }
        Ok(seen)
    }
}
