//! Callers: who may ask what, with the real binary over real sockets. Here is what all parts of it share.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod file;
mod head;
mod lists;
mod persons;
mod records;
mod visible;
mod withdrawn;

use std::path::PathBuf;

use common::approvals;
use common::{Answer, Scratch, Server, exchange, private_file, sha256};
use serde_json::{Value, json};

#[test]
fn serve() {
    common::handlers::serve();
}

/// Two agents, one that may only add, an approver and a reader.
pub const CALLERS: [(&str, &str); 5] = [
    ("agent-7", r#"["propose"]"#),
    ("agent-8", r#"["propose"]"#),
    ("adder", r#"["propose"]"#),
    ("ann", r#"["approve"]"#),
    ("auditor", r#"["read"]"#),
];

/// Long, and of no other caller.
pub fn token(name: &str) -> String {
    format!("openexec_{}", sha256(&format!("token of {name}")))
}

pub fn entry(name: &str, may: &str) -> Value {
    let mut entry = json!({"name": name, "token_sha256": sha256(&token(name))});
    entry["may"] = serde_json::from_str(may).expect("JSON");
    if name == "adder" {
        entry["actions"] = json!(["add"]);
    }
    entry
}

/// The file of these callers.
pub fn file(scratch: &Scratch, callers: &[Value]) -> PathBuf {
    let path = scratch.join("callers.json");
    let _ = std::fs::remove_file(&path);
    private_file(&path, &json!({ "callers": callers }).to_string());
    path
}

pub fn known() -> Vec<Value> {
    CALLERS.iter().map(|(name, may)| entry(name, may)).collect()
}

/// A service in demo mode with [`CALLERS`].
pub fn start(scratch: &Scratch) -> Server {
    let path = file(scratch, &known());
    Server::start(scratch, &[("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))])
}

/// A service in clawshield mode with these callers; and its settings.
pub fn start_claw(scratch: &Scratch, callers: &[Value]) -> (Server, Vec<(String, String)>) {
    let path = file(scratch, callers);
    let mut settings = approvals::settings();
    settings.push(("OPENEXEC_CALLERS_FILE".to_owned(), path.to_str().expect("UTF-8").to_owned()));
    (approvals::start(scratch, &approvals::borrowed(&settings)), settings)
}

/// A request with these header lines, each ended.
pub fn send(server: &Server, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let length = if method == "POST" {
        format!("Content-Length: {}\r\n", body.len())
    } else {
        String::new()
    };
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
    exchange(&server.address, request.as_bytes())
}

pub fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(name))
}

pub fn get_as(server: &Server, name: &str, target: &str) -> Answer {
    send(server, "GET", target, &bearer(name), "")
}

pub fn post_as(server: &Server, name: &str, target: &str, body: &str) -> Answer {
    let headers = format!("{}Content-Type: application/json\r\n", bearer(name));
    send(server, "POST", target, &headers, body)
}

pub fn execute_as(server: &Server, name: &str, action: &str, nonce: &str) -> Answer {
    let body = json!({"action": action, "payload": {}, "nonce": nonce}).to_string();
    post_as(server, name, "/execute", &body)
}
