//! Who is connected, what each is doing, and how many bytes each holds: one table, one lock.
//!
//! It decides who makes room when a connection too many comes, or a byte too many. Invariants: never
//! more seats than the limit, never more bytes than the budget, and a connection whose request the
//! executor may have is never displaced: both the one who displaces and the one who goes on to the
//! executor do so under the lock, and whoever comes first wins.

use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Bounds;
use super::counters::{Counters, CutBy};
use super::stream::Stream;
use crate::limits::HELD_STEP_BYTES;

/// How long somebody waits for what was just displaced to be gone: a thread that wakes and ends.
const ROOM_WAIT_MS: u64 = 1_000;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of a request has come.
    Waiting,
    /// Part of a request has come.
    Reading,
    /// A whole request, which the executor may have.
    Serving,
    /// The client takes its answer. Entered again whenever it took some.
    Answering,
    /// Answered; only being closed.
    Closing,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Another needed the place.
    Evicted,
    /// Others needed the bytes.
    Budget,
}

struct Entry {
    stream: Arc<Stream>,
    phase: Phase,
    /// When it entered the phase.
    since: Instant,
    accepted: Instant,
    /// Whether it ever completed a request.
    completed: bool,
    held: usize,
    cut: Option<Cut>,
}

struct Table {
    /// As many as connections are allowed.
    seats: Vec<Option<Entry>>,
    held: usize,
}

pub(super) struct Roster {
    table: Mutex<Table>,
    /// A seat or bytes were given back, or somebody was cut.
    room: Condvar,
    bounds: Bounds,
    counters: Arc<Counters>,
}

impl Roster {
    pub(super) fn new(connections: usize, bounds: Bounds, counters: Arc<Counters>) -> Self {
        Roster {
            table: Mutex::new(Table { seats: (0..connections).map(|_| None).collect(), held: 0 }),
            room: Condvar::new(),
            bounds,
            counters,
        }
    }

