//! What the executor says of itself, for others: a snapshot that the front answers from, so that a
//! handler that hangs does not look like a dead process; metrics; and what an operator is told.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::core::clock::{Clock, Fault};
use crate::core::limits::CLOCK_SKEW_SECONDS;
use crate::core::problem::{Code, Problem};
use crate::core::proposal::Policy;
use crate::core::record::{Claim, Record};
use crate::core::time::Time;
use crate::evidence::approvers::are_enough;
use crate::executor::{Event, Watch, answer};
use crate::serve::told::Told;
use crate::store::state::{Position, State};
use crate::store::{Next, Store, intact};
use crate::sys::metrics::Metrics;
use crate::sys::{journal, locked};

/// A handler that runs for longer makes `/ready` say so.
const BUSY_MS: u64 = 10_000;
/// A handler that runs for longer is counted as slow.
const SLOW: Duration = Duration::from_secs(1);
/// A store that was not heard of for longer is not there.
const SILENT: Duration = Duration::from_secs(2);
/// Whoever has one request or answer for longer is stuck. Who gets little of a processor is not: a
/// request of a mebibyte costs up to 0.3 s of one under an emulator.
const STUCK: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Status(Mutex<Snapshot>);

#[derive(Default, Clone)]
pub struct Snapshot {
    pub open: bool,
    /// Another process is the one that may write, or this one has lost its store and asks for it again.
    pub standby: bool,
    /// When the store was last heard of, where it is not in this process's files.
    pub heard: Option<Instant>,
    pub working: bool,
    pub witnessing: bool,
    /// Since when the front has the request that it has, and whether it looks into the approvals
    /// directory for it, which may be somebody else's storage.
    pub taken: Option<(Instant, bool)>,
    /// Since when an answer is made of what the executor found.
    pub making: Option<Instant>,
    running: Option<(&'static str, Instant)>,
    writing: Option<Instant>,
    frozen: bool,
    /// Why no claim can be taken, or soon none.
    refusing: Option<&'static str>,
}

impl Status {
    /// `/ready` (design section 2): whether executions can be taken now, and are frozen.
    ///
    /// # Errors
    /// Why not: `standby`, `opening`, `store_unavailable`, `executor_busy`, the reasons of [`Obstacle`].
    pub fn readiness(&self) -> Result<bool, &'static str> {
        let now = self.lock().clone();
        let is_busy = |since: Instant| since.elapsed() > Duration::from_millis(BUSY_MS);
        match now.refusing {
            _ if now.standby => Err(Code::Standby.name()),
            _ if !now.open => Err("opening"),
            _ if now.heard.is_some_and(|at| at.elapsed() > SILENT) => {
                Err(Code::StoreUnavailable.name())
            }
            _ if now.running.is_some_and(|(_, since)| is_busy(since)) => Err("executor_busy"),
            Some(reason) => Err(reason),
            None => Ok(now.frozen),
        }
    }

    /// Why nothing can be asked of the executor, if so.
    pub fn absence(&self) -> Option<Problem> {
        let now = self.lock();
        if now.standby {
            let detail = "This node stands by; ask the one that is active";
            return Some(Problem::new(Code::Standby, detail));
        }
        (!now.open).then(|| answer::unavailable("The store is being opened"))
    }

    /// Whether everybody waits for something to do: then every answer should come at once.
    pub fn is_idle(&self) -> bool {
        let now = self.lock();
        let works = |since: Instant| since.elapsed() < STUCK;
        let judges = |(since, looks)| looks || works(since);
        let makes = now.taken.is_some_and(judges) || now.making.is_some_and(works);
        now.open && !now.working && !now.witnessing && !makes
    }

    /// The handler that runs now, and for how long.
    pub fn running(&self) -> Option<(&'static str, Duration)> {
        self.lock().running.map(|(action, since)| (action, since.elapsed()))
    }

