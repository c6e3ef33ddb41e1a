//! Checking proofs (RFC 9162, section 2.1.3.2): pure, and without the code that makes them.

use crate::core::hash::Hash;
use crate::core::tree::{Head, node_hash};

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
