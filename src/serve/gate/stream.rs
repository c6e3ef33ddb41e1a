//! A client's socket, and reads and writes that end at an absolute moment.
//!
//! Invariant: no call here blocks past the deadline it was given, however the bytes dribble. The
//! socket's own timeouts count from the last byte; so before each call they are set to what is left.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::limits::PIECE_BYTES;

/// A timeout that is too long by no more than this is left as it is, which saves a system call a
/// request.
const TIMER_SLACK_MS: u64 = 10;

/// One connection of a client, as its own thread uses it.
#[derive(Debug)]
pub(super) struct Timed {
    /// Shared with whoever may have to cut it, so that it costs one descriptor. A Unix socket too:
    /// nothing is asked of it that is not asked of every socket.
    stream: Arc<TcpStream>,
    /// The timeouts the socket has now.
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Timed {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Timed { stream, read_timeout: Duration::MAX, write_timeout: Duration::MAX }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // It fails where the client has already gone.
        let _ = self.stream.shutdown(how);
    }

    /// Reads once; 0 is the end of what the client sends, [`ErrorKind::TimedOut`] the deadline.
    pub(super) fn read(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        let stream = &*self.stream;
        let set = |left| stream.set_read_timeout(Some(left));
        by(deadline, &mut self.read_timeout, set, || (&*stream).read(into))
    }

    /// Writes once, at least a byte; [`ErrorKind::TimedOut`] is the deadline.
    pub(super) fn write(&mut self, slices: &[IoSlice], deadline: Instant) -> io::Result<usize> {
        let stream = &*self.stream;
        let set = |left| stream.set_write_timeout(Some(left));
        match by(deadline, &mut self.write_timeout, set, || (&*stream).write_vectored(slices))? {
            0 => Err(ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }
}

/// Reads once, at most so many bytes, to the end of the buffer.
pub(super) fn append(
    buffer: &mut Vec<u8>,
    most: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let len = buffer.len();
    buffer.resize(len + most, 0);
    let came = read(&mut buffer[len..]);
    buffer.truncate(len + *came.as_ref().unwrap_or(&0));
    came
}

/// What to write next of both when so many bytes of them were; `None` at their end. At most a piece: a
/// Unix socket takes more than fits in parts, and begins its timeout anew with each.
pub(super) fn left_of<'a>(
    head: &'a [u8],
    body: &'a [u8],
    written: usize,
) -> Option<[IoSlice<'a>; 2]> {
    let head_left = head.get(written..).unwrap_or_default();
    let body_left = &body[written.saturating_sub(head.len())..];
    let piece = &body_left[..body_left.len().min(PIECE_BYTES)];
    let is_left = !head_left.is_empty() || !piece.is_empty();
    is_left.then(|| [IoSlice::new(head_left), IoSlice::new(piece)])
}

/// Does it once, by the deadline: with the socket's timeout set to what is left.
fn by(
    deadline: Instant,
    timeout: &mut Duration,
    set: impl Fn(Duration) -> io::Result<()>,
    mut transfer: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        if *timeout < left || *timeout - left > Duration::from_millis(TIMER_SLACK_MS) {
            set(left)?;
            *timeout = left;
        }
        match transfer() {
            // The socket's timeout comes as `WouldBlock`; after a signal, too, the deadline decides.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            result => return result,
        }
    }
}
