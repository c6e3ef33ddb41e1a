//! The writes of an opening, once the store is found good: see the order in [`super::open`].

use super::Geometry;
use super::fault::{OpenError, failed};
use super::replay::{Place, Replay};
use super::segment::{self, BLANK};
use super::tail::is_blank;
use crate::sys::disk::Disk;

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
pub(super) fn repair(
    disk: &dyn Disk,
    geometry: Geometry,
    replay: &Replay,
) -> Result<Option<Torn>, OpenError> {
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
    let last = &replay.last;
    let file = segment::name(last.place.segment);
    disk.write_at(&file, last.place.offset, &last.text).map_err(failed("writing", &file))?;
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
