//! The executor: it alone owns the store, decides and runs the handlers, one batch at a time.
//!
//! Invariant: a nonce and its approvals are spent on the disk before a handler with effects runs,
//! and an answer leaves only after everything it says is on the disk.
//!
//! [`Executor::turn`] takes requests and stages record lines; [`Executor::commit`] writes them with
//! one sync, gives out the answers that wait for it, and runs the handlers whose claims are now on
//! the disk, staging their receipts for the next batch. So under load one sync carries the receipts
//! of one batch and the claims of the next; when nothing waits, the caller commits at once.
//!
//! No threads, no clock, no queue, no journal: those are around it, and a simulation does without.

pub mod answer;
mod event;
mod freeze;
pub mod lines;
mod proposals;
pub mod recover;
mod refusals;
pub mod requests;
mod run;
mod signed;
mod staging;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::lines::{claim_line, policy_line, receipt_bytes};
use self::staging::{Flight, Staged, ToRun};
use crate::core::approval::rejection::Rejection;
use crate::core::approval::verify::Examined;
use crate::core::decision::{Authorization, Decision, Nonce, decide, lacks_approvals};
use crate::core::hash::{Hash, hex};
use crate::core::problem::{Code, Problem};
use crate::core::proposal::{Dropped, Policy, Proposal};
use crate::core::receipt::Effect;
use crate::core::record;
use crate::core::time::Time;
use crate::store::proposals::Share;
use crate::store::refusals::Known;
use crate::store::state::Position;
use crate::store::{Batch, By, Found, Lost, Next, Store, intact};
use crate::sys::place;

pub use self::answer::Said;
pub use self::event::{Event, Watch};
pub use self::freeze::{FROZEN_FILE, UNFROZEN_FILE};
pub use self::proposals::AWAITING_CALLER;

/// Room kept for a receipt beyond its result: the record's other fields, a `retry` record in a
/// sector of its own after a crash, and padding.
const OWED_BYTES_BEYOND_RESULT: usize = 4096;

/// The wall's time, and the monotonic clock's from any fixed moment.
pub type Clocks = Box<dyn Fn() -> (Time, Duration) + Send>;

/// Whether whoever asks may see a record of that caller and action: what it may not see is as if unknown.
pub type Sees = Arc<dyn Fn(Option<&str>, &str) -> bool + Send + Sync>;

/// Where answers go: a ticket is whatever the caller knows a request by.
pub type Answers<T> = Box<dyn FnMut(T, Said)>;

pub struct Executor<T> {
    store: Box<dyn Store>,
    /// The request in hand, until it is answered or its answer waits: its ticket, and what id it is about.
    asking: Option<(T, Hash)>,
    pub policy: Arc<Policy>,
    watch: Watch,
    clocks: Clocks,
    answers: Answers<T>,
    /// Refusals that are not stored, by code, since the last `suppressed` record.
    suppressed: BTreeMap<&'static str, u64>,
    /// What the refusals in the batch take.
    refused_bytes: u64,
    /// Why execution is frozen, as the file says it.
    frozen: Option<String>,
    /// The file of a stop that is over was recorded and cannot be removed.
    past_freeze: Option<Time>,
    /// Lines that wait for the next commit.
    batch: Batch,
    /// Answers that wait for the same commit.
    staged: Vec<Staged<T>>,
    /// Claims in the batch whose handlers run once it is on the disk.
    to_run: Vec<ToRun>,
    /// Room kept for the receipts of `to_run`.
    owed_bytes: usize,
    /// Room kept for the receipts of claims that were found without one, and wait.
    waiting_bytes: usize,
    /// Nonces claimed and not answered yet, with everybody who waits for the answer.
    flights: HashMap<String, Flight<T>>,
    /// Approvals spent by claims in the batch.
    spent: HashSet<String>,
    /// Nonces of proposals in the batch, and what each takes.
    proposed: HashMap<String, Share>,
    /// Proposals that have enough approvals, and what keeps each from executing.
    blocked: BTreeMap<Hash, &'static str>,
    /// Changes of `blocked`.
    blockings: u64,
    /// Recorded approvals by their place, and who signed. The keys are fixed at start.
    examined: RefCell<HashMap<Position, Examined>>,
    /// The digest of the own policy, and the bytes of its record.
    own_policy: (Option<Hash>, usize),
}

