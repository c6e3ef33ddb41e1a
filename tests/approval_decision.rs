//! The decision over approvals, where the clock and the state are arguments.

mod approval_support;

use approval_support::{private_key, public_pem};
use openexec::approval::keys::Keyring;
use openexec::approval::mint::mint;
use openexec::clock::Fault;
use openexec::executor::decision::{Decision, Facts, Nonce, decide};
use openexec::executor::proposal::{ApprovalPolicy, Policy};
use openexec::front::prepare;
use openexec::handlers::{HANDLERS, Settings};
use openexec::http::problem::Problem;
use openexec::receipt;
use openexec::time::Time;

fn policy(directory: Option<std::path::PathBuf>) -> Policy {
    Policy {
        handlers: HANDLERS,
        settings: Settings::default(),
        allowed_actions: None,
        approvals: Some(ApprovalPolicy {
            tenant: "t1".to_owned(),
            keyring: Keyring::from_pem(&public_pem(1)).expect("a key"),
            ttl_max_seconds: None,
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
        Decision::Replay | Decision::Proceed(_) => None,
    }
}

/// Brought or dropped: a clock that cannot be believed is no fault of the approval's.
#[test]
fn nothing_new_executes_while_the_clock_cannot_be_believed() {
    let directory = std::env::temp_dir().join(format!("oe-clock-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("made");
    let hash = openexec::hash::hex(&receipt::action_hash("echo", "{}"));
    std::fs::write(directory.join(format!("{hash}.json")), artifact()).expect("written");
    let policy = policy(Some(directory.clone()));
    for request in [request(&artifact()), request("null")] {
        let proposal = prepare(request.as_bytes(), &policy).expect("well formed");
        assert!(matches!(decide(&proposal, &policy, &facts()), Decision::Proceed(_)));
        for (fault, code) in [(Fault::Behind, "clock_behind"), (Fault::Jumped, "clock_jumped")] {
            let facts = || Facts { clock: Some(fault), ..facts() };
            let problem = refusal(decide(&proposal, &policy, &facts())).expect("refused");
            assert_eq!((problem.status, problem.code), (503, code));
            assert_eq!(fault.code(), code, "`/ready` says the same");
            // What an earlier row says, it still says; a replay is still answered.
            let frozen = Facts { frozen: Some(""), ..facts() };
            let problem = refusal(decide(&proposal, &policy, &frozen)).expect("refused");
            assert_eq!(problem.code, "frozen");
            let replay = Facts { nonce: Nonce::SameRequest, ..facts() };
            assert!(matches!(decide(&proposal, &policy, &replay), Decision::Replay));
        }
    }
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn without_a_directory_a_missing_artifact_is_only_missing() {
    let policy = policy(None);
    let proposal = prepare(request("null").as_bytes(), &policy).expect("well formed");
    let problem = refusal(decide(&proposal, &policy, &facts())).expect("refused");
    assert_eq!(problem.code, "approval_missing");
    assert_eq!(problem.detail, "ClawShield mode requires an approval artifact");
}
