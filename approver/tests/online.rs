//! `list`, `show`, `approve` and `reject`, against answers of every kind: those of a service, and those of somebody who
//! took its place.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::process::Output;

use common::peer::{Peer, Script, answer, proposal, refund, service};
use common::{Scratch, TOOL, Terminal, is_signed, key_file, refused, text, tool};
use openexec::core::approval::artifact;
use openexec::core::json::canonical;
use openexec::core::time::Time;
use serde_json::{Value, json};

fn run(scratch: &Scratch, peer: &Peer, arguments: &[&str]) -> Output {
    tool(scratch, &[arguments, &["--url", &peer.url]].concat(), "")
}

fn key(scratch: &Scratch) -> String {
    key_file(scratch, 1, 0o600).display().to_string()
}

#[test]
fn a_proposal_is_shown_whole_with_whose_words_are_whose() {
    let scratch = Scratch::new();
    let (id, said) = refund();
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let line = format!("{TOOL} show {id} --url {}", peer.url);
    let (code, shown) = Terminal::run(&scratch, &line, 100).ended();
    assert_eq!(code, Some(0), "{shown}");
    let expected = [
        &format!("proposal {id}"),
        "action   refund",
        "payload  (48 bytes)",
        "  {",
        "    \"amount\": 4900,",
        "    ~ 49.00 EUR",
        "    \"currency\": \"EUR\",",
        "    \"to\": \"Gr\\u00fcn \\u05d0\"",
        "    ~ Gr\u{fc}n \\u05d0",
        "  }",
        "nonce    \"n1\"",
        "the service says of it:",
        "state    \"pending\"",
        "asked by \"agent-7\"",
        "in their words \"they asked\\nnicely \\u202e\"",
        "~ they asked",
        "~ nicely \\u202e",
        "asked at \"2026-01-01T00:00:00.000000Z\"",
        "until    \"2999-01-01T00:00:00.000000Z\"",
        "executes by itself once approved: true",
        "approved {\"key\":\"alice\",\"until\":\"2999-01-01T00:00:00Z\"}",
        "missing  {\"count\":1,\"groups\":{\"finance\":1}}",
        "",
    ];
    assert_eq!(shown.split("\r\n").collect::<Vec<_>>(), expected);
    let list = run(&scratch, &peer, &["list"]);
    let listed = text(&list.stdout);
    assert!(listed.starts_with(&format!("proposal {id}\n  action   \"refund\"\n")), "{listed}");
}

#[test]
fn what_was_shown_is_approved_and_handed_in() {
    let scratch = Scratch::new();
    let (id, said) = refund();
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let token = scratch.file("token", "s3cret-token\n", 0o600).display().to_string();
    let key = key(&scratch);
    let output =
        run(&scratch, &peer, &["approve", &id, "--key", &key, "--yes", "--token-file", &token]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("proposal {id}\nstate    executing\n"));
    let posted = peer.posted("/approvals");
    let [approval] = &posted[..] else { panic!("{posted:?}") };
    let read = &artifact::parse(approval).expect("well formed")[0];
    assert!(is_signed(&read.signed_message(), approval));
    assert_eq!((&approval["action_hash"], &approval["tenant_id"]), (&json!(id), &json!("acme")));
    // Until the proposal expires, and a week at most.
    let lives = read.expires_at().seconds() - read.issued_at().seconds();
    assert_eq!(lives, 7 * 86_400);
    let heard = peer.heard();
    assert!(
        heard.len() >= 3
            && heard.iter().all(|request| {
                request.to_lowercase().contains("\r\nauthorization: bearer s3cret-token\r\n")
            }),
        "{heard:?}"
    );
}

