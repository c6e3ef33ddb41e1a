//! Proposals: a call that lacks only approvals becomes one. It executes when the call is repeated, or by itself where
//! that was promised, and expires where nobody decides it (design section 17).
//!
//! Invariant: only what was answered 202 ever executes by itself, and the record of that promise is on the disk before
//! the answer leaves.

use std::cell::RefCell;
use std::io;

use super::lines::proposal_line;
use super::{Event, Executor, Said, Stop};
use crate::core::approval::verify::MISSING;
use crate::core::caller::name_of;
use crate::core::decision::{Facts, Nonce, judge_pending, over};
use crate::core::hash::{Hash, hex};
use crate::core::limits::BATCH_REQUESTS_MAX;
use crate::core::problem::{Code, Problem};
use crate::core::proposal::{Approval, Dropped, Given, Proposal, Wish};
use crate::core::record::{self, Asynchronous, Closed, Record};
use crate::core::stage::How;
use crate::core::time::Time;
use crate::store::proposals::{Pending, Share};
use crate::store::{By, Lost, changed_below_us, intact};

/// What keeps a proposal from executing that has enough approvals, and was promised to nobody.
pub const AWAITING_CALLER: &str = "awaiting_caller";

impl<T> Executor<T> {
    /// Row 3, of a nonce under which nothing was claimed: the first proposal gives it to its payload.
    pub(super) fn proposed_under(&self, proposal: &Proposal, now: Time) -> io::Result<Nonce> {
        let pending = self.store.state().proposals.get(&proposal.id);
        if let Some(pending) = pending.filter(|pending| pending.share == self.share(proposal)) {
            let end = self.expired(&proposal.id, now).map(Record::Closed);
            return Ok(match end.as_ref().and_then(over) {
                Some(problem) => Nonce::Over(problem),
                None => Nonce::Pending { asynchronous: pending.asynchronous },
            });
        }
        let Some((found, line)) = self.store.find(By::ProposalNonce(&proposal.nonce))? else {
            return Ok(Nonce::Unknown);
        };
        let first = intact(record::Proposal::read(&line), found.claim)?;
        if !proposal.is(&first.id, first.caller.as_deref()) {
            return Ok(Nonce::OtherRequest);
        }
        let end = found.receipt.ok_or_else(|| changed_below_us(found.claim))?;
        let line = self.store.line(end)?;
        let problem = Record::read(&line).as_ref().and_then(over);
        problem.map(Nonce::Over).ok_or_else(|| changed_below_us(end))
    }

