//! The inner connections: the only way to `tiny_http`, and the watch over it.
//!
//! Invariant: each connection has been proved by a round trip before the next is opened, and carries
//! one request at a time. `tiny_http`'s thread pool loses wake-ups: of connections opened at the same
//! moment some are never read. Once a connection has been answered, a thread is its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{self, InnerHead};
use crate::limits::{INNER_ATTEMPTS_MAX, PIECE_BYTES_MAX};

const PROOF: &[u8] = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// A waiting thread looks at the executor this many times in an inner deadline.
const LOOKS_PER_DEADLINE: u32 = 5;
/// What is read of an answer before its length is known.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// What the gate asks of the process around it.
pub struct Watch {
    /// Whether the executor has nothing to do: then an answer cannot take long.
    pub executor_idle: Box<dyn Fn() -> bool + Send + Sync>,
    /// Called with the reason when the front no longer answers: a bug that only a new process
    /// mends.
    pub fatal: Box<dyn Fn(&str) + Send + Sync>,
}

pub(super) struct Pool {
    path: PathBuf,
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

    /// A connection for one request. There are as many as clients, so only one that broke is ever
    /// missing; it is replaced here.
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
        #[allow(clippy::disallowed_methods, reason = "the gate reaching its own inner socket")]
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(self.deadline))?;
        stream.set_write_timeout(Some(self.deadline))?;
        stream.write_all(PROOF)?;
        let mut answer = Vec::new();
        let head = loop {
            if let Some(head) = answer::inner_head(&answer).map_err(io::Error::other)? {
                break head;
            }
            read_piece(&mut stream, &mut answer, FIRST_READ_BYTES)?;
        };
        while answer.len() < head.head_bytes + head.body_bytes {
            read_piece(&mut stream, &mut answer, FIRST_READ_BYTES)?;
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
        let answered = pool.answered.load(Ordering::Relaxed);
        Loan {
            pool,
            stream,
            answered_before: answered,
            answered_seen: answered,
            unexplained_since: Instant::now(),
        }
    }

    /// Sends a whole request.
    pub(super) fn send(&mut self, mut request: &[u8]) -> Result<(), Lost> {
        while !request.is_empty() {
            match self.stream.write(request) {
                Ok(0) => return Err(Lost::Broken(ErrorKind::WriteZero.into())),
                Ok(sent) => request = &request[sent..],
                Err(error) => self.waited(error)?,
            }
        }
        Ok(())
    }

    /// Takes the whole answer into `answer`, asking `room` for each length it grows to.
    pub(super) fn receive(
        &mut self,
        answer: &mut Vec<u8>,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> Result<InnerHead, Lost> {
        let mut head = None;
        loop {
            if head.is_none() {
                head = answer::inner_head(answer)
                    .map_err(|what| Lost::Broken(io::Error::other(what)))?;
            }
            let missing = match &head {
                Some(head) => (head.head_bytes + head.body_bytes).checked_sub(answer.len()),
                None => Some(FIRST_READ_BYTES),
            };
            match (missing, head) {
                (Some(0), Some(head)) => return Ok(head),
                (None, _) => return Err(Lost::Broken(io::Error::other("more than the answer"))),
                (Some(missing), still) => {
                    head = still;
                    match read_piece(&mut self.stream, answer, missing) {
                        Ok(()) if room(answer.len()) => {}
                        Ok(()) => return Err(Lost::NoRoom),
                        Err(error) => self.waited(error)?,
                    }
                }
            }
        }
    }

    /// The answer is whole: the next request may use the connection.
    pub(super) fn give_back(self) {
        self.pool.answered.fetch_add(1, Ordering::Relaxed);
        lock(&self.pool.free).push(self.stream);
    }

    /// Nothing moved for a look's time, or the connection broke. Waiting is explained by an executor
    /// that works, and by a front that answers others; but not by one that has answered everybody
    /// else twice since.
    fn waited(&mut self, error: io::Error) -> Result<(), Lost> {
        match error.kind() {
            ErrorKind::Interrupted => return Ok(()),
            ErrorKind::WouldBlock => {}
            _ => return Err(Lost::Broken(error)),
        }
        let pool = self.pool;
        let answered = pool.answered.load(Ordering::Relaxed);
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

/// Reads once, at most `wanted` bytes; the end is an error, since an answer is still due.
fn read_piece(stream: &mut UnixStream, into: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    let start = into.len();
    let piece = wanted.min(PIECE_BYTES_MAX);
    if into.capacity() - start < piece {
        // Doubled up to what is still to come: never much more than has arrived.
        into.reserve_exact(wanted.min(start.max(piece)));
    }
    into.resize(start + piece, 0);
    let result = stream.read(&mut into[start..]);
    into.truncate(start + *result.as_ref().unwrap_or(&0));
    match result? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
