//! What the executor lets others see of it: a snapshot that the front answers from, so that a
//! handler that hangs does not look like a dead process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Executor;
use crate::log;

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
    /// Why no claim can be taken: `store_full` or `no_space`.
    refusing: Option<&'static str>,
}

/// Whether executions can be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready { frozen: bool },
    NotReady { reason: &'static str },
}

impl Status {
    /// `/ready` (design section 2). Reasons: `opening`, `executor_busy`, `store_full`, `no_space`.
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

impl<T> Executor<T> {
    /// Lets others see how it stands, and tells the operator what has changed.
    pub(super) fn publish(&self) {
        let preparation = self.store.preparation();
        let prepared = self.store.is_prepared();
        let refusing = if self.store.is_full() {
            Some("store_full")
        } else if !prepared && preparation.failure().is_some() {
            Some("no_space")
        } else {
            None
        };
        let (was_frozen, was_refusing) = self.status.set_store(self.frozen.is_some(), refusing);
        match &self.frozen {
            Some(reason) if !was_frozen => {
                log::error("executions are frozen", &[("reason", reason.as_str().into())]);
            }
            None if was_frozen => log::info("executions are not frozen any more", &[]),
            _ => {}
        }
        match refusing {
            Some(reason) if was_refusing != refusing => {
                log::error("no execution can be taken, or soon none", &[("reason", reason.into())]);
            }
            None if was_refusing.is_some() => log::info("executions can be taken again", &[]),
            _ => {}
        }
        self.metrics.frozen.set(u64::from(self.frozen.is_some()));
        self.metrics.segments_prepared.set(u64::from(prepared));
        self.metrics.segment_failing.set(u64::from(preparation.failure().is_some()));
        self.metrics.store_bytes.set(self.store.bytes());
        self.metrics.store_records.set(self.store.size());
        self.metrics.store_executions.set(self.store.state().executions());
    }
}
