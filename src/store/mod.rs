//! The store: what is recorded, what that means, and how more is added.
//!
//! Whoever uses records knows them through [`Store`]. [`Files`] is the store of this program; another
//! may keep the same records elsewhere. Invariant of each: what [`Store::append`] has returned success
//! for stays, and after any other end of it nothing is written before the store was asked what is there.

pub mod blocks;
pub mod fault;
pub mod files;
pub mod index;
mod jobs;
pub mod lock;
pub mod open;
mod parse;
pub mod proposals;
pub mod refusals;
pub mod replay;
pub mod segment;
pub mod state;
pub(crate) mod table;
mod tail;

use std::fmt;
use std::io;

pub use self::files::{Files, GEOMETRY, Geometry, make};
use self::state::{Execution, Position, State};
use crate::core::clock::Clock;
use crate::core::hash::Hash;
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Identity, Record};
use crate::core::time::Time;

/// A commit line is at most this long, whatever its numbers.
const COMMIT_BYTES_MAX: usize = 192;

/// A store that is open, held by one process.
pub trait Store {
    fn identity(&self) -> &Identity;

    /// What its records mean.
    fn state(&self) -> &State;

    /// What is seen of the clock between two records.
    fn clock(&mut self) -> &mut Clock;

    /// Records so far.
    fn size(&self) -> u64;

    /// What is asked for next, so that a store that is far away can look for all of it at once.
    fn expect(&self, _nonces: &mut dyn Iterator<Item = &str>) {}

    /// The first record that it means, verified against what is stored.
    fn find(&self, by: By) -> io::Result<Option<Found>>;

    /// How many executions left a job of which nobody has said for good what became of it, and where the
    /// claim of the oldest is.
    fn open_jobs(&self) -> (u64, Option<Position>);

    /// The record at `position`, without its newline.
    fn line(&self, position: Position) -> io::Result<String>;

    /// Adds the records of a batch, together or not at all. They count from the moment this returns.
    ///
    /// # Errors
    /// [`Lost`]: from then on only [`Store::settle`] may be called.
    fn append(&mut self, batch: &Batch) -> Result<(), Lost>;

    /// After an append of unknown outcome: finds out what is there, and goes on from that. `false` where
    /// only the next opening can tell. Where it waits, it calls `meanwhile` again and again.
    ///
    /// # Errors
    /// As of [`Store::append`].
    fn settle(&mut self, _meanwhile: &mut dyn FnMut()) -> Result<bool, Lost> {
        Ok(false)
    }

    /// Called where nothing was appended for a second. `kept` bytes of room are for others.
    ///
    /// # Errors
    /// As of [`Store::append`].
    fn rest(&mut self, kept: usize) -> Result<(), Lost>;

    /// How much more it takes.
    fn room(&self) -> Room;

    /// What an operator left under this name for whoever has the store.
    ///
    /// # Errors
    /// Whether there is anything cannot be told.
    fn note(&self, name: &str) -> io::Result<Option<Note>>;

    /// Removes the one that was left then, for good; `false` if it stays, or is another by now.
    ///
    /// # Errors
    /// As of [`Store::append`].
    fn remove_note(&mut self, name: &str, left_at: Time) -> Result<bool, Lost>;
}

/// An execution, a proposal or an approval: where its records are, and the line of the first.
pub type Found = (Execution, String);

