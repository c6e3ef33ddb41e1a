//! One history: clients, crashes, faults and restarts, and the promises checked after each.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use openexec::core::hash::{Hash, hex, unhex};
use openexec::core::receipt::{self, Outcome};
use openexec::core::record::{Completion, Identity, Mode, Record, Witness};
use openexec::core::stage::How;
use openexec::core::time::Time;
use openexec::core::tree::leaf_hash;
use openexec::evidence::audit::audit;
use openexec::evidence::log::Log;
use openexec::evidence::path;
use openexec::executor::requests::REQUEST_FILE;
use openexec::executor::{Event, Executor, FROZEN_FILE, Said, UNFROZEN_FILE};
use openexec::handlers::Effect;
use openexec::serve::records;
use openexec::store::fault::OpenError;
use openexec::store::open::open;
use openexec::store::segment::Preparation;
use openexec::store::{self, Geometry, Lost, Next, Store};
use openexec::sys::answer::Answer;

use crate::disk::{Crash, Fault, SimDisk};
use crate::handlers::{Outside, outside};
use crate::memory::{Database, Memory};
use crate::random::Random;
use crate::requests::{ACTIONS, Ask, CREATED, Catalogue, payload};

/// Why a history is wrong.
pub type Violation = String;

macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err(format!($($reason)+));
        }
    };
}

/// Small segments, so that they change often. In the first a batch holds the receipt of one claim.
const GEOMETRIES: [Geometry; 3] = [
    Geometry { segment_bytes: 16 * 1024, batch_bytes_max: 5 * 1024, executions_max: 1_000 },
    Geometry { segment_bytes: 32 * 1024, batch_bytes_max: 10 * 1024, executions_max: 1_000 },
    Geometry { segment_bytes: 64 * 1024, batch_bytes_max: 20 * 1024, executions_max: 12 },
];
/// After each start this many of what was answered are asked for, and after the last one all.
const ASKED_AGAIN: usize = 16;

/// How often each of these was met: a simulation that never meets a case proves nothing of it.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    pub starts: u64,
    pub crashes: u64,
    pub crashes_while_opening: u64,
    pub faults: u64,
    pub torn: u64,
    pub poisoned: u64,
    pub executed: u64,
    pub replayed: u64,
    pub refused: u64,
    pub no_space: u64,
    pub store_full: u64,
    pub run_again: u64,
    pub interrupted: u64,
    pub segments: u64,
    pub steps: u64,
    pub clock_behind: u64,
    pub clock_jumped: u64,
    pub fenced: u64,
    pub settled: u64,
    pub proposed: u64,
    /// Completions that were answered as recorded.
    pub completed: u64,
    pub decided: u64,
    pub expired: u64,
    pub promised: u64,
    pub kept: u64,
    /// Approvals that were answered as recorded, and executions that they set off.
    pub approved: u64,
    pub set_off: u64,
    pub refused_then: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.starts += other.starts;
        self.crashes += other.crashes;
        self.crashes_while_opening += other.crashes_while_opening;
        self.faults += other.faults;
        self.torn += other.torn;
        self.poisoned += other.poisoned;
        self.executed += other.executed;
        self.replayed += other.replayed;
        self.refused += other.refused;
        self.no_space += other.no_space;
        self.store_full += other.store_full;
        self.run_again += other.run_again;
        self.interrupted += other.interrupted;
        self.segments += other.segments;
        self.steps += other.steps;
        self.clock_behind += other.clock_behind;
        self.clock_jumped += other.clock_jumped;
        self.fenced += other.fenced;
        self.settled += other.settled;
        self.proposed += other.proposed;
        self.completed += other.completed;
        self.decided += other.decided;
        self.expired += other.expired;
        self.promised += other.promised;
        self.kept += other.kept;
        self.approved += other.approved;
        self.set_off += other.set_off;
        self.refused_then += other.refused_then;
    }
}

pub struct World<'a> {
    random: Random,
    catalogue: &'a Catalogue,
    disk: Arc<SimDisk>,
    /// The records are there, and not in files.
    database: Option<Arc<Database>>,
    /// Another node has taken over in this life.
    is_fenced: bool,
    geometry: Geometry,
    clawshield: bool,
    clock: Arc<Clocks>,
    /// The wall clock went ahead alone in this life, and nobody has unfrozen since.
    has_jumped: bool,
    /// How far the wall clock is ahead of the monotonic one, in seconds, and the most in this life.
    offset: i64,
    reach: i64,
    /// What was answered as stored, by execution: it must never change.
    stored: HashMap<Hash, (u16, String)>,
    /// The receipts of completions that were answered as recorded, in their order.
    completed: Vec<(Hash, Hash)>,
    /// The last digits of the ids of approvals that were answered as recorded.
    approved: HashSet<u64>,
    /// Every attempt, by execution.
    asked: HashMap<Hash, Ask>,
    /// The same in the order of time.
    order: Vec<Hash>,
    /// Which execution has a nonce or an approval, by an answer or by a run with effects.
    owners: HashMap<String, Hash>,
    /// Proposals that were said to be over.
    over: HashSet<Hash>,
    /// Refusals that were said to be recorded.
    refusals: Vec<(Hash, Hash)>,
    tally: Tally,
    /// Some opening has come to its end.
    opened: bool,
    trace: bool,
}

