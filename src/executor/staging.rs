//! The batch: it is filled with records, and before them the policy that they are decided by; it is written; and what
//! waited for it, answers and runs, goes on.

use super::answer::Conclusion;
use super::lines::policy_line;
use super::run::Ended;
use super::{Event, Executor, Said, answer};
use crate::core::caller::Who;
use crate::core::handler::Handler;
use crate::core::hash::{Hash, hex};
use crate::core::json::Value;
use crate::core::line::Json;
use crate::core::receipt::receipt;
use crate::core::record::Receipt;
use crate::store::Lost;
use crate::store::refusals::Known;

/// An answer that is true once the batch is on the disk.
pub(super) enum Staged<T> {
    /// Of the flight under this nonce.
    Ended { nonce: String, ended: Conclusion },
    /// Of a record that stands by itself, and its receipt.
    Recorded { ticket: T, known: Known, answer: Said },
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

    pub(super) fn stage_receipt(&mut self, action: &str, id: &Hash, nonce: &str, ended: Ended) {
        let Ended { outcome, result } = ended;
        (self.watch)(Event::Ended(outcome));
        let (at, id, receipt) = (self.now(), *id, receipt(&hex(id), &result));
        self.stage(&Receipt { at, id, outcome, result: Json(&result), receipt }.line());
        let ended = Conclusion { action: action.to_owned(), id, outcome, result, receipt };
        self.staged.push(Staged::Ended { nonce: nonce.to_owned(), ended });
    }

    /// Writes what is staged, answers, and runs the handlers whose claims are now on the disk.
    pub(super) fn commit(&mut self) -> Result<(), Lost> {
        if self.batch.is_empty() {
            return Ok(());
        }
        (self.watch)(Event::Writes);
        let appended = self.store.append(&self.batch);
        if appended.is_ok() {
            (self.watch)(Event::Written { batch: &self.batch, answers: self.staged.len() });
        }
        self.batch.clear();
        appended?;
        self.spent.clear();
        self.proposed.clear();
        self.refused_bytes = 0;
        for staged in std::mem::take(&mut self.staged) {
            self.release(staged);
        }
        self.owed_bytes = 0;
        for claimed in std::mem::take(&mut self.to_run) {
            let ended = self.run(&claimed);
            let action = claimed.handler.action;
            self.stage_receipt(action, &claimed.id, &claimed.nonce, ended);
        }
        Ok(())
    }

    /// Until nothing is staged, so that all of it counts. Each commit may stage receipts for the next.
    pub(super) fn commit_all(&mut self) -> Result<(), Lost> {
        while self.has_staged() {
            self.commit()?;
        }
        Ok(())
    }

    /// After a failed turn: where the store can find out what it holds, it goes on as after a start. `meanwhile` is
    /// for those who ask while that takes long.
    ///
    /// # Errors
    /// It cannot: the process must end.
    pub fn settle(&mut self, mut lost: Lost, meanwhile: &mut dyn FnMut()) -> Result<(), Lost> {
        while matches!(lost, Lost::Unknown(_)) && self.store.settle(meanwhile)? {
            (self.batch, self.to_run, self.spent, self.proposed) = Default::default();
            self.staged.clear();
            (self.refused_bytes, self.owed_bytes) = (0, 0);
            self.examined.get_mut().clear();
            match self.recover() {
                Ok(()) => return Ok(()),
                Err(again) => lost = again,
            }
        }
        Err(lost)
    }

    fn release(&mut self, staged: Staged<T>) {
        match staged {
            Staged::Recorded { ticket, answer, .. } => (self.answers)(ticket, answer),
            Staged::Ended { nonce, ended } => {
                // Nobody waits for what was claimed before a crash.
                let Some(flight) = self.flights.remove(&nonce) else { return };
                for ticket in flight.others {
                    (self.watch)(Event::Replayed);
                    (self.answers)(ticket, Said::Replayed(ended.clone()));
                }
                if let Some(first) = flight.first {
                    (self.answers)(first, Said::Ended(ended));
                }
            }
        }
    }

    /// After a failed write: whoever waits is told that the outcome is unknown.
    pub(super) fn give_up(&mut self) {
        let asking = self.asking.take();
        asking.into_iter().for_each(|(ticket, id)| (self.answers)(ticket, answer::unknown(&id)));
        for staged in std::mem::take(&mut self.staged) {
            if let Staged::Recorded { ticket, known: (id, ..), .. } = staged {
                (self.answers)(ticket, answer::unknown(&id));
            }
        }
        for (_, Flight { id, first, others, .. }) in self.flights.drain() {
            for ticket in first.into_iter().chain(others) {
                (self.answers)(ticket, answer::unknown(&id));
            }
        }
    }
}
