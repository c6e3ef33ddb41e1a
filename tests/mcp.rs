//! `POST /mcp` over real sockets: all revisions, byte for byte; what is malformed, forged or of
//! another revision; and that nothing of it executes or is remembered. The official clients have
//! their say in `tests/python/mcp_client.py` and `tests/clients`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::approvals::{Minted, TENANT, borrowed, public_pem, settings, start};
use common::handlers::service;
use common::{Answer, Scratch, Server, assert_receipt, canonical, exchange, problem, sha256};
use serde_json::{Value, json};

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
const REVISIONS: [&str; 4] = [MODERN, LEGACY, "2025-06-18", "2025-03-26"];
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

#[test]
fn serve() {
    common::handlers::serve();
}

fn demo() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    (scratch, server)
}

fn clawshield() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = start(&scratch, &borrowed(&settings()));
    (scratch, server)
}

fn send(server: &Server, headers: &[(&str, &str)], body: &str) -> Answer {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(&server.address, request.as_bytes())
}

/// `_meta` of a modern request, with these capabilities and what else is in `more`.
fn meta(capabilities: Value, more: Value) -> Value {
    let mut meta = json!({VERSION: MODERN, CAPABILITIES: capabilities});
    meta.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    meta
}

/// A modern request with the headers that belong to it.
fn modern(server: &Server, method: &str, params: &Value) -> Answer {
    let mut headers = vec![("MCP-Protocol-Version", MODERN), ("Mcp-Method", method)];
    headers.extend(params["name"].as_str().map(|name| ("Mcp-Name", name)));
    let body = json!({"jsonrpc": "2.0", "id": "é 1", "method": method, "params": params});
    send(server, &headers, &body.to_string())
}

fn legacy(server: &Server, method: &str, params: &Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    send(server, &[("MCP-Protocol-Version", LEGACY)], &body.to_string())
}

/// A modern call of `echo` under a nonce.
fn echo(server: &Server, nonce: &str, payload: &Value, more: Value) -> Answer {
    let mut named = json!({"openexec/nonce": nonce});
    named.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let params = json!({"name": "echo", "arguments": payload, "_meta": meta(json!({}), named)});
    modern(server, "tools/call", &params)
}

/// The result of an answer to a request.
#[track_caller]
fn result(answer: &Answer) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{text}");
    assert_eq!(answer.header("mcp-session-id"), None, "nothing is remembered");
    let body = answer.json();
    assert_eq!(text, canonical(&body), "every answer is canonical");
    assert_eq!(body["jsonrpc"], "2.0", "{text}");
    assert!(body["id"] == "é 1" || body["id"] == 7, "{text}");
    assert!(body["result"].is_object() && body.get("error").is_none(), "{text}");
    body["result"].clone()
}

/// The JSON-RPC error of an answer, with its HTTP status and code.
#[track_caller]
fn error(answer: &Answer, status: u16, code: i32) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{text}");
    let body = answer.json();
    assert_eq!(text, canonical(&body), "every answer is canonical");
    assert_eq!(body["jsonrpc"], "2.0", "{text}");
    assert_eq!(body["error"]["code"], code, "{text}");
    assert!(body["error"]["message"].is_string() && body.get("result").is_none(), "{text}");
    assert_ne!(body.get("id"), Some(&Value::Null), "{text}");
    body["error"].clone()
}

/// A refused call: a result, with the problem's body.
#[track_caller]
fn refused(answer: &Answer, code: &str) -> Value {
    let result = result(answer);
    assert_eq!(result["isError"], true, "{result}");
    let body = result["structuredContent"].clone();
    assert_eq!(body["code"], code, "{result}");
    assert_eq!(body["approved"], false, "{result}");
    assert_receipt(&body);
    assert_eq!(result["content"], json!([{"type": "text", "text": canonical(&body)}]));
    body
}

