//! Reading a store: every line, every number and root, and what is owed and spent after them. Nothing
//! is written here.

use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use super::Geometry;
use super::blocks::{Blocks, Growth};
use super::fault::{OTHER_FORMAT, OpenError, corrupt, failed};
use super::files;
use super::index::Index;
use super::parse::{ParsedBatch, Segment};
use super::segment;
use super::state::{Change, Position, State};
use super::tail::{self, text_at};
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Identity, Record, SegmentLine, is_of_other_format};
use crate::core::tree::{Head, Tree};
use crate::sys::disk::Disk;
use crate::sys::locked;

/// Told how far opening is: bytes read, and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Everything that reading the files tells.
#[derive(Default)]
pub struct Replay {
    /// Known once the first batch is taken.
    pub identity: Option<Identity>,
    pub state: State,
    pub tree: Tree,
    /// What came before the last batch: surely on the disk, since a batch is written only after the
    /// sync of the one before.
    before_last: Tree,
    /// For proofs about what was read.
    pub blocks: Arc<Mutex<Blocks>>,
    /// The last valid batch, by number.
    pub batch: u64,
    pub(super) last_is_seal: bool,
    /// Segments that exist.
    pub(super) segments: u32,
    /// Where the next batch goes; in no segment before the first.
    pub end: Place,
    /// The last valid batch: where it is, and its text.
    pub(super) last: (Place, Vec<u8>),
    /// What stands behind it, to be blanked.
    pub(super) torn: Option<Place>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u32,
    pub offset: u64,
}

/// A committed record, and the batch that it stands in.
pub struct Seen<'a> {
    pub line: &'a [u8],
    pub change: &'a Change,
    /// The number of the execution of which it is the claim or the receipt.
    pub execution: Option<u32>,
    pub position: Position,
    pub batch: u64,
    /// Records in that batch.
    pub among: usize,
}

impl<'a> Seen<'a> {
    /// The record, and its line.
    pub fn record(&self) -> Result<(Record<'a>, &'a str), String> {
        let line = std::str::from_utf8(self.line).ok();
        line.and_then(|line| Some((Record::read(line)?, line))).ok_or("not a record".to_owned())
    }
}

/// Told of each committed record, in order; an error says what is wrong with it.
pub type Observer<'a> = &'a mut dyn FnMut(&Seen) -> Result<(), String>;

/// Threads that read segments and take them apart, while the caller's adds them up.
const READERS: u32 = 2;
/// A store of no more segments is read without further threads: it takes no time worth sharing, and
/// a simulation opens small stores by the thousand.
const SEGMENTS_READ_ALONE: u32 = 4;
/// How often segments are read again that did not fit.
const READ_AGAIN_MAX: u32 = 3;

/// Reads all segments, for [`super::open::take_over`], with the index, which is most of what a service holds in
/// memory.
pub fn replay_to_serve(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
) -> Result<(Replay, Index), OpenError> {
    let mut index = Index::default();
    let line = |at| files::line(disk, geometry, at);
    let mut add = |seen: &Seen| index.add(seen.change, seen.execution, seen.position, &line);
    let replay = observe(disk, geometry, progress, &mut add)?;
    Ok((replay, index))
}

/// Reads all segments; changes nothing. The one way in which a store is read, by a service that opens it, an
/// audit, and commands beside a service.
pub fn observe(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
    observer: Observer,
) -> Result<Replay, OpenError> {
    let segments = count_segments(disk, geometry)?;
    let mut replay = Replay { segments, ..Replay::default() };
    let keys = replay.state.keys.clone();
    let taken = Mutex::new(Vec::new());
    let next = |number| -> Result<Segment, OpenError> {
        let mut segment: Segment = locked(&taken).pop().unwrap_or_default();
        segment.read(disk, geometry, number, &keys)?;
        Ok(segment)
    };
    let threads = if segments > SEGMENTS_READ_ALONE { READERS } else { 0 };
    std::thread::scope(|scope| {
        // The readers take turns; without room in their channels few segments are in memory.
        let readers: Vec<_> = (0..threads)
            .map(|turn| {
                let (sender, parsed) = sync_channel(0);
                scope.spawn(move || {
                    let mut own = (1..=segments).skip(turn as usize).step_by(READERS as usize);
                    own.all(|number| sender.send(next(number)).is_ok())
                });
                parsed
            })
            .collect();
        for number in 1..=segments {
            let mut segment = match readers.get((number as usize - 1) % READERS as usize) {
                None => next(number)?,
                Some(reader) => reader.recv().map_err(|error| {
                    failed("reading", "the segments")(io::Error::other(error))
                })??,
            };
            replay.take_settled(disk, geometry, &mut segment, observer)?;
            locked(&taken).push(segment);
            let bytes = |segments: u32| u64::from(segments) * geometry.segment_bytes;
            progress(bytes(number), bytes(segments));
        }
        if replay.identity.is_some() { Ok(replay) } else { Err(OpenError::Absent) }
    })
}

/// How many segments there are; their numbers have no gap and their lengths are right.
pub(super) fn count_segments(disk: &dyn Disk, geometry: Geometry) -> Result<u32, OpenError> {
    let names = disk.names().map_err(failed("listing", "the directory"))?;
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
        let length = disk.length(&file).map_err(failed("measuring", &file))?;
        let due = geometry.segment_bytes;
        if length != due {
            let reason = format!("the file ends or goes on here; a segment has {due} bytes");
            return Err(corrupt(*number, length.min(due), &reason));
        }
    }
    Ok(numbers.len() as u32)
}

