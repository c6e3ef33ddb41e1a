//! The page's server: HTTP/1.1 on loopback for one person, one request a connection, everything bounded.
//!
//! `httparse`, which the HTTP client has too, reads heads. A request is taken where nobody could read it in two ways: one
//! `Host`, at most one of each other header that is looked at, a length and no chunks. Whatever is not answered gets
//! [`Answer::nothing`], whyever.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openexec::sys::exit::Failure;

use super::desk::Desk;
use super::door::{Ask, Door, Head};

const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// A justification of 500 characters, each spelt as `\u` and digits twice, and a view.
const BODY_BYTES_MAX: usize = 8 << 10;
/// A browser opens six.
const CONNECTIONS_MAX: usize = 32;
/// For a whole request; browsers open connections before they need them.
const REQUEST: Duration = Duration::from_secs(5);
/// For a whole answer, to a browser that is busy.
const WRITE: Duration = Duration::from_secs(60);
/// What is still read of a request that was answered, so that the answer is not lost with it.
const REST: Duration = Duration::from_millis(500);
const REST_BYTES_MAX: u64 = 64 << 10;

/// What every answer says to the browser: run, load and show nothing that is not ours; keep nothing; tell nobody the
/// address, which has the token in it; be framed, opened and read by no other page.
const GUARDS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'\r\n\
     Cache-Control: no-store\r\n\
     Cross-Origin-Embedder-Policy: require-corp\r\n\
     Cross-Origin-Opener-Policy: same-origin\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n\
     Referrer-Policy: no-referrer\r\n\
     X-Content-Type-Options: nosniff\r\n\
     X-Frame-Options: DENY\r\n\
     Connection: close\r\n";

pub struct Answer {
    status: &'static str,
    kind: &'static str,
    /// Whole lines.
    more: String,
    body: Vec<u8>,
}

impl Answer {
    pub fn of(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Answer { status: "200 OK", kind, more: String::new(), body: body.into() }
    }

    /// A file to be kept.
    pub fn download(name: &str, kind: &'static str, body: String) -> Self {
        let more = format!("Content-Disposition: attachment; filename=\"{name}\"\r\n");
        Answer { more, ..Self::of(kind, body) }
    }

    fn enter(path: &str) -> Self {
        let more = format!("Location: {path}\r\n");
        Answer { status: "308 Permanent Redirect", more, ..Self::of("text/plain", "") }
    }

    /// The same to whoever may not ask, and of whatever is not there.
    fn nothing() -> Self {
        Answer { status: "404 Not Found", ..Self::of("text/plain", "nothing is here\n") }
    }

    fn bytes(&self) -> Vec<u8> {
        let Answer { status, kind, more, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}{GUARDS}\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

/// Serves until the process ends.
pub fn serve(listener: &TcpListener, door: &Door, desk: &Desk) -> Result<(), Failure> {
    let room = Room::default();
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            // One that went away before it was taken is no failure of ours.
            let Some(one) = stream.ok().and_then(|stream| room.take(stream)) else { continue };
            let serve = move || {
                // A client that goes away ends its own request alone.
                let _ = one_request(&one, door, desk);
            };
            // Where no thread is to be had, the connection closes.
            let _ = std::thread::Builder::new().spawn_scoped(scope, serve);
        }
    });
    Ok(())
}

/// The connections that are there. A new one takes the place of the one that has said nothing whole for longest, so that
/// whoever only opens connections keeps nobody out.
#[derive(Default)]
struct Room(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    open: usize,
    last: u64,
    /// Those whose request is not whole yet, or that are answered; the oldest first.
    unheard: BTreeMap<u64, Arc<TcpStream>>,
}

/// One of them, as long as it is there.
struct Open<'a> {
    stream: Arc<TcpStream>,
    number: u64,
    room: &'a Room,
}

