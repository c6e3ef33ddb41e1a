//! Proofs about the log (RFC 6962, sections 2.1.1 and 2.1.2), made from the segments.
//!
//! Hashes of whole blocks and above come from memory; what is below is made again from the records of
//! at most two blocks, read from the disk. So a proof says what the files say now: a record altered
//! below a running server gives a proof that does not verify, never one that hides it.

use std::io;

use super::blocks::Blocks;
use super::segment::{self, BLANK};
use super::state::Position;
use super::{Geometry, changed_below_us};
use crate::core::hash::{Hash, sha256};
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::record::Line;
use crate::core::tree::{BLOCK_LEVEL, Head, leaf_hash, node_hash};
use crate::sys::disk::Disk;

/// Bytes of a segment that are read at once: about a block of small records.
const READ_BYTES: u64 = 64 * 1024;

/// Where proofs are made from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub disk: &'a dyn Disk,
    pub geometry: Geometry,
    pub blocks: &'a Blocks,
}

/// A record and its number, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub index: u64,
    pub line: String,
}

impl<'a> Source<'a> {
    /// The head when the log had `size` records; `None` if it never had as many.
    pub fn head_at(&self, size: u64) -> io::Result<Option<Head>> {
        if size > self.blocks.head().size {
            return Ok(None);
        }
        let root = if size == 0 { sha256(&[]) } else { self.hashes().of(0, size)? };
        Ok(Some(Head { size, root }))
    }

    /// The path from record `index` to the root of `size` records, the leaf's sibling first.
    /// `index < size`, and the log has `size` records.
    pub fn inclusion(&self, index: u64, size: u64) -> io::Result<Vec<Hash>> {
        let mut hashes = self.hashes();
        let (mut first, mut end) = (0, size);
        let mut siblings = Vec::new();
        while end - first > 1 {
            let middle = first + split(end - first);
            // Only the hash of what the record is not in.
            if index < middle {
                siblings.push((middle, end));
                end = middle;
            } else {
                siblings.push((first, middle));
                first = middle;
            }
        }
        siblings.iter().rev().map(|(first, end)| hashes.of(*first, *end)).collect()
    }

    /// What shows that the first `from` of `size` records are still the same: `1 <= from <= size`,
    /// and the log has `size` records.
    pub fn consistency(&self, from: u64, size: u64) -> io::Result<Vec<Hash>> {
        let mut hashes = self.hashes();
        let (mut first, mut end) = (0, size);
        let mut parts = Vec::new();
        // Until what is left ends where the older log ended.
        while end != from {
            let middle = first + split(end - first);
            if from <= middle {
                parts.push((middle, end));
                end = middle;
            } else {
                parts.push((first, middle));
                first = middle;
            }
        }
        // That the whole older log is one subtree needs no hash: who asks has its root.
        if first > 0 {
            parts.push((first, end));
        }
        parts.iter().rev().map(|(first, end)| hashes.of(*first, *end)).collect()
    }

    /// The record that begins at `position`.
    pub fn find(&self, position: Position) -> io::Result<Found> {
        let block = self.blocks.block_of(position).ok_or_else(|| changed_below_us(position))?;
        let first = block * LEAVES_PER_BLOCK;
        let records = self.records(block)?.zip(first..first + LEAVES_PER_BLOCK);
        for (record, index) in records {
            let (begins, line) = record?;
            if begins == position {
                return Ok(Found { index, line });
            }
            if begins > position {
                break;
            }
        }
        Err(changed_below_us(position))
    }

    fn hashes(&self) -> Hashes<'a> {
        Hashes { source: *self, leaves: Vec::new() }
    }

    /// The records from the first of a block on.
    fn records(&self, block: u64) -> io::Result<Records<'a>> {
        let absent = || io::Error::other("the log has no such block");
        let position = self.blocks.start(block).ok_or_else(absent)?;
        Ok(Records { source: *self, position, bytes: Vec::new(), at: 0 })
    }
}

/// How many leaves are left of the root of `count`: the largest power of two below it.
fn split(count: u64) -> u64 {
    count.next_power_of_two() / 2
}

