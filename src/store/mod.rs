//! The store: an append-only log of records in numbered segments, and the index over it.
//!
//! Invariant: what [`Store::append`] has returned success for is on the disk, in the store that the
//! configured path leads to, and nothing is written after a write or sync that failed. The order of
//! system calls of one batch is `pwrite` (all of it), `fdatasync` of the same descriptor, then three
//! `stat`s: of the directory by its path, of `LOCK` and of the segment by their names. The next batch
//! is written only after all of that has succeeded.

pub mod blocks;
pub mod fault;
pub mod lock;
pub mod open;
mod parse;
pub mod proof;
pub mod refusals;
pub mod repair;
pub mod replay;
pub mod scan;
pub mod segment;
pub mod state;
pub(crate) mod table;
mod tail;

use std::fmt;
use std::io;
use std::sync::Arc;

use self::blocks::{Blocks, Growth};
use self::proof::Source;
use self::segment::Preparation;
use self::state::{Execution, Position, State};
use crate::core::clock::Clock;
use crate::core::hash::Hash;
use crate::core::limits::{
    BATCH_BYTES_MAX, EXECUTIONS_MAX, SECTOR_BYTES, SEGMENT_BYTES, SEGMENTS_MAX,
};
use crate::core::record::{
    Claim, Commit, Identity, Line, Receipt, Record, SegmentLine, store_line,
};
use crate::core::tree::{Head, Tree, leaf_hash};
use crate::sys::disk::Disk;

/// The sizes of a store; smaller ones let a simulation change segments often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// One segment; a multiple of a sector.
    pub segment_bytes: u64,
    /// One batch with its commit line; at most a third of a segment.
    pub batch_bytes_max: usize,
    /// Executions in the store.
    pub executions_max: u64,
}

/// The geometry of every real store (design sections 8 and 10).
pub const GEOMETRY: Geometry = Geometry {
    segment_bytes: SEGMENT_BYTES,
    batch_bytes_max: BATCH_BYTES_MAX,
    executions_max: EXECUTIONS_MAX,
};

/// A commit line is at most this long, whatever its numbers.
const COMMIT_BYTES_MAX: usize = 192;
/// A segment line is at most this long.
const SEGMENT_LINE_BYTES_MAX: usize = 384;
/// What is read first of a line whose length is unknown.
const LINE_READ_BYTES: usize = 4096;

/// A write or a sync failed: what is on the disk is unknown, and nothing more may be written.
#[derive(Debug)]
pub struct Poisoned(pub String);

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Record lines that will be on the disk together or not at all.
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

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes that the batch takes on the disk, at most, with `more` bytes of further lines.
    pub fn bytes_with(&self, more: usize) -> usize {
        self.text.len() + more + COMMIT_BYTES_MAX
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let ends = self.starts.iter().skip(1).copied().chain([self.text.len()]);
        self.starts.iter().zip(ends).map(|(start, end)| (*start, &self.text[*start..end - 1]))
    }
}

/// What is committed of an open store, for others than the executor to read while it writes.
pub struct Log {
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    blocks: Blocks,
}

impl Log {
    /// What is committed, so on the disk.
    pub fn head(&self) -> Head {
        self.blocks.head()
    }

    pub fn source(&self) -> Source<'_> {
        Source { disk: self.disk.as_ref(), geometry: self.geometry, blocks: &self.blocks }
    }
}

/// A store that is open, held by one process.
pub struct Store {
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    log: Arc<Log>,
    identity: Identity,
    preparation: Arc<Preparation>,
    state: State,
    tree: Tree,
    /// The number of the last batch.
    batch: u64,
    /// The segment being written, and where in it the next batch begins.
    segment: u32,
    offset: u64,
    /// The last batch has no records.
    sealed: bool,
    poisoned: bool,
}