    /// Lets others see how it stands, and tells the operator what has changed.
    fn stands(&self, frozen: Option<&str>, obstacle: Option<Obstacle>) {
        let refusing = obstacle.map(|obstacle| obstacle.reason);
        let (was_frozen, was_refusing) = {
            let mut now = self.lock();
            let before = (now.frozen, now.refusing);
            (now.frozen, now.refusing) = (frozen.is_some(), refusing);
            before
        };
        match frozen {
            Some(reason) if !was_frozen => {
                journal::error("executions are frozen", &[("reason", reason.into())]);
            }
            None if was_frozen => journal::info("executions are not frozen any more", &[]),
            _ => {}
        }
        match obstacle {
            Some(Obstacle { reason, advice }) if was_refusing != refusing => {
                let fields = [("reason", reason.into()), ("advice", advice.into())];
                journal::error("no execution can be taken, or soon none", &fields);
            }
            None if was_refusing.is_some() => journal::info("executions can be taken again", &[]),
            _ => {}
        }
    }

    /// To say what somebody does.
    pub fn lock(&self) -> MutexGuard<'_, Snapshot> {
        locked(&self.0)
    }
}

/// Why nothing can be executed, or soon nothing; and what an operator does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    pub reason: &'static str,
    pub advice: &'static str,
}

const STORE_FULL: Obstacle = Obstacle {
    reason: "store_full",
    advice: "Start the next store: docs/operations.md, \"The next store\"",
};
const NO_SPACE: Obstacle = Obstacle {
    reason: "no_space",
    advice: "Free space on the disk of the store, or enlarge it; where it has space, it is too slow",
};
/// Every approval would be older than the store.
const CLOCK_BEFORE_STORE: Obstacle = Obstacle {
    reason: "clock_before_store",
    advice: "The store was made at a later time than the clock says, and approvals from before it are refused: set the \
             clock; if it is right, make another store with `openexec init`",
};
const NOBODY_CAN_APPROVE: Obstacle = Obstacle {
    reason: "nobody_can_approve",
    advice: "For no action are there enough keys that may approve it now: add keys, or correct not_after, actions and \
             required in the keys file, and restart",
};

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Obstacle { reason: fault.code().name(), advice: fault.advice() }
    }
}

impl Obstacle {
    /// What keeps every approval from counting, whatever it says; none in demo mode.
    pub fn to_approvals(policy: &Policy, created: Time, clock: &Clock, now: Time) -> Option<Self> {
        let keyring = &policy.approvals.as_ref()?.keyring;
        if created.seconds() > now.plus_seconds(CLOCK_SKEW_SECONDS).seconds() {
            return Some(CLOCK_BEFORE_STORE);
        }
        if let Some(fault) = clock.fault(now) {
            return Some(fault.into());
        }
        let mut actions = policy.handlers.iter().map(|handler| handler.action);
        let can = |action| are_enough(keyring, action, now) && policy.handler(action).is_ok();
        (!actions.any(can)).then_some(NOBODY_CAN_APPROVE)
    }
}

/// What stands in the way of executions now.
fn obstacle(
    policy: &Policy,
    store: &dyn Store,
    has_room: bool,
    now: Time,
    is_frozen: bool,
) -> Option<Obstacle> {
    if store.room().is_full {
        return Some(STORE_FULL);
    }
    if !has_room {
        return Some(NO_SPACE);
    }
    let clock = &store.state().clock;
    // A freeze is the way out of the clock's faults: `/ready` stays 200 in it.
    let is_excused =
        |obstacle: &Obstacle| is_frozen && clock.fault(now).map(Obstacle::from) == Some(*obstacle);
    Obstacle::to_approvals(policy, store.identity().created, clock, now)
        .filter(|found| !is_excused(found))
}

