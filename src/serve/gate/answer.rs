//! Answers: what came from the front, and what a client gets of it.
//!
//! Invariant: every answer, the gate's own too, is framed by one `Content-Length` and says who
//! answers and in which mode.

use std::io::Write;

use crate::core::limits::RETRY_AFTER_SECONDS;
use crate::core::problem::{Problem, title};
use crate::core::time::Time;

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
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InnerHead {
    pub head_bytes: usize,
    pub body_bytes: usize,
}

/// Headers of the front that the client gets as they are.
const PASSED: [&str; 5] = ["Content-Type", "Date", "Allow", "Retry-After", "Idempotent-Replayed"];

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
    start(out, status.unwrap_or(500), mode);
    for (name, value) in headers(head) {
        // What has no body has no type either: it is not there to be parsed.
        let is_of_nothing = body_bytes == 0 && name.eq_ignore_ascii_case("Content-Type");
        if !is_of_nothing && PASSED.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            header(out, name, value);
        }
    }
    finish(out, body_bytes, persistence);
}

/// Writes a whole answer of the gate's own, without its body where the request was HEAD.
pub(super) fn problem(
    out: &mut Vec<u8>,
    problem: &Problem,
    allow: Option<&str>,
    mode: &str,
    persistence: Persistence,
    is_head: bool,
) {
    let body = problem.body();
    start(out, problem.code.status(), mode);
    header(out, "Date", &Time::now().http_date());
    header(out, "Content-Type", "application/problem+json");
    if let Some(allow) = allow {
        header(out, "Allow", allow);
    }
    if problem.code.status() == 503 {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "Retry-After: {RETRY_AFTER_SECONDS}\r\n");
    }
    finish(out, body.len(), persistence);
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

fn start(out: &mut Vec<u8>, status: u16, mode: &str) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", title(status));
    header(out, "Server", "openexec");
    header(out, "OpenExec-Mode", mode);
}

fn finish(out: &mut Vec<u8>, body_bytes: usize, persistence: Persistence) {
    let _ = write!(out, "Content-Length: {body_bytes}\r\n");
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
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 409 Conflict\r\nServer: openexec\r\nOpenExec-Mode: demo\r\nDate: today\r\n\
             Content-Type: a/b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn what_the_front_did_not_say_is_an_error() {
        assert_eq!(inner_head(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert!(inner_head(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(inner_head(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n").is_err());
    }
}
