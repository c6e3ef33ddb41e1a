//! Where the files hold each execution: by nonce, by id, by the approvals that it spent; and each proposal.

use super::state::{Change, Execution, Position};
use super::table::Table;
use crate::core::limits::{SEGMENT_BYTES, SEGMENTS_MAX};

/// The bytes in which the index keeps a position.
const POSITION_BYTES: usize = 5;
const _: () = assert!(SEGMENT_BYTES * SEGMENTS_MAX as u64 <= 1 << (8 * POSITION_BYTES));

/// Rebuilt at every opening. What it finds may be wrong, rarely, and is verified against the file.
#[derive(Default)]
pub struct Index {
    pub(super) nonces: Table,
    pub(super) approvals: Table,
    pub(super) ids: Table,
    executions: Vec<Packed>,
    pub(super) proposed_nonces: Table,
    pub(super) proposed_ids: Table,
    proposals: Vec<Packed>,
}

impl Index {
    /// Adds a record that was applied; `number` is that of the execution, or of the proposal, that it belongs to.
    pub(super) fn add(
        &mut self,
        change: &Change,
        number: Option<u32>,
        position: Position,
    ) -> Result<(), &'static str> {
        if position >> (8 * POSITION_BYTES) != 0 {
            return Err("it lies beyond what a store may hold");
        }
        match (change, number) {
            (Change::Claim { id_key, nonce_key, approval_keys, .. }, Some(number)) => {
                self.executions.push(Packed::new(position));
                self.nonces.insert(*nonce_key, number);
                self.ids.insert(*id_key, number);
                for key in approval_keys {
                    self.approvals.insert(*key, number);
                }
            }
            (Change::Receipt { .. }, Some(number)) => {
                self.executions[number as usize].set_receipt(position);
            }
            (Change::Proposal(asked), Some(number)) => {
                self.proposals.push(Packed::new(position));
                self.proposed_nonces.insert(asked.nonce_key, number);
                self.proposed_ids.insert(asked.id_key, number);
            }
            (Change::Pending { .. }, Some(number)) => {
                self.proposals[number as usize].set_receipt(position);
            }
            _ => {}
        }
        Ok(())
    }

    /// Executions that may have this key in that table.
    pub(super) fn found<'a>(
        &'a self,
        table: &'a Table,
        key: u64,
    ) -> impl Iterator<Item = Execution> + 'a {
        table.candidates(key).map(|number| self.executions[number as usize].unpack())
    }

    /// The same of proposals.
    pub(super) fn proposed<'a>(
        &'a self,
        table: &'a Table,
        key: u64,
    ) -> impl Iterator<Item = Execution> + 'a {
        table.candidates(key).map(|number| self.proposals[number as usize].unpack())
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

    #[test]
    fn a_position_is_kept_whole_or_refused() {
        let mut index = Index::default();
        let key = 1;
        let claim = Change::Claim {
            once: false,
            id: [1; 32],
            id_key: key,
            nonce_key: key,
            approval_keys: Vec::new(),
            policy: 0,
        };
        let last = (1 << (8 * POSITION_BYTES)) - 1;
        index.add(&claim, Some(0), last - 1).expect("added");
        index.add(&Change::Receipt { id: [1; 32] }, Some(0), last).expect("added");
        let whole = Execution { claim: last - 1, receipt: Some(last) };
        assert_eq!(index.found(&index.ids, key).collect::<Vec<_>>(), [whole]);
        assert!(index.add(&claim, Some(1), last + 1).is_err());
        assert_eq!(index.executions.len(), 1, "a wrapped position would be another claim's");
    }
}
