//! Proposals: a call that lacks only approvals becomes one, and expires where nobody decides it (design section 17).

use std::io;

use super::lines::proposal_line;
use super::{Answers, Event, Executor, Staged, answer};
use crate::core::approval::verify::MISSING;
use crate::core::caller::name_of;
use crate::core::decision::{Nonce, over};
use crate::core::hash::Hash;
use crate::core::limits::BATCH_REQUESTS_MAX;
use crate::core::problem::Problem;
use crate::core::proposal::Proposal;
use crate::core::record::{Closed, Record};
use crate::core::stage::How;
use crate::store::proposals::Share;
use crate::store::{By, Lost, changed_below_us, read_proposal};

impl<T> Executor<T> {
    /// Row 3, of a nonce under which nothing was claimed: the first proposal gives it to its payload.
    pub(super) fn proposed_under(&self, proposal: &Proposal) -> io::Result<Nonce> {
        let pending = self.store.state().proposals.get(&proposal.id);
        if pending.is_some_and(|pending| pending.share == self.share(proposal)) {
            return Ok(Nonce::Pending);
        }
        let Some((found, line)) = self.store.find_proposal(By::Nonce(&proposal.nonce))? else {
            return Ok(Nonce::Unknown);
        };
        let first = read_proposal(&line, found.claim)?;
        if !proposal.is(&first.id, first.caller.as_deref()) {
            return Ok(Nonce::OtherRequest);
        }
        let end = found.receipt.ok_or_else(|| changed_below_us(found.claim))?;
        let line = self.store.line(end)?;
        let problem = Record::read(&line).as_ref().and_then(over);
        problem.map(Nonce::Over).ok_or_else(|| changed_below_us(end))
    }

    /// Answers a call that lacks only approvals. The first of its id becomes a proposal, whose record stands for the
    /// refusal of a call without any.
    pub(super) fn propose(
        &mut self,
        mut ticket: T,
        proposal: &Proposal,
        problem: &Problem,
        answers: Answers<T>,
    ) -> Result<(), Lost> {
        let (id, policy) = (proposal.id, self.policy.clone());
        let ttl = policy.approvals.as_ref().map_or(0, |policy| policy.pending_ttl_seconds);
        if self.store.state().proposals.get(&id).is_none() {
            let at = self.now();
            let line = proposal_line(proposal, at, at.plus_seconds(ttl.into()));
            if self.has_staged() && !self.has_room_for_refusal(line.len() + 1) {
                ticket = self.commit_before(ticket, &id, answers)?;
            }
            let state = self.store.state();
            let share = self.share(proposal);
            let is_admitted = !self.store.room().is_full
                && state.proposals.admits(&share, self.proposed.values(), at)
                && self.has_room_for_refusal(line.len() + 1);
            if !is_admitted {
                self.count_refusal(problem.code);
                answers(ticket, answer::refused(problem, &id, false));
                return Ok(());
            }
            self.stage(&line);
            self.proposed.insert(proposal.nonce.clone(), share);
            if problem.detail == MISSING {
                (self.watch)(Event::Refused { code: problem.code, is_stored: true });
                let known = self.known(proposal, problem);
                let answer = answer::refused(problem, &id, true);
                self.staged.push(Staged::Recorded { ticket, known, answer });
                return Ok(());
            }
        }
        self.refuse(ticket, proposal, problem, answers);
        Ok(())
    }

    fn share(&self, proposal: &Proposal) -> Share {
        Share::of(&self.store.state().keys, name_of(&proposal.caller), &proposal.payload)
    }

    /// Closes what nobody has decided in time, as far as there is room. A clock that is not believed closes nothing.
    pub(super) fn expire(&mut self, answers: Answers<T>) -> Result<(), Lost> {
        let now = self.look();
        let state = self.store.state();
        if state.proposals.due(now).next().is_none() || state.clock.fault(now).is_some() {
            return Ok(());
        }
        let due: Vec<Hash> = state.proposals.due(now).take(BATCH_REQUESTS_MAX).collect();
        for id in due {
            let at = self.now();
            let line = Closed { at, by: None, code: None, how: How::Expired, id }.line();
            if !self.has_room_for_refusal(line.len() + 1) {
                break;
            }
            self.stage(&line);
        }
        self.commit(answers)
    }
}
