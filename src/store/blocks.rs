//! What memory keeps of the tree, so that proofs need few records.
//!
//! One hash for each whole block of [`LEAVES_PER_BLOCK`] leaves, the hashes of the perfect subtrees
//! above them (together as many again), and where the first record of each block begins: some 75
//! bytes for 256 records, 6 MB for a store of ten million executions. Without the levels above the
//! blocks a proof in such a store would compute forty thousand hashes; with them it computes some
//! hundreds. Nothing of it is on the disk, where it could disagree with the segments.
//!
//! The executor's thread adds, another reads. Only what is committed is here: a reader never learns
//! of a record that a power cut could still take away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state::Position;
use crate::core::hash::Hash;
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::tree::{BLOCK_LEVEL, Head, Tree, node_hash};

pub struct Blocks(Mutex<Known>);

struct Known {
    head: Head,
    /// Where the first record of each block begins; of the last, unfinished one too.
    starts: Vec<Position>,
    /// `levels[0]` are whole blocks, from the first; each level above has the hashes of its pairs.
    levels: Vec<Vec<Hash>>,
}

/// What one batch adds.
#[derive(Default)]
pub struct Growth {
    starts: Vec<Position>,
    whole: Vec<Hash>,
}

impl Growth {
    /// Adds a leaf to the tree; its record begins at `position`.
    pub fn push(&mut self, tree: &mut Tree, leaf: Hash, position: Position) {
        if tree.size().is_multiple_of(LEAVES_PER_BLOCK) {
            self.starts.push(position);
        }
        self.whole.extend(tree.push(leaf));
    }
}

impl Default for Blocks {
    fn default() -> Self {
        let head = Tree::default().head();
        Blocks(Mutex::new(Known { head, starts: Vec::new(), levels: Vec::new() }))
    }
}

impl Blocks {
    /// A batch is committed.
    pub fn grow(&self, growth: Growth, head: Head) {
        let mut known = self.lock();
        known.starts.extend(growth.starts);
        for block in growth.whole {
            known.add(block);
        }
        known.head = head;
    }

    /// What is committed.
    pub fn head(&self) -> Head {
        self.lock().head
    }

    /// The perfect subtree number `index` of 2^`level` leaves, from [`BLOCK_LEVEL`] up.
    pub fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let known = self.lock();
        let nodes = known.levels.get(level.checked_sub(BLOCK_LEVEL)? as usize)?;
        nodes.get(usize::try_from(index).ok()?).copied()
    }

    /// Where the first record of a block begins.
    pub fn start(&self, block: u64) -> Option<Position> {
        self.lock().starts.get(usize::try_from(block).ok()?).copied()
    }

    /// The block in which the record at `position` is.
    pub fn block_of(&self, position: Position) -> Option<u64> {
        let later = self.lock().starts.partition_point(|start| *start <= position);
        later.checked_sub(1).map(|block| block as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}
