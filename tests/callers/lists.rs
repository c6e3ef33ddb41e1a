//! The lists of proposals in every state, callers in turn, and what is not sent twice.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::approvals::Minted;
use crate::common::exec_id;
use crate::common::http::read_answer;
use crate::common::{PATIENCE, Scratch, Server, canonical, problem, until};
use crate::records::verified;
use crate::withdrawn::{ask, body, delete_as};
use crate::{bearer, entry, get_as, known, post_as, send, start_claw};

const ASYNC: &str = "Prefer: respond-async\r\n";

/// All entries of a list, and how many pages it had.
fn listed(server: &Server, name: &str, state: &str) -> (Vec<Value>, usize) {
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = get_as(server, name, &format!("/proposals?state={state}{after}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        found.extend(page["proposals"].as_array().expect("an array").clone());
        pages += 1;
        let Some(next) = page["next"].as_str() else { return (found, pages) };
        after = format!("&after={next}");
    }
}

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
}

/// A flood of one caller does not hide what another asks, nor what it asks next.
#[test]
fn callers_come_in_turn_and_each_ones_oldest_first() {
    let scratch = Scratch::new();
    let (mut server, settings) = start_claw(&scratch, &known());
    let of = |server: &Server, name: &str, nonces: [&str; 3]| {
        nonces.map(|nonce| ask(server, name, "add", nonce, ""))
    };
    let a = of(&server, "agent-7", ["a1", "a2", "a3"]);
    let b = of(&server, "agent-8", ["b1", "b2", "b3"]);
    let expected = [&a[0], &b[0], &a[1], &b[1], &a[2], &b[2]].map(String::clone);
    assert_eq!(ids(&listed(&server, "ann", "pending").0), expected);
    // Whoever begins later comes in beside those who are first by then; and so does whoever was served well.
    for id in [&a[0], &b[0], &a[1], &b[1]] {
        assert_eq!(
            delete_as(&server, if a.contains(id) { "agent-7" } else { "agent-8" }, id).status,
            200
        );
    }
    let c = of(&server, "adder", ["c1", "c2", "c3"]);
    let more = ask(&server, "agent-7", "add", "a4", "");
    let expected = [&a[2], &b[2], &c[0], &c[1], &more, &c[2]].map(String::clone);
    for restarted in [false, true] {
        assert_eq!(ids(&listed(&server, "ann", "pending").0), expected, "{restarted}");
        if !restarted {
            server.kill();
            server = Server::start(&scratch, &crate::approvals::borrowed(&settings));
        }
    }
    verified(&server);
}

