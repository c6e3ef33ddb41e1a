//! What of the store each caller sees: receipts, proofs, nonces, lists.

use serde_json::{Value, json};

use crate::common::approvals::{self, Minted};
use crate::common::evidence::Evidence;
use crate::common::handlers::{counted, service};
use crate::common::{Answer, Scratch, Server, executed, fifo, problem, refusal, until};
use crate::records::{lines, verified};
use crate::{bearer, execute_as, file, get_as, known, post_as, send, start};

fn with_callers(scratch: &Scratch, more: &[(&str, &str)]) -> Server {
    let path = file(scratch, &known());
    let mut settings = vec![("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))];
    settings.extend(more);
    Server::start(scratch, &settings)
}

#[test]
fn a_receipt_is_its_own_callers_and_of_those_who_may_read() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = with_callers(&scratch, &evidence.settings());
    let done = execute_as(&server, "agent-7", "echo", "1");
    let refused = refusal(&execute_as(&server, "agent-7", "launch", "2"), 400, "unknown_action");
    let said = executed(&done, "echo", "1", &json!({}));
    let id = said["id"].as_str().expect("an id");
    let unknown = "0".repeat(64);
    let verify = |name: &str, said: &Value| {
        let question =
            json!({"exec_id": said["id"], "result": said["result"], "receipt": said["receipt"]});
        post_as(&server, name, "/receipts/verify", &question.to_string()).json()
    };
    let not_recorded = json!({"recorded": false, "valid": true});
    for name in ["agent-7", "ann", "auditor"] {
        assert_eq!(get_as(&server, name, &format!("/receipts/{id}")).text(), done.text(), "{name}");
        for rest in [format!("receipts/{id}/proof"), format!("proposals/{id}")] {
            assert_eq!(get_as(&server, name, &format!("/{rest}")).status, 200, "{name} {rest}");
        }
        let recorded = json!({"outcome": "executed", "recorded": true, "valid": true});
        assert_eq!(verify(name, &said), recorded, "{name}");
        assert_eq!(verify(name, &refused)["outcome"], "denied", "{name}");
    }
    for name in ["agent-8", "adder"] {
        for (of, rest) in [("receipts", ""), ("receipts", "/proof"), ("proposals", "")] {
            let others = get_as(&server, name, &format!("/{of}/{id}{rest}"));
            let nobodys = get_as(&server, name, &format!("/{of}/{unknown}{rest}"));
            assert_eq!((others.status, others.text()), (404, nobodys.text()), "{name} {of}{rest}");
        }
        assert_eq!(verify(name, &said), not_recorded, "{name}");
        assert_eq!(verify(name, &refused), not_recorded, "{name}");
    }
    // An equal refusal of its own it sees.
    assert_eq!(
        refusal(&execute_as(&server, "agent-8", "launch", "2"), 400, "unknown_action"),
        refused
    );
    assert_eq!(verify("agent-8", &refused)["outcome"], "denied");
    assert_eq!(verify("adder", &refused), not_recorded);
}

/// Whatever of another is asked for under its nonce, the answer is one, but for what was sent.
#[test]
fn a_nonce_is_its_first_callers() {
    let scratch = Scratch::new();
    let mut server = start(&scratch);
    let done = execute_as(&server, "agent-7", "echo", "1");
    assert_eq!(done.status, 200);
    let conflict = |server: &Server, name: &str, action: &str| {
        let body = refusal(&execute_as(server, name, action, "1"), 409, "nonce_conflict");
        body["detail"].clone()
    };
    for restarted in [false, true] {
        let detail = conflict(&server, "agent-7", "add");
        assert_eq!(conflict(&server, "agent-8", "echo"), detail, "the identical request");
        assert_eq!(conflict(&server, "agent-8", "add"), detail);
        let replay = execute_as(&server, "agent-7", "echo", "1");
        assert_eq!(
            (replay.text(), replay.header("idempotent-replayed")),
            (done.text(), Some("true"))
        );
        // Through MCP as well, and with a key for its nonce.
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo",
            "arguments": {}, "_meta": {"openexec/nonce": "1"}}});
        let answer = post_as(&server, "agent-8", "/mcp", &call.to_string()).json();
        assert_eq!(answer["result"]["structuredContent"]["code"], "nonce_conflict", "{answer}");
        let headers = format!(
            "{}Content-Type: application/json\r\nIdempotency-Key: 1\r\n",
            bearer("agent-8")
        );
        let answer = send(&server, "POST", "/execute", &headers, r#"{"action":"echo"}"#);
        refusal(&answer, 409, "nonce_conflict");
        if !restarted {
            server.kill();
            server = with_callers(&scratch, &[]);
        }
    }
    assert_eq!(server.runs("echo"), 0, "of the second process");
}