/// The tool that every list has: as `GET /proposals/{id}`, and it proposes nothing.
#[test]
fn a_call_can_be_followed() {
    let scratch = Scratch::new();
    // Whatever is allowed.
    let server = Server::start(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "echo")]);
    let list = result(&legacy(&server, "tools/list", &json!({})));
    let tool = &list["tools"][1];
    assert_eq!(list["tools"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(tool["name"], "openexec_proposal");
    assert_eq!(tool["inputSchema"]["required"], json!(["id"]));
    assert_eq!(tool["annotations"]["readOnlyHint"], true);

    let called = result(&echo(&server, "n", &json!({"a": 1}), json!({})));
    let id = called["structuredContent"]["id"].clone();
    let meta = || meta(json!({}), json!({}));
    let follow = |arguments: Value| {
        let params = json!({"name": "openexec_proposal", "arguments": arguments, "_meta": meta()});
        let old = json!({"name": "openexec_proposal", "arguments": arguments});
        let both = [modern(&server, "tools/call", &params), legacy(&server, "tools/call", &old)];
        let [modern, legacy] = both.map(|answer| result(&answer));
        assert_eq!(modern["structuredContent"], legacy["structuredContent"]);
        assert_eq!(modern["_meta"].get("openexec/nonce"), None, "it has none");
        let text = canonical(&modern["structuredContent"]);
        assert_eq!(modern["content"], json!([{"type": "text", "text": text}]));
        modern
    };
    let before = common::evidence::records(&server.store).len();
    let followed = follow(json!({"id": id}));
    let shown = server.get(&format!("/proposals/{}", id.as_str().expect("an id"))).json();
    assert_eq!((&followed["structuredContent"], &followed["isError"]), (&shown, &json!(false)));
    assert_eq!(
        (&shown["state"], &shown["result"]),
        (&json!("executed"), &json!({"echo": {"a": 1}}))
    );
    for (arguments, code) in [
        (json!({"id": "0".repeat(64)}), "not_found"),
        (json!({"id": "0".repeat(63)}), "invalid_payload"),
        (json!({"id": "A".repeat(64)}), "invalid_payload"),
        (json!({"id": 1}), "invalid_payload"),
        (json!({"id": null}), "invalid_payload"),
        (json!({}), "invalid_payload"),
        (json!({"id": id, "more": 1}), "invalid_payload"),
    ] {
        let refused = follow(arguments.clone());
        assert_eq!(refused["isError"], true, "{arguments}");
        assert_eq!(refused["structuredContent"]["code"], code, "{arguments}");
        assert_eq!(refused["structuredContent"].get("approved"), None, "nothing was proposed");
    }
    let after = common::evidence::records(&server.store).len();
    assert_eq!(before, after, "nothing of it is recorded");
    assert_eq!(followed["structuredContent"].get("completion"), None);
    // Nobody can have an action of that name.
    let posted = server.execute(&json!({"action": "openexec_proposal", "nonce": "m"}).to_string());
    problem(&posted, 403, "action_not_allowed");
}

/// What a worker says of a job is the end of the call for its proposer, too.
#[test]
fn a_job_that_failed_is_an_error_where_its_call_is_followed() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.join("outbox")).expect("made");
    let outbox = scratch.join("outbox").display().to_string();
    let server = Server::start(&scratch, &[("OPENEXEC_OUTBOX_DIR", &outbox)]);
    for (outcome, is_error) in [("executed", false), ("failed", true)] {
        let params = json!({"name": "enqueue", "arguments": {"queue": outcome, "job": {}}});
        let called = result(&legacy(&server, "tools/call", &params));
        let id = called["structuredContent"]["id"].as_str().expect("an id").to_owned();
        let follow = || {
            let params = json!({"name": "openexec_proposal", "arguments": {"id": id}});
            result(&legacy(&server, "tools/call", &params))
        };
        assert_eq!(follow()["isError"], false);
        let words = ["complete", &id, "--outcome", outcome, "--note", "It was seen.", "--yes"];
        let ended = common::cli(&scratch, &[], &words);
        assert_eq!(ended.code, 0, "{ended:?}");
        let followed = follow();
        assert_eq!(followed["isError"], is_error, "{followed}");
        let completion = &followed["structuredContent"]["completion"];
        assert_eq!(completion["outcome"], outcome, "{followed}");
        assert_eq!(followed["structuredContent"]["state"], "executed", "{followed}");
    }
}

#[test]
fn discovery_says_what_is_spoken_here() {
    let (_scratch, server) = demo();
    let found =
        result(&modern(&server, "server/discover", &json!({"_meta": meta(json!({}), json!({}))})));
    assert_eq!(found["supportedVersions"], json!(REVISIONS));
    assert_eq!(found["capabilities"], json!({"tools": {}}), "no listChanged: nothing changes");
    assert_eq!(found["resultType"], "complete");
    assert!(found["ttlMs"].is_u64() && found["cacheScope"] == "public", "{found}");
    assert!(found["instructions"].as_str().expect("text").contains("openexec/nonce"));
    let about = &found["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(about["name"], "openexec");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn an_older_client_begins_with_initialize() {
    let (_scratch, server) = demo();
    let about = json!({"name": "c", "version": "1"});
    // It is told the version that it asked for, or else the newest that begins like this; whatever a
    // header says, the body is what is negotiated.
    let other = ["2024-11-05", "2099-01-01", "", MODERN].map(|asked| (asked, LEGACY));
    let spoken = REVISIONS[1..].iter().map(|asked| (*asked, *asked));
    for (asked, answered) in spoken.chain(other) {
        for version in [None, Some(LEGACY), Some(MODERN), Some("2099-01-01"), Some(asked)] {
            for own in [json!({}), json!(null), json!({VERSION: null, "progressToken": 1})] {
                let params = json!({"protocolVersion": asked, "capabilities": {},
                                    "clientInfo": about, "_meta": own});
                let body = json!({"jsonrpc": "2.0", "id": 7, "method": "initialize",
                                  "params": params});
                let headers: Vec<_> =
                    version.map(|version| ("MCP-Protocol-Version", version)).into_iter().collect();
                let started = result(&send(&server, &headers, &body.to_string()));
                assert_eq!(started["protocolVersion"], answered);
                assert_eq!(started["capabilities"], json!({"tools": {}}));
                assert_eq!(started["serverInfo"]["name"], "openexec");
                assert!(started.get("resultType").is_none(), "{started}");
            }
        }
    }
    let about_nothing = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
    let with_nulls = about_nothing.replace('}', ",\"id\":null,\"params\":null}");
    // Without the header a request is of the revision that has none.
    let versions = REVISIONS[1..].iter().map(|version| vec![("MCP-Protocol-Version", *version)]);
    for headers in versions.chain([vec![]]) {
        for body in [about_nothing, &with_nulls] {
            let answer = send(&server, &headers, body);
            assert_eq!((answer.status, &answer.body[..]), (202, &b""[..]));
            assert_eq!(answer.header("content-length"), Some("0"));
            assert_eq!(answer.header("content-type"), None, "there is nothing to be parsed");
        }
        let ask = |method: &str, params: Value| {
            let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
            result(&send(&server, &headers, &body.to_string()))
        };
        assert_eq!(ask("ping", json!(null)), json!({}));
        let listed = ask("tools/list", json!({"_meta": null, "cursor": null}));
        assert_eq!(listed.as_object().expect("an object").len(), 1, "{listed}");
        let nothing = json!({"name": "add", "arguments": null, "_meta": null});
        let called = ask("tools/call", nothing);
        assert_eq!(called["structuredContent"]["result"], json!({"sum": 0}));
        assert!(called.get("resultType").is_none(), "{called}");
    }
}

/// The same request through either door is one execution, with one answer.
#[test]
fn a_call_is_an_execution() {
    let (_scratch, server) = demo();
    for (number, payload) in [
        json!({"msg": "hello world"}),
        json!({}),
        json!({"quote\" \\ \u{8} é 😀": [1.5, -0.5, 1e15, null, {"x": "\u{7f}"}]}),
    ]
    .iter()
    .enumerate()
    {
        let (first, second) = (format!("first {number}"), format!("é\"\\ {number}"));
        let there = server
            .execute(&json!({"action": "echo", "payload": payload, "nonce": first}).to_string());
        let here = echo(&server, &first, payload, json!({}));
        assert_eq!(here.header("idempotent-replayed"), Some("true"));
        assert!(here.text().contains(&format!("\"structuredContent\":{}}}", there.text())));
        assert_eq!(result(&here)["_meta"]["openexec/replayed"], true);

        let here = echo(&server, &second, payload, json!({}));
        assert_eq!(here.header("idempotent-replayed"), None);
        let there = server
            .execute(&json!({"action": "echo", "payload": payload, "nonce": second}).to_string());
        assert_eq!(there.header("idempotent-replayed"), Some("true"));
        let result = result(&here);
        assert_eq!(result["structuredContent"], there.json());
        assert_eq!(result["content"], json!([{"type": "text", "text": there.text()}]));
        assert_eq!(result["isError"], false);
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["_meta"]["openexec/nonce"], second);
        assert_eq!(result["_meta"].get("openexec/replayed"), None);
    }
    assert_eq!(server.runs("echo"), 6);
    // Missing arguments are none; a nonce that is made is a new one for each call.
    let params = json!({"name": "add", "_meta": meta(json!({}), json!({"openexec/nonce": null}))});
    let nonces: Vec<Value> = (0..2)
        .map(|_| result(&modern(&server, "tools/call", &params))["_meta"]["openexec/nonce"].clone())
        .collect();
    assert_ne!(nonces[0], nonces[1]);
    assert_eq!(nonces[0].as_str().expect("text").len(), 32);
    assert_eq!(server.runs("add"), 2);
}

