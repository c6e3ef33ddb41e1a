//! A checkpoint that somebody kept, and what witnesses say of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::Options;
use super::usage;
use crate::core::hash::{hex, is_random};
use crate::core::json::{Value, object};
use crate::core::time::Time;
use crate::evidence::audit::Summary;
use crate::evidence::checkpoint::{Checkpoint, decimal};
use crate::evidence::cosignature::Witnesses;
use crate::evidence::guard::{Relation, unsigned_origin};
use crate::evidence::note::VerifierKey;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::NOTE_BYTES_MAX;
use crate::sys::page::Page;

pub struct Kept {
    pub checkpoint: Checkpoint,
    is_verified: bool,
    /// Those that have cosigned it, and when.
    witnesses: BTreeMap<String, Time>,
}

pub fn log_key(options: &Options) -> Result<Option<VerifierKey>, Failure> {
    let takes = "--log-key takes NAME+ID+KEY, as `openexec checkpoint --vkey` prints it";
    let read = |text| VerifierKey::parse(text).ok_or_else(|| usage(takes));
    options.get("--log-key").map(read).transpose()
}

/// The witnesses that are given, and how many of them must have cosigned.
pub fn witnesses(options: &Options) -> Result<(Witnesses, u64), Failure> {
    let witnesses = Witnesses::read(options.all("--witness"));
    let witnesses = witnesses.map_err(|why| usage(format!("--witness: {why}")))?;
    let count = witnesses.count() as u64;
    match options.get("--quorum").map(decimal) {
        None => Ok((witnesses, count)),
        Some(Some(quorum)) if (1..=count).contains(&quorum) => Ok((witnesses, quorum)),
        Some(_) => Err(usage("--quorum takes a number from 1 to how many witnesses are given")),
    }
}

pub fn read_text(file: &str, bytes_max: usize) -> Result<String, Failure> {
    let text = String::from_utf8(super::read(Some(file), bytes_max)?);
    text.map_err(|_| exit::data(format!("{file} is no text")))
}

impl Kept {
    /// What `--checkpoint` names.
    pub fn given(options: &Options, key: Option<&VerifierKey>) -> Result<Option<Self>, Failure> {
        let (witnesses, quorum) = witnesses(options)?;
        match options.get("--checkpoint") {
            _ if quorum > 0 && key.is_none() => Err(usage("--witness needs --log-key VKEY too")),
            None if key.is_some() => {
                Err(usage("--log-key needs --checkpoint, --proof or --evidence"))
            }
            None => Ok(None),
            Some(file) => {
                let note = read_text(file, NOTE_BYTES_MAX)?;
                Self::open(file, &note, key, (&witnesses, quorum)).map(Some)
            }
        }
    }

    /// Reads a note, signed by `key` if one is given, and cosigned by so many of these witnesses.
    pub fn open(
        file: &str,
        note: &str,
        key: Option<&VerifierKey>,
        (witnesses, quorum): (&Witnesses, u64),
    ) -> Result<Self, Failure> {
        let refused = |why: &str| exit::data(format!("the checkpoint {file}: {why}"));
        let checkpoint = Checkpoint::open(note, key).map_err(|why| refused(&why))?;
        let mut seen = BTreeMap::new();
        if quorum > 0 {
            let of = witnesses.of(note);
            seen = of.map_err(|fault| refused(&format!("a cosignature: {fault}")))?;
            if (seen.len() as u64) < quorum {
                let (have, all) = (seen.len(), witnesses.count());
                let why = format!("{have} of the {all} witnesses have cosigned it, {quorum} must");
                return Err(refused(&why));
            }
        }
        Ok(Kept { checkpoint, is_verified: key.is_some(), witnesses: seen })
    }

    /// Whether the store that was audited extends it.
    pub fn judge(&self, path: &Path, summary: &Summary) -> Result<(), Failure> {
        let (origin, size) = (&self.checkpoint.origin, self.checkpoint.head.size);
        let why = match summary.relation {
            // Without a key the name says which store it is.
            _ if origin.strip_prefix("openexec/").is_some_and(is_random)
                && *origin != unsigned_origin(&summary.identity.store)
                && !self.is_verified =>
            {
                format!("the checkpoint is of another store ({origin})")
            }
            Some(Relation::Extends) | None => return Ok(()),
            Some(Relation::Lacks(records)) => {
                format!("the store has {records} records fewer than the checkpoint's {size}")
            }
            Some(Relation::Differs) => {
                format!("the store's first {size} records are not the checkpoint's")
            }
        };
        Err(exit::data(format!("{}: {why}", path.display())))
    }

    pub fn show(&self, page: Page) -> Page {
        let Checkpoint { origin, head } = &self.checkpoint;
        let signature = match self.is_verified {
            true => "signature verified",
            false => "signature not checked: give --log-key VKEY",
        };
        let text = format!("extended: {} records of {origin}, {signature}", head.size);
        let page = page.line("checkpoint  ", text);
        self.witnesses.iter().fold(page, |page, (name, at)| {
            page.line("witness     ", format_args!("{name} cosigned it at {at}"))
        })
    }

    pub fn as_json(&self) -> Value {
        let at = self.witnesses.iter().map(|(name, at)| (name.as_str(), at.to_string().into()));
        serde_json::json!({
            "origin": self.checkpoint.origin,
            "size": self.checkpoint.head.size,
            "root": hex(&self.checkpoint.head.root),
            "signature_verified": self.is_verified,
            "witnesses": object(at),
        })
    }
}