/// The hashes of ranges, for one proof.
struct Hashes<'a> {
    source: Source<'a>,
    /// The leaves of the blocks that were read.
    leaves: Vec<(u64, Vec<Hash>)>,
}

impl Hashes<'_> {
    /// The root over the records from `first` to before `end`, a range that the definition of
    /// RFC 6962 comes to: what is left of a split is a perfect subtree.
    fn of(&mut self, first: u64, end: u64) -> io::Result<Hash> {
        let count = end - first;
        let level = count.trailing_zeros();
        if count.is_power_of_two() && level >= BLOCK_LEVEL {
            let absent = || io::Error::other("the log has no such subtree");
            return self.source.blocks.node(level, first >> level).ok_or_else(absent);
        }
        if count == 1 {
            return self.leaf(first);
        }
        let middle = first + split(count);
        Ok(node_hash(&self.of(first, middle)?, &self.of(middle, end)?))
    }

    fn leaf(&mut self, index: u64) -> io::Result<Hash> {
        let (block, within) = (index / LEAVES_PER_BLOCK, (index % LEAVES_PER_BLOCK) as usize);
        let leaves = match self.leaves.iter().position(|(known, _)| *known == block) {
            Some(known) => &self.leaves[known].1,
            None => {
                // Not one more than is committed: what stands behind may be half written.
                let committed = self.source.blocks.head().size - block * LEAVES_PER_BLOCK;
                let count = committed.min(LEAVES_PER_BLOCK) as usize;
                let records = self.source.records(block)?.take(count);
                let hash =
                    |record: io::Result<(Position, String)>| Ok(leaf_hash(record?.1.as_bytes()));
                self.leaves.push((block, records.map(hash).collect::<io::Result<_>>()?));
                &self.leaves[self.leaves.len() - 1].1
            }
        };
        leaves.get(within).copied().ok_or_else(|| io::Error::other("the log has no such record"))
    }
}

/// Record lines one after another, with their positions; segment and commit lines are passed over.
/// Whoever asks knows how many there are.
struct Records<'a> {
    source: Source<'a>,
    /// Of `bytes[at]`.
    position: Position,
    /// A part of one segment.
    bytes: Vec<u8>,
    at: usize,
}

impl Iterator for Records<'_> {
    type Item = io::Result<(Position, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (position, line) = match self.line() {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            match Line::read(&line) {
                Some(Line::Record(_)) => return Some(Ok((position, line))),
                Some(Line::Segment(_) | Line::Commit(_)) => {}
                None => return Some(Err(changed_below_us(position))),
            }
        }
    }
}

impl Records<'_> {
    /// The next line that is not blank.
    fn line(&mut self) -> io::Result<(Position, String)> {
        loop {
            let rest = &self.bytes[self.at..];
            let blanks = rest.iter().take_while(|byte| matches!(**byte, BLANK | 0)).count();
            self.at += blanks;
            self.position += blanks as u64;
            let rest = &self.bytes[self.at..];
            if let Some(length) = rest.iter().position(|byte| *byte == BLANK) {
                let line = String::from_utf8(rest[..length].to_vec());
                let line = line.map_err(|_| changed_below_us(self.position))?;
                let position = self.position;
                self.at += length;
                self.position += length as u64;
                return Ok((position, line));
            }
            self.read()?;
        }
    }

    /// Reads on; twice as much at once where a line is long.
    fn read(&mut self) -> io::Result<()> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let segment_bytes = self.source.geometry.segment_bytes;
        let read_to = self.position + self.bytes.len() as u64;
        let number = u32::try_from(read_to / segment_bytes + 1).map_err(io::Error::other)?;
        let offset = read_to % segment_bytes;
        // A line ends in its segment, so that what is left of the one before is nothing.
        if offset == 0 && !self.bytes.is_empty() {
            return Err(changed_below_us(self.position));
        }
        let more = READ_BYTES.max(self.bytes.len() as u64).min(segment_bytes - offset) as usize;
        let old = self.bytes.len();
        self.bytes.resize(old + more, 0);
        self.source.disk.read_at(&segment::name(number), offset, &mut self.bytes[old..])
    }
}
