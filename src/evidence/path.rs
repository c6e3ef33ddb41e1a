//! Making proofs about a log (RFC 6962, sections 2.1.1 and 2.1.2), and checking them (RFC 9162, section
//! 2.1.3.2) without the code that makes them.

use std::io;

use crate::core::hash::{Hash, sha256};
use crate::core::limits::LEAVES_PER_BLOCK;
use crate::core::tree::{Head, node_hash};
use crate::evidence::log::Log;

/// Hashes in a path: a tree of 2^64 leaves has no longer one.
pub const PATH_HASHES_MAX: usize = 64;

/// Whether `path` leads from a leaf at `index` to the head.
#[must_use]
pub fn includes(head: &Head, index: u64, leaf: &Hash, path: &[Hash]) -> bool {
    if index >= head.size {
        return false;
    }
    // `node` is the number of what `hash` is of in its level, `last` that of the level's last.
    let (mut node, mut last, mut hash) = (index, head.size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // Levels in which it is last and has no sibling are passed over.
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node /= 2;
        last /= 2;
    }
    last == 0 && hash == head.root
}

/// The head when the log had `size` records; `None` if it never had as many.
///
/// # Errors
/// They cannot be read, or are others than those that the log's own root was computed of (`InvalidData`).
pub fn head_at(log: &dyn Log, size: u64) -> io::Result<Option<Head>> {
    let (newest, mut hashes) = (log.head(), Hashes::of(log));
    if size == 0 || size > newest.size {
        return Ok((size == 0).then(|| Head { size, root: sha256(&[]) }));
    }
    let root = hashes.root(0, size)?;
    let (last, path) = (hashes.leaf(size - 1)?, hashes.path(size - 1, newest.size)?);
    if !includes(&newest, size - 1, &last, &path) {
        let why = "its records and hashes are not those that its newest root was computed of";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Some(Head { size, root }))
}

/// The path from record `index` to the root of `size` records, the leaf's sibling first.
/// `index < size`, and the log has `size` records.
pub fn inclusion(log: &dyn Log, index: u64, size: u64) -> io::Result<Vec<Hash>> {
    Hashes::of(log).path(index, size)
}

/// What shows that the first `from` of `size` records are still the same: `from <= size`, and the log has `size`
/// records. Every log is a longer one of the empty log's, which takes no proof (RFC 9162, section 2.1.4).
pub fn consistency(log: &dyn Log, from: u64, size: u64) -> io::Result<Vec<Hash>> {
    if from == 0 {
        return Ok(Vec::new());
    }
    // Until what is left ends where the older log ended.
    let (mut parts, first) = descend(from - 1, size, |_, end| end == from);
    // That the whole older log is one subtree needs no hash: who asks has its root.
    if first > 0 {
        parts.push((first, from));
    }
    Hashes::of(log).roots(&parts)
}

/// Halves the tree of `size` records around record `index` until what is left ends it: the parts that were left
/// aside, and where the rest begins.
fn descend(index: u64, size: u64, ends: impl Fn(u64, u64) -> bool) -> (Vec<(u64, u64)>, u64) {
    let (mut first, mut end) = (0, size);
    let mut aside = Vec::new();
    while !ends(first, end) {
        let middle = first + split(end - first);
        if index < middle {
            aside.push((middle, end));
            end = middle;
        } else {
            aside.push((first, middle));
            first = middle;
        }
    }
    (aside, first)
}

/// How many leaves are left of the root of `count`: the largest power of two below it.
fn split(count: u64) -> u64 {
    count.next_power_of_two() / 2
}

/// The hashes of ranges, for one proof.
struct Hashes<'a> {
    log: &'a dyn Log,
    /// The leaves of the blocks that were read.
    leaves: Vec<(u64, Vec<Hash>)>,
}

impl<'a> Hashes<'a> {
    fn of(log: &'a dyn Log) -> Self {
        Hashes { log, leaves: Vec::new() }
    }

    fn path(&mut self, index: u64, size: u64) -> io::Result<Vec<Hash>> {
        let (siblings, _) = descend(index, size, |first, end| end - first == 1);
        self.roots(&siblings)
    }

    /// Of each range, the last first.
    fn roots(&mut self, ranges: &[(u64, u64)]) -> io::Result<Vec<Hash>> {
        ranges.iter().rev().map(|(first, end)| self.root(*first, *end)).collect()
    }

    /// The root over the records from `first` to before `end`, a range that the definition of
    /// RFC 6962 comes to: what is left of a split is a perfect subtree.
    fn root(&mut self, first: u64, end: u64) -> io::Result<Hash> {
        let count = end - first;
        if count == 1 {
            return self.leaf(first);
        }
        let level = count.trailing_zeros();
        if count.is_power_of_two()
            && let Some(node) = self.log.node(level, first >> level)
        {
            return Ok(node);
        }
        let middle = first + split(count);
        Ok(node_hash(&self.root(first, middle)?, &self.root(middle, end)?))
    }

    fn leaf(&mut self, index: u64) -> io::Result<Hash> {
        let (block, within) = (index / LEAVES_PER_BLOCK, (index % LEAVES_PER_BLOCK) as usize);
        if !self.leaves.iter().any(|(known, _)| *known == block) {
            self.leaves.push((block, self.log.leaves(block)?));
        }
        let known = self.leaves.iter().find(|(known, _)| *known == block);
        let leaf = known.and_then(|(_, leaves)| leaves.get(within)).copied();
        leaf.ok_or_else(|| io::Error::other("the log has no such record"))
    }
}
