//! What memory keeps of the tree over the files' records, for whoever proves something of them.
//!
//! Kept is one hash for each whole block of [`LEAVES_PER_BLOCK`] leaves, and where the first record of each block
//! begins: some 45 bytes for 256 records. The executor's thread adds, others read. Only what is committed is here: a
//! reader never learns of a record that a power cut could still take away.

use super::state::Position;
use crate::core::hash::Hash;
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::tree::{Head, Tree};

pub struct Blocks {
    pub head: Head,
    /// Behind the last record.
    pub end: Position,
    /// Where the first record of each block begins; of the last, unfinished one too.
    pub starts: Vec<Position>,
    /// The roots of whole blocks, from the first.
    pub whole: Vec<Hash>,
}

impl Default for Blocks {
    fn default() -> Self {
        let head = Tree::default().head();
        Blocks { head, end: 0, starts: Vec::new(), whole: Vec::new() }
    }
}

impl Blocks {
    /// A batch that ends before `end` is committed.
    pub(super) fn grow(&mut self, growth: Growth, head: Head, end: Position) {
        self.starts.extend(growth.starts);
        self.whole.extend(growth.whole);
        (self.head, self.end) = (head, end);
    }
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
