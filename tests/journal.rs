//! The journal's lines about executions and decisions: one each, once it is on the disk, nothing of what was asked, and
//! nobody waits for whoever reads them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::io::Read;
use std::process::Stdio;

use common::approvals::{Minted, OPS, TENANT, borrowed, public_pem, settings, start};
use common::{Scratch, Server, cli, openexec, private_file, until};
use serde_json::{Value, json};

/// The lines with these messages, without what differs from run to run.
fn told(log: &str, messages: &[&str]) -> Vec<Value> {
    let mut lines = Vec::new();
    for line in log.lines() {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        let mut line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let object = line.as_object_mut().expect("an object");
        assert!(object.remove("at").is_some_and(|at| at.is_string()), "{object:?}");
        let message = object["message"].as_str().expect("a message").to_owned();
        if messages.contains(&message.as_str()) {
            assert_eq!(object.remove("level"), Some("info".into()));
            if matches!(&*message, "executed" | "failed" | "indeterminate") {
                let took = object.remove("milliseconds").expect("how long it took");
                assert!(took.as_u64().is_some_and(|took| took < 600_000), "{took}");
            }
            lines.push(line);
        }
    }
    lines
}

#[test]
fn an_execution_is_a_line_and_a_decision_is_a_line() {
    let scratch = Scratch::new();
    // A name that a reader of lines could take for more than a name.
    let name = "al\"},{\"key\":\"ice";
    let keys = json!({"keys": [{"name": name, "public_key": public_pem(OPS)}]});
    private_file(&scratch.join("keys"), &keys.to_string());
    let mut settings = settings();
    settings.retain(|(name, _)| name != "CLAWSHIELD_PUBLIC_KEY");
    settings.push(("OPENEXEC_KEYS_FILE".to_owned(), scratch.join("keys").display().to_string()));
    settings.push(("OPENEXEC_ALLOWED_ACTIONS".to_owned(), "echo".to_owned()));
    let server = start(&scratch, &borrowed(&settings));
    let payload = json!({"a secret": "of a payload"});
    let ask = |action: &str, nonce: &str, artifact: &Value| {
        let body = json!({"action": action, "nonce": nonce, "payload": payload, "approval_artifact": artifact});
        server.execute(&body.to_string()).json()
    };
    let asked = ask("echo", "a nonce", &Value::Null);
    let id = &asked["id"];
    // The same again is no second decision.
    assert_eq!(ask("echo", "a nonce", &Value::Null)["id"], *id);
    let artifact = Minted::of("echo", &payload).sign();
    assert_eq!(ask("echo", "a nonce", &artifact)["outcome"], "executed");
    assert_eq!(
        ask("echo", "a nonce", &artifact)["outcome"],
        "executed",
        "a replay is no execution"
    );
    let other = ask("add", "another", &Value::Null)["id"].clone();
    let over = ask("echo", "withdrawn", &Value::Null)["id"].clone();
    let withdrawn = cli(&scratch, &[], &["withdraw", over.as_str().expect("an id"), "--yes"]);
    assert_eq!(withdrawn.code, 0, "{}", withdrawn.stderr);
    let messages = ["proposed", "approved", "rejected", "refused", "executed", "withdrawn"];
    until("all is told", || server.log().contains("withdrawn"));
    let log = server.log();
    let proposed =
        |id: &Value| json!({"message": "proposed", "id": id, "action": "echo", "caller": null});
    let expected = [
        proposed(id),
        json!({"message": "executed", "id": id, "action": "echo", "caller": null, "keys": [name]}),
        json!({"message": "refused", "id": other, "action": "add", "caller": null,
               "code": "action_not_allowed"}),
        proposed(&over),
        json!({"message": "withdrawn", "id": over, "by": "operator", "code": null}),
    ];
    let lines: Vec<Value> = told(&log, &messages);
    let decided: Vec<&Value> = lines.iter().filter(|line| line["message"] != "approved").collect();
    assert_eq!(decided, expected.iter().collect::<Vec<_>>(), "{log}");
    let signature = artifact["signature"].as_str().expect("a signature");
    for secret in ["secret", "of a payload", "a nonce", "another", signature, TENANT] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn each_of_many_executions_has_its_line_of_any_size() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let mut ids = Vec::new();
    for n in 0..100 {
        let text = "x".repeat(if n % 10 == 0 { 200_000 } else { 100 });
        let body = json!({"action": "echo", "payload": {"t": text}, "nonce": format!("n{n}")});
        ids.push(server.execute(&body.to_string()).json()["id"].clone());
    }
    let body = json!({"action": "add", "payload": {"a": "no number"}, "nonce": "refused"});
    server.execute(&body.to_string());
    let lines = || told(&server.log(), &["executed", "refused"]);
    until("all is told", || lines().len() == 101);
    let lines = lines();
    assert!(lines.iter().zip(&ids).all(|(line, id)| line["id"] == *id), "{lines:?}");
    assert_eq!(lines[100]["code"], "invalid_payload");
    assert_eq!(server.metric("openexec_log_lines_dropped"), 0);
    server.kill();
    for (level, is_told) in [("error", false), ("off", false), ("info", true)] {
        let server = Server::start(&scratch, &[("OPENEXEC_LOG", level)]);
        let body = json!({"action": "echo", "payload": {}, "nonce": level});
        server.execute(&body.to_string());
        // What comes after it in the journal is there, or nothing ever comes.
        server.execute(
            &json!({"action": "echo", "payload": {}, "nonce": format!("{level} 2")}).to_string(),
        );
        if is_told {
            until("it is told", || server.log().matches("\"executed\"").count() == 2);
        }
        assert_eq!(server.log().contains("executed"), is_told, "{level}");
    }
}

#[test]
fn nobody_waits_for_who_reads_the_journal() {
    let scratch = Scratch::new();
    let mut command = openexec(&scratch);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    let mut journal = child.stderr.take().expect("piped");
    let (lock, mut address) = (scratch.join("store/LOCK"), String::new());
    until("it serves", || {
        let text = std::fs::read_to_string(&lock).unwrap_or_default();
        address = text.trim_end().split_once(' ').map_or(String::new(), |(_, at)| at.to_owned());
        !address.is_empty()
            && common::try_exchange(&address, &common::get("/ready")).is_ok_and(|a| a.status == 200)
    });
    let mut server = Server { child, address, store: scratch.join("store") };
    let mut client = common::Client::connect(&server.address);
    let mut executed = 0;
    // A pipe of 64 KiB and a queue of 1,024 are full at some time; nothing is read here.
    while server.metric("openexec_log_lines_dropped") == 0 {
        assert!(executed < 20_000, "nothing is ever dropped");
        for _ in 0..100 {
            let body = json!({"action": "echo", "payload": {}, "nonce": format!("n{executed}")});
            let answer = client.exchange(&common::post("/execute", body.to_string().as_bytes()));
            assert_eq!(answer.status, 200);
            executed += 1;
        }
    }
    assert_eq!(server.get("/health").status, 200);
    let body = json!({"action": "echo", "payload": {}, "nonce": "last"});
    assert_eq!(server.execute(&body.to_string()).status, 200);
    // Nor does it keep a process that must end.
    std::fs::remove_file(lock).expect("removed");
    let body = json!({"action": "echo", "payload": {}, "nonce": "not acknowledged"});
    assert_eq!(server.execute(&body.to_string()).code(), "outcome_unknown");
    let mut ended = None;
    until("it ends", || {
        ended = server.child.try_wait().expect("asked");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(74));
    let mut text = String::new();
    journal.read_to_string(&mut text).expect("read");
    assert!(text.contains("\"message\":\"executed\""), "{text}");
}
