//! One client's connection, from its first byte to its last.
//!
//! Invariant: each request gets exactly one answer or none, in order; after an answer to something
//! that was not understood, or not read to its end, nothing more is read as a request.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::answer::{self, CONTINUE, Persistence};
use super::counters::{CutBy, add};
use super::inner::{Lost, Pool};
use super::request::{self, Scanner};
use super::roster::{Cut, Phase, Seat};
use super::stream::Timed;
use super::{Settings, Shared, busy};
use crate::http::problem::Problem;
use crate::http::route;
use crate::limits::{
    HEAD_BYTES_MAX, HELD_STEP_BYTES, LINGER_BYTES_MAX, LINGER_MS, PIECE_BYTES_MAX,
};
use crate::log;

/// How often a connection that was cut for its bytes looks whether it may go.
const LOOK_MS: u64 = 20;

/// The life of a connection's thread.
pub(super) fn serve(shared: &Shared, client: Timed, seat: Seat) {
    let mut connection = Connection {
        shared,
        client,
        seat,
        input: Vec::new(),
        inner_request: Vec::new(),
        inner_answer: Vec::new(),
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
    seat: Seat,
    /// What has come and is not yet part of a request: a head in the making, or later requests.
    input: Vec<u8>,
    /// The request as it goes inside.
    inner_request: Vec<u8>,
    /// The answer as it came from inside.
    inner_answer: Vec<u8>,
}

/// How a connection ends before its client wants it to.
enum End {
    /// The client has gone, was displaced, or takes no answer.
    Silent,
    Answered(Refusal),
}

/// An answer of the gate's own.
struct Refusal {
    problem: Problem,
    allow: Option<&'static str>,
    is_head: bool,
}

impl Refusal {
    fn new(problem: Problem) -> Self {
        Refusal { problem, allow: None, is_head: false }
    }
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        End::Answered(Refusal::new(problem))
    }
}

/// What is left of a head once it was understood and written anew.
struct Understood {
    body_bytes: usize,
    expects_continue: bool,
    is_head: bool,
    is_post: bool,
    persistence: Persistence,
}

