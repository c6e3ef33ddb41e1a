//! `GET /openapi.json` against the program: every route, status, code and limit is in it and no
//! other, its examples are true, and what it says of the handlers is what `/actions`, the `tools`
//! array and the MCP list say. `tests/python/openapi.py` sends what follows from it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, Schemas};
use common::approvals::{Minted, borrowed, settings, start};
use common::evidence::{Evidence, echo};
use common::{Answer, Scratch, Server, exchange, post, private_file, sha256, until};
use openexec::core::problem::{Code, title};
use openexec::handlers::{Effect, HANDLERS};
use openexec::serve::route::{ROUTES, Row};
use serde_json::{Value, json};

/// Those of both rooms.
mod limits {
    pub use openexec::core::limits::*;
    pub use openexec::sys::limits::*;
}

/// As it is served in demo mode with every handler offered.
fn served() -> (Scratch, Server, Value) {
    let scratch = Scratch::new();
    let (outbox, files) = (scratch.join("outbox"), scratch.join("files"));
    for directory in [&outbox, &files] {
        std::fs::create_dir(directory).expect("made");
    }
    let settings = [
        ("OPENEXEC_OUTBOX_DIR", outbox.to_str().expect("UTF-8")),
        ("OPENEXEC_FILES_DIR", files.to_str().expect("UTF-8")),
    ];
    let server = Server::start(&scratch, &settings);
    let answer = server.get("/openapi.json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    (scratch, server, document)
}

fn source(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a source")
}

/// Each operation: its path, its method and itself, with the responses that it refers to.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let mut operation = operation.clone();
            for response in operation["responses"].as_object_mut().expect("object").values_mut() {
                if let Some(Value::String(target)) = response.get("$ref") {
                    *response = document.pointer(&target[1..]).expect("a response").clone();
                }
            }
            operations.push((path.clone(), method.to_uppercase(), operation));
        }
    }
    operations
}

/// Every value under a key of that name, anywhere.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if name == key {
                    found.push(value);
                }
                all(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| all(item, key, found)),
        _ => {}
    }
}

fn routes(is_there: fn(&Row) -> bool) -> BTreeSet<(String, String)> {
    let rows = ROUTES.iter().filter(|row| is_there(row));
    rows.map(|row| (row.path.to_owned(), row.method.to_owned())).collect()
}

fn shown(document: &Value) -> BTreeSet<(String, String)> {
    operations(document).into_iter().map(|(path, method, _)| (path, method)).collect()
}

