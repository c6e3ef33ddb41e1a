//! Who is connected, what each waits for, and how many bytes each holds: one table, one lock.
//!
//! Whoever waits for its client for longest makes room for another connection, whoever holds most for
//! more bytes. Invariants:
//! - A place is for a connection that waits for its client. A request that waits for the executor takes
//!   none: its connection has one again when the answer is there. So whoever has a place can lose it at
//!   any moment, or is answered at once, and a newcomer always finds one.
//! - Never more places than the limit, never more bytes than the budget, never more requests inside than
//!   inner connections.
//! - A connection whose request is inside is never displaced: both the one who displaces and the one
//!   who goes inside do so under the lock, and whoever comes first wins.
//! - Of the large requests at most [`INSIDE_BYTES_MAX`] are inside, or one. The front and the executor
//!   hold a small multiple of a request's bytes (its value, its record, its answer), so this bounds
//!   them without their counting anything. Large requests go in in the order in which they were whole;
//!   small ones, which count for nothing, never wait for them.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counters::{Counters, CutBy};
use super::plan::inner;
use crate::sys::limits::{INSIDE_BYTES_MAX, OWN_BYTES, SMALL_REQUEST_BYTES};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its client is to say something.
    Reading,
    /// A whole request that is not inside yet.
    Queued,
    /// A whole request, which the executor may have.
    Inside,
    /// The client takes its answer, or has taken it.
    Answering,
    /// It has had its last answer.
    Closing,
}

/// Whether a request may go inside now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Turn {
    Come,
    /// As many requests as may wait for the executor do so, or this one did for too long.
    Busy,
    /// Others needed the bytes.
    Cut,
}

struct Entry {
    /// `None`: nobody sits here.
    stream: Option<Arc<TcpStream>>,
    phase: Phase,
    /// When it entered the phase; until it has completed a request, when it was accepted.
    since: Instant,
    /// Whether it has completed a request, and may make another.
    completed: bool,
    /// Its request is for the executor, and not answered yet: it has no place.
    waits: bool,
    /// Whose it is, where that is asked.
    caller: Option<usize>,
    /// Bytes of a request in line or inside, none for one that does not count.
    large: usize,
    held: usize,
    held_since: Instant,
    /// It must end: at once, or once it has told its client why.
    cut: Option<Shutdown>,
}

#[derive(Default)]
struct Table {
    seats: Vec<Entry>,
    held: usize,
    /// Threads that wait for `room`: mostly none, and then nobody is woken.
    waiting: usize,
}

pub(super) struct Roster {
    table: Mutex<Table>,
    /// A place, bytes or a turn were given back, or somebody was cut.
    room: Condvar,
    places: usize,
    held_bytes_max: usize,
    counters: Arc<Counters>,
}

impl Roster {
    pub(super) fn new(places: usize, held_bytes_max: usize, counters: Arc<Counters>) -> Self {
        let (table, room) = Default::default();
        Roster { table, room, places, held_bytes_max, counters }
    }

    /// A place for a new connection.
    pub(super) fn seat(self: &Arc<Self>, stream: Arc<TcpStream>) -> Seat {
        let mut table = self.free_place(self.lock());
        let now = Instant::now();
        let entry = Entry {
            stream: Some(stream),
            phase: Phase::Reading,
            since: now,
            completed: false,
            waits: false,
            caller: None,
            large: 0,
            held: 0,
            held_since: now,
            cut: None,
        };
        let free = table.seats.iter().position(|entry| entry.stream.is_none());
        let index = free.unwrap_or(table.seats.len());
        match free {
            Some(free) => table.seats[free] = entry,
            None => table.seats.push(entry),
        }
        self.counters.open.add(1);
        Seat { roster: Arc::clone(self), index, held: 0 }
    }

    /// Waits until a place is free, which the one goes from that keeps it for nothing longest. Whoever
    /// is displaced goes at once, and so one at a time.
    fn free_place<'a>(&'a self, mut table: MutexGuard<'a, Table>) -> MutexGuard<'a, Table> {
        while table.placed() >= self.places {
            if let Some(index) = table.longest_waited_for() {
                table.cut(index, Shutdown::Both);
                self.counters.evicted.add(1);
                self.wake(&table);
            }
            table = self.wait(table, Duration::MAX);
        }
        table
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
        self.seats.iter().enumerate().filter(|(_, entry)| entry.stream.is_some())
    }

    fn placed(&self) -> usize {
        self.entries().filter(|(_, entry)| !entry.waits).count()
    }

