//! Actions of `OPENEXEC_ACTIONS_FILE` against the real binary: they are everywhere where a handler is, leave typed jobs
//! in queues of their own, and a file or an outbox that does not go with that does not start.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::approvals::{Minted, TENANT, public_pem, start};
use common::evidence::records;
use common::handlers::service;
use common::{Scratch, Server, cli, executed, fifo, problem, refusal, sha256};
use openexec::sys::limits::ACTIONS_FILE_BYTES_MAX;
use serde_json::{Value, json};

#[test]
fn serve() {
    common::handlers::serve();
}

fn refund(maximum: u32) -> Value {
    json!({
        "type": "object",
        "properties": {
            "order": {"type": "string", "minLength": 1, "maxLength": 40},
            "amount": {"type": "integer", "minimum": 1, "maximum": maximum, "x-display": "money",
                "x-currency": "currency", "x-exponents": {"EUR": 2, "JPY": 0}},
            "currency": {"enum": ["EUR", "JPY"]},
            "note": {"type": "string", "x-display": "text"},
        },
        "required": ["order", "amount", "currency"],
        "additionalProperties": false,
    })
}

fn declared() -> Value {
    json!({"actions": [
        {"action": "refund", "summary": "Pays back up to 500.00.", "payload_schema": refund(50_000)},
        {"action": "refund_large", "summary": "Pays back up to 10,000.00.", "payload_schema": refund(1_000_000)},
    ]})
}

/// Writes the file, makes the outbox, and returns both as settings.
fn setting(scratch: &Scratch, file: &str) -> [(&'static str, String); 2] {
    let (path, outbox) = (scratch.join("actions.json"), scratch.join("outbox"));
    fs::write(&path, file).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    fs::create_dir_all(&outbox).expect("made");
    let text = |path: &Path| path.display().to_string();
    [("OPENEXEC_ACTIONS_FILE", text(&path)), ("OPENEXEC_OUTBOX_DIR", text(&outbox))]
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn request(action: &str, payload: &Value, nonce: &str) -> String {
    json!({"action": action, "payload": payload, "nonce": nonce}).to_string()
}

#[test]
fn a_declared_action_is_wherever_a_handler_is() {
    let scratch = Scratch::new();
    let file = declared().to_string();
    let mut settings = setting(&scratch, &file).to_vec();
    let keys = scratch.join("keys.json");
    let key = |seed: u8| json!({"name": format!("key-{seed}"), "public_key": public_pem(seed)});
    let required = json!({"refund_large": 2, "*": 1});
    fs::write(&keys, json!({"keys": [key(1), key(2)], "required": required}).to_string())
        .expect("written");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("chmod");
    settings.extend([
        ("OPENEXEC_MODE", "clawshield".to_owned()),
        ("CLAWSHIELD_TENANT_ID", TENANT.to_owned()),
        ("OPENEXEC_KEYS_FILE", keys.display().to_string()),
        ("OPENEXEC_ALLOWED_ACTIONS", "echo,refund_large".to_owned()),
    ]);
    let settings = borrowed(&settings);
    let server = start(&scratch, &settings);

    let actions = server.get("/actions").json();
    let of = |name: &str| {
        let all = actions["actions"].as_array().expect("an array");
        all.iter().find(|one| one["action"] == name).expect("listed").clone()
    };
    let large = of("refund_large");
    assert_eq!(large["payload_schema"], refund(1_000_000));
    assert_eq!(large["summary"], "Pays back up to 10,000.00.");
    assert_eq!((&large["effect"], &large["allowed"]), (&json!("idempotent"), &json!(true)));
    assert_eq!(of("refund")["allowed"], false);
    for (format, name, schema) in [
        ("openai", "/1/function/name", "/1/function/parameters"),
        ("openai-responses", "/1/name", "/1/parameters"),
        ("anthropic", "/1/name", "/1/input_schema"),
    ] {
        let tools = server.get(&format!("/actions?format={format}")).json();
        assert_eq!(tools.pointer(name), Some(&json!("refund_large")), "{tools}");
        assert_eq!(tools.pointer(schema), Some(&refund(1_000_000)), "{tools}");
        assert_eq!(tools.as_array().map(Vec::len), Some(2));
    }
    let list = server.post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).json();
    assert_eq!(list.pointer("/result/tools/1/name"), Some(&json!("refund_large")), "{list}");
    assert_eq!(list.pointer("/result/tools/1/inputSchema"), Some(&refund(1_000_000)));
    let openapi = server.get("/openapi.json").json();
    assert_eq!(openapi["components"]["schemas"]["payload.refund_large"], refund(1_000_000));
    let listed = cli(&scratch, &settings, &["actions"]);
    assert!(
        listed
            .stdout
            .contains("refund_large     idempotent allowed\n    Pays back up to 10,000.00.\n"),
        "{listed:?}"
    );
    assert_eq!(cli(&scratch, &settings, &["check"]).code, 0);

    // What cannot run is not asked about; what can needs as many as the keys file says.
    let payload = json!({"order": "o-1", "amount": 60_000, "currency": "EUR", "note": null});
    let mut wrong = payload.clone();
    wrong["amount"] = json!(1_000_001);
    let refused = server.execute(&request("refund_large", &wrong, "n0"));
    let detail = refusal(&refused, 422, "invalid_payload")["detail"].clone();
    assert_eq!(detail, "amount does not keep to maximum 1000000 of its schema");
    refusal(&server.execute(&request("refund", &payload, "n0")), 403, "action_not_allowed");
    refusal(&server.execute(&request("refund_large", &payload, "n1")), 403, "approval_missing");
    let approval = |key| Minted { key, ..Minted::of("refund_large", &payload) }.sign();
    let with = |approvals: Value| {
        let request = json!({"action": "refund_large", "payload": payload, "nonce": "n1",
            "approval_artifact": approvals});
        server.execute(&request.to_string())
    };
    refusal(&with(json!([approval(1)])), 403, "approvals_insufficient");
    let body = executed(&with(json!([approval(1), approval(2)])), "refund_large", "n1", &payload);
    let id = body["id"].as_str().expect("an id");
    let job =
        fs::read_to_string(scratch.join(&format!("outbox/refund_large/{id}.json"))).expect("a job");
    let job: Value = serde_json::from_str(&job).expect("JSON");
    assert_eq!((&job["action"], &job["payload"]), (&json!("refund_large"), &payload));
    assert_eq!(body["result"]["queued"]["job"], format!("refund_large/{id}.json"));

    let policies: Vec<Value> = records(&server.store)
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|record: &Value| record["kind"] == "policy")
        .collect();
    assert_eq!((policies.len(), &policies[0]["actions"]), (1, &json!(sha256(&file))));
}