#[test]
fn an_approval_lives_no_longer_than_the_proposal_and_the_service_allow() {
    let scratch = Scratch::new();
    let key = key(&scratch);
    let now = openexec::sys::clock::now();
    for (expires, ttl_max, more, lives) in [
        (600, Value::Null, &[][..], 600),
        (600, json!(60), &[], 60),
        (600, json!(3600), &["--ttl", "30"], 30),
        (99_999_999, Value::Null, &[], 604_800),
    ] {
        let (id, mut said) = refund();
        said["expires_at"] = now.plus_seconds(expires).to_string().into();
        said["ttl_max"] = ttl_max;
        let peer = Peer::start(service(&[(id.clone(), said)]));
        let output =
            run(&scratch, &peer, &[&["approve", &id, "--key", &key, "--yes"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let approval = &peer.posted("/approvals")[0];
        let time =
            |name: &str| Time::parse(approval[name].as_str().expect("text")).expect("a time");
        let found = time("expires_at").seconds() - time("issued_at").seconds();
        assert!((lives - 60..=lives).contains(&found), "{found} of {lives}");
    }
}

#[test]
fn a_no_is_signed_with_its_reason() {
    let scratch = Scratch::new();
    let (id, said) = refund();
    let peer = Peer::start(service(&[(id.clone(), said)]));
    let key = key(&scratch);
    let why = "twice \u{202e}paid";
    let output =
        run(&scratch, &peer, &["reject", &id, "--key", &key, "--yes", "--justification", why]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let posted = peer.posted("/rejections");
    let [rejection] = &posted[..] else { panic!("{posted:?}") };
    assert_eq!((&rejection["exec_id"], &rejection["justification"]), (&json!(id), &json!(why)));
    let mut rest = rejection.clone();
    rest.as_object_mut().expect("an object").remove("signature");
    assert_eq!(rest.as_object().expect("an object").len(), 5);
    let message = format!("openexec-rejection-v1\n{}", canonical::to_string(&rest));
    assert!(is_signed(message.as_bytes(), rejection));
    assert!(peer.posted("/approvals").is_empty());
    for why in ["", &"x".repeat(501)] {
        let arguments = ["reject", &id, "--key", &key, "--yes", "--justification", why];
        refused(&run(&scratch, &peer, &arguments), 64, "1 to 500 characters");
    }
}

/// Everything that is not the proposal that was asked for, as it was asked for.
#[test]
fn what_is_not_what_it_says_is_never_signed() {
    let scratch = Scratch::new();
    let key = key(&scratch);
    let (id, said) = refund();
    let changed = |name: &str, value: Value| {
        let mut other = said.clone();
        other[name] = value;
        other.to_string()
    };
    let without = |name: &str| {
        let mut other = said.clone();
        other.as_object_mut().expect("an object").remove(name);
        other.to_string()
    };
    let twice = said.to_string().replacen('{', "{\"payload\":{\"amount\":1},", 1);
    let deep =
        said.to_string().replacen("4900", &format!("{}{}", "[".repeat(70), "]".repeat(70)), 1);
    let (other, _) = proposal("n2", &json!({}));
    for (body, code, sentence) in [
        (changed("payload", json!({"amount": 490_000})), 65, "another proposal"),
        (changed("nonce", json!("n2")), 65, "another proposal"),
        (changed("action", json!("echo")), 65, "another proposal"),
        (changed("action", json!("a b")), 65, "another proposal"),
        (changed("nonce", json!("n\u{1}")), 65, "another proposal"),
        (changed("payload", json!("{}")), 65, "lacks payload"),
        (changed("state", json!("executed")), 65, "no longer pending: it is executed"),
        (changed("state", json!("\u{1b}[2J")), 65, "it is \\u001b[2J"),
        (changed("state", json!(null)), 65, "no longer pending"),
        (changed("state", json!("x".repeat(65))), 65, "no longer pending: it is\\u0020\n"),
        (changed("tenant_id", json!("a\u{7}")), 65, "tenant is none"),
        (changed("tenant_id", json!("a".repeat(4097))), 65, "tenant is none"),
        (changed("tenant_id", json!("other")), 65, "another tenant: \"other\""),
        (without("tenant_id"), 65, "lacks tenant_id"),
        (changed("tenant_id", json!(1)), 65, "lacks tenant_id"),
        (changed("tenant_id", json!(null)), 65, "in demo mode"),
        (without("payload"), 65, "lacks payload"),
        (twice, 65, "same key twice"),
        (deep, 65, "nested too deep"),
        ("[]".to_owned(), 65, "no proposal"),
        ("x".to_owned(), 65, "not one JSON value"),
        (String::new(), 65, "not one JSON value"),
        // Beyond any payload.
        ("x".repeat(9 << 20), 65, "the service at"),
    ] {
        let mut script = service(&[(id.clone(), said.clone())]);
        script.insert(format!("GET /proposals/{id}"), answer(200, &body));
        let peer = Peer::start(script);
        let arguments = ["approve", &id, "--key", &key, "--yes", "--tenant", "acme"];
        let output = run(&scratch, &peer, &arguments);
        refused(&output, code, sentence);
        assert!(output.stderr.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
        assert!(peer.heard().iter().all(|request| request.starts_with("GET ")), "nothing is sent");
    }
    let peer = Peer::start(service(&[(id.clone(), said)]));
    refused(
        &run(&scratch, &peer, &["approve", &other, "--key", &key, "--yes"]),
        65,
        "404 not_found: no \\u001b[2J",
    );
    for bad in ["", "x", &id[1..], &id.to_uppercase(), &format!("{id}/../..")] {
        refused(
            &run(&scratch, &peer, &["approve", bad, "--key", &key, "--yes"]),
            64,
            "64 hexadecimal",
        );
    }
    refused(&run(&scratch, &peer, &["approve", "--key", &key, "--yes"]), 64, "needs the ID");
    assert!(peer.posted("/approvals").is_empty());
}

#[test]
fn a_service_that_says_no_or_nothing_is_heard_and_never_followed() {
    let scratch = Scratch::new();
    let key = key(&scratch);
    let token = scratch.file("token", "t", 0o600).display().to_string();
    let elsewhere = Peer::start(Script::new());
    let (id, said) = refund();
    let redirect = |status: u16| {
        let to = format!("Location: {}/x\r\n", elsewhere.url);
        format!("HTTP/1.1 {status} X\r\n{to}Content-Length: 0\r\n\r\n").into_bytes()
    };
    let problem = |code: &str| json!({"code": code, "detail": "d\u{202e}"}).to_string();
    for (at_get, at_post, code, sentence) in [
        (redirect(302), None, 65, "answers 302"),
        (redirect(307), None, 65, "answers 307"),
        (answer(401, problem("unauthenticated")), None, 65, "401 unauthenticated: d\\u202e"),
        (answer(503, problem("busy")), None, 74, "503 busy"),
        (
            answer(503, json!({"code": "busy", "x": "x".repeat(65_536)}).to_string()),
            None,
            74,
            "no code of OpenExec's",
        ),
        (answer(502, "<html>"), None, 74, "no code of OpenExec's; is --url right?"),
        // It waits for the rest as long as an exchange may take.
        (b"HTTP/1.1 200 X\r\nContent-Length: 999\r\n\r\nx".to_vec(), None, 74, "the service at"),
        (b"nonsense\r\n\r\n".to_vec(), None, 74, "the service at"),
        (
            format!("HTTP/1.1 200 X\r\nX: {}\r\n\r\n", "x".repeat(20_000)).into_bytes(),
            None,
            74,
            "the service at",
        ),
        (Vec::new(), None, 74, "the service at"),
        (answer(200, said.to_string()), Some(redirect(307)), 65, "answers 307"),
        (
            answer(200, said.to_string()),
            Some(answer(403, problem("approval_key_not_authorized"))),
            65,
            "403 approval_key_not_authorized",
        ),
        (
            answer(200, said.to_string()),
            Some(answer(409, problem("not_pending"))),
            65,
            "409 not_pending",
        ),
        (
            answer(200, said.to_string()),
            Some(answer(200, "{}")),
            65,
            "something else than its state",
        ),
        (
            answer(200, said.to_string()),
            Some(answer(200, json!({"id": "0".repeat(64), "state": "x"}).to_string())),
            65,
            "something else",
        ),
        (
            answer(200, said.to_string()),
            Some(answer(200, json!({"id": id, "state": "x".repeat(65)}).to_string())),
            65,
            "something else",
        ),
    ] {
        let mut script = service(&[]);
        script.insert(format!("GET /proposals/{id}"), at_get);
        script.extend(at_post.map(|said| ("POST /approvals".to_owned(), said)));
        let peer = Peer::start(script);
        let arguments = ["approve", &id, "--key", &key, "--yes", "--token-file", &token];
        refused(&run(&scratch, &peer, &arguments), code, sentence);
    }
    assert!(elsewhere.heard().is_empty(), "{:?}", elsewhere.heard());
    let gone = ["list", "--url", "unix:/nowhere/socket"];
    refused(&tool(&scratch, &gone, ""), 74, "the service at");
}

#[test]
fn tokens_that_others_may_read_and_files_that_are_no_tokens_are_refused() {
    let scratch = Scratch::new();
    let peer = Peer::start(service(&[]));
    for (content, mode, sentence) in [
        ("t", 0o604, "open to others; run chmod o="),
        ("", 0o600, "one line without spaces"),
        ("a b", 0o600, "one line without spaces"),
        ("a\nb", 0o600, "one line without spaces"),
        ("a\r\nX: y", 0o600, "one line without spaces"),
        ("\u{fc}", 0o600, "one line without spaces"),
    ] {
        let file = scratch.file("token", content, mode).display().to_string();
        refused(&run(&scratch, &peer, &["list", "--token-file", &file]), 78, sentence);
    }
    assert!(peer.heard().is_empty());
}

#[test]
fn a_list_that_never_ends_or_lies_ends_all_the_same() {
    let scratch = Scratch::new();
    let page = |ids: &[&str], next: &str| {
        let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "action": "a"})).collect();
        answer(200, json!({"proposals": entries, "next": next}).to_string())
    };
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let mut script = Script::new();
    script.insert("GET /proposals?state=pending".to_owned(), page(&[&one], "a b&\u{fc}"));
    // The cursor is text of theirs, and stays within its value.
    script
        .insert("GET /proposals?state=pending&after=a%20b%26%C3%BC".to_owned(), page(&[&two], "c"));
    script.insert("GET /proposals?state=pending&after=c".to_owned(), page(&[&one, &two], "c"));
    let peer = Peer::start(script);
    let output = run(&scratch, &peer, &["list"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).matches("proposal ").count(), 2);
    assert_eq!(peer.heard().len(), 3);
    for body in ["", "[]", "{}", r#"{"proposals":[{}]}"#, r#"{"proposals":[{"id":"\u001b"}]}"#] {
        let script = [("GET /proposals?state=pending".to_owned(), answer(200, body))];
        let peer = Peer::start(script.into());
        refused(&run(&scratch, &peer, &["list"]), 65, "no list of proposals");
    }
    let peer = Peer::start(service(&[]));
    assert_eq!(text(&run(&scratch, &peer, &["list"]).stdout), "nothing waits for an approval\n");
}

#[test]
fn one_after_another_each_has_an_answer_of_its_own() {
    let scratch = Scratch::new();
    let key = key(&scratch);
    let mut proposals: Vec<_> =
        (1..=5).map(|n| proposal(&format!("n{n}"), &json!({"amount": n}))).collect();
    // Decided between the list and the look.
    let mut script = service(&proposals);
    proposals[1].1["state"] = "rejected".into();
    let (late, said) = &proposals[1];
    script.insert(format!("GET /proposals/{late}"), answer(200, said.to_string()));
    let socket = scratch.path().join("socket");
    let peer = Peer::start_at(&socket, script);
    let line = format!("{TOOL} approve --key {key} --url {}", peer.url);
    let mut terminal = Terminal::run(&scratch, &line, 80);
    for (number, answer) in [(1, "yes\nyes\nyes\n"), (3, "no\n"), (4, "yes\n"), (5, "stop\n")] {
        let shown = terminal.until("Type yes, no or stop: ");
        assert!(shown.contains(&format!("\"amount\": {number}\r\n")), "{shown}");
        assert!(shown.contains(&format!("Approve refund? ({number} of 5)\r\n")), "{shown}");
        terminal.types(answer);
    }
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0));
    // A no in between is no rejection, and says so.
    assert!(
        shown.contains("not signed: it still waits; only `reject` says no for good\r\n"),
        "{shown}"
    );
    assert!(shown.ends_with("stopped: this one and those behind it still wait\r\n"), "{shown}");
    let approved: Vec<Value> =
        peer.posted("/approvals").iter().map(|posted| posted["action_hash"].clone()).collect();
    assert_eq!(approved, [json!(proposals[0].0), json!(proposals[3].0)]);
}

