//! The page's server, as browsers, other pages and other programs reach it. tests/browser/ has the page itself.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::page::{Page, parts, refusal};
use common::peer::{Peer, Script, answer, proposal, refund, service};
use common::service::until;
use common::{Scratch, is_signed, public_key, text, tool};
use openexec::core::approval::artifact;
use openexec::core::json::canonical;
use serde_json::{Value, json};

/// Whoever lacks the token, or comes through another page, cannot tell the page's process from one that has nothing.
#[test]
fn everybody_else_gets_one_and_the_same_nothing() {
    let (scratch, (id, said)) = (Scratch::new(), refund());
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let page = Page::start(&scratch, &peer.url, &[]);
    let (host, token) = (&page.host, &page.token);
    let body = json!({"id": id, "view": 1}).to_string();
    let post = |path: &str, headers: &str, length: usize| {
        format!("POST /{path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
    };
    let json = "Content-Type: application/json\r\n";
    let (ours, from_us) = (format!("Host: {host}\r\n"), format!("Origin: http://{host}\r\n"));
    let long = "x".repeat(9000);
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let requests = [
        get("/", &ours),
        get("/favicon.ico", &ours),
        get(&format!("/{}/", "0".repeat(64)), &ours),
        get(&format!("/{token}x/"), &ours),
        get(&format!("/{token}/none"), &ours),
        get(&format!("/{token}/"), "Host: localhost\r\n"),
        get(&format!("/{token}/"), "Host: evil.example\r\n"),
        get(&format!("/{token}/"), ""),
        get(&format!("/{token}/"), &format!("{ours}{ours}")),
        get(&format!("/{token}/"), &format!("{ours}Transfer-Encoding: chunked\r\n")),
        get(&format!("/{token}/list"), &format!("{ours}Origin: http://evil.example\r\n")),
        get(&format!("/{token}/list"), &format!("{ours}Sec-Fetch-Site: cross-site\r\n")),
        get(&format!("/{token}/"), &format!("{ours}X: {long}\r\n")),
        get(&format!("/{token}/{long}"), &ours),
        get(&format!("/{token}/"), &format!("{ours}{}", "X: y\r\n".repeat(65))),
        format!("GET /{token}/ HTTP/1.0\r\n{ours}\r\n"),
        format!("GET /{token}/ HTTP/2.0\r\n{ours}\r\n"),
        format!("PUT /{token}/approve HTTP/1.1\r\n{ours}\r\n"),
        format!("OPTIONS /{token}/approve HTTP/1.1\r\n{ours}\r\n"),
        "\r\n\r\nnonsense\r\n\r\n".to_owned(),
        post("0/approve", &format!("{ours}{from_us}{json}"), body.len()),
        post(&format!("{token}/approve"), &format!("{ours}{json}"), body.len()),
        post(&format!("{token}/approve"), &format!("{ours}Origin: null\r\n{json}"), body.len()),
        post(&format!("{token}/approve"), &format!("{ours}{from_us}{from_us}{json}"), body.len()),
        post(&format!("{token}/approve"), &format!("Host: x\r\n{from_us}{json}"), body.len()),
        post(&format!("{token}/approve"), &format!("{ours}{from_us}"), body.len()),
        post(&format!("{token}/approve"), &format!("{ours}{from_us}{json}"), 9000),
        // More than it says, as if another request followed.
        post(&format!("{token}/approve"), &format!("{ours}{from_us}{json}"), 1),
        format!(
            "POST /{token}/approve HTTP/1.1\r\n{ours}{from_us}{json}Content-Length: +2\r\n\r\n{{}}"
        ),
        format!(
            "POST /{token}/approve HTTP/1.1\r\n{ours}{from_us}{json}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"
        ),
    ];
    let nothing = page.raw(requests[0].as_bytes());
    assert!(text(&nothing).starts_with("HTTP/1.1 404 "), "{}", text(&nothing));
    assert!(!text(&nothing).contains(token.as_str()));
    for request in &requests {
        assert_eq!(text(&page.raw(request.as_bytes())), text(&nothing), "{request}");
    }
    // The same person with the right address is served.
    assert_eq!(page.get("").0, 200);
    assert!(peer.heard().is_empty(), "the service was asked by nobody");
}

#[test]
fn each_answer_tells_the_browser_to_run_and_keep_nothing_else() {
    let (scratch, (id, said)) = (Scratch::new(), refund());
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let page = Page::start(&scratch, &peer.url, &[]);
    let proposal = format!("proposal/{id}");
    let paths = [
        "",
        "page.css",
        "page.js",
        "icon.svg",
        "list",
        &proposal,
        "decided",
        "decided.csv",
        "none",
    ];
    for path in paths {
        let (_, head, body) = page.get(path);
        for line in [
            "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            "Referrer-Policy: no-referrer",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Cross-Origin-Opener-Policy: same-origin",
            "Cross-Origin-Resource-Policy: same-origin",
            "Connection: close",
        ] {
            assert!(head.lines().any(|found| found == line), "{path} lacks {line}: {head}");
        }
        assert!(!body.contains("://") || path == "icon.svg", "{path} names another place");
    }
    let request = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", page.token, page.host);
    let (status, head, _) = parts(&page.raw(request.as_bytes()));
    assert_eq!(status, 308);
    assert!(head.contains(&format!("\r\nLocation: /{}/\r\n", page.token)), "{head}");
    // Nothing of the page makes text into anything else.
    let (_, _, script) = page.get("page.js");
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval",
        "Function(",
        "document.write",
        ".src",
        ".href",
        "localStorage",
    ] {
        assert!(!script.contains(way), "page.js uses {way}");
    }
}