/// Both clocks, in microseconds.
struct Clocks {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl Clocks {
    fn pass(&self, micros: i64) -> (Time, Duration) {
        let wall = self.wall.fetch_add(micros, Ordering::Relaxed) + micros;
        let monotonic = self.monotonic.fetch_add(micros, Ordering::Relaxed) + micros;
        (Time::from_micros(wall), Duration::from_micros(monotonic.unsigned_abs()))
    }
}

type Ticket = usize;
type Job = openexec::executor::Job<Ticket>;

fn receipt_of(id: Hash) -> Job {
    Job::Ask(Box::new(move |executor| records::receipt_of(executor, &id, &None)))
}

fn recorded(id: Hash, receipt: Hash) -> Job {
    Job::Ask(Box::new(move |executor| records::recorded(executor, &id, &receipt, &None).into()))
}

/// One life of the process.
struct Life {
    executor: Executor<Ticket>,
    preparation: Option<Arc<Preparation>>,
    policy: Arc<openexec::core::proposal::Policy>,
    /// Tickets given out and not answered yet.
    open: Rc<RefCell<HashMap<Ticket, Question>>>,
    next: Ticket,
    /// Not looked at yet.
    heard: Rc<RefCell<Vec<Heard>>>,
}

#[derive(Clone, Copy)]
enum Question {
    Execute(Hash),
    Receipt(Hash),
    /// Whether this completion, by its receipt, may be recorded.
    Record(Hash, Hash),
    IsRecorded,
    /// These approvals, by their ids.
    Approve([Option<u64>; 2]),
    /// Nobody reads the answer.
    Judge,
}

/// An answer, and how the world was when it was given.
struct Heard {
    ticket: Ticket,
    answer: Answer,
    /// A write or a sync had failed.
    failed: bool,
    /// The execution it is about had run, with effect.
    ran: bool,
}

/// With files, what makes their segments.
type Opened = (Box<dyn Store>, Option<Arc<Preparation>>);

/// How a part of a life ended.
enum End {
    Going,
    /// The process is dead, or has ended itself.
    Over,
}

pub fn history(seed: u64, catalogue: &Catalogue, trace: bool) -> Result<Tally, Violation> {
    let mut random = Random::new(seed);
    let disk = Arc::new(SimDisk::new(Random::new(random.next())));
    outside(|outside| *outside = Outside { disk: Some(disk.clone()), ..Outside::default() });
    let clawshield = random.chance(40);
    // While the short approvals hold, or after.
    let age = random.pick(&[1, 1, 10_000]);
    let identity = identity(clawshield);
    let database = random.chance(25).then(|| Database::new(&identity, Random::new(random.next())));
    let mut world = World {
        database,
        is_fenced: false,
        geometry: random.pick(&GEOMETRIES),
        random,
        catalogue,
        disk,
        clawshield,
        clock: Arc::new(Clocks {
            wall: AtomicI64::new(CREATED.plus_seconds(age).micros()),
            monotonic: AtomicI64::new(0),
        }),
        has_jumped: false,
        offset: 0,
        reach: 0,
        stored: HashMap::new(),
        completed: Vec::new(),
        approved: HashSet::new(),
        asked: HashMap::new(),
        order: Vec::new(),
        owners: HashMap::new(),
        over: HashSet::new(),
        refusals: Vec::new(),
        tally: Tally::default(),
        opened: false,
        trace,
    };
    world.live()?;
    Ok(world.tally)
}

impl World<'_> {
    fn live(&mut self) -> Result<(), Violation> {
        if self.database.is_none() {
            self.make()?;
        }
        if self.random.chance(25) {
            self.disk.set_capacity(self.disk.used() + self.random.below(40_000));
        }
        for _ in 0..1 + self.random.below(4) {
            self.arm();
            self.life(false)?;
            self.end_of_life();
        }
        // At last everything works, and everything must be there.
        self.disk.set_capacity(u64::MAX);
        self.disk.set_file(FROZEN_FILE, None);
        self.life(true)?;
        self.audit()
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", what());
        }
    }

    /// Makes the store, however often the process dies at it.
    fn make(&mut self) -> Result<(), Violation> {
        self.disk.fault(None);
        let identity = identity(self.clawshield);
        for attempt in 0.. {
            match store::open::identity(self.disk.as_ref(), self.geometry) {
                Ok(found) => {
                    ensure!(found == identity, "a store of another identity: {found:?}");
                    // A crash that the making did not come to is not for whoever opens it next.
                    self.disk.crash_in(None);
                    return Ok(());
                }
                Err(OpenError::Absent) => {}
                Err(error) => return Err(format!("while being made: {error}")),
            }
            if attempt < 3 && self.random.chance(40) {
                self.disk.crash_in(Some(1 + self.random.below(8)));
            }
            let made = store::make(self.disk.as_ref(), self.geometry, &identity);
            self.note(|| format!("made: {made:?}"));
            if made.is_err() || self.disk.is_dead() || self.random.chance(20) {
                self.end_of_life();
            }
        }
        Ok(())
    }

    /// Chooses how this life will be disturbed.
    fn arm(&mut self) {
        let random = &mut self.random;
        let crash = random.chance(80).then(|| 1 + random.below(30));
        let fault = random.chance(35).then(|| {
            let kinds = [
                (Fault::Write, 30),
                (Fault::Sync { shows_old: false }, 20),
                (Fault::Sync { shows_old: true }, 20),
                (Fault::Read, 60),
                (Fault::Name, 8),
                (Fault::SyncDirectory, 3),
            ];
            let (kind, within) = random.pick(&kinds);
            // Often while it opens.
            (kind, 1 + if random.chance(30) { random.below(3) } else { random.below(within) })
        });
        let dies_in = random.chance(25).then(|| 1 + random.below(6));
        self.note(|| format!("-- life: crash {crash:?}, fault {fault:?}, dies in run {dies_in:?}"));
        self.disk.crash_in(crash);
        self.disk.fault(fault);
        outside(|outside| outside.dies_in = dies_in);
    }

    fn end_of_life(&mut self) {
        if self.disk.is_dead() {
            self.tally.crashes += 1;
        }
        let crash = if self.random.chance(65) { Crash::Power } else { Crash::Kill };
        self.note(|| format!("-- ends: {crash:?}"));
        self.disk.restart(crash);
        outside(|outside| outside.dies_in = None);
    }

    /// The store, whoever has it; none where this start failed as it may.
    fn open(&mut self, last: bool) -> Result<Option<Opened>, Violation> {
        let (disk, geometry) = (self.disk.clone(), self.geometry);
        if let Some(database) = &self.database {
            return Ok(Some((Box::new(Memory::open(database, &disk, geometry)), None)));
        }
        let before = self.trace.then(|| disk.contents());
        disk.set_opening(true);
        let opened = open(disk.clone(), geometry, &mut |_, _| {});
        disk.set_opening(false);
        let (store, torn) = match opened {
            Ok(opened) => opened,
            Err(error) if disk.is_dead() => {
                self.note(|| format!("died while opening: {error}"));
                self.tally.crashes_while_opening += 1;
                return Ok(None);
            }
            Err(OpenError::Disk { .. }) if disk.watched().any_failed => {
                self.tally.faults += 1;
                return Ok(None);
            }
            // It was made, but its name was not synced, and no opening has done that yet.
            Err(OpenError::Absent) if !self.opened => {
                self.disk.crash_in(None);
                self.make()?;
                return if last { self.open(last) } else { Ok(None) };
            }
            Err(error) => {
                if let Some(before) = before {
                    dump(&before);
                }
                return Err(format!("refused to open: {error}"));
            }
        };
        if torn.is_some() {
            self.note(|| format!("torn: {torn:?}"));
            self.tally.torn += 1;
        }
        self.opened = true;
        let preparation = store.preparation();
        Ok(Some((Box::new(store), Some(preparation))))
    }

    fn life(&mut self, last: bool) -> Result<(), Violation> {
        self.tally.starts += 1;
        (self.has_jumped, self.reach, self.is_fenced) = (false, self.offset, false);
        let (disk, geometry) = (self.disk.clone(), self.geometry);
        let Some((store, preparation)) = self.open(last)? else { return Ok(()) };
        disk.watch();
        if !last && self.random.chance(15) {
            self.disk.set_file(FROZEN_FILE, Some("at the start"));
        }
        let clock = {
            let (now, mut random) = (self.clock.clone(), self.random.clone());
            let random = std::sync::Mutex::new({
                random.next();
                random
            });
            // Now and then seconds pass between two looks at it.
            Box::new(move || {
                let mut random = random.lock().expect("one thread");
                let step = if random.chance(3) { 7_000_000 } else { 1 + random.below(500) as i64 };
                now.pass(step)
            })
        };
        let policy = self.catalogue.policy(self.clawshield, !last && self.random.chance(30));
        let open: Rc<RefCell<HashMap<Ticket, Question>>> = Rc::default();
        let heard: Rc<RefCell<Vec<Heard>>> = Rc::default();
        let answers = {
            let (open, heard, disk) = (open.clone(), heard.clone(), disk.clone());
            Box::new(move |ticket, said: Said| {
                // Nobody hears a dead process.
                if !disk.is_dead() {
                    let ran = match open.borrow().get(&ticket) {
                        Some(Question::Execute(id) | Question::Receipt(id)) => has_run(id),
                        _ => false,
                    };
                    let failed = disk.watched().segment_failed;
                    heard.borrow_mut().push(Heard { ticket, answer: said.into(), failed, ran });
                }
            })
        };
        let watch = Box::new(|_: Event| {});
        let executor = Executor::new(store, policy.clone(), watch, clock, answers);
        let mut life = Life { preparation, executor, policy, open, next: 0, heard };
        let recovered = life.executor.recover();
        if disk.is_dead() {
            return self.check_outside();
        }
        if let Err(lost) = recovered {
            ensure!(disk.watched().any_failed, "recovery failed on a good disk: {lost}");
            self.tally.poisoned += 1;
            if self.database.is_none() {
                return Ok(());
            }
            if let End::Over = self.settle(&mut life, lost)? {
                return self.check_outside();
            }
        }
        self.check_outside()?;
        if self.random.chance(50) {
            // Before anything was recorded of the freeze.
            self.disk.set_file(FROZEN_FILE, None);
        }
        if let End::Over = self.check_all(&mut life, last)? {
            return Ok(());
        }
        let steps = if last { 3 } else { 2 + self.random.below(10) };
        if self.random.chance(50) {
            self.prepare_segment(&life);
        }
        for _ in 0..steps {
            if let End::Over = self.step(&mut life, last)? {
                return self.check_outside();
            }
            self.check_outside()?;
        }
        if let End::Over = self.flush(&mut life)? {
            return self.check_outside();
        }
        if last {
            self.check_it_works(&mut life)?;
            self.tally.segments += life.executor.store().room().used / geometry.segment_bytes;
        }
        Ok(())
    }

    /// Somebody leaves an approval of what was asked, and the helper finds it.
    fn approve(&mut self, life: &mut Life) -> Result<End, Violation> {
        if self.order.is_empty() || !self.clawshield {
            return Ok(End::Going);
        }
        if let End::Over = self.flush(life)? {
            return Ok(End::Over);
        }
        // Often of what is pending.
        let pending = life.executor.store().state().proposals.oldest_first();
        let pending: Vec<Hash> = pending.into_iter().map(|(id, _)| id).collect();
        let id = if pending.is_empty() || self.random.chance(20) {
            self.random.pick(&self.order)
        } else {
            self.random.pick(&pending)
        };
        if self.random.chance(50) {
            return self.post(life, &id);
        }
        let files = self.catalogue.dropped(&mut self.random, &id, &self.asked[&id]);
        let state = life.executor.store().state();
        let may = state.proposals.get(&id).is_some_and(|pending| pending.asynchronous);
        let before = state.executions;
        let ticket = life.next;
        life.next += 1;
        life.open.borrow_mut().insert(ticket, Question::Judge);
        self.note(|| format!("  {ticket}: an approval for {}", hex(&id)));
        let end = self.turn(life, vec![(ticket, Job::Judge { id, files })])?;
        let executed = life.executor.store().state().executions - before;
        ensure!(executed == 0 || may, "{} was promised to nobody, and executes", hex(&id));
        self.tally.kept += u64::from(executed);
        Ok(end)
    }

    /// Somebody posts approvals of what was asked: recorded of one that is pending, or of none.
    fn post(&mut self, life: &mut Life, id: &Hash) -> Result<End, Violation> {
        let ask = &self.asked[id];
        let hash = receipt::action_hash(ask.action, &ask.payload);
        let state = life.executor.store().state();
        let all = state.proposals.oldest_first().into_iter();
        let meant: Vec<_> = all.filter(|(_, pending)| pending.action_hash == hash).collect();
        let may = meant.len() == 1 && meant[0].1.asynchronous;
        let before = state.executions;
        let Some(posted) = self.posted(life, id) else { return Ok(End::Going) };
        let end = self.turn(life, vec![posted])?;
        let executed = life.executor.store().state().executions - before;
        ensure!(executed == 0 || may, "{} was promised to nobody, and executes", hex(id));
        self.tally.set_off += u64::from(executed);
        Ok(end)
    }

    fn posted(&mut self, life: &mut Life, id: &Hash) -> Option<(Ticket, Job)> {
        let posted = self.catalogue.posted(&mut self.random, &self.asked[id])?;
        let ticket = life.next;
        life.next += 1;
        let mut ids = posted.artifacts().iter().map(|one| last_digits(one.approval_id()));
        life.open.borrow_mut().insert(ticket, Question::Approve([ids.next(), ids.next()]));
        self.note(|| format!("  {ticket}: approvals of {}", hex(id)));
        Some((ticket, Job::Approve(Box::new(posted), Arc::new(|_, _| true))))
    }

    fn step(&mut self, life: &mut Life, last: bool) -> Result<End, Violation> {
        if self.random.chance(35)
            && let End::Over = self.approve(life)?
        {
            return Ok(End::Over);
        }
        match self.random.below(if last { 80 } else { 100 }) {
            0..60 => {
                let jobs = (0..self.random.below(6)).map(|_| self.question(life)).collect();
                self.turn(life, jobs)
            }
            60..70 => {
                self.prepare_segment(life);
                if let Some(database) = &self.database
                    && !last
                    && self.random.chance(20)
                {
                    database.take_over();
                    self.is_fenced = true;
                }
                Ok(End::Going)
            }
            70..80 => self.idle(life),
            80..86 => {
                self.change_freeze();
                Ok(End::Going)
            }
            86..89 => {
                let seconds = self.random.pick(&[1, 5, 20, 61, 3_600]);
                self.clock.pass(seconds * 1_000_000);
                Ok(End::Going)
            }
            89..92 => {
                // What was decided before may be answered after; what is decided after may not.
                if let End::Over = self.flush(life)? {
                    return Ok(End::Over);
                }
                // A service at rest looks each second: before the step, and once more where the first
                // look was the end of a stop, and after it.
                for _ in 0..2 {
                    if let End::Over = self.idle(life)? {
                        return Ok(End::Over);
                    }
                }
                let seconds = self.random.pick(&[-5, -200, -200, -3_600, 20, 200, 3_600]);
                self.note(|| format!("the wall clock steps by {seconds} s"));
                self.clock.wall.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
                self.offset += seconds;
                self.has_jumped |= self.offset > self.reach + 60;
                self.reach = self.reach.max(self.offset);
                self.tally.steps += 1;
                self.idle(life)
            }
            92..97 => {
                self.disk.set_capacity(self.disk.used() + self.random.below(40_000));
                Ok(End::Going)
            }
            _ => {
                self.disk.set_capacity(u64::MAX);
                Ok(End::Going)
            }
        }
    }

    fn change_freeze(&mut self) {
        if !self.order.is_empty() && self.random.chance(30) {
            let (line, ..) = self.completion(Witness::Operator);
            self.disk.set_file(REQUEST_FILE, Some(&line));
        }
        let reason = self.random.pick(&[None, Some("maintenance\n"), None]);
        self.note(|| format!("freeze file: {reason:?}"));
        self.has_jumped = false;
        self.disk.set_file(FROZEN_FILE, reason);
        // As `unfreeze` leaves it, of this stop or of one that nobody saw.
        if self.random.chance(50) {
            self.note(|| "a stop that is over".to_owned());
            self.disk.set_file(UNFROZEN_FILE, Some("it was short\n"));
        }
    }

    fn prepare_segment(&mut self, life: &Life) {
        let Some(preparation) = &life.preparation else { return };
        let stepped = preparation.step(self.disk.as_ref(), self.geometry.segment_bytes);
        let failure = preparation.failure();
        self.note(|| format!("prepared: {stepped} {failure:?}"));
    }

    /// Of anything that was ever asked for, whatever became of it.
    fn completion(&mut self, by: Witness) -> (String, Hash, Hash) {
        let id = self.random.pick(&self.order);
        let note = self.random.below(3);
        let (outcomes, result) = match by {
            Witness::Worker => (3, format!("{{\"n\":{note}}}")),
            Witness::Operator => (2, format!("{{\"note\":\"{note}\"}}")),
        };
        let outcome = Outcome::ALL[self.random.below(outcomes) as usize];
        let said = Completion::of(CREATED, id, by, outcome, &result);
        (said.line(), id, said.receipt)
    }

    fn question(&mut self, life: &mut Life) -> (Ticket, Job) {
        // In one batch with claims, also of the same.
        if self.clawshield && !self.order.is_empty() && self.random.chance(10) {
            let id = self.random.pick(&self.order);
            if let Some(posted) = self.posted(life, &id) {
                return posted;
            }
        }
        let ticket = life.next;
        life.next += 1;
        if !self.order.is_empty() && self.random.chance(10) {
            let (line, id, receipt) = self.completion(Witness::Worker);
            life.open.borrow_mut().insert(ticket, Question::Record(id, receipt));
            return (ticket, Job::Record(line));
        }
        if self.random.chance(90) || self.asked.is_empty() {
            let nonces = 24;
            // Often somebody repeats an attempt exactly.
            let ask = if !self.order.is_empty() && self.random.chance(40) {
                self.asked[&self.random.pick(&self.order)].clone()
            } else {
                self.catalogue.ask(&mut self.random, nonces, self.clawshield)
            };
            let proposal = self.catalogue.proposal(&ask, &life.policy);
            self.note(|| format!("  {ticket}: {} {} {}", ask.nonce, ask.action, hex(&proposal.id)));
            life.open.borrow_mut().insert(ticket, Question::Execute(proposal.id));
            if self.asked.insert(proposal.id, ask).is_none() {
                self.order.push(proposal.id);
            }
            (ticket, Job::Execute(proposal))
        } else {
            let id = self.random.pick(&self.order);
            life.open.borrow_mut().insert(ticket, Question::Receipt(id));
            (ticket, receipt_of(id))
        }
    }

    fn turn(&mut self, life: &mut Life, jobs: Vec<(Ticket, Job)>) -> Result<End, Violation> {
        let result = life.executor.turn(jobs);
        self.after(life, result)
    }

    fn idle(&mut self, life: &mut Life) -> Result<End, Violation> {
        if let End::Over = self.flush(life)? {
            return Ok(End::Over);
        }
        let settled = self.tally.settled;
        let result = life.executor.idle();
        ensure!(life.heard.borrow().is_empty(), "an answer to nobody");
        let end = self.after(life, result)?;
        let files = self.disk.contents();
        let is_frozen = files.contains_key(FROZEN_FILE);
        let store = life.executor.store();
        if matches!(end, End::Going)
            && store.room().next == Next::Ready
            && !self.disk.watched().any_failed
        {
            ensure!(!files.contains_key(UNFROZEN_FILE), "a stop that is over is not recorded");
            ensure!(store.state().frozen == is_frozen, "the last record of a stop is wrong");
        }
        if matches!(end, End::Going) && store.room().next == Next::Ready {
            let state = store.state();
            let now = Time::from_micros(self.clock.wall.load(Ordering::Relaxed));
            let due = state.proposals.due(now.plus_seconds(-60)).count();
            let may_wait = state.clock.fault(now).is_some() || self.disk.watched().any_failed;
            // What the database did not take is recorded by the next look.
            let may_wait = may_wait || self.tally.settled > settled;
            ensure!(due == 0 || may_wait, "{due} proposals should have expired");
        }
        if matches!(end, End::Going) && !is_frozen && !self.disk.watched().any_failed {
            let owes = life.executor.store().state().debt().0 > 0;
            ensure!(!owes, "nothing is frozen, and a claim waits");
        }
        Ok(end)
    }

    /// Turns without new requests, as long as something is staged.
    fn flush(&mut self, life: &mut Life) -> Result<End, Violation> {
        while life.executor.has_staged() {
            if let End::Over = self.turn(life, Vec::new())? {
                return Ok(End::Over);
            }
        }
        ensure!(
            life.open.borrow().is_empty(),
            "{} questions were never answered",
            life.open.borrow().len()
        );
        Ok(End::Going)
    }

    fn after(&mut self, life: &mut Life, result: Result<(), Lost>) -> Result<End, Violation> {
        for heard in life.heard.take() {
            self.take_answer(life, &heard)?;
        }
        if self.disk.is_dead() {
            self.note(|| "dead".to_owned());
            return Ok(End::Over);
        }
        let watched = self.disk.watched();
        ensure!(!watched.written_after_failure, "a segment was written after a failure");
        let Err(lost) = result else { return Ok(End::Going) };
        self.note(|| format!("lost: {lost:?}"));
        self.tally.poisoned += 1;
        ensure!(
            life.open.borrow().is_empty(),
            "{} were left waiting by a failed store",
            life.open.borrow().len()
        );
        if self.database.is_some() {
            return self.settle(life, lost);
        }
        ensure!(watched.any_failed, "poisoned on a good disk: {lost}");
        if !watched.segment_failed && !watched.directory_failed {
            // A record could not be read: nothing is in doubt.
            return Ok(End::Over);
        }
        // It takes no more, whoever asks.
        let (ticket, job) = self.question(life);
        let is_attempt = matches!(job, Job::Execute(_));
        let result = life.executor.turn(vec![(ticket, job)]);
        let watched = self.disk.watched();
        ensure!(!watched.written_after_failure, "a segment was written after a failure");
        let heard = life.heard.take().pop();
        if self.disk.is_dead() && heard.is_none() {
            // Within the run of a pure handler, which is before its claim is written.
            return Ok(End::Over);
        }
        let Heard { answer, .. } = heard.ok_or("a failed store left a question unanswered")?;
        let is_news = is_attempt && field(&answer.body, "outcome").is_some() && !answer.replayed;
        ensure!(!is_news, "a failed store took another batch: {result:?} {}", answer.body);
        Ok(End::Over)
    }

    /// The database can be asked what it has: then the same process goes on.
    fn settle(&mut self, life: &mut Life, lost: Lost) -> Result<End, Violation> {
        if let Lost::Fenced(_) = lost {
            ensure!(self.is_fenced, "fenced by nobody");
            self.tally.fenced += 1;
            return Ok(End::Over);
        }
        ensure!(self.disk.watched().any_failed, "lost on a good disk: {lost}");
        let settled = life.executor.settle(lost, &mut || {});
        self.note(|| format!("settled: {settled:?}"));
        self.check_outside()?;
        if self.disk.is_dead() || settled.is_err() {
            return Ok(End::Over);
        }
        self.tally.settled += 1;
        self.disk.watch();
        Ok(End::Going)
    }

    /// Something may have failed.
    fn is_disturbed(&self) -> bool {
        self.disk.watched().any_failed || self.is_fenced
    }

    /// Holds one answer to everything that was answered and done before.
    fn take_answer(&mut self, life: &mut Life, heard: &Heard) -> Result<(), Violation> {
        let Heard { ticket, answer, failed, ran } = heard;
        self.note(|| format!("    {ticket} <- {} {}", answer.status, answer.body));
        let question = life.open.borrow_mut().remove(ticket);
        let question = question.ok_or(format!("{ticket} was answered twice"))?;
        let code = field(&answer.body, "code");
        if let (Question::Record(id, receipt), None) = (question, answer.code) {
            self.completed.push((id, receipt));
            self.tally.completed += 1;
        }
        if *failed && !matches!(question, Question::Judge) {
            ensure!(
                matches!(code, Some("outcome_unknown" | "store_unavailable")),
                "answered after a failed write or sync: {}",
                answer.body
            );
        }
        let id = match question {
            Question::Execute(id) => id,
            Question::Receipt(id) => {
                let is_stored = field(&answer.body, "outcome").is_some();
                if self.stored.contains_key(&id) {
                    let may_fail = self.is_disturbed() && code == Some("store_unavailable");
                    ensure!(is_stored || may_fail, "lost: {}", answer.body);
                }
                if is_stored {
                    self.take_stored(id, answer)?;
                } else {
                    let forgotten = *ran && answer.status == 404;
                    ensure!(!forgotten, "{} ran, and its claim is not stored", hex(&id));
                }
                return Ok(());
            }
            Question::Judge | Question::Record(..) => return Ok(()),
            Question::Approve(ids) => {
                if answer.status == 200 {
                    self.approved.extend(ids.into_iter().flatten());
                    self.tally.approved += 1;
                }
                return Ok(());
            }
            Question::IsRecorded => {
                ensure!(
                    answer.body.contains("\"recorded\":true") || code == Some("store_unavailable"),
                    "a recorded refusal is forgotten: {}",
                    answer.body
                );
                return Ok(());
            }
        };
        if field(&answer.body, "outcome").is_some() {
            if answer.replayed {
                self.tally.replayed += 1;
            } else {
                let may = !self.clawshield || !self.has_jumped;
                ensure!(may, "executed though the clock had jumped: {}", answer.body);
            }
            return self.take_stored(id, answer);
        }
        ensure!(answer.status != 200 && !answer.replayed, "no outcome: {}", answer.body);
        if answer.status == 202 {
            self.tally.promised += 1;
            let is_over = self.over.contains(&id) || self.stored.contains_key(&id) || *ran;
            ensure!(!is_over, "{} is promised though it is over", hex(&id));
            return Ok(());
        }
        match code {
            Some("clock_behind") => self.tally.clock_behind += 1,
            Some("clock_jumped") => self.tally.clock_jumped += 1,
            Some("expired" | "refused") => {
                self.over.insert(id);
            }
            // A store that failed says nothing of what it holds, of what is over neither.
            Some("outcome_unknown" | "store_unavailable") => {
                ensure!(self.is_disturbed(), "on a good disk: {}", answer.body);
                return Ok(());
            }
            Some(code) if self.over.contains(&id) => {
                return Err(format!("{} is over, and was answered {code}", hex(&id)));
            }
            // A claim that waits for `unfreeze`.
            Some("frozen") if !answer.body.contains("\"approved\":false") => return Ok(()),
            Some("store_full") => {
                ensure!(answer.status == 507, "{}", answer.body);
                if answer.body.contains("no space") {
                    self.tally.no_space += 1;
                } else {
                    self.tally.store_full += 1;
                }
            }
            _ => {}
        }
        self.tally.refused += 1;
        ensure!(answer.body.contains("\"approved\":false"), "neither: {}", answer.body);
        ensure!(!self.stored.contains_key(&id), "refused what was executed: {}", answer.body);
        ensure!(!ran, "refused what has run: {}", answer.body);
        if answer.body.contains("\"recorded\":true") {
            let receipt = field(&answer.body, "receipt").and_then(unhex);
            self.refusals.push((id, receipt.ok_or("a refusal without a receipt")?));
        }
        Ok(())
    }

    /// An answer that says how an execution ended.
    fn take_stored(&mut self, id: Hash, answer: &Answer) -> Result<(), Violation> {
        let ask = &self.asked[&id];
        let outcome = field(&answer.body, "outcome").unwrap_or_default();
        if let Some((status, body)) = self.stored.get(&id) {
            ensure!(
                (*status, body.as_str()) == (answer.status, answer.body.as_str()),
                "the answer changed from {body} to {}",
                answer.body
            );
            return Ok(());
        }
        let hex_id = hex(&id);
        ensure!(!self.over.contains(&id), "{hex_id} was over, and is executed");
        ensure!(field(&answer.body, "id") == Some(&hex_id), "of another: {}", answer.body);
        let runs = outside(|outside| outside.runs.get(&hex_id).copied());
        let runs = runs.unwrap_or_default();
        let interrupted = field(&answer.body, "detail").is_some_and(|d| d.contains("interrupted"))
            || answer.body.contains("The process ended");
        if interrupted {
            self.tally.interrupted += 1;
        } else {
            ensure!(runs.first + runs.again > 0, "never ran: {}", answer.body);
        }
        if outcome == "executed" {
            ensure!(answer.status == 200 && ask.payload.contains("\"ok\""), "{}", answer.body);
            let result = format!("{{\"text\":\"{hex_id}\"}}");
            ensure!(answer.body.contains(&result), "another result: {}", answer.body);
            let receipt = hex(&receipt::receipt(&hex_id, &result));
            ensure!(field(&answer.body, "receipt") == Some(&receipt), "{}", answer.body);
            self.tally.executed += 1;
        } else {
            ensure!(answer.status == 500, "{}", answer.body);
            ensure!(!answer.body.contains("\"approved\""), "{}", answer.body);
        }
        self.tally.run_again += u64::from(runs.again);
        let other = *self.owners.entry(ask.nonce.clone()).or_insert(id);
        ensure!(other == id, "{} executed {} and {hex_id}", ask.nonce, hex(&other));
        self.stored.insert(id, (answer.status, answer.body.clone()));
        Ok(())
    }

    /// What the handlers themselves saw.
    fn check_outside(&mut self) -> Result<(), Violation> {
        outside(|outside| match outside.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        })?;
        let with_effect: Vec<Hash> = outside(|outside| {
            let effect = |effect: Option<Effect>| effect.is_some_and(|e| e != Effect::Pure);
            let ran = outside.runs.iter().filter(|(_, runs)| effect(runs.effect));
            ran.filter_map(|(id, _)| unhex(id)).collect()
        });
        for id in with_effect {
            let nonce = self.asked[&id].nonce.clone();
            let other = *self.owners.entry(nonce.clone()).or_insert(id);
            ensure!(other == id, "{nonce} ran {} and {}", hex(&other), hex(&id));
        }
        Ok(())
    }

    /// Everything that was ever answered or done is asked for.
    fn check_all(&mut self, life: &mut Life, last: bool) -> Result<End, Violation> {
        let state = life.executor.store().state();
        for (id, owed) in state.owed().values() {
            let again = outside(|o| o.runs.get(&hex(id)).map_or(0, |runs| runs.again));
            ensure!(again == 0 || owed.retried, "{} ran again without a record", hex(id));
        }
        let ids = &self.order;
        let pending: Vec<Hash> =
            state.proposals.oldest_first().into_iter().map(|(id, _)| id).collect();
        for id in ids.iter().filter(|id| !pending.contains(id)) {
            ensure!(life.executor.blocked(id).is_none(), "{} is over, and blocked", hex(id));
        }
        let mut jobs = Vec::new();
        let some = if last { ids.len() } else { ASKED_AGAIN };
        let from = self.random.below(ids.len() as u64 + 1) as usize;
        for id in ids.iter().cycle().skip(from).take(some.min(ids.len())).copied() {
            let ticket = life.next;
            life.next += 1;
            if self.stored.contains_key(&id) && self.random.chance(20) {
                let proposal = self.catalogue.proposal(&self.asked[&id], &life.policy);
                life.open.borrow_mut().insert(ticket, Question::Execute(id));
                jobs.push((ticket, Job::Execute(proposal)));
            } else {
                life.open.borrow_mut().insert(ticket, Question::Receipt(id));
                jobs.push((ticket, receipt_of(id)));
            }
        }
        let refusals = if last { usize::MAX } else { ASKED_AGAIN };
        for (id, receipt) in self.refusals.iter().rev().take(refusals) {
            let ticket = life.next;
            life.next += 1;
            life.open.borrow_mut().insert(ticket, Question::IsRecorded);
            jobs.push((ticket, recorded(*id, *receipt)));
        }
        let asked_again: HashMap<Ticket, Hash> = jobs
            .iter()
            .filter_map(|(ticket, job)| match job {
                Job::Execute(proposal) => Some((*ticket, proposal.id)),
                _ => None,
            })
            .collect();
        let (before, settled) = (self.tally.replayed, self.tally.settled);
        let end = self.turn(life, jobs)?;
        let replays = self.tally.replayed - before;
        if let End::Going = end
            && !self.disk.watched().any_failed
            && self.tally.settled == settled
        {
            ensure!(replays == asked_again.len() as u64, "an answer that was there is no replay");
        }
        Ok(end)
    }

    /// With a good disk, space and time, a fresh attempt is executed.
    fn check_it_works(&mut self, life: &mut Life) -> Result<(), Violation> {
        self.prepare_segment(life);
        ensure!(
            life.executor.store().room().next == Next::Ready,
            "no segment is prepared on a good disk"
        );
        ensure!(life.executor.store().state().owed().is_empty(), "a claim is owed for ever");
        if self.clawshield || life.executor.store().room().is_full {
            return Ok(());
        }
        let ask = Ask {
            action: self.random.pick(&ACTIONS),
            nonce: "the last".to_owned(),
            payload: payload("ok", 0),
            approval: None,
            asynchronous: false,
        };
        let proposal = self.catalogue.proposal(&ask, &life.policy);
        let (id, ticket) = (proposal.id, life.next);
        life.next += 1;
        self.asked.insert(id, ask);
        life.open.borrow_mut().insert(ticket, Question::Execute(id));
        self.turn(life, vec![(ticket, Job::Execute(proposal))])?;
        self.flush(life)?;
        ensure!(self.stored.get(&id).is_some_and(|(status, _)| *status == 200), "it does not work");
        Ok(())
    }

    /// Reads the records for what no answer shows.
    fn audit(&mut self) -> Result<(), Violation> {
        let mut retries: HashMap<Hash, u32> = HashMap::new();
        let mut nonces = HashSet::new();
        let (mut approvals, mut pending) = (HashSet::new(), HashSet::new());
        let (mut newest, mut recorded) = (CREATED, HashSet::new());
        let (mut ended, mut completions) = (HashMap::new(), HashMap::new());
        let texts = match &self.database {
            Some(database) => vec![database.lines().join("\n")],
            None => segments(&self.disk)?,
        };
        for text in texts {
            for line in text.lines().filter(|line| !line.is_empty()) {
                let record = Record::read(line);
                if let Some(record) = &record {
                    newest = match record {
                        Record::Unfreeze(end) => end.at,
                        record => newest.max(record.at()),
                    };
                }
                match record {
                    Some(Record::Proposal(asked)) => {
                        self.tally.proposed += 1;
                        pending.insert(asked.id);
                    }
                    Some(Record::Closed(closed)) => {
                        self.tally.expired += u64::from(closed.how == How::Expired);
                        self.tally.refused_then += u64::from(closed.how == How::Refused);
                    }
                    Some(Record::Receipt(receipt)) => {
                        ended.insert(receipt.id, receipt.outcome);
                    }
                    Some(Record::Completion(said)) => {
                        let of = ended.get(&said.id).ok_or("a completion without a receipt")?;
                        ensure!(*of != Outcome::Failed, "of what failed: {line}");
                        let all: &mut Vec<_> = completions.entry(said.id).or_default();
                        let replaces = |(known, _): &(Outcome, Hash)| {
                            *known == Outcome::Indeterminate && said.outcome != *known
                        };
                        ensure!(all.last().is_none_or(replaces), "it stands already: {line}");
                        all.push((said.outcome, said.receipt));
                    }
                    Some(Record::Approval(approval)) => {
                        let id = approval.approval_id().ok_or("an approval without an id")?;
                        ensure!(recorded.insert(last_digits(&id)), "recorded twice: {line}");
                    }
                    Some(Record::Retry(retry)) => *retries.entry(retry.id).or_default() += 1,
                    Some(Record::Claim(claim)) => {
                        ensure!(nonces.insert(claim.nonce.to_string()), "claimed twice: {line}");
                        self.tally.decided += u64::from(pending.contains(&claim.id));
                        for approval in claim.approval_ids().ok_or("no approvals")? {
                            ensure!(approvals.insert(approval), "spent twice: {line}");
                        }
                        self.audit_time(&claim)?;
                        // A receipt may be written between its decision and itself, a look later.
                        let believed = !self.clawshield || claim.at.plus_seconds(120) >= newest;
                        ensure!(believed, "claimed at {}, and it was {newest}", claim.at);
                    }
                    _ => {}
                }
            }
        }
        for (id, receipt) in &self.completed {
            let kept = completions.get(id).is_some_and(|all| all.iter().any(|(_, r)| r == receipt));
            ensure!(kept, "a completion of {} was answered, and is not there", hex(id));
        }
        let lost = self.approved.difference(&recorded).count();
        ensure!(lost == 0, "{lost} approvals were answered, and are not there");
        if let Some(database) = &self.database {
            self.prove(database)?;
        } else {
            let audited = audit(self.disk.as_ref(), self.geometry, None, None, &mut |_, _| {});
            let summary = audited.map_err(|error| format!("the audit: {error}"))?;
            ensure!(summary.owed == 0 && !summary.unfinished_tail, "unfinished: {summary:?}");
        }
        outside(|outside| {
            for (id, runs) in &outside.runs {
                let records = unhex(id).and_then(|id| retries.get(&id)).copied().unwrap_or(0);
                ensure!(runs.again <= records, "{id} ran again {} times: {records}", runs.again);
            }
            Ok(())
        })
    }

    /// A proof of any record, from any store.
    fn prove(&self, database: &Database) -> Result<(), Violation> {
        let head = database.head();
        let (mut random, failed) = (self.random.clone(), |error| format!("no proof: {error}"));
        for _ in 0..5 {
            let (index, line) = database.find(random.below(head.size)).map_err(failed)?;
            let proof = path::inclusion(database, index, head.size).map_err(failed)?;
            let leaf = leaf_hash(line.as_bytes());
            ensure!(path::includes(&head, index, &leaf, &proof), "{index} is not in {head:?}");
        }
        Ok(())
    }

    /// The approvals of a claim hold at the claim's own time: what `openexec verify` asks.
    fn audit_time(&self, claim: &openexec::core::record::Claim) -> Result<(), Violation> {
        if &*claim.approval == "null" {
            return Ok(());
        }
        for expires in claim.approval.split("\"expires_at\":\"").skip(1) {
            let text = expires.split('"').next().unwrap_or_default();
            let expires = Time::parse(text).ok_or("no time")?;
            ensure!(claim.at < expires, "claimed at {} what expired at {expires}", claim.at);
        }
        Ok(())
    }
}

