//! Reading a store: every line, every number and root, and what is owed and spent after them. Nothing
//! is written here.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::Geometry;
use super::fault::{OTHER_FORMAT, OpenError, corrupt, failed};
use super::index::Index;
use super::log::{Blocks, FileLog, Growth};
use super::parse::{ParsedBatch, Segment};
use super::segment;
use super::state::{Position, State};
use super::tail::{self, text_at};
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Identity, Record, SegmentLine, is_of_other_format};
use crate::core::tree::{Head, Tree};
use crate::sys::disk::Disk;

/// Told how far opening is: bytes read, and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Everything that reading the files tells.
pub struct Replay {
    /// Known once the first batch is taken.
    pub(super) identity: Option<Identity>,
    pub state: State,
    /// Where each execution is, for who serves the store.
    pub(super) index: Option<Index>,
    pub tree: Tree,
    /// What came before the last batch: surely on the disk, since a batch is written only after the
    /// sync of the one before.
    before_last: Tree,
    blocks: Arc<Blocks>,
    /// The last valid batch, by number.
    pub batch: u64,
    pub(super) last_is_seal: bool,
    /// Segments that exist.
    pub(super) segments: u32,
    /// Where the next batch goes.
    pub(super) end: Place,
    /// The last valid batch.
    pub(super) last: LastBatch,
    /// What stands behind it, to be blanked.
    pub(super) torn: Option<Place>,
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

pub(super) struct LastBatch {
    pub(super) place: Place,
    pub(super) text: Vec<u8>,
}

/// A committed record, and the batch that it stands in.
pub struct Seen<'a> {
    pub record: &'a Record<'a>,
    pub batch: u64,
    /// Records in that batch.
    pub among: usize,
}

/// Told of each committed record, in order; an error says what is wrong with it.
pub type Observer<'a> = &'a mut dyn FnMut(&Seen) -> Result<(), String>;

/// Threads that read segments and take them apart, while the caller's adds them up.
const READERS: u32 = 2;
/// A store of no more segments is read without further threads: it takes no time worth sharing, and
/// a simulation opens small stores by the thousand.
const SEGMENTS_READ_ALONE: u32 = 4;

/// Reads all segments; changes nothing. Without the index of what was executed, which is most of what a
/// service holds in memory: only it looks anything up.
pub fn replay(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
    observer: Option<Observer>,
) -> Result<Replay, OpenError> {
    read(disk, geometry, progress, observer, false)
}

/// The same with its index, for [`super::open::take_over`].
pub fn replay_to_serve(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
) -> Result<Replay, OpenError> {
    read(disk, geometry, progress, None, true)
}

fn read(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
    mut observer: Option<Observer>,
    is_indexed: bool,
) -> Result<Replay, OpenError> {
    let names = disk.names().map_err(|error| failed("listing the directory", error))?;
    let segments = count_segments(disk, geometry, &names)?;
    let mut replay = Replay::new(segments, is_indexed);
    let keys = replay.state.keys.clone();
    let total = u64::from(segments) * geometry.segment_bytes;
    if segments <= SEGMENTS_READ_ALONE {
        for number in 1..=segments {
            replay.take(&Segment::read(disk, geometry, number, &keys)?, &mut observer)?;
            progress(u64::from(number) * geometry.segment_bytes, total);
        }
        return if replay.identity.is_some() { Ok(replay) } else { Err(OpenError::Absent) };
    }
    std::thread::scope(|scope| {
        // The readers take turns; without room in their channels few segments are in memory.
        let readers: Vec<_> = (1..=READERS)
            .map(|first| {
                let (sender, parsed) = sync_channel(0);
                let keys = keys.clone();
                scope.spawn(move || {
                    for number in (first..=segments).step_by(READERS as usize) {
                        if sender.send(Segment::read(disk, geometry, number, &keys)).is_err() {
                            return;
                        }
                    }
                });
                parsed
            })
            .collect();
        for (_, reader) in (1..=segments).zip(readers.iter().cycle()) {
            let segment = reader
                .recv()
                .map_err(|error| failed("reading the segments", io::Error::other(error)))??;
            replay.take(&segment, &mut observer)?;
            progress(u64::from(segment.number) * geometry.segment_bytes, total);
        }
        if replay.identity.is_some() { Ok(()) } else { Err(OpenError::Absent) }
    })?;
    Ok(replay)
}

/// How many segments there are; their numbers have no gap and their lengths are right.
pub(super) fn count_segments(
    disk: &dyn Disk,
    geometry: Geometry,
    names: &[String],
) -> Result<u32, OpenError> {
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(OpenError::Absent);
    }
    for (expected, number) in (1u32..).zip(&numbers) {
        if *number != expected {
            return Err(corrupt(expected, 0, "this segment is missing, and later ones are there"));
        }
        let file = segment::name(*number);
        let length =
            disk.length(&file).map_err(|error| failed(&format!("measuring {file}"), error))?;
        if length != geometry.segment_bytes {
            let reason = format!(
                "the file ends or goes on here; a segment has {} bytes",
                geometry.segment_bytes
            );
            return Err(corrupt(*number, length.min(geometry.segment_bytes), &reason));
        }
    }
    Ok(numbers.len() as u32)
}