#[test]
fn own_handlers_and_declared_actions_are_there_together() {
    let scratch = Scratch::new();
    let settings = setting(&scratch, &declared().to_string());
    let mut own = service(&scratch);
    own.envs(borrowed(&settings));
    let server = Server::spawn(own, &scratch);
    let payload = json!({"order": "o-1", "amount": 1, "currency": "JPY"});
    executed(&server.execute(&request("refund", &payload, "n1")), "refund", "n1", &payload);
    executed(&server.execute(&request("count", &json!({}), "n2")), "count", "n2", &json!({}));
    refusal(
        &server.execute(&request("enqueue", &json!({"queue": "q", "job": {}}), "n3")),
        400,
        "unknown_action",
    );
}

#[test]
fn a_queue_that_is_named_as_an_action_belongs_to_it() {
    let scratch = Scratch::new();
    let settings = setting(&scratch, &declared().to_string());
    let server = Server::start(&scratch, &borrowed(&settings));
    for (queue, action) in [
        ("refund", "refund"),
        ("Refund_LARGE", "refund_large"),
        ("send_email", "send_email"),
        ("SEND_EMAIL", "send_email"),
        ("charge_card", "charge_card"),
        ("echo", "echo"),
        ("Enqueue", "enqueue"),
        ("delete_file", "delete_file"),
    ] {
        let refused =
            server.execute(&request("enqueue", &json!({"queue": queue, "job": {}}), queue));
        let detail = refusal(&refused, 422, "invalid_payload")["detail"].clone();
        assert_eq!(detail, format!("this queue takes the action {action} only"));
    }
    for queue in ["refunds", "refund-large", "openexec_proposal"] {
        let payload = json!({"queue": queue, "job": {}});
        executed(&server.execute(&request("enqueue", &payload, queue)), "enqueue", queue, &payload);
    }
    assert!(!scratch.join("outbox/refund").exists());
}

