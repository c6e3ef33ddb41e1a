//! The request reader: bytes in, one understood request or one problem out, nothing else.
//!
//! RFC 9112 held strictly, because every tolerance is a place where two parsers disagree: CRLF only,
//! no folded lines, no space before a colon, one valid `Content-Length` or `Transfer-Encoding: chunked`
//! or neither, origin-form targets. No I/O and no clock. Invariant: whatever [`parse`]
//! accepts, [`Request::write_inner`] writes in a form that has only one reading.

use std::io::Write;

use crate::core::problem::{Code, Problem};
use crate::serve::callers::Tokens;
use crate::serve::route::{self, CALLER, Head, Route};
use crate::sys::limits::{HEAD_BYTES_MAX, HEADER_LINES_MAX, METHOD_BYTES_MAX};

/// One request's head, borrowed from the bytes it came in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// What decides where it goes: visible ASCII, the target in origin-form.
    pub head: Head<'a>,
    pub content_length: Option<u64>,
    /// The body comes in chunks; then there is no `Content-Length`.
    pub is_chunked: bool,
    pub expects_continue: bool,
    /// An expectation that is not met here.
    expects_more: bool,
    /// Whether the client wants another request on this connection (RFC 9112, section 9.3).
    pub keep_alive: bool,
    says_close: bool,
    /// HTTP/1.0, which must be told when a connection is kept.
    pub is_http_1_0: bool,
    /// Further headers that the front may see, in the order they came.
    pub passed: Vec<(&'static str, &'a str)>,
}

/// The headers, beside those that frame a request, that go inside at all.
const PASSED: [&str; 6] = [
    "Idempotency-Key",
    "If-None-Match",
    "MCP-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
    "Prefer",
];

/// Finds the end of a head while it arrives, and refuses at the first byte that cannot be one.
///
/// Each byte is looked at once, however small the pieces, so that a client that sends single bytes
/// costs no more than one that sends the whole.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes looked at.
    at: usize,
    line_start: usize,
    /// Lines ended, the request line among them.
    lines: usize,
}

impl Scanner {
    /// `bytes` is everything of this request so far. Answers the head's length, its last empty line
    /// included, or `None` while that has not come.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        while let Some(&byte) = bytes.get(self.at) {
            if self.at >= HEAD_BYTES_MAX {
                return Err(head_too_large("The request's head is over 16 KiB"));
            }
            let after_cr = self.at > 0 && bytes[self.at - 1] == b'\r';
            match byte {
                _ if after_cr != (byte == b'\n') => return Err(bad("A line must end in CRLF")),
                b'\r' | b'\n' | b'\t' => {}
                // The controls: NUL, and everything a parser may take for white space or an end.
                0..0x20 | 0x7f => return Err(bad("Control character in the request's head")),
                _ => {}
            }
            self.at += 1;
            if byte == b'\n' && self.line_ended(bytes)? {
                return Ok(Some(self.at));
            }
        }
        Ok(None)
    }

    /// Whether the line that just ended was the last, the empty one.
    fn line_ended(&mut self, bytes: &[u8]) -> Result<bool, Problem> {
        let line = &bytes[self.line_start..self.at - 2];
        self.line_start = self.at;
        if self.lines == 0 {
            // Judged now: a client of another protocol may send this much and wait.
            request_line(line)?;
        } else if line.is_empty() {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > 1 + HEADER_LINES_MAX {
            return Err(head_too_large("The request has over 64 header lines"));
        }
        Ok(false)
    }
}

/// Reads a head that a [`Scanner`] has delimited.
pub fn parse(head: &[u8]) -> Result<Request<'_>, Problem> {
    // Every LF follows a CR and every CR precedes an LF: the scanner saw to it.
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, is_http_1_0) = request_line(lines.next().unwrap_or_default())?;
    let head = Head { method, target, ..Head::default() };
    let mut request = Request { head, is_http_1_0, ..Request::default() };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = header_line(line)?;
        request.header(name, value)?;
    }
    request.check()?;
    Ok(request)
}

