//! The tree over the files' records: what memory keeps of it, and the rest from the records themselves.
//!
//! Kept is one hash for each whole block of [`LEAVES_PER_BLOCK`] leaves, the hashes of the perfect
//! subtrees above them (together as many again), and where the first record of each block begins: some 75
//! bytes for 256 records, 6 MB for a store of ten million executions. Without the levels above the
//! blocks a proof in such a store would compute forty thousand hashes; with them it computes some
//! hundreds. Nothing of it is on the disk, where it could disagree with the segments.
//!
//! Leaves are made of the records again. So a proof says what the files say now: a record altered below
//! a running server gives a proof that does not verify, never one that hides it.
//!
//! The executor's thread adds, another reads. Only what is committed is here: a reader never learns
//! of a record that a power cut could still take away.

use std::io;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use super::files::Geometry;
use super::segment::{self, BLANK};
use super::state::Position;
use super::{Log, changed_below_us};
use crate::core::hash::Hash;
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::record::Line;
use crate::core::tree::{BLOCK_LEVEL, Head, Tree, leaf_hash, node_hash};
use crate::sys::disk::Disk;
use crate::sys::locked;

/// The log of a store in files.
#[derive(Clone)]
pub struct FileLog<D> {
    pub(super) disk: D,
    pub(super) geometry: Geometry,
    pub(super) blocks: Arc<Blocks>,
}

pub(super) struct Blocks(Mutex<Known>);

struct Known {
    head: Head,
    /// Behind the last record.
    end: Position,
    /// Where the first record of each block begins; of the last, unfinished one too.
    starts: Vec<Position>,
    /// `levels[0]` are whole blocks, from the first; each level above has the hashes of its pairs.
    levels: Vec<Vec<Hash>>,
}

/// What one batch adds.
#[derive(Default)]
pub(super) struct Growth {
    starts: Vec<Position>,
    whole: Vec<Hash>,
}

impl Growth {
    /// Adds a leaf to the tree; its record begins at `position`.
    pub(super) fn push(&mut self, tree: &mut Tree, leaf: Hash, position: Position) {
        if tree.size().is_multiple_of(LEAVES_PER_BLOCK) {
            self.starts.push(position);
        }
        self.whole.extend(tree.push(leaf));
    }
}

impl Default for Blocks {
    fn default() -> Self {
        let head = Tree::default().head();
        Blocks(Mutex::new(Known { head, end: 0, starts: Vec::new(), levels: Vec::new() }))
    }
}

impl Blocks {
    /// A batch that ends before `end` is committed.
    pub(super) fn grow(&self, growth: Growth, head: Head, end: Position) {
        let mut known = locked(&self.0);
        known.starts.extend(growth.starts);
        for block in growth.whole {
            known.add(block);
        }
        (known.head, known.end) = (head, end);
    }
}

impl Known {
    fn add(&mut self, block: Hash) {
        let mut hash = block;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(hash);
            match nodes.as_slice() {
                [.., left, right] if nodes.len().is_multiple_of(2) => hash = node_hash(left, right),
                _ => return,
            }
            level += 1;
        }
    }

    /// Where the records of a block are.
    fn span(&self, block: usize) -> Option<Range<Position>> {
        let end = self.starts.get(block + 1).copied().unwrap_or(self.end);
        Some(*self.starts.get(block)?..end)
    }
}

impl<D: Deref<Target: Disk> + Send + Sync> Log for FileLog<D> {
    fn head(&self) -> Head {
        locked(&self.blocks.0).head
    }

    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let known = locked(&self.blocks.0);
        let nodes = known.levels.get(level.checked_sub(BLOCK_LEVEL)? as usize)?;
        nodes.get(usize::try_from(index).ok()?).copied()
    }

    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>> {
        let span = locked(&self.blocks.0).span(block as usize);
        let span = span.ok_or_else(|| io::Error::other("the log has no such block"))?;
        let mut leaves = Vec::new();
        self.records(span, |_, line| leaves.push(leaf_hash(line.as_bytes())))?;
        Ok(leaves)
    }

    fn find(&self, position: Position) -> io::Result<(u64, String)> {
        let (block, span) = {
            let known = locked(&self.blocks.0);
            let later = known.starts.partition_point(|start| *start <= position);
            let block = later.checked_sub(1).ok_or_else(|| changed_below_us(position))?;
            (block, known.span(block).unwrap_or_default())
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
