//! What the records so far mean: which nonces and approvals are spent, which claims are owed a
//! receipt, which refusals are known. Opening and the live path apply each record through
//! [`State::apply`], so they cannot come to differ.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::refusals::{Refusals, Stored};
use super::table::Table;
use crate::core::clock::Clock;
use crate::core::hash::Hash;
use crate::core::limits::{SEGMENT_BYTES, SEGMENTS_MAX};
use crate::core::receipt::Effect;
use crate::core::record::Record;
use crate::core::time::Time;

/// A byte offset over all segments: `(segment - 1) * segment bytes + offset`.
pub type Position = u64;

/// The bytes in which the index keeps one.
const POSITION_BYTES: usize = 5;
const _: () = assert!(SEGMENT_BYTES * SEGMENTS_MAX as u64 <= 1 << (8 * POSITION_BYTES));

/// What one record changes. Small and owned, so that it can be made on another thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Claim { once: bool, id: Hash, id_key: u64, nonce_key: u64, approval_keys: Vec<u64> },
    Receipt { id: Hash },
    Retry { id: Hash },
    Denial(Stored),
    Suppressed { line_bytes: usize },
    Frozen(bool),
    Nothing,
}

/// The keyed hash of this process.
#[derive(Clone, Default)]
pub struct Keys(RandomState);

impl Keys {
    pub fn of(&self, bytes: &[u8]) -> u64 {
        self.0.hash_one(bytes)
    }

    /// The change that a record of so many bytes makes; `None` if its approvals cannot be read.
    pub fn change(&self, record: &Record, line_bytes: usize) -> Option<Change> {
        Some(match record {
            Record::Claim(claim) => {
                let ids = claim.approval_ids()?;
                Change::Claim {
                    once: claim.effect == Effect::Once,
                    id: claim.id,
                    id_key: self.of(&claim.id),
                    nonce_key: self.of(claim.nonce.as_bytes()),
                    approval_keys: ids.iter().map(|id| self.of(id.as_bytes())).collect(),
                }
            }
            Record::Receipt(receipt) => Change::Receipt { id: receipt.id },
            Record::Retry { id, .. } => Change::Retry { id: *id },
            Record::Denial(denial) => Change::Denial(Stored::of(self, denial, line_bytes)),
            Record::Suppressed { .. } => Change::Suppressed { line_bytes },
            Record::Freeze { .. } => Change::Frozen(true),
            Record::Unfreeze { .. } => Change::Frozen(false),
            Record::Store { .. } => Change::Nothing,
        })
    }
}

/// A claim that has no receipt yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    execution: u32,
    /// The time of the claim.
    pub at: Time,
    pub claim: Position,
    /// Its effect is `once`: it is never run again.
    once: bool,
    /// It was run again after a crash already.
    pub retried: bool,
}

/// Where an execution stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    pub claim: Position,
    /// `None` while the receipt is owed.
    pub receipt: Option<Position>,
}

/// The index, rebuilt at every opening.
#[derive(Default)]
pub struct State {
    pub keys: Keys,
    nonces: Table,
    approvals: Table,
    ids: Table,
    executions: Vec<Packed>,
    /// Without an index nothing can be found: for who reads a store and does not serve it.
    pub is_indexed: bool,
    count: u32,
    owed: HashMap<Hash, Owed>,
    pub refusals: Refusals,
    /// The times of the records, and what else was seen of the clock.
    pub clock: Clock,
    /// Whether the last of `freeze` and `unfreeze` was `freeze`.
    pub frozen: bool,
}

