//! A hash table of eight bytes a slot, for ten million executions in little memory.
//!
//! A slot holds the upper 32 bits of a keyed hash and the number of an execution. The slot where a
//! search begins is taken from the upper bits of those same 32, so the table grows without the keys.
//! A search yields candidates; whoever asks verifies each against the file. With a keyed hash
//! (SipHash, fresh key each process) an attacker who chooses nonces cannot choose collisions.

/// Linear probing; empty is 0.
pub struct Table {
    slots: Vec<u64>,
    count: usize,
}

/// Slots in an empty table: a power of two.
const SLOTS_MIN: usize = 1024;

impl Default for Table {
    fn default() -> Self {
        Table { slots: vec![0; SLOTS_MIN], count: 0 }
    }
}

impl Table {
    /// Adds `execution` under `hash`. Equal hashes may stand beside one another.
    pub fn insert(&mut self, hash: u64, execution: u32) {
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        // One more, so that no entry is 0; `execution` is below 2^32 - 1 by the limit of a store.
        place(&mut self.slots, (hash >> 32) << 32 | (u64::from(execution) + 1));
        self.count += 1;
    }

    /// The executions that may have this hash, few or none of them wrong.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let tag = hash >> 32;
        let mask = self.slots.len() - 1;
        let start = start_of(tag, self.slots.len());
        (0..self.slots.len())
            .map(move |step| self.slots[(start + step) & mask])
            .take_while(|slot| *slot != 0)
            .filter(move |slot| slot >> 32 == tag)
            .map(|slot| (slot & 0xffff_ffff) as u32 - 1)
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        for slot in self.slots.iter().filter(|slot| **slot != 0) {
            place(&mut slots, *slot);
        }
        self.slots = slots;
    }
}

fn place(slots: &mut [u64], entry: u64) {
    let mask = slots.len() - 1;
    let mut at = start_of(entry >> 32, slots.len());
    while slots[at] != 0 {
        at = (at + 1) & mask;
    }
    slots[at] = entry;
}

/// The first slot of a 32-bit tag: its upper bits.
fn start_of(tag: u64, slots: usize) -> usize {
    (tag >> (32 - slots.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn every_entry_is_found_and_strangers_are_rare() {
        let keys = RandomState::new();
        let mut table = Table::default();
        for n in 0..100_000u32 {
            table.insert(keys.hash_one(n), n);
        }
        for n in 0..100_000u32 {
            assert!(table.candidates(keys.hash_one(n)).any(|found| found == n));
        }
        let strangers = (100_000..200_000u32)
            .map(|n| table.candidates(keys.hash_one(n)).count())
            .sum::<usize>();
        assert!(strangers < 100, "{strangers} false candidates in 100,000 searches");
    }

    #[test]
    fn equal_hashes_are_all_candidates() {
        let mut table = Table::default();
        for n in 0..2_000 {
            table.insert(u64::MAX, n);
        }
        assert_eq!(table.candidates(u64::MAX).count(), 2_000);
        assert_eq!(table.candidates(0).count(), 0);
    }
}
