//! Checking proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2): pure, and without the code that makes
//! them.

use crate::hash::Hash;
use crate::store::tree::{Head, node_hash};

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

/// Whether `proof` shows that the log under `newer` begins with the whole log under `older`. Of an
/// older log without records there is nothing to show, and nothing is taken for it.
#[must_use]
pub fn extends(older: &Head, newer: &Head, proof: &[Hash]) -> bool {
    if older.size == 0 || older.size > newer.size {
        return false;
    }
    if older.size == newer.size {
        return proof.is_empty() && older.root == newer.root;
    }
    // A whole subtree is known by the older root itself.
    let whole = older.size.is_power_of_two().then_some(&older.root);
    let mut parts = whole.into_iter().chain(proof);
    let Some(first) = parts.next() else { return false };
    let (mut node, mut last) = (older.size - 1, newer.size - 1);
    while node % 2 == 1 {
        node /= 2;
        last /= 2;
    }
    let (mut old, mut new) = (*first, *first);
    for part in parts {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            old = node_hash(part, &old);
            new = node_hash(part, &new);
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            new = node_hash(&new, part);
        }
        node /= 2;
        last /= 2;
    }
    last == 0 && old == older.root && new == newer.root
}