#[test]
fn tokens_differ_and_have_256_bits() {
    let scratch = Scratch::new();
    let (one, other) =
        (Page::start(&scratch, "unix:/none", &[]), Page::start(&scratch, "unix:/none", &[]));
    for page in [&one, &other] {
        assert!(page.token.len() == 64 && page.token.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    assert_ne!(one.token, other.token);
}

#[test]
fn what_was_shown_is_what_is_signed() {
    let (scratch, (id, said)) = (Scratch::new(), refund());
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let page = Page::start(&scratch, &peer.url, &["--tenant", "acme"]);
    assert_eq!(page.json("list")["waiting"], json!([id]));
    let shown = page.json(&format!("proposal/{id}"));
    assert_eq!(shown["action"], "refund");
    assert_eq!(
        shown["payload"],
        json!([
            [1, "{"],
            [2, "\"amount\": 4900,", "49.00 EUR", true],
            [2, "\"currency\": \"EUR\","],
            [2, "\"to\": \"Gr\\u00fcn \\u05d0\"", "Gr\u{fc}n \\u05d0", false],
            [1, "}"],
        ])
    );
    assert_eq!(
        shown["words"],
        json!([[0, "\"they asked\\nnicely \\u202e\"", "they asked\nnicely \\u202e", false]])
    );
    assert_eq!(shown["missing"], "1 more, of them 1 of \"finance\"");
    assert_eq!(shown["have"], json!([["\"alice\"", shown["have"][0][1]]]));
    let said = page.decide("approve", &json!({"id": id, "view": shown["view"]}));
    assert_eq!(said, json!({"done": "You approved it. The service says: executing."}));
    let posted = peer.posted("/approvals");
    let [approval] = &posted[..] else { panic!("{posted:?}") };
    let read = &artifact::parse(approval).expect("well formed")[0];
    assert!(is_signed(&read.signed_message(), approval));
    assert_eq!((&approval["action_hash"], &approval["tenant_id"]), (&json!(id), &json!("acme")));
    // Once is enough; a no is still possible.
    let again = page.post("approve", &json!({"id": id, "view": shown["view"]}));
    assert!(refusal(&again).starts_with("nothing is signed: you approved it here at "), "{again}");
    assert_eq!(page.json(&format!("proposal/{id}"))["hindrance"], Value::Null);
    let why = "=1+1 \u{202e}";
    let no = json!({"id": id, "view": shown["view"], "justification": why});
    assert_eq!(page.post("reject", &no)["done"], "You rejected it. The service says: executing.");
    let rejection = &peer.posted("/rejections")[0];
    assert_eq!((&rejection["exec_id"], &rejection["justification"]), (&json!(id), &json!(why)));
    let mut rest = rejection.clone();
    rest.as_object_mut().expect("an object").remove("signature");
    let message = format!("openexec-rejection-v1\n{}", canonical::to_string(&rest));
    assert!(is_signed(message.as_bytes(), rejection));
    let (_, head, table) = page.get("decided.csv");
    assert!(head.contains("Content-Disposition: attachment"), "{head}");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[1].contains("\"rejected\",\"refund\"")
            && lines[1].ends_with(",\"\"\"n1\"\"\",\"'=1+1 \\u202e\""),
        "{table}"
    );
    let rows = page.json("decided");
    assert_eq!(rows["rows"].as_array().expect("rows").len(), 2, "{rows}");
}

#[test]
fn nothing_is_signed_but_what_was_looked_at() {
    let (scratch, (id, said)) = (Scratch::new(), refund());
    let (other, more) = proposal("n2", &json!({}));
    let peer = Peer::start(service(&[(id.clone(), said), (other.clone(), more)]));
    let page = Page::start(&scratch, &peer.url, &[]);
    let path = format!("proposal/{id}");
    // Sooner than half a second. On a busy machine an answer may take longer: then it says nothing.
    until("an answer comes soon", || {
        let began = Instant::now();
        let view = page.json(&path)["view"].clone();
        let said = page.post("approve", &json!({"id": id, "view": view}));
        let is_soon = began.elapsed() < Duration::from_millis(500);
        assert!(!is_soon || refusal(&said).contains("sooner than anybody could look"), "{said}");
        is_soon
    });
    let approved = peer.posted("/approvals").len();
    let view = page.json(&path)["view"].clone();
    let long = "\u{1f600}".repeat(501);
    for (path, body, sentence) in [
        ("approve", json!({"id": other, "view": view}), "this page did not show it"),
        ("approve", json!({"id": id, "view": 9999}), "this page did not show it"),
        ("approve", json!({"id": id, "view": -1}), "none of this page"),
        ("approve", json!({"id": id}), "none of this page"),
        ("approve", json!({"view": view}), "none of this page"),
        ("approve", json!({"id": "x", "view": view}), "none of this page"),
        ("approve", json!({"id": id, "view": view, "x": 1}), "none of this page"),
        ("approve", json!([]), "none of this page"),
        ("approve", json!({"id": id, "view": {"a": {"b": 1}}}), "none of this page"),
        ("reject", json!({"id": id, "view": view}), "none of this page"),
        ("reject", json!({"id": id, "view": view, "justification": 1}), "none of this page"),
        ("reject", json!({"id": id, "view": view, "justification": ""}), "1 to 500 characters"),
        ("reject", json!({"id": id, "view": view, "justification": long}), "1 to 500 characters"),
    ] {
        let said = page.decide(path, &body);
        assert!(refusal(&said).contains(sentence), "{body}: {said}");
    }
    assert_eq!(peer.posted("/approvals").len(), approved);
    assert!(peer.posted("/rejections").is_empty());
}

/// What the service says instead is said in words, and nothing is taken for done.
#[test]
fn a_service_that_refuses_is_understood() {
    let (scratch, (id, said)) = (Scratch::new(), refund());
    let problem =
        |code: &str| json!({"code": code, "detail": "d\u{202e}", "state": "rejected"}).to_string();
    for (status, code, sentence) in [
        (401, "unauthenticated", "the service does not know this token"),
        (403, "caller_not_allowed", "it needs the right `approve`"),
        (403, "approval_key_not_authorized", "this key may not decide about this action"),
        (403, "approval_expired", "the approval was over before the service had it"),
        (403, "approver_is_proposer", "you proposed this yourself"),
        (404, "nothing_pending", "the service knows no such proposal"),
        (409, "not_pending", "somebody was quicker"),
        (429, "pending_full", "as often as one key may approve"),
        (429, "busy", "try again later"),
        (503, "clock_behind", "does not believe its clock"),
        (500, "x", "it is signed; show it again: "),
    ] {
        let mut script = service(&[(id.clone(), said.clone())]);
        for path in ["/approvals", "/rejections"] {
            script.insert(format!("POST {path}"), answer(status, problem(code)));
        }
        let peer = Peer::start(script);
        let page = Page::start(&scratch, &peer.url, &[]);
        let view = page.json(&format!("proposal/{id}"))["view"].clone();
        let no = json!({"id": id, "view": view, "justification": "no"});
        for (path, body) in [("approve", json!({"id": id, "view": view})), ("reject", no)] {
            let said = page.decide(path, &body);
            assert!(refusal(&said).contains(sentence), "{said}");
            let answered =
                format!("the service answers {status} {code}: d\\u202e (state: rejected)");
            assert!(refusal(&said).contains(&answered), "{said}");
        }
        assert_eq!(page.json("decided")["rows"], json!([]));
    }
    for (script, path, sentence) in [
        (Script::new(), "list", "has no callers file"),
        (
            Script::new(),
            &*format!("proposal/{id}"),
            "404 not_found: no \\u001b[2J\\u202e such thing",
        ),
        (Script::new(), &*format!("watch/{id}"), "404 not_found"),
    ] {
        let peer = Peer::start(script);
        let page = Page::start(&scratch, &peer.url, &[]);
        let said = page.json(path).to_string();
        assert!(said.contains(&sentence.replace('\\', "\\\\")), "{said}");
    }
    let page = Page::start(&scratch, "unix:/nowhere/socket", &[]);
    assert!(refusal(&page.json("list")).contains("the service at"));
}

/// One of which the service says nothing keeps nobody from learning what became of the others.
#[test]
fn what_became_of_each_decision_is_asked_for() {
    let scratch = Scratch::new();
    let proposals = ["n1", "n2"].map(|nonce| proposal(nonce, &json!({})));
    let socket = scratch.path().join("socket");
    let before = Peer::start_at(&socket, service(&proposals));
    let page = Page::start(&scratch, &before.url, &[]);
    for (id, _) in &proposals {
        let view = page.json(&format!("proposal/{id}"))["view"].clone();
        let said = page.decide("approve", &json!({"id": id, "view": view}));
        assert_eq!(refusal(&said), "");
    }
    // The newest is the first that is asked for.
    std::fs::remove_file(&socket).expect("removed");
    let [(id, mut said), _] = proposals;
    said["state"] = "executed".into();
    let _after = Peer::start_at(&socket, service(&[(id, said)]));
    let decided = page.json("decided");
    assert!(decided["notice"].as_str().unwrap_or_default().contains("404 not_found"), "{decided}");
    let states = [0, 1].map(|row| decided["rows"][row][4].clone());
    assert_eq!(states, ["executing", "executed"]);
}

#[test]
fn what_cannot_be_decided_says_why() {
    let scratch = Scratch::new();
    let fingerprint = {
        let digest = openexec::core::hash::sha256(&[&public_key(1)]);
        openexec::core::hash::hex(&digest)[..16].to_owned()
    };
    for (name, value, field, sentence) in [
        ("state", json!("executed"), "hindrance", "it is executed"),
        ("state", json!("\u{1b}[2J"), "hindrance", "it is \\u001b[2J"),
        ("tenant_id", json!(null), "hindrance", "in demo mode"),
        ("tenant_id", json!("other"), "hindrance", "of another tenant"),
        ("approvals", json!({"have": [{"key": fingerprint}]}), "already", "this key has approved"),
    ] {
        let (id, mut said) = refund();
        said[name] = value;
        let peer = Peer::start(service(&[(id.clone(), said)]));
        let page = Page::start(&scratch, &peer.url, &["--tenant", "acme"]);
        let shown = page.json(&format!("proposal/{id}"));
        assert!(shown[field].as_str().unwrap_or_default().contains(sentence), "{shown}");
        let said = page.decide("approve", &json!({"id": id, "view": shown["view"]}));
        assert!(refusal(&said).contains(sentence), "{said}");
        assert!(peer.posted("/approvals").is_empty());
    }
    // Another proposal than was asked for is not shown at all.
    let (id, mut said) = refund();
    said["payload"]["amount"] = json!(490_000);
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let page = Page::start(&scratch, &peer.url, &[]);
    let shown = page.json(&format!("proposal/{id}"));
    assert!(refusal(&shown).contains("another proposal than was asked for"), "{shown}");
}

#[test]
fn a_key_that_cannot_sign_here_has_no_page() {
    let scratch = Scratch::new();
    let public = scratch.file("key.pub", common::public_pem(1), 0o600).display().to_string();
    let output = tool(&scratch, &["page", "--url", "unix:/none", "--key", &public], "");
    common::refused(&output, 78, "is a public key, which cannot sign");
    let output = tool(&scratch, &["page", "--url", "unix:/none"], "");
    common::refused(&output, 64, "--key is required");
}

/// Connections that say nothing whole end by themselves, and until then whoever comes takes the place of the oldest.
#[test]
fn who_connects_and_says_nothing_keeps_nobody_out() {
    let scratch = Scratch::new();
    let page = Page::start(&scratch, "unix:/none", &[]);
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(&page.host).expect("connected")).collect();
    // One that has lost its place may be reset.
    silent.iter().for_each(|mut stream| drop(stream.write_all(b"GET /")));
    for _ in 0..3 {
        assert_eq!(page.get("").0, 200);
    }
    for (index, mut stream) in silent.into_iter().enumerate() {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let is_late = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.as_ref().is_err_and(is_late), "{index}: {ended:?}");
        assert!(answer.is_empty(), "{index}: {}", text(&answer));
    }
    assert_eq!(page.get("").0, 200);
}

/// Who goes on sending after an answer has no place for longer than the answer needs to arrive.
#[test]
fn who_trickles_behind_a_request_keeps_nobody_out() {
    let scratch = Scratch::new();
    let page = Page::start(&scratch, "unix:/none", &[]);
    let answered = (0..32).map(|_| {
        let mut stream = TcpStream::connect(&page.host).expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("asked");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", text(&answer));
        stream
    });
    let answered: Vec<TcpStream> = answered.collect();
    let mut pieces = 0;
    while answered.iter().filter(|stream| (&**stream).write_all(b"x").is_ok()).count() > 0 {
        pieces += 1;
        assert!(pieces < 500, "they keep their places for ten seconds and more");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(page.get("").0, 200);
}
