//! What the executor lets others see of it: a snapshot that the front answers from, so that a
//! handler that hangs does not look like a dead process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Executor;
use crate::core::clock::{Clock, Fault};
use crate::core::limits::CLOCK_SKEW_SECONDS;
use crate::core::proposal::Policy;
use crate::core::time::Time;
use crate::store::Next;
use crate::sys::journal;

/// A handler that runs for longer makes `/ready` say so.
const BUSY_MS: u64 = 10_000;

#[derive(Default)]
pub struct Status(Mutex<Snapshot>);

#[derive(Default, Clone)]
struct Snapshot {
    open: bool,
    working: bool,
    witnessing: bool,
    looking: bool,
    running: Option<(&'static str, Instant)>,
    frozen: bool,
    /// Why no claim can be taken, or soon none.
    refusing: Option<&'static str>,
}

/// Whether executions can be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready { frozen: bool },
    NotReady { reason: &'static str },
}

impl Status {
    /// `/ready` (design section 2). Reasons: `opening`, `executor_busy`, those of [`Obstacle`].
    pub fn readiness(&self) -> Readiness {
        let now = self.lock().clone();
        let is_busy = |since: Instant| since.elapsed() > Duration::from_millis(BUSY_MS);
        if !now.open {
            return Readiness::NotReady { reason: "opening" };
        }
        if now.running.is_some_and(|(_, since)| is_busy(since)) {
            return Readiness::NotReady { reason: "executor_busy" };
        }
        match now.refusing {
            Some(reason) => Readiness::NotReady { reason },
            None => Readiness::Ready { frozen: now.frozen },
        }
    }

    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Whether everybody waits for something to do: then every answer should come at once.
    pub fn is_idle(&self) -> bool {
        let now = self.lock();
        now.open && !now.working && !now.witnessing && !now.looking
    }

    /// The handler that runs now, and for how long.
    pub fn running(&self) -> Option<(&'static str, Duration)> {
        self.lock().running.map(|(action, since)| (action, since.elapsed()))
    }

    pub fn set_open(&self) {
        self.lock().open = true;
    }

    pub fn set_working(&self, working: bool) {
        self.lock().working = working;
    }

    pub fn set_witnessing(&self, witnessing: bool) {
        self.lock().witnessing = witnessing;
    }

    /// The front looks into the approvals directory, which may be somebody else's storage.
    pub fn set_looking(&self, looking: bool) {
        self.lock().looking = looking;
    }

    pub fn set_running(&self, action: Option<&'static str>) {
        self.lock().running = action.map(|action| (action, Instant::now()));
    }

    /// What both were until now is given back.
    pub fn set_store(
        &self,
        frozen: bool,
        refusing: Option<&'static str>,
    ) -> (bool, Option<&'static str>) {
        let mut now = self.lock();
        let before = (now.frozen, now.refusing);
        (now.frozen, now.refusing) = (frozen, refusing);
        before
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nothing can be executed, or soon nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    StoreFull,
    NoSpace,
    /// Every approval would be older than the store.
    ClockBeforeStore,
    NobodyCanApprove,
    Clock(Fault),
}

impl Obstacle {
    /// What keeps every approval from counting, whatever it says; none in demo mode.
    pub fn to_approvals(policy: &Policy, created: Time, clock: &Clock, now: Time) -> Option<Self> {
        let keyring = &policy.approvals.as_ref()?.keyring;
        if created.seconds() > now.plus_seconds(CLOCK_SKEW_SECONDS).seconds() {
            return Some(Obstacle::ClockBeforeStore);
        }
        if let Some(fault) = clock.fault(now) {
            return Some(Obstacle::Clock(fault));
        }
        let mut actions = policy.handlers.iter().map(|handler| handler.action);
        let can = |action| keyring.can_approve(action, now) && policy.handler(action).is_ok();
        (!actions.any(can)).then_some(Obstacle::NobodyCanApprove)
    }

    pub const fn reason(self) -> &'static str {
        match self {
            Obstacle::StoreFull => "store_full",
            Obstacle::NoSpace => "no_space",
            Obstacle::ClockBeforeStore => "clock_before_store",
            Obstacle::NobodyCanApprove => "nobody_can_approve",
            Obstacle::Clock(fault) => fault.code().name(),
        }
    }

    /// What an operator does about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Obstacle::StoreFull => "Start the next store: docs/operations.md, \"The next store\"",
            Obstacle::NoSpace => "Free space on the disk of the store, or enlarge it",
            Obstacle::ClockBeforeStore => {
                "The store was made at a later time than the clock says, and approvals from before \
                 it are refused: set the clock; if it is right, make another store with \
                 `openexec init`"
            }
            Obstacle::NobodyCanApprove => {
                "For no action are there enough keys that may approve it now: add keys, or correct \
                 not_after, actions and required in the keys file, and restart"
            }
            Obstacle::Clock(fault) => fault.advice(),
        }
    }
}

impl<T> Executor<T> {
    fn obstacle(&mut self) -> Option<Obstacle> {
        let now = self.look();
        if self.store.room().is_full {
            return Some(Obstacle::StoreFull);
        }
        if !self.has_room_to_refuse() {
            return Some(Obstacle::NoSpace);
        }
        let (created, clock) = (self.store.identity().created, &self.store.state().clock);
        Obstacle::to_approvals(&self.policy, created, clock, now)
            // A freeze is the way out of the clock's faults: `/ready` stays 200 in it.
            .filter(|obstacle| self.frozen.is_none() || !matches!(obstacle, Obstacle::Clock(_)))
    }

    /// Lets others see how it stands, and tells the operator what has changed.
    pub(super) fn publish(&mut self) {
        let obstacle = self.obstacle();
        let refusing = obstacle.map(Obstacle::reason);
        let room = self.store.room();
        let (was_frozen, was_refusing) = self.status.set_store(self.frozen.is_some(), refusing);
        match &self.frozen {
            Some(reason) if !was_frozen => {
                journal::error("executions are frozen", &[("reason", reason.as_str().into())]);
            }
            None if was_frozen => journal::info("executions are not frozen any more", &[]),
            _ => {}
        }
        match obstacle {
            Some(obstacle) if was_refusing != refusing => {
                let fields =
                    [("reason", obstacle.reason().into()), ("advice", obstacle.advice().into())];
                journal::error("no execution can be taken, or soon none", &fields);
            }
            None if was_refusing.is_some() => journal::info("executions can be taken again", &[]),
            _ => {}
        }
        let (owed, since) = self.store.state().debt();
        self.metrics.owed.set(owed);
        let since = since.map_or(0, |at| u64::try_from(at.seconds()).unwrap_or(0));
        self.metrics.owed_since.set(since);
        self.metrics.frozen.set(u64::from(self.frozen.is_some()));
        self.metrics.segments_prepared.set(u64::from(room.next == Next::Ready));
        self.metrics.segment_failing.set(u64::from(room.next == Next::Failing));
        self.metrics.store_bytes.set(room.used);
        self.metrics.store_records.set(self.store.size());
        self.metrics.store_executions.set(self.store.state().executions.into());
    }
}
