//! A hash table of eight bytes a slot, for ten million executions in little memory.
//!
//! A slot holds the upper 32 bits of a keyed hash and the number of an execution. The slot where a
//! search begins is taken from those same 32 bits, so the table grows without the keys. A search yields
//! candidates; whoever asks verifies each against the file. With a keyed hash (SipHash, fresh key each
//! process) an attacker who chooses nonces cannot choose collisions.
//!
//! It grows by a quarter, and in parts: between 9.2 and 11.5 bytes an entry, and hardly more while a
//! part moves into a larger one.

/// The upper bits of a hash choose a part, so that each has its share of the entries.
const PART_BITS: u32 = 6;
/// Slots of a part that holds its first entry.
const SLOTS_MIN: usize = 16;

pub struct Table {
    parts: Vec<Part>,
}

/// Linear probing; empty is 0.
#[derive(Default, Clone)]
struct Part {
    slots: Vec<u64>,
    count: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { parts: vec![Part::default(); 1 << PART_BITS] }
    }
}

impl Table {
    /// Adds `execution` under `hash`. Equal hashes may stand beside one another.
    pub fn insert(&mut self, hash: u64, execution: u32) {
        // One more, so that no entry is 0; `execution` is below 2^32 - 1 by the limit of a store.
        self.parts[part_of(hash)].insert((hash >> 32) << 32 | (u64::from(execution) + 1));
    }

    /// As a set of whole hashes: whether this one was new.
    pub fn insert_hash(&mut self, hash: u64) -> bool {
        let (part, entry) = (&mut self.parts[part_of(hash)], hash | 1);
        let is_new = part.run_of(entry).all(|known| known != entry);
        if is_new {
            part.insert(entry);
        }
        is_new
    }

    /// Whether [`Table::insert_hash`] was called with it.
    pub fn has_hash(&self, hash: u64) -> bool {
        self.parts[part_of(hash)].run_of(hash | 1).any(|known| known == hash | 1)
    }

    /// The executions that may have this hash, few or none of them wrong.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.parts[part_of(hash)]
            .run_of(hash)
            .filter(move |slot| slot >> 32 == hash >> 32)
            .map(|slot| (slot & 0xffff_ffff) as u32 - 1)
    }
}

impl Part {
    fn insert(&mut self, entry: u64) {
        if (self.count + 1) * 8 > self.slots.len() * 7 {
            let more = (self.slots.len() / 4).max(SLOTS_MIN);
            let mut slots = vec![0; self.slots.len() + more];
            for slot in self.slots.iter().filter(|slot| **slot != 0) {
                place(&mut slots, *slot);
            }
            self.slots = slots;
        }
        place(&mut self.slots, entry);
        self.count += 1;
    }

    /// What a search for this entry or hash looks at.
    fn run_of(&self, entry: u64) -> impl Iterator<Item = u64> {
        let start = start_of(entry, self.slots.len());
        let (before, after) = self.slots.split_at(start);
        after.iter().chain(before).copied().take_while(|slot| *slot != 0)
    }
}

fn place(slots: &mut [u64], entry: u64) {
    let mut at = start_of(entry, slots.len());
    while slots[at] != 0 {
        at = if at + 1 == slots.len() { 0 } else { at + 1 };
    }
    slots[at] = entry;
}

fn part_of(hash: u64) -> usize {
    (hash >> (64 - PART_BITS)) as usize
}

/// The first slot of an entry: the rest of its upper 32 bits, as a fraction of the part.
fn start_of(entry: u64, slots: usize) -> usize {
    let fraction = u128::from((entry >> 32) << (32 + PART_BITS));
    ((fraction * slots as u128) >> 64) as usize
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

    #[test]
    fn as_a_set_it_tells_what_is_new() {
        let keys = RandomState::new();
        let mut table = Table::default();
        assert!((0..50_000u32).all(|n| table.insert_hash(keys.hash_one(n))));
        assert!((0..50_000u32).all(|n| !table.insert_hash(keys.hash_one(n))));
        assert!((0..50_000u32).all(|n| table.has_hash(keys.hash_one(n))));
        assert!((50_000..100_000u32).all(|n| !table.has_hash(keys.hash_one(n))));
    }

    /// Ten million executions and their approvals are held in what `MemoryMax` allows.
    #[test]
    fn an_entry_takes_twelve_bytes_at_most() {
        let keys = RandomState::new();
        let mut table = Table::default();
        for n in 0..300_000u32 {
            table.insert(keys.hash_one(n), n);
            if n > 100_000 && n.is_multiple_of(1_000) {
                let slots: usize = table.parts.iter().map(|part| part.slots.len()).sum();
                assert!(slots * 8 < 12 * n as usize, "{slots} slots for {n} entries");
            }
        }
    }
}
