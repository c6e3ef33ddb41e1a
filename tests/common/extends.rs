//! Checking consistency proofs (RFC 9162, section 2.1.4.2), as whoever keeps checkpoints does.

use openexec::core::hash::Hash;
use openexec::core::tree::{Head, node_hash};

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