/// A job of that action, waiting, taken or done.
fn job(scratch: &Scratch, place: &str, action: &str) {
    let directory = scratch.join("outbox").join(place);
    fs::create_dir_all(&directory).expect("made");
    let text = format!(
        "{{\"action\":\"{action}\",\"approval_ids\":[],\"id\":\"00\",\"nonce\":\"n\",\"payload\":{{}}}}"
    );
    fs::write(directory.join("00.json"), text).expect("written");
}

#[test]
fn what_does_not_go_with_the_file_does_not_start() {
    type Prepare = fn(&Scratch) -> Option<String>;
    let rows: &[(&str, u8, &[&str], Prepare)] = &[
        ("nothing", 0, &[], |_| None),
        ("no action", 0, &[], |_| Some(json!({"actions": []}).to_string())),
        ("its own jobs", 0, &[], |scratch| {
            job(scratch, "refund", "refund");
            job(scratch, "refund/taken", "refund");
            None
        }),
        ("jobs of enqueue that were done", 0, &[], |scratch| {
            job(scratch, "refund/done", "enqueue");
            None
        }),
        ("jobs of enqueue in another queue", 0, &[], |scratch| {
            job(scratch, "refunds", "enqueue");
            None
        }),
        (
            "a job of enqueue",
            78,
            &["outbox/refund: ", "00.json in it is a job of enqueue"],
            |scratch| {
                job(scratch, "refund", "enqueue");
                None
            },
        ),
        ("a job of enqueue that was taken", 78, &["outbox/refund_large: ", "00.json"], |scratch| {
            job(scratch, "refund_large/taken", "enqueue");
            None
        }),
        ("a job of enqueue in another case", 78, &["outbox/REFUND: ", "00.json"], |scratch| {
            job(scratch, "REFUND", "enqueue");
            None
        }),
        ("a queue behind many others", 78, &["outbox/refund: ", "00.json"], |scratch| {
            for number in 0..100 {
                job(scratch, &format!("a{number}"), "enqueue");
            }
            job(scratch, "refund", "enqueue");
            None
        }),
        ("a queue that is a link", 78, &["outbox/refund: ", "is not a directory"], |scratch| {
            fs::create_dir(scratch.join("elsewhere")).expect("made");
            symlink(scratch.join("elsewhere"), scratch.join("outbox/refund")).expect("linked");
            None
        }),
        ("a fault", 78, &["action \"a\"", "/actions/0/payload_schema must be"], |_| {
            Some(
                json!({"actions": [{"action": "a", "summary": "S.", "payload_schema": {}}]})
                    .to_string(),
            )
        }),
        ("a name that is taken", 78, &["action \"ECHO\"", "/actions/0/action is taken"], |_| {
            Some(json!({"actions": [{"action": "ECHO", "summary": "S.", "payload_schema": refund(1)}]}).to_string())
        }),
        ("two faults", 78, &["/actions/0 must", "/actions/1 must"], |_| {
            Some(r#"{"actions":[1,2]}"#.to_owned())
        }),
        ("no JSON", 78, &["actions.json", "is not strict JSON"], |_| Some("{".to_owned())),
        ("too large", 78, &["is larger than 1048576 bytes"], |_| {
            Some(" ".repeat(ACTIONS_FILE_BYTES_MAX as usize + 1))
        }),
        ("a file that others can write", 78, &["can be written by others"], |scratch| {
            let writable = fs::Permissions::from_mode(0o664);
            fs::set_permissions(scratch.join("actions.json"), writable).expect("chmod");
            None
        }),
        ("no file", 78, &["actions.json: No such file"], |scratch| {
            fs::remove_file(scratch.join("actions.json")).expect("removed");
            None
        }),
        ("a FIFO", 78, &["is not a regular file"], |scratch| {
            fs::remove_file(scratch.join("actions.json")).expect("removed");
            fifo(&scratch.join("actions.json"));
            None
        }),
        ("a directory", 78, &["is not a regular file"], |scratch| {
            fs::remove_file(scratch.join("actions.json")).expect("removed");
            fs::create_dir(scratch.join("actions.json")).expect("made");
            None
        }),
    ];
    for (what, code, said, prepare) in rows {
        let scratch = Scratch::new();
        let settings = setting(&scratch, &declared().to_string());
        if let Some(text) = prepare(&scratch) {
            fs::write(scratch.join("actions.json"), text).expect("written");
        }
        let commands: &[&str] = if *code == 0 { &["check"] } else { &["check", "serve"] };
        for command in commands {
            let ended = cli(&scratch, &borrowed(&settings), &[command]);
            assert_eq!(ended.code, i32::from(*code), "{what}: {ended:?}");
            for text in *said {
                assert!(ended.stderr.contains(text), "{what}: {}", ended.stderr);
            }
        }
    }
}

/// Within the outbox a worker could declare actions.
#[test]
fn the_file_lies_apart() {
    let scratch = Scratch::new();
    let mut settings = setting(&scratch, &declared().to_string());
    settings[1].1 = scratch.path().display().to_string();
    let ended = cli(&scratch, &borrowed(&settings), &["check"]);
    assert!(
        ended.stderr.contains("OPENEXEC_ACTIONS_FILE lies within OPENEXEC_OUTBOX_DIR"),
        "{ended:?}"
    );
    assert_eq!(ended.code, 78);
}

#[test]
fn without_an_outbox_they_are_not_offered() {
    let scratch = Scratch::new();
    let settings = setting(&scratch, &declared().to_string());
    let settings = borrowed(&settings[..1]);
    let server = Server::start(&scratch, &settings);
    let payload = json!({"order": "o-1", "amount": 1, "currency": "JPY"});
    let refused = server.execute(&request("refund", &payload, "n1"));
    let detail = refusal(&refused, 403, "action_not_configured")["detail"].to_string();
    assert!(detail.contains("OPENEXEC_OUTBOX_DIR"), "{detail}");
    let named = [&settings[..], &[("OPENEXEC_ALLOWED_ACTIONS", "refund")]].concat();
    assert_eq!(cli(&scratch, &named, &["check"]).code, 78);
    let misspelt = [&settings[..], &[("OPENEXEC_ALLOWED_ACTIONS", "refunds")]].concat();
    let ended = cli(&scratch, &misspelt, &["check"]);
    assert!(ended.stderr.contains("refund_large") && ended.code == 78, "{ended:?}");
}

#[test]
fn a_thousand_actions_are_listed_and_called() {
    let scratch = Scratch::new();
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {"text": {"type": "string", "description": "d".repeat(600)}}});
    let one = |number| json!({"action": format!("action_{number}"), "summary": "S.", "payload_schema": schema});
    let file = json!({"actions": (0..1_000).map(one).collect::<Vec<_>>()}).to_string();
    assert!(file.len() as u64 > ACTIONS_FILE_BYTES_MAX / 2);
    let settings = setting(&scratch, &file);
    let server = Server::start(&scratch, &borrowed(&settings));
    let actions = server.get("/actions").json();
    assert_eq!(actions["actions"].as_array().map(Vec::len), Some(1_007));
    let tools = server.get("/actions?format=anthropic").json();
    assert_eq!(tools.as_array().map(Vec::len), Some(1_005));
    let openapi = server.get("/openapi.json").json();
    assert_eq!(openapi["components"]["schemas"]["payload.action_999"], schema);
    let list = server.post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).json();
    assert_eq!(list["result"]["tools"].as_array().map(Vec::len), Some(1_006));
    let payload = json!({"text": "t"});
    executed(&server.execute(&request("action_999", &payload, "n")), "action_999", "n", &payload);
    problem(&server.execute(&request("action_1000", &payload, "m")), 400, "unknown_action");
}
