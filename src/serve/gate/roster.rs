//! Who is connected, what each is doing, and how many bytes each holds: one table, one lock.
//!
//! It decides who makes room when a connection too many comes, or a byte too many, and whose request
//! goes inside. Invariants:
//! - A newcomer always finds a place. Requests that wait for the executor may have all places but a
//!   few; every other connection waits for its client, and the one that has done so for longest goes.
//! - Never more places than the limit, never more bytes than the budget. A connection whose client has
//!   gone while its request is inside has no place.
//! - A connection whose request is inside is never displaced: both the one who displaces and the one
//!   who goes inside do so under the lock, and whoever comes first wins.
//! - Of the large requests at most [`INSIDE_BYTES_MAX`] are inside, or one. The front and the executor
//!   hold a small multiple of a request's bytes (its value, its record, its answer), so this bounds
//!   them without their counting anything. Large requests go in in the order in which they were whole;
//!   small ones, which count for nothing, never wait for them.

use std::mem;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Bounds;
use super::counters::{Counters, CutBy};
use super::stream::Stream;
use crate::core::limits::{
    CONNECTIONS_PER_RESERVED, HELD_STEP_BYTES, INSIDE_BYTES_MAX, SMALL_REQUEST_BYTES,
};

/// How long somebody waits for what was just displaced to be gone: a thread that wakes and ends.
const ROOM_WAIT_MS: u64 = 1_000;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of a request has come.
    Waiting,
    /// Part of a request has come.
    Reading,
    /// A whole request that is not inside yet.
    Queued,
    /// A whole request, which the executor may have.
    Serving,
    /// The client takes its answer.
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

/// Whether a request may go inside now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Turn {
    Come,
    /// As many requests as may wait for the executor do so, or this one did for too long.
    Busy,
    Cut,
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
    /// For a request that waits for the executor: its bytes, none for a small one.
    waits: Option<usize>,
    /// Its request is inside and its client has gone, as far as can be told: it has no place.
    gone: bool,
}

#[derive(Default)]
struct Table {
    /// Those that have a place, and those whose client has gone.
    seats: Vec<Option<Entry>>,
    held: usize,
    /// Threads that wait for `room`: mostly none, and then nobody is woken.
    waiting: usize,
}

pub(super) struct Roster {
    table: Mutex<Table>,
    places: usize,
    /// A place, bytes or a turn were given back, or somebody was cut.
    room: Condvar,
    bounds: Bounds,
    counters: Arc<Counters>,
}

impl Roster {
    pub(super) fn new(connections: usize, bounds: Bounds, counters: Arc<Counters>) -> Self {
        Roster {
            table: Mutex::default(),
            places: connections,
            room: Condvar::new(),
            bounds,
            counters,
        }
    }

    /// A place for a new connection, made free if need be.
    pub(super) fn seat(self: &Arc<Self>, stream: Arc<Stream>) -> Seat {
        let mut table = self.lock();
        while table.placed() >= self.places {
            if !table.evicting()
                && let Some(index) = table.longest_waited_for()
            {
                table.cut(index, Cut::Evicted, Shutdown::Both);
                self.counters.evicted.add(1);
                self.wake(&table);
            }
            // Those that are cut go at once. Only where all others are inside does this wait for more,
            // and most of those inside are answered at once.
            table = self.wait(table, Duration::MAX);
        }
        let now = Instant::now();
        let entry = Some(Entry {
            stream,
            phase: Phase::Waiting,
            since: now,
            accepted: now,
            completed: false,
            held: 0,
            cut: None,
            waits: None,
            gone: false,
        });
        let index = match table.seats.iter().position(Option::is_none) {
            Some(free) => {
                table.seats[free] = entry;
                free
            }
            None => {
                table.seats.push(entry);
                table.seats.len() - 1
            }
        };
        drop(table);
        self.counters.open.add(1);
        Seat { roster: Arc::clone(self), index, held: 0 }
    }

