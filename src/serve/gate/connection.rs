//! One client's connection, from its first byte to its last.
//!
//! Invariant: each request gets exactly one answer or none, in order; after an answer to something
//! that was not understood, or not read to its end, nothing more is read as a request.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::admission::{Refusal, Understood, timeout, unanswered, understand};
use super::answer::{self, CONTINUE, InnerHead, Persistence};
use super::chunked::Decoder;
use super::counters::CutBy;
use super::inner::{Client, Lost};
use super::pieces::Pieces;
use super::request::{Body, Scanner, finish_inner};
use super::roster::{Cut, Phase, Seat, Turn};
use super::stream::Timed;
use super::{Shared, busy};
use crate::core::limits::{HEAD_BYTES_MAX, HELD_STEP_BYTES, LINGER_BYTES_MAX, LINGER_MS};
use crate::core::problem::Problem;
use crate::sys::journal;

/// How often a connection that was cut for its bytes looks whether it may go.
const LOOK_MS: u64 = 20;
/// Slices in one write: the head and pieces of the body.
const SLICES: usize = 5;

/// The life of a connection's thread.
pub(super) fn serve(shared: &Shared, client: Timed, seat: Seat) {
    let mut connection = Connection {
        shared,
        client,
        input: Vec::new(),
        inner_request: Pieces::new(&shared.stock),
        inner_answer: Pieces::new(&shared.stock),
        head: Vec::new(),
        seat,
    };
    loop {
        match connection.exchange() {
            Ok(Persistence::Close) => return connection.close(),
            Ok(_) if connection.rest() => {}
            Ok(_) | Err(End::Silent) => return,
            Err(End::Answered(refusal)) => return connection.last_words(&refusal),
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    client: Timed,
    /// What has come and is not yet part of a request: a head in the making, or later requests.
    input: Vec<u8>,
    /// The body of the request as it goes inside, behind the head.
    inner_request: Pieces,
    /// The answer as it came from inside.
    inner_answer: Pieces,
    /// A head in the writing: of the inner request, then of the answer.
    head: Vec<u8>,
    /// Dropped after the pieces, which it answers for.
    seat: Seat,
}

/// How a connection ends before its client wants it to.
enum End {
    /// The client has gone, was displaced, or takes no answer.
    Silent,
    Answered(Refusal),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        End::Answered(Refusal::new(problem))
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::Answered(refusal)
    }
}

impl Connection<'_> {
    /// One request and its answer.
    fn exchange(&mut self) -> Result<Persistence, End> {
        let head_bytes = self.read_head()?;
        let body_deadline = Instant::now() + self.bounds().body;
        self.head.clear();
        let head = &self.input[..head_bytes];
        let understood = understand(&self.shared.settings, head, &mut self.head);
        self.input.drain(..head_bytes);
        let understood = match understood? {
            Ok(understood) => understood,
            Err((refusal, persistence)) => {
                self.answer_refusal(&refusal, persistence)?;
                return Ok(persistence);
            }
        };
        match understood.body {
            Body::Length(bytes) => self.read_body(bytes, &understood, body_deadline)?,
            Body::Chunked => self.read_chunked(&understood, body_deadline)?,
        }
        finish_inner(&mut self.head, self.inner_request.len());
        if let Some(busy) = self.go_inside(&understood)? {
            let persistence = understood.persistence;
            self.answer_refusal(&busy, persistence)?;
            return Ok(persistence);
        }
        let inner = self.ask_inside(&understood)?;
        self.enter(Phase::Answering)?;
        self.head.clear();
        let inner_head = &self.inner_answer.start()[..inner.head_bytes];
        let mode = self.shared.settings.mode;
        let persistence = understood.persistence;
        answer::translate(&mut self.head, inner_head, inner.body_bytes, mode, persistence);
        let body = if understood.is_head { self.inner_answer.len() } else { inner.head_bytes };
        self.send(body)?;
        Ok(persistence)
    }

    /// Reads until a head is whole: the idle deadline until its first byte, the head's from there.
    fn read_head(&mut self) -> Result<usize, End> {
        let mut scanner = Scanner::default();
        let begun = Instant::now();
        let mut head_deadline = None;
        loop {
            if !self.input.is_empty() && head_deadline.is_none() {
                head_deadline = Some(Instant::now() + self.bounds().head);
            }
            let found = scanner.advance(&self.input);
            if let Some(head_bytes) = found.map_err(|problem| Refusal::of(&self.input, problem))? {
                return Ok(head_bytes);
            }
            if head_deadline.is_some() {
                self.enter(Phase::Reading)?;
            }
            let (deadline, by) = match head_deadline {
                None => (begun + self.bounds().idle, CutBy::Idle),
                Some(deadline) => (deadline, CutBy::Head),
            };
            // The scanner refuses before this is more than one byte over the limit.
            let room = (HEAD_BYTES_MAX + 1).saturating_sub(self.input.len());
            let piece = room.clamp(1, self.input.len().max(HELD_STEP_BYTES));
            let came = read_into(&mut self.client, &mut self.input, piece, deadline);
            self.arrived(came, by)?;
            if !self.seat.hold(self.input.len()) {
                return Err(self.cut_end());
            }
        }
    }

    /// Puts a body of that length into the inner request.
    fn read_body(
        &mut self,
        bytes: usize,
        request: &Understood,
        deadline: Instant,
    ) -> Result<(), End> {
        let at_hand = bytes.min(self.input.len());
        let input = mem::take(&mut self.input);
        self.append(&input[..at_hand])?;
        self.input = input;
        self.input.drain(..at_hand);
        let mut missing = bytes - at_hand;
        if missing > 0 {
            self.expect_body(request, at_hand, deadline)?;
        }
        while missing > 0 {
            let Connection { seat, inner_request, input, client, .. } = self;
            let came = match inner_request.room(|held| seat.hold(held + input.len())) {
                None => return Err(self.cut_end()),
                Some(room) => {
                    let wanted = room.len().min(missing);
                    client.read(&mut room[..wanted], deadline)
                }
            };
            let came = self.arrived(came, CutBy::Body)?;
            self.inner_request.came(came);
            missing -= came;
        }
        Ok(())
    }

    /// Puts a chunked body into the inner request, its chunks joined.
    fn read_chunked(&mut self, request: &Understood, deadline: Instant) -> Result<(), End> {
        let mut decoder = Decoder::new(self.shared.settings.body_bytes_max);
        self.expect_body(request, self.input.len(), deadline)?;
        loop {
            let input = mem::take(&mut self.input);
            let mut left = &input[..];
            while !left.is_empty() && !decoder.is_done() {
                let (data, rest) = decoder.advance(left)?;
                self.append(data)?;
                left = rest;
            }
            let taken = input.len() - left.len();
            self.input = input;
            self.input.drain(..taken);
            if decoder.is_done() {
                return Ok(());
            }
            let came = read_into(&mut self.client, &mut self.input, HELD_STEP_BYTES, deadline);
            self.arrived(came, CutBy::Body)?;
        }
    }

    /// More of a body is to come, and a client may wait until it is asked for it.
    fn expect_body(
        &mut self,
        request: &Understood,
        at_hand: usize,
        deadline: Instant,
    ) -> Result<(), End> {
        self.enter(Phase::Reading)?;
        if request.expects_continue && at_hand == 0 {
            self.write(&[IoSlice::new(CONTINUE)], deadline, CutBy::Body)?;
        }
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            let Connection { seat, inner_request, .. } = self;
            let Some(room) = inner_request.room(|held| seat.hold(held + bytes.len())) else {
                return Err(self.cut_end());
            };
            let piece = room.len().min(bytes.len());
            room[..piece].copy_from_slice(&bytes[..piece]);
            inner_request.came(piece);
            bytes = &bytes[piece..];
        }
        Ok(())
    }

    /// Waits for its turn; what to answer instead if there is none for it. Nothing has happened then.
    fn go_inside(&mut self, request: &Understood) -> Result<Option<Refusal>, End> {
        let until = Instant::now() + self.bounds().queue;
        let bytes = self.head.len() + self.inner_request.len();
        match self.seat.go_inside(request.waits, bytes, until) {
            Turn::Come => Ok(None),
            Turn::Cut => Err(self.cut_end()),
            Turn::Busy => {
                let problem = busy("Too many requests wait for the executor; nothing was done");
                Ok(Some(Refusal { is_head: request.is_head, ..Refusal::new(problem) }))
            }
        }
    }

    /// Has the front answer the request that is whole.
    fn ask_inside(&mut self, request: &Understood) -> Result<InnerHead, End> {
        let Connection { shared, client, seat, input, head, inner_request, inner_answer, .. } =
            self;
        let mut waiting = Waiting { shared, client, seat, input, has_gone: false };
        let asked = round_trip(shared, head, inner_request, inner_answer, &mut waiting);
        let problem = match asked {
            Ok(head) => return Ok(head),
            Err(None) => busy("The front takes no request now"),
            Err(Some(Lost::NoRoom)) => return Err(End::Silent),
            Err(Some(Lost::Broken(error))) => {
                let error = error.to_string().into();
                journal::error("The front's answer was lost", &[("error", error)]);
                unanswered(request.is_post)
            }
        };
        Err(End::Answered(Refusal { problem, allow: None, is_head: request.is_head }))
    }

    /// Between requests: keeps only what belongs to the next. `false` if another took the place.
    fn rest(&mut self) -> bool {
        self.inner_request.clear();
        self.inner_answer.clear();
        shrink(&mut self.input);
        let phase = if self.input.is_empty() { Phase::Waiting } else { Phase::Reading };
        self.seat.hold(self.input.len()) && self.seat.enter(phase)
    }

    /// The one answer before a close that the client did not ask for.
    fn last_words(mut self, refusal: &Refusal) {
        self.free();
        if self.answer_refusal(refusal, Persistence::Close).is_ok() {
            self.close();
        }
    }

    fn answer_refusal(&mut self, refusal: &Refusal, then: Persistence) -> Result<(), End> {
        let closing = then == Persistence::Close;
        self.enter(if closing { Phase::Closing } else { Phase::Answering })?;
        self.head.clear();
        self.inner_answer.clear();
        let mode = self.shared.settings.mode;
        let Refusal { problem, allow, is_head } = refusal;
        answer::problem(&mut self.head, problem, *allow, mode, then, *is_head);
        self.send(0)
    }

    /// Closes such that the client can read its last answer: nothing more is sent, and what the
    /// client still sends is thrown away for a while, since closing on it would send a reset, which
    /// overtakes the answer (RFC 9112, section 9.6).
    fn close(mut self) {
        self.free();
        if !self.seat.enter(Phase::Closing) {
            return;
        }
        let time = Duration::from_millis(LINGER_MS);
        if self.seat.cut().is_none() {
            self.client.shutdown(Shutdown::Write);
            discard(&mut self.client, time, || true);
        } else {
            // Its reading side is shut, so that an end is no end and only the time says when.
            let seat = &self.seat;
            discard(&mut self.client, time, || {
                std::thread::sleep(Duration::from_millis(LOOK_MS));
                seat.cut() == Some(Cut::Evicted)
            });
        }
    }

    fn free(&mut self) {
        self.input = Vec::new();
        self.inner_request.clear();
        self.inner_answer.clear();
        // Giving back needs no leave.
        let _ = self.seat.hold(0);
    }

    /// Sends the head, and the inner answer from there on, all of it within the deadline.
    fn send(&mut self, mut body: usize) -> Result<(), End> {
        let deadline = Instant::now() + self.bounds().answer;
        let head = mem::take(&mut self.head);
        let answer = mem::replace(&mut self.inner_answer, Pieces::new(&self.shared.stock));
        let mut head_sent = 0;
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&head[head_sent..]);
            let filled = answer.slices(body, &mut slices[1..]);
            let sent = self.write(&slices[..=filled], deadline, CutBy::Answer)?;
            let of_head = sent.min(head.len() - head_sent);
            head_sent += of_head;
            body += sent - of_head;
            if head_sent == head.len() && body >= answer.len() {
                break;
            }
        }
        self.head = head;
        self.inner_answer = answer;
        Ok(())
    }

    fn write(&mut self, slices: &[IoSlice], deadline: Instant, by: CutBy) -> Result<usize, End> {
        match self.client.write(slices, deadline) {
            Ok(sent) => {
                self.shared.counters.bytes_out.add(sent as u64);
                Ok(sent)
            }
            Err(error) => {
                if error.kind() == ErrorKind::TimedOut {
                    self.shared.counters.cut(by);
                }
                Err(End::Silent)
            }
        }
    }

    /// Accounts for what a read brought, or says how its failure ends the connection.
    fn arrived(&mut self, came: io::Result<usize>, by: CutBy) -> Result<usize, End> {
        match came {
            Ok(0) => Err(self.cut_end()),
            Ok(came) => {
                self.shared.counters.bytes_in.add(came as u64);
                Ok(came)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                self.shared.counters.cut(by);
                match by {
                    CutBy::Head => Err(timeout("The head did not come in time").into()),
                    CutBy::Body => Err(timeout("The body did not come in time").into()),
                    _ => Err(End::Silent),
                }
            }
            Err(_) => Err(End::Silent),
        }
    }

    fn enter(&mut self, phase: Phase) -> Result<(), End> {
        if self.seat.enter(phase) {
            return Ok(());
        }
        Err(self.cut_end())
    }

    fn cut_end(&self) -> End {
        match self.seat.cut() {
            Some(Cut::Budget) => busy("Too many bytes are held; this request held most").into(),
            Some(Cut::Evicted) | None => End::Silent,
        }
    }

    fn bounds(&self) -> &super::Bounds {
        &self.shared.settings.bounds
    }
}

