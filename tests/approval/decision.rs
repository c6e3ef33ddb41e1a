//! The decision over approvals, where the clock and the state are arguments.

use std::sync::Arc;

use crate::common::approvals::{private_key, public_pem};
use crate::common::signer::mint;
use openexec::core::caller::{Caller, PROPOSE, READ};
use openexec::core::clock::Fault;
use openexec::core::decision::{Decision, Facts, Nonce, decide, judge_again};
use openexec::core::hash::Hash;
use openexec::core::json::canonical;
use openexec::core::line::Json;
use openexec::core::problem::{Code, Problem};
use openexec::core::proposal::{ApprovalPolicy, Policy};
use openexec::core::receipt;
use openexec::core::record::Claim;
use openexec::core::time::Time;
use openexec::handlers::{Effect, HANDLERS, Settings};
use openexec::serve::front::prepare;
use openexec::serve::keys::{from_keys_file, from_text};

fn policy(directory: Option<std::path::PathBuf>) -> Policy {
    Policy {
        handlers: HANDLERS,
        settings: Settings::default(),
        actions_file: None,
        allowed_actions: None,
        callers: None,
        approvals: Some(ApprovalPolicy {
            tenant: "t1".to_owned(),
            keyring: from_text(&public_pem(1)).expect("a key"),
            ttl_max_seconds: None,
            pending_ttl_seconds: 60,
            directory,
        }),
    }
}

fn now() -> Time {
    Time::parse("2026-03-01T12:00:00").expect("a time")
}

fn facts() -> Facts<'static> {
    Facts {
        now: now(),
        nonce: Nonce::Unknown,
        frozen: None,
        store_created: now(),
        clock: None,
        is_spent: &|_| false,
        recorded: &[],
        is_shared: false,
    }
}

fn artifact() -> String {
    let hash = receipt::action_hash("echo", "{}");
    let id = "3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f";
    let minted = mint(&private_key(1), "t1", &hash, now(), now().plus_seconds(60), id);
    minted.expect("minted").to_value().to_string()
}

fn request(artifact: &str) -> String {
    format!("{{\"action\":\"echo\",\"nonce\":\"n\",\"approval_artifact\":{artifact}}}")
}

fn refusal(decision: Decision) -> Option<Problem> {
    match decision {
        Decision::Refuse(problem) => Some(problem),
        Decision::Replay | Decision::Wait | Decision::Proceed(_) => None,
    }
}

/// Brought or dropped: a clock that cannot be believed is no fault of the approval's.
#[test]
fn nothing_new_executes_while_the_clock_cannot_be_believed() {
    let directory = std::env::temp_dir().join(format!("oe-clock-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("made");
    let hash = openexec::core::hash::hex(&receipt::action_hash("echo", "{}"));
    std::fs::write(directory.join(format!("{hash}.json")), artifact()).expect("written");
    let policy = policy(Some(directory.clone()));
    for request in [request(&artifact()), request("null")] {
        let proposal = prepare(request.as_bytes(), None, None, &policy).expect("well formed");
        assert!(matches!(decide(&proposal, &policy, &facts()), Decision::Proceed(_)));
        for fault in [Fault::Behind, Fault::Jumped] {
            let facts = || Facts { clock: Some(fault), ..facts() };
            let problem = refusal(decide(&proposal, &policy, &facts())).expect("refused");
            assert_eq!(problem.code, fault.code());
            assert_eq!(problem.code.status(), 503);
            // What an earlier row says, it still says; a replay is still answered.
            let frozen = Facts { frozen: Some(""), ..facts() };
            let problem = refusal(decide(&proposal, &policy, &frozen)).expect("refused");
            assert_eq!(problem.code, Code::Frozen);
            let replay = Facts { nonce: Nonce::SameRequest, ..facts() };
            assert!(matches!(decide(&proposal, &policy, &replay), Decision::Replay));
        }
    }
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn without_a_directory_a_missing_artifact_is_only_missing() {
    let policy = policy(None);
    let proposal = prepare(request("null").as_bytes(), None, None, &policy).expect("well formed");
    let problem = refusal(decide(&proposal, &policy, &facts())).expect("refused");
    assert_eq!(problem.code, Code::ApprovalMissing);
    assert_eq!(problem.detail, "ClawShield mode requires an approval artifact");
}

/// A claim of `add`, approved by key 1 for a minute.
fn claim(approval: &str) -> Claim<'_> {
    Claim {
        at: now(),
        id: receipt::exec_id("add", "n", PAYLOAD),
        action: "add",
        payload: Json(PAYLOAD),
        nonce: "n".into(),
        caller: None,
        effect: Effect::Idempotent,
        approval: Json(approval),
        keys: Json("[]"),
        legacy: None,
        policy: 1,
        place: None,
    }
}

const PAYLOAD: &str = r#"{"a":1}"#;

/// The code of the refusal that a claim would get at `later` seconds after it, or "" for none.
fn again(claim: &Claim, policy: &Policy, later: i64) -> &'static str {
    // The id of what it says; `again_as` takes it as it is.
    let id = receipt::exec_id(claim.action, &claim.nonce, &claim.payload);
    again_as(&renamed(claim, id), policy, later)
}

fn renamed<'a>(claim: &Claim<'a>, id: Hash) -> Claim<'a> {
    Claim { id, ..claim.clone() }
}

