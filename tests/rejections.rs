//! `POST /rejections`: a signed no is final, its reason reaches the agent, and whatever differs from one is none.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::sync::Barrier;

use common::approvals::{Minted, OPS, TENANT, borrowed, public_pem, settings, start};
use common::ssh::{How, Signer};
use common::{
    Answer, Scratch, Server, canonical, cli, exec_id, executed, is_said, no_attempt, private_file,
    problem, refusal, sha256,
};
use ed25519_compact::{KeyPair, Seed};
use openexec::core::base64;
use openexec::sys::clock;
use serde_json::{Value, json};

fn hello() -> Value {
    json!({"msg": "hello world"})
}

fn ask(server: &Server, nonce: &str, artifact: &Value) -> Answer {
    let body = json!({"action": "echo", "nonce": nonce, "payload": hello(), "approval_artifact": artifact});
    server.execute(&body.to_string())
}

fn id_of(nonce: &str) -> String {
    exec_id(&json!({"action": "echo", "nonce": nonce, "payload": hello()}))
}

fn propose(server: &Server, nonce: &str) -> String {
    let body = refusal(&ask(server, nonce, &Value::Null), 403, "approval_missing");
    assert_eq!(body["recorded"], true);
    body["id"].as_str().expect("an id").to_owned()
}

/// What a rejection says, unsigned.
fn said(id: &str, why: &str) -> Value {
    json!({"rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "tenant_id": TENANT, "exec_id": id,
           "issued_at": clock::now().to_string(), "justification": why})
}

fn message(said: &Value) -> Vec<u8> {
    format!("openexec-rejection-v1\n{}", canonical(said)).into_bytes()
}

fn signed(mut said: Value, seed: u8) -> Value {
    let pair = KeyPair::from_seed(Seed::new([seed; 32]));
    said["signature"] = base64::encode(&pair.sk.sign(message(&said), None)[..]).into();
    said
}

fn reject(server: &Server, rejection: &Value) -> Answer {
    server.post("/rejections", &rejection.to_string())
}

fn one_key() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = start(&scratch, &borrowed(&settings()));
    (scratch, server)
}

