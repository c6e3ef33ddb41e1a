//! The batch that is being filled: records, and before them the policy that they are decided by; and what waits for it,
//! answers and runs.

use super::lines::policy_line;
use super::run::Ended;
use super::{Event, Executor, answer};
use crate::core::answer::Answer;
use crate::core::caller::Who;
use crate::core::handler::Handler;
use crate::core::hash::{Hash, hex};
use crate::core::json::Value;
use crate::core::line::Json;
use crate::core::receipt::receipt;
use crate::core::record::Receipt;
use crate::store::refusals::Known;

/// An answer that is true once the batch is on the disk.
pub(super) enum Staged<T> {
    /// Of the flight under this nonce.
    Ended { nonce: String, answer: Answer },
    /// Of a record that stands by itself, and its receipt.
    Recorded { ticket: T, known: Known, answer: Answer },
}

pub(super) struct Flight<T> {
    pub id: Hash,
    pub action: &'static str,
    pub caller: Who,
    /// Nobody, where the proposal executes by itself.
    pub first: Option<T>,
    /// Who asked the same later gets a replay.
    pub others: Vec<T>,
}

/// A claim whose handler has still to run.
pub(super) struct ToRun {
    pub handler: &'static Handler,
    pub id: Hash,
    pub nonce: String,
    pub payload: String,
    pub read: Option<Value>,
    pub approval_ids: Vec<String>,
    pub place: Option<String>,
    pub again: bool,
}

impl<T> Executor<T> {
    /// Adds a record to the batch.
    pub(super) fn stage(&mut self, line: &str) {
        if self.batch.is_empty() && self.policy_due() > 0 {
            let at = self.now();
            self.batch.push(&policy_line(&self.policy, at));
        }
        self.batch.push(line);
    }

    /// Bytes that the batch takes, at most, with so many bytes of further lines.
    pub(super) fn bytes_with(&self, more: usize) -> usize {
        let policy = if self.batch.is_empty() { self.policy_due() } else { 0 };
        self.batch.bytes_with(policy + more)
    }

    /// Bytes of the policy record that is still to be written, before any other record.
    pub(super) fn policy_due(&self) -> usize {
        let in_force = self.store.state().policy.map(|policy| policy.digest);
        if in_force == self.own_policy.0 { 0 } else { self.own_policy.1 }
    }

    /// The number of the policy record in force. One that is due will be the next record.
    pub(super) fn policy_number(&self) -> u64 {
        let in_force = self.store.state().policy.filter(|_| self.policy_due() == 0);
        in_force.map_or(self.store.size(), |policy| policy.number)
    }

    pub(super) fn stage_receipt(&mut self, action: &str, id: &Hash, nonce: &str, ended: &Ended) {
        (self.watch)(Event::Ended(ended.outcome));
        let receipt = receipt(&hex(id), &ended.result);
        let at = self.now();
        let record =
            Receipt { at, id: *id, outcome: ended.outcome, result: Json(&ended.result), receipt };
        self.stage(&record.line());
        let answer = answer::stored(action, id, ended.outcome, &ended.result, &receipt);
        self.staged.push(Staged::Ended { nonce: nonce.to_owned(), answer });
    }
}