    /// Whether one more request may wait for the executor. Where it is known who calls, no caller has more of them
    /// there than are left free: so one that floods leaves half, and always room for another's first.
    fn may_wait(&self, caller: Option<usize>, places: usize) -> bool {
        let waiting = || self.entries().filter(|(_, entry)| entry.waits);
        let left = places.saturating_sub(waiting().count());
        let own = waiting().filter(|(_, entry)| entry.caller == caller).count();
        left > 0 && (caller.is_none() || own < left)
    }

    /// Who makes room for another: first those that have not completed a request or have had their
    /// last answer, so that a crowd displaces itself; among them and among the others, the one that
    /// waits for its client for longest. Nobody while somebody is on the way out.
    fn longest_waited_for(&self) -> Option<usize> {
        if self.entries().any(|(_, entry)| entry.cut == Some(Shutdown::Both)) {
            return None;
        }
        let waited_for = self
            .entries()
            .filter(|(_, entry)| !matches!(entry.phase, Phase::Queued | Phase::Inside));
        waited_for.min_by_key(|(_, entry)| (entry.completed, entry.since)).map(|(index, _)| index)
    }

    /// Who gives bytes back: the one that holds most, counted in bytes by time. So an upload that is
    /// just coming is not displaced by many that hold a little less and send no more. Not what is inside.
    fn biggest(&self) -> Option<(usize, Phase)> {
        let holding = self.entries().filter(|(_, entry)| {
            entry.held > 0 && entry.cut.is_none() && entry.phase != Phase::Inside
        });
        let biggest = holding.max_by_key(|(_, entry)| {
            (entry.held as u128 * entry.held_since.elapsed().as_micros(), entry.held)
        });
        biggest.map(|(index, entry)| (index, entry.phase))
    }

    /// Whether the request may go inside, where there are so many inner connections.
    fn has_turn(&self, index: usize, connections: usize) -> bool {
        let large = self.seats[index].large;
        let inside = || self.entries().filter(|(_, entry)| entry.phase == Phase::Inside);
        if inside().count() >= connections {
            return false;
        }
        if large == 0 {
            return true;
        }
        let bytes: usize = inside().map(|(_, entry)| entry.large).sum();
        let queued = self.entries().filter(|(_, entry)| {
            entry.phase == Phase::Queued && entry.large > 0 && entry.cut.is_none()
        });
        let first = queued.min_by_key(|(_, entry)| entry.since).map(|(first, _)| first);
        first == Some(index) && (bytes == 0 || bytes + large <= INSIDE_BYTES_MAX)
    }

    fn cut(&mut self, index: usize, how: Shutdown) {
        self.seats[index].cut = Some(how);
        if let Some(stream) = &self.seats[index].stream {
            // Wakes the thread that reads from it or writes to it. It fails where the client has gone.
            let _ = stream.shutdown(how);
        }
    }
}

/// A connection's place in the roster, given back when dropped.
pub(super) struct Seat {
    roster: Arc<Roster>,
    index: usize,
    /// What the table says, so that what changes nothing needs no lock.
    held: usize,
}

impl Seat {
    /// Says what the connection does from now on; `false` if it was cut and must end instead. One
    /// that was cut for its bytes may still say so to its client.
    #[must_use]
    pub(super) fn enter(&self, phase: Phase) -> bool {
        let mut table = self.roster.lock();
        // Nobody who is on the way out waits for a place, which is perhaps its own.
        if table.seats[self.index].cut == Some(Shutdown::Both) {
            return false;
        }
        if table.seats[self.index].waits {
            table = self.roster.free_place(table);
            self.roster.counters.open.add(1);
            self.roster.counters.waiting.sub(1);
        }
        let entry = &mut table.seats[self.index];
        entry.waits = false;
        match (entry.cut, phase) {
            (None, _) | (Some(Shutdown::Read), Phase::Closing) => {}
            _ => return false,
        }
        entry.phase = phase;
        entry.completed = match phase {
            Phase::Answering => true,
            Phase::Closing => false,
            _ => entry.completed,
        };
        // A byte that comes makes what never completed a request no younger.
        if entry.completed || phase == Phase::Closing {
            entry.since = Instant::now();
        }
        self.roster.wake(&table);
        true
    }

