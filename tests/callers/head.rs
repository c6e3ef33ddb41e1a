//! What the gate judges by the head.

use std::io::{Read, Write};
use std::net::TcpStream;

use openexec::serve::route::ROUTES;

use crate::common::{PATIENCE, Scratch, exchange, problem, until};
use crate::{CALLERS, bearer, execute_as, get_as, post_as, send, start, token};

/// Of every route: the caller who may ask it least of all, `None` for everybody.
const LEAST: [(&str, &str, Option<&str>); 19] = [
    ("GET", "/proposals", Some("all")),
    ("GET", "/", None),
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/version", None),
    ("GET", "/actions", Some("any")),
    ("GET", "/openapi.json", Some("any")),
    ("GET", "/metrics", Some("any")),
    ("GET", "/log/checkpoint", Some("any")),
    ("GET", "/log/consistency", Some("any")),
    ("GET", "/receipts/{exec_id}", Some("any")),
    ("GET", "/proposals/{exec_id}", Some("any")),
    ("DELETE", "/proposals/{exec_id}", Some("propose")),
    ("GET", "/receipts/{exec_id}/proof", Some("any")),
    ("POST", "/receipts/verify", Some("any")),
    ("POST", "/execute", Some("propose")),
    ("POST", "/mcp", Some("propose")),
    ("POST", "/approvals", Some("approve")),
    ("POST", "/rejections", Some("approve")),
];

#[test]
fn each_route_asks_each_caller_for_its_right() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    assert_eq!(LEAST.len(), ROUTES.len());
    let json = "Content-Type: application/json\r\n";
    for (method, path, least) in LEAST {
        assert!(ROUTES.iter().any(|row| (row.method, row.path) == (method, path)), "{path}");
        let target = path.replace("{exec_id}", &"0".repeat(64));
        let ask = |authorization: &str| {
            send(&server, method, &target, &format!("{json}{authorization}"), "{}")
        };
        for (wrong, answer) in [("none", ask("")), ("unknown", ask(&bearer("nobody")))] {
            match least {
                None => assert_ne!(answer.status, 401, "{path} {wrong}"),
                Some(_) => {
                    problem(&answer, 401, "unauthenticated");
                    let challenge = answer.header("www-authenticate");
                    assert_eq!(challenge, Some("Bearer realm=\"openexec\""), "{path} {wrong}");
                }
            }
        }
        for (name, may) in CALLERS {
            let answer = ask(&bearer(name));
            let lacks = match least {
                Some("all") => !may.contains("approve") && !may.contains("read"),
                Some("any") | None => false,
                Some(right) => !may.contains(right),
            };
            if lacks {
                let body = problem(&answer, 403, "caller_not_allowed");
                assert!(body.get("receipt").is_none(), "{body}");
            } else {
                assert!(![401, 403].contains(&answer.status), "{path} {name}: {}", answer.text());
                assert_eq!(answer.header("www-authenticate"), None);
            }
        }
    }
    assert_eq!(server.runs("echo"), 0);
}

