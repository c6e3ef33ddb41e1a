//! `openexec pending`, as people and scripts use it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::approvals::{Minted, TENANT, public_pem};
use common::{Scratch, Server, canonical, on_terminal, openexec};
use serde_json::{Value, json};

const REQUEST: &str = r#"{"action":"echo","payload":{"msg":"hi"},"nonce":"n1"}"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn pending(scratch: &Scratch) -> Vec<String> {
    let output = openexec(scratch).arg("pending").output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The agent proposes and is refused; the host lists it; somebody signs what the list says and
/// leaves the file; the agent repeats the same call.
#[test]
fn from_a_refusal_to_an_execution_without_the_agent_holding_an_approval() {
    let scratch = Scratch::new();
    let directory = scratch.join("approvals");
    std::fs::create_dir(&directory).expect("made");
    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", TENANT),
        ("CLAWSHIELD_PUBLIC_KEY", &public_pem(1)),
        ("OPENEXEC_APPROVALS_DIR", &directory.display().to_string()),
    ];
    assert!(openexec(&scratch).arg("init").envs(environment).status().expect("run").success());
    let server = Server::start(&scratch, &environment);
    assert!(pending(&scratch).is_empty());

    let other = r#"{"action":"add","payload":{"a":1.0},"nonce":"n\u202e2"}"#;
    let large = json!({"action": "echo", "nonce": "n3", "payload": {"msg": "x".repeat(5000)}});
    let large = large.to_string();
    for (request, times) in [(REQUEST, 2), (other, 1), (&large, 1), (REQUEST, 1)] {
        for _ in 0..times {
            assert_eq!(server.execute(request).code(), "approval_missing");
        }
    }
    // Refused for another reason: an approval would not mend it.
    server.execute(r#"{"action":"none","payload":{},"nonce":"n4"}"#);

    // One line a request, in the order of their first refusals.
    let lines = pending(&scratch);
    let nonces: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["nonce"].clone())
        .collect();
    assert_eq!(nonces, ["n1", "n\u{202e}2", "n3"]);
    for (line, request, binds) in
        [(&lines[0], REQUEST, false), (&lines[1], other, true), (&lines[2], &large, true)]
    {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let (action, payload) = (&line["action"], &line["payload"]);
        let minted = match binds {
            false => Minted::of(action.as_str().expect("text"), payload),
            true => Minted::hashed(&canonical(
                &json!({"action": action, "nonce": line["nonce"], "payload": payload}),
            )),
        };
        let hash = if binds { &line["id"] } else { &line["action_hash"] };
        assert_eq!(hash, &minted.action_hash);
        // Its own hash is the name under which it is looked for.
        let file = directory.join(format!("{}.json", minted.action_hash));
        std::fs::write(file, minted.sign().to_string()).expect("written");
        let executed = server.execute(request);
        assert_eq!(executed.status, 200, "{}", executed.text());
    }
    assert!(pending(&scratch).is_empty());

    // The same on a terminal, for people.
    server.execute(r#"{"action":"echo","payload":{"msg":"a\u001b[2J\u202eb"},"nonce":"n5"}"#);
    let shown = on_terminal(&scratch, "pending", "").stdout;
    assert!(shown.contains("\"msg\": \"a\\u001b[2J\\u202eb\""), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
}

#[test]
fn pending_needs_a_store() {
    let scratch = Scratch::new();
    let output = openexec(&scratch).arg("pending").output().expect("run");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("there is no store"), "{stderr}");
}
