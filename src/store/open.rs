//! Opening: every line is read, every number and root recomputed, the tail judged, and only then
//! is anything written.
//!
//! The tail is judged by the order of syncs (design section 8). A batch is written only after the
//! one before is synced, so a power cut can leave at most the last batch in part, by whole sectors;
//! a sector of it that is not there is still blank. Anything else that is not a valid batch is
//! damage that no power cut makes, and is refused.
//!
//! Order of writes, once the store is found good: blanks from the end of the last valid batch to
//! the end of its segment and over the prepared one, that batch again in place, a sync of each file
//! touched, a sync of the directory. The kernel may remember pages that the disk lost after a failed
//! sync; what was read is so made true before anybody relies on it.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::blocks::{Blocks, Growth};
use super::disk::Disk;
use super::proof::Source;
use super::record::{Commit, Identity, Line, Record, SegmentLine};
use super::segment::{self, BLANK, Preparation, TEMPORARY};
use super::state::{Change, Keys, Position, State};
use super::tree::{Head, Tree, leaf_hash};
use super::{Geometry, Log, Store};
use crate::hash::Hash;
use crate::limits::SECTOR_BYTES;

/// Why a store does not open.
#[derive(Debug)]
pub enum OpenError {
    /// There is no segment in the directory.
    Absent,
    /// The files are not what this program wrote. Nothing was changed.
    Corrupt { file: String, byte: u64, reason: String },
    /// The disk failed.
    Disk { doing: String, error: io::Error },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no store here"),
            Self::Corrupt { file, byte, reason } => write!(f, "{file}, byte {byte}: {reason}"),
            Self::Disk { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

/// An unfinished last batch that a power cut left and that opening blanked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub segment: u32,
    pub offset: u64,
    pub bytes: u64,
    /// The copy of what was there, unless it could not be made.
    pub copy: Option<String>,
}

/// Told how far opening is: bytes read, and bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Opens the store for writing.
pub fn open(
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    progress: Progress,
) -> Result<(Store, Option<Torn>), OpenError> {
    let replay = replay(disk.as_ref(), geometry, progress, None)?;
    take_over(disk, geometry, replay)
}

/// Makes the disk hold what was read, and the store one to be written: the second half of opening,
/// for who wants to judge the first before anything is changed.
pub fn take_over(
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    replay: Replay,
) -> Result<(Store, Option<Torn>), OpenError> {
    let Some(identity) = replay.identity.clone() else { return Err(OpenError::Absent) };
    let names = disk.names().map_err(|error| failed("listing the directory", error))?;
    // From here on the store is known to be good, and is written.
    for name in names.iter().filter(|name| is_unfinished_segment(name)) {
        disk.remove(name).map_err(|error| failed(&format!("removing {name}"), error))?;
    }
    let torn = repair(disk.as_ref(), geometry, &replay)?;
    let preparation = Arc::new(Preparation::default());
    preparation.set(replay.segments, replay.end.segment + 1);
    let log = Arc::new(Log { disk: disk.clone(), geometry, blocks: replay.blocks });
    let store = Store {
        disk,
        geometry,
        log,
        identity,
        preparation,
        state: replay.state,
        tree: replay.tree,
        batch: replay.batch,
        segment: replay.end.segment,
        offset: replay.end.offset,
        sealed: replay.last_is_seal,
        poisoned: false,
    };
    Ok((store, torn))
}

/// Nobody else's file: `openexec freeze` may be at work on one of its own right now.
fn is_unfinished_segment(name: &str) -> bool {
    name.strip_suffix(TEMPORARY).and_then(segment::number).is_some()
}

/// What the store says of itself in its first line, read without the rest.
pub fn identity(disk: &dyn Disk, geometry: Geometry) -> Result<Identity, OpenError> {
    let names = disk.names().map_err(|error| failed("listing the directory", error))?;
    count_segments(disk, geometry, &names)?;
    let file = segment::name(1);
    let mut bytes = [0; SECTOR_BYTES as usize];
    disk.read_at(&file, 0, &mut bytes)
        .map_err(|error| failed(&format!("reading {file}"), error))?;
    let line = bytes.split(|byte| *byte == BLANK).next().unwrap_or(&[]);
    match std::str::from_utf8(line).ok().and_then(Line::read) {
        Some(Line::Segment(line)) => Ok(line.identity),
        _ => Err(corrupt(1, 0, "no segment line where the store begins")),
    }
}

/// Everything that reading the files tells.
pub struct Replay {
    /// Known once the first batch is taken.
    identity: Option<Identity>,
    pub state: State,
    pub tree: Tree,
    /// What came before the last batch: surely on the disk, since a batch is written only after the
    /// sync of the one before.
    before_last: Tree,
    blocks: Blocks,
    /// The last valid batch, by number.
    pub batch: u64,
    last_is_seal: bool,
    /// Segments that exist.
    segments: u32,
    /// Where the next batch goes.
    end: Place,
    /// The last valid batch.
    last: LastBatch,
    /// What stands behind it, to be blanked.
    torn: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    segment: u32,
    offset: u64,
}

struct LastBatch {
    place: Place,
    text: Vec<u8>,
}

/// Told of each committed record, in order; an error says what is wrong with it.
pub type Observer<'a> = &'a mut dyn FnMut(&Record, Position) -> Result<(), String>;

/// Threads that read segments and take them apart, while the caller's adds them up.
const READERS: u32 = 2;
/// A store of no more segments is read without further threads: it takes no time worth sharing, and
/// a simulation opens small stores by the thousand.
const SEGMENTS_READ_ALONE: u32 = 4;

/// Reads all segments; changes nothing.
pub fn replay(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
    mut observer: Option<Observer>,
) -> Result<Replay, OpenError> {
    let names = disk.names().map_err(|error| failed("listing the directory", error))?;
    let segments = count_segments(disk, geometry, &names)?;
    let mut replay = Replay::new(segments);
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
fn count_segments(disk: &dyn Disk, geometry: Geometry, names: &[String]) -> Result<u32, OpenError> {
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

/// One segment, taken apart as far as it is formed as batches.
struct Segment {
    number: u32,
    /// Where it begins, over all segments.
    position: Position,
    bytes: Vec<u8>,
    /// Each begins where a sector begins, right after the one before.
    batches: Vec<(usize, ParsedBatch)>,
}

impl Segment {
    fn read(
        disk: &dyn Disk,
        geometry: Geometry,
        number: u32,
        keys: &Keys,
    ) -> Result<Self, OpenError> {
        let file = segment::name(number);
        let mut bytes = vec![0; geometry.segment_bytes as usize];
        disk.read_at(&file, 0, &mut bytes)
            .map_err(|error| failed(&format!("reading {file}"), error))?;
        let mut batches = Vec::new();
        let mut at = 0;
        while at < bytes.len()
            && let Some(batch) = parse_batch(&bytes[at..], keys, at == 0)
        {
            let end = (at + batch.bytes).next_multiple_of(SECTOR_BYTES as usize);
            batches.push((at, batch));
            at = end;
        }
        let position = u64::from(number - 1) * geometry.segment_bytes;
        Ok(Segment { number, position, bytes, batches })
    }
}

impl Replay {
    fn new(segments: u32) -> Self {
        let start = Place { segment: 1, offset: 0 };
        Replay {
            identity: None,
            state: State::default(),
            tree: Tree::default(),
            before_last: Tree::default(),
            blocks: Blocks::default(),
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
    pub fn source<'a>(&'a self, disk: &'a dyn Disk, geometry: Geometry) -> Source<'a> {
        Source { disk, geometry, blocks: &self.blocks }
    }

    /// Whether text stands behind the last valid batch.
    pub fn has_tail(&self) -> bool {
        self.torn.is_some()
    }

    /// Bytes in use, all segments.
    pub fn bytes(&self, geometry: Geometry) -> u64 {
        u64::from(self.end.segment - 1) * geometry.segment_bytes + self.end.offset
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
            let Some(grown) = self.follows(batch) else { break };
            self.take_batch(segment, *start, batch, grown, observer)?;
            let stop = start + batch.bytes;
            last = Some(*start..stop);
            end = stop.next_multiple_of(SECTOR_BYTES as usize);
            if let Some(text) = text_at(&segment.bytes[..end], stop) {
                return Err(corrupt(number, text as u64, "text between two batches"));
            }
        }
        if text_at(&segment.bytes, end).is_some() {
            judge_tail(&segment.bytes, end, self.batch + 1)
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
    fn follows(&self, batch: &ParsedBatch) -> Option<(Tree, Growth)> {
        // The segment line is no leaf: in the first segment only the `store` record, which must be
        // the very first and no other, holds what it says.
        if batch.store.is_some() != self.identity.is_none() {
            return None;
        }
        if let Some(line) = &batch.segment {
            let known = self.identity.as_ref().or(batch.store.as_ref());
            let same_store = known == Some(&line.identity);
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
            growth.block(tree.push(record.leaf));
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
        (tree, mut growth): (Tree, Growth),
        observer: &mut Option<Observer>,
    ) -> Result<(), OpenError> {
        let number = segment.number;
        if self.identity.is_none() {
            self.identity = batch.segment.as_ref().map(|line| line.identity.clone());
        }
        for (record, index) in batch.records.iter().zip(self.tree.size()..) {
            let offset = start + record.offset;
            let position = segment.position + offset as u64;
            if let Some(observer) = observer {
                let line = std::str::from_utf8(&segment.bytes[offset..offset + record.length]).ok();
                let read = line.and_then(Record::read);
                let read = read.ok_or_else(|| corrupt(number, offset as u64, "not a record"))?;
                observer(&read, position)
                    .map_err(|reason| corrupt(number, offset as u64, &reason))?;
            }
            self.state
                .apply(record.change.clone(), position)
                .map_err(|reason| corrupt(number, offset as u64, reason))?;
            growth.record(index, position);
        }
        // The root was computed when the commit line was judged.
        self.blocks.grow(growth, Head { size: batch.commit.size, root: batch.commit.root });
        self.before_last = std::mem::replace(&mut self.tree, tree);
        self.batch = batch.commit.batch;
        self.last_is_seal = batch.records.is_empty();
        Ok(())
    }
}

/// A batch that is formed as one; whether it is the right one is not known yet.
struct ParsedBatch {
    segment: Option<SegmentLine>,
    /// What the `store` record says, where the first record is one.
    store: Option<Identity>,
    records: Vec<ParsedRecord>,
    commit: Commit,
    bytes: usize,
}

struct ParsedRecord {
    /// In the batch.
    offset: usize,
    /// Without the newline.
    length: usize,
    leaf: Hash,
    change: Change,
}

/// Reads lines up to a commit line; `None` where one of them is no line of ours. A segment line is
/// there exactly at a segment's start.
fn parse_batch(bytes: &[u8], keys: &Keys, at_segment_start: bool) -> Option<ParsedBatch> {
    let mut segment = None;
    let mut store = None;
    let mut records = Vec::new();
    let mut at = 0;
    loop {
        let length = line_length(&bytes[at..])?;
        let line = std::str::from_utf8(&bytes[at..at + length]).ok()?;
        match Line::read(line)? {
            Line::Segment(read) if at == 0 && at_segment_start => segment = Some(read),
            Line::Segment(_) => return None,
            Line::Record(record) => {
                if let Record::Store { at, store: name, mode } = record {
                    if !records.is_empty() {
                        return None;
                    }
                    store = Some(Identity { store: name.to_owned(), mode, created: at });
                }
                records.push(ParsedRecord {
                    offset: at,
                    length,
                    leaf: leaf_hash(line.as_bytes()),
                    change: keys.change(&record)?,
                });
            }
            Line::Commit(commit) => {
                if at_segment_start != segment.is_some() {
                    return None;
                }
                return Some(ParsedBatch {
                    segment,
                    store,
                    records,
                    commit,
                    bytes: at + length + 1,
                });
            }
        }
        at += length + 1;
    }
}

/// Bytes before the next newline, found by the standard library's vectorised search.
fn line_length(mut bytes: &[u8]) -> Option<usize> {
    let whole = bytes;
    let skipped = bytes.skip_until(BLANK).ok()?;
    (skipped > 0 && whole.get(skipped - 1) == Some(&BLANK)).then(|| skipped - 1)
}

/// Whether what begins at `from` is a torn batch; otherwise the reason why it is damage.
fn judge_tail(bytes: &[u8], from: usize, next_batch: u64) -> Result<(), &'static str> {
    let tail = &bytes[from..];
    for line in tail.split(|byte| is_blank(*byte)) {
        let commit = std::str::from_utf8(line).ok().and_then(Commit::read);
        if commit.is_some_and(|commit| commit.batch != next_batch) {
            return Err("not a valid batch, and the commit line of another batch follows");
        }
    }
    let Some(last_text) = tail.iter().rposition(|byte| !is_blank(*byte)) else {
        return Ok(());
    };
    let sector = SECTOR_BYTES as usize;
    let mut whole_sectors = tail[..last_text].chunks_exact(sector);
    if whole_sectors.any(|bytes| bytes.iter().all(|byte| is_blank(*byte))) {
        return Ok(());
    }
    // The last sectors of a batch are missing: its text stops where a sector ends, perhaps with
    // the newline of a line that ended just there.
    let text_end = last_text + 1;
    let stops_at_sector = text_end.is_multiple_of(sector)
        || ((text_end + 1).is_multiple_of(sector) && tail.get(text_end) == Some(&BLANK));
    if stops_at_sector && !ends_with_commit(&tail[..text_end]) {
        return Ok(());
    }
    Err("not a valid batch, and not one that a power cut could leave")
}

fn ends_with_commit(text: &[u8]) -> bool {
    let line = text.rsplit(|byte| *byte == BLANK).next().unwrap_or(text);
    std::str::from_utf8(line).ok().and_then(Commit::read).is_some()
}

/// The offset of the first byte from `from` that is not blank.
fn text_at(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].iter().position(|byte| !is_blank(*byte)).map(|at| from + at)
}

fn is_blank(byte: u8) -> bool {
    byte == BLANK || byte == 0
}

/// Makes the disk hold what was read: see the order of writes above.
fn repair(disk: &dyn Disk, geometry: Geometry, replay: &Replay) -> Result<Option<Torn>, OpenError> {
    let torn = replay.torn.map(|place| copy_torn(disk, geometry, place)).transpose()?;
    let mut touched = vec![replay.end.segment];
    blank(disk, geometry, replay.end)?;
    // The prepared segment may hold a torn first batch, or look blank in the kernel's memory while
    // the disk has parts of one whose sync failed: those would show after the next power cut.
    for segment in replay.end.segment + 1..=replay.segments {
        blank(disk, geometry, Place { segment, offset: 0 })?;
        touched.push(segment);
    }
    let last = &replay.last;
    let file = segment::name(last.place.segment);
    disk.write_at(&file, last.place.offset, &last.text)
        .map_err(|error| failed(&format!("writing {file}"), error))?;
    for number in touched {
        let file = segment::name(number);
        disk.sync(&file).map_err(|error| failed(&format!("syncing {file}"), error))?;
    }
    disk.sync_directory().map_err(|error| failed("syncing the directory", error))?;
    Ok(torn)
}

fn blank(disk: &dyn Disk, geometry: Geometry, from: Place) -> Result<(), OpenError> {
    let file = segment::name(from.segment);
    let blanks = vec![BLANK; (geometry.segment_bytes - from.offset) as usize];
    disk.write_at(&file, from.offset, &blanks)
        .map_err(|error| failed(&format!("blanking the end of {file}"), error))
}

/// Keeps what a power cut left, best effort: it may help to tell what was in flight.
fn copy_torn(disk: &dyn Disk, geometry: Geometry, place: Place) -> Result<Torn, OpenError> {
    let file = segment::name(place.segment);
    let mut bytes = vec![0; (geometry.segment_bytes - place.offset) as usize];
    disk.read_at(&file, place.offset, &mut bytes)
        .map_err(|error| failed(&format!("reading {file}"), error))?;
    let length = bytes.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |at| at + 1);
    bytes.truncate(length);
    let name = format!("torn-{:08}-{}", place.segment, place.offset);
    let _ = disk.remove(&name);
    let copied = disk
        .create(&name)
        .and_then(|()| disk.write_at(&name, 0, &bytes))
        .and_then(|()| disk.sync(&name));
    Ok(Torn {
        segment: place.segment,
        offset: place.offset,
        bytes: length as u64,
        copy: copied.is_ok().then_some(name),
    })
}

fn corrupt(number: u32, byte: u64, reason: &str) -> OpenError {
    OpenError::Corrupt { file: segment::name(number), byte, reason: reason.to_owned() }
}

fn failed(doing: &str, error: io::Error) -> OpenError {
    OpenError::Disk { doing: doing.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT_3: &str = r#"{"batch":3,"kind":"commit","root":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":9}"#;

    fn tail(parts: &[(usize, &str)]) -> Vec<u8> {
        let mut bytes = vec![BLANK; 4096];
        for (at, text) in parts {
            bytes[*at..*at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn a_power_cut_leaves_whole_sectors() {
        let sector = "x".repeat(512);
        let torn = [
            tail(&[(0, &sector)]),
            tail(&[(0, &sector), (1024, "y")]),
            tail(&[(512, "y")]),
            tail(&[(0, &sector[1..])]),
            tail(&[(0, &sector), (1024, COMMIT_3)]),
        ];
        for (n, bytes) in torn.iter().enumerate() {
            assert_eq!(judge_tail(bytes, 0, 3), Ok(()), "case {n}");
        }
    }

    #[test]
    fn rot_is_not_a_power_cut() {
        let sector = "x".repeat(512);
        let ends_with_commit = format!("{}\n{COMMIT_3}", "x".repeat(511 - COMMIT_3.len()));
        let damage = [
            tail(&[(0, "x")]),
            tail(&[(0, &sector), (512, "y")]),
            tail(&[(0, &sector[2..])]),
            tail(&[(0, &ends_with_commit)]),
        ];
        for (n, bytes) in damage.iter().enumerate() {
            assert!(judge_tail(bytes, 0, 3).is_err(), "case {n}");
        }
        let other_batch = tail(&[(0, &sector), (1024, COMMIT_3)]);
        assert!(judge_tail(&other_batch, 0, 2).is_err());
    }
}
