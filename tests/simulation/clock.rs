//! Both clocks, step by step, through the whole executor: which approved attempt executes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use openexec::core::record::{Identity, Mode};
use openexec::executor::Job;
use openexec::executor::Said;
use openexec::executor::{Executor, UNFROZEN_FILE};
use openexec::serve::status::{self, Status};
use openexec::store::open::open;
use openexec::store::{self, Geometry};
use openexec::sys::answer::Answer;
use openexec::sys::metrics::Metrics;

use crate::disk::{Crash, SimDisk};
use crate::handlers::{Outside, outside};
use crate::random::Random;
use crate::requests::{Ask, CREATED, Catalogue, SHORT_SECONDS, payload};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 64 * 1024, batch_bytes_max: 16 * 1024, executions_max: 1_000 };
/// Of one payload, in the catalogue's order: the one that lives long, and the one that does not.
const LONG: usize = 3;
const SHORT: usize = 2;
const HOUR: i64 = 3_600;

/// One process after another over one disk.
struct Host {
    disk: Arc<SimDisk>,
    catalogue: Catalogue,
    executor: Executor<()>,
    status: Arc<Status>,
    /// Seconds on the wall since the store was made, and on the monotonic clock.
    clocks: Arc<Mutex<(i64, u64)>>,
    asked: u32,
    /// The body of the newest answer.
    heard: Rc<RefCell<String>>,
}

type Life = (Executor<()>, Arc<Status>);

fn life(
    disk: &Arc<SimDisk>,
    catalogue: &Catalogue,
    clocks: &Arc<Mutex<(i64, u64)>>,
    heard: &Rc<RefCell<String>>,
) -> Life {
    let (store, _) = open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let preparation = store.preparation();
    while preparation.step(disk.as_ref(), GEOMETRY.segment_bytes) {}
    let (status, clocks) = (Arc::new(Status::default()), clocks.clone());
    let read = Box::new(move || {
        let (wall, monotonic) = *clocks.lock().expect("one thread");
        (CREATED.plus_seconds(wall), Duration::from_secs(monotonic))
    });
    let policy = catalogue.policy(true, false);
    let watch = status::watch(status.clone(), Arc::new(Metrics::default()), policy.clone());
    let heard = heard.clone();
    let answers = Box::new(move |(), said: Said| *heard.borrow_mut() = Answer::from(said).body);
    let mut executor = Executor::new(Box::new(store), policy, watch, read, answers);
    executor.recover().expect("the store works");
    status.lock().open = true;
    (executor, status)
}

impl Host {
    /// A store made this many seconds ahead of the approvals.
    fn new(ahead: i64) -> Self {
        let disk = Arc::new(SimDisk::new(Random::new(1)));
        outside(|o| *o = Outside { disk: Some(disk.clone()), ..Outside::default() });
        let created = CREATED.plus_seconds(ahead);
        let identity = Identity { store: "c".repeat(32), mode: Mode::Clawshield, created };
        store::make(disk.as_ref(), GEOMETRY, &identity).expect("made");
        let (catalogue, clocks) = (Catalogue::new(), Arc::new(Mutex::new((1, 100))));
        let heard = Rc::default();
        let (executor, status) = life(&disk, &catalogue, &clocks, &heard);
        Host { disk, catalogue, executor, status, clocks, asked: 0, heard }
    }

    /// So many seconds pass on the wall, and so many on the monotonic clock, while nobody asks.
    fn pass(&mut self, wall: i64, monotonic: u64) {
        {
            let mut clocks = self.clocks.lock().expect("one thread");
            *clocks = (clocks.0 + wall, clocks.1 + monotonic);
        }
        self.executor.idle().expect("the store works");
    }

    fn restart(&mut self) {
        self.disk.restart(Crash::Kill);
        self.clocks.lock().expect("one thread").1 = 3;
        (self.executor, self.status) = life(&self.disk, &self.catalogue, &self.clocks, &self.heard);
    }

    fn freeze_and_unfreeze(&mut self) {
        self.disk.set_file(UNFROZEN_FILE, Some("somebody looked\n"));
        self.executor.idle().expect("the store works");
    }

    /// The code of a refusal, or `executed`.
    fn ask(&mut self, approval: usize) -> String {
        self.asked += 1;
        let nonce = format!("n{}", self.asked);
        let ask = Ask {
            action: "pure",
            nonce,
            payload: payload("ok", 0),
            approval: Some(approval),
            asynchronous: false,
        };
        let policy = self.catalogue.policy(true, false);
        let job = Job::Execute(self.catalogue.proposal(&ask, &policy));
        self.executor.turn(vec![((), job)]).expect("the store works");
        let body = self.heard.take();
        let code = body.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
        code.unwrap_or("executed").to_owned()
    }

