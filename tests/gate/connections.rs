//! How requests and answers follow one another on a connection, and what goes through.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openexec::serve::callers;
use serde_json::json;

use crate::common::gate::{Client, JSON_POST, latin1, request_of, settings, vectors, world};
use crate::common::sha256;

const GET: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_connection_is_kept_and_requests_may_come_together() {
    let world = world(settings(4));
    let mut client = world.client();
    for _ in 0..3 {
        let answer = client.get("/health");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), None);
    }
    // Three in one write, the last one in two pieces.
    let post = format!("{JSON_POST}Content-Length: 5\r\n\r\nhello");
    client.send(format!("{post}{GET}{}", &post[..post.len() - 3]));
    assert_eq!(client.answer(false).unwrap().body, b"hello");
    assert!(client.answer(false).unwrap().body.starts_with(b"GET /health"));
    client.send("llo");
    assert_eq!(client.answer(false).unwrap().body, b"hello");
    assert_eq!(world.front.requests(), 6);
}

#[test]
fn many_requests_come_together_and_in_pieces_of_any_size() {
    let world = world(settings(4));
    let mut stream = Vec::new();
    for length in 0..200 {
        let head = format!("{JSON_POST}Content-Length: {length}\r\n\r\n");
        stream.extend_from_slice(head.as_bytes());
        stream.extend(std::iter::repeat_n(b'x', length));
    }
    for piece in [1, 7, 100, 5_000, usize::MAX] {
        let mut client = world.client();
        for piece in stream.chunks(piece.min(stream.len())) {
            client.send(piece);
        }
        for length in 0..200 {
            assert_eq!(client.answer(false).unwrap().body, vec![b'x'; length]);
        }
    }
}

#[test]
fn large_bodies_and_answers_go_through() {
    let world = world(settings(4));
    let body: Vec<u8> = (0..1024 * 1024).map(|at| b"0,"[at % 2]).collect();
    let mut client = world.client();
    for _ in 0..3 {
        assert!(client.post(&body).body == body);
        assert_eq!(client.get("/actions").body.len(), 1024 * 1024);
    }
    assert_eq!(client.post(b"").body, b"");
}

