//! The stored answer of an execution; and what may be asked of the executor beside its store.

use super::answer::{self, Conclusion};
use super::{Event, Executor, Said};
use crate::core::caller::Who;
use crate::core::hash::Hash;
use crate::core::problem::Problem;
use crate::core::record::{Claim, Receipt};
use crate::store::intact;
use crate::store::state::{Execution, Position};

/// An execution and its claim's line.
pub type Found = (Execution, String);

impl<T> Executor<T> {
    /// Row 3: the stored answer.
    pub(super) fn replay(&self, known: Option<Found>) -> Said {
        let known = known.ok_or_else(|| answer::unavailable("The stored answer was not found"));
        match known.and_then(|found| self.stored_answer(&found)) {
            Ok(ended) => {
                (self.watch)(Event::Replayed);
                Said::Replayed(ended)
            }
            Err(problem) => problem.into(),
        }
    }

    /// As it was given the first time.
    pub fn stored_answer(&self, (execution, claim): &Found) -> Result<Conclusion, Problem> {
        let position = self.receipt_at(execution)?;
        let line = self.store.line(position)?;
        let claim = intact(Claim::read(claim), execution.claim)?;
        let Receipt { outcome, result, receipt, .. } = intact(Receipt::read(&line), position)?;
        let (action, id, result) = (claim.action.to_owned(), claim.id, result.to_string());
        Ok(Conclusion { action, id, outcome, result, receipt })
    }

    /// Where the receipt is. One that was found to be owed at opening may have to wait for a person.
    pub fn receipt_at(&self, execution: &Execution) -> Result<Position, Problem> {
        execution.receipt.ok_or_else(|| self.waits(self.time()).unwrap_or_else(answer::incomplete))
    }

    /// Who asked for the execution with this id, and its action, while it is under way.
    pub fn in_flight(&self, id: &Hash) -> Option<(&Who, &str)> {
        let flight = self.flights.values().find(|flight| flight.id == *id)?;
        Some((&flight.caller, flight.action))
    }

    /// Grows with each change of what [`Executor::blocked`] says.
    pub fn blockings(&self) -> u64 {
        self.blockings
    }

    /// What keeps a pending proposal from executing that has enough approvals.
    pub fn blocked(&self, id: &Hash) -> Option<&'static str> {
        self.blocked.get(id).copied()
    }
}
