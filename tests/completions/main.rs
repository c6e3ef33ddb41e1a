//! What became of a job: by whose word it is recorded, and that nothing else is.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod hostile;
mod operator;
mod worker;

use common::{Answer, Scratch, Server, canonical, cli, sha256};
use serde_json::{Value, json};

const OUTBOX: [(&str, &str); 1] = [("OPENEXEC_OUTBOX_DIR", "outbox")];

/// A service with an empty outbox.
fn started() -> (Scratch, Server) {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.join("outbox")).expect("made");
    let server = Server::start(&scratch, &OUTBOX);
    (scratch, server)
}

/// A job in the queue `q`, executed: the answer, and its id.
fn queued(server: &Server, nonce: &str) -> (Answer, String) {
    let request =
        json!({"action": "enqueue", "payload": {"queue": "q", "job": {}}, "nonce": nonce});
    let answer = server.execute(&request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    (answer, id)
}

fn shown(server: &Server, id: &str) -> Value {
    let shown = server.get(&format!("/proposals/{id}"));
    assert_eq!(shown.status, 200, "{}", shown.text());
    shown.json()
}

/// The receipt of a completion, from the formula alone.
fn receipt(id: &str, outcome: &str, result: &Value) -> String {
    let said = canonical(&json!({"completion": {"outcome": outcome, "result": result}}));
    sha256(&format!("{id}:{said}"))
}

/// Both readers of ours take the store as it is now, and this many completions are in it.
fn assert_audited(scratch: &Scratch, completions: usize) {
    let audit = cli(scratch, &[], &["verify", "store"]);
    assert_eq!(audit.code, 0, "{}", audit.stderr);
    let mut reader = common::command("python3", scratch);
    reader.env("PATH", "/usr/bin:/bin");
    reader.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/read_store.py")).arg("store");
    let read = common::run(reader, "");
    assert_eq!(read.code, 0, "{}", read.stderr);
    let records = common::evidence::records(&scratch.join("store"));
    let is_completion = |line: &&String| line.contains("\"kind\":\"completion\"");
    assert_eq!(records.iter().filter(is_completion).count(), completions, "{records:#?}");
}

/// A report as a worker leaves it: whole or not at all.
fn report(scratch: &Scratch, queue: &str, id: &str, text: &str) {
    let outcome = scratch.join(&format!("outbox/{queue}/outcome"));
    std::fs::write(outcome.join(format!(".{id}")), text).expect("written");
    std::fs::rename(outcome.join(format!(".{id}")), outcome.join(format!("{id}.json")))
        .expect("renamed");
}

fn said(outcome: &str, result: &Value) -> String {
    json!({"outcome": outcome, "result": result}).to_string()
}

/// Whether the service has taken the report away.
fn is_taken(scratch: &Scratch, queue: &str, id: &str) -> bool {
    let path = format!("outbox/{queue}/outcome/{id}.json");
    std::fs::symlink_metadata(scratch.join(&path)).is_err()
}

fn take(scratch: &Scratch, queue: &str, id: &str, text: &str) {
    report(scratch, queue, id, text);
    common::until("the report is taken away", || is_taken(scratch, queue, id));
}

/// The names in `outcome/ignored/`.
fn ignored(scratch: &Scratch, queue: &str) -> Vec<String> {
    let path = scratch.join(&format!("outbox/{queue}/outcome/ignored"));
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}