#[test]
fn what_is_of_callers_is_in_it_where_it_is_asked_who_calls() {
    let scratch = Scratch::new();
    let file = scratch.join("callers.json");
    let token = sha256("token");
    let reader =
        format!(r#"{{"callers":[{{"name":"reader","token_sha256":"{token}","may":["read"]}}]}}"#);
    private_file(&file, &reader);
    let server =
        Server::start(&scratch, &[("OPENEXEC_CALLERS_FILE", file.to_str().expect("UTF-8"))]);
    let request =
        b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n\r\n";
    assert_eq!(shown(&exchange(&server.address, request).json()), routes(|_| true));
}

#[test]
fn every_route_is_in_it() {
    let (_scratch, server, document) = served();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(routes(|_| true).len(), ROUTES.len(), "a path is there twice");
    assert_eq!(shown(&document), routes(|row| !row.is_of_callers));
    for (path, method, operation) in operations(&document) {
        assert!(operation["operationId"].is_string() && operation["summary"].is_string());
        assert!(operation["responses"].get("200").is_some(), "{path}");
        assert!(operation["responses"].get("default").is_some(), "{path}");
        let path = path.replace("{exec_id}", &"0".repeat(64));
        let answer = match method.as_str() {
            "GET" => server.get(&path),
            // Where nobody is asked who calls, nothing is anybody's own.
            "DELETE" => continue,
            _ => server.post(&path, "{}"),
        };
        assert_ne!(answer.status, 405, "{path}");
    }
}

#[test]
fn every_code_is_in_it_and_no_other() {
    let (_scratch, _server, document) = served();
    let listed = document["components"]["schemas"]["Code"]["oneOf"].as_array().expect("codes");
    let listed: Vec<(String, String)> = listed
        .iter()
        .map(|code| {
            let text = |name: &str| code[name].as_str().expect("text").to_owned();
            (text("const"), text("description"))
        })
        .collect();
    let names: BTreeSet<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), listed.len(), "a code is there twice");
    let expected: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(names, expected);
    // Each is used by a response of its status, or by the one that stands for all routes.
    let default = document["components"]["responses"]["Default"].to_string();
    let responses: Vec<(String, String)> = operations(&document)
        .iter()
        .flat_map(|(_, _, operation)| operation["responses"].as_object().expect("object").clone())
        .filter(|(status, _)| status != "default")
        .map(|(status, response)| (status, response.to_string()))
        .filter(|(_, response)| response.contains("application/problem+json"))
        .collect();
    for (name, description) in &listed {
        let (status, sentence) = description.split_once(": ").expect("a status");
        assert!(!sentence.is_empty(), "{name}");
        let quoted = format!("\"{name}\"");
        let in_default = default.contains(&quoted);
        let of_status = responses.iter().any(|(at, text)| at == status && text.contains(&quoted));
        assert!(in_default || of_status, "{name} is in no response of {status}");
        for (at, text) in &responses {
            assert!(at == status || !text.contains(&quoted), "{name} is in a response of {at}");
        }
        let code = Code::ALL.iter().find(|code| code.name() == name);
        assert_eq!(code.map(|code| code.status().to_string()).as_deref(), Some(status), "{name}");
    }
    // And the reasons inside results: those that the page lists.
    let page = source("docs/http.md");
    let words = page.split("\n## Reasons in a result\n").nth(1).expect("a section");
    let words = words.split("\n## ").next().expect("its text").split('`').skip(1).step_by(2);
    let reasons = &document["components"]["schemas"]["Reason"]["properties"]["code"]["enum"];
    let reasons = reasons.as_array().expect("an array").iter().filter_map(Value::as_str);
    let words: BTreeSet<&str> =
        words.filter(|word| !["failed", "indeterminate"].contains(word)).collect();
    assert_eq!(reasons.collect::<BTreeSet<&str>>(), words);
    assert!(words.len() >= 8, "{words:?}");
}

#[test]
fn every_status_is_in_it_and_no_other() {
    let (_scratch, _server, document) = served();
    let mut shown: BTreeSet<u16> = operations(&document)
        .iter()
        .flat_map(|(_, _, operation)| operation["responses"].as_object().expect("object").clone())
        .filter_map(|(status, _)| status.parse().ok())
        .collect();
    for code in document["components"]["schemas"]["Code"]["oneOf"].as_array().expect("codes") {
        let status = code["description"].as_str().and_then(|text| text.get(..3));
        shown.insert(status.and_then(|text| text.parse().ok()).expect("a status"));
    }
    let mut in_use: BTreeSet<u16> = Code::ALL.iter().map(|code| code.status()).collect();
    in_use.extend([200, 202, 304]);
    assert_eq!(shown, in_use);
    for status in in_use {
        assert_ne!(title(status), "Error", "{status}");
    }
}

