//! The limits of stored refusals (design section 10), through the whole executor: a flood neither
//! fills the disk nor hides, one that is asked again takes nothing, and a rare refusal is stored within
//! a flood of another code or of another action.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use openexec::core::limits::REFUSAL_BYTES_HELD;
use openexec::core::proposal::Policy;
use openexec::core::record::{Identity, Mode, Record};
use openexec::core::time::Time;
use openexec::executor::Executor;
use openexec::executor::Job;
use openexec::executor::Said;
use openexec::serve::status::{self, Status};
use openexec::store::open::open;
use openexec::store::refusals::price;
use openexec::store::segment::Preparation;
use openexec::store::{self, Geometry};
use openexec::sys::answer::Answer;
use openexec::sys::metrics::Metrics;

use crate::disk::SimDisk;
use crate::handlers::{Outside, outside};
use crate::random::Random;
use crate::requests::{Ask, CREATED, Catalogue, PENDING_TTL_SECONDS, payload};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 256 * 1024, batch_bytes_max: 64 * 1024, executions_max: 1_000 };

pub struct Flooded {
    pub executor: Executor<()>,
    preparation: Arc<Preparation>,
    status: Arc<Status>,
    geometry: Geometry,
    pub disk: Arc<SimDisk>,
    clock: Arc<AtomicI64>,
    /// How far the wall clock is ahead of the other one.
    ahead: Arc<AtomicI64>,
    /// A helper makes the next segment as soon as it is wanted.
    prepares: bool,
    /// An approval of something else comes with each attempt: without it, what is not approved is a proposal.
    wrongly: bool,
    pub catalogue: Catalogue,
    pub policy: Arc<Policy>,
    pub metrics: Arc<Metrics>,
    heard: Rc<Ear>,
    /// Asked and refused, by code.
    asked: BTreeMap<String, u64>,
    /// Answers that said `recorded`.
    recorded: BTreeMap<String, u64>,
}

/// What was answered, and whether a record of this kind was in the files by then.
#[derive(Default)]
struct Ear {
    heard: RefCell<Vec<(Answer, bool)>>,
    kind: Cell<Option<&'static str>>,
}

impl Flooded {
    pub fn new() -> Self {
        Self::of(Mode::Clawshield, GEOMETRY)
    }

    /// In clawshield mode, `idempotent` is not on the allow-list; in demo mode everything is allowed.
    fn of(mode: Mode, geometry: Geometry) -> Self {
        let disk = Arc::new(SimDisk::new(Random::new(1)));
        outside(|o| *o = Outside { disk: Some(disk.clone()), ..Outside::default() });
        let identity = Identity { store: "f".repeat(32), mode, created: CREATED };
        store::make(disk.as_ref(), geometry, &identity).expect("made");
        let clock = Arc::new(AtomicI64::new(CREATED.plus_seconds(10).micros()));
        let catalogue = Catalogue::new();
        let narrow = mode == Mode::Clawshield;
        let policy = catalogue.policy(narrow, narrow);
        let (metrics, ahead) = (Arc::new(Metrics::default()), Arc::default());
        let heard = Rc::default();
        let (executor, preparation, status) =
            executor(&disk, geometry, &policy, [&clock, &ahead], &metrics, &heard);
        Flooded {
            executor,
            preparation,
            status,
            geometry,
            disk,
            clock,
            ahead,
            prepares: true,
            wrongly: false,
            catalogue,
            policy,
            metrics,
            heard,
            asked: BTreeMap::new(),
            recorded: BTreeMap::new(),
        }
    }

    /// The process is killed and started again.
    fn restart(&mut self) {
        (self.executor, self.preparation, self.status) = executor(
            &self.disk,
            self.geometry,
            &self.policy,
            [&self.clock, &self.ahead],
            &self.metrics,
            &self.heard,
        );
    }

    fn prepare(&self) {
        while self.preparation.step(self.disk.as_ref(), self.geometry.segment_bytes)
            && self.preparation.failure().is_none()
        {}
    }

    /// There is no room for another segment, and the helper has found out.
    fn fill_the_disk(&mut self) {
        self.prepares = false;
        self.disk.set_capacity(self.disk.used());
        self.prepare();
    }

    /// Nothing comes for a second.
    pub fn idle(&mut self) {
        self.pass(1);
        self.executor.idle().expect("the store works");
    }

