//! The Merkle tree over every record line (RFC 6962, section 2.1).
//!
//! Kept as a compact range: the roots of the perfect subtrees that make up the log, largest first,
//! one for each bit set in its size. Appending a leaf and taking the root both cost O(log size).

use crate::core::hash::{Hash, sha256};
use crate::core::limits::LEAVES_PER_BLOCK;

/// The level of a block of [`LEAVES_PER_BLOCK`] leaves; a leaf is at level 0.
pub const BLOCK_LEVEL: u32 = LEAVES_PER_BLOCK.trailing_zeros();

const _: () = assert!(LEAVES_PER_BLOCK.is_power_of_two());

/// SHA-256(0x00 || line), the line without its newline.
pub fn leaf_hash(line: &[u8]) -> Hash {
    sha256(&[&[0], line])
}

/// SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // In one piece: the hash copies what does not fill a block.
    let mut node = [1; 1 + 2 * size_of::<Hash>()];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    sha256(&[&node])
}

/// What there is to agree on: so many leaves, under this root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub root: Hash,
}

/// A log of `size` leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Tree {
    /// Of so many leaves again, by the roots of its subtrees; `None` where they are not as many as it has.
    pub fn of(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() as u32 == size.count_ones()).then_some(Tree { size, subtrees })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn head(&self) -> Head {
        Head { size: self.size, root: self.root() }
    }

    /// Appends a leaf; gives the hash of the block that it completes, if it does.
    pub fn push(&mut self, leaf: Hash) -> Option<Hash> {
        // Each trailing one bit of the old size is a perfect subtree that now finds its sibling.
        let mut hash = leaf;
        let mut block = None;
        for level in 1..=self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
            if level == BLOCK_LEVEL {
                block = Some(hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
        block
    }

    /// The root; of no leaves, the hash of the empty string.
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.subtrees.iter().rev();
        let Some(last) = smallest_first.next() else {
            return sha256(&[]);
        };
        smallest_first.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hash::hex;

    /// The leaves and roots of the reference implementation of RFC 6962
    /// (google/certificate-transparency, `merkle_tree_test`).
    #[test]
    fn the_known_roots_of_rfc_6962() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root()), roots[0]);
        for (leaf, root) in leaves.iter().zip(&roots[1..]) {
            tree.push(leaf_hash(leaf));
            assert_eq!(hex(&tree.root()), *root, "size {}", tree.size());
        }
    }

    /// The definition of RFC 6962, recursive, against the compact range.
    #[test]
    fn agrees_with_the_recursive_definition() {
        fn root(leaves: &[Hash]) -> Hash {
            match leaves.len() {
                0 => sha256(&[]),
                1 => leaves[0],
                n => {
                    let split = n.next_power_of_two() / 2;
                    node_hash(&root(&leaves[..split]), &root(&leaves[split..]))
                }
            }
        }
        let leaves: Vec<Hash> = (0..300u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = Tree::default();
        for (n, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), root(&leaves[..n]));
            tree.push(*leaf);
        }
    }
}
