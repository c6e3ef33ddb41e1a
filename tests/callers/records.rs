//! Who asked is in every record, and a token in none.

use std::path::Path;
use std::process::Command;

use openexec::core::record::Record;
use serde_json::{Value, json};

use crate::common::evidence::records;
use crate::common::{Scratch, Server, cli, in_files, problem, refusal};
use crate::{CALLERS, execute_as, file, get_as, known, post_as, start, token};

/// The lines of the store, of one kind.
pub fn lines(store: &Path, kind: &str) -> Vec<Value> {
    let values = records(store).into_iter();
    let values = values.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
    values.filter(|value| value["kind"] == kind).collect()
}

pub fn verified(server: &Server) {
    let scratch = Scratch::new();
    let store = server.store.to_str().expect("UTF-8");
    let ended = cli(&scratch, &[], &["verify", store]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/read_store.py");
    let read = Command::new("python3").arg(reader).arg(store).output().expect("started");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn every_attempt_names_its_caller() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    assert_eq!(execute_as(&server, "agent-7", "echo", "1").status, 200);
    assert_eq!(execute_as(&server, "adder", "add", "2").status, 200);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo",
        "arguments": {}, "_meta": {"openexec/nonce": "3"}}});
    assert_eq!(post_as(&server, "agent-8", "/mcp", &call.to_string()).status, 200);
    let refused = refusal(&execute_as(&server, "adder", "echo", "4"), 403, "caller_not_allowed");
    assert_eq!(refused["recorded"], true);
    let detail = "Action 'echo' is not one that this caller may propose";
    assert_eq!(refused["detail"], detail);
    // It is not told what there is beyond its own.
    let beyond = refusal(&execute_as(&server, "adder", "launch", "5"), 403, "caller_not_allowed");
    assert_eq!(beyond["detail"], detail.replace("echo", "launch"));
    refusal(&execute_as(&server, "agent-8", "launch", "5"), 400, "unknown_action");
    // An equal refusal of another caller is another's.
    for name in ["agent-7", "agent-7"] {
        refusal(&execute_as(&server, name, "launch", "5"), 400, "unknown_action");
    }
    let of = |kind: &str| -> Vec<(Value, Value)> {
        let lines = lines(&server.store, kind).into_iter();
        lines.map(|line| (line["nonce"].clone(), line["caller"].clone())).collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(Value, Value)> {
        pairs.iter().map(|(nonce, caller)| (json!(nonce), json!(caller))).collect()
    };
    assert_eq!(of("claim"), pairs(&[("1", "agent-7"), ("2", "adder"), ("3", "agent-8")]));
    let refusals = [("4", "adder"), ("5", "adder"), ("5", "agent-8"), ("5", "agent-7")];
    assert_eq!(of("refusal"), pairs(&refusals));
    let policy = &lines(&server.store, "policy")[0]["callers"];
    let expected = json!([
        {"actions": ["add"], "may": ["propose"], "name": "adder", "person": null},
        {"actions": null, "may": ["propose"], "name": "agent-7", "person": null},
        {"actions": null, "may": ["propose"], "name": "agent-8", "person": null},
        {"actions": null, "may": ["approve"], "name": "ann", "person": null},
        {"actions": null, "may": ["read"], "name": "auditor", "person": null},
    ]);
    assert_eq!(*policy, expected);
    verified(&server);
}

type Change = fn(&mut Vec<Value>);

/// A new token is no other policy; another right, person or caller is.
#[test]
fn what_callers_may_is_the_policy_and_what_their_tokens_are_is_not() {
    let scratch = Scratch::new();
    let mut server = start(&scratch);
    execute_as(&server, "agent-7", "echo", "1");
    let mut callers = known();
    let mut policies = 1;
    let changes: [(Change, usize); 5] = [
        (|callers| callers[0]["token_sha256"] = json!("ab".repeat(32)), 0),
        (|callers| callers.reverse(), 0),
        (|callers| callers[0]["person"] = json!("bob"), 1),
        (|callers| callers[0]["may"] = json!(["read", "propose"]), 1),
        (|callers| drop(callers.remove(0)), 1),
    ];
    for (nonce, (change, more)) in changes.into_iter().enumerate() {
        server.kill();
        change(&mut callers);
        let path = file(&scratch, &callers);
        server =
            Server::start(&scratch, &[("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))]);
        assert_eq!(execute_as(&server, "agent-8", "echo", &format!("n{nonce}")).status, 200);
        policies += more;
        assert_eq!(lines(&server.store, "policy").len(), policies, "{nonce}");
    }
    verified(&server);
}

#[test]
fn a_token_is_nowhere() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let long = "x".repeat(70_000);
    for (name, _) in CALLERS {
        execute_as(&server, name, "echo", name);
        execute_as(&server, name, "launch", name);
        get_as(&server, name, "/nothing");
        get_as(&server, name, &format!("/receipts/{}", "0".repeat(64)));
        post_as(&server, name, "/mcp", "{");
        post_as(&server, name, "/execute", &long);
    }
    problem(&execute_as(&server, "nobody", "echo", "1"), 401, "unauthenticated");
    let mut said = server.log() + &get_as(&server, "auditor", "/metrics").text();
    for entry in std::fs::read_dir(in_files(&server.store)).expect("listed") {
        said += &std::fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
    }
    assert!(said.contains("\"caller\":\"agent-7\""));
    for name in CALLERS.map(|(name, _)| name).into_iter().chain(["nobody"]) {
        let (token, hash) = (token(name), crate::common::sha256(&token(name)));
        assert!(!said.contains(&token[9..]) && !said.contains(&hash), "{name}");
    }
}

/// What every record that the service wrote says is what its reader reads.
#[test]
fn the_reader_reads_the_caller() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    execute_as(&server, "agent-7", "echo", "1");
    let lines = records(&server.store);
    let claims = lines.iter().filter_map(|line| match Record::read(line) {
        Some(Record::Claim(claim)) => claim.caller.map(|caller| caller.to_string()),
        _ => None,
    });
    assert_eq!(claims.collect::<Vec<_>>(), ["agent-7"]);
}
