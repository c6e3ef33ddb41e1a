//! The limits of stored refusals (design section 10), through the whole executor: a flood neither
//! fills the disk nor hides, and a rare refusal is stored within a flood of another code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use openexec::executor::Executor;
use openexec::executor::proposal::{Job, Policy};
use openexec::executor::status::Status;
use openexec::limits::DENIAL_BURST;
use openexec::metrics::Metrics;
use openexec::store::open::open;
use openexec::store::record::{Identity, Mode, Record};
use openexec::store::{self, Geometry};
use openexec::time::Time;

use crate::disk::SimDisk;
use crate::handlers::{Outside, outside};
use crate::random::Random;
use crate::requests::{Ask, CREATED, Catalogue, payload};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 256 * 1024, batch_bytes_max: 64 * 1024, executions_max: 1_000 };

struct Flooded {
    executor: Executor<()>,
    disk: Arc<SimDisk>,
    clock: Arc<AtomicI64>,
    catalogue: Catalogue,
    policy: Arc<Policy>,
    /// Asked and refused, by code.
    asked: BTreeMap<String, u64>,
    /// Answers that said `recorded`.
    recorded: BTreeMap<String, u64>,
}

impl Flooded {
    fn new() -> Self {
        Self::of(Mode::Clawshield, GEOMETRY)
    }

    /// In clawshield mode, `idempotent` is not on the allow-list; in demo mode everything is allowed.
    fn of(mode: Mode, geometry: Geometry) -> Self {
        let disk = Arc::new(SimDisk::new(Random::new(1)));
        outside(|o| *o = Outside { disk: Some(disk.clone()), ..Outside::default() });
        let identity = Identity { store: "f".repeat(32), mode, created: CREATED };
        store::make(disk.as_ref(), geometry, &identity).expect("made");
        let (store, _) = open(disk.clone(), geometry, &mut |_, _| {}).expect("it opens");
        let clock = Arc::new(AtomicI64::new(CREATED.plus_seconds(10).micros()));
        let catalogue = Catalogue::new();
        let narrow = mode == Mode::Clawshield;
        let policy = catalogue.policy(narrow, narrow);
        let now = clock.clone();
        let executor = Executor::new(
            store,
            policy.clone(),
            Arc::new(Metrics::default()),
            Arc::new(Status::default()),
            Box::new(move || {
                let micros = now.load(Ordering::Relaxed);
                (Time::from_micros(micros), Duration::from_micros(micros.unsigned_abs()))
            }),
        );
        let (asked, recorded) = (BTreeMap::new(), BTreeMap::new());
        Flooded { executor, disk, clock, catalogue, policy, asked, recorded }
    }

    fn prepare(&self) {
        let preparation = self.executor.store().preparation();
        while preparation.step(self.disk.as_ref(), GEOMETRY.segment_bytes) {}
    }

