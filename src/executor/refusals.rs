//! Which refusals are stored (design section 10): enough that none hides, not so many that a flood
//! fills the disk. What is not stored is counted, and the counts are.

use super::lines::refusal_line;
use super::{Event, Executor, Said, Staged};
use crate::core::caller::name_of;
use crate::core::hash::Hash;
use crate::core::json::{canonical, object};
use crate::core::line::Json;
use crate::core::problem::Problem;
use crate::core::proposal::Proposal;
use crate::core::receipt::refusal;
use crate::core::record::Suppressed;
use crate::core::time::Time;
use crate::store::refusals::{Holder, Known, price};
use crate::store::state::State;

/// Counts of what was not stored are written at most this often.
const SUPPRESSED_EVERY_SECONDS: i64 = 10;
/// A `suppressed` record: every code there is, each with a count. Few refusals are longer.
pub(super) const SUPPRESSED_LINE_BYTES_MAX: usize = 2048;

impl<T> Executor<T> {
    /// Answers with a refusal, stored if it is to be. One that is equal to a stored one, from an agent
    /// that asks until it is approved, takes nothing and waits only for what is not on the disk yet.
    pub(super) fn refuse(&mut self, proposal: &Proposal, problem: &Problem) {
        let known = self.known(proposal, problem);
        let (id, receipt, caller) = known;
        let is_known = self.store.state().refusals.is_known(&id, &receipt, Some(caller));
        let is_staged = |staged: &Staged<T>| matches!(staged, Staged::Recorded { known: other, .. } if *other == known);
        if !is_known && !self.staged.iter().any(is_staged) {
            let now = self.now();
            let line = refusal_line(proposal, problem, now);
            let State { keys, refusals, .. } = self.store.state();
            let holder = Holder::of(keys, problem.code.name(), &proposal.action, caller);
            let is_admitted = refusals.admits(holder, self.refused_bytes, now);
            if !is_admitted || !self.has_room_for_refusal(line.len() + 1) {
                return self.count_refusal(problem, &id);
            }
            self.refused_bytes += price(line.len());
            self.stage(&line);
        }
        (self.watch)(Event::Refused { code: problem.code, is_stored: true });
        let said = Said::Refused(problem.clone(), id, true);
        if is_known { self.say(said) } else { self.say_once_written(known, said) }
    }

    /// The refusal, as it is known once it is stored.
    pub(super) fn known(&self, proposal: &Proposal, problem: &Problem) -> Known {
        let receipt = refusal(&proposal.id, problem.code.name(), &problem.detail);
        (proposal.id, receipt, self.store.state().keys.of_caller(name_of(&proposal.caller)))
    }

    /// Refusals leave to executions what cannot be had again soon.
    pub(super) fn has_room_for_refusal(&self, bytes: usize) -> bool {
        let (room, batch) = (self.store.room(), self.bytes_with(bytes));
        batch <= room.batch_bytes_max && room.spares(batch, self.kept_bytes())
    }

    /// Answers with a refusal that is not stored.
    pub(super) fn count_refusal(&mut self, problem: &Problem, id: &Hash) {
        let code = problem.code;
        (self.watch)(Event::Refused { code, is_stored: false });
        *self.suppressed.entry(code.name()).or_insert(0) += 1;
        self.say(Said::Refused(problem.clone(), *id, false));
    }

    /// The counts of what was not stored, as a record, where they are due and there is room for one.
    pub(super) fn stage_suppressed(&mut self, now: Time) {
        let since = now.seconds() - self.store.state().refusals.counted_at;
        let is_due = !(0..SUPPRESSED_EVERY_SECONDS).contains(&since);
        if is_due
            && !self.suppressed.is_empty()
            && self.has_room_for_refusal(SUPPRESSED_LINE_BYTES_MAX)
        {
            let counts = std::mem::take(&mut self.suppressed).into_iter();
            let counts = object(counts.map(|(code, count)| (code, count.into())));
            let counts = canonical::to_string(&counts.into());
            self.stage(&Suppressed { at: now, count: Json(&counts) }.line());
        }
    }
}
