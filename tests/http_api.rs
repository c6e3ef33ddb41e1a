//! The HTTP interface of the real binary: routes, methods, headers and the form of every answer.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Scratch, Server, canonical, exchange, get, no_attempt, post, problem, refusal};
use openexec::core::problem::Code;
use openexec::core::time::Time;
use openexec::sys::clock;
use serde_json::{Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ECHO: &str = r#"{"action":"echo","payload":{"msg":"hello world"},"nonce":"unique-1"}"#;
/// Every path that is known, with what it allows.
const PATHS: [(&str, &str); 14] = [
    ("/", "GET, HEAD"),
    ("/health", "GET, HEAD"),
    ("/ready", "GET, HEAD"),
    ("/version", "GET, HEAD"),
    ("/actions", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/receipts/0000000000000000000000000000000000000000000000000000000000000000", "GET, HEAD"),
    ("/receipts/x", "GET, HEAD"),
    ("/proposals/0000000000000000000000000000000000000000000000000000000000000000", "GET, HEAD"),
    ("/proposals/x", "GET, HEAD"),
    ("/execute", "POST"),
    ("/receipts/verify", "POST"),
    ("/approvals", "POST"),
    ("/rejections", "POST"),
];

fn demo() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    (scratch, server)
}

/// Sends a request that ends its connection and reads all that comes back.
fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.set_read_timeout(Some(common::PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_seed_routes_answer_as_they_did() {
    let (_scratch, server) = demo();
    let root = server.get("/");
    let expected = format!(r#"{{"service":"OpenExec","status":"running","version":"{VERSION}"}}"#);
    assert_eq!((root.status, root.text()), (200, expected));

    let health = server.get("/health");
    let mut body = health.json();
    assert_eq!(health.text(), canonical(&body));
    // Who runs the test is not the test's business.
    body.as_object_mut().expect("an object").remove("root_warning");
    assert_eq!(
        body,
        json!({"status": "healthy", "exec_mode": "demo", "signature_verification": "disabled",
               "restriction": "open", "warning": "No execution allow-list configured"})
    );

    assert_eq!(server.get("/ready").text(), r#"{"ready":true}"#);

    let before = clock::now();
    let version = server.get("/version").json();
    assert_eq!(version["version"], VERSION);
    let timestamp = version["timestamp"].as_str().expect("a time");
    assert!(timestamp.ends_with('Z'));
    let at = Time::parse(timestamp).expect("RFC 3339");
    assert!(before <= at && at <= clock::now());

    let executed = server.execute(ECHO).json();
    assert_eq!(executed["result"], json!({"echo": {"msg": "hello world"}}));
    let receipt = json!({"exec_id": executed["id"], "result": executed["result"],
                         "receipt": executed["receipt"]});
    let verified = server.post("/receipts/verify", &receipt.to_string());
    assert_eq!(verified.text(), r#"{"outcome":"executed","recorded":true,"valid":true}"#);
}

#[test]
fn every_answer_says_who_answers_and_in_which_mode() {
    let (_scratch, server) = demo();
    for (path, allow) in PATHS {
        let answers = [
            server.get(path),
            server.post(path, "{}"),
            exchange(
                &server.address,
                format!("BREW {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
            ),
            exchange(
                &server.address,
                format!("GET {path} HTTP/1.1\r\nHost: evil\r\n\r\n").as_bytes(),
            ),
        ];
        for answer in &answers {
            assert_eq!(answer.header("server"), Some("openexec"), "{path}");
            assert_eq!(answer.header("openexec-mode"), Some("demo"), "{path}");
            assert!(answer.header("transfer-encoding").is_none(), "{path}");
        }
        let wrong = if allow == "POST" { &answers[0] } else { &answers[1] };
        no_attempt(wrong, 405, "method_not_allowed");
        assert_eq!(wrong.header("allow"), Some(allow), "{path}");
        no_attempt(&answers[2], 405, "method_not_allowed");
        no_attempt(&answers[3], 421, "host_not_allowed");
        let right = if allow == "POST" { &answers[1] } else { &answers[0] };
        assert!(right.header("allow").is_none(), "{path}");
    }
}

#[test]
fn head_gets_the_head_of_get_and_nothing_more() {
    let (_scratch, server) = demo();
    let mut executed = server.execute(ECHO).json();
    let stored = format!("/receipts/{}", executed["id"].take().as_str().expect("an id"));
    let paths = ["/", "/health", "/ready", "/actions", stored.as_str(), "/receipts/x", "/nowhere"];
    for path in paths {
        let ask = |method: &str| {
            let close = "Connection: close";
            raw(&server, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n\r\n"))
        };
        let without_date = |text: &str| -> Vec<String> {
            text.lines().filter(|l| !l.starts_with("Date: ")).map(str::to_owned).collect()
        };
        let (head, whole) = (ask("HEAD"), ask("GET"));
        let (head_of_get, body) = whole.split_once("\r\n\r\n").expect("a head");
        assert!(!body.is_empty());
        assert_eq!(without_date(head.trim_end()), without_date(head_of_get), "{path}");
    }
    // Where GET does not work, HEAD does not.
    let refused =
        raw(&server, "HEAD /execute HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("\r\nAllow: POST\r\n") && refused.ends_with("\r\n\r\n"), "{refused}");
}

#[test]
fn what_is_not_a_route_is_not_found() {
    let (_scratch, server) = demo();
    for path in [
        "/x",
        "//",
        "/health/",
        "/Health",
        "/execute/",
        "/receipts",
        "/receipts/",
        "/receipts/a/b",
        "/receipts/verify/",
        "/proposals/",
        "/proposals/a/b",
        "/./health",
        "/%68ealth",
        "/metrics/x",
        "/docs",
        "/favicon.ico",
    ] {
        no_attempt(&server.get(path), 404, "not_found");
        no_attempt(&server.post(path, ECHO), 404, "not_found");
    }
    // A query is not part of the path.
    assert_eq!(server.get("/health?x=1").status, 200);
    assert_eq!(server.get("/?").status, 200);
    assert_eq!(server.runs("echo"), 0);
}

#[test]
fn a_browser_cannot_reach_it() {
    let (_scratch, server) = demo();
    let send = |host: &str, more: &str| {
        let request = format!(
            "POST /execute HTTP/1.1\r\n{host}{more}Content-Length: {}\r\n\r\n{ECHO}",
            ECHO.len()
        );
        exchange(&server.address, request.as_bytes())
    };
    let json = "Content-Type: application/json\r\n";
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "openexec",
        "localhost:",
        "localhost:http",
        "[::1",
        "127.1",
        "2130706433",
        "0x7f000001",
    ] {
        let answer = send(&format!("Host: {host}\r\n"), json);
        let body = no_attempt(&answer, 421, "host_not_allowed");
        assert!(body["detail"].as_str().expect("text").contains("OPENEXEC_ALLOWED_HOSTS"));
    }
    for origin in ["null", "http://localhost", "http://127.0.0.1:5000", "https://evil.example"] {
        let answer = send("Host: localhost\r\n", &format!("Origin: {origin}\r\n{json}"));
        no_attempt(&answer, 403, "browser_origin");
    }
    // What a form or a fetch without a preflight can say, and nothing at all.
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/problem+json\r\n",
        "Content-Type: text/plain; application/json\r\n",
        "Content-Type: \r\n",
    ] {
        no_attempt(&send("Host: localhost\r\n", kind), 415, "unsupported_media_type");
    }
    no_attempt(&send("", json), 400, "bad_request");
    no_attempt(&send("Host: localhost\r\nHost: localhost\r\n", json), 400, "bad_request");
    assert_eq!(server.runs("echo"), 0, "none of these executed");

    let mut replays = 0;
    for (host, kind) in [
        ("localhost", "application/json"),
        ("LOCALHOST:5000", "Application/JSON"),
        ("127.0.0.1", "application/json; charset=utf-8"),
        ("[::1]:1", "application/json;x"),
        ("10.0.0.1:65535", "application/json \t; a=b"),
    ] {
        let answer = send(&format!("Host: {host}\r\n"), &format!("Content-Type: {kind}\r\n"));
        assert_eq!(answer.status, 200, "{host} {kind}");
        replays += usize::from(answer.header("idempotent-replayed") == Some("true"));
    }
    assert_eq!((server.runs("echo"), replays), (1, 4));
}

#[test]
fn further_host_names_can_be_allowed() {
    let scratch = Scratch::new();
    let server =
        Server::start(&scratch, &[("OPENEXEC_ALLOWED_HOSTS", " openexec.internal , gate-1,")]);
    let ask = |host: &str| {
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n");
        exchange(&server.address, request.as_bytes()).status
    };
    for host in ["openexec.internal", "OpenExec.Internal:80", "gate-1:5000", "localhost"] {
        assert_eq!(ask(host), 200, "{host}");
    }
    for host in ["openexec.internal.evil", "internal", "gate-2", "xgate-1", "evil"] {
        assert_eq!(ask(host), 421, "{host}");
    }
}

#[test]
fn the_checks_of_a_head_come_in_their_order() {
    let (_scratch, server) = demo();
    // Each line repairs the first fault of the one before.
    let steps = [
        ("PUT", "/nowhere", "evil", "Origin: x\r\n", "", 421, "host_not_allowed"),
        ("PUT", "/nowhere", "localhost", "Origin: x\r\n", "", 403, "browser_origin"),
        ("PUT", "/nowhere", "localhost", "", "", 404, "not_found"),
        ("PUT", "/execute", "localhost", "", "", 405, "method_not_allowed"),
        ("POST", "/execute", "localhost", "", "", 415, "unsupported_media_type"),
        ("POST", "/execute", "localhost", "", "application/json", 400, "malformed_json"),
    ];
    for (method, path, host, origin, kind, status, code) in steps {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: {kind}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        problem(&exchange(&server.address, request.as_bytes()), status, code);
    }
}

/// Every code that one request can get from a service in demo mode, whatever its state.
#[test]
fn what_is_wrong_with_a_request_has_its_code() {
    let (_scratch, server) = demo();
    let head = |line: &str, headers: &str| format!("{line}\r\nHost: localhost\r\n{headers}\r\n");
    let json = "Content-Type: application/json\r\n";
    let posted = |body: &[u8]| post("/execute", body);
    let payload = |text: &str| {
        posted(format!("{{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{text}}}").as_bytes())
    };
    let many = format!("[{}]", "0,".repeat(131_072));
    let no_body = head("POST /execute HTTP/1.1", json);
    let rows: [(Code, Vec<u8>); 25] = [
        (Code::BadRequest, head("GET health HTTP/1.1", "").into()),
        (Code::MalformedJson, posted(b"{")),
        (Code::DuplicateKey, posted(br#"{"action":"echo","action":"echo"}"#)),
        (Code::NumberOutOfRange, payload("{\"a\":9007199254740992}")),
        (Code::LoneSurrogate, payload(r#"{"a":"\ud800"}"#)),
        (Code::TooDeep, payload(&"[".repeat(64))),
        (Code::TooManyValues, payload(&many)),
        (Code::InvalidUtf8, posted(b"\"\xff\"")),
        (Code::UnknownAction, posted(br#"{"action":"nope","nonce":"n"}"#)),
        (Code::BrowserOrigin, head("GET / HTTP/1.1", "Origin: null\r\n").into()),
        (Code::ActionNotConfigured, posted(br#"{"action":"write_file","nonce":"n"}"#)),
        (Code::NotFound, head("GET /nope HTTP/1.1", "").into()),
        (Code::NoLogKey, head("GET /log/checkpoint HTTP/1.1", "").into()),
        (Code::MethodNotAllowed, head("GET /execute HTTP/1.1", "").into()),
        (Code::LengthRequired, no_body.clone().into()),
        (
            Code::BodyTooLarge,
            head("POST /execute HTTP/1.1", &format!("{json}Content-Length: 1048577\r\n")).into(),
        ),
        (
            Code::UnsupportedMediaType,
            head("POST /execute HTTP/1.1", "Content-Length: 2\r\n").into(),
        ),
        (Code::ExpectationFailed, head("GET / HTTP/1.1", "Expect: more\r\n").into()),
        (
            Code::HostNotAllowed,
            no_body.replace("localhost", "evil.example").replace("POST /execute", "GET /").into(),
        ),
        (Code::InvalidRequest, posted(br#"{"action":"echo"}"#)),
        (Code::UnknownField, posted(br#"{"action":"echo","nonce":"n","more":1}"#)),
        (Code::InvalidPayload, posted(br#"{"action":"add","nonce":"n","payload":{"a":"x"}}"#)),
        (Code::HeadTooLarge, head("GET / HTTP/1.1", &"X: y\r\n".repeat(64)).into()),
        (Code::HttpVersionNotSupported, head("GET / HTTP/2.0", "").into()),
        (Code::NonceConflict, posted(br#"{"action":"echo","nonce":"unique-1"}"#)),
    ];
    assert_eq!(server.execute(ECHO).status, 200);
    for (code, request) in rows {
        problem(&exchange(&server.address, &request), code.status(), code.name());
    }
}

#[test]
fn a_receipt_can_be_fetched() {
    let (_scratch, server) = demo();
    let first = server.execute(ECHO);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let fetched = server.get(&format!("/receipts/{id}"));
    assert_eq!((fetched.status, &fetched.body), (200, &first.body));
    assert_eq!(fetched.header("content-type"), Some("application/json"));
    assert_eq!(fetched.header("idempotent-replayed"), None);
    assert_eq!(server.runs("echo"), 1);
    assert_eq!(server.metric("openexec_replays_total"), 0, "a read is no replay");

    let refused = server.execute(r#"{"action":"nope","nonce":"n"}"#);
    let refused = refusal(&refused, 400, "unknown_action");
    let refused_id = refused["id"].as_str().expect("an id");
    for id in [
        refused_id,
        &"0".repeat(64),
        &id.to_uppercase(),
        &id[..63],
        &format!("{id}0"),
        &format!("{id}%20"),
        "x",
        "unique-1",
        "..",
    ] {
        no_attempt(&server.get(&format!("/receipts/{id}")), 404, "not_found");
    }
}

#[test]
fn the_actions_say_what_they_are() {
    let (_scratch, server) = demo();
    let answer = server.get("/actions");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let actions = body["actions"].as_array().expect("an array");
    assert_eq!(
        actions[0],
        json!({"action": "echo", "summary": "Returns its payload.", "effect": "pure",
               "allowed": true, "reason": null,
               "payload_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema",
                                  "type": "object", "properties": {}}})
    );
    assert_eq!(actions[1]["action"], "add");
    let members: BTreeSet<&str> =
        ["action", "allowed", "effect", "payload_schema", "reason", "summary"].into();
    for action in actions {
        let names: BTreeSet<&str> =
            action.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, members);
        assert_eq!(action["allowed"] == true, action["reason"].is_null(), "{action}");
        let effect = action["effect"].as_str().expect("text");
        assert!(["pure", "idempotent", "once"].contains(&effect), "{action}");
        assert!(action["payload_schema"].is_object());
    }
}

#[test]
fn an_allow_list_shows_in_health_and_actions() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "add")]);
    let health = server.get("/health").json();
    assert_eq!(health["restriction"], "restricted");
    assert_eq!(health["allow_list"], json!(["add"]));
    assert_eq!(health.get("warning"), None);
    let body = server.get("/actions").json();
    let of = |name: &str| -> Value {
        let actions = body["actions"].as_array().expect("an array");
        actions.iter().find(|action| action["action"] == name).expect("listed").clone()
    };
    assert_eq!(of("add")["allowed"], true);
    assert_eq!(of("echo")["allowed"], false);
    assert_eq!(of("echo")["reason"], "Action 'echo' is not in the execution allow-list");
    drop(server);
    let server = Server::start(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "echo, add")]);
    assert_eq!(server.get("/health").json()["allow_list"], json!(["echo", "add"]));
}

#[test]
fn the_metrics_are_prometheus_text() {
    let (_scratch, server) = demo();
    server.execute(ECHO);
    server.execute(ECHO);
    server.execute(r#"{"action":"nope","nonce":"n"}"#);
    let answer = server.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let text = answer.text();
    assert!(text.ends_with('\n'));
    let mut typed = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned()), "{name} is described twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect("a number");
            let name = series.split('{').next().expect("a name");
            assert!(name.starts_with("openexec_"), "{line}");
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .is_some_and(|name| typed.contains(name));
            assert!(typed.contains(name) || of_histogram, "{line} has no TYPE before it");
        }
    }
    for (line, value) in [
        ("openexec_executions_total{outcome=\"executed\"}", 1),
        ("openexec_handler_runs_total{action=\"echo\"}", 1),
        ("openexec_refusals_total{code=\"unknown_action\"}", 1),
        ("openexec_replays_total", 1),
        ("openexec_store_executions", 1),
        ("openexec_handler_running", 0),
        ("openexec_frozen", 0),
    ] {
        assert_eq!(server.metric(line), value, "{line}");
    }
    assert!(!text.contains("hello") && !text.contains("unique-1"), "nothing of a request");
}

#[test]
fn a_connection_serves_many_requests() {
    let (_scratch, server) = demo();
    let mut client = common::Client::connect(&server.address);
    for n in 0..20 {
        let body = format!(r#"{{"action":"echo","nonce":"{n}"}}"#);
        assert_eq!(client.exchange(&post("/execute", body.as_bytes())).status, 200);
        assert_eq!(client.exchange(&get("/nowhere")).status, 404);
        assert_eq!(client.exchange(&post("/execute", b"{")).status, 400);
    }
    assert_eq!(server.runs("echo"), 20);
}
