//! Answers: what came from the front, and what a client gets of it.
//!
//! Invariant: every answer, the gate's own too, is framed by one `Content-Length` and says who
//! answers and in which mode.

use std::io::Write;

use crate::core::problem::{Problem, title};
use crate::core::time::Time;
use crate::sys::answer::body;
use crate::sys::clock;
use crate::sys::limits::RETRY_AFTER_SECONDS;

/// `100 Continue` (RFC 9110, section 15.2.1).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a connection goes on after an answer (RFC 9112, section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    Keep,
    /// HTTP/1.0, which must be told.
    KeepAndSay,
    Close,
}

/// What the head of the front's answer says, once it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InnerHead {
    pub head_bytes: usize,
    pub body_bytes: usize,
}

/// Headers of the front that the client gets as they are.
const PASSED: [&str; 6] = [
    "Content-Type",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
];

/// Finds the front's head at the start of `bytes`: `Ok(None)` while it is incomplete. An error is an
/// answer that the front did not give: what `tiny_http` answers by itself has no `Content-Type`.
pub(super) fn inner_head(bytes: &[u8]) -> Result<Option<InnerHead>, &'static str> {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..at]).map_err(|_| "head is not ASCII")?;
    let mut has_type = false;
    let mut length = None;
    for (name, value) in headers(head) {
        has_type |= name.eq_ignore_ascii_case("Content-Type");
        if name.eq_ignore_ascii_case("Content-Length") {
            length = value.parse().ok();
        }
    }
    if !has_type {
        return Err("no Content-Type");
    }
    Ok(Some(InnerHead { head_bytes: at + 4, body_bytes: length.ok_or("no Content-Length")? }))
}

/// Writes the client's head for an answer with that head and body length.
pub(super) fn translate(
    out: &mut Vec<u8>,
    inner: &[u8],
    body_bytes: usize,
    mode: &str,
    persistence: Persistence,
) {
    let head = std::str::from_utf8(inner).unwrap_or_default();
    let status = head.get(9..12).and_then(|code| code.parse().ok());
    let status = status.unwrap_or(500);
    start(out, status, mode);
    for (name, value) in headers(head) {
        // What has no body has no type either: it is not there to be parsed.
        let is_of_nothing = body_bytes == 0 && name.eq_ignore_ascii_case("Content-Type");
        if !is_of_nothing && PASSED.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            header(out, name, value);
        }
    }
    // A 304 would say how long the 200 is (RFC 9110, section 8.6).
    finish(out, Some(body_bytes).filter(|_| status != 304), persistence);
}

/// An answer of the gate's own.
pub(super) struct Refusal {
    pub problem: Problem,
    pub allow: Option<String>,
    pub is_head: bool,
    pub then: Persistence,
}

impl Refusal {
    /// The last answer on its connection.
    pub(super) fn new(problem: Problem) -> Self {
        Refusal { problem, allow: None, is_head: false, then: Persistence::Close }
    }

    /// Of a head that was not understood; its method may have been (RFC 9110, section 9.3.2: no
    /// answer to HEAD has content).
    pub(super) fn of(head: &[u8], problem: Problem) -> Self {
        Refusal { is_head: head.starts_with(b"HEAD "), ..Refusal::new(problem) }
    }
}

/// Writes a whole answer of the gate's own, without its body where the request was HEAD.
pub(super) fn refusal(out: &mut Vec<u8>, refusal: &Refusal, mode: &str) {
    let Refusal { problem, allow, is_head, then } = refusal;
    let body = body(problem);
    start(out, problem.code.status(), mode);
    header(out, "Content-Type", "application/problem+json");
    if let Some(allow) = allow {
        header(out, "Allow", allow);
    }
    finish(out, Some(body.len()), *then);
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn start(out: &mut Vec<u8>, status: u16, mode: &str) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", title(status));
    header(out, "Server", "openexec");
    header(out, "OpenExec-Mode", mode);
    header(out, "Date", &date(clock::now()));
    if status == 401 {
        // RFC 6750, section 3.
        header(out, "WWW-Authenticate", "Bearer realm=\"openexec\"");
    }
    if status == 503 {
        header(out, "Retry-After", &RETRY_AFTER_SECONDS.to_string());
    }
}

fn finish(out: &mut Vec<u8>, body_bytes: Option<usize>, persistence: Persistence) {
    if let Some(bytes) = body_bytes {
        let _ = write!(out, "Content-Length: {bytes}\r\n");
    }
    match persistence {
        Persistence::Keep => {}
        Persistence::KeepAndSay => header(out, "Connection", "keep-alive"),
        Persistence::Close => header(out, "Connection", "close"),
    }
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The header lines after a status line, names and trimmed values.
fn headers(head: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = head.split("\r\n").skip(1);
    lines.filter_map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, as a `Date` header has it (RFC 9110, section 5.6.7).
fn date(now: Time) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // 1994-11-06T08:49:37.000000Z
    let text = now.to_string();
    let weekday = DAYS[now.seconds().div_euclid(86_400).rem_euclid(7) as usize];
    let month = text[5..7].parse().ok().and_then(|month: usize| MONTHS.get(month.wrapping_sub(1)));
    let (year, day, time) = (&text[..4], &text[8..10], &text[11..19]);
    format!("{weekday}, {day} {} {year} {time} GMT", month.unwrap_or(&MONTHS[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_front_is_translated() {
        let inner = b"HTTP/1.1 409 Conflict\r\nServer: tiny-http (Rust)\r\nDate: today\r\n\
            Content-Type: a/b\r\nMcp-X: y\r\nX-Other: z\r\nContent-Length: 2\r\n\r\n{}";
        let head = inner_head(inner).unwrap().unwrap();
        assert_eq!(head.body_bytes, 2);
        assert_eq!(&inner[head.head_bytes..], b"{}");
        let mut out = Vec::new();
        let only_head = &inner[..head.head_bytes];
        translate(&mut out, only_head, 2, "demo", Persistence::Close);
        let out = String::from_utf8(out).unwrap();
        let (before, dated) = out.split_once("Date: ").unwrap();
        let start = "HTTP/1.1 409 Conflict\r\nServer: openexec\r\nOpenExec-Mode: demo\r\n";
        let (_, after) = dated.split_once(" GMT\r\n").unwrap();
        let end = "Content-Type: a/b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        assert_eq!((before, after), (start, end));
    }

    #[test]
    fn what_the_front_did_not_say_is_an_error() {
        assert_eq!(inner_head(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert!(inner_head(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(inner_head(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n").is_err());
    }

    #[test]
    fn a_date_header() {
        // RFC 9110, section 5.6.7; then RFC 9111's, a leap day, and the first of all.
        for (text, date) in [
            ("1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("2012-11-15T12:45:26Z", "Thu, 15 Nov 2012 12:45:26 GMT"),
            ("2024-02-29T23:59:59Z", "Thu, 29 Feb 2024 23:59:59 GMT"),
            ("1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("2026-12-31T00:00:00.999999Z", "Thu, 31 Dec 2026 00:00:00 GMT"),
        ] {
            assert_eq!(super::date(Time::parse(text).expect("a time")), date);
        }
    }
}
