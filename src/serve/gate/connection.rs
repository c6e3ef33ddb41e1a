//! One client's connection, from its first byte to its last.
//!
//! Invariant: each request gets exactly one answer or none, in order; after an answer to something
//! that was not understood, or not read to its end, nothing more is read as a request.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::admission::{Understood, understand};
use super::answer::{self, CONTINUE, InnerHead, Persistence, Refusal};
use super::chunked::Decoder;
use super::counters::CutBy;
use super::inner::Lost;
use super::request::{Body, Scanner, finish_inner};
use super::roster::{Phase, Seat, Turn};
use super::stream::{Timed, append, left_of};
use super::{Shared, busy};
use crate::core::problem::{Code, Problem};
use crate::sys::journal;
use crate::sys::limits::{BUFFER_BYTES, HEAD_BYTES_MAX, LINGER_BYTES_MAX, LINGER_MS, PIECE_BYTES};

/// What takes no longer counts as waiting for nobody.
const AT_ONCE_MS: u64 = 1;

/// The life of a connection's thread.
pub(super) fn serve(shared: &Shared, client: Timed, seat: Seat) {
    let (input, head, answer) = Default::default();
    let mut connection = Connection { shared, client, input, head, answer, seat };
    loop {
        let then = match connection.exchange() {
            Err(End::Answered(refusal)) => connection.refuse(&refusal),
            ended => ended,
        };
        match then {
            Ok(Persistence::Close) => return connection.close(),
            Ok(_) => connection.rest(),
            Err(_) => return,
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    client: Timed,
    /// What has come and is not yet inside: a request in the making, and what came behind it.
    input: Vec<u8>,
    /// A head in the writing: of the inner request, then of the answer.
    head: Vec<u8>,
    /// The answer as it came from inside.
    answer: Vec<u8>,
    /// Dropped after the buffers, which it answers for.
    seat: Seat,
}

/// How a request ends that has no answer from inside.
enum End {
    /// The client has gone, was displaced, or takes no answer: so ends the connection.
    Silent,
    Answered(Refusal),
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
        // It may hold a token.
        self.input[..head_bytes].fill(0);
        self.input.drain(..head_bytes);
        let request = understood?;
        let body_bytes = match request.body {
            Body::Length(bytes) => self.read_body(bytes, &request, body_deadline)?,
            Body::Chunked => self.read_chunked(&request, body_deadline)?,
        };
        finish_inner(&mut self.head, body_bytes);
        self.go_inside(body_bytes, &request)?;
        let inner = self.ask_inside(body_bytes, &request)?;
        // A client that has gone, or has only said all, takes no other's place for its answer: it gets
        // what its socket takes at once.
        let takes_place = self.seat.finds_place() || !self.has_said_all();
        if takes_place {
            self.enter(Phase::Answering)?;
        }
        self.head.clear();
        let inner_head = &self.answer[..inner.head_bytes];
        let mode = self.shared.settings.mode;
        let then = request.persistence;
        answer::translate(&mut self.head, inner_head, inner.body_bytes, mode, then);
        let body_at = if request.is_head { self.answer.len() } else { inner.head_bytes };
        let answer_deadline = Instant::now() + self.bounds().answer;
        self.send(body_at, if takes_place { answer_deadline } else { at_once() })?;
        if takes_place { Ok(then) } else { Err(End::Silent) }
    }

    /// Reads until a head is whole: the idle deadline until its first byte, the head's from there.
    fn read_head(&mut self) -> Result<usize, End> {
        let mut scanner = Scanner::default();
        let (mut deadline, mut by) = (Instant::now() + self.bounds().idle, CutBy::Idle);
        loop {
            if by == CutBy::Idle && !self.input.is_empty() {
                (deadline, by) = (Instant::now() + self.bounds().head, CutBy::Head);
            }
            let found = scanner.advance(&self.input);
            if let Some(head_bytes) = found.map_err(|problem| Refusal::of(&self.input, problem))? {
                return Ok(head_bytes);
            }
            // The scanner refuses before this is more than one byte over the limit.
            let room = (HEAD_BYTES_MAX + 1).saturating_sub(self.input.len());
            self.read(room.max(1), deadline, by)?;
        }
    }

    /// Has a body of that length at the start of the input.
    fn read_body(
        &mut self,
        bytes: usize,
        request: &Understood,
        deadline: Instant,
    ) -> Result<usize, End> {
        if self.input.len() < bytes {
            self.expect_body(request, deadline)?;
        }
        while self.input.len() < bytes {
            self.read(bytes - self.input.len(), deadline, CutBy::Body)?;
        }
        Ok(bytes)
    }

    /// Has a chunked body at the start of the input, its chunks joined; how long it is.
    fn read_chunked(&mut self, request: &Understood, deadline: Instant) -> Result<usize, End> {
        let mut decoder = Decoder::new(self.shared.settings.body_bytes_max);
        self.expect_body(request, deadline)?;
        let mut body = 0;
        loop {
            // Data is moved to where what framed it was.
            let mut looked_at = body;
            while looked_at < self.input.len() && !decoder.is_done() {
                let advanced = decoder.advance(&self.input[looked_at..]).map_err(Refusal::new)?;
                let (data, rest) = (advanced.0.len(), advanced.1.len());
                looked_at = self.input.len() - rest;
                self.input.copy_within(looked_at - data..looked_at, body);
                body += data;
            }
            self.input.drain(body..looked_at);
            if decoder.is_done() {
                return Ok(body);
            }
            self.read(PIECE_BYTES, deadline, CutBy::Body)?;
        }
    }

    /// More of a body is to come, and a client may wait until it is asked for it.
    fn expect_body(&mut self, request: &Understood, deadline: Instant) -> Result<(), End> {
        self.enter(Phase::Reading)?;
        if request.expects_continue && self.input.is_empty() {
            self.write(&[IoSlice::new(CONTINUE)], deadline, CutBy::Body)?;
        }
        Ok(())
    }

    /// Reads once, at most so many bytes, to the end of the input.
    fn read(&mut self, most: usize, deadline: Instant, by: CutBy) -> Result<(), End> {
        let (len, capacity) = (self.input.len(), self.input.capacity());
        if len == capacity {
            // Doubled at most, so that a promised length that never comes costs nothing.
            let grown = (2 * capacity).min(len + most).max(BUFFER_BYTES);
            if !self.seat.hold(grown + self.answer.capacity()) {
                return Err(out_of_bytes());
            }
            self.input.reserve_exact(grown - len);
        }
        let piece = most.min(self.input.capacity() - len).min(PIECE_BYTES);
        let client = &mut self.client;
        match append(&mut self.input, piece, |room| client.read(room, deadline)) {
            Ok(0) => Err(self.cut_end()),
            Ok(came) => {
                self.shared.counters.bytes_in.add(came as u64);
                Ok(())
            }
            Err(error) => Err(self.ended(&error, by)),
        }
    }

    /// Waits for its turn. Where there is none for it, nothing has happened.
    fn go_inside(&mut self, body_bytes: usize, request: &Understood) -> Result<(), End> {
        let until = Instant::now() + self.bounds().queue;
        let bytes = self.head.len() + body_bytes;
        match self.seat.go_inside(request.waits, request.caller, bytes, until) {
            Turn::Come => return Ok(()),
            Turn::Cut => return Err(self.cut_end()),
            Turn::Busy => self.input.drain(..body_bytes),
        };
        let problem = busy("Too many requests wait for the executor; nothing was done");
        Err(Refusal { then: request.persistence, ..request.refusal(problem) }.into())
    }

    /// Has the front answer the request that is whole, and frees it as soon as it is sent.
    fn ask_inside(&mut self, body_bytes: usize, request: &Understood) -> Result<InnerHead, End> {
        let Connection { shared, seat, input, head, answer, .. } = self;
        let asked = shared.pool.lend().and_then(|mut loan| {
            loan.send(head, &input[..body_bytes])?;
            input.drain(..body_bytes);
            shrink(input);
            // Giving back needs no leave.
            let _ = seat.hold(input.capacity() + answer.capacity());
            let inner = loan.receive(answer, |bytes| seat.hold(input.capacity() + bytes))?;
            loan.give_back();
            Ok(inner)
        });
        asked.map_err(|lost| {
            let (event, error, refusal) = match lost {
                Lost::NotSent(error) => {
                    let refusal = request.refusal(busy("The front takes no request now"));
                    ("No inner connection", error, refusal)
                }
                Lost::Answer(error) => ("The front's answer was lost", error, request.unanswered()),
            };
            journal::error(event, &[("error", error.to_string().into())]);
            refusal.into()
        })
    }

    /// Whether no further request can come. What has come already hides that.
    fn has_said_all(&mut self) -> bool {
        let client = &mut self.client;
        if !self.input.is_empty() {
            return false;
        }
        match append(&mut self.input, BUFFER_BYTES, |room| client.read(room, at_once())) {
            Ok(came @ 1..) => {
                self.shared.counters.bytes_in.add(came as u64);
                false
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => false,
            Ok(0) | Err(_) => true,
        }
    }

    /// Sends an answer of the gate's own.
    fn refuse(&mut self, refusal: &Refusal) -> Result<Persistence, End> {
        if refusal.then == Persistence::Close {
            self.free();
            self.enter(Phase::Closing)?;
        } else {
            self.enter(Phase::Answering)?;
        }
        self.head.clear();
        answer::refusal(&mut self.head, refusal, self.shared.settings.mode);
        self.send(self.answer.len(), Instant::now() + self.bounds().answer)?;
        Ok(refusal.then)
    }

    /// Closes such that the client can read its last answer: nothing more is sent, and what the
    /// client still sends is thrown away for a while, since closing on it would send a reset, which
    /// overtakes the answer (RFC 9112, section 9.6).
    fn close(mut self) {
        self.free();
        if !self.seat.enter(Phase::Closing) {
            return;
        }
        self.client.shutdown(Shutdown::Write);
        let deadline = Instant::now() + Duration::from_millis(LINGER_MS);
        let mut scratch = [0; BUFFER_BYTES];
        let mut left = LINGER_BYTES_MAX;
        while left > 0
            && let Ok(came @ 1..) = self.client.read(&mut scratch, deadline)
        {
            left = left.saturating_sub(came);
        }
    }

    /// Between requests: keeps only what belongs to the next.
    fn rest(&mut self) {
        self.head.clear();
        self.answer.clear();
        for buffer in [&mut self.input, &mut self.head, &mut self.answer] {
            shrink(buffer);
        }
        // Giving back needs no leave.
        let _ = self.seat.hold(self.input.capacity() + self.answer.capacity());
    }

    /// No further request is read.
    fn free(&mut self) {
        self.input.clear();
        self.rest();
    }

    /// Sends the head, and the answer from there on, all of it within the deadline.
    fn send(&mut self, body_at: usize, deadline: Instant) -> Result<(), End> {
        let (head, answer) = (mem::take(&mut self.head), mem::take(&mut self.answer));
        let mut sent = 0;
        while let Some(slices) = left_of(&head, &answer[body_at..], sent) {
            sent += self.write(&slices, deadline, CutBy::Answer)?;
        }
        (self.head, self.answer) = (head, answer);
        Ok(())
    }

    fn write(&mut self, slices: &[IoSlice], deadline: Instant, by: CutBy) -> Result<usize, End> {
        let written = self.client.write(slices, deadline);
        let sent = written.map_err(|error| self.ended(&error, by))?;
        self.shared.counters.bytes_out.add(sent as u64);
        Ok(sent)
    }

    /// What a read or write that failed means.
    fn ended(&self, error: &io::Error, by: CutBy) -> End {
        if error.kind() != ErrorKind::TimedOut {
            return End::Silent;
        }
        self.shared.counters.cut.by(by).add(1);
        let detail = match by {
            CutBy::Head => "The head did not come in time",
            CutBy::Body => "The body did not come in time",
            _ => return End::Silent,
        };
        Refusal::new(Problem::new(Code::Timeout, detail)).into()
    }

    fn enter(&mut self, phase: Phase) -> Result<(), End> {
        if self.seat.enter(phase) { Ok(()) } else { Err(self.cut_end()) }
    }

    fn cut_end(&self) -> End {
        if self.seat.was_cut_for_its_bytes() { out_of_bytes() } else { End::Silent }
    }

    fn bounds(&self) -> &super::Bounds {
        &self.shared.settings.bounds
    }
}

fn out_of_bytes() -> End {
    Refusal::new(busy("Too many bytes are held; this request held most")).into()
}

fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(AT_ONCE_MS)
}

/// Gives a large buffer back, whole: an allocator that cuts it in place may keep the rest.
fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_BYTES {
        *buffer = buffer.as_slice().to_vec();
    }
}