impl Connection<'_> {
    /// One request and its answer.
    fn exchange(&mut self) -> Result<Persistence, End> {
        let head_bytes = self.read_head()?;
        let body_deadline = Instant::now() + self.bounds().body;
        let head = &self.input[..head_bytes];
        let understood = understand(&self.shared.settings, head, &mut self.inner_request);
        self.input.drain(..head_bytes);
        let understood = match understood? {
            Ok(understood) => understood,
            Err((refusal, persistence)) => {
                self.answer_refusal(&refusal, persistence)?;
                return Ok(persistence);
            }
        };
        self.read_body(&understood, body_deadline)?;
        self.enter(Phase::Serving)?;
        let head_bytes = self.ask_inside(&understood)?;
        self.enter(Phase::Answering)?;
        let answer = mem::take(&mut self.inner_answer);
        let (inner_head, body) = answer.split_at(head_bytes);
        // The request is gone inside; its buffer serves for the head.
        let mut head = mem::take(&mut self.inner_request);
        let mode = self.shared.settings.mode;
        let persistence = understood.persistence;
        answer::translate(&mut head, inner_head, body.len(), mode, persistence);
        self.send(&head, if understood.is_head { &[] } else { body })?;
        self.inner_answer = answer;
        self.inner_request = head;
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
            if let Some(head_bytes) = scanner.advance(&self.input)? {
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
        }
    }

    /// Reads the body behind the head that is already in the inner request.
    fn read_body(&mut self, request: &Understood, deadline: Instant) -> Result<(), End> {
        let at_hand = request.body_bytes.min(self.input.len());
        self.inner_request.extend(self.input.drain(..at_hand));
        let mut missing = request.body_bytes - at_hand;
        if missing > 0 {
            self.enter(Phase::Reading)?;
            if request.expects_continue && at_hand == 0 {
                self.write(&[IoSlice::new(CONTINUE)], deadline, CutBy::Body)?;
            }
        }
        while missing > 0 {
            let piece = self.inner_request.len().max(HELD_STEP_BYTES).min(missing);
            let came = read_into(&mut self.client, &mut self.inner_request, piece, deadline);
            missing -= self.arrived(came, CutBy::Body)?;
        }
        Ok(())
    }

    /// Has the front answer the request that is whole, and says how long the answer's head is.
    fn ask_inside(&mut self, request: &Understood) -> Result<usize, End> {
        let Connection { shared, seat, input, inner_request, inner_answer, .. } = self;
        let mut hold = |held| seat.hold(held + input.len());
        let asked = round_trip(&shared.pool, inner_request, inner_answer, &mut hold);
        let problem = match asked {
            Ok(head_bytes) => return Ok(head_bytes),
            Err(None) => busy("The front takes no request now"),
            Err(Some(Lost::NoRoom)) => return Err(End::Silent),
            Err(Some(Lost::Broken(error))) => {
                let error = error.to_string().into();
                log::error("The front's answer was lost", &[("error", error)]);
                unanswered(request.is_post)
            }
        };
        Err(End::Answered(Refusal { problem, allow: None, is_head: request.is_head }))
    }

    /// Between requests: keeps only what belongs to the next. `false` if another took the place.
    fn rest(&mut self) -> bool {
        self.inner_request.clear();
        self.inner_answer.clear();
        shrink(&mut self.inner_request);
        shrink(&mut self.inner_answer);
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
        let mut out = Vec::with_capacity(512);
        let mode = self.shared.settings.mode;
        let Refusal { problem, allow, is_head } = refusal;
        answer::problem(&mut out, problem, *allow, mode, then, *is_head);
        self.send(&out, &[])
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
        self.inner_request = Vec::new();
        self.inner_answer = Vec::new();
        // Giving back needs no leave.
        let _ = self.seat.hold(0);
    }

    /// Sends an answer, all of it within the deadline.
    fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + self.bounds().answer;
        let (mut head, mut body) = (head, body);
        loop {
            let piece = body.len().min(PIECE_BYTES_MAX);
            let slices = [IoSlice::new(head), IoSlice::new(&body[..piece])];
            let sent = self.write(&slices, deadline, CutBy::Answer)?;
            let of_head = sent.min(head.len());
            head = &head[of_head..];
            body = &body[sent - of_head..];
            if head.is_empty() && body.is_empty() {
                return Ok(());
            }
            // It took some: its answer does not lie there untaken.
            self.enter(Phase::Answering)?;
        }
    }

    fn write(&mut self, slices: &[IoSlice], deadline: Instant, by: CutBy) -> Result<usize, End> {
        match self.client.write(slices, deadline) {
            Ok(sent) => {
                add(&self.shared.counters.bytes_out, sent as u64);
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
                add(&self.shared.counters.bytes_in, came as u64);
                let held = self.input.len() + self.inner_request.len();
                if !self.seat.hold(held) {
                    return Err(self.cut_end());
                }
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

/// Writes the head anew for the inner connection, or says what to answer instead: `Err` is what
/// cannot be understood, an inner `Err` what was understood and is refused.
fn understand(
    settings: &Settings,
    head: &[u8],
    inner_request: &mut Vec<u8>,
) -> Result<Result<Understood, (Refusal, Persistence)>, End> {
    let request = request::parse(head)?;
    let is_head = request.method == "HEAD";
    let persistence = match (request.keep_alive, request.is_http_1_0) {
        (true, false) => Persistence::Keep,
        (true, true) => Persistence::KeepAndSay,
        (false, _) => Persistence::Close,
    };
    match request.decide(&settings.allowed_hosts, settings.body_bytes_max) {
        Ok(body_bytes) => {
            request.write_inner(inner_request);
            Ok(Ok(Understood {
                body_bytes,
                expects_continue: request.expects_continue,
                is_head,
                is_post: request.method == "POST",
                persistence,
            }))
        }
        Err(problem) => {
            let refusal = Refusal {
                allow: match problem.status {
                    405 => route::allow_of(request.target),
                    _ => None,
                },
                problem,
                is_head,
            };
            // A body that is not read must not be taken for a request.
            let unread = request.content_length.unwrap_or(0) > 0;
            let then = if unread { Persistence::Close } else { persistence };
            Ok(Err((refusal, then)))
        }
    }
}

/// Sends the request, frees it, and takes the answer. `Err(None)`: nothing was sent.
fn round_trip(
    pool: &Pool,
    request: &mut Vec<u8>,
    answer: &mut Vec<u8>,
    hold: &mut dyn FnMut(usize) -> bool,
) -> Result<usize, Option<Lost>> {
    let mut loan = pool.lend().map_err(|error| {
        let error = error.to_string().into();
        log::error("No inner connection", &[("error", error)]);
        None
    })?;
    loan.send(request)?;
    request.clear();
    shrink(request);
    // Giving back needs no leave.
    let _ = hold(0);
    let head = loan.receive(answer, hold)?;
    loan.give_back();
    Ok(head.head_bytes)
}

/// The answer to a request whose own was lost. Only a POST can have had an effect.
fn unanswered(is_post: bool) -> Problem {
    if is_post {
        return Problem::new(
            503,
            "outcome_unknown",
            "The answer was lost; ask again with the same nonce, never with a new one",
        );
    }
    busy("The answer was lost; ask again")
}

fn timeout(detail: &str) -> Problem {
    Problem::new(408, "timeout", detail)
}

/// Reads once, at most `piece` bytes, to the end of `buffer`.
fn read_into(
    client: &mut Timed,
    buffer: &mut Vec<u8>,
    piece: usize,
    deadline: Instant,
) -> io::Result<usize> {
    let start = buffer.len();
    let piece = piece.min(PIECE_BYTES_MAX);
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
pub(super) fn discard(client: &mut Timed, time: Duration, mut at_end: impl FnMut() -> bool) {
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