    /// Attempts under nonces of their own, beginning with `first`.
    pub fn ask(&mut self, action: &'static str, first: u64, count: u64) {
        for number in first..first + count {
            self.ask_again(action, &format!("{action} {number}"));
        }
    }

    /// One attempt; one that is refused is counted. Gives the answer.
    fn ask_again(&mut self, action: &'static str, nonce: &str) -> String {
        let ask = self.asked_for(action, nonce);
        let job = Job::Execute(self.catalogue.proposal(&ask, &self.policy));
        let answers = self.turn(vec![job]);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let code = answer.body.split("\"code\":\"").nth(1).expect("a code");
            let code = code.split('"').next().expect("a code").to_owned();
            let is_recorded = answer.body.contains("\"recorded\":true");
            *self.recorded.entry(code.clone()).or_default() += u64::from(is_recorded);
            *self.asked.entry(code).or_default() += 1;
        }
        if self.prepares {
            self.prepare();
        }
        answers.into_iter().next_back().map(|answer| answer.body).unwrap_or_default()
    }

    /// One turn of these, and what is answered.
    pub fn turn(&mut self, jobs: Vec<Job<()>>) -> Vec<Answer> {
        let jobs = jobs.into_iter().map(|job| ((), job));
        self.executor.turn(jobs).expect("the store works");
        self.heard.heard.take().into_iter().map(|(answer, _)| answer).collect()
    }

    pub fn asked_for(&self, action: &'static str, nonce: &str) -> Ask {
        let approval = self.wrongly.then(|| self.catalogue.approval_of("idempotent"));
        Ask {
            action,
            nonce: nonce.to_owned(),
            payload: payload("ok", 0),
            approval,
            asynchronous: false,
        }
    }

    fn bytes(&self) -> u64 {
        self.executor.store().room().used
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// The wall clock alone goes so far ahead.
    pub fn jump(&self, seconds: i64) {
        self.ahead.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Refusals in the file (a proposal is one that lacked approvals) and counts in `suppressed` records, by code.
    fn written(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let (mut refusals, mut suppressed) = (BTreeMap::new(), BTreeMap::new());
        for bytes in self.disk.contents().into_values() {
            let text = String::from_utf8(bytes).expect("text");
            for line in text.trim_end().lines().filter(|line| !line.is_empty()) {
                match Record::read(line) {
                    Some(Record::Refusal(refusal)) => {
                        *refusals.entry(refusal.code.to_owned()).or_default() += 1;
                    }
                    Some(Record::Proposal(_)) => {
                        *refusals.entry("approval_missing".to_owned()).or_default() += 1;
                    }
                    Some(Record::Suppressed(record)) => {
                        let counts: BTreeMap<String, u64> = pairs(&record.count);
                        for (code, count) in counts {
                            *suppressed.entry(code).or_default() += count;
                        }
                    }
                    _ => {}
                }
            }
        }
        (refusals, suppressed)
    }
}

fn executor(
    disk: &Arc<SimDisk>,
    geometry: Geometry,
    policy: &Arc<Policy>,
    clocks: [&Arc<AtomicI64>; 2],
    metrics: &Arc<Metrics>,
    ear: &Rc<Ear>,
) -> (Executor<()>, Arc<Preparation>, Arc<Status>) {
    let (store, _) = open(disk.clone(), geometry, &mut |_, _| {}).expect("it opens");
    let [now, ahead] = clocks.map(Arc::clone);
    let clock = move || {
        let micros = now.load(Ordering::Relaxed);
        let wall = Time::from_micros(micros + ahead.load(Ordering::Relaxed));
        (wall, Duration::from_micros(micros.unsigned_abs()))
    };
    let preparation = store.preparation();
    let (store, policy) = (Box::new(store), policy.clone());
    let status = Arc::new(Status::default());
    status.lock().open = true;
    let watch = status::watch(status.clone(), metrics.clone(), policy.clone());
    let (ear, files) = (ear.clone(), disk.clone());
    let answers = Box::new(move |(), said: Said| {
        let is_there = ear.kind.get().is_some_and(|kind| {
            let kind = format!("\"kind\":\"{kind}\"");
            let mut files = files.contents().into_values();
            files.any(|bytes| String::from_utf8_lossy(&bytes).contains(&kind))
        });
        ear.heard.borrow_mut().push((said.into(), is_there));
    });
    let executor = Executor::new(store, policy, watch, Box::new(clock), answers);
    (executor, preparation, status)
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let value: openexec::core::json::Value = serde_json::from_str(text).expect("counts");
    let object = value.as_object().expect("an object").clone();
    object.into_iter().map(|(code, count)| (code, count.as_u64().expect("a count"))).collect()
}

/// Every refusal is in the file, as itself or in a count.
fn adds_up(flooded: &Flooded) {
    let (refusals, suppressed) = flooded.written();
    for (code, asked) in &flooded.asked {
        let stored = refusals.get(code).copied().unwrap_or(0);
        assert_eq!(stored + suppressed.get(code).copied().unwrap_or(0), *asked, "{code}");
        assert_eq!(flooded.recorded[code], stored, "{code}: what was said of it");
    }
}

/// More refusals than all of the room holds.
const FLOOD: u64 = 2_000;

/// What one that floods stores at once: half of the room, in refusals alone in their batches.
fn share(flooded: &Flooded) -> u64 {
    let line = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("text");
        text.lines().find(|line| line.contains("\"kind\":\"refusal\"")).map(str::len)
    };
    let bytes = flooded.disk.contents().into_values().find_map(line).expect("a refusal");
    REFUSAL_BYTES_HELD.div_ceil(2).div_ceil(price(bytes))
}