#[test]
fn head_is_answered_without_a_body() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.answer(true).unwrap();
    assert_eq!(answer.status, 200);
    let length = client.get("/health").header("content-length").map(str::to_owned);
    assert_eq!(answer.header("content-length"), length.as_deref());
    client.send("HEAD /none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.answer(true).unwrap();
    assert_eq!(answer.status, 404);
    assert_ne!(answer.header("content-length"), Some("0"));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn what_is_refused_without_a_body_keeps_the_connection() {
    let world = world(settings(4));
    let mut client = world.client();
    let answer = client.get("/none");
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    client.send("PUT /execute HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    client.send("OPTIONS /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    client.send("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().code(), "host_not_allowed");
    client.send("POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().code(), "unsupported_media_type");
    assert_eq!(world.front.requests(), 0);
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn connection_options_are_tokens_of_any_case() {
    let world = world(settings(4));
    let ask = |version: &str, lines: &str| {
        let mut client = world.client();
        client.send(format!("GET /health {version}\r\nHost: localhost\r\n{lines}\r\n"));
        let answer = client.answer(false).unwrap();
        let said = answer.header("connection").map(str::to_owned);
        match said.as_deref() {
            Some("close") => assert!(client.is_closed()),
            _ => assert_eq!(client.get("/health").status, 200),
        }
        said
    };
    let close = Some("close".to_owned());
    assert_eq!(ask("HTTP/1.1", ""), None);
    assert_eq!(ask("HTTP/1.1", "Connection: close\r\n"), close);
    assert_eq!(ask("HTTP/1.1", "Connection: x , CLOSE\r\n"), close);
    assert_eq!(ask("HTTP/1.1", "Connection: x\r\nconnection: Close\r\n"), close);
    assert_eq!(ask("HTTP/1.1", "Connection: closed\r\n"), None);
    assert_eq!(ask("HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n"), None);
    assert_eq!(ask("HTTP/1.0", ""), close);
    assert_eq!(ask("HTTP/1.0", "Connection: close, keep-alive\r\n"), close);
    let kept = Some("keep-alive".to_owned());
    assert_eq!(ask("HTTP/1.0", "Connection: Keep-Alive\r\n"), kept);
}

#[test]
fn requests_after_a_close_are_not_read() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".repeat(3));
    assert_eq!(client.answer(false).unwrap().status, 200);
    assert!(client.is_closed());
    assert_eq!(world.front.requests(), 1);
}

#[test]
fn http_1_0_may_omit_host_and_cannot_expect() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send("GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().body, b"GET /health\nContent-Length: 0\n");
    assert!(client.is_closed());
    let mut client = world.client();
    let post = JSON_POST.replace("1.1", "1.0");
    client.send(format!("{post}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    std::thread::sleep(Duration::from_millis(50));
    client.send("{}");
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn a_body_is_asked_for_once_its_head_is_admitted() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send(format!("{JSON_POST}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"));
    assert_eq!(client.answer(false).unwrap().status, 100);
    assert_eq!(client.send("{}").answer(false).unwrap().body, b"{}");
    // One that came along needs no asking.
    client.send(format!("{JSON_POST}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert_eq!(client.answer(false).unwrap().status, 200);
    // One that is refused is not asked for.
    let elsewhere = JSON_POST.replace("/execute", "/none");
    client.send(format!("{elsewhere}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    assert_eq!(client.answer(false).unwrap().status, 404);
    assert!(client.is_closed());
}

/// A body in chunks of that size.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn a_chunked_body_goes_inside_as_one_with_a_length() {
    let world = world(settings(4));
    let head = format!("{JSON_POST}Transfer-Encoding: chunked\r\n\r\n");
    for vector in vectors("chunked.json") {
        let name = vector["name"].as_str().unwrap();
        let mut client = world.client();
        // Twice on one connection: what follows the last chunk is the next request.
        let request = [head.as_bytes(), &request_of(&vector)].concat();
        client.send(request.repeat(2)).send(GET);
        for _ in 0..2 {
            let answer = client.answer(false).expect(name);
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(answer.body, latin1(vector["decoded"].as_str().unwrap()), "{name}");
        }
        assert!(client.answer(false).expect(name).body.starts_with(b"GET /health"), "{name}");
    }
    let body: Vec<u8> = (0..1024 * 1024).map(|at| b"0,\r\n"[at % 4]).collect();
    for size in [7, 4096, 70_000, body.len()] {
        let mut client = world.client();
        client.send(&head).send(chunked(&body, size));
        assert!(client.answer(false).unwrap().body == body, "in chunks of {size}");
        assert_eq!(client.get("/health").status, 200);
    }
    let mut client = world.client();
    client.send(&head).send(chunked(&[&body[..], b"x"].concat(), 70_000));
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert!(client.is_closed());
}

#[test]
fn a_chunked_body_is_asked_for_too() {
    let world = world(settings(4));
    let mut client = world.client();
    let head = format!("{JSON_POST}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(&head);
    assert_eq!(client.answer(false).unwrap().status, 100);
    assert_eq!(client.send(chunked(b"{}", 1)).answer(false).unwrap().body, b"{}");
    // One that came along needs no asking, nor one that is refused.
    client.send([head.as_bytes(), &chunked(b"{}", 1)].concat());
    assert_eq!(client.answer(false).unwrap().status, 200);
    client.send(head.replace("/execute", "/none"));
    assert_eq!(client.answer(false).unwrap().status, 404);
    assert!(client.is_closed());
}

#[test]
fn only_what_is_listed_goes_through() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send(
        "GET /health HTTP/1.1\r\nhost: localhost:5000\r\nCookie: a\r\nmcp-name: echo\r\n\r\n",
    );
    let answer = client.answer(false).unwrap();
    let seen = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(seen, "GET /health\nMcp-Name: echo\nContent-Length: 0\n");
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("date").is_some());
    assert_eq!(answer.header("x-inside"), None);
    assert_eq!(answer.header("server"), Some("openexec"));
    assert_eq!(answer.head.matches("erver:").count(), 1);
    assert_eq!(client.get("/receipts/conflict").status, 409);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let world = world(settings(4));
    let mut client = world.client();
    client.send(GET).wire.finish();
    assert_eq!(client.answer(false).unwrap().status, 200);
    assert!(client.is_closed());
    // But half a request is nothing.
    for half in [
        "GET /hea",
        "GET /health HTTP/1.1\r\nHost: lo",
        &format!("{JSON_POST}Content-Length: 9\r\n\r\n{{"),
        &format!("{JSON_POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n"),
    ] {
        let mut client = world.client();
        client.send(half).wire.finish();
        assert!(client.is_closed());
    }
    world.until("all are gone", |world| world.open() == 0);
}

#[test]
fn an_answer_that_is_lost_is_said_to_be_unknown_or_busy() {
    let world = world(settings(2));
    // As often as there are inner connections, and more: each is replaced.
    for _ in 0..5 {
        let mut client = world.client();
        let answer = client.get("/metrics");
        assert_eq!((answer.status, answer.code().as_str()), (503, "busy"));
        assert!(client.is_closed());
    }
    assert_eq!(world.client().get("/health").status, 200);
    assert!(!world.front.fatal.load(Ordering::SeqCst));
}

/// A proposal may be withdrawn whose withdrawal's answer is lost.
#[test]
fn only_what_asks_alone_is_said_to_have_done_nothing() {
    let entry = json!({"name": "a", "token_sha256": sha256("token"), "may": ["propose"]});
    let file = json!({"callers": [entry]}).to_string();
    let mut settings = settings(2);
    settings.tokens = Some(callers::read(&file).expect("a file").1);
    let world = world(settings);
    for (method, code) in [("DELETE", "outcome_unknown"), ("GET", "busy")] {
        let mut client = world.client();
        client.send(format!(
            "{method} /proposals/lost HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n\r\n"
        ));
        let answer = client.answer(false).expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (503, code), "{method}");
    }
}

#[test]
fn a_front_that_forgets_a_request_is_a_bug() {
    let mut settings = settings(2);
    settings.bounds.inner = Duration::from_secs(1);
    let world = world(settings);
    assert_eq!(world.client().get("/receipts/forgotten").status, 503);
    assert!(world.front.fatal.load(Ordering::SeqCst));
}

#[test]
fn an_executor_that_works_is_waited_for() {
    let mut settings = settings(2);
    // The proofs of new inner connections are held to it too.
    settings.bounds.inner = Duration::from_secs(1);
    let world = world(settings);
    let mut client = world.client();
    client.send(GET.replace("/health", "/receipts/held"));
    std::thread::sleep(Duration::from_secs(3));
    assert!(!world.front.fatal.load(Ordering::SeqCst));
    world.front.release();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn connections_opened_at_once_are_all_answered_a_hundred_times_over() {
    const CLIENTS: usize = 128;
    let world = world(settings(CLIENTS));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| world.client()).collect();
    for round in 0..100 {
        for client in &mut clients {
            client.send(GET);
        }
        for client in &mut clients {
            let answer = client.answer(false);
            assert_eq!(answer.map(|answer| answer.status), Some(200), "round {round}");
        }
    }
    assert_eq!(world.front.requests(), 100 * CLIENTS as u64);
    assert_eq!(world.counters.evicted.get(), 0);
}

#[test]
fn the_counters_are_rendered_as_prometheus_reads_them() {
    let world = world(settings(2));
    let mut client = world.client();
    client.get("/health");
    let mut text = String::new();
    world.counters.render(&mut text);
    assert!(text.contains("\nopenexec_connections_open 1\n"), "{text}");
    assert!(text.contains("\nopenexec_connections_accepted_total 1\n"), "{text}");
    assert!(text.contains(&format!("\nopenexec_received_bytes_total {}\n", GET.len())), "{text}");
    assert!(text.contains("{by=\"held_bytes\"} 0\n"), "{text}");
    for line in text.lines() {
        let comment = line.starts_with("# HELP ") || line.starts_with("# TYPE ");
        assert!(comment || line.starts_with("openexec_"), "{line}");
    }
}
