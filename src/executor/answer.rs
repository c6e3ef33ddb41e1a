//! What whoever asks is told. Nothing is decided by it; how it is written, and that a stored outcome has the same bytes
//! each time, is the edge's (`serve/said.rs`).

use super::Job;
use crate::core::hash::{Hash, hex};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::Outcome;

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

/// What a question found, or why it found nothing.
impl From<Result<String, Problem>> for Said {
    fn from(found: Result<String, Problem>) -> Self {
        found.map_or_else(Said::Problem, Said::Text)
    }
}

/// A refusal; `is_recorded` says whether the refusal itself is stored.
pub fn refused(problem: &Problem, id: &Hash, is_recorded: bool) -> Said {
    Said::Refused(problem.clone(), *id, is_recorded)
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
