//! `POST /approvals`: a signed yes is recorded of one pending proposal, counts with all others, and whatever differs
//! from one is none. Every attack on an approval goes through each door by which one comes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod codes;
mod counting;
mod races;

use std::path::PathBuf;
use std::sync::Barrier;

use common::approvals::{Minted, OPS, TENANT, borrowed, private_key, public_pem, start};
use common::signer::mint;
use common::{
    Answer, Scratch, Server, canonical, cli, exec_id as id, hashed, is_said, no_attempt,
    private_file, problem, refusal, sha256, until,
};
use ed25519_compact::{KeyPair, Seed};
use openexec::core::base64;
use openexec::core::hash::unhex;
use openexec::core::limits::APPROVALS_OF_A_KEY_MAX;
use openexec::core::time::Time;
use openexec::sys::clock;
use serde_json::{Value, json};

const BOB: u8 = 2;

/// `echo` and `once`-like `enqueue` take two of ops, bob, eve; `add` takes one.
struct Service {
    scratch: Scratch,
    settings: Vec<(String, String)>,
    server: Server,
    directory: PathBuf,
}

impl Service {
    fn new(more: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let (directory, keys) = (scratch.join("approvals"), scratch.join("keys.json"));
        std::fs::create_dir(&directory).expect("made");
        std::fs::create_dir(scratch.join("outbox")).expect("made");
        private_file(&keys, &keys_file().to_string());
        let (keys, shown) = (keys.display().to_string(), directory.display().to_string());
        let own = [
            ("OPENEXEC_MODE", "clawshield"),
            ("CLAWSHIELD_TENANT_ID", TENANT),
            ("OPENEXEC_KEYS_FILE", &keys),
            ("OPENEXEC_APPROVALS_DIR", &shown),
            ("OPENEXEC_OUTBOX_DIR", "outbox"),
            ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "700"),
        ];
        let all = own.iter().chain(more);
        let settings: Vec<_> =
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let server = start(&scratch, &borrowed(&settings));
        Service { scratch, settings, server, directory }
    }

    fn restart(&mut self) {
        self.server.kill();
        self.server = Server::start(&self.scratch, &borrowed(&self.settings));
    }

    fn ask(&self, body: &Value) -> Answer {
        self.server.execute(&body.to_string())
    }

    /// Proposes it so that it executes by itself.
    fn promised(&self, body: &Value) -> String {
        let text = body.to_string();
        let request = format!(
            "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Prefer: respond-async\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        let answer = common::exchange(&self.server.address, request.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        id(body)
    }

    fn asked(&self, body: &Value) -> String {
        refusal(&self.ask(body), 403, "approval_missing");
        id(body)
    }

    fn approve(&self, approvals: &Value) -> Answer {
        self.server.post("/approvals", &approvals.to_string())
    }

    fn follow(&self, id: &str) -> Value {
        self.server.get(&format!("/proposals/{id}")).json()
    }

    fn drop_file(&self, hash: &str, content: &Value) -> PathBuf {
        let (path, unfinished) =
            (self.directory.join(format!("{hash}.json")), self.scratch.join("unfinished"));
        std::fs::write(&unfinished, content.to_string()).expect("written");
        std::fs::rename(&unfinished, &path).expect("renamed");
        path
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        let lines = common::evidence::records(&self.server.store);
        let read = |line: &String| serde_json::from_str::<Value>(line).expect("JSON");
        lines.iter().map(read).filter(|record| record["kind"] == kind).collect()
    }

    fn audit(&self) {
        let audited = cli(&self.scratch, &borrowed(&self.settings), &["verify"]);
        assert_eq!(audited.code, 0, "{}{}", audited.stdout, audited.stderr);
        let reader = std::process::Command::new("python3")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/docs/read_store.py")])
            .arg(&self.server.store)
            .output()
            .expect("run");
        assert!(reader.status.success(), "{}", String::from_utf8_lossy(&reader.stderr));
    }
}

fn keys_file() -> Value {
    json!({
        "keys": [
            {"name": "ops", "public_key": public_pem(OPS)},
            {"name": "bob", "public_key": public_pem(BOB)},
            {"name": "eve", "public_key": public_pem(3)},
            {"name": "adds", "public_key": public_pem(4), "actions": ["add"]},
            {"name": "gone", "public_key": public_pem(5), "not_after": "2020-01-01T00:00:00Z"},
        ],
        "required": {"echo": 2, "enqueue": 2, "*": 1},
    })
}

fn echo(nonce: &str) -> Value {
    json!({"action": "echo", "nonce": nonce, "payload": {"msg": nonce}})
}

fn add(nonce: &str) -> Value {
    json!({"action": "add", "nonce": nonce, "payload": {"a": 1}})
}

fn action_hash(body: &Value) -> String {
    sha256(&canonical(&json!({"action": body["action"], "payload": body["payload"]})))
}

/// An approval of this one alone.
fn yes(key: u8, body: &Value) -> Value {
    Minted { key, ..Minted::hashed(&hashed(body)) }.sign()
}

/// An approval of its action and payload.
fn yes_to_any(key: u8, body: &Value) -> Value {
    Minted { key, ..Minted::of(body["action"].as_str().expect("text"), &body["payload"]) }.sign()
}
