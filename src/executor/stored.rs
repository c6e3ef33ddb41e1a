//! What is answered from the store: replays, receipts, where a proof begins.

use std::io;

use super::{Answers, Event, Executor, Flight, answer};
use crate::core::answer::Answer;
use crate::core::caller::{Who, name_of, sees};
use crate::core::hash::Hash;
use crate::core::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::Outcome;
use crate::core::record::Receipt;
use crate::store::proposals::Pending;
use crate::store::state::{Execution, Position, State};
use crate::store::{By, read_claim, read_proposal, read_receipt};

/// An execution and its claim's line.
pub(super) type Found = (Execution, String);

impl<T> Executor<T> {
    /// Row 3: the stored answer.
    pub(super) fn replay(&self, known: Option<Found>) -> Answer {
        let known = known.ok_or_else(|| answer::unavailable("The stored answer was not found"));
        match known.and_then(|found| self.stored_answer(&found)) {
            Ok(answer) => {
                (self.watch)(Event::Replayed);
                answer.as_replay()
            }
            Err(problem) => problem.into(),
        }
    }

    fn stored_answer(&self, (execution, claim): &Found) -> Result<Answer, Problem> {
        let position = self.receipt_at(execution)?;
        let line = self.store.line(position).map_err(answer::unreadable)?;
        let claim = read_claim(claim, execution.claim).map_err(answer::unreadable)?;
        let Receipt { outcome, result, receipt, .. } =
            read_receipt(&line, position).map_err(answer::unreadable)?;
        Ok(answer::stored(claim.action, &claim.id, outcome, &result, &receipt))
    }

    /// `GET /receipts/{exec_id}`.
    pub(super) fn receipt_of(&self, id: &Hash, who: &Who) -> Answer {
        let found = self.find(id, who).and_then(|found| self.stored_answer(&found));
        found.unwrap_or_else(Answer::from)
    }

    /// The records of an execution, for whoever shows them.
    pub(super) fn records_of(&self, id: &Hash, who: &Who) -> Answer {
        let lines = || {
            let mut lines: Vec<String> = Vec::new();
            let proposal = self.proposal_seen(id, who).map_err(answer::unreadable)?;
            let executed = match &proposal {
                // Pending or over: there is no execution.
                Some((found, _)) if found.receipt.is_some() => None,
                Some(_) if self.store.state().proposals.get(id).is_some() => None,
                _ => Some(self.find(id, who)?),
            };
            for (found, line) in [proposal, executed].into_iter().flatten() {
                lines.push(line);
                for position in [found.receipt, found.completion].into_iter().flatten() {
                    lines.push(self.store.line(position).map_err(answer::unreadable)?);
                }
            }
            lines.extend(self.pending_lines(id));
            Ok(Answer::text(lines.join("\n")))
        };
        lines().unwrap_or_else(|problem: Problem| problem.into())
    }

    /// What is pending, callers in turn, for whoever shows it: of each its lines and an empty one; then, where there is
    /// more, the place behind which that stands.
    pub(super) fn list(&self, after: u64, who: &Who) -> Answer {
        let (mut text, mut count, mut last) = (String::new(), 0, after);
        for (place, id) in self.store.state().proposals.in_turn(after) {
            if count == PAGE_ENTRIES_MAX || text.len() >= PAGE_BYTES_MAX {
                text.push_str(&format!("{{\"next\":\"{last}\"}}"));
                break;
            }
            last = place;
            match self.list_one(&id, who, &mut text) {
                Ok(is_seen) => count += usize::from(is_seen),
                Err(answer) => return answer,
            }
        }
        Answer::text(text)
    }

    /// The same of all proposals that were recorded before the one of that number, the newest first: so many are looked
    /// at as a page has entries.
    pub(super) fn list_all(&self, before: u32, who: &Who) -> Answer {
        let mut text = String::new();
        let newest = before.min(self.store.state().proposals.recorded);
        let oldest = newest.saturating_sub(PAGE_ENTRIES_MAX as u32);
        for number in (oldest..newest).rev() {
            let Some(found) = self.store.proposal(number) else { break };
            let line = self.store.line(found.claim);
            let id = line.and_then(|line| Ok(read_proposal(&line, found.claim)?.id));
            let id = id.map_err(|error| answer::unreadable(error).into());
            if let Err(answer) = id.and_then(|id| self.list_one(&id, who, &mut text)) {
                return answer;
            }
            if number > 0 && (number == oldest || text.len() >= PAGE_BYTES_MAX) {
                text.push_str(&format!("{{\"next\":\"{number}\"}}"));
                break;
            }
        }
        Answer::text(text)
    }