fn again_as(claim: &Claim, policy: &Policy, later: i64) -> &'static str {
    let judged = judge_again(claim, policy, now(), now().plus_seconds(later));
    judged.err().map_or("", |problem| problem.code.name())
}

/// Rows 5 to 7 once more. What the claim says of its own terms counts for nothing.
#[test]
fn a_second_run_is_judged_by_what_is_configured_now() {
    let hash = receipt::action_hash("add", PAYLOAD);
    let artifact = |key, hash, seconds| {
        let id = "3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f";
        let minted = mint(&private_key(key), "t1", &hash, now(), now().plus_seconds(seconds), id);
        format!("[{}]", canonical::to_string(&minted.expect("minted").to_value()))
    };
    let good = artifact(1, hash, 60);
    // Long expired by now, and good at the claim's time.
    for later in [0, 59, 61, 1_000_000_000, -1_000_000] {
        assert_eq!(again(&claim(&good), &policy(None), later), "", "{later}");
    }
    for (approval, code) in [
        (artifact(1, receipt::exec_id("add", "n", PAYLOAD), 60), ""),
        (artifact(2, hash, 60), "approval_signature_invalid"),
        (artifact(1, receipt::action_hash("add", "{}"), 60), "approval_hash_mismatch"),
        (artifact(1, hash, -1), "approval_expired"),
        ("null".to_owned(), "approval_malformed"),
        ("[]".to_owned(), "approval_malformed"),
        ("x".to_owned(), "approval_malformed"),
    ] {
        assert_eq!(again(&claim(&approval), &policy(None), 0), code, "{approval}");
    }

    let keyed = |more: &str| {
        let pem = serde_json::json!(public_pem(1));
        let text = format!(r#"{{"keys":[{{"name":"a","public_key":{pem}{more}}}]}}"#);
        let mut policy = policy(None);
        policy.approvals.as_mut().expect("required").keyring = from_keys_file(&text).expect("keys");
        policy
    };
    // It ends at 12:00:30, half a minute after the claim.
    let ending = keyed(r#","not_after":"2026-03-01T12:00:30""#);
    for (later, code) in [(29, ""), (30, "approval_key_expired"), (-3_600, "")] {
        assert_eq!(again(&claim(&good), &ending, later), code, "{later}");
    }
    // It had ended before the claim: no clock that stepped back revives it.
    let ended = keyed(r#","not_after":"2026-03-01T12:00:00""#);
    assert_eq!(again(&claim(&good), &ended, -3_600), "approval_key_expired");

    // Approved under its id alone, and the payload is another: the id is not taken on trust.
    let bound = artifact(1, receipt::exec_id("add", "n", "{}"), 60);
    let other = Claim { id: receipt::exec_id("add", "n", "{}"), ..claim(&bound) };
    assert_eq!(again_as(&other, &policy(None), 0), "approval_hash_mismatch");

    let unlisted = Policy { allowed_actions: Some(vec!["echo".into()]), ..policy(None) };
    assert_eq!(again(&claim(&good), &unlisted, 0), "action_not_allowed");
    let unregistered = Policy { handlers: &HANDLERS[..1], ..policy(None) };
    assert_eq!(again(&claim(&good), &unregistered, 0), "unknown_action");
    let offered = Claim { action: "write_file", ..claim(&good) };
    assert_eq!(again(&offered, &policy(None), 0), "action_not_configured");
    let unfit = Claim { payload: Json(r#"{"a":"1"}"#), ..claim(&good) };
    assert_eq!(again(&unfit, &policy(None), 0), "invalid_payload");
    // A caller that was taken away, or limited, since then runs nothing more; nobody by name is no caller.
    let by = |may: &[&str], actions: Option<&str>| {
        let caller = Caller {
            name: "agent-7".to_owned(),
            may: may.iter().map(|right| (*right).to_owned()).collect(),
            actions: actions.map(|action| [action.to_owned()].into()),
            person: None,
        };
        Policy { callers: Some(vec![Arc::new(caller)]), ..policy(None) }
    };
    let of = |caller: &'static str| Claim { caller: Some(caller.into()), ..claim(&good) };
    for (of, policy, code) in [
        (of("agent-7"), by(&[PROPOSE], None), ""),
        (of("agent-7"), by(&[PROPOSE, READ], Some("add")), ""),
        (of("agent-7"), by(&[PROPOSE], Some("echo")), "caller_not_allowed"),
        (of("agent-7"), by(&[READ], None), "caller_not_allowed"),
        (of("agent-8"), by(&[PROPOSE], None), "caller_not_allowed"),
        (of("agent-7"), policy(None), "caller_not_allowed"),
        (claim(&good), by(&[READ], None), ""),
    ] {
        assert_eq!(again(&of, &policy, 0), code);
    }
    // Demo mode has no row 7.
    let demo = Policy { approvals: None, ..policy(None) };
    assert_eq!(again(&claim("null"), &demo, 0), "");
    assert_eq!(
        again(&Claim { payload: Json(r#"{"b":1,"c":1}"#), ..claim("null") }, &demo, 0),
        "invalid_payload"
    );
}
