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

use std::io;
use std::sync::Arc;

use super::fault::{OpenError, corrupt, failed};
use super::files::{Files, Geometry};
use super::index::Index;
use super::replay::{Place, Progress, Replay, count_segments, replay_to_serve};
use super::segment::{self, BLANK, PROBE, Preparation, TEMPORARY};
use super::tail::is_blank;
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Identity, Line};
use crate::sys::disk::Disk;

/// Opens the store for writing.
pub fn open(
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    progress: Progress,
) -> Result<(Files, Option<Torn>), OpenError> {
    let (replay, index) = replay_to_serve(disk.as_ref(), geometry, progress)?;
    take_over(disk, geometry, replay, index)
}

/// Makes the disk hold what was read, and the store one to be written: the second half of opening,
/// for who wants to judge the first before anything is changed.
pub fn take_over(
    disk: Arc<dyn Disk>,
    geometry: Geometry,
    replay: Replay,
    index: Index,
) -> Result<(Files, Option<Torn>), OpenError> {
    let Some(identity) = replay.identity.clone() else { return Err(OpenError::Absent) };
    let names = disk.names().map_err(failed("listing", "the directory"))?;
    // From here on the store is known to be good, and is written.
    for name in names.iter().filter(|name| is_left_over(name)) {
        match disk.remove(name) {
            // A `check` at work removes its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed("removing", name))?,
        }
    }
    let torn = repair(disk.as_ref(), geometry, &replay)?;
    let preparation = Arc::new(Preparation::new(replay.segments, replay.end.segment + 1));
    let store = Files {
        disk,
        geometry,
        blocks: replay.blocks,
        identity,
        preparation,
        state: replay.state,
        index,
        tree: replay.tree,
        batch: replay.batch,
        segment: replay.end.segment,
        offset: replay.end.offset,
        sealed: replay.last_is_seal,
        poisoned: false,
        text: Vec::new(),
    };
    Ok((store, torn))
}

/// An unfinished segment, or what a `check` that was killed left. Nobody else's file: `openexec
/// freeze` may be at work on one of its own right now.
fn is_left_over(name: &str) -> bool {
    let is_ours = |name: &str| segment::number(name).is_some() || name.starts_with(PROBE);
    name.strip_suffix(TEMPORARY).is_some_and(is_ours)
}

/// What the store says of itself in its first line, read without the rest.
pub fn identity(disk: &dyn Disk, geometry: Geometry) -> Result<Identity, OpenError> {
    count_segments(disk, geometry)?;
    let file = segment::name(1);
    let mut bytes = [0; SECTOR_BYTES as usize];
    disk.read_at(&file, 0, &mut bytes).map_err(failed("reading", &file))?;
    let line = bytes.split(|byte| *byte == BLANK).next().unwrap_or(&[]);
    match std::str::from_utf8(line).ok().and_then(Line::read) {
        Some(Line::Segment(line)) => Ok(line.identity()),
        _ => Err(corrupt(1, 0, "no segment line where the store begins")),
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

/// Makes the disk hold what was read: see the order of writes above.
fn repair(disk: &dyn Disk, geometry: Geometry, replay: &Replay) -> Result<Option<Torn>, OpenError> {
    let torn = replay.torn.map(|place| copy_torn(disk, geometry, place)).transpose()?;
    // The prepared segment may hold a torn first batch, or look blank in the kernel's memory while
    // the disk has parts of one whose sync failed: those would show after the next power cut.
    let touched = || (replay.end.segment..=replay.segments).map(segment::name);
    let mut from = replay.end.offset;
    for file in touched() {
        let blanks = vec![BLANK; (geometry.segment_bytes - from) as usize];
        disk.write_at(&file, from, &blanks).map_err(failed("blanking the end of", &file))?;
        from = 0;
    }
    let (place, text) = &replay.last;
    let file = segment::name(place.segment);
    disk.write_at(&file, place.offset, text).map_err(failed("writing", &file))?;
    for file in touched() {
        disk.sync(&file).map_err(failed("syncing", &file))?;
    }
    disk.sync_directory().map_err(failed("syncing", "the directory"))?;
    Ok(torn)
}

/// Keeps what a power cut left, best effort: it may help to tell what was in flight.
fn copy_torn(disk: &dyn Disk, geometry: Geometry, place: Place) -> Result<Torn, OpenError> {
    let file = segment::name(place.segment);
    let mut bytes = vec![0; (geometry.segment_bytes - place.offset) as usize];
    disk.read_at(&file, place.offset, &mut bytes).map_err(failed("reading", &file))?;
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
