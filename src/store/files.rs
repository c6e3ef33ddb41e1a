//! The store of this program: an append-only log of records in numbered segments, and the index over it.
//!
//! Invariant: what [`Store::append`] has returned success for is on the disk, in the store that the
//! configured path leads to, and nothing is written that the next opening would refuse, or after a
//! write or sync that failed. So the records of a batch are applied before they are written, and whoever
//! looks at the state looks after [`Store::append`]. The order of system calls of one batch is `pwrite` (all of it), `fdatasync` of the same descriptor, then three
//! `stat`s: of the directory by its path, of `LOCK` and of the segment by their names. The next batch
//! is written only after all of that has succeeded.

use std::io;
use std::sync::{Arc, Mutex};

use super::blocks::{Blocks, Growth};
use super::index::Index;
use super::segment::{self, Preparation};
use super::state::{Position, State};
use super::{Batch, By, COMMIT_BYTES_MAX, Found, Lost, Note, Room, Store, emptied};
use crate::core::clock::Clock;
use crate::core::limits::{
    BATCH_BYTES_MAX, EXECUTIONS_MAX, REQUEST_BYTES_MAX, SECTOR_BYTES, SEGMENT_BYTES, SEGMENTS_MAX,
};
use crate::core::record::{Commit, Identity, SegmentLine};
use crate::core::time::Time;
use crate::core::tree::{Head, Tree, leaf_hash};
use crate::sys::disk::Disk;
use crate::sys::locked;

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

/// What is read first of a line whose length is unknown.
const LINE_READ_BYTES: usize = 4096;

/// A store in files that is open.
pub struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) geometry: Geometry,
    pub(super) blocks: Arc<Mutex<Blocks>>,
    pub(super) identity: Identity,
    pub(super) preparation: Arc<Preparation>,
    pub(super) state: State,
    pub(super) index: Index,
    pub(super) tree: Tree,
    /// The number of the last batch.
    pub(super) batch: u64,
    /// The segment being written, and where in it the next batch begins.
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// The last batch has no records.
    pub(super) sealed: bool,
    pub(super) poisoned: bool,
    /// The room of the last batch's text, for the next.
    pub(super) text: Vec<u8>,
}

impl Files {
    /// What the helper thread works by.
    pub fn preparation(&self) -> Arc<Preparation> {
        self.preparation.clone()
    }

    /// What others may read while this is written.
    pub fn blocks(&self) -> Arc<Mutex<Blocks>> {
        self.blocks.clone()
    }

    /// Where the batch goes, and what its text begins with: in a new segment the segment line.
    fn place(&self, batch: &Batch, text: &mut Vec<u8>) -> Result<(u32, u64), Lost> {
        let bytes = batch.bytes_with(0);
        if self.offset + bytes as u64 <= self.geometry.segment_bytes {
            return Ok((self.segment, self.offset));
        }
        if self.preparation.ready() <= self.segment {
            return Err(Lost::Unknown("a batch was written without room for it".to_owned()));
        }
        let Head { size, root } = self.tree.head();
        let before = SegmentLine::new(&self.identity, size, self.batch, root);
        text.extend_from_slice(before.line().as_bytes());
        text.push(b'\n');
        Ok((self.segment + 1, 0))
    }

    fn apply(&mut self, line: &[u8], position: Position) -> Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let (at, change) = self.state.keys.read(text)?;
        let execution = self.state.apply(at, &change, position)?;
        let (disk, geometry) = (self.disk.clone(), self.geometry);
        let read = move |at| self::line(disk.as_ref(), geometry, at);
        self.index.add(&change, execution, position, &read)
    }

    fn position(&self, segment: u32, offset: u64) -> Position {
        u64::from(segment - 1) * self.geometry.segment_bytes + offset
    }

    /// What is on the disk is unknown, and nothing more may be written.
    fn poison(&mut self, why: String) -> Lost {
        self.poisoned = true;
        Lost::Unknown(why)
    }
}