impl Replay {
    fn new(segments: u32, is_indexed: bool) -> Self {
        let start = Place { segment: 1, offset: 0 };
        Replay {
            identity: None,
            state: State::default(),
            index: is_indexed.then(Index::default),
            tree: Tree::default(),
            before_last: Tree::default(),
            blocks: Arc::default(),
            batch: 0,
            last_is_seal: false,
            segments,
            end: start,
            last: LastBatch { place: start, text: Vec::new() },
            torn: None,
        }
    }

    /// What the store is.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The newest head that is surely synced, though another process may be writing.
    pub fn synced(&self) -> Head {
        // The first batch is synced before it has its name.
        if self.batch == 1 { self.tree.head() } else { self.before_last.head() }
    }

    /// For proofs about what was read.
    pub fn log<D>(&self, disk: D, geometry: Geometry) -> FileLog<D> {
        FileLog { disk, geometry, blocks: self.blocks.clone() }
    }

    /// Whether text stands behind the last valid batch.
    pub fn has_tail(&self) -> bool {
        self.torn.is_some()
    }

    /// Adds the next segment.
    fn take(
        &mut self,
        segment: &Segment,
        observer: &mut Option<Observer>,
    ) -> Result<(), OpenError> {
        let number = segment.number;
        if let Some(place) = self.torn.filter(|_| text_at(&segment.bytes, 0).is_some()) {
            let reason = "not a valid batch, and a segment with text follows";
            return Err(corrupt(place.segment, place.offset, reason));
        }
        let mut end = 0;
        let mut last = None;
        for (start, batch) in &segment.batches {
            let Some(grown) = self.follows(batch, segment.position + *start as u64) else { break };
            self.take_batch(segment, *start, batch, grown, observer)?;
            let stop = start + batch.bytes;
            last = Some(*start..stop);
            end = stop.next_multiple_of(SECTOR_BYTES as usize);
            if let Some(text) = text_at(&segment.bytes[..end], stop) {
                return Err(corrupt(number, text as u64, "text between two batches"));
            }
        }
        if text_at(&segment.bytes, end).is_some() {
            if is_of_other_format(&segment.bytes[end..]) {
                return Err(corrupt(number, end as u64, OTHER_FORMAT));
            }
            tail::judge(&segment.bytes, end, self.batch + 1)
                .map_err(|reason| corrupt(number, end as u64, reason))?;
            self.torn = Some(Place { segment: number, offset: end as u64 });
        }
        match last {
            Some(range) => {
                self.end = Place { segment: number, offset: end as u64 };
                self.last.place = Place { segment: number, offset: range.start as u64 };
                self.last.text.clear();
                self.last.text.extend_from_slice(&segment.bytes[range]);
                Ok(())
            }
            // An unwritten segment waits behind the current one: only ever one, the last.
            None if number == self.segments && number > 1 => Ok(()),
            None => Err(corrupt(number, 0, "no valid batch where the segment begins")),
        }
    }

    /// The tree after this batch, and the blocks that it completes, if it must come next.
    fn follows(&self, batch: &ParsedBatch, position: Position) -> Option<(Tree, Growth)> {
        // The segment line is no leaf: in the first segment only the `store` record, which must be
        // the very first and no other, holds what it says.
        if batch.store.is_some() != self.identity.is_none() {
            return None;
        }
        if let Some(line) = &batch.segment {
            let known = self.identity.as_ref().or(batch.store.as_ref());
            let same_store = known == Some(&line.identity());
            let same_past = line.first == self.tree.size()
                && line.batch == self.batch
                && line.root == self.tree.root();
            if !same_store || !same_past {
                return None;
            }
        }
        let mut tree = self.tree.clone();
        let mut growth = Growth::default();
        for record in &batch.records {
            growth.push(&mut tree, record.leaf, position + record.offset as u64);
        }
        let commit = &batch.commit;
        let valid = commit.batch == self.batch + 1
            && commit.size == tree.size()
            && commit.root == tree.root();
        valid.then_some((tree, growth))
    }

    fn take_batch(
        &mut self,
        segment: &Segment,
        start: usize,
        batch: &ParsedBatch,
        (tree, growth): (Tree, Growth),
        observer: &mut Option<Observer>,
    ) -> Result<(), OpenError> {
        let number = segment.number;
        if self.identity.is_none() {
            self.identity = batch.segment.as_ref().map(SegmentLine::identity);
        }
        for record in &batch.records {
            let offset = start + record.offset;
            let position = segment.position + offset as u64;
            if let Some(observer) = observer {
                let line = std::str::from_utf8(&segment.bytes[offset..offset + record.length]).ok();
                let read = line.and_then(Record::read);
                let read = read.ok_or_else(|| corrupt(number, offset as u64, "not a record"))?;
                let (batch, among) = (batch.commit.batch, batch.records.len());
                observer(&Seen { record: &read, batch, among })
                    .map_err(|reason| corrupt(number, offset as u64, &reason))?;
            }
            let refused = |reason| corrupt(number, offset as u64, reason);
            let execution =
                self.state.apply(record.at, &record.change, position).map_err(refused)?;
            if let Some(index) = &mut self.index {
                index.add(&record.change, execution, position).map_err(refused)?;
            }
        }
        // The root was computed when the commit line was judged.
        let end = segment.position + (start + batch.bytes) as u64;
        self.blocks.grow(growth, Head { size: batch.commit.size, root: batch.commit.root }, end);
        self.before_last = std::mem::replace(&mut self.tree, tree);
        self.batch = batch.commit.batch;
        self.last_is_seal = batch.records.is_empty();
        Ok(())
    }
}