#[test]
fn a_flood_neither_fills_nor_hides_and_a_rare_refusal_is_stored() {
    let mut flooded = Flooded::new();
    flooded.ask("idempotent", 0, FLOOD);
    flooded.ask("pure", 0, 1);
    flooded.pass(10);
    flooded.idle();
    let (refusals, suppressed) = flooded.written();
    let stored = refusals["action_not_allowed"];
    assert_eq!(stored, share(&flooded));
    assert_eq!(refusals["approval_missing"], 1, "the rare one");
    assert_eq!(suppressed["action_not_allowed"], FLOOD - stored);
    adds_up(&flooded);
    // What drains is taken by those that still ask: nobody is kept out for the rest of a day.
    flooded.pass(60);
    flooded.ask("idempotent", FLOOD, 500);
    flooded.pass(10);
    flooded.idle();
    assert!(flooded.written().0["action_not_allowed"] > stored, "some of the next minute");
    adds_up(&flooded);
}

/// One agent's flood of requests with a wrong approval, and another agent's for another action.
#[test]
fn one_action_leaves_room_for_another() {
    let mut flooded = Flooded::new();
    flooded.wrongly = true;
    flooded.ask("pure", 0, FLOOD);
    assert!(flooded.recorded["approval_hash_mismatch"] < FLOOD, "it meets its limit");
    let other = flooded.ask_again("once", "another agent");
    assert!(other.contains("\"recorded\":true"), "{other}");
}

/// An agent asks five times a second until its proposal expires; another one asks meanwhile.
#[test]
fn a_waiting_agent_takes_nothing_from_others() {
    let mut flooded = Flooded::new();
    let first = flooded.ask_again("pure", "waits");
    assert!(first.contains("\"recorded\":true"), "{first}");
    flooded.idle();
    let before = flooded.bytes();
    let seconds = i64::from(PENDING_TTL_SECONDS) - 10;
    for second in 0..seconds {
        for _ in 0..5 {
            assert_eq!(flooded.ask_again("pure", "waits"), first, "second {second}");
        }
        flooded.idle();
    }
    assert_eq!(flooded.bytes(), before, "no byte was written for it");
    let other = flooded.ask_again("pure", "another agent");
    assert!(other.contains("\"recorded\":true"), "{other}");
    flooded.restart();
    assert_eq!(flooded.ask_again("pure", "waits"), first, "known after a restart");
    assert_eq!(flooded.written().0["approval_missing"], 2, "each is stored once");
    flooded.pass(11);
    for _ in 0..2 {
        let over = flooded.ask_again("pure", "waits");
        assert!(over.contains("\"code\":\"expired\""), "{over}");
        flooded.restart();
    }
    assert_eq!(flooded.ask_again("pure", "another agent"), other, "nobody else's has");
}