    /// A request of so many bytes is whole. Waits until it may go inside: it is [`Phase::Inside`]
    /// then. One that `waits` for the executor is busy at once where as many as may do so already.
    pub(super) fn go_inside(
        &self,
        waits: bool,
        caller: Option<usize>,
        bytes: usize,
        until: Instant,
    ) -> Turn {
        let roster = &*self.roster;
        let mut table = roster.lock();
        if table.seats[self.index].cut.is_some() {
            return Turn::Cut;
        }
        // The other inner connections are for what is answered at once.
        if waits && !table.may_wait(caller, roster.places) {
            roster.counters.refused.add(1);
            return Turn::Busy;
        }
        let entry = &mut table.seats[self.index];
        entry.phase = Phase::Queued;
        entry.since = Instant::now();
        entry.waits = waits;
        entry.caller = caller;
        entry.large = if waits && bytes > SMALL_REQUEST_BYTES { bytes } else { 0 };
        if waits {
            roster.counters.waiting.add(1);
            roster.counters.open.sub(1);
            roster.wake(&table);
        }
        let turn = loop {
            let left = until.saturating_duration_since(Instant::now());
            if table.seats[self.index].cut.is_some() {
                break Turn::Cut;
            } else if table.has_turn(self.index, inner(roster.places)) {
                table.seats[self.index].phase = Phase::Inside;
                break Turn::Come;
            } else if left.is_zero() {
                roster.counters.refused.add(1);
                break Turn::Busy;
            }
            table = roster.wait(table, left);
        };
        if turn != Turn::Come {
            table.seats[self.index].large = 0;
        }
        // Perhaps it is the next one's turn as well.
        roster.wake(&table);
        turn
    }

    /// Whether a place for it is free now, without displacing anybody.
    pub(super) fn finds_place(&self) -> bool {
        let table = self.roster.lock();
        !table.seats[self.index].waits || table.placed() < self.roster.places
    }

    /// Whether others needed its bytes, and its client can still be told.
    pub(super) fn was_cut_for_its_bytes(&self) -> bool {
        self.roster.lock().seats[self.index].cut == Some(Shutdown::Read)
    }

    /// Says how many bytes the connection's buffers have from now on: before they have more. When the
    /// budget is spent the one that holds most is cut, and this waits until they are given back. `false`: that one is this one.
    #[must_use]
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let bytes = bytes.saturating_sub(OWN_BYTES);
        if bytes == self.held {
            return true;
        }
        let roster = &*self.roster;
        let mut table = roster.lock();
        // What is inside gives its bytes back without this thread's doing, and the rest can be cut: see
        // the assertion about `HELD_BYTES_MAX`.
        while bytes > self.held && table.held - self.held + bytes > roster.held_bytes_max {
            if bytes > roster.held_bytes_max || table.seats[self.index].cut.is_some() {
                return false;
            }
            if !table.entries().any(|(_, entry)| entry.cut.is_some() && entry.held > 0)
                && let Some((index, phase)) = table.biggest()
            {
                roster.counters.cut.by(CutBy::HeldBytes).add(1);
                if index == self.index {
                    return false;
                }
                let is_written_to = matches!(phase, Phase::Answering | Phase::Closing);
                table.cut(index, if is_written_to { Shutdown::Both } else { Shutdown::Read });
                roster.wake(&table);
            }
            table = roster.wait(table, Duration::MAX);
        }
        table.held = table.held - self.held + bytes;
        let entry = &mut table.seats[self.index];
        if entry.held == 0 {
            entry.held_since = Instant::now();
        }
        entry.held = bytes;
        self.held = bytes;
        roster.wake(&table);
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.roster.lock();
        table.held -= self.held;
        let entry = &mut table.seats[self.index];
        entry.stream = None;
        let counters = &self.roster.counters;
        let counted = if entry.waits { &counters.waiting } else { &counters.open };
        counted.sub(1);
        self.roster.wake(&table);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use super::*;

    fn seat(roster: &Arc<Roster>) -> Seat {
        let (stream, _) = UnixStream::pair().unwrap();
        roster.seat(Arc::new(TcpStream::from(OwnedFd::from(stream))))
    }

    /// It had read a whole request when another took its place: it goes, whatever it was about to do.
    #[test]
    fn who_is_displaced_goes_though_its_request_is_whole() {
        for waits in [false, true] {
            let counters = Arc::new(Counters::default());
            let roster = Arc::new(Roster::new(2, 0, Arc::clone(&counters)));
            let (displaced, other) = (seat(&roster), seat(&roster));
            let (seated, newcomer) = channel();
            let thread = std::thread::spawn({
                let roster = Arc::clone(&roster);
                move || seated.send(seat(&roster))
            });
            while counters.evicted.get() == 0 {
                std::thread::yield_now();
            }
            let until = Instant::now() + Duration::from_secs(60);
            assert_eq!(displaced.go_inside(waits, None, 100, until), Turn::Cut);
            assert!(!displaced.enter(Phase::Closing) && !displaced.enter(Phase::Answering));
            assert!(newcomer.try_recv().is_err());
            drop(displaced);
            thread.join().unwrap().unwrap();
            assert_eq!(counters.open.get(), 2);
            drop((other, newcomer));
            assert_eq!((counters.open.get(), counters.waiting.get()), (0, 0));
        }
    }
}