/// Keeps status, metrics and journal by what the executor says.
pub fn watch(status: Arc<Status>, metrics: Arc<Metrics>, policy: Arc<Policy>) -> Watch {
    let (oldest, oldest_pending) = (Cell::default(), Cell::default());
    let told = Told::default();
    Box::new(move |event| match event {
        Event::Ended(outcome) => metrics.executions.add(outcome.name(), 1),
        Event::Replayed => metrics.replays.add(1),
        Event::Refused { code, is_stored } => {
            metrics.refusals.add(code.name(), 1);
            metrics.refusals_not_stored.add(code.name(), u64::from(!is_stored));
        }
        Event::Writes => status.lock().writing = Some(Instant::now()),
        Event::Written { batch, answers } => {
            told.written(batch);
            let began = status.lock().writing.take();
            metrics.syncs.observe(began.map(|began| began.elapsed()).unwrap_or_default());
            metrics.batches.add(1);
            metrics.batch_requests.add(answers as u64);
        }
        Event::Runs(action) => status.lock().running = Some((action, Instant::now())),
        Event::Ran(action) => {
            let began = status.lock().running.take();
            ran(&metrics, action, began.map(|(_, began)| began.elapsed()).unwrap_or_default());
        }
        Event::Granted(Record::Receipt(receipt)) => {
            metrics.executions.add(receipt.outcome.name(), 1);
        }
        Event::Granted(Record::Completion(said)) => {
            metrics.completions.add(said.outcome.name(), 1);
        }
        Event::Granted(_) => {}
        Event::NoRequest => journal::error("REQUEST held no request and was removed", &[]),
        Event::Stands { now, frozen, store, has_room } => {
            let obstacle = obstacle(&policy, store, has_room, now, frozen.is_some());
            status.stands(frozen, obstacle);
            measure(&metrics, frozen.is_some(), store);
            measure_jobs(&metrics, store, &oldest);
            measure_pending(&metrics, store.state(), now, &oldest_pending);
        }
    })
}

fn ran(metrics: &Metrics, action: &'static str, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    metrics.handler_runs.add(action, 1);
    metrics.handler_micros.add(action, micros);
    if took > SLOW {
        metrics.handler_slow_runs.add(action, 1);
        let fields = [("action", action.into()), ("microseconds", micros.into())];
        journal::info("a handler ran for over a second", &fields);
    }
}

/// Of the oldest open job the claim is read once: where it is, and its second.
fn measure_jobs(metrics: &Metrics, store: &dyn Store, oldest: &Cell<(Option<Position>, u64)>) {
    let (open, claim) = store.open_jobs();
    if oldest.get().0 != claim {
        let at =
            |position| Some(intact(Claim::read(&store.line(position).ok()?), position).ok()?.at);
        let since = claim.and_then(at).map_or(0, seconds);
        oldest.set((claim, since));
    }
    metrics.open_jobs.set(open);
    metrics.open_jobs_since.0.set(oldest.get().1);
}

/// What is pending: its version, how many of these are past their time; and the second of the oldest other one.
type Oldest = ((u64, usize), u64);

/// The oldest is looked for once for each change.
fn measure_pending(metrics: &Metrics, state: &State, now: Time, oldest: &Cell<Oldest>) {
    let (proposals, past) = (&state.proposals, state.past(now).count());
    let version = (proposals.version, past);
    if oldest.get().0 != version {
        let mut pending = proposals.oldest_first().into_iter();
        let first = pending.find(|(id, _)| state.pending(id, now).is_some());
        oldest.set((version, first.map_or(0, |(_, pending)| seconds(pending.asked_at))));
    }
    metrics.pending.set((proposals.count() - past) as u64);
    metrics.pending_since.0.set(oldest.get().1);
}

fn seconds(at: Time) -> u64 {
    u64::try_from(at.seconds()).unwrap_or(0)
}

fn measure(metrics: &Metrics, is_frozen: bool, store: &dyn Store) {
    let (room, state) = (store.room(), store.state());
    let (owed, since) = state.debt();
    metrics.owed.set(owed);
    metrics.owed_since.0.set(since.map_or(0, seconds));
    metrics.frozen.set(is_frozen.into());
    metrics.segments_prepared.set((room.next == Next::Ready).into());
    metrics.segment_failing.set((room.next == Next::Failing).into());
    metrics.store_bytes.set(room.used);
    metrics.store_records.set(store.size());
    metrics.store_executions.set(state.executions.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody else would end a process whose front hangs.
    #[test]
    fn a_front_is_idle_or_works_or_is_stuck() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        for (taken, making, is_idle) in [
            (None, None, true),
            (ago(0).map(|since| (since, false)), None, false),
            (ago(50).map(|since| (since, false)), None, false),
            (ago(61).map(|since| (since, false)), None, true),
            (ago(61).map(|since| (since, true)), None, false),
            (None, ago(0), false),
            (None, ago(50), false),
            (None, ago(61), true),
        ] {
            let status = Status::default();
            *status.lock() = Snapshot { open: true, taken, making, ..Snapshot::default() };
            assert_eq!(status.is_idle(), is_idle, "{taken:?} {making:?}");
        }
    }
}
