//! The request reader: however bytes are cut they are read alike; what is accepted is written anew in
//! one spelling, which `tiny_http` understands as we did; a chunked body is what RFC 9112 says.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use openexec::core::problem::Problem;
use openexec::serve::gate::chunked::Decoder;
use openexec::serve::gate::request::{Request, Scanner, finish_inner, parse};
use openexec::sys::limits::BODY_BYTES_MAX;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how the rest is cut.
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let piece = usize::from(*cut % 32) + 1;
    let whole = Scanner::default().advance(bytes);
    assert_eq!(scanned(bytes, piece), whole, "in pieces of {piece}");
    let Ok(Some(length)) = whole else { return };
    let (head, body) = bytes.split_at(length);
    let Ok(request) = parse(head) else { return };
    let decided = request.decide(&[], None, BODY_BYTES_MAX);
    if request.is_chunked {
        chunked(body, piece);
    }
    written_anew(&request, body, decided.is_ok());
});

fn scanned(bytes: &[u8], piece: usize) -> Result<Option<usize>, Problem> {
    let mut scanner = Scanner::default();
    let mut end = 0;
    while end < bytes.len() {
        end = bytes.len().min(end + piece);
        match scanner.advance(&bytes[..end]) {
            Ok(None) => {}
            ended => return ended,
        }
    }
    Ok(None)
}

/// What goes inside is read there as it was here.
fn written_anew(request: &Request, body: &[u8], goes_inside: bool) {
    let body = &body[..body.len().min(64)];
    let mut inner = Vec::new();
    request.write_inner(None, &mut inner);
    finish_inner(&mut inner, body.len());
    // The host stays outside; a head of HTTP/1.1 has one.
    let text =
        String::from_utf8_lossy(&inner).replacen(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n", 1);
    let again = parse(text.as_bytes()).expect("what we write is what we read");
    assert_eq!(Scanner::default().advance(&inner), Ok(Some(inner.len())));
    assert_eq!(
        again.head.method,
        if request.head.method == "HEAD" { "GET" } else { request.head.method }
    );
    let meaning = |r: &Request| format!("{:?}", (r.head.target, &r.passed));
    assert_eq!(meaning(&again), meaning(request));
    let mut twice = Vec::new();
    again.write_inner(None, &mut twice);
    finish_inner(&mut twice, body.len());
    assert_eq!(twice, inner, "it has two spellings");

    if goes_inside && (request.head.method == "POST" || body.is_empty()) {
        let mut expected = format!("{} {}\n", again.head.method, again.head.target);
        for (name, value) in &again.passed {
            expected.push_str(&format!("{name}: {value}\n"));
        }
        expected.push_str(&format!("Content-Length: {}\n{body:?}", body.len()));
        assert_eq!(understood_by_tiny_http(&[&inner[..], body].concat()), expected);
    }
}

/// `tiny_http`, answering with what it understood, on one kept connection.
fn understood_by_tiny_http(request: &[u8]) -> String {
    static INNER: LazyLock<Mutex<UnixStream>> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("openexec-fuzz-{}", std::process::id()));
        let server = tiny_http::Server::http_unix(&path).expect("a socket");
        std::thread::spawn(move || {
            while let Ok(mut request) = server.recv() {
                let mut body = Vec::new();
                request.as_reader().read_to_end(&mut body).expect("a body");
                let mut seen = format!("{} {}\n", request.method(), request.url());
                for header in request.headers() {
                    seen.push_str(&format!("{}: {}\n", header.field, header.value));
                }
                seen.push_str(&format!("{body:?}"));
                let response = tiny_http::Response::from_string(seen);
                let response = response.with_chunked_threshold(usize::MAX);
                request.respond(response).expect("answered");
            }
        });
        let stream = UnixStream::connect(&path).expect("connected");
        std::fs::remove_file(path).expect("removed");
        Mutex::new(stream)
    });
    let mut stream = INNER.lock().expect("no panic before");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("Content-Length: ").nth(1).expect("a length");
            let length: usize = length.split("\r\n").next().unwrap_or("").parse().expect("digits");
            assert!(body.len() <= length, "two answers: {text}");
            if body.len() == length {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return body.to_owned();
            }
        }
        let mut piece = [0; 4096];
        let came = match stream.read(&mut piece) {
            // libFuzzer's own alarm.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            came => came.expect("an answer"),
        };
        assert_ne!(came, 0, "closed on a request that the reader accepted");
        answer.extend_from_slice(&piece[..came]);
    }
}

fn chunked(bytes: &[u8], piece: usize) {
    let decoded = decode(bytes, piece);
    assert_eq!(decoded, decode(bytes, usize::MAX), "in pieces of {piece}");
    match by_the_book(bytes) {
        Some(book) => assert_eq!(decoded, Ok(Some(book))),
        None => assert!(!matches!(decoded, Ok(Some(_))), "more than RFC 9112 allows"),
    }
}

/// A chunked body as the gate takes it: the data and how many bytes it was; `None` while it is not whole.
fn decode(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Problem> {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        let mut left = piece;
        while !left.is_empty() && !decoder.is_done() {
            let (more, rest) = decoder.advance(left)?;
            data.extend_from_slice(more);
            left = rest;
        }
        taken += piece.len() - left.len();
    }
    Ok(decoder.is_done().then_some((data, taken)))
}

/// RFC 9112, section 7.1, as it is written, over all at once.
fn by_the_book(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..)?;
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line: String = rest[..end].iter().copied().map(char::from).collect();
        let (size, extension) = line.split_once(';').unwrap_or((&line, ""));
        let is_size = (1..=8).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_hexdigit());
        let is_clean = extension.chars().all(|c| c == '\t' || !c.is_ascii_control());
        // A line has 256 bytes at most, with its CRLF.
        if !is_size || !is_clean || end > 254 {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        at += end + 2;
        if bytes.get(at + size..at + size + 2)? != b"\r\n" {
            return None;
        }
        data.extend_from_slice(&bytes[at..at + size]);
        at += size + 2;
        if size == 0 {
            return Some((data, at));
        }
    }
}
