//! What is answered from the store: replays, receipts, where a proof begins.

use std::io;

use super::{Answers, Event, Executor, answer};
use crate::core::answer::Answer;
use crate::core::hash::Hash;
use crate::core::problem::{Code, Problem};
use crate::core::receipt::Outcome;
use crate::store::state::Execution;
use crate::store::{read_claim, read_receipt};

impl<T> Executor<T> {
    /// Row 3: the stored answer.
    pub(super) fn replay(&self, known: Option<(Execution, String)>) -> Answer {
        let Some((execution, claim)) = known else {
            return answer::unavailable("The stored answer was not found").into();
        };
        match self.stored_answer(execution, &claim) {
            Ok(Some(answer)) => {
                (self.watch)(Event::Replayed);
                answer.as_replay()
            }
            // Found without a receipt at opening.
            Ok(None) => self.why_incomplete().into(),
            Err(error) => answer::unreadable(&error).into(),
        }
    }

    fn stored_answer(&self, execution: Execution, claim: &str) -> io::Result<Option<Answer>> {
        let Some(position) = execution.receipt else { return Ok(None) };
        let line = self.store.line(position)?;
        let claim = read_claim(claim, execution.claim)?;
        let receipt = read_receipt(&line, position)?;
        Ok(Some(answer::stored(
            claim.action,
            &claim.id,
            receipt.outcome,
            &receipt.result,
            &receipt.receipt,
        )))
    }

    /// `GET /receipts/{exec_id}`.
    pub(super) fn receipt_of(&self, id: &Hash) -> Answer {
        let answered = self.completed(id).and_then(|(execution, claim)| {
            let stored = self.stored_answer(execution, &claim);
            stored.map_err(|error| answer::unreadable(&error))?.ok_or_else(answer::incomplete)
        });
        answered.unwrap_or_else(Answer::from)
    }

    /// `GET /receipts/{exec_id}/proof`.
    pub(super) fn pass_on_proof(&self, ticket: T, id: &Hash, answers: Answers<T>) {
        let found = self.completed(id).map(|(execution, _)| execution.receipt);
        match (found, &self.prove) {
            (Ok(Some(position)), Some(prove)) => prove(ticket, position),
            (Ok(_), _) => answers(ticket, answer::incomplete().into()),
            (Err(problem), _) => answers(ticket, problem.into()),
        }
    }

    /// The execution with this id and its claim's line, if it has a receipt.
    fn completed(&self, id: &Hash) -> Result<(Execution, String), Problem> {
        let in_flight = self.flights.values().any(|flight| flight.id == *id);
        match self.store.find_id(id) {
            Err(error) => Err(answer::unreadable(&error)),
            Ok(None) if !in_flight => {
                Err(Problem::new(Code::NotFound, "No execution with this id is stored here"))
            }
            Ok(Some((execution, claim))) if execution.receipt.is_some() => Ok((execution, claim)),
            Ok(Some(_)) => Err(self.why_incomplete()),
            Ok(None) => Err(answer::incomplete()),
        }
    }

    fn why_incomplete(&self) -> Problem {
        self.waits((self.clocks)().0).unwrap_or_else(answer::incomplete)
    }

    /// `POST /receipts/verify` of a receipt whose hash holds: whether this store has exactly it.
    pub(super) fn recorded(&self, id: &Hash, receipt: &Hash) -> Answer {
        let stored = || -> io::Result<Option<Outcome>> {
            let Some((execution, _)) = self.store.find_id(id)? else { return Ok(None) };
            let Some(position) = execution.receipt else { return Ok(None) };
            let line = self.store.line(position)?;
            let record = read_receipt(&line, position)?;
            Ok((record.receipt == *receipt).then_some(record.outcome))
        };
        let outcome = match stored() {
            Err(error) => return answer::unreadable(&error).into(),
            Ok(Some(outcome)) => Some(outcome.name()),
            Ok(None) => self.store.state().refusals.is_known(id, receipt).then_some("denied"),
        };
        Answer::json(match outcome {
            Some(outcome) => {
                format!("{{\"outcome\":\"{outcome}\",\"recorded\":true,\"valid\":true}}")
            }
            None => "{\"recorded\":false,\"valid\":true}".to_owned(),
        })
    }
}
