//! The tree over the database's records: what memory keeps of it, and the rest from the records themselves. As of
//! files ([`openexec::store::log`]): a hash for each whole block of 256 leaves and for each pair of hashes.

use std::io;
use std::sync::{Arc, Mutex};

use openexec::core::hash::Hash;
use openexec::core::limits::LEAVES_PER_BLOCK;
use openexec::core::tree::{BLOCK_LEVEL, Head, Tree, leaf_hash, node_hash};
use openexec::evidence::log::Log;
use openexec::store::state::Position;
use openexec::sys::locked;

use crate::desk::Desk;

/// What is committed, as this process knows it.
pub struct Nodes {
    head: Head,
    /// `levels[0]` are whole blocks, from the first; each level above has the hashes of its pairs.
    levels: Vec<Vec<Hash>>,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes { head: Tree::default().head(), levels: Vec::new() }
    }
}

impl Nodes {
    /// Adds blocks that are whole by now, under the new head.
    pub fn grow(&mut self, blocks: Vec<Hash>, head: Head) {
        for block in blocks {
            self.add(block);
        }
        self.head = head;
    }

    fn add(&mut self, block: Hash) {
        let (mut hash, mut level) = (block, 0);
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

/// For the witness, which reads while the executor writes.
pub struct Records {
    pub desk: Arc<Mutex<Desk>>,
    pub nodes: Arc<Mutex<Nodes>>,
}

impl Log for Records {
    fn head(&self) -> Head {
        locked(&self.nodes).head
    }

    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let nodes = locked(&self.nodes);
        let level = nodes.levels.get(level.checked_sub(BLOCK_LEVEL)? as usize)?;
        level.get(usize::try_from(index).ok()?).copied()
    }

    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>> {
        let from = block * LEAVES_PER_BLOCK;
        let to = (from + LEAVES_PER_BLOCK).min(self.head().size);
        let lines = locked(&self.desk).lines(from, to)?;
        if from >= to || lines.len() as u64 != to - from {
            return Err(io::Error::other("the log has no such block"));
        }
        Ok(lines.iter().map(|line| leaf_hash(line.as_bytes())).collect())
    }

    fn find(&self, position: Position) -> io::Result<(u64, String)> {
        let line = locked(&self.desk).lines(position, position + 1)?.pop();
        line.map(|line| (position, line)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
