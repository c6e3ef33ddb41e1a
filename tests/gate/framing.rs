//! Malformed and ambiguous requests, as data: each gets one answer and a close, never two answers,
//! and nothing of it goes inside.

use crate::common::gate::{request_of, settings, vectors, world};
use std::time::Duration;

/// What an attacker would like to have taken for a second request.
const SMUGGLED: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn each_gets_one_answer_and_a_close() {
    let mut settings = settings(8);
    settings.bounds.head = Duration::from_secs(2);
    let world = world(settings);
    let table = vectors("refused.json");
    assert!(table.len() >= 60);
    for vector in &table {
        let name = vector["name"].as_str().unwrap();
        for tail in [&b""[..], SMUGGLED] {
            let mut client = world.client();
            let mut request = request_of(vector);
            request.extend_from_slice(tail);
            client.send(&request);
            let after_head = vector["head"] == true;
            let answer = client.answer(after_head).expect(name);
            assert_eq!(u64::from(answer.status), vector["status"], "{name}: {answer:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{name}");
            assert_eq!(answer.header("server"), Some("openexec"), "{name}");
            // RFC 9110, section 6.6.1: whoever has a clock says when.
            let date = answer.header("date").expect("a date");
            assert!(date.len() == 29 && date.ends_with(" GMT"), "{name}: {date}");
            assert_eq!(answer.header("openexec-mode"), Some("demo"), "{name}");
            let media_type = answer.header("content-type");
            assert_eq!(media_type, Some("application/problem+json"), "{name}");
            if !after_head {
                assert_eq!(answer.code(), vector["code"], "{name}");
            }
            assert!(client.is_closed(), "{name}: more than one answer");
        }
        assert_eq!(world.front.requests(), 0, "{name} went inside");
    }
}

#[test]
fn the_same_in_single_bytes() {
    let world = world(settings(8));
    for vector in vectors("refused.json") {
        let name = vector["name"].as_str().unwrap();
        let request = request_of(&vector);
        if request.len() > 400 {
            continue;
        }
        let mut client = world.client();
        for byte in request {
            // It may have answered and closed already.
            if std::io::Write::write_all(&mut client.wire, &[byte]).is_err() {
                break;
            }
        }
        client.wire.finish();
        let answer = client.answer(vector["head"] == true).expect(name);
        assert_eq!(u64::from(answer.status), vector["status"], "{name}");
        assert!(client.is_closed(), "{name}");
    }
}

/// No answer to HEAD has content (RFC 9110, section 9.3.2), one that was not understood neither.
#[test]
fn a_head_that_is_refused_gets_no_content() {
    let world = world(settings(8));
    for rest in [
        "Host: localhost\r\nExpect: x\r\n\r\n",
        "\r\n",
        "Host: a\r\nHost: b\r\n\r\n",
        "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Host : localhost\r\n\r\n",
        "Host: localhost\n\r\n",
    ] {
        let mut client = world.client();
        client.send(format!("HEAD / HTTP/1.1\r\n{rest}").as_bytes());
        let answer = client.answer(true).expect(rest);
        assert!(answer.status >= 400, "{rest:?}: {answer:?}");
        assert_ne!(answer.header("content-length"), Some("0"), "what GET would have");
        assert!(client.is_closed(), "{rest:?}: nothing comes behind the head");
    }
}
