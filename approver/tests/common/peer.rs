//! Somebody who answers as the service, or as an attacker who took its place: scripted, and remembering what it heard.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use openexec::core::hash::hex;
use openexec::core::receipt;
use serde_json::{Value, json};

/// Whole answers by method and path with its query, `GET /actions`.
pub type Script = BTreeMap<String, Vec<u8>>;

pub struct Peer {
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

pub fn answer(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One of money.
pub fn refund() -> (String, Value) {
    proposal("n1", &json!({"amount": 4900, "currency": "EUR", "to": "Gr\u{fc}n \u{5d0}"}))
}

/// A proposal as the service says it.
pub fn proposal(nonce: &str, payload: &Value) -> (String, Value) {
    let canonical = openexec::core::json::canonical::to_string(payload);
    let id = hex(&receipt::exec_id("refund", nonce, &canonical));
    let said = json!({
        "action": "refund", "action_hash": hex(&receipt::action_hash("refund", &canonical)),
        "approvals": {"have": [{"key": "alice", "until": "2999-01-01T00:00:00Z"}], "missing": {"count": 1, "groups": {"finance": 1}}},
        "asked_at": "2026-01-01T00:00:00.000000Z", "asynchronous": true, "caller": "agent-7",
        "expires_at": "2999-01-01T00:00:00.000000Z", "id": id, "justification": "they asked\nnicely \u{202e}",
        "nonce": nonce, "payload": payload, "state": "pending", "tenant_id": "acme", "ttl_max": null,
    });
    (id, said)
}

/// A service with these proposals, which takes every approval.
pub fn service(proposals: &[(String, Value)]) -> Script {
    let mut script = Script::new();
    let listed: Vec<&Value> = proposals.iter().map(|(_, said)| said).collect();
    let list = json!({"proposals": listed, "next": null}).to_string();
    script.insert("GET /proposals?state=pending".to_owned(), answer(200, list));
    for (id, said) in proposals {
        script.insert(format!("GET /proposals/{id}"), answer(200, said.to_string()));
    }
    let schema = json!({"properties": {"amount": {
        "x-display": "money", "x-currency": "currency", "x-exponents": {"EUR": 2},
    }}});
    let actions = json!({"actions": [{"action": "refund", "payload_schema": schema}]});
    script.insert("GET /actions".to_owned(), answer(200, actions.to_string()));
    script
}

impl Peer {
    /// Answers on loopback; a `POST` without an answer of its own names the id that it is of.
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = Arc::default();
        let peer = Peer { url, heard: Arc::clone(&heard) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a client"), &script, &heard);
            }
        });
        peer
    }

    pub fn start_at(path: &Path, script: Script) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let heard = Arc::default();
        let peer = Peer { url: format!("unix:{}", path.display()), heard: Arc::clone(&heard) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a client"), &script, &heard);
            }
        });
        peer
    }

    /// The bodies that were posted there.
    pub fn posted(&self, path: &str) -> Vec<Value> {
        let heard = self.heard.lock().expect("heard");
        let at = format!("POST {path} ");
        let bodies = heard.iter().filter(|request| request.starts_with(&at));
        let body = |request: &String| request.split_once("\r\n\r\n").expect("a body").1.to_owned();
        bodies.map(|request| serde_json::from_str(&body(request)).expect("JSON")).collect()
    }

    /// Everything, heads too.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("heard").clone()
    }
}

fn serve(stream: impl Read + Write, script: &Script, heard: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            if !matches!(stream.read_line(&mut head), Ok(1..)) {
                return;
            }
        }
        for line in head.to_lowercase().lines() {
            if let Some(given) = line.strip_prefix("content-length: ") {
                length = given.parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        let body = String::from_utf8(body).expect("text");
        let target = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
        heard.lock().expect("heard").push(format!("{head}{body}"));
        let of: Value = serde_json::from_str(&body).unwrap_or_default();
        let id = of["exec_id"].as_str().or(of["action_hash"].as_str()).unwrap_or_default();
        let taken = answer(200, json!({"id": id, "state": "executing"}).to_string());
        let unknown = json!({"code": "not_found", "detail": "no \u{1b}[2J\u{202e} such thing"});
        let said = match script.get(&target) {
            Some(said) => said.clone(),
            None if target.starts_with("POST ") => taken,
            None => answer(404, unknown.to_string()),
        };
        if stream.get_mut().write_all(&said).is_err() || said.is_empty() {
            return;
        }
    }
}
