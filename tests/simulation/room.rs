//! Every write has its room: on a disk without space for another segment, a claim that waits for its
//! receipt gets it, whatever stops, restarts and seconds of rest write meanwhile, and however little room
//! there was when it was made.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use openexec::core::record::{Identity, Mode};
use openexec::core::time::Time;
use openexec::executor::Job;
use openexec::executor::{Event, Executor, FROZEN_FILE, UNFROZEN_FILE};
use openexec::store::open::open;
use openexec::store::{self, Geometry};
use openexec::sys::answer::Answer;

use crate::disk::{Crash, SimDisk};
use crate::handlers::{Outside, outside};
use crate::random::Random;
use crate::requests::{Ask, CREATED, Catalogue, payload};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 128 * 1024, batch_bytes_max: 42 * 1024, executions_max: 1_000 };
/// Claims in one batch, as many as half a batch promises receipts to.
const CLAIMS: usize = 4;
/// More than there is room for.
const STOPS: usize = 40;

struct Full {
    disk: Arc<SimDisk>,
    clock: Arc<AtomicI64>,
    catalogue: Catalogue,
    /// The worst status of the answers since it was looked at.
    heard: Rc<Cell<u16>>,
}

impl Full {
    fn new() -> Self {
        let disk = Arc::new(SimDisk::new(Random::new(1)));
        outside(|o| *o = Outside { disk: Some(disk.clone()), ..Outside::default() });
        let identity = Identity { store: "f".repeat(32), mode: Mode::Demo, created: CREATED };
        store::make(disk.as_ref(), GEOMETRY, &identity).expect("made");
        disk.set_capacity(disk.used());
        let clock = Arc::new(AtomicI64::new(CREATED.plus_seconds(10).micros()));
        Full { disk, clock, catalogue: Catalogue::new(), heard: Rc::default() }
    }

    /// A start, which finds no space for a segment; whatever waits is completed if it can be.
    fn start(&self) -> Executor<usize> {
        let (store, _) = open(self.disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
        store.preparation().step(self.disk.as_ref(), GEOMETRY.segment_bytes);
        let now = self.clock.clone();
        let clocks = Box::new(move || {
            let micros = now.fetch_add(1_000, Ordering::Relaxed);
            (Time::from_micros(micros), Duration::from_micros(micros as u64))
        });
        let policy = self.catalogue.policy(false, false);
        let heard = self.heard.clone();
        let answers =
            Box::new(move |_, said| heard.set(heard.get().max(Answer::from(said).status)));
        let watch = Box::new(|_: Event| {});
        let mut executor = Executor::new(Box::new(store), policy, watch, clocks, answers);
        executor.recover().expect("recovery has its room");
        executor
    }

    /// The worst status of the answers to so many requests at once; 0 if the process died.
    fn ask(
        &self,
        executor: &mut Executor<usize>,
        action: &'static str,
        nonce: &str,
        n: usize,
    ) -> u16 {
        let policy = self.catalogue.policy(false, false);
        let job = |number: usize| {
            let nonce = format!("{nonce}-{number}");
            let ask = Ask {
                action,
                nonce,
                payload: payload("ok", 0),
                approval: None,
                asynchronous: false,
            };
            (number, Job::Execute(self.catalogue.proposal(&ask, &policy)))
        };
        self.heard.set(0);
        let mut taken = executor.turn((0..n).map(job));
        while !self.disk.is_dead() && taken.is_ok() && executor.has_staged() {
            taken = executor.turn(Vec::new());
        }
        assert!(self.disk.is_dead() || taken.is_ok(), "written without room: {taken:?}");
        if self.disk.is_dead() { 0 } else { self.heard.get() }
    }

    fn rest(&self, executor: &mut Executor<usize>) {
        self.clock.fetch_add(11_000_000, Ordering::Relaxed);
        executor.idle().expect("nothing is written without room for it");
    }
}

/// What others do while the claim waits.
type Meanwhile = fn(&Full, &mut Executor<usize>);

#[test]
fn a_claim_that_waits_gets_its_receipt_on_a_full_disk() {
    let meanwhile: [(&str, Meanwhile); 5] = [
        ("stops, each seen to begin and to end", |full, executor| {
            for _ in 0..STOPS {
                full.disk.set_file(UNFROZEN_FILE, Some("short"));
                full.rest(executor);
            }
        }),
        ("stops that nobody saw begin", |full, executor| {
            for _ in 0..STOPS {
                full.disk.set_file(UNFROZEN_FILE, Some("short"));
                executor.turn(Vec::new()).expect("room");
            }
        }),
        ("seconds of rest", |full, executor| (0..STOPS).for_each(|_| full.rest(executor))),
        ("refusals", |full, executor| {
            for n in 0..STOPS {
                full.ask(executor, "pure", &format!("refused-{n}"), 1);
                full.rest(executor);
            }
        }),
        ("restarts", |full, executor| {
            for _ in 0..STOPS {
                full.disk.restart(Crash::Kill);
                *executor = full.start();
                full.rest(executor);
            }
        }),
    ];
    let (full, mut most) = (Full::new(), 0);
    let mut executor = full.start();
    while full.ask(&mut executor, "pure", &format!("filled-{most}"), 1) == 200 {
        most += 1;
    }
    let mut waited = 0;
    for (what, meanwhile) in meanwhile {
        for (action, claims) in [("idempotent", CLAIMS), ("once", 1)] {
            // One execution more each time, until there is no room for a claim.
            for executions in most - 24..=most {
                let full = Full::new();
                let mut executor = full.start();
                for n in 0..executions {
                    full.ask(&mut executor, "pure", &format!("filled-{n}"), 1);
                }
                outside(|outside| outside.dies_in = Some(1));
                let status = full.ask(&mut executor, action, "waits", claims);
                outside(|outside| outside.dies_in = None);
                if status == 507 {
                    continue;
                }
                assert!(full.disk.is_dead(), "{status}");
                full.disk.restart(Crash::Kill);
                full.disk.set_file(FROZEN_FILE, Some("stop"));
                let mut executor = full.start();
                waited += executor.store().state().owed().len();
                meanwhile(&full, &mut executor);
                full.disk.set_file(FROZEN_FILE, None);
                // As recovery does after a restart, and as a running service does.
                if executions % 2 == 0 {
                    full.disk.restart(Crash::Kill);
                    executor = full.start();
                }
                full.rest(&mut executor);
                let owed = executor.store().state().owed().len();
                assert_eq!(owed, 0, "{what}: receipts of {action} after {executions} executions");
            }
        }
    }
    assert!(waited > 50, "only {waited} waited");
}