impl Replay {
    /// The newest head that is surely synced, though another process may be writing.
    pub fn synced(&self) -> Head {
        // The first batch is synced before it has its name.
        if self.batch == 1 { self.tree.head() } else { self.before_last.head() }
    }

    /// Where text begins behind the last valid batch: the segment's name, and the byte. It is a batch being
    /// written, or one cut short.
    pub fn tail(&self) -> Option<(String, u64)> {
        self.torn.map(|place| (segment::name(place.segment), place.offset))
    }

    /// Adds the next segment. What a service writes just now is read before and after, or half of it: so what
    /// does not fit is read again, and is damage once it stays.
    fn take_settled(
        &mut self,
        disk: &dyn Disk,
        geometry: Geometry,
        segment: &mut Segment,
        observer: Observer,
    ) -> Result<(), OpenError> {
        let last = segment.number;
        let mut misfit = self.take(segment, observer)?;
        for _ in 0..READ_AGAIN_MAX {
            if misfit.is_none() {
                return Ok(());
            }
            for number in self.end.segment.max(1)..=last {
                segment.read(disk, geometry, number, &self.state.keys)?;
                misfit = self.take(segment, observer)?;
                if misfit.is_some() {
                    break;
                }
            }
        }
        misfit.map_or(Ok(()), Err)
    }

    /// Adds what follows of a segment; gives what is wrong with the rest.
    fn take(
        &mut self,
        segment: &Segment,
        observer: Observer,
    ) -> Result<Option<OpenError>, OpenError> {
        let (number, bytes) = (segment.number, &segment.bytes);
        let misfit = |byte: usize, reason| Ok(Some(corrupt(number, byte as u64, reason)));
        self.torn = self.torn.filter(|place| place.segment < number);
        if let Some(place) = self.torn.filter(|_| text_at(bytes, 0).is_some()) {
            let reason = "not a valid batch, and a segment with text follows";
            return Ok(Some(corrupt(place.segment, place.offset, reason)));
        }
        let known = segment.batches.partition_point(|batch| {
            Place { segment: number, offset: batch.bytes.start as u64 } < self.end
        });
        let mut last = None;
        for batch in &segment.batches[known..] {
            let Some(grown) = self.follows(segment, batch) else { break };
            self.take_batch(segment, batch, grown, observer)?;
            let end = batch.bytes.end.next_multiple_of(SECTOR_BYTES as usize);
            self.end = Place { segment: number, offset: end as u64 };
            last = Some(batch);
            if let Some(text) = text_at(&bytes[..end], batch.bytes.end) {
                return Err(corrupt(number, text as u64, "text between two batches"));
            }
        }
        if let Some(batch) = last {
            let place = Place { segment: number, offset: batch.bytes.start as u64 };
            self.last = (place, bytes[batch.bytes.clone()].to_vec());
        }
        let end = if self.end.segment == number { self.end.offset as usize } else { 0 };
        if text_at(bytes, end).is_some() {
            if is_of_other_format(&bytes[end..]) {
                return misfit(end, OTHER_FORMAT);
            }
            if let Err(reason) = tail::judge(bytes, end, self.batch + 1) {
                return misfit(end, reason);
            }
            self.torn = Some(Place { segment: number, offset: end as u64 });
        }
        // An unwritten segment waits behind the current one: only ever one, the last.
        if end == 0 && (number < self.segments || number == 1) {
            return misfit(0, "no valid batch where the segment begins");
        }
        Ok(None)
    }

    /// The tree after this batch, and the blocks that it completes, if it must come next.
    fn follows(&self, segment: &Segment, batch: &ParsedBatch) -> Option<(Tree, Growth)> {
        // The segment line is no leaf: in the first segment only the `store` record, which must be
        // the very first and no other, holds what it says.
        if batch.store.is_some() != self.identity.is_none() {
            return None;
        }
        if batch.bytes.start == 0 {
            let identity = self.identity.as_ref().or(batch.store.as_ref())?;
            let Head { size, root } = self.tree.head();
            // There is one spelling of what it must say.
            let due = SegmentLine::new(identity, size, self.batch, root).line();
            if !segment.bytes.starts_with(due.as_bytes()) {
                return None;
            }
        }
        let mut tree = self.tree.clone();
        let mut growth = Growth::default();
        for record in &segment.records[batch.records.clone()] {
            let position = segment.position + record.bytes.start as u64;
            growth.push(&mut tree, record.leaf, position);
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
        batch: &ParsedBatch,
        (tree, growth): (Tree, Growth),
        observer: Observer,
    ) -> Result<(), OpenError> {
        self.identity = self.identity.take().or_else(|| batch.store.clone());
        for record in &segment.records[batch.records.clone()] {
            let offset = record.bytes.start as u64;
            let position = segment.position + offset;
            let wrong = |reason: &str| corrupt(segment.number, offset, reason);
            let applied = self.state.apply(record.at, &record.change, position);
            let seen = Seen {
                line: &segment.bytes[record.bytes.clone()],
                change: &record.change,
                execution: applied.map_err(wrong)?,
                position,
                batch: batch.commit.batch,
                among: batch.records.len(),
            };
            observer(&seen).map_err(|reason| wrong(&reason))?;
        }
        // The root was computed when the commit line was judged.
        let end = segment.position + batch.bytes.end as u64;
        let head = Head { size: batch.commit.size, root: batch.commit.root };
        locked(&self.blocks).grow(growth, head, end);
        self.before_last = std::mem::replace(&mut self.tree, tree);
        self.batch = batch.commit.batch;
        self.last_is_seal = batch.records.is_empty();
        Ok(())
    }
}