impl Store {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is seen of the clock between two records.
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.state.clock
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What the helper thread works by.
    pub fn preparation(&self) -> Arc<Preparation> {
        self.preparation.clone()
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// What others may read while this is written.
    pub fn log(&self) -> Arc<Log> {
        self.log.clone()
    }

    /// Records so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Bytes written so far, all segments.
    pub fn bytes(&self) -> u64 {
        self.position(self.segment, self.offset)
    }

    /// Whether a prepared segment waits behind the current one.
    pub fn is_prepared(&self) -> bool {
        self.preparation.ready() > self.segment
    }

    /// Whether a batch of `batch` bytes, then `owed` bytes of receipts, then a seal, surely fit.
    /// With a prepared segment they do: each of the first two is at most one batch, and a segment
    /// holds three.
    pub fn has_room(&self, batch: usize, owed: usize) -> bool {
        let sectors = |bytes: usize| (bytes as u64).next_multiple_of(SECTOR_BYTES);
        let needed = sectors(batch) + sectors(owed + COMMIT_BYTES_MAX) + SECTOR_BYTES;
        self.is_prepared() || self.offset + needed <= self.geometry.segment_bytes
    }

    /// Whether it takes no more executions. The last segment is kept for what is owed.
    pub fn is_full(&self) -> bool {
        self.state.executions() >= self.geometry.executions_max || self.segment + 1 >= SEGMENTS_MAX
    }

    /// Writes and syncs one batch; its records count from the moment this returns.
    ///
    /// # Errors
    /// Any write or sync error poisons the store: this and every later call fail, and what of the
    /// batch is on the disk only the next opening can tell.
    pub fn append(&mut self, batch: &Batch) -> Result<(), Poisoned> {
        if let Some(failure) = self.preparation.unsure() {
            self.poisoned = true;
            let next = segment::name(self.preparation.ready() + 1);
            return Err(Poisoned(format!("whether {next} has its name is unknown: {failure}")));
        }
        if self.poisoned {
            return Err(Poisoned("the store failed before and takes no more".to_owned()));
        }
        // Until the sync has succeeded nothing is known: an early return must leave it poisoned.
        self.poisoned = true;
        let mut tree = self.tree.clone();
        let mut growth = Growth::default();
        for (_, line) in batch.lines() {
            growth.block(tree.push(leaf_hash(line)));
        }
        let head = tree.head();
        let commit = Commit { batch: self.batch + 1, size: head.size, root: head.root };
        let (segment, offset, text) = self.place(batch, &commit)?;
        let name = segment::name(segment);
        let written = self.disk.write_at(&name, offset, &text).and_then(|()| self.disk.sync(&name));
        // A store that is gone, or was changed for another, acknowledges nothing.
        let written = written.and_then(|()| self.disk.confirm(&name));
        written.map_err(|error| Poisoned(format!("{name} at byte {offset}: {error}")))?;

        let records_at = text.len() - batch.text.len() - commit.line().len() - 1;
        let base = self.position(segment, offset) + records_at as u64;
        for ((start, line), number) in batch.lines().zip(self.tree.size()..) {
            let position = base + start as u64;
            apply_line(&mut self.state, line, position)
                .map_err(|reason| Poisoned(format!("a record of ours is refused: {reason}")))?;
            growth.record(number, position);
        }
        self.tree = tree;
        self.log.blocks.grow(growth, head);
        self.batch = commit.batch;
        self.segment = segment;
        self.offset = (offset + text.len() as u64).next_multiple_of(SECTOR_BYTES);
        self.sealed = batch.is_empty();
        self.preparation.want(segment + 1);
        self.poisoned = false;
        Ok(())
    }

    /// Returns once every name removed from the directory is gone from the disk.
    ///
    /// # Errors
    /// It poisons the store: nothing is known of the names of its segments either.
    pub fn sync_directory(&mut self) -> Result<(), Poisoned> {
        self.disk.sync_directory().map_err(|error| {
            self.poisoned = true;
            Poisoned(format!("syncing the store's directory: {error}"))
        })
    }

    /// Writes a commit line without records, so that the last acknowledged batch is not the last in
    /// the file; never two in a row. In any case it looks whether the store is still there.
    /// `kept` bytes of room are for others.
    pub fn seal(&mut self, kept: usize) -> Result<(), Poisoned> {
        if self.sealed || !self.has_room(COMMIT_BYTES_MAX, kept) {
            return self.disk.confirm(&segment::name(self.segment)).map_err(|error| {
                self.poisoned = true;
                Poisoned(error.to_string())
            });
        }
        self.append(&Batch::default())
    }

    /// The execution under this nonce and its claim's line, verified against the file.
    pub fn find_nonce(&self, nonce: &str) -> io::Result<Option<(Execution, String)>> {
        self.first(self.state.by_nonce(nonce), |claim| claim.nonce == nonce)
    }

    /// The execution with this id and its claim's line, verified against the file.
    pub fn find_id(&self, id: &Hash) -> io::Result<Option<(Execution, String)>> {
        self.first(self.state.by_id(id), |claim| claim.id == *id)
    }

    /// Whether some claim spent this approval, verified against the file.
    pub fn approval_is_spent(&self, approval_id: &str) -> io::Result<bool> {
        let spends = |claim: &Claim| {
            claim.approval_ids().is_some_and(|ids| ids.iter().any(|id| id == approval_id))
        };
        Ok(self.first(self.state.by_approval(approval_id), spends)?.is_some())
    }

    /// The line that begins at `position`, without its newline.
    pub fn line(&self, position: Position) -> io::Result<String> {
        let number = position / self.geometry.segment_bytes + 1;
        let name = segment::name(u32::try_from(number).map_err(io::Error::other)?);
        let offset = position % self.geometry.segment_bytes;
        let mut bytes = Vec::new();
        let mut wanted = LINE_READ_BYTES;
        loop {
            let end = (offset + wanted as u64).min(self.geometry.segment_bytes);
            let start = offset + bytes.len() as u64;
            let old = bytes.len();
            bytes.resize((end - offset) as usize, 0);
            self.disk.read_at(&name, start, &mut bytes[old..])?;
            if let Some(length) = bytes[old..].iter().position(|byte| *byte == b'\n') {
                bytes.truncate(old + length);
                return String::from_utf8(bytes).map_err(io::Error::other);
            }
            if end == self.geometry.segment_bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wanted *= 4;
        }
    }

    fn first(
        &self,
        candidates: impl Iterator<Item = Execution>,
        is_it: impl Fn(&Claim) -> bool,
    ) -> io::Result<Option<(Execution, String)>> {
        for execution in candidates {
            let line = self.line(execution.claim)?;
            match Record::read(&line) {
                Some(Record::Claim(claim)) if is_it(&claim) => return Ok(Some((execution, line))),
                Some(Record::Claim(_)) => {}
                _ => return Err(changed_below_us(execution.claim)),
            }
        }
        Ok(None)
    }

    /// Where the batch goes, and its text: in a new segment it begins with the segment line.
    fn place(&self, batch: &Batch, commit: &Commit) -> Result<(u32, u64, Vec<u8>), Poisoned> {
        let commit_line = commit.line();
        let bytes = batch.text.len() + commit_line.len() + 1;
        let mut text = Vec::with_capacity(bytes + SEGMENT_LINE_BYTES_MAX);
        let fits = self.offset + bytes as u64 <= self.geometry.segment_bytes;
        let (segment, offset) = if fits {
            (self.segment, self.offset)
        } else if self.is_prepared() {
            let before = SegmentLine {
                identity: self.identity.clone(),
                first: self.tree.size(),
                batch: self.batch,
                root: self.tree.root(),
            };
            text.extend_from_slice(before.line().as_bytes());
            text.push(b'\n');
            (self.segment + 1, 0)
        } else {
            return Err(Poisoned("a batch was written without room for it".to_owned()));
        };
        text.extend_from_slice(&batch.text);
        text.extend_from_slice(commit_line.as_bytes());
        text.push(b'\n');
        Ok((segment, offset, text))
    }

    fn position(&self, segment: u32, offset: u64) -> Position {
        u64::from(segment - 1) * self.geometry.segment_bytes + offset
    }
}

/// A receipt's line, read; an error if the file no longer says what it said.
pub fn read_receipt(line: &str, position: Position) -> io::Result<Receipt<'_>> {
    match Record::read(line) {
        Some(Record::Receipt(receipt)) => Ok(receipt),
        _ => Err(changed_below_us(position)),
    }
}

