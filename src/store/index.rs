//! Where the files hold each execution: by nonce, by id, by the approvals that it spent; and each proposal.

use std::io;

use super::jobs::Jobs;
use super::state::{Change, Execution, Position};
use super::table::Table;
use super::{By, Found, intact};
use crate::core::limits::{SEGMENT_BYTES, SEGMENTS_MAX};
use crate::core::record::{Claim, Record};
use crate::core::stage::Step;

/// The bytes in which the index keeps a position.
const POSITION_BYTES: usize = 5;
type Packed = [u8; POSITION_BYTES];
const _: () = assert!(SEGMENT_BYTES * SEGMENTS_MAX as u64 <= 1 << (8 * POSITION_BYTES));

/// Rebuilt at every opening. What it finds may be wrong, rarely, and is verified against the file.
#[derive(Default)]
pub struct Index {
    pub(super) executions: Entries,
    /// The approvals that each execution spent.
    approvals: Table,
    pub(super) jobs: Jobs,
    proposals: Entries,
    recorded_approvals: Table,
    approvals_at: Vec<Packed>,
}

/// Executions, or proposals, by their numbers.
#[derive(Default)]
pub(super) struct Entries {
    nonces: Table,
    ids: Table,
    /// Where the claim and the receipt are, or the proposal and its end.
    places: Vec<[Packed; 2]>,
    /// Where the completion is, or where it became asynchronous later than it was asked: of each up to the newest one
    /// that has any; 0 for none.
    thirds: Vec<Packed>,
}

impl Entries {
    fn begin(&mut self, number: u32, (id, nonce): (u64, u64), position: Position) {
        self.places.push([packed(position), packed(0)]);
        self.ids.insert(id, number);
        self.nonces.insert(nonce, number);
    }

    fn end(&mut self, number: u32, position: Position) {
        self.places[number as usize][1] = packed(position);
    }

    fn add_third(&mut self, number: u32, position: Position) {
        let length = self.thirds.len().max(number as usize + 1);
        self.thirds.resize(length, packed(0));
        self.thirds[number as usize] = packed(position);
    }

    pub(super) fn get(&self, number: u32) -> Option<Execution> {
        let [claim, receipt] = self.places.get(number as usize)?;
        let completion = self.thirds.get(number as usize).and_then(known);
        Some(Execution { claim: position_of(claim), receipt: known(receipt), completion })
    }
}

impl Index {
    /// Adds a record that was applied; `number` is that of the execution, or of the proposal, that it belongs to;
    /// of a completion it is found by the id. `line` reads the record at a position, where several may be meant.
    pub(super) fn add(
        &mut self,
        change: &Change,
        number: Option<u32>,
        position: Position,
        line: &dyn Fn(Position) -> io::Result<String>,
    ) -> Result<(), String> {
        if position >> (8 * POSITION_BYTES) != 0 {
            return Err("it lies beyond what a store may hold".to_owned());
        }
        match (change, number) {
            (Change::Claim { id_key, nonce_key, approval_keys, .. }, Some(number)) => {
                self.executions.begin(number, (*id_key, *nonce_key), position);
                for key in approval_keys {
                    self.approvals.insert(*key, number);
                }
            }
            (Change::Receipt { job, .. }, Some(number)) => {
                self.executions.end(number, position);
                if *job {
                    self.jobs.set(number, true);
                }
            }
            (Change::Completion { id, id_key, closes }, _) => {
                let numbers: Vec<u32> = self.executions.ids.candidates(*id_key).collect();
                let has_it = |at| Ok(intact(Claim::read(&line(at)?), at)?.id == *id);
                let mut its = None;
                for number in &numbers {
                    let claim = position_of(&self.executions.places[*number as usize][0]);
                    if numbers.len() == 1 || has_it(claim).map_err(unread)? {
                        its = Some(*number);
                    }
                }
                let number = its.ok_or("a completion of what was never claimed")?;
                self.executions.add_third(number, position);
                if *closes {
                    self.jobs.set(number, false);
                }
            }
            (Change::Proposal(asked), Some(number)) => {
                self.proposals.begin(number, (asked.id_key, asked.nonce_key), position);
            }
            (Change::Approval { approval_id, approval_key, .. }, _) => {
                let by = By::ApprovalId(approval_id);
                if self.find(by, *approval_key, line).map_err(unread)?.is_some() {
                    return Err("an approval is recorded a second time".to_owned());
                }
                let number = u32::try_from(self.approvals_at.len()).map_err(|e| e.to_string())?;
                self.approvals_at.push(packed(position));
                self.recorded_approvals.insert(*approval_key, number);
            }
            (Change::Pending { step: Step::BecomeAsynchronous, .. }, Some(number)) => {
                self.proposals.add_third(number, position);
            }
            (Change::Pending { .. }, Some(number)) => {
                self.proposals.end(number, position);
            }
            _ => {}
        }
        Ok(())
    }

    /// The first that is meant, by its record, which `line` reads.
    pub(super) fn find(
        &self,
        by: By,
        key: u64,
        line: &dyn Fn(Position) -> io::Result<String>,
    ) -> io::Result<Option<Found>> {
        for found in self.candidates(by, key) {
            let line = line(found.claim)?;
            let record = intact(Record::read(&line), found.claim)?;
            if intact(by.is(&record), found.claim)? {
                return Ok(Some((found, line)));
            }
        }
        Ok(None)
    }

