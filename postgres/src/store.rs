//! The store over a database: what the records mean, and how more is added.
//!
//! Invariant: [`Store::append`] returns success only for what [`Desk::append`] found committed. The records of a batch
//! are applied before it is sent, so that none is written which the next start would refuse; where it then was not
//! written, the state is made anew from the records that are there ([`Postgres::settle`]).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::replace;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openexec::core::clock::Clock;
use openexec::core::hash::Hash;
use openexec::core::record::{Identity, Record};
use openexec::core::stage::Step;
use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::serve::status::Status;
use openexec::store::state::{Change, Execution, Position, State};
use openexec::store::{Batch, By, GEOMETRY, Lost, Next, Note, Room, Store, changed_below_us};
use openexec::sys::{journal, locked};

use crate::desk::{Desk, Found};
use crate::keys::{Key, key, of_record};
use crate::link::Fault;
use crate::log::{Nodes, Records};

/// Bytes of records that are read at once, about.
const READ_BYTES: u64 = 1024 * 1024;
/// Records that are read at once, at least and at most.
const READ_RECORDS: (u64, u64) = (16, 4096);
/// How long to wait before the database is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub struct Postgres {
    desk: Arc<Mutex<Desk>>,
    status: Arc<Status>,
    identity: Identity,
    records: Applied,
    nodes: Arc<Mutex<Nodes>>,
    /// A batch was applied and not found committed yet: what the tree is with it.
    ahead: Option<(Tree, Vec<Hash>)>,
    /// The records that the last look-up brought beside the one that was asked for.
    beside: RefCell<Vec<(Position, String)>>,
}

/// What the records mean, and where those are that more will belong to.
#[derive(Default)]
struct Applied {
    state: State,
    tree: Tree,
    /// Of all lines.
    bytes: u64,
    /// The claims that are owed a receipt, by id.
    claims: HashMap<Hash, Position>,
    /// The claims of those that left a job which is still open.
    jobs: HashMap<Hash, Position>,
    oldest_jobs: BTreeSet<Position>,
    /// Of each proposal its record, the one by which it was over, and the one by which it became asynchronous; 0 for
    /// none.
    proposals: Vec<[Position; 3]>,
}

impl Applied {
    /// Applies a record; gives the keys of it. `lookup` tells the claim of what has been executed.
    fn apply(
        &mut self,
        line: &str,
        position: Position,
        mut lookup: impl FnMut(&Hash) -> Option<Position>,
    ) -> Result<Vec<Key>, &'static str> {
        let record = Record::read(line).ok_or("it is of no known form")?;
        let change =
            self.state.keys.change(&record, line.len()).ok_or("its approvals cannot be read")?;
        let claim = |id: &Hash| {
            self.claims.get(id).or_else(|| self.jobs.get(id)).copied().or_else(|| lookup(id))
        };
        let proposals = &self.state.proposals;
        let proposal = |id: &Hash| proposals.get(id).map(|pending| pending.position);
        let keys = of_record(&record, claim, proposal)?;
        let number = self.state.apply(record.at(), &change, position)?;
        match change {
            Change::Proposal(_) => self.proposals.push([position, 0, 0]),
            Change::Pending { step, .. } => {
                if let Some(number) = number {
                    let which = if step == Step::BecomeAsynchronous { 2 } else { 1 };
                    self.proposals[number as usize][which] = position;
                }
            }
            Change::Claim { id, .. } => drop(self.claims.insert(id, position)),
            Change::Receipt { id, job } => {
                let claim = self.claims.remove(&id).ok_or("a receipt has no claim")?;
                if job {
                    self.jobs.insert(id, claim);
                    self.oldest_jobs.insert(claim);
                }
            }
            Change::Completion { id, closes: true, .. } => {
                if let Some(claim) = self.jobs.remove(&id) {
                    self.oldest_jobs.remove(&claim);
                }
            }
            _ => {}
        }
        self.bytes += line.len() as u64 + 1;
        Ok(keys)
    }
}

