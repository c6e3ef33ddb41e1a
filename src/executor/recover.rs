//! Claims without a receipt, found at opening: completed before the first request is taken.
//!
//! By the effect stored in the claim, never by what the handler says today: `once` is never run
//! again; `pure` and `idempotent` are, after a synced `retry` record, if the decision as configured now
//! would still let it run ([`judge_again`]) and the directory that it meant is still the same
//! ([`crate::sys::place`]). One that has such a record already, or may not run, ends as `indeterminate`, so that a
//! handler which kills the process cannot loop.

use std::io;

use super::run;
use super::{Executor, OWED_BYTES_BEYOND_RESULT, ToRun};
use crate::core::approval::verify::clock_fault;
use crate::core::decision::{frozen, judge_again};
use crate::core::handler::find;
use crate::core::hash::{Hash, hex};
use crate::core::limits::SECTOR_BYTES;
use crate::core::problem::Problem;
use crate::core::receipt::{Effect, Outcome};
use crate::core::record::{Claim, Retry};
use crate::core::time::Time;
use crate::store::state::Owed;
use crate::store::{Lost, intact};
use crate::sys::journal;

/// A batch of a `retry` record alone takes one sector.
const RETRY_BYTES_MAX: usize = 512;
/// A receipt's other fields, or a result of our own instead of the handler's: together with the retry and
/// what pads both it is less than [`OWED_BYTES_BEYOND_RESULT`].
const RECEIPT_BYTES_BEYOND_RESULT: usize = 2048;
const _: () = assert!(
    RETRY_BYTES_MAX + RECEIPT_BYTES_BEYOND_RESULT + 3 * SECTOR_BYTES as usize
        <= OWED_BYTES_BEYOND_RESULT
);

impl<T> Executor<T> {
    /// Completes every claim that is owed a receipt and need not wait.
    ///
    /// # Errors
    /// The store failed, or no longer holds a claim that it held.
    pub fn recover(&mut self) -> Result<(), Lost> {
        self.waiting_bytes = self.room_of_owed()?;
        // First the end of a stop is recorded: nothing may be run again inside it.
        self.record_freeze()?;
        self.complete()
    }

    pub(super) fn complete(&mut self) -> Result<(), Lost> {
        for (position, (id, owed)) in self.store.state().owed() {
            // Asked for before it is run again.
            self.take_request()?;
            if !self.store.state().owes_to(&id) {
                continue;
            }
            let line =
                self.store.line(position).map_err(|error| Lost::Unreadable(error.to_string()))?;
            let claim = intact(Claim::read(&line), position)
                .map_err(|error| Lost::Unreadable(error.to_string()))?;
            let again = self.again_or_why_not(&claim, id, owed);
            let handler = again.iter().flatten().next().map(|again| again.handler);
            let result = handler.map_or(0, |handler| handler.result_bytes_max);
            // It was kept for this claim when that was written; if the handler now wants more, a claim
            // waits rather than that the process ends again and again.
            let receipt = result + RECEIPT_BYTES_BEYOND_RESULT;
            if !self.store.room().has(RETRY_BYTES_MAX + self.policy_due(), receipt) {
                continue;
            }
            let ended = match again {
                Ok(None) => continue,
                Err(why) => {
                    let detail = format!("The process ended while this ran; {why}");
                    run::indeterminate("interrupted", &detail)
                }
                Ok(Some(again)) => {
                    let at = self.now();
                    self.stage(&Retry { at, id }.line());
                    self.commit()?;
                    self.run(&again)
                }
            };
            if ended.outcome == Outcome::Indeterminate {
                let fields = [("id", hex(&id).into())];
                journal::error("what a crash cut short has become indeterminate", &fields);
            }
            self.stage_receipt(claim.action, &id, &claim.nonce, ended);
            self.commit()?;
            // Again: a hundred handlers may run here after somebody has stopped everything.
            self.read_freeze();
        }
        self.waiting_bytes = self.room_of_owed()?;
        self.publish();
        Ok(())
    }

    /// Room for the receipts of all claims without one, as it was asked for when they were made.
    fn room_of_owed(&self) -> Result<usize, Lost> {
        let room = |position| {
            let line = self.store.line(position)?;
            let handler = find(self.policy.handlers, intact(Claim::read(&line), position)?.action);
            let result = handler.map_or(0, |handler| handler.result_bytes_max);
            Ok(result + OWED_BYTES_BEYOND_RESULT)
        };
        let rooms = self.store.state().owed().into_keys().map(room);
        rooms.sum::<io::Result<usize>>().map_err(|error| Lost::Unreadable(error.to_string()))
    }

    /// What keeps claims without a receipt waiting, as their replays are told.
    pub(super) fn waits(&self, now: Time) -> Option<Problem> {
        let is_judged = self.policy.approvals.is_some();
        match &self.frozen {
            Some(reason) => Some(frozen(reason)),
            None if is_judged => self.store.state().clock.fault(now).map(clock_fault),
            None => None,
        }
    }

    /// What runs again of such a claim; nothing while it is frozen or the clock is not believed: it waits.
    ///
    /// # Errors
    /// Why it ends without.
    fn again_or_why_not(
        &self,
        claim: &Claim,
        id: Hash,
        owed: Owed,
    ) -> Result<Option<ToRun>, String> {
        if claim.effect == Effect::Once {
            return Err("an action of this effect is never run again".to_owned());
        }
        if owed.retried {
            return Err("it was run again once, and the process ended again".to_owned());
        }
        let now = self.time();
        // Whether a key is past its `not_after` cannot be told by a clock that is not believed.
        if self.waits(now).is_some() {
            return Ok(None);
        }
        let handler = judge_again(claim, &self.policy, self.store.identity().created, now);
        let refused =
            |problem: Problem| format!("it would be refused now ({})", problem.code.name());
        let handler = handler.map_err(refused)?;
        if handler.effect == Effect::Once {
            return Err("its handler may not be repeated any more".to_owned());
        }
        if !self.place(handler).is_ok_and(|found| found.as_deref() == claim.place) {
            return Err("the directory that it meant is not the one that is there now".to_owned());
        }
        Ok(Some(ToRun {
            handler,
            id,
            nonce: claim.nonce.to_string(),
            payload: claim.payload.to_string(),
            read: None,
            approval_ids: claim.approval_ids().ok_or("its approvals cannot be read")?,
            place: claim.place.map(str::to_owned),
            again: true,
        }))
    }
}
