//! Refusals are stored once and never in the way of others (design section 10), against the real binary.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::approvals::{Minted, TENANT, borrowed, public_pem, start};
use common::evidence::records;
use common::{Answer, Client, Scratch, Server, canonical, cli, post, private_file, refusal};
use openexec::core::problem::Code;
use serde_json::{Value, json};

/// Starts on which the first request comes as soon as `/ready` says so.
const FRESH_STORES: usize = 10;
/// What an agent that asks five times a second asks in an hour.
const POLLS: usize = 18_000;

fn settings(scratch: &Scratch) -> Vec<(String, String)> {
    let path = scratch.join("keys.json");
    let keys = json!({"keys": [
        {"name": "a", "public_key": public_pem(1)},
        {"name": "b", "public_key": public_pem(2)},
        {"name": "adds", "public_key": public_pem(3), "actions": ["add"]},
        {"name": "gone", "public_key": public_pem(4), "not_after": "2026-01-01T00:00:00Z"},
    ], "required": {"add": 2}});
    private_file(&path, &keys.to_string());
    [
        ("OPENEXEC_MODE", "clawshield".to_owned()),
        ("CLAWSHIELD_TENANT_ID", TENANT.to_owned()),
        ("OPENEXEC_KEYS_FILE", path.display().to_string()),
        ("OPENEXEC_ALLOWED_ACTIONS", "echo,add".to_owned()),
        ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "1000".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn request(action: &str, nonce: &str, payload: &Value, artifact: &Value) -> String {
    json!({"action": action, "nonce": nonce, "payload": payload, "approval_artifact": artifact})
        .to_string()
}

/// Refusals of this code in the store.
fn stored(server: &Server, code: &str) -> usize {
    let of_the_code = format!("\"code\":\"{code}\"");
    // The record of a proposal stands for this one.
    let is_proposal =
        |line: &str| code == "approval_missing" && line.contains("\"kind\":\"proposal\"");
    let is_refusal =
        |line: &str| line.contains("\"kind\":\"refusal\"") && line.contains(&of_the_code);
    let is_one =
        |line: &&String| is_refusal(line) || is_proposal(line) && line.contains("\"echo\"");
    records(&server.store).iter().filter(is_one).count()
}

fn is_recorded(answer: &Answer) -> bool {
    answer.json()["recorded"] == true
}

#[test]
fn the_first_refusal_of_a_fresh_store_is_recorded_as_soon_as_it_is_ready() {
    for fresh in 0..FRESH_STORES {
        let scratch = Scratch::new();
        let settings = settings(&scratch);
        let server = start(&scratch, &borrowed(&settings));
        let answer = server.execute(&request("echo", "first", &json!({}), &Value::Null));
        assert!(is_recorded(&answer), "store {fresh}: {}", answer.text());
    }
}

/// What README tells an agent to do, for as many times as an hour has; then another one comes.
#[test]
fn an_agent_that_waits_does_not_hide_another() {
    let scratch = Scratch::new();
    let settings = settings(&scratch);
    let settings = borrowed(&settings);
    let server = start(&scratch, &settings);
    let large = json!({"text": "x".repeat(4_000)});
    let waits = post("/execute", request("echo", "waits", &large, &Value::Null).as_bytes());
    let mut client = Client::connect(&server.address);
    let first = client.exchange(&waits);
    assert!(is_recorded(&first), "{}", first.text());
    for poll in 0..POLLS {
        let answer = client.exchange(&waits);
        assert_eq!(answer.body, first.body, "poll {poll}");
    }
    assert_eq!(stored(&server, "approval_missing"), 1, "it is stored once");
    let not_stored = "openexec_refusals_not_stored_total{code=\"approval_missing\"}";
    assert_eq!(server.metric(not_stored), 0);
    let other = server.execute(&request("echo", "another", &json!({}), &Value::Null));
    assert!(is_recorded(&other), "{}", other.text());
    let pending = cli(&scratch, &settings, &["pending"]);
    let nonces: Vec<Value> = pending
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["nonce"].clone())
        .collect();
    assert_eq!(nonces, ["waits", "another"], "{}", pending.stderr);
}

/// A request that gets the code, each time it is made.
fn refused_with(code: &str, spent: &Value) -> String {
    let (nonce, payload) = (code, json!({"msg": "hello"}));
    let echo = || Minted::of("echo", &payload);
    let artifact = match code {
        "nonce_conflict" => return request("echo", "taken", &json!({"other": 1}), &Value::Null),
        "action_not_allowed" => return request("enqueue", nonce, &payload, &Value::Null),
        "invalid_payload" => return request("add", nonce, &json!({"a": "one"}), &Value::Null),
        "approval_missing" => Value::Null,
        "approval_malformed" => json!("no artifact"),
        "approval_signature_invalid" => Minted { key: 9, ..echo() }.sign(),
        "approval_key_not_authorized" => Minted { key: 3, ..echo() }.sign(),
        "approval_key_expired" => Minted { key: 4, ..echo() }.sign(),
        "tenant_mismatch" => Minted { tenant: "another", ..echo() }.sign(),
        "approval_expired" => Minted { issued_seconds: -9, expires_seconds: -1, ..echo() }.sign(),
        "approval_not_yet_valid" => {
            Minted { issued_seconds: 3_600, expires_seconds: 3_700, ..echo() }.sign()
        }
        "approval_ttl_too_long" => Minted { expires_seconds: 2_000, ..echo() }.sign(),
        "approval_before_store" => Minted { issued_seconds: -300, ..echo() }.sign(),
        "approval_hash_mismatch" => Minted::of("echo", &json!({})).sign(),
        "approval_already_used" => return request("echo", nonce, &payload, spent),
        "approvals_insufficient" => {
            let payload = json!({"a": 1});
            let one = Minted::of("add", &payload).sign();
            return request("add", nonce, &payload, &one);
        }
        "frozen" => return request("echo", nonce, &payload, &Value::Null),
        other => panic!("no request for {other}"),
    };
    request("echo", nonce, &payload, &artifact)
}

/// A code whose sentence said a time or a count would be another refusal each time.
#[test]
fn of_every_code_an_equal_refusal_is_answered_alike_and_stored_once() {
    let scratch = Scratch::new();
    let settings = settings(&scratch);
    let settings = borrowed(&settings);
    let mut server = start(&scratch, &settings);
    let payload = json!({"msg": "hello"});
    let spent = Minted::of("echo", &payload).sign();
    let executed = server.execute(&request("echo", "taken", &payload, &spent));
    assert_eq!(executed.status, 200, "{}", executed.text());
    let codes = [
        Code::NonceConflict,
        Code::ActionNotAllowed,
        Code::InvalidPayload,
        Code::ApprovalMissing,
        Code::ApprovalMalformed,
        Code::ApprovalSignatureInvalid,
        Code::ApprovalKeyNotAuthorized,
        Code::ApprovalKeyExpired,
        Code::TenantMismatch,
        Code::ApprovalExpired,
        Code::ApprovalNotYetValid,
        Code::ApprovalTtlTooLong,
        Code::ApprovalBeforeStore,
        Code::ApprovalHashMismatch,
        Code::ApprovalAlreadyUsed,
        Code::ApprovalsInsufficient,
        Code::Frozen,
    ];
    let mut asked = Vec::new();
    for code in codes {
        let (code, status) = (code.name(), code.status());
        if code == "frozen" {
            assert_eq!(cli(&scratch, &[], &["freeze", "--reason", "a test"]).code, 0);
            common::until("the stop is seen", || server.get("/ready").json()["frozen"] == true);
        }
        let body = refused_with(code, &spent);
        let first = server.execute(&body);
        assert!(is_recorded(&first), "{}", first.text());
        refusal(&first, status, code);
        for _ in 0..3 {
            assert_eq!(server.execute(&body).body, first.body, "{code}");
        }
        assert_eq!(stored(&server, code), 1, "{code} is stored once");
        asked.push((code, body, first));
    }
    // After a restart each is still known, and `/receipts/verify` knows it too.
    server.kill();
    assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0);
    server = Server::start(&scratch, &settings);
    for (code, body, first) in &asked {
        let refused = first.json();
        let known = canonical(&json!({"exec_id": refused["id"], "receipt": refused["receipt"],
            "result": refused["result"]}));
        let verified = server.post("/receipts/verify", &known).json();
        assert_eq!(
            verified,
            json!({"outcome": "denied", "recorded": true, "valid": true}),
            "{code}"
        );
        if *code != "frozen" {
            assert_eq!(server.execute(body).body, first.body, "{code} after a restart");
        }
    }
}