/// Why the log cannot be gone on with.
pub enum Unopened {
    /// It may be tried again.
    Fault(Fault),
    /// It is not what this program wrote.
    Damaged(String),
}

impl Postgres {
    /// Reads the whole log, as a process that has taken over: every record, and the root over them.
    ///
    /// # Errors
    /// It cannot be read now, or is not one to go on with.
    pub fn open(desk: Desk, status: Arc<Status>) -> Result<Self, Unopened> {
        let nodes = Arc::new(Mutex::new(Nodes::default()));
        let mut desk = desk;
        let mut grown = Nodes::default();
        let (records, identity) = replay(&mut desk, &mut grown)?;
        *locked(&nodes) = grown;
        let desk = Arc::new(Mutex::new(desk));
        let (ahead, beside) = (None, RefCell::default());
        Ok(Postgres { desk, status, identity, records, nodes, ahead, beside })
    }

    /// What others may read while this is written.
    pub fn log(&self) -> Records {
        Records { desk: self.desk.clone(), nodes: self.nodes.clone() }
    }

    /// The connection, for who keeps it alive.
    pub fn desk(&self) -> Arc<Mutex<Desk>> {
        self.desk.clone()
    }

    fn locked(&self) -> MutexGuard<'_, Desk> {
        locked(&self.desk)
    }

    /// What has a key, if its record is the one that was meant.
    fn find(
        &self,
        key: &Key,
        is_it: impl Fn(&Record) -> Option<bool>,
    ) -> io::Result<Option<(Execution, String)>> {
        let mut found: Found = self.locked().find(key)?;
        let Some(first) = found.iter().position(|(kind, ..)| kind.is_empty()) else {
            return Ok(None);
        };
        let (_, claim, line) = found.swap_remove(first);
        match Record::read(&line).and_then(|record| is_it(&record)) {
            Some(true) => {}
            // Half of a hash is the same; or somebody has changed what is there.
            Some(false) | None => return Err(changed_below_us(claim)),
        }
        let at = |kind: &str| found.iter().find(|(known, ..)| known == kind).map(|(_, at, _)| *at);
        let receipt = at("r").or_else(|| at("e"));
        let execution = Execution { claim, receipt, completion: at("C").or_else(|| at("c")) };
        self.beside.replace(found.into_iter().map(|(_, at, line)| (at, line)).collect());
        Ok(Some((execution, line)))
    }

    /// Goes on from what the database has, after an append that did not end well.
    fn resolve(&mut self) -> Result<(), Lost> {
        let desk = self.desk.clone();
        let mut desk = locked(&desk);
        desk.ready()?;
        let is_there = desk.resolved.take();
        let Some((tree, whole)) = self.ahead.take() else { return Ok(()) };
        if is_there == Some(true) {
            self.commit(tree, whole);
            return Ok(());
        }
        // It was applied, and is not there.
        let mut grown = Nodes::default();
        match replay(&mut desk, &mut grown) {
            Ok((records, _)) => {
                let before = replace(&mut self.records, records).state;
                let state = &mut self.records.state;
                // What was seen of the clock was seen; and whoever follows what is pending must look again.
                state.clock = before.clock;
                state.proposals.version = before.proposals.version.max(state.proposals.version) + 1;
                *locked(&self.nodes) = grown;
                Ok(())
            }
            Err(Unopened::Fault(fault)) => {
                self.ahead = Some((tree, whole));
                desk.link.give_up();
                Err(Lost::Unknown(fault.text().to_owned()))
            }
            Err(Unopened::Damaged(why)) => Err(Lost::Behind(why)),
        }
    }

    fn commit(&mut self, tree: Tree, whole: Vec<Hash>) {
        locked(&self.nodes).grow(whole, tree.head());
        self.records.tree = tree;
    }
}