    /// Answers a call that lacks only approvals. The first of its id becomes a proposal, whose record stands for the
    /// refusal of a call without any; the first that is to execute by itself is recorded as that. What it brings of
    /// approvals is recorded too: later ones count together with them. `at` is the time of the decision.
    pub(super) fn propose(
        &mut self,
        proposal: &Proposal,
        problem: &Problem,
        at: Time,
    ) -> Result<(), Stop> {
        let (id, wants) = (proposal.id, proposal.wish.asynchronous);
        // Which approvals are recorded shows once they are on the disk.
        if proposal.brings_artifacts() {
            self.commit()?;
        }
        let known = self.store.state().proposals.get(&id).map(|pending| pending.asynchronous);
        let begins = match known {
            None => Some(proposal_line(proposal, at, self.expiry(&proposal.wish, at)?)),
            Some(false) if wants => Some(Asynchronous { at, id }.line()),
            Some(_) => None,
        };
        let is_new = begins.is_some();
        let brought = self.brought(proposal, at).map_err(|unread| unread.with("id", hex(&id)))?;
        let lines: Vec<_> = begins.into_iter().chain(brought).collect();
        let bytes = lines.iter().map(|line| line.len() + 1).sum();
        if !lines.is_empty() && !self.has_room_for_refusal(bytes) {
            self.commit()?;
        }
        let share = self.share(proposal);
        let proposals = &self.store.state().proposals;
        let is_within = known.is_some() || proposals.admits(&share, self.proposed.values(), at);
        let has_room =
            self.has_room_for_refusal(bytes) && (known.is_some() || !self.store.room().is_full);
        let is_admitted = !lines.is_empty() && is_within && has_room;
        match (is_admitted, is_new, wants) {
            (true, ..) => {
                lines.iter().for_each(|line| self.stage(line));
                self.proposed.insert(proposal.nonce.clone(), share);
                if wants {
                    // No refusal has this receipt.
                    self.say_once_written((id, id, 0), Said::Accepted(id));
                } else if problem.detail == MISSING {
                    (self.watch)(Event::Refused { code: problem.code, is_stored: true });
                    let known = self.known(proposal, problem);
                    self.say_once_written(known, Said::Refused(problem.clone(), id, true));
                } else {
                    self.refuse(proposal, problem);
                }
            }
            // Everything is recorded already.
            (_, false, true) if lines.is_empty() => self.say(Said::Accepted(id)),
            // It was promised that what it brings counts.
            (_, false, true) => return Err(self.full().with("id", hex(&id)).into()),
            (_, false, false) => self.refuse(proposal, problem),
            (_, true, true) if is_within => self.refuse(proposal, &self.full()),
            (_, true, true) => {
                let detail = "As many proposals are pending, or were recorded today, as may be";
                self.refuse(proposal, &Problem::new(Code::PendingFull, detail));
            }
            (_, true, false) => self.count_refusal(problem, &id),
        }
        Ok(())
    }

    fn share(&self, proposal: &Proposal) -> Share {
        Share::of(&self.store.state().keys, name_of(&proposal.caller), &proposal.payload)
    }

    fn expiry(&self, wish: &Wish, at: Time) -> Result<Time, Problem> {
        let ttl = self.policy.approvals.as_ref().map_or(0, |policy| policy.pending_ttl_seconds);
        let latest = at.plus_seconds(ttl.into());
        match wish.expires {
            Some(expires) if expires <= at || expires > latest => {
                let detail = format!("expires_at must be within the next {ttl} seconds");
                Err(Problem::new(Code::InvalidRequest, detail))
            }
            wanted => Ok(wanted.unwrap_or(latest)),
        }
    }

    /// Judges a pending proposal now, by the approvals that there are for it: rows 4 to 8. One that was promised to
    /// execute by itself does, is blocked by what ends by itself, or ends as refused.
    ///
    /// # Errors
    /// As of [`Executor::turn`].
    pub(super) fn judge(&mut self, id: &Hash, files: Vec<Dropped>) -> Result<(), Lost> {
        // Of a claim in the batch it is not known yet that the proposal is not pending any more.
        self.commit()?;
        self.unblock(id);
        let now = self.now();
        let state = self.store.state();
        let Some(pending) = state.pending(id, now).copied() else { return Ok(()) };
        // Nobody could say which of several was meant: it counts for none.
        let is_shared = state.sharing(&pending.action_hash, now).nth(1).is_some();
        let is_of_all = |file: &Dropped| !file.name.starts_with(&hex(id));
        let is_ambiguous = is_shared && pending.asynchronous && files.iter().any(is_of_all);
        let nonce = Nonce::Pending { asynchronous: pending.asynchronous };
        let judged = self.again(&pending, files).and_then(|proposal| {
            let judge = |facts: &Facts<'_>| judge_pending(&proposal, &self.policy, facts);
            Ok((self.with_facts(now, nonce, &proposal, judge)?, proposal))
        });
        let by = match judged {
            Err(_) => Code::StoreUnavailable.name(),
            Ok((None, _)) if is_ambiguous => Code::ApprovalAmbiguous.name(),
            Ok((None, _)) => return Ok(()),
            Ok((Some(_), _)) if !pending.asynchronous => AWAITING_CALLER,
            Ok((Some(Ok(_)), _)) if self.store.room().is_full => Code::StoreFull.name(),
            Ok((Some(Ok(authorization)), proposal)) => {
                return self.proceed(proposal, &authorization, now);
            }
            Ok((Some(Err(problem)), _)) if problem.code.status() == 503 => problem.code.name(),
            Ok((Some(Err(problem)), _)) => {
                let code = Some(problem.code.name());
                self.close([*id], Closed { code, ..ends(now, How::Refused) });
                return self.commit();
            }
        };
        self.block(id, by);
        Ok(())
    }