/// What is wrong with a message, what HTTP and JSON-RPC make of it; `{call}` is a call that would
/// execute, `{meta}` its `_meta`.
#[test]
fn what_is_no_message_executes_nothing() {
    let (_scratch, server) = demo();
    let own = meta(json!({}), json!({"openexec/nonce": "n"}));
    let call = |changed: Value| {
        let mut call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "echo", "arguments": {}, "_meta": own}});
        call.as_object_mut().expect("object").extend(changed.as_object().expect("object").clone());
        call
    };
    let params = |changed: Value| {
        let mut params = json!({"name": "echo", "arguments": {}, "_meta": own});
        params
            .as_object_mut()
            .expect("object")
            .extend(changed.as_object().expect("object").clone());
        call(json!({"params": params})).to_string()
    };
    let with_meta = |changed: Value| params(json!({"_meta": meta(json!({}), changed)}));
    let good = call(json!({})).to_string();
    let mut without_id = call(json!({}));
    without_id.as_object_mut().expect("an object").remove("id");
    let long = "x".repeat(255);
    let bodies: Vec<(String, u16, i32)> = vec![
        // No JSON, or not the strict kind.
        (String::new(), 400, -32700),
        ("{".into(), 400, -32700),
        (good[..good.len() - 1].into(), 400, -32700),
        (format!("{good}x"), 400, -32700),
        (format!("{good}{good}"), 400, -32700),
        (good.replace("\"id\":1", "\"id\":1,\"id\":1"), 400, -32700),
        (good.replace("\"id\":1", "\"id\":1,\"a\":1e400,\"id\":1"), 400, -32700),
        (good.replace("\"id\":1", "\"id\":1e400"), 400, -32700),
        // No message.
        ("null".into(), 400, -32600),
        ("1".into(), 400, -32600),
        ("\"tools/call\"".into(), 400, -32600),
        ("{}".into(), 400, -32600),
        ("[]".into(), 400, -32600),
        (format!("[{good}]"), 400, -32600),
        (format!("[{good},{good}]"), 400, -32600),
        (call(json!({"jsonrpc": "1.0"})).to_string(), 400, -32600),
        (call(json!({"jsonrpc": 2.0})).to_string(), 400, -32600),
        (call(json!({"jsonrpc": null})).to_string(), 400, -32600),
        (call(json!({"method": null})).to_string(), 400, -32600),
        (call(json!({"method": ["tools/call"]})).to_string(), 400, -32600),
        (call(json!({"params": null})).to_string(), 400, -32602),
        (call(json!({"params": []})).to_string(), 400, -32600),
        (call(json!({"params": "name=echo"})).to_string(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#.into(), 400, -32600),
        // Wrong ids.
        (call(json!({"id": null})).to_string(), 400, -32600),
        (call(json!({"id": 1.5})).to_string(), 400, -32600),
        (call(json!({"id": true})).to_string(), 400, -32600),
        (call(json!({"id": [1]})).to_string(), 400, -32600),
        (call(json!({"id": {}})).to_string(), 400, -32600),
        (call(json!({"id": long})).to_string(), 400, -32600),
        // A call without an id would be answered 202, and be taken for done.
        (without_id.to_string(), 400, -32600),
        // Parameters.
        (params(json!({"name": null})), 400, -32602),
        (params(json!({"name": 1})), 400, -32602),
        (params(json!({"arguments": []})), 400, -32602),
        (params(json!({"arguments": "{}"})), 400, -32602),
        (params(json!({"arguments": 1})), 400, -32602),
        (params(json!({"arguments": false})), 400, -32602),
        (params(json!({"_meta": null})), 400, -32602),
        (params(json!({"_meta": []})), 400, -32602),
        (params(json!({"_meta": {}})), 400, -32602),
        (params(json!({"_meta": {CAPABILITIES: {}}})), 400, -32602),
        (params(json!({"_meta": {VERSION: MODERN}})), 400, -32602),
        (params(json!({"_meta": {VERSION: MODERN, CAPABILITIES: null}})), 400, -32602),
        (params(json!({"_meta": {VERSION: MODERN, CAPABILITIES: []}})), 400, -32602),
        (with_meta(json!({VERSION: null})), 400, -32602),
        (with_meta(json!({"openexec/nonce": 1})), 400, -32602),
        (with_meta(json!({"openexec/nonce": {}})), 400, -32602),
        (with_meta(json!({"openexec/nonce": ""})), 400, -32602),
        (with_meta(json!({"openexec/nonce": "a\nb"})), 400, -32602),
        (with_meta(json!({"openexec/nonce": "n".repeat(257)})), 400, -32602),
        // The version in the body is not that of the header.
        (with_meta(json!({VERSION: LEGACY})), 400, -32020),
        (with_meta(json!({VERSION: "2099-01-01"})), 400, -32020),
        (with_meta(json!({VERSION: 20260728})), 400, -32020),
    ];
    let headers =
        [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "tools/call"), ("Mcp-Name", "echo")];
    for (body, status, code) in &bodies {
        let answer = send(&server, &headers, body);
        let said = error(&answer, *status, *code);
        // An error carries the id of its request, unless that could not be read. That of a response is
        // none of the client's: it may have a request of that number under way.
        let sent = serde_json::from_str::<Value>(body).unwrap_or_default();
        let answers = sent.get("result").is_some() || sent.get("error").is_some();
        let is_response = answers && sent.get("method").is_none();
        let id = sent.get("id").filter(|id| *code != -32700 && **id == 1 && !is_response);
        assert_eq!(answer.json().get("id"), id, "{body}");
        if *code == -32700 {
            assert!(said["data"]["offset"].is_u64() && said["data"]["code"].is_string(), "{said}");
        }
    }
    // The id is repeated where it could be read; this is the longest.
    let answer =
        send(&server, &headers, &call(json!({"id": &long[1..], "params": {}})).to_string());
    assert_eq!(answer.json()["id"], long[1..]);
    let answer = send(&server, &headers, &params(json!({"name": 1})));
    assert_eq!(answer.json()["id"], 1);
    let answer = send(&server, &headers, &call(json!({"id": null})).to_string());
    assert_eq!(answer.json().get("id"), None);

    // Headers that are missing, or say something else than the body.
    let version = ("MCP-Protocol-Version", MODERN);
    let (method, name) = (("Mcp-Method", "tools/call"), ("Mcp-Name", "echo"));
    let wrong: &[&[(&str, &str)]] = &[
        &[],
        &[method, name],
        &[version, name],
        &[version, method],
        &[version, ("Mcp-Method", "tools/list"), name],
        &[version, ("Mcp-Method", "TOOLS/CALL"), name],
        &[version, method, ("Mcp-Name", "add")],
        &[version, method, ("Mcp-Name", "Echo")],
        &[version, method, ("Mcp-Name", "=?base64?YWRk?=")],
        &[version, method, ("Mcp-Name", "=?base64?ZWNobx==?=")],
        &[version, method, ("Mcp-Name", "=?base64?/////w==?=")],
        &[version, method, ("Mcp-Name", "=?BASE64?ZWNobw==?=")],
        &[("MCP-Protocol-Version", LEGACY), method, name],
        &[("MCP-Protocol-Version", "2099-01-01"), method, name],
    ];
    for headers in wrong {
        error(&send(&server, headers, &good), 400, -32020);
    }
    assert_eq!(server.metric("openexec_store_executions"), 0);
    assert_eq!(server.runs("echo"), 0);
    assert!(!server.get("/metrics").text().contains("openexec_refusals_total{"), "no attempt");

    // None has spent the nonce; base64 is a way to write a name.
    let encoded = [version, method, ("Mcp-Name", "=?base64?ZWNobw==?=")];
    let answer = send(&server, &encoded, &good.replace("\"id\":1", "\"id\":7"));
    assert_eq!(answer.header("idempotent-replayed"), None);
    assert_eq!(result(&answer)["isError"], false);
    assert_eq!(server.runs("echo"), 1);
}

