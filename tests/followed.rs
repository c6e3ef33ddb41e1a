//! `GET /proposals/{exec_id}`: one id shows the whole of a call, from its claim on.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::approvals::{Minted, OPS, TENANT, borrowed, public_pem, settings, start};
use common::owed::{Owed, place};
use common::{Answer, Scratch, Server, canonical, cli, private_file, problem, sha256};
use serde_json::{Value, json};

/// What is shown under the id of an answer.
fn followed(server: &Server, answer: &Answer) -> Value {
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let shown = server.get(&format!("/proposals/{id}"));
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert_eq!(shown.header("content-type"), Some("application/json"));
    let value = shown.json();
    assert_eq!(shown.text(), canonical(&value));
    value
}

/// What is shown of a call of demo mode, less its time and its end.
fn expected(action: &str, nonce: &str, payload: &Value) -> Value {
    let hash = |request: &Value| sha256(&canonical(request));
    json!({
        "action": action,
        "action_hash": hash(&json!({"action": action, "payload": payload})),
        "approvals": null,
        "asynchronous": false,
        "caller": null,
        "expires_at": null,
        "id": hash(&json!({"action": action, "nonce": nonce, "payload": payload})),
        "justification": null,
        "nonce": nonce,
        "payload": payload,
        "tenant_id": null,
        "ttl_max": null,
    })
}

fn without_time(mut shown: Value) -> Value {
    let at = shown.as_object_mut().expect("an object").remove("asked_at").expect("a time");
    assert_eq!(at.as_str().map(str::len), Some("2026-01-01T00:00:00.000000Z".len()));
    shown
}

fn with(mut shown: Value, more: &[(&str, &Value)]) -> Value {
    for (name, value) in more {
        shown[*name] = (*value).clone();
    }
    shown
}

#[test]
fn what_was_executed_is_shown_whole_after_a_restart_too() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let payload = json!({"é\u{202e}": ["\n", 1.5, null], "msg": "x".repeat(900_000)});
    let request = json!({"action": "echo", "payload": payload, "nonce": "n \"1\""}).to_string();
    let answer = server.execute(&request);
    let end = answer.json();
    let shown = followed(&server, &answer);
    let whole = with(
        expected("echo", "n \"1\"", &payload),
        &[
            ("outcome", &json!("executed")),
            ("state", &json!("executed")),
            ("receipt", &end["receipt"]),
            ("result", &end["result"]),
        ],
    );
    assert_eq!(without_time(shown.clone()), whole);

    server.kill();
    let server = Server::start(&scratch, &[]);
    assert_eq!(followed(&server, &answer), shown);
    // To look is no replay and runs nothing.
    assert_eq!((server.runs("echo"), server.metric("openexec_replays_total")), (0, 0));
}

#[test]
fn a_failure_is_shown_as_one() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.join("files")).expect("made");
    let server = Server::start(&scratch, &[("OPENEXEC_FILES_DIR", "files")]);
    let payload = json!({"content": "", "path": "no/file"});
    let request = json!({"action": "write_file", "payload": payload, "nonce": "n"});
    let answer = server.execute(&request.to_string());
    assert_eq!(answer.code(), "handler_failed");
    let (end, shown) = (answer.json(), followed(&server, &answer));
    for name in ["outcome", "result", "receipt"] {
        assert_eq!(shown[name], end[name], "{name}");
    }
    assert_eq!(shown["state"], "failed");
}

#[test]
fn a_claim_that_waits_is_executing() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.join("files")).expect("made");
    let settings = [("OPENEXEC_FILES_DIR", "files")];
    drop(Server::start(&scratch, &settings));
    let payload = json!({"content": "x", "path": "f"});
    let owed = Owed {
        action: "write_file",
        payload: payload.clone(),
        nonce: "n",
        place: Some(place(&scratch.join("files"))),
        approvals: Vec::new(),
        legacy: None,
    };
    owed.append(&scratch.join("store"));
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    let server = Server::start(&scratch, &settings);
    let path = format!("/proposals/{}", owed.id());
    let shown = server.get(&path).json();
    let whole = with(expected("write_file", "n", &payload), &[("state", &json!("executing"))]);
    assert_eq!(without_time(shown), whole);
    assert_eq!(cli(&scratch, &[], &["abandon", &owed.id(), "--yes"]).code, 0);
    assert_eq!(server.get(&path).json()["state"], "indeterminate");
}

#[test]
fn the_approvals_that_counted_are_shown_with_their_keys() {
    let scratch = Scratch::new();
    let keys = json!({
        "keys": [
            {"name": "ops", "public_key": public_pem(OPS)},
            {"name": "finance", "public_key": public_pem(2)},
        ],
        "required": {"*": 2},
    });
    private_file(&scratch.join("keys.json"), &keys.to_string());
    let mut settings = settings();
    settings.retain(|(name, _)| name != "CLAWSHIELD_PUBLIC_KEY");
    settings.push(("OPENEXEC_KEYS_FILE".to_owned(), "keys.json".to_owned()));
    settings.push(("OPENEXEC_MAX_APPROVAL_TTL_SECONDS".to_owned(), "86400".to_owned()));
    let server = start(&scratch, &borrowed(&settings));
    let artifacts = [2, OPS].map(|seed| {
        let mut minted = Minted::of("echo", &json!({}));
        minted.key = seed;
        minted.sign()
    });
    let ask = |nonce: &str, artifacts: &[Value]| {
        let request = json!({"action": "echo", "nonce": nonce, "approval_artifact": artifacts});
        server.execute(&request.to_string())
    };
    let answer = ask("n", &artifacts);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = followed(&server, &answer);
    let named = |artifact: &Value, key: &str| json!({"key": key, "until": artifact["expires_at"]});
    let have = [named(&artifacts[0], "finance"), named(&artifacts[1], "ops")];
    assert_eq!(shown["approvals"], json!({"have": have, "missing": {"count": 0, "groups": {}}}));
    assert_eq!((&shown["tenant_id"], &shown["ttl_max"]), (&json!(TENANT), &json!(86_400)));

    // Two of one key come with the call: no key is shown with the end of another's.
    let [early, late] = [300, 500].map(|expires_seconds| {
        Minted { key: 2, expires_seconds, ..Minted::of("echo", &json!({})) }.sign()
    });
    let answer = ask("twice", &[early, late, Minted::of("echo", &json!({})).sign()]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let have = [named(&json!({}), "finance"), named(&json!({}), "ops")];
    assert_eq!(followed(&server, &answer)["approvals"]["have"], json!(have));

    // What was only refused is nothing that can be followed yet.
    let refused = ask("other", &artifacts[..1]);
    let id = refused.json()["id"].as_str().expect("an id").to_owned();
    problem(&server.get(&format!("/proposals/{id}")), 404, "not_found");
}

#[test]
fn what_was_never_claimed_is_unknown() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let refused = server.execute(r#"{"action":"nope","nonce":"n"}"#);
    let refused = refused.json()["id"].as_str().expect("an id").to_owned();
    let executed = server.execute(r#"{"action":"echo","nonce":"n"}"#);
    let id = executed.json()["id"].as_str().expect("an id").to_owned();
    for unknown in [&refused, &id.to_uppercase(), &id[..63], &format!("{id}0"), "..", "%20"] {
        problem(&server.get(&format!("/proposals/{unknown}")), 404, "not_found");
    }
}