    /// Adds what there is about one, where it may be seen.
    fn list_one(&self, id: &Hash, who: &Who, text: &mut String) -> Result<bool, Answer> {
        let found = self.records_of(id, who);
        if found.code.is_some() {
            return if found.code == Some(Code::NotFound) { Ok(false) } else { Err(found) };
        }
        let proposals = &self.store.state().proposals;
        let sharing = |pending: &Pending| proposals.sharing(&pending.action_hash).count();
        let same = proposals.get(id).map_or(0, sharing);
        text.push_str(&format!("{}\n{{\"same_hash\":{same}}}\n\n", found.body));
        Ok(true)
    }

    /// `GET /receipts/{exec_id}/proof`.
    pub(super) fn pass_on_proof(&self, ticket: T, id: &Hash, who: &Who, answers: Answers<T>) {
        let found = self.find(id, who).and_then(|(execution, _)| self.receipt_at(&execution));
        match (found, &self.prove) {
            (Ok(position), Some(prove)) => prove(ticket, position),
            (Ok(_), None) => answers(ticket, answer::incomplete().into()),
            (Err(problem), _) => answers(ticket, problem.into()),
        }
    }

    /// What others recorded is as if it were unknown.
    fn find(&self, id: &Hash, who: &Who) -> Result<Found, Problem> {
        let found = self.seen(id, who).map_err(answer::unreadable)?;
        let is_seen = |flight: &Flight<T>| {
            flight.id == *id && sees(who, name_of(&flight.caller), flight.action)
        };
        found.ok_or_else(|| match self.flights.values().any(is_seen) {
            true => answer::incomplete(),
            false => Problem::new(Code::NotFound, "No execution with this id is stored here"),
        })
    }

    fn seen(&self, id: &Hash, who: &Who) -> io::Result<Option<Found>> {
        let Some((execution, line)) = self.store.find_id(id)? else { return Ok(None) };
        let claim = read_claim(&line, execution.claim)?;
        let is_seen = sees(who, claim.caller.as_deref(), claim.action);
        Ok(is_seen.then_some((execution, line)))
    }

    fn proposal_seen(&self, id: &Hash, who: &Who) -> io::Result<Option<Found>> {
        let Some((found, line)) = self.store.find_proposal(By::Id(id))? else { return Ok(None) };
        let proposal = read_proposal(&line, found.claim)?;
        let is_seen = sees(who, proposal.caller.as_deref(), proposal.action);
        Ok(is_seen.then_some((found, line)))
    }

    /// Where the receipt is. One that was found to be owed at opening may have to wait for a person.
    fn receipt_at(&self, execution: &Execution) -> Result<Position, Problem> {
        execution
            .receipt
            .ok_or_else(|| self.waits((self.clocks)().0).unwrap_or_else(answer::incomplete))
    }

    /// `POST /receipts/verify` of a receipt whose hash holds: whether this store has exactly it.
    pub(super) fn recorded(&self, id: &Hash, receipt: &Hash, who: &Who) -> Answer {
        let stored = || -> io::Result<Option<Outcome>> {
            let Some((execution, _)) = self.seen(id, who)? else { return Ok(None) };
            let Some(position) = execution.receipt else { return Ok(None) };
            let line = self.store.line(position)?;
            let record = read_receipt(&line, position)?;
            Ok((record.receipt == *receipt).then_some(record.outcome))
        };
        let outcome = match stored() {
            Err(error) => return answer::unreadable(error).into(),
            Ok(Some(outcome)) => Some(outcome.name()),
            Ok(None) => {
                let State { keys, refusals, .. } = self.store.state();
                let limited = who.as_ref().filter(|caller| !caller.sees_all());
                let own = limited.map(|caller| keys.of_caller(Some(&caller.name)));
                refusals.is_known(id, receipt, own).then_some("denied")
            }
        };
        Answer::json(match outcome {
            Some(outcome) => {
                format!("{{\"outcome\":\"{outcome}\",\"recorded\":true,\"valid\":true}}")
            }
            None => "{\"recorded\":false,\"valid\":true}".to_owned(),
        })
    }
}