/// One bad value must not end a session: what the strict reader refuses is told to the request that it
/// stands in, a call to the model. Only where the body does not say which that is, to nobody.
#[test]
fn what_strict_json_refuses_is_told_to_its_request() {
    let (_scratch, server) = demo();
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    let many = format!("[{}0]", "{},".repeat(20_000));
    let (modern, own) = (("MCP-Protocol-Version", MODERN), meta(json!({}), json!({})));
    let headers: [&[(&str, &str)]; 4] = [
        &[modern, ("Mcp-Method", "tools/call")],
        &[("MCP-Protocol-Version", LEGACY)],
        &[("MCP-Protocol-Version", "2025-03-26")],
        &[],
    ];
    for headers in headers {
        let is_modern = headers.contains(&modern);
        for (bad, code) in [
            ("9007199254740993", "number_out_of_range"),
            ("1e999", "number_out_of_range"),
            ("1e-999", "number_out_of_range"),
            (r#"{"b":1,"b":2}"#, "duplicate_key"),
            (r#""\ud83d""#, "lone_surrogate"),
            (&deep, "too_deep"),
            (&many, "too_many_values"),
            ("NaN", "malformed_json"),
            ("'x'", "malformed_json"),
            ("01", "malformed_json"),
            ("\"\t\"", "malformed_json"),
        ] {
            let body = |method: &str, id: &str| {
                format!(
                    "{{\"jsonrpc\":\"2.0\",{id}\"method\":\"{method}\",\"params\":{{\"name\":\
                         \"echo\",\"arguments\":{{\"a\":{bad}}},\"_meta\":{own}}}}}"
                )
            };
            let called = send(&server, headers, &body("tools/call", "\"id\":7,"));
            let called = result(&called);
            assert_eq!(called["isError"], true, "{called}");
            assert_eq!(called.get("resultType").is_some(), is_modern, "{called}");
            let said = &called["structuredContent"];
            assert_eq!((&said["code"], &said["status"]), (&json!(code), &json!(400)), "{called}");
            let text = called["content"][0]["text"].as_str().expect("text");
            assert_eq!(text, canonical(said));
            assert!(
                said["offset"].is_u64() && said.get("approved").is_none(),
                "no attempt: {said}"
            );
            // Of an id that is itself too large, and of other methods.
            let huge = send(&server, headers, &body("tools/call", "\"id\":12345678901234567890,"));
            assert!(huge.text().starts_with("{\"id\":12345678901234567890,"), "{}", huge.text());
            for method in ["tools/list", "initialize", "nope", "notifications/x"] {
                let answer = send(&server, headers, &body(method, "\"id\":7,"));
                let said = error(&answer, if is_modern { 400 } else { 200 }, -32700);
                assert_eq!(
                    (&said["data"]["code"], &answer.json()["id"]),
                    (&json!(code), &json!(7))
                );
            }
            // Without an id; with two; with one that is none.
            let note = send(&server, headers, &body("notifications/cancelled", ""));
            assert_eq!((note.status, note.header("content-type")), (202, None));
            for (method, id) in [
                ("tools/call", ""),
                ("tools/call", "\"id\":null,"),
                ("tools/call", "\"id\":7,\"id\":7,"),
                ("notifications/x", "\"id\":7,\"id\":7,"),
                ("tools/call", "\"id\":7,\"\\u0069d\":8,"),
                ("tools/call", "\"id\":[7],"),
                ("tools/call", "\"id\":7,\"method\":\"tools/call\","),
            ] {
                let answer = send(&server, headers, &body(method, id));
                error(&answer, 400, -32700);
                assert_eq!(answer.json().get("id"), None, "{}", answer.text());
            }
        }
    }
    assert_eq!(server.metric("openexec_store_executions"), 0);
    assert!(!server.get("/metrics").text().contains("openexec_refusals_total{"), "no attempt");
}

#[test]
fn other_revisions_and_methods_are_named() {
    let (_scratch, server) = demo();
    let own = |version: &str| json!({"_meta": {VERSION: version, CAPABILITIES: {}}});
    for version in ["2024-11-05", "2099-01-01", "x"] {
        for params in [own(version), json!({})] {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params});
            let headers = [("MCP-Protocol-Version", version), ("Mcp-Method", "tools/list")];
            let said = error(&send(&server, &headers, &body.to_string()), 400, -32022);
            assert_eq!(said["data"], json!({"requested": version, "supported": REVISIONS}));
        }
        let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
        error(&send(&server, &[("MCP-Protocol-Version", version)], body), 400, -32022);
    }
    // A method of one revision is none of the other's, nor is what neither has.
    for method in ["ping", "initialize", "resources/list", "subscriptions/listen", "tools/Call", ""]
    {
        let answer = modern(&server, method, &json!({"_meta": meta(json!({}), json!({}))}));
        let said = error(&answer, 404, -32601);
        assert_eq!(said["message"], format!("Method not found: {method}"));
        assert_eq!(answer.json()["id"], "é 1");
    }
    for method in ["server/discover", "prompts/list", "logging/setLevel"] {
        error(&legacy(&server, method, &json!({})), 200, -32601);
    }
    for bad in [json!({}), json!({"protocolVersion": 1}), json!({"protocolVersion": null})] {
        error(&legacy(&server, "initialize", &bad), 200, -32602);
    }
    for cursor in [json!(""), json!("x"), json!(1)] {
        let params = json!({"cursor": cursor, "_meta": meta(json!({}), json!({}))});
        error(&modern(&server, "tools/list", &params), 400, -32602);
        error(&legacy(&server, "tools/list", &params["cursor"].clone().into_params()), 200, -32602);
    }
    for not_one in [json!([]), json!("x")] {
        error(&legacy(&server, "tools/list", &json!({"_meta": not_one})), 200, -32602);
    }
    // An older client is answered with 200 wherever there is an id to be answered.
    for (instead, code) in [
        (json!({"jsonrpc": "1.0"}), -32600),
        (json!({"jsonrpc": null}), -32600),
        (json!({"method": null}), -32600),
        (json!({"method": 1}), -32600),
        (json!({"params": []}), -32600),
        (json!({"params": {"name": 1}}), -32602),
        (json!({"params": {"name": "echo", "arguments": "{}"}}), -32602),
        (json!({"params": {"name": "echo", "_meta": {"openexec/nonce": 1}}}), -32602),
    ] {
        let mut body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {}});
        body.as_object_mut().expect("object").extend(instead.as_object().expect("object").clone());
        let answer = send(&server, &[("MCP-Protocol-Version", LEGACY)], &body.to_string());
        error(&answer, 200, code);
        assert_eq!(answer.json()["id"], 7);
    }
    // A notification does nothing, whatever it says.
    let body = json!({"jsonrpc": "2.0", "method": "notifications/tools/call",
                      "params": {"name": "echo", "_meta": meta(json!({}), json!({}))}});
    let answer = send(&server, &[("MCP-Protocol-Version", MODERN)], &body.to_string());
    assert_eq!((answer.status, answer.header("content-length")), (202, Some("0")));
    assert_eq!(server.metric("openexec_store_executions"), 0);
}

