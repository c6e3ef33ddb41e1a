//! The inner connections: the only way to `tiny_http`, and the watch over it.
//!
//! Invariant: each connection has been proved by a round trip before the next is opened, and carries
//! one request at a time. `tiny_http`'s thread pool loses wake-ups: of connections opened at the same
//! moment some are never read. Once a connection has been answered, a thread is its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::answer::{self, InnerHead};
use super::stream::{append, left_of};
use crate::sys::dir::{Identity, identity};
use crate::sys::limits::{BUFFER_BYTES, INNER_ATTEMPTS_MAX, PIECE_BYTES};
use crate::sys::locked;

const PROOF: &[u8] = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// A waiting thread looks at the executor this many times in an inner deadline.
const LOOKS_PER_DEADLINE: u32 = 5;

/// What the gate asks of the process around it.
pub struct Watch {
    /// Whether nobody works on anything: then an answer cannot take long.
    pub is_idle: Box<dyn Fn() -> bool + Send + Sync>,
    /// Called with the reason when the front no longer answers: a bug that only a new process
    /// mends.
    pub fatal: Box<dyn Fn(&str) + Send + Sync>,
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

/// A request without an answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing of it was sent.
    NotSent(io::Error),
    /// It may or may not have had its effect.
    Answer(io::Error),
}

impl Pool {
    /// Opens and proves so many connections.
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
            locked(&pool.free).push(proved);
        }
        Ok(pool)
    }

    /// A connection for one request. There are as many as requests inside, so only one that broke is
    /// ever missing; it is replaced here.
    pub(super) fn lend(&self) -> Result<Loan<'_>, Lost> {
        // The one used last: its thread and its buffers are warm.
        let free = locked(&self.free).pop();
        let stream = match free {
            Some(stream) => stream,
            None => self.open_one().map_err(Lost::NotSent)?,
        };
        let answered = self.answered.load(Relaxed);
        Ok(Loan {
            pool: self,
            stream,
            answered_before: answered,
            answered_seen: answered,
            unexplained_since: Instant::now(),
        })
    }

    fn open_one(&self) -> io::Result<UnixStream> {
        let _one_by_one = locked(&self.opening);
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
        let mut answer = Vec::new();
        while read_on(&mut stream, &mut answer, &mut |_| true)?.is_none() {}
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

impl Loan<'_> {
    /// Sends a whole request.
    pub(super) fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), Lost> {
        let mut sent = 0;
        while let Some(slices) = left_of(head, body, sent) {
            match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(Lost::Answer(ErrorKind::WriteZero.into())),
                Ok(more) => {
                    sent += more;
                    self.unexplained_since = Instant::now();
                }
                Err(error) => self.waited(error)?,
            }
        }
        Ok(())
    }

    /// Takes the whole answer, into a buffer that grows once, if it may.
    pub(super) fn receive(
        &mut self,
        answer: &mut Vec<u8>,
        mut may_hold: impl FnMut(usize) -> bool,
    ) -> Result<InnerHead, Lost> {
        loop {
            match read_on(&mut self.stream, answer, &mut may_hold) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => self.unexplained_since = Instant::now(),
                Err(error) => self.waited(error)?,
            }
        }
    }

    /// The answer is whole: the next request may use the connection.
    pub(super) fn give_back(self) {
        self.pool.answered.fetch_add(1, Relaxed);
        locked(&self.pool.free).push(self.stream);
    }

    /// Nothing moved for a look's time, or the connection broke. Waiting is explained by anybody
    /// who works, and by a front that answers others; but not by one that has answered everybody
    /// else twice since.
    fn waited(&mut self, error: io::Error) -> Result<(), Lost> {
        match error.kind() {
            ErrorKind::Interrupted => return Ok(()),
            ErrorKind::WouldBlock => {}
            _ => return Err(Lost::Answer(error)),
        }
        let pool = self.pool;
        let answered = pool.answered.load(Relaxed);
        let overtaken = answered - self.answered_before > 2 * pool.connections as u64;
        let others_answered = answered != self.answered_seen && !overtaken;
        self.answered_seen = answered;
        if others_answered || !(pool.watch.is_idle)() {
            self.unexplained_since = Instant::now();
        } else if self.unexplained_since.elapsed() >= pool.deadline {
            (pool.watch.fatal)("The front has left a request unanswered while nobody works");
            return Err(Lost::Answer(ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}

/// Reads once, unless every byte of an answer has come, and not one more: then here is its head.
/// [`ErrorKind::OutOfMemory`] says that it may not have a larger buffer.
fn read_on(
    stream: &mut UnixStream,
    answer: &mut Vec<u8>,
    may_hold: &mut impl FnMut(usize) -> bool,
) -> io::Result<Option<InnerHead>> {
    let head = answer::inner_head(answer).map_err(io::Error::other)?;
    let due = head.map_or(BUFFER_BYTES, |head| head.head_bytes + head.body_bytes);
    if head.is_some() && answer.len() == due {
        return Ok(head);
    }
    if answer.len() >= due {
        return Err(io::Error::other("more than an answer, or than its head may be"));
    }
    if answer.capacity() < due {
        if !may_hold(due) {
            return Err(ErrorKind::OutOfMemory.into());
        }
        answer.reserve_exact(due - answer.len());
    }
    let piece = (due - answer.len()).min(PIECE_BYTES);
    match append(answer, piece, |room| stream.read(room))? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(None),
    }
}