/// Each is in the list of its state alone, the newest first, however many there are; what became asynchronous stays so.
#[test]
fn every_state_has_its_list() {
    let scratch = Scratch::new();
    let mut callers = known();
    let mut adds = entry("adds", r#"["read"]"#);
    adds["actions"] = json!(["add"]);
    callers.push(adds);
    let (mut server, settings) = start_claw(&scratch, &callers);
    let withdrawn: Vec<_> =
        (0..101).map(|n| ask(&server, "agent-7", "echo", &format!("n{n}"), "")).collect();
    let (pending, rejected) =
        (ask(&server, "agent-8", "add", "p", ""), ask(&server, "agent-8", "echo", "r", ""));
    let executed = ask(&server, "agent-8", "echo", "e", "");
    assert_eq!(ask(&server, "agent-8", "echo", "e", ASYNC), executed);
    for id in &withdrawn {
        assert_eq!(delete_as(&server, "agent-7", id).status, 200);
    }
    let yes = Minted::hashed(&canonical(&body("echo", "e"))).sign().to_string();
    assert_eq!(post_as(&server, "ann", "/approvals", &yes).status, 200);
    let no = crate::common::approvals::no(&rejected).to_string();
    let answer = post_as(&server, "ann", "/rejections", &no);
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("executed", || {
        get_as(&server, "ann", &format!("/proposals/{executed}")).json()["state"] == "executed"
    });
    for restarted in [false, true] {
        let newest_first: Vec<_> = withdrawn.iter().rev().cloned().collect();
        for (state, expected) in [
            ("pending", vec![pending.clone()]),
            ("withdrawn", newest_first),
            ("rejected", vec![rejected.clone()]),
            ("executed", vec![executed.clone()]),
        ] {
            let (found, pages) = listed(&server, "auditor", state);
            assert_eq!(ids(&found), expected, "{state}");
            assert!(found.iter().all(|entry| entry["state"] == state));
            // Of all, a hundred at a time are looked at.
            assert_eq!(pages, if state == "pending" { 1 } else { 2 }, "{state}");
        }
        for state in ["executing", "failed", "indeterminate", "expired", "refused"] {
            assert_eq!(listed(&server, "ann", state).0, [json!(null); 0], "{state}");
        }
        let single = get_as(&server, "agent-8", &format!("/proposals/{executed}")).json();
        assert_eq!(single["asynchronous"], true);
        assert_eq!(listed(&server, "ann", "executed").0[0]["asynchronous"], true);
        assert_eq!(listed(&server, "ann", "rejected").0[0]["asynchronous"], false);
        // Whoever sees one action alone sees that in every list.
        assert_eq!(listed(&server, "adds", "withdrawn").0, [json!(null); 0]);
        assert_eq!(ids(&listed(&server, "adds", "pending").0), std::slice::from_ref(&pending));
        if !restarted {
            server.kill();
            server = Server::start(&scratch, &crate::approvals::borrowed(&settings));
        }
    }
    for query in [
        "",
        "?state=",
        "?state=Pending",
        "?state=approved",
        "?after=1",
        "?state=executed&after=",
        "?state=executed&after=-1",
        "?state=executed&after=4294967296",
        "?state=executed&x=1",
        "?state=pending&after=",
        "?state=executed&after=1&x",
        "?after=1&state=executed",
    ] {
        problem(&get_as(&server, "ann", &format!("/proposals{query}")), 422, "invalid_request");
    }
    verified(&server);
}

#[test]
fn what_somebody_has_is_not_sent_again() {
    let scratch = Scratch::new();
    let (server, _) = start_claw(&scratch, &known());
    let id = ask(&server, "agent-7", "echo", "n", "");
    let single = format!("/proposals/{id}");
    let ask_with = |name: &str, target: &str, tag: &str| {
        send(&server, "GET", target, &format!("{}If-None-Match: {tag}\r\n", bearer(name)), "")
    };
    for (name, target) in [("agent-7", single.as_str()), ("ann", "/proposals?state=pending")] {
        let first = get_as(&server, name, target);
        let tag = first.header("etag").expect("a tag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let again = ask_with(name, target, &known);
            assert_eq!((again.status, again.text().as_str()), (304, ""), "{known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
            assert_eq!(
                (again.header("content-length"), again.header("content-type")),
                (None, None)
            );
        }
        for other in ["", "\"x\"", "x", tag.trim_matches('"'), &tag.to_uppercase()] {
            let again = ask_with(name, target, other);
            assert_eq!((again.status, again.text()), (200, first.text()), "{other}");
        }
        problem(&ask_with("nobody", target, &tag), 401, "unauthenticated");
    }
    // A problem has no tag, and is none to be known.
    let unknown = format!("/proposals/{}", "0".repeat(64));
    let answer = ask_with("ann", &unknown, "*");
    problem(&answer, 404, "not_found");
    assert_eq!(answer.header("etag"), None);
    // What follows on the same connection is the next answer.
    let tag = get_as(&server, "agent-7", &single).header("etag").expect("a tag").to_owned();
    let mut wire = TcpStream::connect(&server.address).expect("connected");
    wire.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = format!("Host: localhost\r\n{}If-None-Match: {tag}\r\n\r\n", bearer("agent-7"));
    for method in ["GET", "HEAD", "GET"] {
        write!(wire, "{method} {single} HTTP/1.1\r\n{head}").expect("sent");
    }
    write!(wire, "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answers = BufReader::new(wire);
    let statuses = [0; 4].map(|_| read_answer(&mut answers).expect("an answer").status);
    assert_eq!(statuses, [304, 304, 304, 200]);
    // What has changed is sent.
    assert_eq!(delete_as(&server, "agent-7", &id).status, 200);
    let changed = ask_with("agent-7", &single, &tag);
    assert_eq!((changed.status, &changed.json()["state"]), (200, &json!("withdrawn")));
}

/// How many are pending, and for how long, tells whoever watches.
#[test]
fn what_waits_is_measured() {
    let scratch = Scratch::new();
    let (mut server, settings) = start_claw(&scratch, &known());
    let value = |server: &Server, name: &str| -> u64 {
        let text = get_as(server, "auditor", "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("openexec_{name} ")));
        line.expect(name).parse().expect("a number")
    };
    assert_eq!(value(&server, "pending_oldest_seconds"), 0);
    let first = ask(&server, "agent-7", "echo", "1", "");
    let second = ask(&server, "agent-8", "echo", "2", ASYNC);
    until("measured", || value(&server, "pending_proposals") == 2);
    until("it grows old", || value(&server, "pending_oldest_seconds") > 1);
    server.kill();
    server = Server::start(&scratch, &crate::approvals::borrowed(&settings));
    until("measured anew", || value(&server, "pending_proposals") == 2);
    assert!(value(&server, "pending_oldest_seconds") > 1);
    assert_eq!(get_as(&server, "ann", "/ready").json(), json!({"ready": true}));
    assert_eq!(delete_as(&server, "agent-7", &first).status, 200);
    let yes = Minted::hashed(&canonical(&body("echo", "2"))).sign().to_string();
    assert_eq!(post_as(&server, "ann", "/approvals", &yes).status, 200);
    until("nothing waits", || value(&server, "pending_proposals") == 0);
    assert_eq!(value(&server, "pending_oldest_seconds"), 0);
    assert_eq!(second, exec_id(&body("echo", "2")));
}
