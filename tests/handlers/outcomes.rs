//! What becomes of an execution whose handler fails, panics, hangs, returns nonsense or takes the
//! process with it.
use std::process::{Child, Stdio};

use crate::common::handlers::{counted, service};
use crate::common::{
    Answer, Scratch, Server, assert_receipt, executed, post, problem, refusal, until,
};
use openexec::sys::limits::INNER_DEADLINE_MS;
use serde_json::{Value, json};

fn started() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    (scratch, server)
}

fn request(action: &str, nonce: &str, payload: &Value) -> String {
    json!({"action": action, "nonce": nonce, "payload": payload}).to_string()
}

/// Holds the answer to the form of an execution that came to no good end.
fn ended(answer: &Answer, code: &str, outcome: &str, reason: &str) -> Value {
    let body = problem(answer, 500, code);
    assert_eq!(body["outcome"], outcome, "{body}");
    assert!(body.get("approved").is_none(), "not a refusal, and not approved: {body}");
    assert!(body.get("recorded").is_none(), "{body}");
    assert_eq!(body["result"][outcome]["code"], reason, "{body}");
    assert_eq!(body["result"][outcome]["detail"], body["detail"], "{body}");
    assert_receipt(&body);
    body
}

#[test]
fn outcomes_are_stored_and_repeated() {
    let (scratch, mut server) = started();
    let failed = ("handler_failed", "failed");
    let indeterminate = ("indeterminate", "indeterminate");
    let cases = [
        ("fail", json!({}), failed, "handler_failed"),
        ("unknown", json!({}), indeterminate, "effect_unknown"),
        ("unknown_pure", json!({}), failed, "handler_failed"),
        ("panic", json!({}), failed, "handler_panicked"),
        ("panic_effect", json!({}), indeterminate, "handler_panicked"),
        ("panic_once", json!({}), indeterminate, "handler_panicked"),
        ("big", json!({"bytes": 4097}), failed, "result_too_large"),
        ("big_effect", json!({"bytes": 4097}), indeterminate, "result_too_large"),
        ("reserved", json!({"key": "failed"}), failed, "result_invalid"),
        ("reserved", json!({"key": "denied"}), failed, "result_invalid"),
        ("reserved", json!({"key": "indeterminate"}), failed, "result_invalid"),
        ("deep", json!({"depth": 65}), failed, "result_invalid"),
        ("deep", json!({"depth": 10_000}), failed, "result_invalid"),
        ("number", json!({}), failed, "result_invalid"),
    ];
    let mut given = Vec::new();
    for (n, (action, payload, (code, outcome), reason)) in cases.iter().enumerate() {
        let body = request(action, &n.to_string(), payload);
        let first = server.execute(&body);
        let id = ended(&first, code, outcome, reason)["id"].as_str().expect("an id").to_owned();
        assert_eq!(first.header("idempotent-replayed"), None);
        given.push((body, format!("/receipts/{id}"), first));
    }
    for (action, payload, result) in [
        ("big", json!({"bytes": 4096}), json!({"x": "x".repeat(4096 - 8)})),
        ("reserved", json!({"key": "Failed"}), json!({"Failed": 1})),
    ] {
        let answer = server.execute(&request(action, action, &payload));
        assert_eq!(executed(&answer, action, action, &payload)["result"], result);
    }
    let deepest = json!({"depth": 64});
    executed(&server.execute(&request("deep", "deepest", &deepest)), "deep", "deepest", &deepest);

    let counts = |server: &Server| {
        ["executed", "failed", "indeterminate"]
            .map(|o| server.metric(&format!("openexec_executions_total{{outcome=\"{o}\"}}")))
    };
    assert_eq!(counts(&server), [3, 10, 4]);
    let lines = counted(&scratch);
    for restarted in [false, true] {
        for (body, receipt, first) in &given {
            let replay = server.execute(body);
            assert_eq!((replay.status, replay.text()), (500, first.text()));
            assert_eq!(replay.header("idempotent-replayed"), Some("true"));
            assert_eq!(replay.header("content-type"), first.header("content-type"));
            let fetched = server.get(receipt);
            assert_eq!((fetched.status, &fetched.body), (500, &first.body));
            let first = first.json();
            let question = json!({"exec_id": first["id"], "result": first["result"],
                                  "receipt": first["receipt"]});
            let verified = server.post("/receipts/verify", &question.to_string()).json();
            assert_eq!(
                verified,
                json!({"outcome": first["outcome"], "recorded": true, "valid": true})
            );
        }
        assert_eq!(counted(&scratch), lines, "a replay runs nothing");
        if !restarted {
            server.kill();
            server = Server::spawn(service(&scratch), &scratch);
        }
    }
}

