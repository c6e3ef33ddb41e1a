//! What whoever asks is told. Nothing is decided by it; how it is written, and that a stored outcome has the same bytes
//! each time, is the edge's (`serve/said.rs`).

use super::{Event, Executor, Job};
use crate::core::caller::Who;
use crate::core::hash::{Hash, hex};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::Outcome;
use crate::core::record::{Claim, Receipt};
use crate::store::state::{Execution, Position};
use crate::store::{Found, intact};

pub enum Said {
    Ended(Conclusion),
    /// The same to one for whom nothing was run.
    Replayed(Conclusion),
    /// The refusal of the attempt with this id, and whether it is stored.
    Refused(Problem, Hash, bool),
    /// It is pending, and executes by itself.
    Accepted(Hash),
    /// How a proposal stands now.
    Stands(Hash, &'static str),
    Problem(Problem),
    /// What a question found, or the record that was asked for.
    Text(String),
}

/// How an execution ended that was claimed. `result` is canonical text.
#[derive(Clone)]
pub struct Conclusion {
    pub action: String,
    pub id: Hash,
    pub outcome: Outcome,
    pub result: String,
    pub receipt: Hash,
}

impl From<Problem> for Said {
    fn from(problem: Problem) -> Self {
        Said::Problem(problem)
    }
}

/// The batch that held it failed while being written: whether it counts, the next opening tells.
pub fn unknown(id: &Hash) -> Said {
    let detail = "The store failed while this was being written. \
                  Ask again with the same nonce, never with a new one";
    Problem::new(Code::OutcomeUnknown, detail).with("id", hex(id)).into()
}

/// The store cannot be read or is not open yet: nothing was spent.
pub fn unavailable(detail: &str) -> Problem {
    Problem::new(Code::StoreUnavailable, detail)
}

/// It was claimed, and its receipt is not there yet.
pub fn incomplete() -> Problem {
    unavailable("This execution is not complete; ask again")
}

/// To what comes after the store has failed.
pub fn after_poison<T>(job: &Job<T>) -> Said {
    match job {
        Job::Execute(proposal) => unknown(&proposal.id),
        Job::Judge { id, .. } => unknown(id),
        Job::Reject(rejection, _) => unknown(&rejection.exec_id),
        _ => unavailable("The store has failed; ask again after the restart").into(),
    }
}

impl<T> Executor<T> {
    /// Row 3: the stored answer.
    pub(super) fn replay(&self, known: Option<Found>, id: &Hash) -> Said {
        let known = known.ok_or_else(|| unavailable("The stored answer was not found"));
        match known.and_then(|found| self.stored_answer(&found)) {
            Ok(ended) => {
                (self.watch)(Event::Replayed);
                Said::Replayed(ended)
            }
            Err(problem) => problem.with("id", hex(id)).into(),
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
        let begun = |why: Problem| Problem::new(why.code, format!("It was begun. {}", why.detail));
        execution.receipt.ok_or_else(|| self.waits(self.time()).map_or_else(incomplete, begun))
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