/// While it runs as well.
#[test]
fn nobody_waits_for_anothers_answer() {
    let scratch = Scratch::new();
    let mut callers = known();
    callers.retain(|caller| caller["name"] != "adder");
    let path = file(&scratch, &callers);
    let mut command = service(&scratch);
    command.env("OPENEXEC_CALLERS_FILE", &path);
    let server = Server::spawn(command, &scratch);
    let held = scratch.join("held");
    fifo(&held);
    let body = json!({"action": "hold", "payload": {"path": held}, "nonce": "1"}).to_string();
    let ask = |name| post_as(&server, name, "/execute", &body);
    let waiting = |count: u64| {
        let metrics = get_as(&server, "auditor", "/metrics").text();
        metrics.contains(&format!("\nopenexec_requests_waiting {count}\n"))
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask("agent-7"));
        until("it runs", || !counted(&scratch).is_empty());
        let own = scope.spawn(|| ask("agent-7"));
        let others = scope.spawn(|| ask("agent-8"));
        until("all wait", || waiting(3));
        std::fs::write(&held, "").expect("released");
        let [first, own, others] = [first, own, others].map(|asked| asked.join().expect("asked"));
        assert_eq!((own.text(), own.header("idempotent-replayed")), (first.text(), Some("true")));
        refusal(&others, 409, "nonce_conflict");
    });
    assert_eq!(counted(&scratch).len(), 1);
}

/// A proposal that is pending is its caller's too: to others its nonce is a 409, with an approval as well.
#[test]
fn a_proposal_is_its_first_callers() {
    let scratch = Scratch::new();
    let path = file(&scratch, &known());
    let mut settings = approvals::settings();
    settings.push(("OPENEXEC_CALLERS_FILE".to_owned(), path.to_str().expect("UTF-8").to_owned()));
    let settings = approvals::borrowed(&settings);
    let mut server = approvals::start(&scratch, &settings);
    let ask = |server: &Server, name: &str, approval: Value| {
        let body =
            json!({"action": "echo", "payload": {}, "nonce": "1", "approval_artifact": approval});
        post_as(server, name, "/execute", &body.to_string())
    };
    let asked = refusal(&ask(&server, "agent-7", Value::Null), 403, "approval_missing");
    let minted = Minted::of("echo", &json!({}));
    for restarted in [false, true] {
        let others = refusal(&ask(&server, "agent-8", Value::Null), 409, "nonce_conflict");
        for text in ["action_hash", "exec_id", "agent-7"] {
            assert!(!others.to_string().contains(text), "{others}");
        }
        refusal(&ask(&server, "agent-8", minted.sign()), 409, "nonce_conflict");
        let again = refusal(&ask(&server, "agent-7", Value::Null), 403, "approval_missing");
        assert_eq!((&again["receipt"], &again["recorded"]), (&asked["receipt"], &json!(true)));
        if !restarted {
            server.kill();
            server = Server::start(&scratch, &settings);
        }
    }
    let proposals = lines(&server.store, "proposal");
    assert_eq!((proposals.len(), &proposals[0]["caller"]), (1, &json!("agent-7")));
    // And the approval was not spent by who had no right to the nonce.
    assert_eq!(ask(&server, "agent-7", minted.sign()).status, 200);
    refusal(&ask(&server, "agent-8", Value::Null), 409, "nonce_conflict");
    verified(&server);
}