    /// What a decision depends on, beside the proposal and the policy.
    pub fn with_facts<R>(
        &self,
        now: Time,
        nonce: Nonce,
        proposal: &Proposal,
        judge: impl FnOnce(&Facts) -> R,
    ) -> io::Result<R> {
        let recorded = self.recorded_for(&proposal.id)?;
        let dropped = |approval: &Approval| match &approval.given {
            Given::Files(files) if !files.is_empty() => Some(approval.action_hash),
            _ => None,
        };
        let shared = proposal.approval.as_ref().and_then(dropped);
        let state = self.store.state();
        let read_error = RefCell::new(None);
        let is_spent = |approval_id: &str| {
            self.spent.contains(approval_id)
                || self.store.find(By::Spent(approval_id)).map_or_else(
                    |error| {
                        read_error.replace(Some(error));
                        true
                    },
                    |found| found.is_some(),
                )
        };
        let facts = Facts {
            now,
            nonce,
            frozen: self.frozen.as_deref(),
            store_created: self.store.identity().created,
            clock: state.clock.fault(now),
            is_spent: &is_spent,
            recorded: &recorded,
            is_shared: shared.is_some_and(|hash| state.sharing(&hash, now).nth(1).is_some()),
        };
        let judged = judge(&facts);
        read_error.into_inner().map_or(Ok(judged), Err)
    }

    pub(super) fn block(&mut self, id: &Hash, code: &'static str) {
        self.blockings += 1;
        self.blocked.insert(*id, code);
    }

    pub(super) fn unblock(&mut self, id: &Hash) {
        self.blockings += u64::from(self.blocked.remove(id).is_some());
    }

    /// The proposal as it was recorded, with these files.
    pub fn again(&self, pending: &Pending, files: Vec<Dropped>) -> io::Result<Proposal> {
        let line = self.store.line(pending.position)?;
        let record = intact(record::Proposal::read(&line), pending.position)?;
        Ok(Proposal::recorded(&record, &self.policy, files))
    }

    /// The record of the end of one whose time is over at `now`, before there is one.
    pub fn expired(&self, id: &Hash, now: Time) -> Option<Closed<'static>> {
        let state = self.store.state();
        let is_past = state.proposals.get(id).is_some() && state.pending(id, now).is_none();
        is_past.then(|| ends(now, How::Expired)).map(|end| Closed { id: *id, ..end })
    }

    /// Closes what nobody has decided in time, as far as there is room. A clock that is not believed closes nothing.
    pub(super) fn expire(&mut self) -> Result<(), Lost> {
        let now = self.look();
        let due: Vec<Hash> = self.store.state().past(now).take(BATCH_REQUESTS_MAX).collect();
        if due.is_empty() {
            return Ok(());
        }
        self.close(due, ends(now, How::Expired));
        self.commit()
    }

    /// Adds to the batch that these end so, as far as there is room.
    fn close(&mut self, ids: impl IntoIterator<Item = Hash>, end: Closed) {
        for id in ids {
            let line = Closed { at: self.now(), id, ..end.clone() }.line();
            if self.has_room_to_add(line.len() + 1) {
                self.unblock(&id);
                self.stage(&line);
            }
        }
    }
}

/// How one ends by itself.
pub(super) fn ends(at: Time, how: How) -> Closed<'static> {
    Closed { at, by: None, code: None, how, id: Hash::default() }
}
