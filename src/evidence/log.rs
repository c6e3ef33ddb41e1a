//! The tree over the files' records: what memory keeps of it, and the rest from the records themselves.
//!
//! The store keeps the hashes of whole blocks of leaves. Here the hashes of the perfect subtrees above them are added
//! (as many again) once somebody asks: without them a proof in a store of ten million executions would compute forty
//! thousand hashes; with them it computes some hundreds. Nothing of it is on the disk, where it could disagree with
//! the segments.
//!
//! Leaves are made of the records again. So a proof says what the files say now: a record altered below
//! a running server gives a proof that does not verify, never one that hides it.

use std::io;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use crate::core::hash::Hash;
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::record::Line;
use crate::core::tree::{BLOCK_LEVEL, Head, leaf_hash, node_hash};
use crate::store::blocks::Blocks;
use crate::store::segment::{self, BLANK};
use crate::store::state::Position;
use crate::store::{Geometry, changed_below_us};
use crate::sys::disk::Disk;
use crate::sys::locked;

/// The tree over the records, for others than the executor to read while it writes.
pub trait Log: Send + Sync {
    /// What is committed.
    fn head(&self) -> Head;

    /// The root of the perfect subtree number `index` of 2^`level` leaves, where it is kept.
    fn node(&self, level: u32, index: u64) -> Option<Hash>;

    /// The leaves of a block of 256, made of its records as they are now.
    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>>;

    /// The number of the record at `position`, from 0, and its line.
    fn find(&self, position: Position) -> io::Result<(u64, String)>;
}

/// The log of a store in files.
pub struct FileLog<D> {
    disk: D,
    geometry: Geometry,
    blocks: Arc<Mutex<Blocks>>,
    /// The first level above the blocks has the hashes of their pairs, and each level of the pairs of the one below.
    above: Mutex<Vec<Vec<Hash>>>,
}

impl<D> FileLog<D> {
    pub fn new(disk: D, geometry: Geometry, blocks: Arc<Mutex<Blocks>>) -> Self {
        FileLog { disk, geometry, blocks, above: Mutex::default() }
    }
}

/// Adds to the levels above the blocks what these have become.
fn grow(above: &mut Vec<Vec<Hash>>, whole: &[Hash]) {
    for level in 0.. {
        if above.len() == level {
            above.push(Vec::new());
        }
        let (below, own) = above.split_at_mut(level);
        let below = below.last().map_or(whole, Vec::as_slice);
        let own = &mut own[0];
        for pair in below.chunks_exact(2).skip(own.len()) {
            own.push(node_hash(&pair[0], &pair[1]));
        }
        if own.is_empty() {
            return;
        }
    }
}

/// Where the records of a block are.
fn span(known: &Blocks, block: usize) -> Option<Range<Position>> {
    let end = known.starts.get(block + 1).copied().unwrap_or(known.end);
    Some(*known.starts.get(block)?..end)
}

impl<D: Deref<Target: Disk> + Send + Sync> Log for FileLog<D> {
    fn head(&self) -> Head {
        locked(&self.blocks).head
    }

    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let (level, index) = (level.checked_sub(BLOCK_LEVEL)?, usize::try_from(index).ok()?);
        let known = locked(&self.blocks);
        let Some(level) = level.checked_sub(1) else { return known.whole.get(index).copied() };
        let mut above = locked(&self.above);
        grow(&mut above, &known.whole);
        above.get(level as usize)?.get(index).copied()
    }

    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>> {
        let span = span(&locked(&self.blocks), block as usize);
        let span = span.ok_or_else(|| io::Error::other("the log has no such block"))?;
        let mut leaves = Vec::new();
        self.records(span, |_, line| leaves.push(leaf_hash(line.as_bytes())))?;
        Ok(leaves)
    }

    fn find(&self, position: Position) -> io::Result<(u64, String)> {
        let (block, span) = {
            let known = locked(&self.blocks);
            let later = known.starts.partition_point(|start| *start <= position);
            let block = later.checked_sub(1).ok_or_else(|| changed_below_us(position))?;
            (block, span(&known, block).unwrap_or_default())
        };
        let (mut index, mut found) = (block as u64 * LEAVES_PER_BLOCK, None);
        self.records(span, |begins, line| {
            if begins == position {
                found = Some((index, line.to_owned()));
            }
            index += 1;
        })?;
        found.ok_or_else(|| changed_below_us(position))
    }
}

impl<D: Deref<Target: Disk>> FileLog<D> {
    /// Gives each record line of a span and where it begins, one segment in memory.
    fn records(
        &self,
        span: Range<Position>,
        mut take: impl FnMut(Position, &str),
    ) -> io::Result<()> {
        let segment_bytes = self.geometry.segment_bytes;
        let mut at = span.start;
        while at < span.end {
            let number = u32::try_from(at / segment_bytes + 1).map_err(io::Error::other)?;
            let end = span.end.min(u64::from(number) * segment_bytes);
            let mut bytes = vec![0; (end - at) as usize];
            self.disk.read_at(&segment::name(number), at % segment_bytes, &mut bytes)?;
            for line in bytes.split(|byte| *byte == BLANK) {
                // What was never written may be NUL.
                let blanks = line.iter().take_while(|byte| **byte == 0).count();
                let begins = at + blanks as u64;
                let text =
                    std::str::from_utf8(&line[blanks..]).map_err(|_| changed_below_us(at))?;
                match Line::read(text) {
                    Some(Line::Record(_)) => take(begins, text),
                    None if !text.is_empty() => return Err(changed_below_us(begins)),
                    _ => {}
                }
                at += line.len() as u64 + 1;
            }
            at = end;
        }
        Ok(())
    }
}