    /// How many requests may wait for the executor: the other places are for what is answered at once.
    fn waiting_max(&self) -> usize {
        let reserve = (self.places / CONNECTIONS_PER_RESERVED).max(1);
        self.places.saturating_sub(reserve).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics halfway through a change of the table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut table: MutexGuard<'a, Table>, time: Duration) -> MutexGuard<'a, Table> {
        table.waiting += 1;
        let waited = self.room.wait_timeout(table, time);
        let mut table = waited.unwrap_or_else(PoisonError::into_inner).0;
        table.waiting -= 1;
        table
    }

    fn wake(&self, table: &Table) {
        if table.waiting > 0 {
            self.room.notify_all();
        }
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

    fn placed(&self) -> usize {
        self.entries().filter(|(_, entry)| !entry.gone).count()
    }

    /// Who makes room for a new connection: the one that waits for its client since longest. First
    /// those that never completed a request, so that a crowd displaces itself.
    fn longest_waited_for(&self) -> Option<usize> {
        let ranked = self.entries().filter_map(|(index, entry)| {
            if entry.gone || entry.cut == Some(Cut::Evicted) {
                return None;
            }
            match entry.phase {
                Phase::Queued | Phase::Serving => None,
                Phase::Waiting | Phase::Reading if !entry.completed => {
                    Some((false, entry.accepted, index))
                }
                // It has had its last answer.
                Phase::Closing => Some((false, entry.since, index)),
                Phase::Waiting | Phase::Reading | Phase::Answering => {
                    Some((true, entry.since, index))
                }
            }
        });
        ranked.min().map(|(_, _, index)| index)
    }

    /// Whether the request may go inside. There are as many inner connections as places.
    fn has_turn(&self, index: usize, places: usize) -> bool {
        let serving = || self.entries().filter(|(_, entry)| entry.phase == Phase::Serving);
        if serving().count() >= places {
            return false;
        }
        let large = |entry: &Entry| entry.waits.filter(|bytes| *bytes > 0);
        let Some(bytes) = self.seats[index].as_ref().and_then(large) else { return true };
        let inside: usize = serving().filter_map(|(_, entry)| entry.waits).sum();
        let queued = self.entries().filter(|(_, entry)| {
            entry.phase == Phase::Queued && entry.cut.is_none() && large(entry).is_some()
        });
        let first = queued.min_by_key(|(_, entry)| entry.since).map(|(first, _)| first);
        first == Some(index) && (inside == 0 || inside + bytes <= INSIDE_BYTES_MAX)
    }

    /// Who holds most of what may be taken away, counted in bytes by time: an upload that is just coming
    /// is not displaced by many that hold a little less and send no more.
    fn biggest(&self) -> Option<usize> {
        self.entries()
            .filter(|(_, entry)| {
                entry.held > 0 && entry.cut.is_none() && entry.phase != Phase::Serving
            })
            .max_by_key(|(_, entry)| {
                let micros = entry.since.elapsed().as_micros();
                (entry.held as u128 * micros, entry.held, std::cmp::Reverse(entry.since))
            })
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
        // A byte more does not make what is read or taken any younger.
        if entry.phase == phase {
            return true;
        }
        entry.since = now;
        entry.phase = phase;
        entry.completed |= phase == Phase::Answering;
        if entry.waits.take().is_some() {
            self.roster.counters.waiting.sub(1);
        }
        let has_place = !entry.gone;
        self.roster.wake(&table);
        has_place || self.take_place(table)
    }

    /// Back among the connections: its answer has come, and perhaps there is still a client. Others
    /// like it, of which most have none, may be gone in a moment.
    fn take_place(&self, mut table: MutexGuard<Table>) -> bool {
        let deadline = Instant::now() + Duration::from_millis(ROOM_WAIT_MS);
        while table.placed() >= self.roster.places {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            table = self.roster.wait(table, left);
        }
        if let Some(entry) = &mut table.seats[self.index] {
            entry.gone = false;
        }
        self.roster.counters.open.add(1);
        !self.is_cut(&table)
    }

    /// A request of so many bytes is whole. Waits until it may go inside: it is [`Phase::Serving`]
    /// then. One that `waits` for the executor is busy at once where as many as may do so already.
    pub(super) fn go_inside(&self, waits: bool, bytes: usize, until: Instant) -> Turn {
        let roster = &*self.roster;
        let mut table = roster.lock();
        let waiting = table.entries().filter(|(_, entry)| entry.waits.is_some()).count();
        if waits && waiting >= roster.waiting_max() {
            roster.counters.refused.add(1);
            return Turn::Busy;
        }
        if let Some(entry) = &mut table.seats[self.index] {
            entry.phase = Phase::Queued;
            entry.since = Instant::now();
            entry.waits = waits.then_some(if bytes > SMALL_REQUEST_BYTES { bytes } else { 0 });
        }
        if waits {
            roster.counters.waiting.add(1);
        }
        loop {
            if self.is_cut(&table) {
                return Turn::Cut;
            }
            let now = Instant::now();
            if table.has_turn(self.index, roster.places) {
                if let Some(entry) = &mut table.seats[self.index] {
                    entry.phase = Phase::Serving;
                    entry.since = now;
                    entry.completed = true;
                }
                // Perhaps the next in line fits beside it.
                roster.wake(&table);
                return Turn::Come;
            }
            if now >= until {
                roster.counters.refused.add(1);
                return Turn::Busy;
            }
            table = roster.wait(table, until - now);
        }
    }

    /// The client has gone, as far as can be told: it may only have said all. Its place is free; its
    /// request, which is inside, goes on.
    pub(super) fn leave_place(&self) {
        let mut table = self.roster.lock();
        if let Some(entry) = &mut table.seats[self.index]
            && entry.phase == Phase::Serving
            && !mem::replace(&mut entry.gone, true)
        {
            self.roster.counters.open.sub(1);
            self.roster.wake(&table);
        }
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
            roster.wake(&table);
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
                    Some(entry) if matches!(entry.phase, Phase::Reading | Phase::Queued) => {
                        Shutdown::Read
                    }
                    _ => Shutdown::Both,
                };
                table.cut(victim, Cut::Budget, how);
                roster.counters.cut(CutBy::HeldBytes);
                roster.wake(&table);
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
        if let Some(entry) = table.seats[self.index].take() {
            self.roster.counters.open.sub(u64::from(!entry.gone));
            self.roster.counters.waiting.sub(u64::from(entry.waits.is_some()));
        }
        self.roster.wake(&table);
    }
}
