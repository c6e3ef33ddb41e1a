//! What the records so far mean: which nonces and approvals are spent, which claims are owed a
//! receipt, which refusals are known. Opening and the live path apply each record through
//! [`State::apply`], so they cannot come to differ.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::proposals::{Asked, Pending, Proposals};
use super::refusals::{Refusals, Stored};
use crate::core::clock::Clock;
use crate::core::hash::Hash;
use crate::core::receipt::{Effect, Outcome, names_job};
use crate::core::record::Record;
use crate::core::stage::{Stage, Step};
use crate::core::time::Time;

/// Where a store reads a record again; of files, its byte offset over all segments.
pub type Position = u64;

/// What one record changes. Small and owned, so that it can be made on another thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Policy {
        digest: Hash,
    },
    Proposal(Box<Asked>),
    /// Of one that is pending.
    Approval {
        id: Hash,
        id_key: u64,
        approval_id: String,
        approval_key: u64,
    },
    /// Of one that is pending: it becomes asynchronous, or is over.
    Pending {
        step: Step,
        id: Hash,
        id_key: u64,
    },
    Claim {
        once: bool,
        id: Hash,
        id_key: u64,
        nonce_key: u64,
        approval_keys: Vec<u64>,
        policy: u64,
    },
    Receipt {
        id: Hash,
        /// It left a job.
        job: bool,
    },
    Completion {
        id: Hash,
        id_key: u64,
        /// By one who knows what became of the job.
        closes: bool,
    },
    Retry {
        id: Hash,
    },
    Refusal(Stored),
    Suppressed {
        line_bytes: usize,
    },
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

    /// Nobody by name has a key too.
    pub fn of_caller(&self, name: Option<&str>) -> u64 {
        self.of(name.unwrap_or_default().as_bytes())
    }

    /// The time of a record's line, and the change that it makes.
    pub fn read(&self, line: &str) -> Result<(Time, Change), &'static str> {
        let record = Record::read(line).ok_or("it is of no known form")?;
        let change = self.change(&record, line.len()).ok_or("its approvals cannot be read")?;
        Ok((record.at(), change))
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
                    policy: claim.policy,
                }
            }
            Record::Receipt(receipt) => {
                let job = receipt.outcome == Outcome::Executed && names_job(&receipt.result);
                Change::Receipt { id: receipt.id, job }
            }
            Record::Completion(completion) => Change::Completion {
                id: completion.id,
                id_key: self.of(&completion.id),
                closes: completion.outcome != Outcome::Indeterminate,
            },
            Record::Retry(retry) => Change::Retry { id: retry.id },
            Record::Policy(policy) => Change::Policy { digest: policy.digest() },
            Record::Refusal(refusal) => Change::Refusal(Stored::of(self, refusal, line_bytes)),
            Record::Suppressed(_) => Change::Suppressed { line_bytes },
            Record::Freeze(_) => Change::Frozen(true),
            Record::Unfreeze(_) => Change::Frozen(false),
            Record::Proposal(proposal) => Change::Proposal(Box::new(Asked::of(self, proposal))),
            Record::Asynchronous(record) => self.pending(Step::BecomeAsynchronous, record.id),
            Record::Approval(approval) => {
                let (id, approval_id) = (approval.id, approval.approval_id()?);
                let approval_key = self.of(approval_id.as_bytes());
                Change::Approval { id, id_key: self.of(&id), approval_id, approval_key }
            }
            Record::Rejection(rejection) => self.pending(Step::End, rejection.id),
            Record::Closed(closed) => self.pending(Step::End, closed.id),
            Record::Store(_) => Change::Nothing,
        })
    }

    fn pending(&self, step: Step, id: Hash) -> Change {
        Change::Pending { step, id, id_key: self.of(&id) }
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

/// A policy record: its number, records counted from 0, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    pub number: u64,
    pub digest: Hash,
}

/// Where an execution's records are: its claim, its receipt and its completion; or a proposal's: its own, the one by which
/// it was over without a claim, and the one by which it became asynchronous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    pub claim: Position,
    /// `None` while the receipt is owed.
    pub receipt: Option<Position>,
    /// The newest one, where there is any.
    pub completion: Option<Position>,
}

/// What all records together mean, less what was executed.
#[derive(Default)]
pub struct State {
    pub keys: Keys,
    /// Executions so far, with or without a receipt.
    pub executions: u32,
    /// Records so far.
    pub records: u64,
    /// The policy record in force.
    pub policy: Option<InForce>,
    owed: HashMap<Hash, Owed>,
    pub proposals: Proposals,
    pub refusals: Refusals,
    /// The times of the records, and what else was seen of the clock.
    pub clock: Clock,
    /// Whether the last of `freeze` and `unfreeze` was `freeze`.
    pub frozen: bool,
}