trait IntoParams {
    fn into_params(self) -> Value;
}

impl IntoParams for Value {
    fn into_params(self) -> Value {
        json!({ "cursor": self })
    }
}

/// The gate's rules come first, and are answered as everywhere.
#[test]
fn the_rules_of_the_gate_hold() {
    let (_scratch, server) = demo();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let raw = |head: &str| {
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        exchange(&server.address, request.as_bytes())
    };
    let json = "Content-Type: application/json\r\n";
    let host = "POST /mcp HTTP/1.1\r\nHost: localhost\r\n";
    problem(&raw(&format!("{host}{json}Origin: http://localhost\r\n")), 403, "browser_origin");
    problem(&raw(&format!("{host}{json}Origin: null\r\n")), 403, "browser_origin");
    let foreign = "POST /mcp HTTP/1.1\r\nHost: evil.example\r\n";
    problem(&raw(&format!("{foreign}{json}")), 421, "host_not_allowed");
    problem(&raw(host), 415, "unsupported_media_type");
    problem(&raw(&format!("{host}Content-Type: text/plain\r\n")), 415, "unsupported_media_type");
    let twice = "Mcp-Name: a\r\nMcp-Name: b\r\n";
    problem(&raw(&format!("{host}{json}{twice}")), 400, "bad_request");
    for method in ["GET", "DELETE", "PUT", "OPTIONS"] {
        let answer = exchange(
            &server.address,
            format!("{method} /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
        );
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let too_large = format!("{host}{json}Content-Length: 1048577\r\n\r\n");
    problem(&exchange(&server.address, too_large.as_bytes()), 413, "body_too_large");
    // A slash at the end is the same address.
    let slash = raw(&format!("POST /mcp/ HTTP/1.1\r\nHost: localhost\r\n{json}"));
    assert_eq!(slash.text(), r#"{"id":1,"jsonrpc":"2.0","result":{}}"#);
    // Whatever is accepted, the answer is JSON.
    for accept in ["", "Accept: */*\r\n", "Accept: text/event-stream\r\n"] {
        let headers = format!("{host}{json}{accept}MCP-Protocol-Version: {LEGACY}\r\n");
        assert_eq!(raw(&headers).text(), r#"{"id":1,"jsonrpc":"2.0","result":{}}"#);
    }
}

#[test]
fn a_header_may_give_a_call_its_nonce() {
    let (_scratch, server) = demo();
    let call = |key: &str, meta: Value| {
        let params = json!({"name": "echo", "arguments": {}, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
        let headers = [("MCP-Protocol-Version", LEGACY), ("Idempotency-Key", key)];
        send(&server, &headers, &body.to_string())
    };
    for (key, meta, nonce) in [
        ("order-1", json!({}), "order-1"),
        ("\"order-2\"", json!({"openexec/nonce": null}), "order-2"),
        ("order-3", json!({"openexec/nonce": "order-3"}), "order-3"),
    ] {
        for replayed in [None, Some(&json!(true))] {
            let answer = call(key, meta.clone()).json();
            let own = &answer["result"]["_meta"];
            assert_eq!(
                (&own["openexec/nonce"], own.get("openexec/replayed")),
                (&json!(nonce), replayed)
            );
        }
    }
    for (key, meta) in [
        ("order-4", json!({"openexec/nonce": "order-5"})),
        ("\"\"", json!({})),
        (&"k".repeat(257), json!({})),
        ("4", json!({"openexec/nonce": 4})),
    ] {
        let answer = call(key, meta).json();
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["data"]["status"]),
            (&json!(-32602), &json!(422)),
            "{answer}"
        );
    }
    assert_eq!(server.runs("echo"), 3);
}

/// One byte changed, removed or doubled at every place of a call: it is refused, or it is the call
/// of what it says, and never the end of the service.
#[test]
fn every_damaged_call_is_refused_or_executed_rightly() {
    let (_scratch, server) = demo();
    let nonce = json!({"openexec/nonce": "damaged"});
    let good = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add",
        "arguments": {"a": 1, "b": 2}, "_meta": meta(json!({}), nonce)}});
    let good = good.to_string().into_bytes();
    let mut client = common::Client::connect(&server.address);
    let (mut refused, mut executed) = (0, 0);
    for at in 0..good.len() {
        let (before, after) = (&good[..at], &good[at + 1..]);
        for instead in
            [&[][..], &[good[at], good[at]], &[good[at] ^ 1], &[good[at] ^ 0x20], b"\"", b"}"]
        {
            let body = [before, instead, after].concat();
            let head = format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: add\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            let answer = client.exchange(&[head.as_bytes(), &body[..]].concat());
            let text = answer.text();
            assert!([200, 400].contains(&answer.status), "{text}");
            let said = answer.json();
            assert_eq!(said.get("error").is_some(), answer.status == 400, "{text}");
            if said["result"]["isError"] == false {
                // The arguments were changed, or the nonce, or nothing that matters.
                let body: Value = serde_json::from_slice(&body).expect("it was understood");
                let (arguments, own) = (&body["params"]["arguments"], &said["result"]["_meta"]);
                let term = |name: &str| arguments[name].as_i64().unwrap_or(0);
                let done = &said["result"]["structuredContent"];
                assert_eq!(done["result"]["sum"], term("a") + term("b"), "{text}");
                let request = json!({"action": "add", "nonce": own["openexec/nonce"],
                    "payload": arguments.as_object().cloned().unwrap_or_default()});
                assert_eq!(done["id"], sha256(&canonical(&request)), "{text}");
                executed += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(refused > 1000 && executed > 100, "{refused} {executed}");
}

/// What `/execute` takes, `/mcp` takes, and no more.
#[test]
fn both_doors_take_the_same_payloads() {
    let (_scratch, server) = demo();
    for (depth, taken) in [(63, true), (64, false)] {
        let payload = format!("{}{}", "{\"a\":".repeat(depth - 1) + "{}", "}".repeat(depth - 1));
        let there = server.execute(&format!(
            "{{\"action\":\"echo\",\"nonce\":\"d{depth}\",\"payload\":{payload}}}"
        ));
        assert_eq!(there.status == 200, taken, "{}", there.text());
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\
             \"arguments\":{payload},\"_meta\":{{\"openexec/nonce\":\"m{depth}\"}}}}}}"
        );
        let here = send(&server, &[("MCP-Protocol-Version", LEGACY)], &body);
        match taken {
            true => assert_eq!(result(&here)["isError"], false),
            false => assert_eq!(result(&here)["structuredContent"]["code"], "too_deep"),
        }
    }
    // As large as a body may be, and every character of it escaped on the way back.
    let text = "\\\"".repeat(262_000);
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\
         \"arguments\":{{\"a\":\"{text}{text}\"}}}}}}"
    );
    assert!(body.len() > 1_048_000 && body.len() <= 1_048_576, "{}", body.len());
    let answer = send(&server, &[("MCP-Protocol-Version", LEGACY)], &body);
    let back = &result(&answer)["structuredContent"]["result"]["echo"]["a"];
    assert_eq!(back.as_str().map(str::len), Some(524_000));
}

/// However a call ends, it ends in a result; only an unknown tool is the protocol's error.
#[test]
fn every_end_is_told() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    for (action, code, outcome) in [
        ("fail", "handler_failed", "failed"),
        ("panic", "handler_failed", "failed"),
        ("unknown", "indeterminate", "indeterminate"),
        ("panic_once", "indeterminate", "indeterminate"),
    ] {
        let named = json!({"openexec/nonce": action});
        let params = json!({"name": action, "_meta": meta(json!({}), named)});
        let first = modern(&server, "tools/call", &params);
        let ended = result(&first);
        assert_eq!(ended["isError"], true, "{ended}");
        let body = &ended["structuredContent"];
        assert_eq!((&body["code"], &body["outcome"]), (&json!(code), &json!(outcome)), "{ended}");
        assert!(body.get("approved").is_none(), "it was no refusal: {ended}");
        assert_receipt(body);
        let again = modern(&server, "tools/call", &params);
        let text = again.text().replacen(",\"openexec/replayed\":true", "", 1);
        assert!(text.len() < again.body.len(), "it is marked");
        assert_eq!(text, first.text(), "the first answer again");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    let params = json!({"name": "nope", "_meta": meta(json!({}), json!({"openexec/nonce": "x"}))});
    let said = error(&modern(&server, "tools/call", &params), 400, -32602);
    assert_eq!(said["message"], "Unknown tool: nope");
    assert_eq!(said["data"]["code"], "unknown_action");
    assert_receipt(&said["data"]);
    assert_eq!(server.metric("openexec_refusals_total{code=\"unknown_action\"}"), 1);
    error(&legacy(&server, "tools/call", &json!({"name": "nope"})), 200, -32602);
    let bad_name = json!({"name": "a b", "_meta": meta(json!({}), json!({}))});
    let said = error(&modern(&server, "tools/call", &bad_name), 400, -32602);
    assert_eq!(said["data"]["code"], "invalid_request");

    assert_eq!(common::cli(&scratch, &[], &["freeze", "--reason", "maintenance"]).code, 0);
    let frozen = json!({"name": "see", "_meta": meta(json!({}), json!({}))});
    let body = refused(&modern(&server, "tools/call", &frozen), "frozen");
    assert_eq!(body["detail"], "Execution is frozen: maintenance");
}

/// The refusal says what has to be signed, to a client that could show a form as well: nobody is
/// asked through a client whether to approve.
#[test]
fn a_call_that_lacks_approvals_is_pending_and_nobody_is_asked_through_the_client() {
    let (_scratch, server) = clawshield();
    let payload = json!({"msg": "hello world"});
    let minted = Minted::of("echo", &payload);
    let id = sha256(&canonical(&json!({"action": "echo", "nonce": "n", "payload": payload})));
    let call = |more: Value| {
        let named = json!({"openexec/nonce": "n"});
        let mut params = json!({"name": "echo", "arguments": payload,
                                "_meta": meta(json!({"elicitation": {"form": {}}}), named)});
        params.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        params
    };
    // What answered such a form means nothing here.
    let accepted = json!({"inputResponses": {"approval": {"action": "accept",
        "content": {"approval": minted.sign().to_string()}}}, "requestState": format!("{id}:n")});
    for mut params in [call(json!({})), call(accepted)] {
        let modern = modern(&server, "tools/call", &params);
        assert_eq!(result(&modern)["resultType"], "complete");
        params["_meta"] = json!({"openexec/nonce": "n"});
        for answer in [modern, legacy(&server, "tools/call", &params)] {
            let pending = result(&answer);
            let body = &pending["structuredContent"];
            assert_eq!(
                (body, &pending["isError"]),
                (&json!({"id": id, "state": "pending"}), &json!(false))
            );
            let [text, hint] =
                [0, 1].map(|at| pending["content"][at]["text"].as_str().expect("a text"));
            assert_eq!(text, canonical(body));
            assert!(
                hint.contains("needs 1 approval(s)") && hint.contains("openexec_proposal"),
                "{hint}"
            );
            assert_eq!(
                (pending["_meta"]["openexec/nonce"].as_str(), answer.header("location")),
                (Some("n"), None)
            );
        }
    }
    let approved =
        meta(json!({}), json!({"openexec/nonce": "n", "openexec/approval": minted.sign()}));
    let params = call(json!({"_meta": approved}));
    assert_eq!(result(&modern(&server, "tools/call", &params))["isError"], false);
    // The answer was lost: the same call needs no approval.
    let again = modern(&server, "tools/call", &call(json!({})));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(server.runs("echo"), 1);
}

#[test]
fn a_pending_call_executes_by_itself_and_can_be_followed() {
    let scratch = Scratch::new();
    let approvals = scratch.join("approvals");
    std::fs::create_dir(&approvals).expect("made");
    let keys = scratch.join("keys.json");
    let key = |seed| json!({"name": format!("key-{seed}"), "public_key": public_pem(seed)});
    let file = json!({"keys": [key(1), key(2)], "required": {"*": 2}});
    common::private_file(&keys, &file.to_string());
    let shown = |path: &std::path::Path| path.display().to_string();
    let (approvals_dir, keys) = (shown(&approvals), shown(&keys));
    let server = start(
        &scratch,
        &[
            ("OPENEXEC_MODE", "clawshield"),
            ("CLAWSHIELD_TENANT_ID", TENANT),
            ("OPENEXEC_KEYS_FILE", &keys),
            ("OPENEXEC_APPROVALS_DIR", &approvals_dir),
        ],
    );
    let payload = json!({"msg": "hello"});
    let one = Minted { key: 1, ..Minted::of("echo", &payload) }.sign();
    let two = Minted { key: 2, ..Minted::of("echo", &payload) }.sign();
    let pending = result(&echo(&server, "n", &payload, json!({})));
    assert!(
        pending["content"][1]["text"]
            .as_str()
            .is_some_and(|text| text.contains("needs 2 approval(s)")),
        "{pending}"
    );
    let id = pending["structuredContent"]["id"].as_str().expect("an id").to_owned();
    let follow = || {
        let params = json!({"name": "openexec_proposal", "arguments": {"id": id}});
        let followed = result(&legacy(&server, "tools/call", &params));
        assert_eq!(followed["isError"], false, "{followed}");
        followed["structuredContent"].clone()
    };
    let found = follow();
    assert_eq!((&found["state"], &found["asynchronous"]), (&json!("pending"), &json!(true)));
    assert_eq!(found["approvals"]["missing"]["count"], 2, "{found}");
    // Asked again it is no other, with one approval of the two as well; one that is wrong is refused.
    for more in [json!({}), json!({"openexec/approval": one})] {
        let again = result(&echo(&server, "n", &payload, more));
        assert_eq!(again["structuredContent"], pending["structuredContent"]);
    }
    let mut forged = one.clone();
    forged["tenant_id"] = "tenant-2".into();
    let forged = json!({"openexec/approval": forged});
    refused(&echo(&server, "n", &payload, forged), "approval_signature_invalid");
    refused(&echo(&server, "n", &json!({"msg": "other"}), json!({})), "nonce_conflict");
    assert_eq!((follow()["state"].clone(), server.runs("echo")), (json!("pending"), 0));

    std::fs::write(approvals.join(format!("{id}.json")), json!([one, two]).to_string())
        .expect("left");
    common::until("it executes", || follow()["state"] == "executed");
    let found = follow();
    assert_eq!(found["result"], json!({"echo": payload}));
    let answer = echo(&server, "n", &payload, json!({}));
    assert_eq!(
        (&result(&answer)["structuredContent"]["receipt"], answer.header("idempotent-replayed")),
        (&found["receipt"], Some("true"))
    );
    assert_eq!(server.runs("echo"), 1);
}

/// In demo mode what is said about approvals is ignored.
#[test]
fn demo_mode_asks_nobody() {
    let (_scratch, server) = demo();
    let answer = echo(&server, "n", &json!({}), json!({"openexec/approval": "anything"}));
    assert_eq!(result(&answer)["isError"], false);
}