    /// Those that have this key, few or none of them wrong.
    fn candidates(&self, by: By, key: u64) -> Vec<Execution> {
        let (all, table) = match by {
            By::ClaimNonce(_) => (&self.executions, &self.executions.nonces),
            By::ClaimId(_) => (&self.executions, &self.executions.ids),
            By::Spent(_) => (&self.executions, &self.approvals),
            By::ProposalNonce(_) => (&self.proposals, &self.proposals.nonces),
            By::ProposalId(_) => (&self.proposals, &self.proposals.ids),
            By::ProposalNumber(number) => return self.proposals.get(number).into_iter().collect(),
            By::ApprovalId(_) => {
                let at = |number| position_of(&self.approvals_at[number as usize]);
                let found =
                    |number| Execution { claim: at(number), receipt: None, completion: None };
                return self.recorded_approvals.candidates(key).map(found).collect();
            }
        };
        table.candidates(key).filter_map(|number| all.get(number)).collect()
    }
}

fn unread(error: io::Error) -> String {
    error.to_string()
}

fn packed(position: Position) -> Packed {
    let [a, b, c, d, e, ..] = position.to_le_bytes();
    [a, b, c, d, e]
}

fn position_of([a, b, c, d, e]: &Packed) -> Position {
    Position::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0])
}

/// No record stands at 0, where the first segment line is.
fn known(bytes: &Packed) -> Option<Position> {
    Some(position_of(bytes)).filter(|position| *position != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::line::Json;
    use crate::core::receipt::Effect;
    use crate::core::record::{Approval, Claim};
    use crate::core::time::Time;

    fn claim(key: u64) -> Change {
        Change::Claim {
            once: false,
            id: [1; 32],
            id_key: key,
            nonce_key: key,
            approval_keys: Vec::new(),
            policy: 0,
        }
    }

    /// No two have this key.
    fn never(_: Position) -> io::Result<String> {
        unreachable!("no two have this key")
    }

    /// The line of a claim with this id.
    fn claimed(id: u8) -> String {
        let (approval, keys, payload) = (Json("null"), Json("[]"), Json("{}"));
        let (action, nonce, effect, at) = ("echo", "n".into(), Effect::Pure, Time::default());
        let (caller, legacy, place, policy, id) = (None, None, None, 0, [id; 32]);
        #[rustfmt::skip]
        let claim = Claim { action, approval, at, caller, effect, id, keys, legacy, nonce, payload, place, policy };
        claim.line()
    }

    fn closing(key: u64, closes: bool) -> Change {
        Change::Completion { id: [1; 32], id_key: key, closes }
    }

    const RECEIPT: Change = Change::Receipt { id: [1; 32], job: true };

    #[test]
    fn a_position_is_kept_whole_or_refused() {
        let mut index = Index::default();
        let key = 1;
        let last = (1 << (8 * POSITION_BYTES)) - 1;
        index.add(&claim(key), Some(0), last - 2, &never).expect("added");
        index.add(&RECEIPT, Some(0), last - 1, &never).expect("added");
        index.add(&closing(key, true), None, last, &never).expect("added");
        let whole = Execution { claim: last - 2, receipt: Some(last - 1), completion: Some(last) };
        assert_eq!(index.candidates(By::ClaimId(&[1; 32]), key), [whole]);
        assert!(index.add(&claim(key), Some(1), last + 1, &never).is_err());
        assert_eq!(index.executions.places.len(), 1, "a wrapped position would be another claim's");
    }

    /// The table keeps the upper half of a key.
    const KEY: u64 = 7 << 40;

    #[test]
    fn a_completion_finds_its_execution_among_those_of_one_key() {
        let mut index = Index::default();
        for number in 0..3u32 {
            let at = u64::from(number) * 10;
            index.add(&claim(KEY), Some(number), at + 1, &never).expect("added");
            index.add(&RECEIPT, Some(number), at + 2, &never).expect("added");
        }
        let second = |at: Position| Ok(claimed(if at == 11 { 1 } else { 2 }));
        index.add(&closing(KEY, false), None, 30, &second).expect("added");
        assert_eq!((index.jobs.open, index.jobs.oldest()), (3, Some(0)));
        index.add(&closing(KEY, true), None, 40, &second).expect("added");
        assert_eq!((index.jobs.open, index.jobs.oldest()), (2, Some(0)));
        let completions =
            [0, 1, 2].map(|number| index.executions.get(number).expect("there").completion);
        assert_eq!(completions, [None, Some(40), None]);
        let unread = |_: Position| Err(io::Error::other("cannot be read"));
        for line in [&(|_: Position| Ok(claimed(2))) as &dyn Fn(_) -> _, &unread] {
            assert!(index.add(&closing(KEY, true), None, 50, line).is_err());
        }
        assert!(index.add(&closing(KEY << 1, true), None, 50, &never).is_err());
    }

    #[test]
    fn of_approvals_with_one_key_each_is_recorded_once() {
        let mut index = Index::default();
        let ids = ["a", "b"];
        let line = |at: Position| {
            let artifact = format!("{{\"approval_id\":\"{}\"}}", ids[at as usize - 1]);
            let (id, key) = ([1; 32], "ops".into());
            Ok(Approval { artifact: Json(&artifact), at: Time::default(), id, key }.line())
        };
        let mut add = |approval_id: &str, at| {
            let approval_id = approval_id.to_owned();
            let change =
                Change::Approval { id: [1; 32], id_key: 1, approval_id, approval_key: KEY };
            index.add(&change, None, at, &line)
        };
        add("a", 1).expect("new");
        add("b", 2).expect("another of the same key");
        for again in ["a", "b"] {
            assert_eq!(add(again, 3).expect_err(again), "an approval is recorded a second time");
        }
    }
}