#[test]
fn a_handler_sees_what_was_asked() {
    let (_scratch, server) = started();
    let body = r#"{"action":"see","nonce":"n\u00e9","payload":{"n":1.0,"z":-0.0,"a":[1e2]}}"#;
    let payload = json!({"n": 1, "z": 0, "a": [100]});
    let answer = executed(&server.execute(body), "see", "né", &payload);
    assert_eq!(
        answer["result"],
        json!({"action": "see", "again": false, "approval_ids": [], "id": answer["id"],
               "nonce": "né", "payload": payload, "n_is_integer": true}),
    );
}

#[test]
fn a_panic_ends_neither_the_process_nor_its_secrets() {
    let (_scratch, server) = started();
    let secret = "correct-horse-battery";
    for (n, action) in ["panic", "panic_effect", "panic_once"].iter().enumerate() {
        let nonce = format!("nonce-{secret}-{n}");
        let answer = server.execute(&request(action, &nonce, &json!({"password": secret})));
        assert_eq!(answer.status, 500);
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
    // The handler's own check: nothing was claimed, so nothing is spent.
    let early = server.execute(&request("panic_check", "n", &json!({"password": secret})));
    refusal(&early, 422, "invalid_payload");
    assert!(!early.text().contains(secret));
    until("the panics are logged", || server.log().matches("panicked").count() >= 4);
    assert!(!server.log().contains(secret), "{}", server.log());
    executed(&server.execute(&request("see", "n", &json!({}))), "see", "n", &json!({}));
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.metric("openexec_handler_running"), 0);
}