#[test]
fn a_no_is_final_and_its_reason_reaches_the_agent() {
    let (scratch, mut server) = one_key();
    let id = propose(&server, "n1");
    let no = signed(said(&id, "not on a Friday \u{1f600}"), OPS);
    for _ in 0..3 {
        is_said(&reject(&server, &no), &id, "rejected");
    }
    let approval = Minted::of("echo", &hello()).sign();
    let check = |server: &Server| {
        for artifact in [&Value::Null, &approval, &json!([])] {
            let body = refusal(&ask(server, "n1", artifact), 403, "rejected");
            assert_eq!(body["detail"], "This proposal was rejected: not on a Friday \u{1f600}");
        }
        // Another no comes too late, and the same is said again.
        let other = signed(said(&id, "for another reason"), OPS);
        let body = problem(&reject(server, &other), 409, "not_pending");
        assert_eq!((&body["state"], &body["id"]), (&json!("rejected"), &json!(id)));
        is_said(&reject(server, &no), &id, "rejected");
    };
    check(&server);
    server.kill();
    drop(server);
    let server = Server::start(&scratch, &borrowed(&settings()));
    check(&server);
    assert_eq!(server.runs("echo"), 0);
    // What one was said no to does not bind another, and the approval was not spent.
    executed(&ask(&server, "n2", &approval), "echo", "n2", &hello());
    let body =
        problem(&reject(&server, &signed(said(&id_of("n2"), "no"), OPS)), 409, "not_pending");
    assert_eq!(body["state"], "executed");
    drop(server);
    let verified = cli(&scratch, &[], &["verify", "store"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn whatever_differs_is_refused_with_its_code_and_records_nothing() {
    let scratch = Scratch::new();
    let keys = json!({"keys": [
        {"name": "ops", "public_key": public_pem(OPS)},
        {"name": "adds", "public_key": public_pem(2), "actions": ["add"]},
        {"name": "gone", "public_key": public_pem(3), "not_after": "2020-01-01T00:00:00Z"},
    ]});
    let path = scratch.join("keys.json");
    private_file(&path, &keys.to_string());
    let path = path.to_str().expect("UTF-8");
    let server = start(
        &scratch,
        &[
            ("OPENEXEC_MODE", "clawshield"),
            ("CLAWSHIELD_TENANT_ID", TENANT),
            ("OPENEXEC_KEYS_FILE", path),
        ],
    );
    let id = propose(&server, "n1");
    let with = |name: &str, value: Value| {
        let mut other = said(&id, "no");
        other[name] = value;
        other
    };
    let good = signed(said(&id, "no"), OPS);
    let altered = |name: &str, value: Value| {
        let mut other = good.clone();
        other[name] = value;
        other
    };
    let mut short = good.clone();
    short.as_object_mut().expect("an object").remove("justification");
    let now = clock::now();
    for (status, code, rejection) in [
        (403, "rejection_malformed", json!({})),
        (403, "rejection_malformed", short),
        (403, "rejection_malformed", altered("more", json!("x"))),
        (403, "rejection_malformed", altered("justification", json!(null))),
        (403, "rejection_malformed", signed(with("justification", "x".repeat(501).into()), OPS)),
        (403, "rejection_malformed", signed(with("rejection_id", json!("a")), OPS)),
        (403, "rejection_malformed", signed(with("exec_id", json!("ab")), OPS)),
        (403, "rejection_malformed", signed(with("exec_id", id.to_uppercase().into()), OPS)),
        (403, "rejection_malformed", signed(with("issued_at", json!("now")), OPS)),
        (403, "rejection_malformed", altered("signature", json!(""))),
        (403, "rejection_malformed", altered("signature", json!("AAAA"))),
        (403, "rejection_signature_invalid", signed(said(&id, "no"), 9)),
        (403, "rejection_signature_invalid", altered("justification", json!("yes"))),
        (403, "rejection_signature_invalid", altered("tenant_id", json!("tenant-2"))),
        (403, "rejection_signature_invalid", altered("exec_id", sha256("x").into())),
        (403, "tenant_mismatch", signed(with("tenant_id", json!("tenant-2")), OPS)),
        (
            403,
            "approval_not_yet_valid",
            signed(with("issued_at", now.plus_seconds(600).to_string().into()), OPS),
        ),
        (
            403,
            "approval_before_store",
            signed(with("issued_at", now.plus_seconds(-600).to_string().into()), OPS),
        ),
        (404, "nothing_pending", signed(with("exec_id", sha256("x").into()), OPS)),
        (403, "approval_key_not_authorized", signed(said(&id, "no"), 2)),
        (403, "approval_key_expired", signed(said(&id, "no"), 3)),
    ] {
        let body = problem(&reject(&server, &rejection), status, code);
        let signature = rejection["signature"].as_str().unwrap_or("none");
        assert!(signature.is_empty() || !body.to_string().contains(signature), "{body}");
    }
    for (body, code) in
        [("", "malformed_json"), ("{", "malformed_json"), (r#"{"a":1,"a":2}"#, "duplicate_key")]
    {
        no_attempt(&server.post("/rejections", body), 400, code);
    }
    for body in ["[]", "1", "null"] {
        no_attempt(&server.post("/rejections", body), 422, "invalid_request");
    }
    // An approval is no rejection, nor the other way round.
    let approval = Minted::of("echo", &hello()).sign();
    problem(&reject(&server, &approval), 403, "rejection_malformed");
    refusal(&ask(&server, "n1", &good), 403, "approval_malformed");
    // It is pending as before.
    executed(&ask(&server, "n1", &approval), "echo", "n1", &hello());
    let body = problem(&reject(&server, &good), 409, "not_pending");
    assert_eq!(body["state"], "executed");
}

#[test]
fn a_stop_does_not_keep_anybody_from_saying_no_and_an_openssh_key_can() {
    let scratch = Scratch::new();
    let signer = Signer::token(1);
    let line = signer.line();
    let settings = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", TENANT),
        ("CLAWSHIELD_PUBLIC_KEY", &*line),
    ];
    let server = start(&scratch, &settings);
    let id = propose(&server, "n1");
    assert_eq!(cli(&scratch, &settings, &["freeze", "--reason", "look"]).code, 0);
    let mut no = said(&id, "no");
    no["signature"] = base64::encode(&signer.sign(&message(&no), &How::default())).into();
    is_said(&reject(&server, &no), &id, "rejected");
    refusal(&ask(&server, "n1", &Value::Null), 403, "rejected");
    drop(server);
    let verified = cli(&scratch, &[], &["verify", "store"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn demo_mode_has_no_such_door() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let no = signed(said(&id_of("n1"), "no"), OPS);
    problem(&reject(&server, &no), 404, "not_found");
}

/// Of an approval that comes with the call and a rejection, the earlier record wins: once executed it stays so, once
/// rejected nothing runs.
#[test]
fn of_a_yes_and_a_no_at_once_one_wins() {
    let (scratch, server) = one_key();
    let (mut yes, mut no) = (0, 0);
    for n in 0..40 {
        let nonce = format!("race-{n}");
        let id = propose(&server, &nonce);
        let approval = Minted::of("echo", &hello()).sign();
        let rejection = signed(said(&id, "no"), OPS);
        let barrier = Barrier::new(2);
        let (ran, rejected) = std::thread::scope(|scope| {
            let ran = scope.spawn(|| {
                barrier.wait();
                ask(&server, &nonce, &approval)
            });
            barrier.wait();
            let rejected = reject(&server, &rejection);
            (ran.join().expect("answered"), rejected)
        });
        match (ran.status, rejected.status) {
            (200, 409) => yes += 1,
            (403, 200) => no += 1,
            both => panic!("{both:?}: {} {}", ran.text(), rejected.text()),
        }
        assert_eq!(ask(&server, &nonce, &approval).status, ran.status);
    }
    assert_eq!(server.runs("echo"), yes);
    assert_eq!(yes + no, 40);
    drop(server);
    let verified = cli(&scratch, &[], &["verify", "store"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}