    fn ready(&self) -> &'static str {
        match self.status.readiness() {
            Ok(_) => "ready",
            Err(reason) => reason,
        }
    }
}

#[test]
fn what_was_refused_as_expired_does_not_come_to_life_again() {
    for restarts in [false, true] {
        let mut host = Host::new(0);
        host.pass(HOUR, 3_600);
        assert_eq!(host.ask(SHORT), "approval_expired");
        host.pass(-HOUR, 1);
        if restarts {
            host.restart();
        }
        assert_eq!((host.ask(SHORT).as_str(), host.ready()), ("clock_behind", "clock_behind"));
        host.freeze_and_unfreeze();
        // A person has said that the clock is right now: then it is not expired.
        assert_eq!((host.ask(SHORT).as_str(), host.ready()), ("executed", "ready"));
    }
}

/// The refusal is only counted: this process knows its time all the same.
#[test]
fn neither_does_what_was_refused_without_a_record() {
    let mut host = Host::new(0);
    host.pass(HOUR, 3_600);
    for _ in 0..100 {
        assert_eq!(host.ask(SHORT), "approval_expired");
    }
    host.pass(20, 20);
    for _ in 0..200 {
        assert_eq!(host.ask(SHORT), "approval_expired");
    }
    host.pass(-HOUR, 1);
    assert_eq!(host.ask(SHORT), "clock_behind");
}

#[test]
fn a_step_back_within_the_life_of_an_approval_is_nobodys_gain() {
    let mut host = Host::new(0);
    host.pass(SHORT_SECONDS, SHORT_SECONDS.unsigned_abs());
    assert_eq!(host.ask(SHORT), "approval_expired");
    host.pass(-SHORT_SECONDS, 1);
    // Within the skew that every clock is allowed, nothing stops, and nothing comes to life again.
    assert_eq!((host.ask(SHORT).as_str(), host.ready()), ("approval_expired", "ready"));
    assert_eq!((host.ask(LONG).as_str(), host.ready()), ("executed", "ready"));
}

#[test]
fn a_glitch_forward_blocks_until_somebody_looked_and_not_for_its_length() {
    for restarts in [false, true] {
        let mut host = Host::new(0);
        host.pass(30 * 24 * HOUR, 1);
        assert_eq!(host.ready(), "clock_jumped", "it is seen while nobody asks");
        assert_eq!(host.ask(LONG), "approval_expired");
        host.pass(-30 * 24 * HOUR, 1);
        if restarts {
            // The process forgets that it saw a jump; the record of that time remains.
            host.restart();
        }
        let code = if restarts { "clock_behind" } else { "clock_jumped" };
        assert_eq!((host.ask(LONG).as_str(), host.ready()), (code, code));
        host.freeze_and_unfreeze();
        assert_eq!((host.ask(LONG).as_str(), host.ready()), ("executed", "ready"));
        host.restart();
        assert_eq!(host.ready(), "ready", "what was before the unfreeze counts no more");
    }
}

/// A glitch during which nothing was recorded.
#[test]
fn a_jump_that_was_only_looked_at_is_gone_after_a_restart() {
    let mut host = Host::new(0);
    host.pass(2 * HOUR, 1);
    host.pass(-2 * HOUR, 1);
    assert_eq!(host.ask(LONG), "clock_jumped");
    host.restart();
    assert_eq!((host.ask(LONG).as_str(), host.ready()), ("executed", "ready"));
}

#[test]
fn a_suspended_machine_waits_for_somebody() {
    let mut host = Host::new(0);
    host.pass(HOUR, 1);
    assert_eq!((host.ask(LONG).as_str(), host.ready()), ("clock_jumped", "clock_jumped"));
    host.freeze_and_unfreeze();
    assert_eq!(host.ask(LONG), "executed");
}

#[test]
fn a_store_made_ahead_of_the_clock_says_that_it_can_execute_nothing() {
    let mut host = Host::new(30 * 24 * HOUR);
    host.freeze_and_unfreeze();
    assert_eq!(host.ask(LONG), "approval_before_store");
    assert_eq!(host.ready(), "clock_before_store");
    host.pass(30 * 24 * HOUR, 30 * 24 * 3_600);
    assert_eq!(host.ready(), "ready");
}