impl State {
    /// Applies a committed record of the time `at` that begins at `position`. An error says which
    /// promise of the format it breaks.
    pub fn apply(
        &mut self,
        at: Time,
        change: Change,
        position: Position,
    ) -> Result<(), &'static str> {
        if position >> (8 * POSITION_BYTES) != 0 {
            return Err("it lies beyond what a store may hold");
        }
        self.clock.raise(at);
        match change {
            Change::Claim { once, id, id_key, nonce_key, approval_keys } => {
                if self.frozen {
                    return Err("a claim stands between a freeze and its unfreeze");
                }
                let execution = self.count;
                self.count = execution.checked_add(1).ok_or("too many executions")?;
                let owed = Owed { execution, at, claim: position, once, retried: false };
                if self.owed.insert(id, owed).is_some() {
                    return Err("a claim repeats one that has no receipt");
                }
                if self.is_indexed {
                    self.executions.push(Packed::new(position));
                    self.nonces.insert(nonce_key, execution);
                    self.ids.insert(id_key, execution);
                    for key in approval_keys {
                        self.approvals.insert(key, execution);
                    }
                }
            }
            Change::Receipt { id } => {
                let owed = self.owed.remove(&id).ok_or("a receipt has no claim")?;
                if self.is_indexed {
                    self.executions[owed.execution as usize].set_receipt(position);
                }
            }
            Change::Retry { id } => {
                let owed = self.owed.get_mut(&id).ok_or("a retry has no claim that is owed")?;
                match owed {
                    _ if self.frozen => {
                        return Err("a retry stands between a freeze and its unfreeze");
                    }
                    Owed { once: true, .. } => return Err("a claim of effect once is run again"),
                    Owed { retried: true, .. } => return Err("a claim is run again a second time"),
                    owed => owed.retried = true,
                }
            }
            Change::Denial(stored) => self.refusals.store(&stored, at),
            Change::Suppressed { line_bytes } => self.refusals.store_counts(at, line_bytes),
            Change::Frozen(frozen) if frozen == self.frozen => {
                return Err("a freeze within a freeze, or an unfreeze without one");
            }
            Change::Frozen(frozen) => {
                self.frozen = frozen;
                if !frozen {
                    self.clock.unfreeze(at);
                }
            }
            Change::Nothing => {}
        }
        Ok(())
    }

    /// Executions so far, with or without a receipt.
    pub fn executions(&self) -> u64 {
        self.count.into()
    }

    /// Executions that may have this nonce.
    pub fn by_nonce(&self, nonce: &str) -> impl Iterator<Item = Execution> {
        self.nonces.candidates(self.keys.of(nonce.as_bytes())).map(|n| self.execution(n))
    }

    /// Executions that may have this id.
    pub fn by_id(&self, id: &Hash) -> impl Iterator<Item = Execution> {
        self.ids.candidates(self.keys.of(id)).map(|n| self.execution(n))
    }

    /// Executions that may have spent this approval.
    pub fn by_approval(&self, approval_id: &str) -> impl Iterator<Item = Execution> {
        self.approvals.candidates(self.keys.of(approval_id.as_bytes())).map(|n| self.execution(n))
    }

    /// Claims that are owed a receipt, in the order of their claims.
    pub fn owed(&self) -> BTreeMap<Position, (Hash, Owed)> {
        self.owed.iter().map(|(id, owed)| (owed.claim, (*id, *owed))).collect()
    }

    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether this claim is owed a receipt.
    pub fn owes_to(&self, id: &Hash) -> bool {
        self.owed.contains_key(id)
    }

    /// How many claims are owed a receipt, and the time of the oldest.
    pub fn debt(&self) -> (u64, Option<Time>) {
        (self.owed.len() as u64, self.owed.values().map(|owed| owed.at).min())
    }

    fn execution(&self, number: u32) -> Execution {
        self.executions[number as usize].unpack()
    }
}

/// Two positions. No receipt stands at 0, where the first segment line is.
struct Packed([u8; 2 * POSITION_BYTES]);

impl Packed {
    fn new(claim: Position) -> Self {
        let mut packed = Packed([0; 2 * POSITION_BYTES]);
        packed.0[..POSITION_BYTES].copy_from_slice(&claim.to_le_bytes()[..POSITION_BYTES]);
        packed
    }

    fn set_receipt(&mut self, receipt: Position) {
        self.0[POSITION_BYTES..].copy_from_slice(&receipt.to_le_bytes()[..POSITION_BYTES]);
    }

    fn unpack(&self) -> Execution {
        let position = |bytes: &[u8]| {
            bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
        };
        let (claim, receipt) = self.0.split_at(POSITION_BYTES);
        let (claim, receipt) = (position(claim), position(receipt));
        Execution { claim, receipt: (receipt != 0).then_some(receipt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time::from_micros(1);

    fn claim(id: u8) -> Change {
        let (id, id_key) = ([id; 32], u64::from(id));
        Change::Claim { once: false, id, id_key, nonce_key: id_key, approval_keys: Vec::new() }
    }

    #[test]
    fn a_position_is_kept_whole_or_refused() {
        let mut state = State { is_indexed: true, ..State::default() };
        let last = (1 << (8 * POSITION_BYTES)) - 1;
        state.apply(AT, claim(1), last - 1).expect("applied");
        state.apply(AT, Change::Receipt { id: [1; 32] }, last).expect("applied");
        let whole = Execution { claim: last - 1, receipt: Some(last) };
        assert_eq!(state.execution(0), whole);
        assert!(state.apply(AT, claim(2), last + 1).is_err());
        assert_eq!(state.executions(), 1, "a wrapped position would be another claim's");
    }
}