/// One thing to do.
pub enum Job<T> {
    Execute(Box<Proposal>),
    /// Judges a pending proposal by what the approvals directory has for it. Nobody waits for the answer.
    Judge {
        id: Hash,
        files: Vec<Dropped>,
    },
    /// `POST /approvals`, in form, and who signed them.
    Approve(Box<Examined>, Sees),
    /// `DELETE /proposals/{exec_id}`.
    Withdraw(Hash, Sees),
    /// `POST /rejections`, in form.
    Reject(Box<Rejection>, Sees),
    /// What a worker reports: the line of a `completion` record, to be written if it may be.
    Record(String),
    /// A question of what is recorded: it is asked between two records, and can only look.
    Ask(Question<T>),
}

/// Why a request is not taken.
enum Stop {
    Refused(Problem),
    /// Whoever asked is told by [`Executor::give_up`].
    Lost(Lost),
}

impl<E: Into<Problem>> From<E> for Stop {
    fn from(why: E) -> Self {
        Stop::Refused(why.into())
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Stop::Lost(lost)
    }
}

type Jobs<'a, T> = &'a mut dyn Iterator<Item = (T, Job<T>)>;

pub type Question<T> = Box<dyn FnOnce(&Executor<T>) -> Said + Send>;

impl<T> Executor<T> {
    /// `clocks` are asked for the time of each decision and record.
    pub fn new(
        store: Box<dyn Store>,
        policy: Arc<Policy>,
        watch: Watch,
        clocks: Clocks,
        answers: Answers<T>,
    ) -> Self {
        let line = policy_line(&policy, Time::default());
        let digest = record::Policy::read(&line).map(|policy| policy.digest());
        Executor {
            store,
            asking: None,
            policy,
            watch,
            clocks,
            answers,
            suppressed: BTreeMap::new(),
            refused_bytes: 0,
            frozen: None,
            past_freeze: None,
            batch: Batch::default(),
            staged: Vec::new(),
            to_run: Vec::new(),
            owed_bytes: 0,
            waiting_bytes: 0,
            flights: HashMap::new(),
            spent: HashSet::new(),
            proposed: HashMap::new(),
            blocked: BTreeMap::new(),
            blockings: 0,
            examined: RefCell::default(),
            own_policy: (digest, line.len() + 1),
        }
    }

    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Whether answers wait for a commit.
    pub fn has_staged(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Takes requests in their order, then commits.
    ///
    /// # Errors
    /// The store failed: every request that waited has been answered `outcome_unknown`. Only
    /// [`Executor::settle`] may be called.
    pub fn turn(&mut self, jobs: impl IntoIterator<Item = (T, Job<T>)>) -> Result<(), Lost> {
        self.take_or_give_up(&mut jobs.into_iter(), false)
    }

    /// For when nothing has come for a second: a turn without requests, which adds a seal where nothing else is added.
    ///
    /// # Errors
    /// As of [`Executor::turn`].
    pub fn idle(&mut self) -> Result<(), Lost> {
        self.take_or_give_up(&mut std::iter::empty(), true)
    }

    fn take_or_give_up(&mut self, jobs: Jobs<T>, rests: bool) -> Result<(), Lost> {
        let taken = self.take_all(jobs, rests);
        if taken.is_err() {
            self.give_up();
            jobs.for_each(|(ticket, job)| (self.answers)(ticket, answer::after_poison(&job)));
        }
        taken
    }

    fn take_all(&mut self, jobs: Jobs<T>, rests: bool) -> Result<(), Lost> {
        self.observe_freeze()?;
        // Before any answer says so too.
        self.publish();
        for (ticket, job) in jobs {
            self.take(ticket, job)?;
        }
        let now = self.look();
        self.stage_suppressed(now);
        if rests && !self.has_staged() {
            self.store.rest(self.kept_bytes())?;
        }
        self.commit()?;
        self.publish();
        Ok(())
    }

    fn take(&mut self, ticket: T, job: Job<T>) -> Result<(), Lost> {
        self.asking = Some((ticket, Hash::default()));
        let taken = match job {
            Job::Execute(proposal) => self.execute(*proposal),
            Job::Judge { id, files } => {
                let judged = self.for_nobody(|own| own.judge(&id, files));
                // Whoever asked for it goes on.
                self.say(Said::Text(String::new()));
                judged.map_err(Stop::Lost)
            }
            Job::Approve(examined, sees) => self.approve(&examined, &sees),
            Job::Reject(rejection, sees) => self.reject(&rejection, &sees),
            Job::Withdraw(id, sees) => self.withdraw(&id, &sees),
            Job::Record(line) => self.record(&line),
            Job::Ask(question) => {
                self.say(question(self));
                Ok(())
            }
        };
        match taken {
            Ok(()) => {}
            Err(Stop::Refused(problem)) => self.say(problem),
            Err(Stop::Lost(lost)) => return Err(lost),
        }
        Ok(())
    }

    /// Does it as if nobody asked.
    fn for_nobody<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let asking = self.asking.take();
        let done = act(self);
        self.asking = asking;
        done
    }

