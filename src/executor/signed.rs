//! What approvers say of a proposal: it becomes a record of that one (design section 21).

use std::io;

use super::{Answers, Executor, Staged, answer};
use crate::core::answer::Answer;
use crate::core::approval::rejection::Rejection;
use crate::core::hash::{Hash, hex, sha256};
use crate::core::line::Json;
use crate::core::problem::{Code, Problem};
use crate::core::record::{self, Record};
use crate::store::{By, Lost, changed_below_us, read_claim, read_proposal, read_receipt};

/// How a proposal stands.
enum Standing {
    /// Of this action.
    Pending(String),
    /// Its state; and what was signed, where it was rejected.
    Over(&'static str, Option<String>),
}

impl<T> Executor<T> {
    /// `POST /rejections`: final for that proposal, and the same again is answered alike.
    pub(super) fn reject(
        &mut self,
        ticket: T,
        rejection: &Rejection,
        answers: Answers<T>,
    ) -> Result<(), Lost> {
        let id = rejection.exec_id;
        // What this batch says of the proposal was earlier.
        let mut who = Some(ticket);
        while self.has_staged() {
            who = self.commit_before(who, &id, answers)?;
        }
        let Some(ticket) = who else { return Ok(()) };
        match self.rejected(rejection) {
            Ok(None) => answers(ticket, said(&id, Code::Rejected.name())),
            Ok(Some(line)) => {
                self.unblock(&id);
                self.stage(&line);
                let receipt = sha256(&[rejection.text.as_bytes()]);
                let answer = said(&id, Code::Rejected.name());
                let known = (id, receipt, 0);
                self.staged.push(Staged::Recorded { ticket, known, answer });
                // What comes behind it is judged by it.
                return self.commit(answers);
            }
            Err(problem) => answers(ticket, problem.with("id", hex(&id)).into()),
        }
        Ok(())
    }

    /// The record to write; `None` where there is the same already.
    fn rejected(&mut self, rejection: &Rejection) -> Result<Option<String>, Problem> {
        let (now, id, policy) = (self.now(), rejection.exec_id, self.policy.clone());
        let required = policy.approvals.as_ref().ok_or_else(|| nothing_pending(&id))?;
        let signer = rejection.judge(&required.tenant, self.store.identity().created, now)?;
        match self.standing(&id).map_err(answer::unreadable)? {
            None => Err(nothing_pending(&id)),
            Some(Standing::Over(_, Some(text))) if text == rejection.text => Ok(None),
            Some(Standing::Over(state, _)) => Err(not_pending(state)),
            Some(Standing::Pending(action)) => {
                Rejection::may(signer, &action, now)?;
                let (artifact, key) = (Json(&rejection.text), signer.name().into());
                let line = record::Rejection { artifact, at: now, id, key }.line();
                self.has_room_for(&line).then_some(Some(line)).ok_or_else(full)
            }
        }
    }

    /// What approvers say goes before refusals, and after what executions were promised.
    fn has_room_for(&self, line: &str) -> bool {
        self.store.room().has(self.bytes_with(line.len() + 1), self.kept_bytes())
    }

    /// `None` of what was never proposed here.
    fn standing(&self, id: &Hash) -> io::Result<Option<Standing>> {
        if let Some(pending) = self.store.state().proposals.get(id) {
            let line = self.store.line(pending.position)?;
            let action = read_proposal(&line, pending.position)?.action.to_owned();
            return Ok(Some(Standing::Pending(action)));
        }
        if let Some((execution, line)) = self.store.find_id(id)? {
            read_claim(&line, execution.claim)?;
            let Some(at) = execution.receipt else {
                return Ok(Some(Standing::Over("executing", None)));
            };
            let outcome = read_receipt(&self.store.line(at)?, at)?.outcome;
            return Ok(Some(Standing::Over(outcome.name(), None)));
        }
        let Some((found, _)) = self.store.find_proposal(By::Id(id))? else { return Ok(None) };
        let at = found.receipt.ok_or_else(|| changed_below_us(found.claim))?;
        let line = self.store.line(at)?;
        Ok(Some(match Record::read(&line) {
            Some(Record::Rejection(rejection)) => {
                Standing::Over(Code::Rejected.name(), Some(rejection.artifact.to_string()))
            }
            Some(Record::Closed(closed)) => Standing::Over(closed.how.name(), None),
            _ => return Err(changed_below_us(at)),
        }))
    }
}

fn said(id: &Hash, state: &str) -> Answer {
    Answer::json(format!("{{\"id\":\"{}\",\"state\":\"{state}\"}}", hex(id)))
}

fn nothing_pending(id: &Hash) -> Problem {
    Problem::new(Code::NothingPending, format!("No proposal {} is known here", hex(id)))
}

fn not_pending(state: &str) -> Problem {
    Problem::new(Code::NotPending, format!("This proposal is {state}")).with("state", state)
}

fn full() -> Problem {
    Problem::new(Code::StoreFull, "There is no space on the disk for another record")
}