impl Room {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where each of so many is being answered, or has still to notice that it has no place any more.
    fn take(&self, stream: TcpStream) -> Option<Open<'_>> {
        let mut taken = self.taken();
        if taken.open >= CONNECTIONS_MAX {
            let (_, oldest) = taken.unheard.pop_first()?;
            // Who reads from it finds its end.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        if taken.open >= 2 * CONNECTIONS_MAX {
            return None;
        }
        let stream = Arc::new(stream);
        (taken.open, taken.last) = (taken.open + 1, taken.last + 1);
        let number = taken.last;
        taken.unheard.insert(number, stream.clone());
        Some(Open { stream, number, room: self })
    }
}

impl Open<'_> {
    /// Its request is whole: nobody takes its place.
    fn is_heard(&self) {
        self.room.taken().unheard.remove(&self.number);
    }

    /// What is still read of it keeps nobody else out.
    fn is_answered(&self) {
        self.room.taken().unheard.insert(self.number, self.stream.clone());
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.is_heard();
        self.room.taken().open -= 1;
    }
}

/// A stream until a time: whoever trickles gets no more of it.
struct Until<'a>(&'a TcpStream, Instant);

impl Until<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.1.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(self.left()?)?;
        self.0.read(bytes)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(self.left()?)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn one_request(one: &Open, door: &Door, desk: &Desk) -> io::Result<()> {
    let within = |time| Until(&one.stream, Instant::now() + time);
    let asked = request(within(REQUEST), door)?;
    one.is_heard();
    let answer = match asked {
        Some((Ask::Enter, _)) => Answer::enter(&door.inside()),
        Some((Ask::File(file), _)) => Answer::of(file.kind, file.text),
        Some((ask, body)) => desk.answer(ask, &body, Instant::now()),
        None => Answer::nothing(),
    };
    within(WRITE).write_all(&answer.bytes())?;
    one.stream.shutdown(Shutdown::Write)?;
    one.is_answered();
    io::copy(&mut within(REST).take(REST_BYTES_MAX), &mut io::sink()).map(drop)
}

/// What is asked, and the body; `None` where it is nothing that is answered.
fn request(mut from: impl Read, door: &Door) -> io::Result<Option<(Ask, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let (head, begins) = loop {
        match parsed(&bytes) {
            Parsed::Whole(head, begins) => break (head, begins),
            Parsed::More if bytes.len() < HEAD_BYTES_MAX => {
                let length = from.read(&mut piece)?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes.extend(&piece[..length]);
            }
            Parsed::More | Parsed::Wrong => return Ok(None),
        }
    };
    let Some(ask) = door.judge(&head).filter(|_| head.length <= BODY_BYTES_MAX) else {
        return Ok(None);
    };
    let mut body = bytes.split_off(begins);
    while body.len() < head.length {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        body.extend(&piece[..length]);
    }
    // What follows would be another request: there is none.
    Ok((body.len() == head.length).then_some((ask, body)))
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The head, and where the body begins.
    Whole(Head, usize),
    More,
    Wrong,
}

fn parsed(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let begins = match request.parse(bytes) {
        Ok(httparse::Status::Complete(begins)) if begins <= HEAD_BYTES_MAX => begins,
        Ok(httparse::Status::Partial) => return Parsed::More,
        _ => return Parsed::Wrong,
    };
    let once = |name: &str| {
        let mut found =
            request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = found.next().map(|header| std::str::from_utf8(header.value));
        match (first, found.next()) {
            (None, _) => Some(None),
            (Some(Ok(value)), None) => Some(Some(value.to_owned())),
            _ => None,
        }
    };
    let head = || {
        // What says in another way where a body ends is not read at all.
        if once("transfer-encoding")?.is_some() || request.version != Some(1) {
            return None;
        }
        let length = match once("content-length")? {
            None => 0,
            Some(digits) if digits.len() < 10 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            Some(_) => return None,
        };
        Some(Head {
            method: request.method?.to_owned(),
            target: request.path?.to_owned(),
            host: once("host")?,
            origin: once("origin")?,
            site: once("sec-fetch-site")?,
            content_type: once("content-type")?,
            length,
        })
    };
    head().map_or(Parsed::Wrong, |head| Parsed::Whole(head, begins))
}