impl Store for Postgres {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn state(&self) -> &State {
        &self.records.state
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.records.state.clock
    }

    fn size(&self) -> u64 {
        self.records.tree.size()
    }

    fn find_nonce(&self, nonce: &str) -> io::Result<Option<(Execution, String)>> {
        self.find(&key(b'n', nonce.as_bytes()), |record| match record {
            Record::Claim(claim) => Some(claim.nonce == nonce),
            _ => None,
        })
    }

    fn find_id(&self, id: &Hash) -> io::Result<Option<(Execution, String)>> {
        self.find(&key(b'i', id), |record| match record {
            Record::Claim(claim) => Some(claim.id == *id),
            _ => None,
        })
    }

    fn find_proposal(&self, by: By) -> io::Result<Option<(Execution, String)>> {
        let key = match by {
            By::Nonce(nonce) => key(b'N', nonce.as_bytes()),
            By::Id(id) => key(b'I', id),
        };
        self.find(&key, |record| match (record, by) {
            (Record::Proposal(proposal), By::Nonce(nonce)) => Some(proposal.nonce == nonce),
            (Record::Proposal(proposal), By::Id(id)) => Some(proposal.id == *id),
            _ => None,
        })
    }

    fn proposal(&self, number: u32) -> Option<Execution> {
        let [claim, end, asynchronous] = *self.records.proposals.get(number as usize)?;
        let known = |position| Some(position).filter(|position| *position != 0);
        Some(Execution { claim, receipt: known(end), completion: known(asynchronous) })
    }

    fn open_jobs(&self) -> (u64, Option<Position>) {
        (self.records.jobs.len() as u64, self.records.oldest_jobs.first().copied())
    }

    fn find_approval(&self, approval_id: &str) -> io::Result<Option<String>> {
        let found = self.find(&key(b'A', approval_id.as_bytes()), |record| match record {
            Record::Approval(approval) => Some(approval.approval_id()? == approval_id),
            _ => None,
        });
        Ok(found?.map(|(_, line)| line))
    }

    fn approval_is_spent(&self, approval_id: &str) -> io::Result<bool> {
        let spends = |record: &Record| match record {
            Record::Claim(claim) => Some(claim.approval_ids()?.iter().any(|id| id == approval_id)),
            _ => None,
        };
        Ok(self.find(&key(b'a', approval_id.as_bytes()), spends)?.is_some())
    }