/// What tells one approval of the catalogue from another.
fn last_digits(approval_id: &str) -> u64 {
    u64::from_str_radix(&approval_id[24..], 16).expect("hexadecimal digits")
}

/// The text of each segment.
fn segments(disk: &SimDisk) -> Result<Vec<String>, Violation> {
    let files = disk.contents().into_iter().filter(|(name, _)| name.ends_with(".jsonl"));
    let text = |(_, bytes): (String, Vec<u8>)| {
        // Sector by sector: most of a segment is blank.
        let blank = [b'\n'; 512];
        let written = bytes.chunks(512).rposition(|sector| sector != &blank[..sector.len()]);
        let written = written.map_or(0, |last| (last + 1) * 512).min(bytes.len());
        String::from_utf8(bytes[..written].to_vec()).map_err(|_| "not UTF-8".to_owned())
    };
    files.map(text).collect()
}

fn identity(clawshield: bool) -> Identity {
    let mode = if clawshield { Mode::Clawshield } else { Mode::Demo };
    Identity { store: "0123456789abcdef".repeat(2), mode, created: CREATED }
}

fn has_run(id: &Hash) -> bool {
    let effect = outside(|outside| outside.runs.get(&hex(id)).and_then(|runs| runs.effect));
    effect.is_some_and(|effect| effect != Effect::Pure)
}

/// The text of a plain string field of a problem body or an answer.
fn field<'t>(body: &'t str, name: &str) -> Option<&'t str> {
    let start = body.find(&format!("\"{name}\":\""))? + name.len() + 4;
    body[start..].split('"').next()
}

fn dump(files: &std::collections::BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        eprintln!("== {name}, {} bytes", bytes.len());
        for (number, sector) in bytes.chunks(512).enumerate() {
            let text: String = String::from_utf8_lossy(sector).chars().take(100).collect();
            if !text.trim().is_empty() {
                eprintln!("{:6} {}", number * 512, text.replace('\n', "|"));
            }
        }
    }
}
