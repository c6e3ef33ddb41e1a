//! The inner connections: the only way to `tiny_http`, and the watch over it.
//!
//! Invariant: each connection has been proved by a round trip before the next is opened, and carries
//! one request at a time. `tiny_http`'s thread pool loses wake-ups: of connections opened at the same
//! moment some are never read. Once a connection has been answered, a thread is its own.

use std::cmp::Ordering;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{self, InnerHead};
use super::pieces::{Pieces, Stock};
use crate::core::limits::INNER_ATTEMPTS_MAX;
use crate::sys::dir::{Identity, identity};

const PROOF: &[u8] = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// A waiting thread looks at the executor this many times in an inner deadline.
const LOOKS_PER_DEADLINE: u32 = 5;
/// Slices in one write: of a request, its head and three pieces.
const SLICES: usize = 4;

/// What the gate asks of the process around it.
pub struct Watch {
    /// Whether the executor has nothing to do: then an answer cannot take long.
    pub executor_idle: Box<dyn Fn() -> bool + Send + Sync>,
    /// Called with the reason when the front no longer answers: a bug that only a new process
    /// mends.
    pub fatal: Box<dyn Fn(&str) + Send + Sync>,
}

/// Whose request is inside.
pub(super) trait Client {
    /// Whether so many charged bytes of the answer may be held.
    fn may_hold(&mut self, bytes: usize) -> bool;
    /// Called now and then while there is no answer.
    fn still_waits(&mut self);
}

pub(super) struct Pool {
    path: PathBuf,
    /// Of the socket at that path, which is ours.
    identity: Identity,
    connections: usize,
    free: Mutex<Vec<UnixStream>>,
    /// Held while a connection is opened and proved.
    opening: Mutex<()>,
    /// Round trips completed.
    answered: AtomicU64,
    deadline: Duration,
    watch: Watch,
}

/// The answer did not come: the request may or may not have had its effect.
#[derive(Debug)]
pub(super) enum Lost {
    Broken(io::Error),
    /// Its bytes found no room.
    NoRoom,
}

impl Pool {
    /// Opens and proves as many connections as there may be clients.
    pub(super) fn open(
        path: &Path,
        connections: usize,
        deadline: Duration,
        watch: Watch,
    ) -> io::Result<Self> {
        let pool = Pool {
            path: path.to_owned(),
            identity: identity(&path.symlink_metadata()?),
            connections,
            free: Mutex::new(Vec::with_capacity(connections)),
            opening: Mutex::new(()),
            answered: AtomicU64::new(0),
            deadline,
            watch,
        };
        for _ in 0..connections {
            let proved = pool.open_one()?;
            lock(&pool.free).push(proved);
        }
        Ok(pool)
    }

    /// A connection for one request. There are as many as requests inside, so only one that broke is
    /// ever missing; it is replaced here.
    pub(super) fn lend(&self) -> io::Result<Loan<'_>> {
        // The one used last: its thread and its buffers are warm.
        let free = lock(&self.free).pop();
        let stream = match free {
            Some(stream) => stream,
            None => self.open_one()?,
        };
        Ok(Loan::new(self, stream))
    }

    fn open_one(&self) -> io::Result<UnixStream> {
        let _one_by_one = lock(&self.opening);
        let mut failed = io::Error::from(ErrorKind::TimedOut);
        for _ in 0..INNER_ATTEMPTS_MAX {
            match self.prove() {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        let reason = format!("{}: the front does not answer: {failed}", self.path.display());
        Err(io::Error::new(failed.kind(), reason))
    }

    fn prove(&self) -> io::Result<UnixStream> {
        // Another process of this user could listen there instead, and answer in our name.
        let found = self.path.symlink_metadata();
        if !found.is_ok_and(|found| identity(&found) == self.identity) {
            let reason = "the inner socket was removed or replaced by somebody else";
            (self.watch.fatal)(reason);
            return Err(io::Error::other(reason));
        }
        #[allow(clippy::disallowed_methods, reason = "the gate reaching its own inner socket")]
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(self.deadline))?;
        stream.set_write_timeout(Some(self.deadline))?;
        stream.write_all(PROOF)?;
        let mut answer = Pieces::new(&Arc::new(Stock::default()));
        while is_whole(&answer)?.is_none() {
            read_some(&mut stream, &mut answer, |_| false)?;
        }
        let look = Some(self.deadline / LOOKS_PER_DEADLINE);
        stream.set_read_timeout(look)?;
        stream.set_write_timeout(look)?;
        Ok(stream)
    }
}

