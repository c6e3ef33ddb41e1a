//! A segment taken apart into batches and records, as far as it is formed so. Whether they are the
//! right ones, in the right order, is judged by whoever adds them up.

use std::io::BufRead;
use std::ops::Range;

use super::Geometry;
use super::fault::{OpenError, failed};
use super::segment::{self, BLANK};
use super::state::{Change, Keys, Position};
use crate::core::hash::Hash;
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::{Commit, Identity, Line, Record, Store};
use crate::core::time::Time;
use crate::core::tree::leaf_hash;
use crate::sys::disk::Disk;

/// One segment, taken apart as far as it is formed as batches. Used again for the next one: fresh memory
/// for each would take a fifth of the time of opening.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) number: u32,
    /// Where it begins, over all segments.
    pub(super) position: Position,
    pub(super) bytes: Vec<u8>,
    /// Each begins where a sector begins, right after the one before.
    pub(super) batches: Vec<ParsedBatch>,
    /// Of all batches.
    pub(super) records: Vec<ParsedRecord>,
}

/// A batch that is formed as one; whether it is the right one is not known yet.
pub(super) struct ParsedBatch {
    /// From its first line to behind its commit line. At 0 the first is a segment line.
    pub(super) bytes: Range<usize>,
    /// What the `store` record says, where the first record is one.
    pub(super) store: Option<Identity>,
    /// Which of the segment's.
    pub(super) records: Range<usize>,
    pub(super) commit: Commit,
}

pub(super) struct ParsedRecord {
    /// In the segment, without the newline.
    pub(super) bytes: Range<usize>,
    pub(super) leaf: Hash,
    pub(super) at: Time,
    pub(super) change: Change,
}

impl Segment {
    /// Reads it whole; 16 MiB at most.
    pub(super) fn read(
        &mut self,
        disk: &dyn Disk,
        geometry: Geometry,
        number: u32,
        keys: &Keys,
    ) -> Result<(), OpenError> {
        let file = segment::name(number);
        self.number = number;
        self.position = u64::from(number - 1) * geometry.segment_bytes;
        self.bytes.resize(geometry.segment_bytes as usize, 0);
        disk.read_at(&file, 0, &mut self.bytes).map_err(failed("reading", &file))?;
        self.batches.clear();
        self.records.clear();
        let mut start = 0;
        loop {
            let first = self.records.len();
            let Some(batch) = parse_batch(&self.bytes, start, keys, &mut self.records) else {
                self.records.truncate(first);
                return Ok(());
            };
            start = batch.bytes.end.next_multiple_of(SECTOR_BYTES as usize);
            self.batches.push(batch);
        }
    }
}

/// Reads lines up to a commit line; `None` where one of them is no line of ours. A segment line is
/// there exactly at a segment's start.
fn parse_batch(
    bytes: &[u8],
    start: usize,
    keys: &Keys,
    records: &mut Vec<ParsedRecord>,
) -> Option<ParsedBatch> {
    let mut store = None;
    let first = records.len();
    let mut at = start;
    loop {
        let length = line_length(bytes.get(at..)?)?;
        let line = std::str::from_utf8(&bytes[at..at + length]).ok()?;
        match Line::read(line)? {
            Line::Segment(_) if at == 0 => {}
            Line::Segment(_) => return None,
            _ if at == 0 => return None,
            Line::Record(record) => {
                if matches!(record, Record::Store(_) | Record::Policy(_)) && records.len() > first {
                    return None;
                }
                if let Record::Store(Store { at, mode, store: name }) = record {
                    store = Some(Identity { store: name.to_owned(), mode, created: at });
                }
                records.push(ParsedRecord {
                    bytes: at..at + length,
                    leaf: leaf_hash(line.as_bytes()),
                    at: record.at(),
                    change: keys.change(&record, length)?,
                });
            }
            Line::Commit(commit) => {
                let (bytes, records) = (start..at + length + 1, first..records.len());
                return Some(ParsedBatch { bytes, store, records, commit });
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
