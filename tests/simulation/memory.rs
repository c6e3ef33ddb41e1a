//! A store in memory, written with what the library gives to everybody: that it works shows that the trait
//! is enough. Its records are a database elsewhere, which outlives each process that uses it. It takes over
//! as another node would, and what becomes of a batch whose fate is unknown shows only when it is asked.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openexec::core::clock::Clock;
use openexec::core::hash::Hash;
use openexec::core::limits::LEAVES_PER_BLOCK;
use openexec::core::receipt::{Outcome, names_job};
use openexec::core::record::{Identity, Record};
use openexec::core::time::Time;
use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::evidence::log::Log;
use openexec::store::state::{Execution, Position, State};
use openexec::store::{Batch, By, Found, Geometry, Lost, Next, Note, Room, Store};
use openexec::sys::disk::Disk;

use crate::disk::{SimDisk, Strike};
use crate::random::Random;

/// What every process sees.
pub struct Database(Mutex<Inner>);

struct Inner {
    identity: Identity,
    lines: Vec<String>,
    /// Raised by each process that takes over.
    session: u64,
    /// A batch that may be added yet.
    unknown: Vec<String>,
    random: Random,
}

impl Database {
    pub fn new(identity: &Identity, random: Random) -> Arc<Self> {
        let lines = vec![identity.line()];
        let (identity, unknown) = (identity.clone(), Vec::new());
        Arc::new(Database(Mutex::new(Inner { identity, lines, session: 0, unknown, random })))
    }