impl<'a> Request<'a> {
    fn header(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Problem> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Host") {
            once(&mut self.head.host, "Host", value)?;
        } else if is("Content-Length") {
            if self.content_length.is_some() {
                return Err(bad("More than one Content-Length"));
            }
            self.content_length = Some(content_length(value)?);
        } else if is("Content-Type") {
            once(&mut self.head.content_type, "Content-Type", value)?;
        } else if is("Authorization") {
            once(&mut self.head.authorization, "Authorization", value)?;
        } else if is("Transfer-Encoding") {
            // A coding named twice, or another one in front, is where parsers disagree.
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(bad("Transfer-Encoding can only be chunked, once"));
            }
            self.is_chunked = true;
        } else if is("Origin") {
            self.head.has_origin = true;
        } else if is("Connection") {
            // RFC 9110, section 7.6.1: a list of tokens, in one line or several.
            for token in value.split(|byte| *byte == b',').map(trim) {
                self.says_close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("Expect") {
            let known = value.eq_ignore_ascii_case(b"100-continue");
            self.expects_continue |= known;
            self.expects_more |= !known;
        } else if let Some(known) = PASSED.into_iter().find(|known| is(known)) {
            // Preferences may stand in any number of lines (RFC 7240, section 2).
            if known != "Prefer" && self.passed.iter().any(|(name, _)| *name == known) {
                return Err(bad(format!("More than one {known}")));
            }
            self.passed.push((known, ascii(known, value)?));
        }
        Ok(())
    }

    /// What the headers must be together (RFC 9112, sections 3.2 and 6.3).
    fn check(&mut self) -> Result<(), Problem> {
        self.keep_alive = !self.says_close && (self.keep_alive || !self.is_http_1_0);
        if self.is_chunked && (self.content_length.is_some() || self.is_http_1_0) {
            return Err(bad("Transfer-Encoding beside Content-Length, or with HTTP/1.0"));
        }
        if self.head.host.is_none() && !self.is_http_1_0 {
            return Err(bad("HTTP/1.1 needs a Host"));
        }
        if self.head.method == "POST" && !self.is_chunked && self.content_length.is_none() {
            return Err(Problem::new(
                Code::LengthRequired,
                "POST needs a Content-Length, or Transfer-Encoding: chunked",
            ));
        }
        // RFC 9110, section 10.1.1: HTTP/1.0 cannot mean it.
        if self.is_http_1_0 {
            self.expects_continue = false;
        } else if self.expects_more {
            return Err(Problem::new(
                Code::ExpectationFailed,
                "No expectation but 100-continue is met",
            ));
        }
        Ok(())
    }

    /// The body to read for this request, where it goes and the caller's number, or the problem to answer without reading
    /// any.
    pub fn decide(
        &self,
        hosts: &[String],
        tokens: Option<&Tokens>,
        body_bytes_max: usize,
    ) -> Result<(Body, Route, Option<usize>), Problem> {
        let takes_body = self.head.method == "POST";
        if takes_body && self.content_length.unwrap_or(0) > body_bytes_max as u64 {
            return Err(body_too_large(body_bytes_max));
        }
        let (route, caller) = route::admit(&self.head, hosts, tokens)?;
        if self.has_body() && !takes_body {
            return Err(bad("Only POST has a body"));
        }
        if self.is_chunked {
            return Ok((Body::Chunked, route, caller));
        }
        let length = usize::try_from(self.content_length.unwrap_or(0));
        let length = length.map_err(|_| body_too_large(body_bytes_max))?;
        Ok((Body::Length(length), route, caller))
    }

    /// Whether a body follows the head.
    pub fn has_body(&self) -> bool {
        self.is_chunked || self.content_length.is_some_and(|length| length > 0)
    }

    /// Writes the head anew, for the inner connection: only what was understood, in one spelling.
    /// [`finish_inner`] ends it.
    pub fn write_inner(&self, caller: Option<usize>, out: &mut Vec<u8>) {
        let method = if self.head.method == "HEAD" { "GET" } else { self.head.method };
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{method} {} HTTP/1.1\r\n", self.head.target);
        for (name, value) in &self.passed {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        if let Some(caller) = caller {
            let _ = write!(out, "{CALLER}: {caller}\r\n");
        }
    }
}

/// How a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(usize),
    Chunked,
}

/// Ends a head for the inner connection: its body is whole, and so long.
pub fn finish_inner(out: &mut Vec<u8>, body_bytes: usize) {
    let _ = write!(out, "Content-Length: {body_bytes}\r\n\r\n");
}

/// `method SP target SP version` (RFC 9112, section 3), and whether the version is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<(&str, &str, bool), Problem> {
    let malformed = || bad("The request line is not: method, target, HTTP version");
    if !line.is_ascii() || line.contains(&b'\t') {
        return Err(malformed());
    }
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if method.len() > METHOD_BYTES_MAX || !is_token(method.as_bytes()) {
        return Err(bad("The method is not a short token"));
    }
    let is_http_1_0 = match version.as_bytes() {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Problem::new(
                Code::HttpVersionNotSupported,
                "HTTP/1.1 and HTTP/1.0 are spoken here",
            ));
        }
        _ => return Err(malformed()),
    };
    // Absolute, authority and asterisk forms (RFC 9112, section 3.2) have no use here, and a second
    // host name in the target is a second chance to disagree about the host.
    if !target.starts_with('/') {
        return Err(bad("The target must be a path"));
    }
    Ok((method, target, is_http_1_0))
}

/// `name ":" OWS value OWS` (RFC 9112, section 5).
fn header_line(line: &[u8]) -> Result<(&[u8], &[u8]), Problem> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(bad("Folded header lines are not accepted"));
    }
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(|| bad("Header line without a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(bad("A header's name must be a token, up to the colon"));
    }
    Ok((name, trim(value)))
}

/// Digits and nothing else (RFC 9110, section 8.6).
fn content_length(value: &[u8]) -> Result<u64, Problem> {
    let invalid = || bad("Content-Length must be digits");
    // `parse` would take a sign.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let text = std::str::from_utf8(value).map_err(|_| invalid())?;
    text.parse().map_err(|_| bad("Content-Length is too large"))
}

fn once<'a>(slot: &mut Option<&'a str>, name: &str, value: &'a [u8]) -> Result<(), Problem> {
    if slot.is_some() {
        return Err(bad(format!("More than one {name}")));
    }
    *slot = Some(ascii(name, value)?);
    Ok(())
}

/// What goes inside must be ASCII: obs-text (RFC 9110, section 5.5) means nothing there.
fn ascii<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, Problem> {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(bad(format!("{name} must be ASCII"))),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Without optional white space at either end (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

pub(super) fn body_too_large(body_bytes_max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("The body is over {body_bytes_max} bytes"))
}

fn head_too_large(detail: &str) -> Problem {
    Problem::new(Code::HeadTooLarge, detail)
}