#[test]
fn its_limits_are_those_of_the_program() {
    let (_scratch, _server, document) = served();
    let limits = document["x-limits"].as_object().expect("limits");
    macro_rules! known {
        ($($name:ident)*) => { [$((stringify!($name), limits::$name as u64)),*] };
    }
    let known = known!(
        HEAD_BYTES_MAX HEADER_LINES_MAX BODY_BYTES_MAX HEAD_DEADLINE_MS BODY_DEADLINE_MS JSON_DEPTH_MAX
        JSON_VALUES_MAX JSON_OBJECT_VALUES NUMBER_BYTES_MAX PAYLOAD_BYTES_MAX ACTION_BYTES_MAX
        NONCE_BYTES_MAX ARTIFACTS_MAX RESULT_BYTES_MAX MCP_ID_BYTES_MAX
    );
    for (name, number) in known {
        assert_eq!(limits[name], number, "{name}");
    }
    assert_eq!(limits.len(), known.len());
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Nonce"]["maxLength"], limits::NONCE_BYTES_MAX);
    assert_eq!(schemas["Approvals"]["anyOf"][1]["maxItems"], limits::ARTIFACTS_MAX);
    assert_eq!(
        schemas["Action"]["pattern"],
        format!("^[A-Za-z0-9_.-]{{1,{}}}$", limits::ACTION_BYTES_MAX)
    );
    // With its quotation marks.
    assert_eq!(schemas["McpId"]["anyOf"][0]["maxLength"], limits::MCP_ID_BYTES_MAX - 2);
    let number = &schemas["Json"]["anyOf"][1];
    assert_eq!(number["maximum"].as_f64(), Some(limits::NUMBER_MAGNITUDE_MAX));
    assert_eq!(number["minimum"].as_f64(), Some(-limits::NUMBER_MAGNITUDE_MAX));
    let said = schemas["Json"]["description"].as_str().expect("text").replace(',', "");
    for number in [limits::JSON_DEPTH_MAX, limits::JSON_VALUES_MAX, limits::JSON_OBJECT_VALUES] {
        assert!(said.contains(&number.to_string()), "{number} in {said}");
    }
    let codes = schemas["Code"].to_string().replace(',', "");
    for part in [
        format!("over {} KiB or {} lines", limits::HEAD_BYTES_MAX / 1024, limits::HEADER_LINES_MAX),
        format!(
            "over {} s or the body over {} s",
            limits::HEAD_DEADLINE_MS / 1000,
            limits::BODY_DEADLINE_MS / 1000
        ),
        format!(
            "{} values an object counted as {}",
            limits::JSON_VALUES_MAX,
            limits::JSON_OBJECT_VALUES
        ),
        format!("over {} bytes; send it", limits::NUMBER_BYTES_MAX),
        format!("more than {} s in the future", limits::CLOCK_SKEW_SECONDS),
    ] {
        assert!(codes.contains(&part), "{part}");
    }
}

/// Judges answers by the document's own schemas, each compiled as a part of it.
struct Judge {
    document: Value,
}

impl Judge {
    fn schema(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let mut compiler = Compiler::new();
        let mut schemas = Schemas::new();
        compiler.add_resource("openapi.json", self.document.clone()).expect("a resource");
        let index = compiler
            .compile(&format!("openapi.json#{pointer}"), &mut schemas)
            .unwrap_or_else(|error| panic!("{pointer}: {error}"));
        schemas.validate(value, index).map_err(|error| error.to_string())
    }

    /// Holds an answer to what the document says of the operation.
    fn answer(&self, path: &str, method: &str, answer: &Answer) {
        let escaped = path.replace('~', "~0").replace('/', "~1");
        let operation = &self.document["paths"][path][method];
        let status = answer.status.to_string();
        let response = &operation["responses"][&status];
        let pointer = match response.get("$ref").and_then(Value::as_str) {
            Some(target) => target[1..].to_owned(),
            None if response.is_object() => format!("/paths/{escaped}/{method}/responses/{status}"),
            None => "/components/responses/Default".to_owned(),
        };
        let response = self.document.pointer(&pointer).expect("a response");
        if response.get("content").is_none() {
            assert_eq!(answer.body, b"", "{pointer}");
            return;
        }
        let media_type = answer.header("content-type").expect("a type");
        let media_type = media_type.split(';').next().expect("an essence");
        let content = &response["content"][media_type];
        assert!(content.is_object(), "{media_type} in {pointer}: {}", answer.text());
        let value = match media_type {
            "text/plain" => Value::from(answer.text()),
            _ => answer.json(),
        };
        let pointer = format!("{pointer}/content/{}/schema", media_type.replace('/', "~1"));
        let judged = self.schema(&pointer, &value);
        assert_eq!(judged, Ok(()), "{path} {status} {value}");
        // An answer that has a member more than the document knows of is one too many.
        if let Some(example) = content.get("example")
            && media_type == "application/json"
        {
            assert_eq!(self.schema(&pointer, example), Ok(()), "the example of {pointer}");
        }
    }
}