/// A claim's line, read; an error if the file no longer says what it said.
pub fn read_claim(line: &str, position: Position) -> io::Result<Claim<'_>> {
    match Record::read(line) {
        Some(Record::Claim(claim)) => Ok(claim),
        _ => Err(changed_below_us(position)),
    }
}

fn changed_below_us(position: Position) -> io::Error {
    io::Error::other(format!("byte {position} of the store no longer holds the record it held"))
}

fn apply_line(state: &mut State, line: &[u8], position: Position) -> Result<(), &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let Some(Line::Record(record)) = Line::read(text) else {
        return Err("it is of no known form");
    };
    let change = state.keys.change(&record, line.len()).ok_or("its approvals cannot be read")?;
    state.apply(record.at(), change, position)
}

/// Makes a store in an empty directory: its first segment, with the `store` record committed.
///
/// # Errors
/// Those of the disk; then no store is there, or one that opens.
pub fn make(disk: &dyn Disk, geometry: Geometry, identity: &Identity) -> io::Result<Head> {
    let before = SegmentLine {
        identity: identity.clone(),
        first: 0,
        batch: 0,
        root: Tree::default().root(),
    };
    let record = store_line(identity);
    let mut tree = Tree::default();
    tree.push(leaf_hash(record.as_bytes()));
    let head = tree.head();
    let commit = Commit { batch: 1, size: head.size, root: head.root };
    let text = format!("{}\n{record}\n{}\n", before.line(), commit.line());
    match segment::make(disk, 1, geometry.segment_bytes, text.as_bytes()) {
        Ok(()) => Ok(head),
        Err(segment::MakeError::Absent(error) | segment::MakeError::Unsure(error)) => Err(error),
    }
}
