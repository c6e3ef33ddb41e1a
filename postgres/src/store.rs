//! The store over a database: what the records mean, and how more is added.
//!
//! Invariant: [`Store::append`] returns success only for what [`Desk::append`] found committed. The records of a batch
//! are applied before it is sent, so that none is written which the next start would refuse; where it then was not
//! written, the state is made anew from the records that are there ([`Postgres::settle`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem::replace;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openexec::core::clock::Clock;
use openexec::core::hash::Hash;
use openexec::core::record::{Identity, Record};
use openexec::core::time::Time;
use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::serve::status::Status;
use openexec::store::state::{Execution, Position, State};
use openexec::store::{Batch, By, GEOMETRY, Lost, Next, Note, Room, Store, changed_below_us};
use openexec::sys::{journal, locked};

use crate::applied::{Adds, Applied};
use crate::desk::Desk;
use crate::desk::read::{Found, unreadable};
use crate::keys::{Key, key, of_number};
use crate::load::{self, Jobs, Loaded, Unopened};
use crate::log::Records;
use crate::{outbox, snapshot};

/// How long to wait before the database is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub struct Postgres {
    desk: Arc<Mutex<Desk>>,
    status: Arc<Status>,
    identity: Identity,
    records: Applied,
    jobs: Jobs,
    /// What is committed, for others.
    head: Arc<Mutex<Head>>,
    /// The actions of which jobs are left in the table.
    leave_jobs: Vec<&'static str>,
    /// A batch was applied and not found committed yet: what the tree is with it.
    ahead: Option<Tree>,
    /// The records that the last look-up brought beside the one that was asked for.
    beside: RefCell<Vec<(Position, String)>>,
    /// What has the keys that are about to be asked for, or that nothing has: until the next append.
    expected: RefCell<HashMap<Key, Found>>,
}

impl Postgres {
    /// Reads what the log means, as a process that has taken over.
    ///
    /// # Errors
    /// It cannot be read now, or is not one to go on with.
    pub fn open(
        mut desk: Desk,
        status: Arc<Status>,
        leave_jobs: Vec<&'static str>,
    ) -> Result<Self, Unopened> {
        let Loaded { identity, records, jobs } = load::load(&mut desk)?;
        let head = Arc::new(Mutex::new(records.tree.head()));
        let desk = Arc::new(Mutex::new(desk));
        let (ahead, beside, expected) = (None, RefCell::default(), RefCell::default());
        #[rustfmt::skip]
        let store = Postgres { desk, status, identity, records, jobs, head, leave_jobs, ahead, beside, expected };
        Ok(store)
    }

    /// What others may read while this is written.
    pub fn log(&self) -> Records {
        Records { desk: self.desk.clone(), head: self.head.clone() }
    }

    /// The connection, for who keeps it alive.
    pub fn desk(&self) -> Arc<Mutex<Desk>> {
        self.desk.clone()
    }