/// Two equal requests in one turn: the second is true only once the first one's batch is on the disk.
#[test]
fn an_equal_refusal_in_the_same_batch_waits_for_it() {
    for (wrongly, kind) in [(true, "refusal"), (false, "proposal")] {
        let heard = equal_in_one_batch(wrongly, kind);
        assert!(heard.iter().all(|body| body.contains("outcome_unknown")), "{heard:?}");
    }
}

fn equal_in_one_batch(wrongly: bool, kind: &'static str) -> Vec<String> {
    let mut flooded = Flooded::new();
    flooded.wrongly = wrongly;
    let ask = flooded.asked_for("pure", "n");
    flooded.heard.kind.set(Some(kind));
    let job = || Job::Execute(flooded.catalogue.proposal(&ask, &flooded.policy));
    let jobs = vec![((), job()), ((), job()), ((), job())];
    flooded.executor.turn(jobs).expect("the store works");
    let heard: Vec<_> =
        flooded.heard.heard.take().into_iter().map(|(answer, is)| (answer.body, is)).collect();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|(body, is_there)| *is_there && *body == heard[0].0), "{heard:?}");
    assert!(heard[0].0.contains("\"recorded\":true"), "{heard:?}");
    assert_eq!(flooded.written().0.into_values().sum::<u64>(), 1);

    // One that fails says so to each of them.
    let ask = Ask { nonce: "m".into(), ..ask };
    let job = || Job::Execute(flooded.catalogue.proposal(&ask, &flooded.policy));
    let jobs = vec![((), job()), ((), job())];
    flooded.disk.fault(Some((crate::disk::Fault::Sync { shows_old: false }, 1)));
    assert!(flooded.executor.turn(jobs).is_err());
    let heard = flooded.heard.heard.take();
    assert_eq!(heard.len(), 2);
    heard.into_iter().map(|(answer, _)| answer.body).collect()
}

/// Restarted again and again, it stores no more than without.
#[test]
fn a_restart_forgets_nothing_of_what_was_stored() {
    let mut flooded = Flooded::new();
    flooded.ask("idempotent", 0, FLOOD);
    let before = flooded.bytes();
    for restart in 1..20 {
        flooded.restart();
        flooded.ask("idempotent", restart * FLOOD, 50);
        flooded.executor.idle().expect("the store works");
    }
    let more = flooded.bytes() - before;
    assert!(more <= 4 * 512, "one record of counts, its seal, and nothing else: {more} bytes");
}

/// What a flood costs the disk when each of its refusals stands alone in a batch, with a seal behind
/// it, and each count of those that are not stored as well: what `REFUSAL_BYTES_PER_DAY` follows from.
#[test]
fn padding_commit_lines_seals_and_counts_are_within_the_day() {
    const HOURS: u64 = 3;
    let mut flooded = Flooded::of(Mode::Clawshield, store::GEOMETRY);
    (flooded.prepares, flooded.wrongly) = (false, true);
    flooded.prepare();
    let before = flooded.bytes();
    for second in 0..HOURS * 3_600 / 2 {
        for action in ["idempotent", "pure", "once"] {
            flooded.ask(action, second, 1);
        }
        flooded.idle();
        flooded.idle();
    }
    let written = flooded.bytes() - before;
    let most = REFUSAL_BYTES_HELD * (HOURS + 1) * 61 / 60;
    assert!((most / 4..=most).contains(&written), "{written} of {most}");
}

#[test]
fn on_a_full_disk_refusals_are_counted_and_the_counts_come_later() {
    let mut flooded = Flooded::new();
    flooded.fill_the_disk();
    flooded.ask("idempotent", 0, 10);
    let before = flooded.bytes();
    flooded.idle();
    assert_eq!(flooded.written().0, BTreeMap::new());
    assert!(flooded.bytes() - before <= 512, "a seal at most");
    flooded.disk.set_capacity(u64::MAX);
    flooded.prepare();
    flooded.ask("pure", 0, 1);
    flooded.idle();
    let (refusals, suppressed) = flooded.written();
    assert_eq!((refusals["approval_missing"], suppressed["action_not_allowed"]), (1, 10));
    adds_up(&flooded);
}

/// One that is promised to execute by itself, with these approvals: the status of the answer.
pub fn promise(flooded: &mut Flooded, approval: Option<usize>) -> u16 {
    promise_under("promised", flooded, approval).status
}