#[test]
fn answers_are_as_it_says() {
    let (scratch, server, document) = served();
    let judge = Judge { document };
    for (path, method, _) in operations(&judge.document) {
        if method == "GET" && !path.contains('{') {
            judge.answer(&path, "get", &server.get(&path));
        }
    }
    for format in ["openai", "openai-responses", "anthropic"] {
        judge.answer("/actions", "get", &server.get(&format!("/actions?format={format}")));
    }
    for query in ["format=", "format=x", "format=openai&format=openai", "format", "format=OpenAI"] {
        let answer = server.get(&format!("/actions?{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_request"), "{query}");
        judge.answer("/actions", "get", &answer);
    }
    let requests = [
        r#"{"action":"echo","payload":{"msg":"hello world"},"nonce":"unique-1"}"#,
        r#"{"action":"echo","payload":{"msg":"other"},"nonce":"unique-1"}"#,
        r#"{"action":"add","payload":"{\"a\": 2, \"b\": 3}","nonce":"call_Zx1"}"#,
        r#"{"action":"enqueue","payload":{"queue":"q","job":{}},"nonce":"q"}"#,
        r#"{"action":"write_file","payload":{"path":"a","content":"b"},"nonce":"w"}"#,
        r#"{"action":"write_file","payload":{"path":"no/a","content":"b"},"nonce":"w2"}"#,
        r#"{"action":"delete_file","payload":{"path":"a"},"nonce":"d"}"#,
        r#"{"action":"add","payload":{"a":"x"},"nonce":"n"}"#,
        r#"{"action":"nope","nonce":"n"}"#,
        r#"{"action":"echo"}"#,
        r#"{"action":"echo","nonce":"n","more":1}"#,
        "{",
    ];
    let mut statuses = BTreeSet::new();
    for request in requests {
        let answer = server.execute(request);
        statuses.insert(answer.status);
        judge.answer("/execute", "post", &answer);
        if answer.status != 200 && answer.status != 500 {
            continue;
        }
        let receipt =
            server.get(&format!("/receipts/{}", answer.json()["id"].as_str().expect("an id")));
        assert_eq!(receipt.body, answer.body);
        judge.answer("/receipts/{exec_id}", "get", &receipt);
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let followed = server.get(&format!("/proposals/{id}"));
        assert_eq!(followed.status, 200, "{}", followed.text());
        judge.answer("/proposals/{exec_id}", "get", &followed);
    }
    assert_eq!(statuses, [200, 400, 409, 422, 500].into());
    judge.answer(
        "/receipts/{exec_id}",
        "get",
        &server.get(&format!("/receipts/{}", "0".repeat(64))),
    );
    for id in ["x", &"0".repeat(64)] {
        let unknown = server.get(&format!("/proposals/{id}"));
        assert_eq!(unknown.code(), "not_found");
        judge.answer("/proposals/{exec_id}", "get", &unknown);
    }
    for (body, status) in [
        (r#"{"exec_id":"x","result":"{}","receipt":"x"}"#, 200),
        (r#"{"exec_id":"x","result":{},"receipt":"x","more":1}"#, 422),
        (r#"{"exec_id":1}"#, 422),
        ("[", 400),
    ] {
        let answer = server.post("/receipts/verify", body);
        assert_eq!(answer.status, status);
        judge.answer("/receipts/verify", "post", &answer);
    }
    assert_eq!(common::cli(&scratch, &[], &["freeze"]).code, 0);
    judge.answer("/execute", "post", &server.execute(r#"{"action":"echo","nonce":"f"}"#));
    // What HTTP asks for is the same everywhere.
    for request in [
        "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: evil\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n",
        "GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "PUT /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        judge.answer("/health", "get", &exchange(&server.address, request.as_bytes()));
    }
}

#[test]
fn evidence_is_as_it_says() {
    let (_scratch, server, document) = served();
    let judge = Judge { document };
    for (path, of) in [
        ("/log/checkpoint", "/log/checkpoint"),
        ("/log/consistency?from=1", "/log/consistency"),
        ("/receipts/x/proof", "/receipts/{exec_id}/proof"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.code(), "no_log_key");
        judge.answer(of, "get", &answer);
    }
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let id = echo(&server, "n", "");
    let unknown = "0".repeat(64);
    for (path, of, status) in [
        ("/log/checkpoint", "/log/checkpoint", 200),
        ("/log/consistency?from=1", "/log/consistency", 200),
        ("/log/consistency?from=2", "/log/consistency", 200),
        ("/log/consistency?from=0", "/log/consistency", 200),
        ("/log/consistency?from=9999", "/log/consistency", 422),
        ("/log/consistency", "/log/consistency", 422),
        (&format!("/receipts/{id}/proof"), "/receipts/{exec_id}/proof", 200),
        (&format!("/receipts/{unknown}/proof"), "/receipts/{exec_id}/proof", 404),
        ("/receipts/x/proof", "/receipts/{exec_id}/proof", 404),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{}", answer.text());
        judge.answer(of, "get", &answer);
    }
    std::fs::remove_file(&evidence.checkpoint).expect("removed");
    echo(&server, "more", "");
    let answer = server.get("/log/checkpoint");
    assert_eq!(answer.code(), "checkpoint_unwritable");
    judge.answer("/log/checkpoint", "get", &answer);
}

#[test]
fn mcp_answers_are_as_it_says() {
    let (_scratch, server, document) = served();
    let judge = Judge { document };
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":""}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        "{",
    ] {
        let request = String::from_utf8(post("/mcp", body.as_bytes())).expect("UTF-8");
        let request = request
            .replace("\r\nContent-Type", "\r\nMCP-Protocol-Version: 2025-11-25\r\nContent-Type");
        judge.answer("/mcp", "post", &exchange(&server.address, request.as_bytes()));
    }
    // The examples are messages of it, and are answered as messages.
    let content = "/paths/~1mcp/post/requestBody/content/application~1json";
    let examples =
        judge.document.pointer(&format!("{content}/examples")).expect("examples").clone();
    for (name, example) in examples.as_object().expect("an object") {
        let message = &example["value"];
        assert_eq!(judge.schema(&format!("{content}/schema"), message), Ok(()), "{name}");
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let body = message.to_string();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {}\r\nMcp-Name: {}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            text("/method"),
            text("/params/name"),
            body.len()
        );
        let answer = exchange(&server.address, request.as_bytes());
        assert!(answer.json()["result"].is_object(), "{}", answer.text());
        judge.answer("/mcp", "post", &answer);
    }
}

/// The examples of `/execute` are requests of it, answered as it shows.
#[test]
fn its_examples_are_true() {
    let (_scratch, server, document) = served();
    let judge = Judge { document };
    let content = "/paths/~1execute/post/requestBody/content/application~1json";
    let examples =
        judge.document.pointer(&format!("{content}/examples")).expect("examples").clone();
    for (name, example) in examples.as_object().expect("an object") {
        let request = &example["value"];
        assert_eq!(judge.schema(&format!("{content}/schema"), request), Ok(()), "{name}");
        let answer = server.execute(&request.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        if name == "echo" {
            let shown = "/paths/~1execute/post/responses/200/content/application~1json/example";
            assert_eq!(judge.document.pointer(shown), Some(&answer.json()));
        }
    }
    for wrong in [
        json!({"action": "echo"}),
        json!({"action": "nope", "nonce": "n"}),
        json!({"action": "echo", "nonce": ""}),
        json!({"action": "echo", "nonce": "n", "payload": []}),
        json!({"action": "echo", "nonce": "n", "payload": {"n": 9007199254740993_i64}}),
        json!({"action": "echo", "nonce": "n", "more": 1}),
        json!({"action": "enqueue", "nonce": "n"}),
        json!({"action": "add", "nonce": "n", "payload": {"a": "1"}}),
    ] {
        assert!(judge.schema(&format!("{content}/schema"), &wrong).is_err(), "{wrong}");
        assert_ne!(server.execute(&wrong.to_string()).status, 200, "{wrong}");
    }
    let verify = "/paths/~1receipts~1verify/post/requestBody/content/application~1json/example";
    let question = judge.document.pointer(verify).expect("an example").to_string();
    let answer = server.post("/receipts/verify", &question);
    let shown = "/paths/~1receipts~1verify/post/responses/200/content/application~1json/example";
    assert_eq!(judge.document.pointer(shown), Some(&answer.json()));
}

/// In clawshield mode it says what an approval is; in demo mode that it is ignored.
#[test]
fn it_is_of_the_mode() {
    let scratch = Scratch::new();
    let server = start(&scratch, &borrowed(&settings()));
    let judge = Judge { document: server.get("/openapi.json").json() };
    let request = |approval: Value| {
        json!({"action": "echo", "nonce": "n", "payload": {"msg": "hello world"},
               "approval_artifact": approval})
    };
    let schema = "/paths/~1execute/post/requestBody/content/application~1json/schema";
    let good = Minted::of("echo", &json!({"msg": "hello world"})).sign();
    for taken in [good.clone(), json!([good]), Value::Null] {
        assert_eq!(judge.schema(schema, &request(taken)), Ok(()));
    }
    let mut lacking = good.clone();
    lacking.as_object_mut().expect("an object").remove("signature");
    for refused in [json!({}), json!([]), json!("x"), lacking, json!([good, 1])] {
        assert!(judge.schema(schema, &request(refused.clone())).is_err(), "{refused}");
        let answer = server.execute(&request(refused).to_string());
        assert_eq!(answer.code(), "approval_malformed");
        judge.answer("/execute", "post", &answer);
    }
    // Until the next segment is there, refusals are only counted.
    until("a segment is prepared", || server.metric("openexec_segments_prepared") == 1);
    let missing =
        server.execute(r#"{"action":"echo","payload":{"msg":"hello world"},"nonce":"unique-1"}"#);
    judge.answer("/execute", "post", &missing);
    let shown = "/paths/~1execute/post/responses/403/content/application~1problem+json/example";
    assert_eq!(judge.document.pointer(shown), Some(&missing.json()));
    let done = server.execute(&request(good).to_string());
    assert_eq!(done.status, 200, "{}", done.text());
}

/// The handler array, `/actions`, the `tools` array, the MCP list, the document and the README say
/// the same, with all handlers and with some.
#[test]
fn all_lists_of_the_handlers_agree() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "echo")]);
    agree(&server, &["echo"]);
    drop(server);
    let scratch = Scratch::new();
    agree(&Server::start(&scratch, &[]), &["echo", "add"]);
    let (_scratch, server, _) = served();
    let names: Vec<&str> = HANDLERS.iter().map(|handler| handler.action).collect();
    agree(&server, &names);
    let readme = source("docs/handlers.md");
    let handlers =
        readme.split("\n## Built in\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows: Vec<(&str, &str)> = handlers
        .expect("a section")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" | ")?.0)))
        .filter(|(name, _)| !["pure", "idempotent", "once"].contains(name))
        .take(HANDLERS.len())
        .collect();
    let expected: Vec<(&str, &str)> =
        HANDLERS.iter().map(|handler| (handler.action, handler.effect.name())).collect();
    assert_eq!(rows, expected);
}