    /// Answers the request in hand, if somebody asks.
    fn say(&mut self, answer: impl Into<Said>) {
        if let Some((ticket, _)) = self.asking.take() {
            (self.answers)(ticket, answer.into());
        }
    }

    /// The same, once the batch is on the disk.
    fn say_once_written(&mut self, known: Known, answer: Said) {
        let asking = self.asking.take();
        self.staged.extend(asking.map(|(ticket, _)| Staged::Recorded { ticket, known, answer }));
    }

    /// Whether a record may be added beside what waits.
    fn has_room_to_add(&self, bytes: usize) -> bool {
        self.fits(bytes, self.owed_bytes + self.kept_bytes())
    }

    /// Whether so many bytes of lines fit into the batch, and `kept` behind it.
    fn fits(&self, bytes: usize, kept: usize) -> bool {
        let (room, batch) = (self.store.room(), self.bytes_with(bytes));
        batch <= room.batch_bytes_max && room.has(batch, kept)
    }

    fn execute(&mut self, proposal: Proposal) -> Result<(), Stop> {
        if let Some(flight) = self.flights.get_mut(&proposal.nonce)
            && (flight.id, &flight.caller) == (proposal.id, &proposal.caller)
        {
            flight.others.extend(self.asking.take().map(|(ticket, _)| ticket));
            return Ok(());
        }
        self.is_about(proposal.id);
        // What is asked again in one batch is judged by what the batch has recorded.
        if self.proposed.contains_key(&proposal.nonce) {
            self.commit()?;
        }
        let now = self.now();
        let decided = self.decide(&proposal, now);
        // No refusal: whether this nonce was executed before cannot be told.
        let unread = |error| Problem::from(error).with("id", hex(&proposal.id));
        let (decision, known) = decided.map_err(unread)?;
        match decision {
            Decision::Replay => self.say(self.replay(known, &proposal.id)),
            Decision::Wait => self.say(Said::Accepted(proposal.id)),
            Decision::Refuse(problem) if lacks_approvals(&problem) => {
                return self.propose(&proposal, &problem, now);
            }
            Decision::Refuse(problem) => self.refuse(&proposal, &problem),
            Decision::Proceed(_) if self.store.room().is_full => {
                self.refuse(&proposal, &self.full());
            }
            Decision::Proceed(authorization) => {
                self.proceed(proposal, &authorization, now)?;
            }
        }
        Ok(())
    }

    /// Why the store takes no more.
    fn full(&self) -> Problem {
        let room = self.store.room();
        let detail = match room.next {
            _ if room.is_full => "The store is full; the next store must be started",
            Next::Coming => "The next segment of the store is still being made; ask again",
            _ => "There is no space on the disk for another record",
        };
        Problem::new(Code::StoreFull, detail)
    }

    /// What the request in hand is about.
    fn is_about(&mut self, id: Hash) {
        self.asking.iter_mut().for_each(|asking| asking.1 = id);
    }

    /// Rows 3 to 7, with what the store knows of the nonce.
    fn decide(&self, proposal: &Proposal, now: Time) -> io::Result<(Decision, Option<Found>)> {
        let known = self.store.find(By::ClaimNonce(&proposal.nonce))?;
        let in_flight = self.flights.contains_key(&proposal.nonce);
        let nonce = match &known {
            Some((execution, line)) => {
                let claim = intact(record::Claim::read(line), execution.claim)?;
                let is_same = proposal.is(&claim.id, claim.caller.as_deref());
                if is_same { Nonce::SameRequest } else { Nonce::OtherRequest }
            }
            None if in_flight => Nonce::OtherRequest,
            None => self.proposed_under(proposal, now)?,
        };
        let decision =
            self.with_facts(now, nonce, proposal, |facts| decide(proposal, &self.policy, facts));
        Ok((decision?, known))
    }