/// What was recorded before there were callers is for those who may read, and its nonces are taken.
#[test]
fn what_nobody_by_name_recorded_is_nobodys() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let body = r#"{"action":"echo","payload":{},"nonce":"1"}"#;
    let done = server.execute(body);
    let id = executed(&done, "echo", "1", &json!({}))["id"].as_str().expect("an id").to_owned();
    server.kill();
    server = with_callers(&scratch, &[]);
    let target = format!("/receipts/{id}");
    for (name, status) in [("agent-7", 404), ("adder", 404), ("ann", 200), ("auditor", 200)] {
        assert_eq!(get_as(&server, name, &target).status, status, "{name}");
    }
    refusal(&execute_as(&server, "agent-7", "echo", "1"), 409, "nonce_conflict");
    let own = execute_as(&server, "agent-7", "echo", "2");
    let own = executed(&own, "echo", "2", &json!({}))["id"].as_str().expect("an id").to_owned();
    // And without the file again: everything is everybody's to see, a nonce still its caller's.
    server.kill();
    server = Server::start(&scratch, &[]);
    for id in [id, own] {
        assert_eq!(server.get(&format!("/receipts/{id}")).status, 200);
    }
    let replay = server.execute(body);
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), (done.text(), Some("true")));
    refusal(&server.execute(&body.replace("\"1\"", "\"2\"")), 409, "nonce_conflict");
    let ended =
        crate::common::cli(&scratch, &[], &["verify", server.store.to_str().expect("UTF-8")]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn a_caller_that_is_limited_sees_its_actions_alone() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let names = |answer: &Answer, at: &str, name: &str| -> Vec<String> {
        let said = answer.json();
        let list = said.pointer(at).and_then(Value::as_array).expect("a list").clone();
        let name =
            |item: &Value| item.pointer(name).and_then(Value::as_str).expect("a name").to_owned();
        list.iter().map(name).collect()
    };
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for (name, all) in [("adder", false), ("agent-7", true), ("auditor", true), ("ann", true)] {
        for (query, at, of) in [
            ("", "/actions", "/action"),
            ("?format=openai", "", "/function/name"),
            ("?format=openai-responses", "", "/name"),
            ("?format=anthropic", "", "/name"),
        ] {
            let listed = names(&get_as(&server, name, &format!("/actions{query}")), at, of);
            assert_eq!(listed.contains(&"echo".to_owned()), all, "{name} {query}");
            assert_eq!(listed == ["add"], !all, "{name} {query}: {listed:?}");
        }
        let document = get_as(&server, name, "/openapi.json").text();
        assert_eq!(document.contains("payload.echo"), all, "{name}");
        assert!(document.contains("payload.add"), "{name}");
        if !["auditor", "ann"].contains(&name) {
            let tools = names(&post_as(&server, name, "/mcp", list), "/result/tools", "/name");
            assert_eq!(tools == ["add", "openexec_proposal"], !all, "{tools:?}");
        }
    }
}

/// The document says where a token is needed, and that lists are a caller's own.
#[test]
fn the_documents_say_that_a_token_is_needed() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let document = get_as(&server, "agent-7", "/openapi.json").json();
    assert_eq!(document["security"], json!([{"token": []}]));
    let scheme = &document["components"]["securitySchemes"]["token"];
    assert_eq!(*scheme, json!({"type": "http", "scheme": "bearer"}));
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let is_open = operation.get("security") == Some(&json!([]));
            let asked = send(&server, &method.to_uppercase(), path, "", "");
            assert_eq!(asked.status != 401, is_open, "{path}");
        }
    }
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let list =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let headers = format!(
        "{}Content-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n",
        bearer("agent-7")
    );
    let answer = send(&server, "POST", "/mcp", &headers, &list.to_string()).json();
    assert_eq!(answer["result"]["cacheScope"], "private", "{answer}");
    problem(&post_as(&server, "ann", "/mcp", &list.to_string()), 403, "caller_not_allowed");
}