/// What something is looked up by.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    ClaimNonce(&'a str),
    ClaimId(&'a Hash),
    /// The claim that spent this approval.
    Spent(&'a str),
    ProposalNonce(&'a str),
    ProposalId(&'a Hash),
    /// From 0, in their order.
    ProposalNumber(u32),
    ApprovalId(&'a str),
}

impl By<'_> {
    /// What a key is made of.
    pub fn bytes(&self) -> &[u8] {
        match self {
            By::ClaimNonce(text) | By::Spent(text) => text.as_bytes(),
            By::ProposalNonce(text) | By::ApprovalId(text) => text.as_bytes(),
            By::ClaimId(id) | By::ProposalId(id) => &id[..],
            By::ProposalNumber(_) => &[],
        }
    }

    /// Whether it means this record; `None` of another kind, or of one whose approvals cannot be read.
    pub fn is(&self, record: &Record) -> Option<bool> {
        Some(match (self, record) {
            (By::ClaimNonce(nonce), Record::Claim(claim)) => claim.nonce == *nonce,
            (By::ClaimId(id), Record::Claim(claim)) => claim.id == **id,
            (By::Spent(id), Record::Claim(claim)) => {
                claim.approval_ids()?.iter().any(|own| own == id)
            }
            (By::ProposalNonce(nonce), Record::Proposal(proposal)) => proposal.nonce == *nonce,
            (By::ProposalId(id), Record::Proposal(proposal)) => proposal.id == **id,
            (By::ProposalNumber(_), Record::Proposal(_)) => true,
            (By::ApprovalId(id), Record::Approval(approval)) => approval.approval_id()? == *id,
            _ => return None,
        })
    }
}

/// Why a store takes nothing more from this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Another has taken over, and nothing was added.
    Fenced(String),
    /// Whether the batch was added is unknown.
    Unknown(String),
    /// A record that is needed to go on cannot be read.
    Unreadable(String),
    /// A record of the batch could not stand behind those that are there: a bug. Nothing was added.
    Refused(String),
    /// What was there before is not there any more: nothing may be based on the rest.
    Behind(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use self::Lost::{Behind, Fenced, Refused, Unknown, Unreadable};
        let (Fenced(why) | Unknown(why) | Unreadable(why) | Refused(why) | Behind(why)) = self;
        f.write_str(why)
    }
}

/// What an operator left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// `None` where it is there and cannot be read.
    pub text: Option<String>,
    pub left_at: Time,
}

/// Record lines that are added together or not at all.
#[derive(Default)]
pub struct Batch {
    text: Vec<u8>,
    /// Where each line begins; it ends before the next one's newline.
    starts: Vec<usize>,
}

impl Batch {
    pub fn push(&mut self, line: &str) {
        self.starts.push(self.text.len());
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
    }

    /// Takes all lines away, and keeps room for others.
    pub fn clear(&mut self) {
        emptied(&mut self.text);
        self.starts.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes that the batch takes on the disk, at most, with `more` bytes of further lines.
    pub fn bytes_with(&self, more: usize) -> usize {
        self.text.len() + more + COMMIT_BYTES_MAX
    }

    /// Each line without its newline, and where it begins in the batch.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let ends = self.starts.iter().skip(1).copied().chain([self.text.len()]);
        self.starts.iter().zip(ends).map(|(start, end)| (*start, &self.text[*start..end - 1]))
    }
}

/// Without the text, and with a room that most have.
fn emptied(text: &mut Vec<u8>) {
    const KEPT_BYTES: usize = 64 * 1024;
    text.clear();
    text.shrink_to(KEPT_BYTES);
}

/// How much more a store takes. Files are filled one segment after another, each made ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of one batch, as [`Batch::bytes_with`] counts them.
    pub batch_bytes_max: usize,
    /// No more executions are taken.
    pub is_full: bool,
    /// Bytes written so far.
    pub used: u64,
    /// Bytes left of the current segment, of so many.
    pub left: u64,
    pub segment_bytes: u64,
    /// The segment behind it.
    pub next: Next,
}

/// How the segment behind the current one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Ready,
    Coming,
    /// It could not be made, and is tried again.
    Failing,
}

impl Room {
    /// Whether a batch of `batch` bytes, then `owed` bytes of receipts, then a seal, surely fit. In
    /// the next segment they do: each of the first two is at most one batch, and it holds three.
    pub fn has(&self, batch: usize, owed: usize) -> bool {
        let sectors = |bytes: usize| (bytes as u64).next_multiple_of(SECTOR_BYTES);
        let needed = sectors(batch) + sectors(owed + COMMIT_BYTES_MAX) + SECTOR_BYTES;
        self.next == Next::Ready || needed <= self.left
    }

    /// Whether such a batch leaves to others what cannot be had again soon: while the next segment is
    /// being made (a fresh store begins so), the second half of this one.
    pub fn spares(&self, batch: usize, owed: usize) -> bool {
        self.next == Next::Ready
            || self.next == Next::Coming && self.has(batch, owed + self.segment_bytes as usize / 2)
    }
}

/// The record that stands at `position`; an error if the store no longer says what it said.
pub fn intact<R>(read: Option<R>, position: Position) -> io::Result<R> {
    read.ok_or_else(|| changed_below_us(position))
}

/// What is read is not what was written.
pub fn changed_below_us(position: Position) -> io::Error {
    io::Error::other(format!("byte {position} of the store no longer holds the record it held"))
}
