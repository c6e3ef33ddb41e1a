//! A segment taken apart into batches and records, as far as it is formed so. Whether they are the
//! right ones, in the right order, is judged by whoever adds them up.

use std::io::BufRead;

use super::Geometry;
use super::fault::{OpenError, failed};
use super::segment::{self, BLANK};
use super::state::{Change, Keys, Position};
use crate::core::hash::Hash;
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Commit, Identity, Line, Record, SegmentLine, Store};
use crate::core::time::Time;
use crate::core::tree::leaf_hash;
use crate::sys::disk::Disk;

/// One segment, taken apart as far as it is formed as batches.
pub(super) struct Segment {
    pub(super) number: u32,
    /// Where it begins, over all segments.
    pub(super) position: Position,
    pub(super) bytes: Vec<u8>,
    /// Each begins where a sector begins, right after the one before.
    pub(super) batches: Vec<(usize, ParsedBatch)>,
}

impl Segment {
    /// Reads it whole; 16 MiB at most.
    pub(super) fn read(
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

/// A batch that is formed as one; whether it is the right one is not known yet.
pub(super) struct ParsedBatch {
    pub(super) segment: Option<SegmentLine>,
    /// What the `store` record says, where the first record is one.
    pub(super) store: Option<Identity>,
    pub(super) records: Vec<ParsedRecord>,
    pub(super) commit: Commit,
    pub(super) bytes: usize,
}

pub(super) struct ParsedRecord {
    /// In the batch.
    pub(super) offset: usize,
    /// Without the newline.
    pub(super) length: usize,
    pub(super) leaf: Hash,
    pub(super) at: Time,
    pub(super) change: Change,
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
                if matches!(record, Record::Store(_) | Record::Policy(_)) && !records.is_empty() {
                    return None;
                }
                if let Record::Store(Store { at, mode, store: name }) = record {
                    store = Some(Identity { store: name.to_owned(), mode, created: at });
                }
                records.push(ParsedRecord {
                    offset: at,
                    length,
                    leaf: leaf_hash(line.as_bytes()),
                    at: record.at(),
                    change: keys.change(&record, length)?,
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