    /// Says how it stands.
    fn publish(&mut self) {
        let now = self.look();
        let has_room = self.has_room_for_refusal(refusals::SUPPRESSED_LINE_BYTES_MAX);
        let (frozen, store) = (self.frozen.as_deref(), self.store.as_ref());
        (self.watch)(Event::Stands { now, frozen, store, has_room });
    }

    /// The time by which something would be decided now ([`Clock::time`](crate::core::clock::Clock::time)).
    pub fn time(&self) -> Time {
        self.store.state().clock.time(self.wall())
    }

    /// The wall's time: for a person who vouches for it.
    fn wall(&self) -> Time {
        (self.clocks)().0
    }

    /// The same as [`Self::time`], after both clocks were looked at.
    fn look(&mut self) -> Time {
        let (wall, monotonic) = (self.clocks)();
        let clock = self.store.clock();
        clock.look(wall, monotonic);
        clock.time(wall)
    }

    /// The time of a decision or a record. It counts from now on, whether or not a record follows: a
    /// refusal that is only counted must not be followed by an execution at an earlier time.
    fn now(&mut self) -> Time {
        let now = self.look();
        self.store.clock().raise(now);
        now
    }

    /// Rows 8 and 9. The claim says `decided`, the time of the decision: at a later one, however
    /// little later, its approvals may have expired, and an audit would refuse it.
    fn proceed(
        &mut self,
        proposal: Proposal,
        authorization: &Authorization,
        decided: Time,
    ) -> Result<(), Lost> {
        let handler = authorization.handler();
        let approved = authorization.approved();
        let approval_ids: Vec<String> =
            approved.iter().flat_map(|a| a.approval_ids()).map(str::to_owned).collect();
        let place = match self.place(handler) {
            Ok(place) => place,
            Err(error) => {
                let action = handler.action;
                let detail = format!(
                    "Action '{action}' is not configured: its directory is not known by {}: {}",
                    place::MARKER,
                    error.kind()
                );
                let problem = Problem::new(Code::ActionNotConfigured, detail);
                match &self.asking {
                    Some(_) => self.refuse(&proposal, &problem),
                    None => self.block(&proposal.id, problem.code.name()),
                }
                return Ok(());
            }
        };
        let line =
            claim_line(self.policy_number(), &proposal, authorization, place.as_deref(), decided);
        let Proposal { caller, nonce, payload, read, id, .. } = proposal;
        let again = false;
        let claimed = ToRun { handler, id, nonce, payload, read, approval_ids, place, again };
        if handler.effect == Effect::Once {
            // Alone in its batch: nothing else stands between its sync and its run.
            self.commit_all()?;
        }
        let ended = (handler.effect == Effect::Pure).then(|| self.run(&claimed));
        let (lines, owed) = match &ended {
            Some(ended) => (line.len() + 1 + receipt_bytes(ended), 0),
            None => (line.len() + 1, handler.result_bytes_max + OWED_BYTES_BEYOND_RESULT),
        };
        let batch_bytes_max = self.store.room().batch_bytes_max;
        while self.has_staged()
            && (self.bytes_with(lines) > batch_bytes_max
                || self.owed_bytes + owed > batch_bytes_max / 2)
        {
            self.commit()?;
        }
        let owed_in_all = self.owed_bytes + owed + self.kept_bytes();
        if !self.store.room().has(self.bytes_with(lines), owed_in_all) {
            let problem = self.full();
            match &self.asking {
                Some(_) => self.count_refusal(&problem, &id),
                None => self.block(&id, problem.code.name()),
            }
            return Ok(());
        }
        self.unblock(&id);
        self.stage(&line);
        self.spent.extend(claimed.approval_ids.iter().cloned());
        let first = self.asking.take().map(|(ticket, _)| ticket);
        let flight = Flight { id, action: handler.action, caller, first, others: Vec::new() };
        self.flights.insert(claimed.nonce.clone(), flight);
        match ended {
            Some(ended) => self.stage_receipt(handler.action, &id, &claimed.nonce, ended),
            None => {
                self.owed_bytes += owed;
                self.to_run.push(claimed);
            }
        }
        if handler.effect == Effect::Once {
            self.commit()?;
            // It may have run for long, and somebody has stopped everything meanwhile.
            self.read_freeze();
        }
        Ok(())
    }
}
