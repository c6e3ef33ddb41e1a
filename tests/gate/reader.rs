//! The request reader by itself: vectors and the differential property. `fuzz/` mutates.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::common::gate::{latin1, request_of, scratch_socket, vectors};
use openexec::core::problem::{Code, Problem};
use openexec::serve::gate::chunked::Decoder;
use openexec::serve::gate::request::{Request, Scanner, finish_inner, parse};
use openexec::sys::limits::{BODY_BYTES_MAX, CHUNK_FRAMING_BYTES_MAX};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Option<Result<Request<'_>, Problem>> {
    match Scanner::default().advance(bytes) {
        Ok(None) => None,
        Ok(Some(length)) => Some(parse(&bytes[..length])),
        Err(problem) => Some(Err(problem)),
    }
}

#[test]
fn what_is_accepted_is_written_in_one_spelling() {
    for vector in vectors("accepted.json") {
        let name = vector["name"].as_str().unwrap();
        let bytes = request_of(&vector);
        let request = read(&bytes).expect(name).expect(name);
        let mut inner = Vec::new();
        request.write_inner(None, &mut inner);
        finish_inner(&mut inner, usize::try_from(request.content_length.unwrap_or(0)).unwrap());
        let inner = String::from_utf8(inner).unwrap();
        assert_eq!(inner, vector["inner"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_head_is_read_alike_however_it_is_cut() {
    for file in ["accepted.json", "refused.json"] {
        for vector in vectors(file) {
            let bytes = request_of(&vector);
            let whole = Scanner::default().advance(&bytes);
            let mut scanner = Scanner::default();
            let mut piecewise = Ok(None);
            for end in 1..=bytes.len() {
                piecewise = scanner.advance(&bytes[..end]);
                if piecewise != Ok(None) {
                    break;
                }
            }
            assert_eq!(piecewise, whole, "{}", vector["name"]);
        }
    }
}

/// A chunked body as the gate takes it, in pieces of that size: the data and how many bytes it was;
/// `None` while it is not whole.
fn decode(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Problem> {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let mut data = Vec::new();
    let mut taken = 0;
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

#[test]
fn a_chunked_body_is_joined_however_it_is_cut() {
    for vector in vectors("chunked.json") {
        let name = vector["name"].as_str().unwrap();
        let body = request_of(&vector);
        let decoded = latin1(vector["decoded"].as_str().unwrap());
        let behind = [&body[..], b"GET /health HTTP/1.1\r\n"].concat();
        for piece in 1..=behind.len() {
            let taken = decode(&behind, piece).expect(name);
            assert_eq!(taken, Some((decoded.clone(), body.len())), "{name} in pieces of {piece}");
        }
        for end in 0..body.len() {
            assert_eq!(decode(&body[..end], usize::MAX).expect(name), None, "{name}: {end} bytes");
        }
    }
}

/// Chunks of a byte have five bytes of framing each: the whole is bounded, not only the data.
#[test]
fn the_framing_of_a_chunked_body_is_bounded() {
    let chunks = |count: usize| [b"1\r\nx\r\n".repeat(count), b"0\r\n\r\n".to_vec()].concat();
    let most = (CHUNK_FRAMING_BYTES_MAX - 5) / 5;
    assert!(decode(&chunks(most), 4096).unwrap().is_some());
    assert_eq!(decode(&chunks(most + 1), 4096).unwrap_err().code, Code::BadRequest);
    let whole = [format!("{BODY_BYTES_MAX:x}\r\n").into_bytes(), vec![b'x'; BODY_BYTES_MAX]];
    let whole = [whole.concat(), b"\r\n0\r\n\r\n".to_vec()].concat();
    assert_eq!(decode(&whole, 4096).unwrap().unwrap().0.len(), BODY_BYTES_MAX);
}

/// `tiny_http`, answering with what it understood, on one kept connection.
fn understood_by_tiny_http(request: &[u8]) -> String {
    static INNER: OnceLock<Mutex<UnixStream>> = OnceLock::new();
    let connection = INNER.get_or_init(|| {
        let path = scratch_socket();
        let server = tiny_http::Server::http_unix(&path).unwrap();
        std::thread::spawn(move || {
            while let Ok(mut request) = server.recv() {
                let mut body = Vec::new();
                request.as_reader().read_to_end(&mut body).unwrap();
                let mut seen = format!("{} {}\n", request.method(), request.url());
                for header in request.headers() {
                    seen.push_str(&format!("{}: {}\n", header.field, header.value));
                }
                seen.push_str(&format!("{body:?}"));
                let response = tiny_http::Response::from_string(seen);
                let response = response.with_chunked_threshold(usize::MAX);
                request.respond(response).unwrap();
            }
        });
        #[allow(clippy::disallowed_methods, reason = "the test reaches tiny_http itself")]
        let stream = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Mutex::new(stream)
    });
    let mut stream = connection.lock().unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("Content-Length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            assert!(body.len() <= length, "two answers: {text}");
            if body.len() == length {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return body.to_owned();
            }
        }
        let mut piece = [0; 65536];
        let came = stream.read(&mut piece).expect("no answer");
        assert_ne!(came, 0, "closed on a request that the reader accepted");
        answer.extend_from_slice(&piece[..came]);
    }
}

/// Whether what the gate writes of an accepted request means the same to `tiny_http`.
fn means_the_same(bytes: &[u8], body: &[u8]) {
    let Some(Ok(request)) = read(bytes) else {
        return;
    };
    // The rest never goes inside.
    if request.head.method != "POST"
        && request.head.method != "GET"
        && request.head.method != "HEAD"
    {
        return;
    }
    let length = request.content_length.unwrap_or(0);
    if length > 0 && request.head.method != "POST" || length > 10_000 {
        return;
    }
    let length = usize::try_from(length).unwrap();
    let body: Vec<u8> = body.iter().copied().cycle().take(length).collect();
    let mut inner = Vec::new();
    request.write_inner(None, &mut inner);
    finish_inner(&mut inner, body.len());
    inner.extend_from_slice(&body);
    let method = request.head.method.replace("HEAD", "GET");
    let mut expected = format!("{method} {}\n", request.head.target);
    for (name, value) in &request.passed {
        expected.push_str(&format!("{name}: {value}\n"));
    }
    expected.push_str(&format!("Content-Length: {length}\n"));
    expected.push_str(&format!("{body:?}"));
    assert_eq!(understood_by_tiny_http(&inner), expected);
}

/// Header lines, most of them nearly right.
fn header_lines() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("Host"),
        Just("Content-Length"),
        Just("content-length"),
        Just("Content-Type"),
        Just("Transfer-Encoding"),
        Just("Connection"),
        Just("Expect"),
        Just("Accept"),
        Just("Mcp-Name"),
        Just("Idempotency-Key"),
        Just("X"),
        Just("")
    ];
    let value = prop_oneof![
        4 => "[ -~]{0,20}",
        2 => "[0-9]{1,4}",
        2 => Just("localhost".to_owned()),
        1 => Just("application/json".to_owned()),
        1 => Just("100-continue".to_owned()),
        1 => "[\\x00-\\xff]{0,6}",
        1 => Just("a: b\r\n c".to_owned()),
    ];
    let separator = prop_oneof![
        8 => Just(": "), 2 => Just(":"), 1 => Just(" : "), 1 => Just(":\t"), 1 => Just("")
    ];
    let end = prop_oneof![20 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just(" \r\n")];
    let line = (name, separator, value, end)
        .prop_map(|(name, separator, value, end)| format!("{name}{separator}{value}{end}"));
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        4 => Just("GET".to_owned()), 4 => Just("POST".to_owned()), 1 => Just("HEAD".to_owned()),
        1 => "[ -~]{0,5}"
    ];
    let target = prop_oneof![6 => "/[!-~]{0,20}", 1 => "[ -~]{0,10}"];
    let version = prop_oneof![6 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/1")];
    let length = prop_oneof![2 => Just(None), 3 => (0..3000_u32).prop_map(Some)];
    (method, target, version, length, any::<bool>(), header_lines()).prop_map(
        |(method, target, version, length, host, lines)| {
            let mut text = format!("{method} {target} {version}\r\n");
            if host {
                text.push_str("Host: localhost\r\n");
            }
            if let Some(length) = length {
                text.push_str(&format!("Content-Length: {length}\r\n"));
            }
            text.push_str(&lines);
            text.push_str("\r\n");
            text.chars().map(|c| u8::try_from(c as u32).unwrap_or(b'?')).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tiny_http_understands_the_same(bytes in requests(), body in proptest::collection::vec(any::<u8>(), 1..50)) {
        means_the_same(&bytes, &body);
    }
}