/// A client whose request is inside.
struct Waiting<'a> {
    shared: &'a Shared,
    client: &'a mut Timed,
    seat: &'a mut Seat,
    input: &'a mut Vec<u8>,
    has_gone: bool,
}

impl Client for Waiting<'_> {
    fn may_hold(&mut self, bytes: usize) -> bool {
        self.seat.hold(bytes + self.input.len())
    }

    /// Looks whether the client is still there. It may send its next request meanwhile, of which a
    /// little is taken.
    fn still_waits(&mut self) {
        let room = HELD_STEP_BYTES.saturating_sub(self.input.len());
        if self.has_gone {
            return;
        }
        // What it has sent beyond hides whether it is there: its answer takes a place again.
        if room == 0 {
            self.seat.leave_place();
            return;
        }
        let at_once = Instant::now() + Duration::from_millis(1);
        match read_into(self.client, self.input, room, at_once) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Ok(came @ 1..) => self.shared.counters.bytes_in.add(came as u64),
            Ok(0) | Err(_) => {
                self.has_gone = true;
                self.seat.leave_place();
            }
        }
    }
}

/// Sends the request, frees it, and takes the answer. `Err(None)`: nothing was sent.
fn round_trip(
    shared: &Shared,
    head: &[u8],
    request: &mut Pieces,
    answer: &mut Pieces,
    client: &mut Waiting,
) -> Result<InnerHead, Option<Lost>> {
    let mut loan = shared.pool.lend().map_err(|error| {
        let error = error.to_string().into();
        journal::error("No inner connection", &[("error", error)]);
        None
    })?;
    loan.send(head, request, client)?;
    request.clear();
    // Giving back needs no leave.
    let _ = client.may_hold(0);
    let head = loan.receive(answer, client)?;
    loan.give_back();
    Ok(head)
}

/// Reads once, at most `piece` bytes, to the end of `buffer`.
fn read_into(
    client: &mut Timed,
    buffer: &mut Vec<u8>,
    piece: usize,
    deadline: Instant,
) -> io::Result<usize> {
    let start = buffer.len();
    if buffer.capacity() - start < piece {
        // Doubled at most, so that a promised length that never comes costs nothing.
        buffer.reserve_exact(piece.max(start));
    }
    buffer.resize(start + piece, 0);
    let result = client.read(&mut buffer[start..], deadline);
    buffer.truncate(start + *result.as_ref().unwrap_or(&0));
    result
}

/// Reads and throws away until the client has closed (and `at_end` agrees), for that long at most.
fn discard(client: &mut Timed, time: Duration, mut at_end: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    let mut scratch = [0; HELD_STEP_BYTES];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match client.read(&mut scratch, deadline) {
            Ok(0) if at_end() => return,
            Ok(came) => left = left.saturating_sub(came),
            Err(_) => return,
        }
    }
}

/// Gives back what a large request left behind.
fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > HELD_STEP_BYTES {
        let kept = mem::take(buffer);
        buffer.extend_from_slice(&kept);
    }
}