    /// Nothing of an older session is added from now on; what was on its way is added now, or never.
    pub fn take_over(&self) -> u64 {
        let mut inner = self.lock();
        inner.session += 1;
        let unknown = std::mem::take(&mut inner.unknown);
        if inner.random.chance(50) {
            inner.lines.extend(unknown);
        }
        inner.session
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Database {
    fn head(&self) -> Head {
        let mut tree = Tree::default();
        for line in &self.lock().lines {
            tree.push(leaf_hash(line.as_bytes()));
        }
        tree.head()
    }

    fn node(&self, _: u32, _: u64) -> Option<Hash> {
        None
    }

    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>> {
        let (from, count) = ((block * LEAVES_PER_BLOCK) as usize, LEAVES_PER_BLOCK as usize);
        let inner = self.lock();
        let lines = inner.lines.iter().skip(from).take(count);
        Ok(lines.map(|line| leaf_hash(line.as_bytes())).collect())
    }

    fn find(&self, position: Position) -> io::Result<(u64, String)> {
        let line = self.lock().lines.get(position as usize).cloned();
        line.map(|line| (position, line)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// One process's use of the database.
pub struct Memory {
    database: Arc<Database>,
    /// What an operator left, and how operations end.
    disk: Arc<SimDisk>,
    geometry: Geometry,
    identity: Identity,
    session: u64,
    state: State,
    /// Records that were applied.
    size: usize,
    /// An append is in doubt.
    is_lost: bool,
    nonces: HashMap<String, Hash>,
    approvals: HashMap<String, Hash>,
    /// Where approvals were recorded.
    recorded: HashMap<String, Execution>,
    executions: HashMap<Hash, Execution>,
    /// By nonce and by id.
    proposals: HashMap<Hash, Execution>,
    proposed: HashMap<String, Hash>,
    /// The claims of those that left a job which is still open.
    jobs: BTreeSet<Position>,
}

impl Memory {
    pub fn open(database: &Arc<Database>, disk: &Arc<SimDisk>, geometry: Geometry) -> Self {
        let session = database.take_over();
        let identity = database.lock().identity.clone();
        let mut memory = Memory {
            database: database.clone(),
            disk: disk.clone(),
            geometry,
            identity,
            session,
            state: State::default(),
            size: 0,
            is_lost: false,
            nonces: HashMap::new(),
            approvals: HashMap::new(),
            recorded: HashMap::new(),
            executions: HashMap::new(),
            proposals: HashMap::new(),
            proposed: HashMap::new(),
            jobs: BTreeSet::new(),
        };
        memory.apply();
        memory
    }

    /// Applies what the database has and this process does not know yet.
    fn apply(&mut self) {
        for line in self.database.lines().into_iter().skip(self.size) {
            let position = self.size as Position;
            let (at, change) = self.state.keys.read(&line).expect("a record of ours");
            self.state.apply(at, &change, position).expect("it may stand there");
            match Record::read(&line) {
                Some(Record::Claim(claim)) => {
                    let spent = claim.approval_ids().expect("its approvals");
                    self.approvals.extend(spent.into_iter().map(|id| (id, claim.id)));
                    self.nonces.insert(claim.nonce.to_string(), claim.id);
                    let execution = Execution { claim: position, receipt: None, completion: None };
                    assert!(self.executions.insert(claim.id, execution).is_none(), "twice: {line}");
                }
                Some(Record::Receipt(receipt)) => {
                    let execution = self.executions.get_mut(&receipt.id).expect("its claim");
                    execution.receipt = Some(position);
                    if names_job(&receipt.result) {
                        self.jobs.insert(execution.claim);
                    }
                }
                Some(Record::Completion(said)) => {
                    let execution = self.executions.get_mut(&said.id).expect("its claim");
                    execution.completion = Some(position);
                    if said.outcome != Outcome::Indeterminate {
                        self.jobs.remove(&execution.claim);
                    }
                }
                Some(Record::Proposal(asked)) => {
                    let known = Execution { claim: position, receipt: None, completion: None };
                    assert!(self.proposals.insert(asked.id, known).is_none(), "twice: {line}");
                    self.proposed.insert(asked.nonce.to_string(), asked.id);
                }
                Some(Record::Approval(record)) => {
                    let at = Execution { claim: position, receipt: None, completion: None };
                    let known = self.recorded.insert(record.approval_id().expect("an id"), at);
                    assert!(known.is_none(), "twice: {line}");
                }
                Some(Record::Asynchronous(record)) => {
                    let asked = self.proposals.get_mut(&record.id).expect("a proposal");
                    asked.completion = Some(position);
                }
                Some(Record::Rejection(record)) => self.end(&record.id, position),
                Some(Record::Closed(record)) => self.end(&record.id, position),
                _ => {}
            }
            self.size += 1;
        }
    }

    fn end(&mut self, id: &Hash, position: Position) {
        self.proposals.get_mut(id).expect("a proposal").receipt = Some(position);
    }

    /// A read of the database may fail.
    fn reach(&self) -> io::Result<()> {
        self.disk.names().map(drop)
    }
}

impl Store for Memory {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.state.clock
    }

    fn size(&self) -> u64 {
        self.size as u64
    }

    fn find(&self, by: By) -> io::Result<Option<Found>> {
        let found = match by {
            By::ClaimNonce(nonce) => self.nonces.get(nonce).and_then(|id| self.executions.get(id)),
            By::ClaimId(id) => self.executions.get(id),
            By::Spent(approval) => {
                self.reach()?;
                self.approvals.get(approval).and_then(|id| self.executions.get(id))
            }
            By::ProposalNonce(nonce) => {
                self.proposed.get(nonce).and_then(|id| self.proposals.get(id))
            }
            By::ProposalId(id) => self.proposals.get(id),
            By::ProposalNumber(number) => {
                let mut all: Vec<_> = self.proposals.values().collect();
                all.sort_unstable_by_key(|proposal| proposal.claim);
                all.get(number as usize).copied()
            }
            By::ApprovalId(approval) => self.recorded.get(approval),
        };
        found.map(|found| Ok((*found, self.line(found.claim)?))).transpose()
    }

    fn open_jobs(&self) -> (u64, Option<Position>) {
        (self.jobs.len() as u64, self.jobs.first().copied())
    }

    fn line(&self, position: Position) -> io::Result<String> {
        self.reach()?;
        self.database.find(position).map(|(_, line)| line)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Lost> {
        assert!(!self.is_lost, "appended before it was asked what is there");
        self.is_lost = true;
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).expect("UTF-8");
        let lines: Vec<String> = batch.lines().map(|(_, line)| text(line)).collect();
        let strike = self.disk.strike();
        let mut inner = self.database.lock();
        if inner.session != self.session {
            return Err(Lost::Fenced("another node has taken over".to_owned()));
        }
        match strike {
            Strike::Done => inner.lines.extend(lines),
            Strike::Unknown => {
                inner.unknown = lines;
                return Err(Lost::Unknown("the connection broke".to_owned()));
            }
            Strike::Dead => return Err(Lost::Unknown("the process is dead".to_owned())),
        }
        drop(inner);
        self.apply();
        self.is_lost = false;
        Ok(())
    }

    fn settle(&mut self, _: &mut dyn FnMut()) -> Result<bool, Lost> {
        if self.database.lock().session != self.session {
            return Err(Lost::Fenced("another node has taken over".to_owned()));
        }
        self.session = self.database.take_over();
        self.apply();
        self.is_lost = false;
        Ok(true)
    }

    fn rest(&mut self, _: usize) -> Result<(), Lost> {
        Ok(())
    }

    fn room(&self) -> Room {
        Room {
            batch_bytes_max: self.geometry.batch_bytes_max,
            is_full: self.state.entries() >= self.geometry.executions_max,
            used: 0,
            left: u64::MAX,
            segment_bytes: self.geometry.segment_bytes,
            next: Next::Ready,
        }
    }

    fn note(&self, name: &str) -> io::Result<Option<Note>> {
        let Some(left_at) = self.disk.changed_at(name)? else { return Ok(None) };
        let text = self.disk.read_small(name, 4096)?;
        Ok(text.map(|text| Note { text: String::from_utf8(text).ok(), left_at }))
    }

    fn remove_note(&mut self, name: &str, left_at: Time) -> Result<bool, Lost> {
        let is_it = matches!(self.disk.changed_at(name), Ok(Some(at)) if at == left_at);
        if !is_it || self.disk.is_dead() {
            return Ok(false);
        }
        self.disk.set_file(name, None);
        Ok(true)
    }
}