impl State {
    /// Applies a committed record of the time `at`; gives the number of the execution of which it is
    /// the claim or the receipt, or of the proposal that begins, becomes asynchronous or ends with it. An error says which promise of the format it breaks.
    pub fn apply(
        &mut self,
        at: Time,
        change: &Change,
        position: Position,
    ) -> Result<Option<u32>, &'static str> {
        self.clock.raise(at);
        let number = self.records;
        self.records += 1;
        match change {
            Change::Policy { digest } => {
                if self.policy.is_some_and(|policy| policy.digest == *digest) {
                    return Err("a policy record repeats the one in force");
                }
                self.policy = Some(InForce { number, digest: *digest });
            }
            Change::Proposal(asked) => {
                self.stage(&asked.id, asked.id_key)
                    .after(Step::Propose { asynchronous: asked.asynchronous })?;
                self.refusals.know(asked.refusal);
                let number = self.proposals.begin(asked, at, position);
                return number.map(Some).ok_or("too many proposals");
            }
            Change::Approval { id, id_key, .. } => {
                self.stage(id, *id_key).after(Step::Approve)?;
                self.proposals.approve(*id, position);
            }
            Change::Pending { step, id, id_key } => {
                self.stage(id, *id_key).after(*step)?;
                return Ok(self.proposals.take(id, *id_key, *step));
            }
            Change::Claim { once, id, id_key, policy, .. } => {
                self.stage(id, *id_key).after(Step::Claim)?;
                if self.proposals.get(id).is_some_and(|pending| pending.expires <= at) {
                    return Err("a claim of a proposal whose time was over");
                }
                self.proposals.take(id, *id_key, Step::Claim);
                if self.policy.is_none_or(|in_force| in_force.number != *policy) {
                    return Err("a claim names a policy record that is not in force");
                }
                if self.frozen {
                    return Err("a claim stands between a freeze and its unfreeze");
                }
                let execution = self.executions;
                self.executions = execution.checked_add(1).ok_or("too many executions")?;
                let owed = Owed { execution, at, claim: position, once: *once, retried: false };
                self.owed.insert(*id, owed);
                return Ok(Some(execution));
            }
            Change::Receipt { id, .. } => {
                let owed = self.owed.remove(id).ok_or("a receipt has no claim")?;
                return Ok(Some(owed.execution));
            }
            Change::Retry { id } => {
                let owed = self.owed.get_mut(id).ok_or("a retry has no claim that is owed")?;
                match owed {
                    _ if self.frozen => {
                        return Err("a retry stands between a freeze and its unfreeze");
                    }
                    Owed { once: true, .. } => return Err("a claim of effect once is run again"),
                    Owed { retried: true, .. } => return Err("a claim is run again a second time"),
                    owed => owed.retried = true,
                }
            }
            Change::Refusal(stored) => self.refusals.store(stored, at),
            Change::Suppressed { line_bytes } => self.refusals.store_counts(at, *line_bytes),
            Change::Frozen(frozen) if *frozen == self.frozen => {
                return Err("a freeze within a freeze, or an unfreeze without one");
            }
            Change::Frozen(frozen) => {
                self.frozen = *frozen;
                if !self.frozen {
                    self.clock.unfreeze(at);
                }
            }
            Change::Completion { id, .. } if self.owes_to(id) => {
                return Err("a completion of what has no receipt");
            }
            Change::Completion { .. } | Change::Nothing => {}
        }
        Ok(None)
    }

    /// How far a proposal is. What has its receipt is known by the index alone, and new here.
    fn stage(&self, id: &Hash, id_key: u64) -> Stage {
        if self.owes_to(id) { Stage::Executing } else { self.proposals.stage(id, id_key) }
    }

    /// A proposal that is pending at this time. One whose time is over is not, though no record says so yet; by a clock
    /// that is not believed nothing ends.
    pub fn pending(&self, id: &Hash, now: Time) -> Option<&Pending> {
        let pending = self.proposals.get(id)?;
        (pending.expires > now || self.clock.fault(now).is_some()).then_some(pending)
    }

    /// Those of which only the time is over, the first to expire first.
    pub fn past(&self, now: Time) -> impl Iterator<Item = Hash> {
        let is_believed = self.clock.fault(now).is_none();
        self.proposals.due(now).take_while(move |_| is_believed)
    }

    /// Those that are pending at this time and have this hash of action and payload.
    pub fn sharing(&self, action_hash: &Hash, now: Time) -> impl Iterator<Item = &Hash> {
        self.proposals.sharing(action_hash).filter(move |id| self.pending(id, now).is_some())
    }

    /// What counts among the executions that a store may hold: a proposal does beside its execution.
    pub fn entries(&self) -> u64 {
        u64::from(self.executions) + u64::from(self.proposals.recorded)
    }

    /// Claims that are owed a receipt, in the order of their claims.
    pub fn owed(&self) -> BTreeMap<Position, (Hash, Owed)> {
        self.owed.iter().map(|(id, owed)| (owed.claim, (*id, *owed))).collect()
    }

    /// Whether this claim is owed a receipt.
    pub fn owes_to(&self, id: &Hash) -> bool {
        self.owed.contains_key(id)
    }

    /// How many claims are owed a receipt, and the time of the oldest.
    pub fn debt(&self) -> (u64, Option<Time>) {
        (self.owed.len() as u64, self.owed.values().map(|owed| owed.at).min())
    }
}
