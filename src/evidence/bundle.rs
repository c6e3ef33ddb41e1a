//! The evidence of one execution, or of one proposal that ended without any, in a file: its records as they stand in the
//! log, each with its path to one checkpoint.
//!
//! The text is canonical JSON and a line end:
//! `{"checkpoint":NOTE,"records":[{"index":7,"path":[BASE64,…],"record":LINE},…],"version":1}`. A record is the text that
//! was hashed; the records stand in the order of the log. They are the store record, what was recorded of the id, and
//! each policy record that was in force when some of that was decided. [`super::statements`] says what they show.

use std::io;

use serde_json::json;

use super::checkpoint::{Checkpoint, hash};
use super::guard::{Relation, relation, unsigned};
use super::log::{FileLog, Log};
use super::note::split;
use super::path::{PATH_HASHES_MAX, inclusion};
use super::statements::is_decided;
use crate::core::base64;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Value, canonical, strict};
use crate::store::GEOMETRY;
use crate::store::fault::OpenError;
use crate::store::replay::{Progress, Replay, Seen, observe};
use crate::store::state::Change;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::EVIDENCE_BYTES_MAX;

const VERSION: u64 = 1;
/// Open containers in a bundle's text.
const DEPTH: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// A checkpoint: a signed note, or its text alone.
    pub note: String,
    pub records: Vec<Included>,
}

/// A record, and its way to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    pub index: u64,
    pub path: Vec<Hash>,
    pub line: String,
}

impl Bundle {
    pub fn text(&self) -> String {
        let record = |Included { index, path, line }: &Included| {
            let path: Vec<_> = path.iter().map(|hash| base64::encode(hash)).collect();
            json!({"index": index, "path": path, "record": line})
        };
        let records: Vec<_> = self.records.iter().map(record).collect();
        let bundle = json!({"checkpoint": self.note, "records": records, "version": VERSION});
        canonical::to_string(&bundle) + "\n"
    }

    /// Reads what [`Self::text`] gives, and nothing else: a text of another version is written again as another one.
    pub fn read(text: &str) -> Option<Self> {
        let value = strict::read(text.as_bytes(), DEPTH).ok()?;
        let record = |record: &Value| {
            let path = record["path"].as_array().filter(|path| path.len() <= PATH_HASHES_MAX)?;
            let path = path.iter().map(|text| hash(text.as_str()?)).collect::<Option<_>>()?;
            let line = record["record"].as_str()?.to_owned();
            Some(Included { index: record["index"].as_u64()?, path, line })
        };
        let records = value["records"].as_array()?.iter().map(record).collect::<Option<_>>()?;
        let bundle = Bundle { note: value["checkpoint"].as_str()?.to_owned(), records };
        (bundle.text() == text).then_some(bundle)
    }
}

/// The id of which the change is, where it is one that belongs to a bundle.
pub(super) fn id(change: &Change) -> Option<&Hash> {
    match change {
        Change::Proposal(asked) => Some(&asked.id),
        Change::Approval { id, .. }
        | Change::Pending { id, .. }
        | Change::Claim { id, .. }
        | Change::Receipt { id, .. }
        | Change::Completion { id, .. }
        | Change::Retry { id } => Some(id),
        Change::Policy { .. }
        | Change::Refusal(_)
        | Change::Suppressed { .. }
        | Change::Frozen(_)
        | Change::Nothing => None,
    }
}

/// What is collected while the store is read once.
#[derive(Default)]
pub struct About<'a> {
    /// The first digits of the id, eight or more.
    digits: &'a str,
    id: Option<Hash>,
    are_several: bool,
    /// Records so far.
    number: u64,
    /// The policy record in force, while nothing of the id was decided under it.
    policy: Option<(u64, String)>,
    lines: Vec<(u64, String)>,
    bytes: usize,
}

/// Makes the bundle of the id that begins with these digits, and says whether `note` is a signed checkpoint that does
/// not cover all of it. It was read before the store, which may be written meanwhile.
pub fn gather(
    directory: &Directory,
    digits: &str,
    note: Option<&str>,
    progress: Progress,
) -> Result<Result<(Bundle, bool), Failure>, OpenError> {
    let mut about = About { digits, ..About::default() };
    let replay = observe(directory, GEOMETRY, progress, &mut |seen| about.see(seen))?;
    Ok(about.bundle(&replay, directory, note))
}

impl About<'_> {
    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        let number = self.number;
        self.number += 1;
        let is_wanted = match id(seen.change) {
            None if matches!(seen.change, Change::Policy { .. }) => {
                self.policy = Some((number, seen.record()?.1.to_owned()));
                false
            }
            None => number == 0,
            Some(id) if self.id == Some(*id) => true,
            Some(id) => {
                // Of few ids more than the first digits are looked at.
                let fits =
                    self.digits.starts_with(&hex(&id[..4])) && hex(id).starts_with(self.digits);
                self.are_several |= fits && self.id.is_some();
                self.id = self.id.or(fits.then_some(*id));
                fits && !self.are_several
            }
        };
        if is_wanted && self.bytes <= EVIDENCE_BYTES_MAX {
            let (record, line) = seen.record()?;
            let policy = self.policy.take_if(|_| is_decided(&record));
            for own in policy.into_iter().chain([(number, line.to_owned())]) {
                self.bytes += own.1.len();
                self.lines.push(own);
            }
        }
        Ok(())
    }

    fn bundle(
        self,
        replay: &Replay,
        directory: &Directory,
        note: Option<&str>,
    ) -> Result<(Bundle, bool), Failure> {
        if self.id.is_none() {
            return Err(exit::data(
                "nothing in this store was proposed or executed under this id; a refusal alone has no evidence",
            ));
        }
        if self.are_several {
            return Err(exit::data("several ids begin with these digits; give more of them"));
        }
        let unread = |error: io::Error| Failure::io("reading a block of records", &error);
        let log = FileLog::new(directory, GEOMETRY, replay.blocks.clone());
        let (last, mut signed) = (self.lines.last().map_or(0, |(index, _)| *index), None);
        if let Some(note) = note {
            let newest = Checkpoint::open(note, None);
            let newest = newest.map_err(|why| exit::data(format!("the checkpoint: {why}")))?.head;
            if relation(&log, &newest).map_err(unread)? != Relation::Extends {
                return Err(exit::data(
                    "the store does not extend the newest checkpoint: it has fewer records, or others",
                ));
            }
            signed = split(note).is_ok().then(|| (newest, note.to_owned()));
        }
        let is_behind = signed.as_ref().is_some_and(|(head, _)| head.size <= last);
        let (head, note) = signed.filter(|_| !is_behind).unwrap_or_else(|| {
            // What is surely synced, if that is enough.
            let synced = Some(replay.synced()).filter(|head| head.size > last);
            let head = synced.unwrap_or_else(|| log.head());
            let store = replay.identity.as_ref().map_or("", |identity| &identity.store);
            (head, unsigned(store, head))
        });
        let records = self.lines.into_iter().map(|(index, line)| {
            let path = inclusion(&log, index, head.size).map_err(unread)?;
            Ok(Included { index, path, line })
        });
        let records = records.collect::<Result<_, Failure>>()?;
        Ok((Bundle { note, records }, is_behind))
    }
}