    fn locked(&self) -> MutexGuard<'_, Desk> {
        locked(&self.desk)
    }

    /// Goes on from what the database has, after an append that did not end well.
    fn resolve(&mut self) -> Result<(), Lost> {
        let desk = self.desk.clone();
        let mut desk = locked(&desk);
        desk.ready()?;
        let is_there = desk.resolved.take();
        let Some(tree) = self.ahead.take() else { return Ok(()) };
        let found = if is_there == Some(true) {
            self.jobs = match load::open_jobs(&mut desk) {
                Ok(jobs) => jobs,
                // It stays resolved.
                Err(fault) => {
                    (desk.resolved, self.ahead) = (is_there, Some(tree));
                    desk.link.give_up();
                    return Err(Lost::Unknown(fault.text().to_owned()));
                }
            };
            self.commit(tree);
            return Ok(());
        } else {
            // It was applied, and is not there.
            load::load(&mut desk)
        };
        match found {
            Ok(Loaded { records, jobs, .. }) => {
                self.jobs = jobs;
                let before = replace(&mut self.records, records).state;
                let state = &mut self.records.state;
                // What was seen of the clock was seen; and whoever follows what is pending must look again.
                state.clock = before.clock;
                state.proposals.version = before.proposals.version.max(state.proposals.version) + 1;
                *locked(&self.head) = self.records.tree.head();
                Ok(())
            }
            Err(Unopened::Fault(fault)) => {
                self.ahead = Some(tree);
                desk.link.give_up();
                Err(Lost::Unknown(fault.text().to_owned()))
            }
            Err(Unopened::Damaged(why)) => Err(Lost::Behind(why)),
        }
    }

    fn commit(&mut self, tree: Tree) {
        *locked(&self.head) = tree.head();
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

    fn expect(&self, nonces: &mut dyn Iterator<Item = &str>) {
        let keys = nonces.flat_map(|nonce| [b'n', b'N'].map(|kind| key(kind, nonce.as_bytes())));
        let keys: Vec<Key> = keys.collect();
        // Where it cannot be told, whoever asks for one asks again.
        self.expected.replace(match keys.as_slice() {
            [] => HashMap::new(),
            keys => self.locked().find_all(keys).unwrap_or_default(),
        });
    }

    fn find(&self, by: By) -> io::Result<Option<openexec::store::Found>> {
        let key = match by {
            By::ClaimNonce(_) => key(b'n', by.bytes()),
            By::ClaimId(_) => key(b'i', by.bytes()),
            By::Spent(_) => key(b'a', by.bytes()),
            By::ProposalNonce(_) => key(b'N', by.bytes()),
            By::ProposalId(_) => key(b'I', by.bytes()),
            By::ProposalNumber(number) => of_number(number),
            By::ApprovalId(_) => key(b'A', by.bytes()),
        };
        let expected = self.expected.borrow().get(&key).cloned();
        let mut found: Found = match expected {
            Some(found) if found.is_empty() => return Ok(None),
            // It stays true; but an overtaken node answers nothing.
            Some(found) => self.locked().ready().map(|()| found).map_err(unreadable)?,
            None => self.locked().find(&key)?,
        };
        let Some(first) = found.iter().position(|(kind, ..)| kind.is_empty()) else {
            return Ok(None);
        };
        let (_, claim, line) = found.swap_remove(first);
        match (by, Record::read(&line)) {
            // What ended a proposal has the key that its claim would have.
            (By::ClaimId(id), Some(Record::Rejection(end))) if end.id == *id => return Ok(None),
            (By::ClaimId(id), Some(Record::Closed(end))) if end.id == *id => return Ok(None),
            (by, Some(record)) if by.is(&record) == Some(true) => {}
            // Half of a hash is the same; or somebody has changed what is there.
            _ => return Err(changed_below_us(claim)),
        }
        let at = |kind: &str| found.iter().find(|(known, ..)| known == kind).map(|(_, at, _)| *at);
        let receipt = at("r").or_else(|| at("e"));
        let execution = Execution { claim, receipt, completion: at("C").or_else(|| at("c")) };
        let beside = found.into_iter().map(|(_, at, line)| (at, line));
        self.beside.replace(beside.collect());
        Ok(Some((execution, line)))
    }

    fn open_jobs(&self) -> (u64, Option<Position>) {
        self.jobs
    }

    fn line(&self, position: Position) -> io::Result<String> {
        if let Some((_, line)) = self.beside.borrow().iter().find(|(at, _)| *at == position) {
            return Ok(line.clone());
        }
        self.locked().lines(position, position + 1)?.pop().ok_or_else(|| changed_below_us(position))
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Lost> {
        self.expected.take();
        let desk = self.desk.clone();
        let mut desk = locked(&desk);
        // Before anything is applied: nothing has to be made anew where the database is not there.
        desk.ready()?;
        let mut tree = self.records.tree.clone();
        self.ahead = Some(tree.clone());
        let (mut adds, mut unread) = (Adds::default(), None);
        for (number, (_, line)) in batch.lines().enumerate() {
            let line = std::str::from_utf8(line);
            let line = line.map_err(|error| Lost::Refused(error.to_string()))?;
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
            let brings = applied.map_err(|reason| {
                Lost::Refused(format!("a record of ours breaks a promise of the format: {reason}"))
            })?;
            adds.keys.extend(brings.keys.into_iter().map(|key| (key, number as i32)));
            adds.opens.extend(brings.opens.map(|claim| claim as i64));
            adds.closes.extend(brings.closes.map(|claim| claim as i64));
            adds.lines.push(line);
            tree.push(leaf_hash(line.as_bytes()));
        }
        let head = tree.head();
        self.ahead = Some(tree);
        if snapshot::is_due(&self.records) {
            let text = snapshot::write(&mut self.records);
            self.records.saved = [head.size, self.records.bytes, text.len() as u64];
            // From here on the keys of the database alone keep what is over from coming back.
            self.records.state.proposals.over = Default::default();
            adds.snapshot = Some(text);
        }
        adds.jobs = outbox::jobs(&adds.lines, &self.leave_jobs).map_err(Lost::Refused)?;
        if let Some(jobs) = desk.append(&adds, head)? {
            self.jobs = jobs;
        }
        if let Some(tree) = self.ahead.take() {
            self.commit(tree);
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
        self.expected.take();
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
        self.locked().note(name)
    }

    fn remove_note(&mut self, name: &str, left_at: Time) -> Result<bool, Lost> {
        Ok(self.locked().remove_note(name, left_at.micros()))
    }
}