    /// `count` attempts under nonces of their own; those that are refused are counted.
    fn ask(&mut self, action: &'static str, count: u64) {
        let payload = payload("ok", 0);
        for number in 0..count {
            let nonce = format!("{action} {number}");
            let ask = Ask { action, nonce, payload: payload.clone(), approval: None };
            let job = Job::Execute(self.catalogue.proposal(&ask, &self.policy));
            let (asked, recorded) = (&mut self.asked, &mut self.recorded);
            let mut answers = |(), answer: openexec::http::Answer| {
                if answer.status == 200 {
                    return;
                }
                let code = answer.body.split("\"code\":\"").nth(1).expect("a code");
                let code = code.split('"').next().expect("a code").to_owned();
                let is_recorded = answer.body.contains("\"recorded\":true");
                *recorded.entry(code.clone()).or_default() += u64::from(is_recorded);
                *asked.entry(code).or_default() += 1;
            };
            self.executor.turn(vec![((), job)], &mut answers).expect("the store works");
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Denials in the file and counts in `suppressed` records, by code.
    fn written(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let (mut denials, mut suppressed) = (BTreeMap::new(), BTreeMap::new());
        for bytes in self.disk.contents().into_values() {
            let text = String::from_utf8(bytes).expect("text");
            for line in text.trim_end().lines().filter(|line| !line.is_empty()) {
                match Record::read(line) {
                    Some(Record::Denial(denial)) => {
                        *denials.entry(denial.code.to_owned()).or_default() += 1;
                    }
                    Some(Record::Suppressed { count, .. }) => {
                        let counts: BTreeMap<String, u64> = pairs(count);
                        for (code, count) in counts {
                            *suppressed.entry(code).or_default() += count;
                        }
                    }
                    _ => {}
                }
            }
        }
        (denials, suppressed)
    }
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let value: openexec::json::Value = serde_json::from_str(text).expect("counts");
    let object = value.as_object().expect("an object").clone();
    object.into_iter().map(|(code, count)| (code, count.as_u64().expect("a count"))).collect()
}

/// Every refusal is in the file, as itself or in a count.
fn adds_up(flooded: &Flooded) {
    let (denials, suppressed) = flooded.written();
    for (code, asked) in &flooded.asked {
        let stored = denials.get(code).copied().unwrap_or(0);
        assert_eq!(stored + suppressed.get(code).copied().unwrap_or(0), *asked, "{code}");
        assert_eq!(flooded.recorded[code], stored, "{code}: what was said of it");
    }
}

#[test]
fn a_flood_neither_fills_nor_hides_and_a_rare_refusal_is_stored() {
    let mut flooded = Flooded::new();
    flooded.prepare();
    flooded.ask("idempotent", 2_000);
    flooded.ask("pure", 1);
    flooded.pass(5);
    flooded.ask("idempotent", 500);
    flooded.executor.idle(&mut |(), _| {}).expect("the store works");
    let (denials, suppressed) = flooded.written();
    assert_eq!(denials["action_not_allowed"], u64::from(DENIAL_BURST) + 5);
    assert_eq!(denials["approval_missing"], 1, "the rare one");
    assert_eq!(suppressed["action_not_allowed"], 2_500 - u64::from(DENIAL_BURST) - 5);
    adds_up(&flooded);
}

#[test]
fn without_a_prepared_segment_refusals_are_counted_and_the_counts_come_later() {
    let mut flooded = Flooded::new();
    flooded.ask("idempotent", 10);
    let before = flooded.executor.store().bytes();
    flooded.executor.idle(&mut |(), _| {}).expect("the store works");
    assert_eq!(flooded.written().0, BTreeMap::new());
    assert!(flooded.executor.store().bytes() - before <= 512, "a seal at most");
    flooded.prepare();
    flooded.ask("pure", 1);
    flooded.executor.idle(&mut |(), _| {}).expect("the store works");
    let (denials, suppressed) = flooded.written();
    assert_eq!((denials["approval_missing"], suppressed["action_not_allowed"]), (1, 10));
    adds_up(&flooded);
}

/// What is refused for want of room or of number is a refusal as any other.
#[test]
fn what_a_full_store_refuses_adds_up_too() {
    let executions_max = 5;
    let mut flooded = Flooded::of(Mode::Demo, Geometry { executions_max, ..GEOMETRY });
    flooded.prepare();
    flooded.ask("pure", 500);
    flooded.executor.idle(&mut |(), _| {}).expect("the store works");
    assert_eq!(flooded.asked["store_full"], 500 - executions_max);
    assert_eq!(flooded.written().0["store_full"], u64::from(DENIAL_BURST), "some are stored");
    adds_up(&flooded);

    let mut flooded = Flooded::of(Mode::Demo, GEOMETRY);
    flooded.ask("idempotent", 500);
    let refused = flooded.asked["store_full"];
    assert!((1..500).contains(&refused), "{refused} for want of room");
    flooded.prepare();
    flooded.ask("pure", 1);
    flooded.executor.idle(&mut |(), _| {}).expect("the store works");
    assert_eq!(flooded.written().1["store_full"], refused, "without room they are counted");
    adds_up(&flooded);
}