impl Store for Files {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.state.clock
    }

    fn size(&self) -> u64 {
        self.tree.size()
    }

    fn find(&self, by: By) -> io::Result<Option<Found>> {
        let key = self.state.keys.of(by.bytes());
        self.index.find(by, key, &|at| self.line(at))
    }

    fn line(&self, position: Position) -> io::Result<String> {
        line(self.disk.as_ref(), self.geometry, position)
    }

    fn open_jobs(&self) -> (u64, Option<Position>) {
        let jobs = &self.index.jobs;
        let claim = |number| self.index.executions.get(number).map(|execution| execution.claim);
        (jobs.open, jobs.oldest().and_then(claim))
    }

    /// Any write or sync error poisons the store: this and every later call fail, and what of the
    /// batch is on the disk only the next opening can tell.
    fn append(&mut self, batch: &Batch) -> Result<(), Lost> {
        if self.preparation.is_unsure() {
            let next = segment::name(self.preparation.ready() + 1);
            let why = self.preparation.failure().unwrap_or_default();
            return Err(self.poison(format!("whether {next} has its name is unknown: {why}")));
        }
        if self.poisoned {
            return Err(Lost::Unknown("the store failed before and takes no more".to_owned()));
        }
        // Until the sync has succeeded nothing is known: an early return must leave it poisoned.
        self.poisoned = true;
        let mut text = std::mem::take(&mut self.text);
        emptied(&mut text);
        let (segment, offset) = self.place(batch, &mut text)?;
        let base = self.position(segment, offset) + text.len() as u64;
        let mut tree = self.tree.clone();
        let mut growth = Growth::default();
        for (start, line) in batch.lines() {
            let position = base + start as u64;
            self.apply(line, position).map_err(|reason| {
                Lost::Refused(format!("a record of ours breaks a promise of the format: {reason}"))
            })?;
            growth.push(&mut tree, leaf_hash(line), position);
        }
        let head = tree.head();
        let commit = Commit { batch: self.batch + 1, size: head.size, root: head.root };
        text.extend_from_slice(&batch.text);
        text.extend_from_slice(commit.line().as_bytes());
        text.push(b'\n');
        let name = segment::name(segment);
        let written = self.disk.write_at(&name, offset, &text).and_then(|()| self.disk.sync(&name));
        // A store that is gone, or was changed for another, acknowledges nothing.
        let written = written.and_then(|()| self.disk.confirm(&name));
        written.map_err(|error| Lost::Unknown(format!("{name} at byte {offset}: {error}")))?;
        self.tree = tree;
        locked(&self.blocks).grow(growth, head, base + batch.text.len() as u64);
        self.batch = commit.batch;
        self.segment = segment;
        self.offset = (offset + text.len() as u64).next_multiple_of(SECTOR_BYTES);
        self.text = text;
        self.sealed = batch.is_empty();
        self.preparation.want(segment + 1);
        self.poisoned = false;
        Ok(())
    }

    /// Writes a commit line without records, so that the last acknowledged batch is not the last in
    /// the file; never two in a row. In any case it looks whether the store is still there.
    fn rest(&mut self, kept: usize) -> Result<(), Lost> {
        if !self.sealed && self.room().has(COMMIT_BYTES_MAX, kept) {
            return self.append(&Batch::default());
        }
        let confirmed = self.disk.confirm(&segment::name(self.segment));
        confirmed.map_err(|error| self.poison(error.to_string()))
    }

    fn room(&self) -> Room {
        Room {
            batch_bytes_max: self.geometry.batch_bytes_max,
            // The last segment is kept for what is owed.
            is_full: self.state.entries() >= self.geometry.executions_max
                || self.segment + 1 >= SEGMENTS_MAX,
            used: self.position(self.segment, self.offset),
            left: self.geometry.segment_bytes - self.offset,
            segment_bytes: self.geometry.segment_bytes,
            next: self.preparation.next(self.segment),
        }
    }

    fn note(&self, name: &str) -> io::Result<Option<Note>> {
        let Some(left_at) = self.disk.changed_at(name)? else { return Ok(None) };
        let text = match self.disk.read_small(name, REQUEST_BYTES_MAX) {
            Ok(None) => return Ok(None),
            // Another has come meanwhile: that one's text is not this one's.
            Ok(Some(_)) if self.disk.changed_at(name)? != Some(left_at) => return self.note(name),
            read => read.ok().flatten(),
        };
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Some(Note { text, left_at }))
    }

    fn remove_note(&mut self, name: &str, left_at: Time) -> Result<bool, Lost> {
        let is_it = matches!(self.disk.changed_at(name), Ok(Some(at)) if at == left_at);
        if !is_it || self.disk.remove(name).is_err() {
            return Ok(false);
        }
        let synced = self.disk.sync_directory();
        synced.map_err(|error| self.poison(format!("syncing the store's directory: {error}")))?;
        Ok(true)
    }
}

/// The record at `position`.
pub fn line(disk: &dyn Disk, geometry: Geometry, position: Position) -> io::Result<String> {
    let number = position / geometry.segment_bytes + 1;
    let name = segment::name(u32::try_from(number).map_err(io::Error::other)?);
    let offset = position % geometry.segment_bytes;
    // No line is longer than a batch.
    let rest = ((geometry.segment_bytes - offset) as usize).min(geometry.batch_bytes_max);
    let mut wanted = LINE_READ_BYTES.min(rest);
    loop {
        let mut bytes = vec![0; wanted];
        disk.read_at(&name, offset, &mut bytes)?;
        if let Some(length) = bytes.iter().position(|byte| *byte == b'\n') {
            bytes.truncate(length);
            return String::from_utf8(bytes).map_err(io::Error::other);
        }
        if wanted == rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        wanted = (wanted * 16).min(rest);
    }
}

/// Makes a store in an empty directory: its first segment, with the `store` record committed.
///
/// # Errors
/// Those of the disk; then no store is there, or one that opens.
pub fn make(disk: &dyn Disk, geometry: Geometry, identity: &Identity) -> io::Result<Head> {
    let before = SegmentLine::new(identity, 0, 0, Tree::default().root());
    let record = identity.line();
    let mut tree = Tree::default();
    tree.push(leaf_hash(record.as_bytes()));
    let head = tree.head();
    let commit = Commit { batch: 1, size: head.size, root: head.root };
    let text = format!("{}\n{record}\n{}\n", before.line(), commit.line());
    let made = segment::make(disk, 1, geometry.segment_bytes, text.as_bytes());
    made.map(|()| head).map_err(|failure| failure.error)
}