pub fn promise_under(nonce: &str, flooded: &mut Flooded, approval: Option<usize>) -> Answer {
    let (nonce, payload) = (nonce.to_owned(), payload("ok", 0));
    let ask = Ask { action: "once", nonce, payload, approval, asynchronous: true };
    let job = Job::Execute(flooded.catalogue.proposal(&ask, &flooded.policy));
    flooded.turn(vec![job]).pop().expect("an answer")
}

/// What is told 202 counts on what it brought: where there is no room to record that, it is told so.
#[test]
fn on_a_full_disk_nothing_is_promised_that_is_not_recorded() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    flooded.fill_the_disk();
    let one_of_two = flooded.catalogue.approval_of("once") + 3;
    assert_eq!(promise(&mut flooded, Some(one_of_two)), 507);
    assert_eq!(promise(&mut flooded, None), 202, "which promises nothing new");
    let another = promise_under("another", &mut flooded, None);
    assert_eq!(another.status, 507, "pending_full is no reason");
    assert!(another.body.contains("no space on the disk"), "{}", another.body);
    flooded.disk.set_capacity(u64::MAX);
    flooded.prepare();
    assert_eq!(promise(&mut flooded, Some(one_of_two)), 202);
    let proposals = &flooded.executor.store().state().proposals;
    let (id, _) = proposals.oldest_first()[0];
    assert_eq!(proposals.approvals(&id).len(), 1);
}

/// A full disk keeps nothing from ending: neither is its end left out, nor does it execute behind it.
#[test]
fn on_a_full_disk_a_proposal_ends_all_the_same() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    flooded.fill_the_disk();
    flooded.pass(i64::from(PENDING_TTL_SECONDS));
    let both = flooded.catalogue.approval_of("once");
    assert_eq!(promise(&mut flooded, Some(both)), 403);
    assert!(flooded.executor.store().state().proposals.oldest_first().is_empty());
    assert_eq!(flooded.executor.store().state().executions, 0);
}

/// A fresh store has no second segment yet, and one that has just gone on to the next has none either.
#[test]
fn while_the_next_segment_is_being_made_refusals_are_stored() {
    let mut flooded = Flooded::new();
    flooded.prepares = false;
    let first = flooded.ask_again("pure", "first of all");
    assert!(first.contains("\"recorded\":true"), "{first}");
    let is_ready = |flooded: &Flooded| flooded.status.readiness();
    assert_eq!(is_ready(&flooded), Ok(false));
    // But not so many that executions would want for room.
    flooded.ask("pure", 0, FLOOD);
    let half = GEOMETRY.segment_bytes / 2;
    assert!((half * 3 / 4..=half).contains(&flooded.bytes()), "{}", flooded.bytes());
    assert_eq!(is_ready(&flooded), Err("no_space"));
    // The disk is not full, and is not said to be.
    let another = promise_under("another", &mut flooded, None);
    assert_eq!(another.status, 507);
    assert!(another.body.contains("is still being made; ask again"), "{}", another.body);
    flooded.prepare();
    let next = flooded.ask_again("pure", "the next");
    assert!(next.contains("\"recorded\":true"), "{next}");
    assert_eq!(is_ready(&flooded), Ok(false));
    flooded.pass(10);
    flooded.idle();
    assert_eq!(flooded.recorded["approval_missing"], flooded.written().0["approval_missing"]);
}

/// What is refused for want of room or of number is a refusal as any other.
#[test]
fn what_a_full_store_refuses_adds_up_too() {
    let executions_max = 5;
    let mut flooded = Flooded::of(Mode::Demo, Geometry { executions_max, ..GEOMETRY });
    flooded.ask("pure", 0, FLOOD);
    flooded.pass(10);
    flooded.idle();
    assert_eq!(flooded.asked["store_full"], FLOOD - executions_max);
    assert_eq!(flooded.written().0["store_full"], share(&flooded), "some are stored");
    adds_up(&flooded);

    let mut flooded = Flooded::of(Mode::Demo, GEOMETRY);
    flooded.fill_the_disk();
    flooded.ask("idempotent", 0, 500);
    let refused = flooded.asked["store_full"];
    assert!((1..500).contains(&refused), "{refused} for want of room");
    flooded.disk.set_capacity(u64::MAX);
    flooded.prepare();
    flooded.ask("pure", 0, 1);
    flooded.idle();
    assert_eq!(flooded.written().1["store_full"], refused, "without room they are counted");
    adds_up(&flooded);
}