    fn line(&self, position: Position) -> io::Result<String> {
        if let Some((_, line)) = self.beside.borrow().iter().find(|(at, _)| *at == position) {
            return Ok(line.clone());
        }
        self.locked().lines(position, position + 1)?.pop().ok_or_else(|| changed_below_us(position))
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Lost> {
        let desk = self.desk.clone();
        let mut desk = locked(&desk);
        // Before anything is applied: nothing has to be made anew where the database is not there.
        desk.ready()?;
        let mut lines = Vec::new();
        for (_, line) in batch.lines() {
            lines
                .push(std::str::from_utf8(line).map_err(|error| Lost::Refused(error.to_string()))?);
        }
        let (mut tree, mut whole) = (self.records.tree.clone(), Vec::new());
        let (mut keys, mut unread) = (Vec::new(), None);
        self.ahead = Some((tree.clone(), Vec::new()));
        for (number, line) in lines.iter().enumerate() {
            let lookup = |id: &Hash| {
                desk.claim(id).unwrap_or_else(|error| {
                    unread = Some(error);
                    None
                })
            };
            let applied = self.records.apply(line, tree.size(), lookup);
            if let Some(error) = unread {
                return Err(Lost::Unknown(error.to_string()));
            }
            let own = applied.map_err(|reason| {
                Lost::Refused(format!("a record of ours breaks a promise of the format: {reason}"))
            })?;
            keys.extend(own.into_iter().map(|key| (key, number as i32)));
            whole.extend(tree.push(leaf_hash(line.as_bytes())));
        }
        let head = tree.head();
        self.ahead = Some((tree, whole));
        desk.append(&lines, &keys, head)?;
        if let Some((tree, whole)) = self.ahead.take() {
            self.commit(tree, whole);
        }
        Ok(())
    }

    fn settle(&mut self, meanwhile: &mut dyn FnMut()) -> Result<bool, Lost> {
        let mut is_told = false;
        // Whoever asks from now on is told so, and whoever has asked is not left waiting for a database that is gone.
        self.status.lock().standby = true;
        loop {
            meanwhile();
            match self.resolve() {
                Ok(()) => break,
                Err(Lost::Unknown(why)) => {
                    if !is_told {
                        journal::error(
                            "the database is asked until it answers",
                            &[("error", why.into())],
                        );
                    }
                    is_told = true;
                    std::thread::sleep(ASK_AGAIN);
                }
                Err(lost) => return Err(lost),
            }
        }
        self.status.lock().standby = false;
        if is_told {
            journal::info("the database answers again", &[]);
        }
        Ok(true)
    }

    /// Whoever is out of reach is no reason to end; whoever was overtaken is.
    fn rest(&mut self, _: usize) -> Result<(), Lost> {
        match self.locked().ready() {
            Err(Lost::Unknown(_)) | Ok(()) => Ok(()),
            Err(lost) => Err(lost),
        }
    }

    fn room(&self) -> Room {
        Room {
            batch_bytes_max: GEOMETRY.batch_bytes_max,
            is_full: self.records.state.entries() >= GEOMETRY.executions_max,
            used: self.records.bytes,
            left: u64::MAX / 2,
            segment_bytes: GEOMETRY.segment_bytes,
            next: Next::Ready,
        }
    }

    fn note(&self, name: &str) -> io::Result<Option<Note>> {
        Ok(self.locked().note(name)?.map(|(note, _)| note))
    }

    fn remove_note(&mut self, name: &str) -> Result<bool, Lost> {
        Ok(self.locked().remove_note(name))
    }
}

/// Reads all records in their order, and holds the root over them to the newest batch's.
fn replay(desk: &mut Desk, nodes: &mut Nodes) -> Result<(Applied, Identity), Unopened> {
    let head =
        desk.known().ok_or_else(|| Unopened::Damaged("there is no batch in it".to_owned()))?;
    let damaged = |at: u64, why: &str| Unopened::Damaged(format!("record {at}: {why}"));
    let (mut applied, mut identity) = (Applied::default(), None);
    let (mut at, mut count) = (0, READ_RECORDS.0);
    while at < head.size {
        let lines = desk.read(at, (at + count).min(head.size)).map_err(Unopened::Fault)?;
        if lines.is_empty() {
            return Err(damaged(at, "it is missing"));
        }
        let mut bytes = 0;
        let mut whole = Vec::new();
        for line in &lines {
            if let (0, Some(Record::Store(store))) = (at, Record::read(line)) {
                let name = store.store.to_owned();
                identity = Some(Identity { store: name, mode: store.mode, created: store.at });
            }
            // Of what has been executed nothing is looked up here: its key is there.
            let keyed = applied.apply(line, at, |_| Some(0));
            keyed.map_err(|reason| damaged(at, reason))?;
            whole.extend(applied.tree.push(leaf_hash(line.as_bytes())));
            bytes += line.len() as u64;
            at += 1;
        }
        nodes.grow(whole, applied.tree.head());
        let each = (bytes / lines.len() as u64).max(1);
        count = (READ_BYTES / each).clamp(READ_RECORDS.0, READ_RECORDS.1);
    }
    let found: Head = applied.tree.head();
    if found != head {
        return Err(Unopened::Damaged(
            "the records are not those of the newest batch's root".to_owned(),
        ));
    }
    let identity = identity.ok_or_else(|| damaged(0, "it does not say what store this is"))?;
    Ok((applied, identity))
}