#[test]
fn a_handler_that_hangs_is_no_dead_process() {
    let (scratch, server) = started();
    let body = request("sleep", "hangs", &json!({"ms": 3_600_000}));
    let address = server.address.clone();
    let _client = std::thread::spawn(move || {
        crate::common::try_exchange(&address, &post("/execute", body.as_bytes()))
    });
    until("the handler hangs", || !counted(&scratch).is_empty());
    for path in ["/", "/health", "/version", "/actions"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    // A handler may take its time; after a while /ready says so.
    assert!([200, 503].contains(&server.get("/ready").status));
    assert_eq!(server.metric("openexec_handler_running"), 1);
    // What needs no state is judged too.
    assert_eq!(server.execute("{").status, 400);
    let receipt = json!({"exec_id": "x", "result": "{}", "receipt": "x"}).to_string();
    assert_eq!(
        server.post("/receipts/verify", &receipt).text(),
        r#"{"recorded":false,"valid":false}"#
    );
    let health = crate::common::cli(&scratch, &[], &["healthcheck"]);
    assert_eq!((health.code, health.stderr.as_str()), (0, ""));
}

/// As on a machine that has hardly a processor for it. The executor has nothing to do meanwhile.
#[test]
fn a_request_that_is_judged_for_long_is_no_dead_front() {
    let (_scratch, server) = started();
    let payload = json!({"ms": INNER_DEADLINE_MS + 2_000});
    let answer = server.execute(&request("slow_check", "n", &payload));
    executed(&answer, "slow_check", "n", &payload);
    assert_eq!(server.get("/health").status, 200, "{}", server.log());
}

/// Starts it without waiting until it is ready.
fn start(scratch: &Scratch) -> Child {
    let mut command = service(scratch);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("started")
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends the request and kills the service once the handler has run for the first time.
fn crash(scratch: &Scratch, body: &str) {
    let mut server = Server::spawn(service(scratch), scratch);
    let address = server.address.clone();
    let request = post("/execute", body.as_bytes());
    let client = std::thread::spawn(move || crate::common::try_exchange(&address, &request));
    until("the handler runs", || !counted(scratch).is_empty());
    server.kill();
    assert!(client.join().expect("joined").is_err(), "nothing was acknowledged");
}

const LONG_MS: u64 = 3_600_000;

#[test]
fn an_idempotent_action_cut_short_runs_again_once() {
    let scratch = Scratch::new();
    let payload = json!({"ms": LONG_MS});
    let body = request("count", "n", &payload);
    crash(&scratch, &body);
    assert_eq!(counted(&scratch), ["n"]);
    let server = Server::spawn(service(&scratch), &scratch);
    assert_eq!(counted(&scratch), ["n", "n again"]);
    let answer = server.execute(&body);
    executed(&answer, "count", "n", &payload);
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    drop(server);
    let server = Server::spawn(service(&scratch), &scratch);
    assert_eq!(server.execute(&body).body, answer.body);
    assert_eq!(counted(&scratch), ["n", "n again"], "never a third time");
}

#[test]
fn an_idempotent_action_cut_short_twice_is_indeterminate() {
    let scratch = Scratch::new();
    let body = request("count", "n", &json!({"ms": LONG_MS, "again_ms": LONG_MS}));
    crash(&scratch, &body);
    let child = start(&scratch);
    until("it runs again", || counted(&scratch).len() == 2);
    kill(child);
    for _ in 0..2 {
        let server = Server::spawn(service(&scratch), &scratch);
        let answer = server.execute(&body);
        ended(&answer, "indeterminate", "indeterminate", "interrupted");
        assert_eq!(answer.header("idempotent-replayed"), Some("true"));
        assert_eq!(counted(&scratch), ["n", "n again"], "it cannot loop");
    }
}

#[test]
fn an_action_that_ends_the_process_cannot_loop() {
    let scratch = Scratch::new();
    let body = request("abort", "n", &json!({}));
    let server = Server::spawn(service(&scratch), &scratch);
    let request = post("/execute", body.as_bytes());
    assert!(
        crate::common::try_exchange(&server.address, &request).is_err(),
        "nobody is left to answer"
    );
    drop(server);
    // The second run ends the process again, while it opens.
    let status = start(&scratch).wait().expect("waited");
    assert!(!status.success());
    assert_eq!(counted(&scratch), ["n", "n again"]);
    let server = Server::spawn(service(&scratch), &scratch);
    ended(&server.execute(&body), "indeterminate", "indeterminate", "interrupted");
    assert_eq!(counted(&scratch).len(), 2);
}

#[test]
fn an_action_that_may_run_once_never_runs_again() {
    let scratch = Scratch::new();
    let body = request("once", "n", &json!({"ms": LONG_MS}));
    crash(&scratch, &body);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let server = Server::spawn(service(&scratch), &scratch);
        let answer = server.execute(&body);
        let id = ended(&answer, "indeterminate", "indeterminate", "interrupted")["id"].clone();
        assert_eq!(answer.header("idempotent-replayed"), Some("true"));
        let path = format!("/receipts/{}", id.as_str().expect("an id"));
        assert_eq!(server.get(&path).body, answer.body);
        answers.push(answer.body);
        assert_eq!(counted(&scratch), ["n"]);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_pure_action_cut_short_was_never_claimed() {
    let scratch = Scratch::new();
    let payload = json!({"ms": 200});
    let body = request("sleep", "n", &json!({"ms": LONG_MS}));
    crash(&scratch, &body);
    let server = Server::spawn(service(&scratch), &scratch);
    assert_eq!(server.metric("openexec_store_executions"), 0);
    // Its nonce is free: nothing had been done under it.
    let answer = server.execute(&request("sleep", "n", &payload));
    executed(&answer, "sleep", "n", &payload);
    assert_eq!(answer.header("idempotent-replayed"), None);
}

#[test]
fn frozen_a_claim_without_a_receipt_waits() {
    let scratch = Scratch::new();
    let payload = json!({"ms": LONG_MS});
    let body = request("count", "n", &payload);
    crash(&scratch, &body);
    let frozen = crate::common::cli(&scratch, &[], &["freeze", "--reason", "looking"]);
    assert_eq!(frozen.code, 0, "{}", frozen.stderr);
    let server = Server::spawn(service(&scratch), &scratch);
    let waiting = problem(&server.execute(&body), 503, "frozen");
    assert_eq!(waiting["detail"], "It was begun. Execution is frozen: looking");
    assert!(waiting.get("approved").is_none(), "{waiting}: it is no refusal");
    assert_eq!(counted(&scratch), ["n"]);
    assert_eq!(crate::common::cli(&scratch, &[], &["unfreeze", "--yes"]).code, 0);
    until("it runs again", || counted(&scratch).len() == 2);
    let answer = server.execute(&body);
    executed(&answer, "count", "n", &payload);
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
}

/// Just after a crash a client asks whether its call was executed. While the store is being opened
/// nobody can tell, and nobody may say no: it would propose again, under another nonce.
#[test]
fn while_the_store_is_opened_no_attempt_is_called_refused() {
    let scratch = Scratch::new();
    let done = request("count", "done", &json!({}));
    let mut server = Server::spawn(service(&scratch), &scratch);
    let first = server.execute(&done);
    executed(&first, "count", "done", &json!({}));
    server.kill();
    std::fs::remove_file(crate::common::handlers::count_file(&scratch)).expect("removed");
    // One that takes its time when it is run again, which is a part of opening.
    crash(&scratch, &request("count", "slow", &json!({"ms": LONG_MS, "again_ms": 5_000})));
    let server = Server::spawn_until(service(&scratch), &scratch, |_| counted(&scratch).len() == 2);
    assert_eq!(server.get("/ready").text(), r#"{"ready":false,"reason":"opening"}"#);
    assert_eq!(server.get("/health").status, 200);
    let answer = server.execute(&done);
    let body = problem(&answer, 503, "store_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(body["id"], first.json()["id"]);
    for member in ["approved", "receipt", "result", "recorded"] {
        assert_eq!(body.get(member), None, "{body}");
    }
    until("it is open", || server.get("/ready").status == 200);
    assert_eq!(server.execute(&done).body, first.body);
}

/// The operator stops everything while the first of several is run again.
#[test]
fn a_freeze_during_recovery_holds_the_next_claim() {
    let scratch = Scratch::new();
    let payload = json!({"ms": LONG_MS, "freeze": scratch.join("store/FROZEN")});
    let first = request("count", "first", &payload);
    let second = request("count", "second", &payload);
    let mut server = Server::spawn(service(&scratch), &scratch);
    let received = server.metric("openexec_received_bytes_total");
    // Both wait while this runs, and are claimed in one batch.
    let hold = request("sleep", "hold", &json!({"ms": 5_000}));
    let mut clients = Vec::new();
    let mut sent = received;
    for body in [&hold, &first, &second] {
        let (address, request) = (server.address.clone(), post("/execute", body.as_bytes()));
        clients.push(std::thread::spawn(move || crate::common::try_exchange(&address, &request)));
        sent += body.len() as u64;
        until("it has come", || server.metric("openexec_received_bytes_total") > sent);
        until("the first holds the others", || !counted(&scratch).is_empty());
    }
    until("one of them runs", || counted(&scratch).len() == 2);
    server.kill();
    clients.into_iter().for_each(|client| drop(client.join().expect("joined")));
    // The one that came first, as a rule.
    let (begun, one, other) = match counted(&scratch)[1].as_str() {
        "first" => ("first", first, second),
        _ => ("second", second, first),
    };
    assert_eq!(counted(&scratch), ["hold", begun]);

    let server = Server::spawn(service(&scratch), &scratch);
    let waiting = problem(&server.execute(&other), 503, "frozen");
    assert_eq!(waiting["approved"], json!(null), "it was claimed: no refusal");
    executed(&server.execute(&one), "count", begun, &payload);
    assert_eq!(counted(&scratch), ["hold", begun, &format!("{begun} again")]);
    assert_eq!(crate::common::cli(&scratch, &[], &["unfreeze", "--yes"]).code, 0);
    until("it runs", || counted(&scratch).len() == 4);
    let nonce = if begun == "first" { "second" } else { "first" };
    executed(&server.execute(&other), "count", nonce, &payload);
}

/// By the configuration of the restart, the action may not run any more.
#[test]
fn an_action_not_offered_any_more_does_not_run_again() {
    let scratch = Scratch::new();
    let body = request("count", "n", &json!({"ms": LONG_MS}));
    crash(&scratch, &body);
    let mut command = service(&scratch);
    command.env("OPENEXEC_ALLOWED_ACTIONS", "see");
    let server = Server::spawn(command, &scratch);
    ended(&server.execute(&body), "indeterminate", "indeterminate", "interrupted");
    assert_eq!(counted(&scratch), ["n"]);
}