    /// A place for a new connection, made free if need be; `None` where nobody may be displaced.
    pub(super) fn seat(self: &Arc<Self>, stream: Arc<Stream>) -> Option<Seat> {
        let mut table = self.lock();
        let deadline = Instant::now() + Duration::from_millis(ROOM_WAIT_MS);
        let index = loop {
            if let Some(free) = table.seats.iter().position(Option::is_none) {
                break free;
            }
            let now = Instant::now();
            if !table.evicting() {
                let index = table.least_deserving(now, self.bounds.untaken)?;
                table.cut(index, Cut::Evicted, Shutdown::Both);
                self.counters.evicted.add(1);
                self.room.notify_all();
            }
            table = self.wait(table, deadline.checked_duration_since(now)?);
        };
        let now = Instant::now();
        table.seats[index] = Some(Entry {
            stream,
            phase: Phase::Waiting,
            since: now,
            accepted: now,
            completed: false,
            held: 0,
            cut: None,
        });
        drop(table);
        self.counters.open.add(1);
        Some(Seat { roster: Arc::clone(self), index, held: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics halfway through a change of the table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, table: MutexGuard<'a, Table>, time: Duration) -> MutexGuard<'a, Table> {
        let waited = self.room.wait_timeout(table, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Table {
    fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let numbered = self.seats.iter().enumerate();
        numbered.filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    fn evicting(&self) -> bool {
        self.entries().any(|(_, entry)| entry.cut == Some(Cut::Evicted))
    }

    /// Who makes room for a new connection, in the order of the limits' table, the oldest first.
    fn least_deserving(&self, now: Instant, untaken: Duration) -> Option<usize> {
        let ranked = self.entries().filter_map(|(index, entry)| {
            if entry.cut == Some(Cut::Evicted) {
                return None;
            }
            let stalled = now.duration_since(entry.since) >= untaken;
            let (rank, age) = match entry.phase {
                Phase::Waiting | Phase::Reading if !entry.completed => (1, entry.accepted),
                // It has had its last answer.
                Phase::Closing => (1, entry.since),
                Phase::Waiting => (2, entry.since),
                Phase::Answering if stalled => (3, entry.since),
                // Otherwise one completed request would buy a place for as long as the deadlines of
                // the next allow.
                Phase::Reading if stalled => (4, entry.since),
                Phase::Reading | Phase::Answering | Phase::Serving => return None,
            };
            Some((rank, age, index))
        });
        ranked.min().map(|(_, _, index)| index)
    }

    /// Who holds most of what may be taken away; of equals the one that has for longest.
    fn biggest(&self) -> Option<usize> {
        self.entries()
            .filter(|(_, entry)| {
                entry.held > 0 && entry.cut.is_none() && entry.phase != Phase::Serving
            })
            .max_by_key(|(_, entry)| (entry.held, std::cmp::Reverse(entry.since)))
            .map(|(index, _)| index)
    }

    fn cut(&mut self, index: usize, why: Cut, how: Shutdown) {
        if let Some(entry) = &mut self.seats[index] {
            entry.cut = Some(why);
            // Wakes the thread that reads from it or writes to it.
            entry.stream.shutdown(how);
        }
    }
}

/// A connection's place in the roster, given back when dropped.
pub(super) struct Seat {
    roster: Arc<Roster>,
    index: usize,
    /// What the table says, so that most changes of a few bytes need no lock.
    held: usize,
}

impl Seat {
    /// Says what the connection does from now on; `false` if it was cut and must end instead. One
    /// that was cut for its bytes may still say so to its client.
    #[must_use]
    pub(super) fn enter(&self, phase: Phase) -> bool {
        let now = Instant::now();
        let mut table = self.roster.lock();
        let Some(entry) = &mut table.seats[self.index] else {
            return false;
        };
        match (entry.cut, phase) {
            (None, _) | (Some(Cut::Budget), Phase::Closing) => {}
            _ => return false,
        }
        // A byte more does not make what is being read any younger; an answer of which some was
        // taken does not lie untaken.
        if entry.phase != phase || phase == Phase::Answering {
            entry.since = now;
        }
        entry.phase = phase;
        entry.completed |= matches!(phase, Phase::Serving | Phase::Answering);
        true
    }

    /// Why it was cut, if it was.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.roster.lock().seats[self.index].as_ref()?.cut
    }

    /// Says how many bytes the connection holds from now on. When the budget is spent the one that
    /// holds most, not counting what just came, is cut, and this waits until it is gone. `false`:
    /// that one is this one.
    #[must_use]
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        // What fits into a connection's first buffers is the connection's; the rest is counted in
        // steps.
        let bytes = match bytes {
            0..=HELD_STEP_BYTES => 0,
            more => more.next_multiple_of(HELD_STEP_BYTES),
        };
        if bytes == self.held {
            return true;
        }
        let granted = self.charge(bytes);
        if granted {
            self.held = bytes;
        }
        granted
    }

    fn charge(&self, bytes: usize) -> bool {
        let roster = &*self.roster;
        let mut table = roster.lock();
        if bytes < self.held {
            self.set_held(&mut table, bytes);
            roster.room.notify_all();
            return true;
        }
        let deadline = Instant::now() + Duration::from_millis(ROOM_WAIT_MS);
        loop {
            if self.is_cut(&table) {
                return false;
            }
            let after = table.held - self.held + bytes;
            if after <= roster.bounds.held_bytes_max {
                self.set_held(&mut table, bytes);
                return true;
            }
            let cut = table.entries().filter(|(_, entry)| entry.cut.is_some());
            let leaving: usize = cut.map(|(_, entry)| entry.held).sum();
            let now = Instant::now();
            if after - leaving > roster.bounds.held_bytes_max || now >= deadline {
                let victim = if now < deadline { table.biggest() } else { None };
                let victim = victim.unwrap_or(self.index);
                let how = match &table.seats[victim] {
                    Some(entry) if entry.phase == Phase::Reading => Shutdown::Read,
                    _ => Shutdown::Both,
                };
                table.cut(victim, Cut::Budget, how);
                roster.counters.cut(CutBy::HeldBytes);
                roster.room.notify_all();
            } else {
                table = roster.wait(table, deadline - now);
            }
        }
    }

    fn is_cut(&self, table: &Table) -> bool {
        let entry = table.seats[self.index].as_ref();
        entry.is_none_or(|entry| entry.cut.is_some())
    }

    fn set_held(&self, table: &mut Table, bytes: usize) {
        table.held = table.held - self.held + bytes;
        if let Some(entry) = &mut table.seats[self.index] {
            entry.held = bytes;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.roster.lock();
        table.held -= self.held;
        table.seats[self.index] = None;
        drop(table);
        self.roster.counters.open.sub(1);
        self.roster.room.notify_all();
    }
}