/// One inner connection while a request uses it. Dropped without [`Loan::give_back`] it is closed,
/// because nobody knows what is still to come on it.
pub(super) struct Loan<'a> {
    pool: &'a Pool,
    stream: UnixStream,
    /// Round trips completed when this one began, and when last looked at.
    answered_before: u64,
    answered_seen: u64,
    /// Since when nothing explains why there is no answer.
    unexplained_since: Instant,
}

impl<'a> Loan<'a> {
    fn new(pool: &'a Pool, stream: UnixStream) -> Self {
        let answered = pool.answered.load(Relaxed);
        Loan {
            pool,
            stream,
            answered_before: answered,
            answered_seen: answered,
            unexplained_since: Instant::now(),
        }
    }

    /// Sends a whole request.
    pub(super) fn send(
        &mut self,
        head: &[u8],
        body: &Pieces,
        client: &mut impl Client,
    ) -> Result<(), Lost> {
        let mut sent = 0;
        while sent < head.len() + body.len() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(head.get(sent..).unwrap_or_default());
            let filled = body.slices(sent.saturating_sub(head.len()), &mut slices[1..]);
            match self.stream.write_vectored(&slices[..=filled]) {
                Ok(0) => return Err(Lost::Broken(ErrorKind::WriteZero.into())),
                Ok(more) => sent += more,
                Err(error) => self.waited(error, client)?,
            }
        }
        Ok(())
    }

    /// Takes the whole answer into `answer`, which takes pieces as far as the client may hold them.
    pub(super) fn receive(
        &mut self,
        answer: &mut Pieces,
        client: &mut impl Client,
    ) -> Result<InnerHead, Lost> {
        loop {
            if let Some(head) = is_whole(answer).map_err(Lost::Broken)? {
                return Ok(head);
            }
            match read_some(&mut self.stream, answer, |bytes| client.may_hold(bytes)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::OutOfMemory => return Err(Lost::NoRoom),
                Err(error) => self.waited(error, client)?,
            }
        }
    }

    /// The answer is whole: the next request may use the connection.
    pub(super) fn give_back(self) {
        self.pool.answered.fetch_add(1, Relaxed);
        lock(&self.pool.free).push(self.stream);
    }

    /// Nothing moved for a look's time, or the connection broke. Waiting is explained by an executor
    /// that works, and by a front that answers others; but not by one that has answered everybody
    /// else twice since.
    fn waited(&mut self, error: io::Error, client: &mut impl Client) -> Result<(), Lost> {
        match error.kind() {
            ErrorKind::Interrupted => return Ok(()),
            ErrorKind::WouldBlock => client.still_waits(),
            _ => return Err(Lost::Broken(error)),
        }
        let pool = self.pool;
        let answered = pool.answered.load(Relaxed);
        let overtaken = answered - self.answered_before > 2 * pool.connections as u64;
        let others_answered = answered != self.answered_seen && !overtaken;
        self.answered_seen = answered;
        if others_answered || !(pool.watch.executor_idle)() {
            self.unexplained_since = Instant::now();
        } else if self.unexplained_since.elapsed() >= pool.deadline {
            (pool.watch.fatal)(
                "The front has left a request unanswered while the executor is idle",
            );
            return Err(Lost::Broken(ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}

/// The head of an answer of which every byte has come, and not one more.
fn is_whole(answer: &Pieces) -> io::Result<Option<InnerHead>> {
    let head = answer::inner_head(answer.start()).map_err(io::Error::other)?;
    Ok(match head {
        Some(head) => match (head.head_bytes + head.body_bytes).cmp(&answer.len()) {
            Ordering::Equal => Some(head),
            Ordering::Greater => None,
            Ordering::Less => return Err(io::Error::other("more than the answer")),
        },
        None if answer.start().len() < answer.len() => {
            return Err(io::Error::other("the head is too large"));
        }
        None => None,
    })
}

/// Reads once. The end is an error, since an answer is still due; [`ErrorKind::OutOfMemory`] says
/// that it may not hold more.
fn read_some(
    stream: &mut UnixStream,
    into: &mut Pieces,
    may_hold: impl FnOnce(usize) -> bool,
) -> io::Result<()> {
    let room = into.room(may_hold).ok_or(ErrorKind::OutOfMemory)?;
    match stream.read(room)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        came => {
            into.came(came);
            Ok(())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