/// What is wrong with one proposal costs that one; what is wrong with whoever asks ends it.
#[test]
fn one_that_is_bad_keeps_nobody_from_the_others() {
    let scratch = Scratch::new();
    let key = key(&scratch);
    let proposals: Vec<_> =
        (1..=6).map(|n| proposal(&format!("n{n}"), &json!({"amount": n}))).collect();
    let (mut deep, mut foreign) = (proposals[0].1.clone(), proposals[1].1.clone());
    deep["payload"]["amount"] = (0..70).fold(json!(0), |inner, _| json!([inner]));
    foreign["tenant_id"] = json!("other");
    let unknown = json!({"code": "not_found", "detail": "none"}).to_string();
    let bad = [
        (answer(200, deep.to_string()), "nested too deep"),
        (answer(200, foreign.to_string()), "another tenant: \"other\""),
        (answer(404, unknown), "404 not_found: none"),
        (answer(200, "x".repeat(9 << 20)), "the service at"),
    ];
    let mut script = service(&proposals);
    for ((id, _), (said, _)) in proposals.iter().zip(&bad) {
        script.insert(format!("GET /proposals/{id}"), said.clone());
    }
    let peer = Peer::start(script.clone());
    let line = format!("{TOOL} approve --key {key} --tenant acme --url {}", peer.url);
    let mut terminal = Terminal::run(&scratch, &line, 80);
    let shown = terminal.until("Type yes, no or stop: ").replace("\r\n| ", "");
    for ((id, _), (_, sentence)) in proposals.iter().zip(&bad) {
        let said = shown.lines().find(|line| line.contains(&format!("proposal {id}: ")));
        assert!(said.is_some_and(|line| line.contains(sentence)), "{sentence}: {shown}");
    }
    assert!(shown.contains("Approve refund? (5 of 6)\r\n"), "{shown}");
    terminal.types("yes\n");
    terminal.until("Approve refund? (6 of 6)\r\nType yes, no or stop: ");
    terminal.types("no\n");
    let (code, shown) = terminal.ended();
    assert!(
        code == Some(65) && shown.ends_with("that was all; not signed: 1\r\n"),
        "{code:?} {shown}"
    );
    assert_eq!(peer.posted("/approvals").len(), 1);

    let stranger = json!({"code": "unauthenticated", "detail": "who?"}).to_string();
    for (said, code) in [(answer(401, stranger), 65), (Vec::new(), 74)] {
        script.insert(format!("GET /proposals/{}", proposals[0].0), said);
        let peer = Peer::start(script.clone());
        let line = format!("{TOOL} approve --key {key} --url {}", peer.url);
        assert_eq!(Terminal::run(&scratch, &line, 80).ended().0, Some(code));
        let second = format!("GET /proposals/{} ", proposals[1].0);
        assert!(!peer.heard().iter().any(|request| request.starts_with(&second)));
    }
}

/// The real service, as far as it has these routes.
#[test]
fn what_was_executed_is_shown_and_approved_no_more() {
    let scratch = Scratch::new();
    let server = common::service::Server::start(&scratch, &[("OPENEXEC_MODE", "demo")]);
    let (status, executed) = server.execute(common::REQUEST);
    assert_eq!(status, 200, "{executed}");
    let id = executed["id"].as_str().expect("an id");
    let url = format!("http://{}", server.address);
    let output = tool(&scratch, &["show", id, "--url", &url], "");
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in [
        format!(
            "proposal {id}\naction   echo\npayload  (12 bytes)\n  {{\n    \"msg\": \"hi\"\n  }}\n"
        ),
        "\nstate    \"executed\"\n".to_owned(),
        "\nresult   {\"echo\":{\"msg\":\"hi\"}}\n".to_owned(),
        format!("\nreceipt  {}\n", executed["receipt"]),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    let key = key(&scratch);
    let arguments = ["approve", id, "--key", &key, "--yes", "--url", &url];
    refused(&tool(&scratch, &arguments, ""), 65, "no longer pending: it is executed");
    let none = "0".repeat(64);
    refused(&tool(&scratch, &["show", &none, "--url", &url], ""), 65, "answers 404 not_found");
}