#[test]
fn only_one_bearer_token_in_its_one_place_counts() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let own = token("agent-7");
    let of = |authorization: &str| {
        send(&server, "GET", "/actions", &format!("Authorization: {authorization}\r\n"), "")
    };
    for good in [
        format!("Bearer {own}"),
        format!("bearer {own}"),
        format!("BEARER   {own}"),
        format!("  Bearer {own} \t "),
    ] {
        assert_eq!(of(&good).status, 200, "{good}");
    }
    let hash = crate::common::sha256(&own);
    for bad in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        own.clone(),
        format!("Basic {own}"),
        format!("Digest {own}"),
        format!("Bearers {own}"),
        format!("Bearer\t{own}"),
        format!("Bearer {own}x"),
        format!("Bearer {}", &own[..own.len() - 1]),
        format!("Bearer {}", own.to_uppercase()),
        format!("Bearer \"{own}\""),
        format!("Bearer {own},"),
        format!("Bearer {own} {own}"),
        format!("Bearer x {own}"),
        format!("Basic x, Bearer {own}"),
        format!("Bearer {hash}"),
        format!("Bearer openexec_{hash}"),
        format!("Bearer {}", token("nobody")),
        format!("Bearer {}", "x".repeat(15_000)),
        "Bearer agent-7".to_owned(),
        "Bearer 0".to_owned(),
    ] {
        let answer = of(&bad);
        problem(&answer, 401, "unauthenticated");
        assert!(!answer.text().contains(&own), "{bad}");
    }
    problem(&of(&format!("Bearer {}", "x".repeat(16_384))), 431, "head_too_large");
    let line = format!("Authorization: Bearer {own}\r\n");
    for several in [format!("{line}{line}"), format!("{line}authorization: Bearer x\r\n")] {
        problem(&send(&server, "GET", "/actions", &several, ""), 400, "bad_request");
    }
    let obs_text = "GET /actions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer é\r\n\r\n";
    problem(&exchange(&server.address, obs_text.as_bytes()), 400, "bad_request");
    // Nowhere else, and not as what the gate itself says to the front.
    for elsewhere in [
        "OpenExec-Caller: 0\r\n".to_owned(),
        format!("Proxy-Authorization: Bearer {own}\r\n"),
        format!("X-Api-Key: {own}\r\n"),
        format!("Cookie: Authorization=Bearer {own}\r\n"),
    ] {
        problem(&send(&server, "GET", "/actions", &elsewhere, ""), 401, "unauthenticated");
    }
    for query in ["access_token", "token", "Authorization"] {
        let target = format!("/actions?{query}={own}");
        problem(&send(&server, "GET", &target, "", ""), 401, "unauthenticated");
    }
    // With a token of one's own nobody becomes another.
    let forged = format!("OpenExec-Caller: 1\r\n{}openexec-caller: 2\r\n", bearer("adder"));
    let seen = send(&server, "GET", "/actions", &forged, "").json();
    assert_eq!(seen["actions"].as_array().map(Vec::len), Some(1), "{seen}");
}

#[test]
fn the_checks_come_in_their_order() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let origin = "Origin: http://localhost\r\n";
    let mine = bearer("agent-7");
    for (method, target, headers, status, code) in [
        ("PUT", "/nothing", origin, 403, "browser_origin"),
        ("PUT", "/nothing", "", 404, "not_found"),
        ("PUT", "/execute", "", 405, "method_not_allowed"),
        ("POST", "/execute", "Content-Type: text/plain\r\n", 401, "unauthenticated"),
        ("POST", "/execute", mine.as_str(), 415, "unsupported_media_type"),
        ("POST", "/execute", bearer("ann").as_str(), 403, "caller_not_allowed"),
        ("HEAD", "/receipts/x", mine.as_str(), 404, ""),
        ("HEAD", "/actions", "", 401, ""),
    ] {
        let body = if method == "POST" { "{" } else { "" };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n{}\r\n{body}",
            if method == "POST" { "Content-Length: 1\r\n" } else { "" }
        );
        let mut stream = TcpStream::connect(&server.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert_eq!(answer.contains(&format!("\"code\":\"{code}\"")), !code.is_empty(), "{answer}");
    }
    // The body of who is not known is not waited for.
    let head = "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Expect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    problem(&exchange(&server.address, head.as_bytes()), 401, "unauthenticated");
    // A body is read of who is.
    problem(&post_as(&server, "agent-7", "/execute", "{"), 400, "malformed_json");
    assert_eq!(execute_as(&server, "agent-7", "echo", "1").status, 200);
}

#[test]
fn what_says_how_it_is_needs_no_token() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let health = server.get("/health").json();
    assert_eq!(health["callers"], 5);
    assert_eq!(server.get("/ready").status, 200);
    // The journal has a thread of its own.
    until("the journal tells", || server.log().contains("\"callers\":5"));
    let metrics = get_as(&server, "auditor", "/metrics").text();
    assert!(metrics.contains("\nopenexec_callers 5\n"), "{metrics}");
    let store = format!("file:{}", server.store.display());
    let ended = crate::common::cli(&scratch, &[("OPENEXEC_DB_URL", &store)], &["healthcheck"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // Without callers nothing of it is there.
    let scratch = Scratch::new();
    let server = crate::common::Server::start(&scratch, &[]);
    assert!(server.get("/health").json().get("callers").is_none());
    assert!(server.get("/metrics").text().contains("\nopenexec_callers 0\n"));
    let document = server.get("/openapi.json").json();
    assert!(document.get("security").is_none());
    assert_eq!(execute_as(&server, "nobody", "echo", "1").status, 200, "a token is ignored");
}