fn agree(server: &Server, offered: &[&str]) {
    let actions = server.get("/actions").json();
    let actions = actions["actions"].as_array().expect("an array");
    let all: Vec<&str> =
        actions.iter().map(|action| action["action"].as_str().expect("a name")).collect();
    assert_eq!(all, HANDLERS.iter().map(|handler| handler.action).collect::<Vec<_>>());
    let allowed: Vec<&Value> = actions.iter().filter(|action| action["allowed"] == true).collect();
    assert_eq!(allowed.iter().map(|action| &action["action"]).collect::<Vec<_>>(), offered);

    let schema = |action: &Value| {
        let mut schema = action["payload_schema"].as_object().expect("a schema").clone();
        schema.remove("$schema");
        schema
    };
    for format in ["openai", "openai-responses", "anthropic"] {
        let tools = server.get(&format!("/actions?format={format}")).json();
        let expected = allowed.iter().map(|action| {
            let (name, about, schema) = (&action["action"], &action["summary"], schema(action));
            let function = json!({"name": name, "description": about, "parameters": schema,
                                  "strict": false});
            match format {
                "openai" => json!({"type": "function", "function": function}),
                "anthropic" => json!({"name": name, "description": about, "input_schema": schema}),
                _ => {
                    let mut tool = function;
                    tool["type"] = json!("function");
                    tool
                }
            }
        });
        assert_eq!(tools, expected.collect::<Value>(), "{format}");
    }

    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let request = String::from_utf8(post("/mcp", list.as_bytes())).expect("UTF-8");
    let request =
        request.replace("\r\nContent-Type", "\r\nMCP-Protocol-Version: 2025-11-25\r\nContent-Type");
    let list = exchange(&server.address, request.as_bytes()).json();
    let list = list["result"]["tools"].as_array().expect("tools");
    let document = server.get("/openapi.json").json();
    let schemas = &document["components"]["schemas"];
    let mut tools = offered.to_vec();
    tools.push("openexec_proposal");
    assert_eq!(schemas["ToolName"], json!({"enum": tools}));
    let named = |part: &str| -> BTreeSet<String> {
        let names = schemas.as_object().expect("schemas").keys();
        names.filter_map(|name| name.strip_prefix(part)).map(str::to_owned).collect()
    };
    let expected: BTreeSet<String> = offered.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!((named("payload."), named("result.")), (expected.clone(), expected));
    let listed: Vec<_> = list.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(json!(listed), json!(tools));
    for (at, name) in offered.iter().enumerate() {
        let handler = HANDLERS.iter().find(|handler| handler.action == *name).expect("a handler");
        let (tool, action) = (&list[at], allowed[at]);
        assert_eq!((&tool["name"], &tool["description"]), (&action["action"], &action["summary"]));
        assert_eq!(tool["inputSchema"], json!(schema(action)));
        assert_eq!(action["effect"], handler.effect.name());
        let pure = handler.effect == Effect::Pure;
        let hints = json!({"readOnlyHint": pure, "idempotentHint": pure, "destructiveHint": !pure});
        assert_eq!(tool["annotations"], hints);
        let result: Value = serde_json::from_str(handler.result_schema).expect("JSON");
        assert_eq!(tool["outputSchema"]["anyOf"][0]["properties"]["result"], result);
        assert_eq!(schemas[format!("result.{name}")], result);
        assert_eq!(schemas[format!("payload.{name}")], json!(schema(action)));
        let variant = |of: &str, member: &str| {
            let variants = schemas[of]["oneOf"].as_array().expect("variants");
            assert_eq!(variants.len(), offered.len());
            let found = variants.iter().find(|one| one["properties"]["action"]["const"] == *name);
            found.expect("a variant")["properties"][member].to_string()
        };
        assert!(variant("ExecuteRequest", "payload").contains(&format!("/payload.{name}\"")));
        assert!(variant("Executed", "result").contains(&format!("/result.{name}\"")));
    }
    // Everything that is referred to is there.
    let mut references = Vec::new();
    all_references(&document, &mut references);
    assert!(references.len() > 90, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference inside");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn all_references<'a>(document: &'a Value, references: &mut Vec<&'a str>) {
    let mut found = Vec::new();
    all(document, "$ref", &mut found);
    references.extend(found.into_iter().filter_map(Value::as_str));
}
