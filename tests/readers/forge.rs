//! A store made from a table of records: ids, receipts and roots are computed after whatever was changed
//! in them, so that a change breaks one rule and nothing else.

use std::collections::BTreeMap;

use openexec::core::base64;
use openexec::core::hash::{hex, sha256, unhex};
use openexec::core::json::{canonical, strict};
use openexec::core::receipt;
use openexec::core::record::Commit;
use openexec::core::time::Time;
use openexec::core::tree::{Tree, leaf_hash};
use openexec::serve::front::legacy;
use openexec::store::segment;
use serde_json::{Value, json};

use crate::common::approvals::private_key;
use crate::common::signer::mint;

/// Small, for there are many stores; the reader is told.
pub const SEGMENT: usize = 64 * 1024;
pub const SECTOR: usize = 512;
pub const CREATED: &str = "2026-03-01T00:00:00.000000Z";
pub const AT: &str = "2026-03-01T12:00:00.000000Z";
pub const TENANT: &str = "tenant-1";
/// Seeds of the keys that approve, and how the keys file names them.
pub const OPS: u8 = 1;
pub const AUDIT: u8 = 2;
pub const NAMES: [(u8, &str); 2] = [(OPS, "ops"), (AUDIT, "audit")];

pub type Files = BTreeMap<String, Vec<u8>>;
/// Segments of batches of lines, segment and commit lines among them.
pub type Frame = Vec<Vec<Vec<String>>>;

/// One record, and by what name a case finds it.
#[derive(Clone)]
pub struct Rec {
    pub label: &'static str,
    pub value: Value,
    /// The line where it is not the canonical text of the value.
    pub text: Option<String>,
}

/// Batches of records.
#[derive(Clone)]
pub struct Model {
    pub batches: Vec<Vec<Rec>>,
    /// The batches with which a segment begins.
    pub begins: Vec<usize>,
}

impl Model {
    pub fn place(&self, label: &str) -> (usize, usize) {
        let places = self.batches.iter().enumerate().flat_map(|(batch, records)| {
            records.iter().enumerate().map(move |(n, record)| ((batch, n), record.label))
        });
        let mut found = places.filter(|(_, known)| *known == label);
        found.next().unwrap_or_else(|| panic!("no record {label}")).0
    }

    pub fn rec(&mut self, label: &str) -> &mut Rec {
        let (batch, n) = self.place(label);
        &mut self.batches[batch][n]
    }

    pub fn of(&mut self, label: &str) -> &mut Value {
        &mut self.rec(label).value
    }

    pub fn set(&mut self, label: &str, field: &str, value: Value) {
        self.of(label)[field] = value;
    }

    pub fn remove(&mut self, label: &str) -> Rec {
        let (batch, n) = self.place(label);
        self.batches[batch].remove(n)
    }

    /// In a batch of its own, before the one with `label`.
    pub fn insert_before(&mut self, label: &str, record: Rec) {
        let (batch, _) = self.place(label);
        self.insert(batch, vec![record]);
    }

    pub fn insert(&mut self, batch: usize, records: Vec<Rec>) {
        self.batches.insert(batch, records);
        self.begins.iter_mut().filter(|begin| **begin >= batch.max(1)).for_each(|b| *b += 1);
    }

    /// Computes what follows from the records: ids, and the receipts over them.
    pub fn seal(&mut self) {
        let mut ids = BTreeMap::new();
        for record in self.batches.iter_mut().flatten() {
            let value = &mut record.value;
            let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
            let old = text(value, "id");
            if value.get("payload").is_some() {
                let payload = canonical::to_string(&value["payload"]);
                let id = receipt::exec_id(&text(value, "action"), &text(value, "nonce"), &payload);
                ids.insert(old.clone(), hex(&id));
            }
            if let Some(id) = ids.get(&old).filter(|_| value.get("id").is_some()) {
                value["id"] = id.as_str().into();
            }
            let id = text(value, "id");
            match value["kind"].as_str() {
                Some("receipt") => {
                    let result = canonical::to_string(&value["result"]);
                    value["receipt"] = hex(&receipt::receipt(&id, &result)).into();
                }
                Some("refusal") => {
                    // An id that is none is what the case breaks.
                    if let Some(id) = unhex(&id) {
                        let detail = text(value, "detail");
                        let made = receipt::refusal(&id, &text(value, "code"), &detail);
                        value["receipt"] = hex(&made).into();
                    }
                }
                Some("completion") => {
                    let said = json!({"completion": {
                        "outcome": value["outcome"], "result": value["result"],
                    }});
                    let said = canonical::to_string(&said);
                    value["receipt"] = hex(&receipt::receipt(&id, &said)).into();
                }
                _ => {}
            }
        }
    }

    /// The lines, with every root and number as it must be.
    pub fn frame(&self) -> Frame {
        let store = self.batches[0].first().map(|record| record.value.clone()).unwrap_or_default();
        let mut frame: Frame = Vec::new();
        let (mut tree, mut number) = (Tree::default(), 0);
        for (place, batch) in self.batches.iter().enumerate() {
            let mut lines = Vec::new();
            if place == 0 || self.begins.contains(&place) {
                frame.push(Vec::new());
                lines.push(canonical::to_string(&json!({
                    "kind": "segment", "format": 2, "store": store["store"], "mode": store["mode"],
                    "created": store["at"], "first": tree.size(), "batch": number,
                    "root": hex(&tree.root()),
                })));
            }
            for record in batch {
                let text = record.text.clone();
                let line = text.unwrap_or_else(|| canonical::to_string(&record.value));
                tree.push(leaf_hash(line.as_bytes()));
                lines.push(line);
            }
            number += 1;
            lines.push(Commit { batch: number, size: tree.size(), root: tree.root() }.line());
            frame.last_mut().expect("a segment").push(lines);
        }
        frame
    }
}

/// The segments, each batch at a sector's start, and one made ahead.
pub fn laid_out(frame: &Frame) -> Files {
    let mut files = Files::new();
    for (number, batches) in (1..).zip(frame) {
        let mut bytes = Vec::with_capacity(SEGMENT);
        for line in batches {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), b'\n');
            bytes.extend(line.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()));
        }
        bytes.resize(SEGMENT, b'\n');
        files.insert(segment::name(number), bytes);
    }
    files
}

fn rec(label: &'static str, value: Value) -> Rec {
    Rec { label, value, text: None }
}

pub fn simple(label: &'static str, kind: &str, more: Value) -> Rec {
    let mut value = json!({"kind": kind, "at": AT});
    let fields = more.as_object().expect("fields").clone();
    value.as_object_mut().expect("an object").extend(fields);
    rec(label, value)
}

/// A claim as demo mode writes it. Every field of the kind stands here, and nowhere else.
pub fn claim(label: &'static str, effect: &str) -> Rec {
    let (payload, action) = (json!({"text": label, "é": [1, 0.5, null]}), format!("do.{effect}"));
    let id = hex(&receipt::exec_id(&action, label, &canonical::to_string(&payload)));
    let fields = json!({
        "id": id, "action": action, "payload": payload, "nonce": label, "effect": effect,
        "approval": null, "caller": "agent-7", "keys": [], "legacy": null, "place": null, "policy": 1,
    });
    simple(label, "claim", fields)
}

pub fn receipt_of(label: &'static str, claim: &Rec, outcome: &str) -> Rec {
    let why = json!({"code": "interrupted", "detail": "the process \"ended\""});
    let result = match outcome {
        "executed" => json!({"sum": 1e-7, "text": "\u{7f}\u{1f600}"}),
        outcome => json!({outcome: why}),
    };
    let id = &claim.value["id"];
    let fields = json!({"id": id, "outcome": outcome, "result": result, "receipt": "0".repeat(64)});
    simple(label, "receipt", fields)
}

pub fn retry_of(label: &'static str, claim: &Rec) -> Rec {
    simple(label, "retry", json!({"id": claim.value["id"]}))
}

pub fn refusal(label: &'static str, code: &str) -> Rec {
    let fields = json!({
        "id": "", "action": "echo", "nonce": label, "payload": {"n": 1}, "caller": "agent-7",
        "code": code, "detail": "no\n\u{1b}", "receipt": "",
    });
    simple(label, "refusal", fields)
}

pub fn completion(label: &'static str, id: &Value, by: &str, result: Value) -> Rec {
    let fields =
        json!({"id": id, "by": by, "outcome": "executed", "result": result, "receipt": ""});
    simple(label, "completion", fields)
}

/// What a claim was before it was approved.
pub fn proposal(label: &'static str, claim: &Rec) -> Rec {
    let of = |name: &str| claim.value[name].clone();
    let fields = json!({
        "id": of("id"), "action": of("action"), "payload": of("payload"), "nonce": of("nonce"),
        "caller": of("caller"), "justification": "\"why\" é", "asynchronous": false,
        "expires": "2026-03-02T12:00:00.000000Z",
    });
    simple(label, "proposal", fields)
}

/// Approvals of a proposal, and a rejection, as records: signed for what it says now.
pub fn approval_of(label: &'static str, proposal: &Value, approval: Approval) -> Rec {
    let mut claim = proposal.clone();
    approve(&mut claim, &[approval]);
    let artifact = claim["approval"][0].clone();
    let fields = json!({"id": proposal["id"], "key": claim["keys"][0], "artifact": artifact});
    simple(label, "approval", fields)
}

pub fn rejection(label: &'static str, proposal: &Value, seed: u8) -> Rec {
    let mut said = json!({
        "rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000f0", "tenant_id": TENANT,
        "exec_id": proposal["id"], "issued_at": "2026-03-01T11:59:00Z", "justification": "no",
    });
    reject(&mut said, seed);
    let (_, name) = NAMES.iter().find(|(known, _)| *known == seed).expect("a name");
    simple(label, "rejection", json!({"id": proposal["id"], "key": name, "artifact": said}))
}

/// Signs what a rejection says.
pub fn reject(said: &mut Value, seed: u8) {
    said.as_object_mut().expect("an object").remove("signature");
    let message = format!("openexec-rejection-v1\n{}", canonical::to_string(said));
    let key = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([seed; 32]));
    said["signature"] = base64::encode(&key.sk.sign(message, None)[..]).into();
}

const ACTIONS: [&str; 3] = ["do.idempotent", "do.once", "do.pure"];

/// The policy of demo mode. Every field of the kind stands here, and nowhere else.
pub fn policy(label: &'static str) -> Rec {
    let fields = json!({
        "actions": "ab".repeat(32), "allowed": null, "keys": null,
        "callers": [
            {"name": "agent-7", "may": ["propose"], "actions": ACTIONS, "person": null},
            {"name": "agent-8", "may": ["propose", "read"], "actions": null, "person": "ann"},
        ],
        "required": null,
        "tenant": null, "ttl_max": null, "version": "1.0.0 \"é\"",
    });
    simple(label, "policy", fields)
}

/// The policy of [`NAMES`]; each field of a key is there in one of its forms.
pub fn keys_of(policy: &mut Value) {
    let key = |(seed, name): &(u8, &str)| {
        json!({
            "actions": null, "application": null, "groups": [], "name": name, "not_after": null,
            "person": null, "public_key": hex(&private_key(*seed).public_key()[..]),
            "type": "ed25519", "verified": false,
        })
    };
    policy["keys"] = NAMES.iter().map(key).collect();
    policy["keys"][1]["actions"] = json!(["do.idempotent", "do.once"]);
    policy["keys"][1]["not_after"] = "2026-03-01T12:00:00.000001Z".into();
    policy["required"] = json!({"*": 1, "do.once": 2});
    policy["tenant"] = TENANT.into();
    policy["ttl_max"] = 900.into();
}

fn store(mode: &str) -> Rec {
    rec("store", json!({"kind": "store", "at": CREATED, "mode": mode, "store": "0f".repeat(16)}))
}

/// Which hash an approval is of.
#[derive(Clone, Copy)]
pub enum Of {
    Action,
    Nonce,
    Legacy,
    /// Anything else.
    Hash([u8; 32]),
}

/// How an approval is made; [`Approval::by`] gives one that holds.
#[derive(Clone, Copy)]
pub struct Approval {
    pub seed: u8,
    pub number: u8,
    pub of: Of,
    pub tenant: &'static str,
    pub issued: &'static str,
    pub expires: &'static str,
}

impl Approval {
    pub fn by(seed: u8, number: u8) -> Self {
        let (issued, expires) = ("2026-03-01T11:59:00Z", "2026-03-01T12:10:00Z");
        Approval { seed, number, of: Of::Action, tenant: TENANT, issued, expires }
    }
}

/// Gives a claim these approvals and what goes with them, signed for what the claim says now.
pub fn approve(claim: &mut Value, approvals: &[Approval]) {
    let text = |name: &str| claim[name].as_str().unwrap_or("").to_owned();
    let payload = canonical::to_string(&claim["payload"]);
    let said = legacy::to_string(
        &json!({"action": claim["action"], "payload": claim["payload"]}),
        1 << 20,
    );
    let said = said.expect("short");
    let artifacts: Vec<Value> = approvals
        .iter()
        .map(|approval| {
            let hash = match approval.of {
                Of::Action => receipt::action_hash(&text("action"), &payload),
                Of::Nonce => receipt::exec_id(&text("action"), &text("nonce"), &payload),
                Of::Legacy => sha256(&[said.as_bytes()]),
                Of::Hash(hash) => hash,
            };
            let time = |text| Time::parse(text).expect("a time");
            let id = format!("3f0d6f0a-6d0c-4b7e-9a55-0000000000{:02x}", approval.number);
            let (issued, expires) = (time(approval.issued), time(approval.expires));
            let key = private_key(approval.seed);
            mint(&key, approval.tenant, &hash, issued, expires, &id).expect("minted").to_value()
        })
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for approval in approvals {
        let (_, name) = NAMES.iter().find(|(seed, _)| *seed == approval.seed).expect("a name");
        if !names.contains(name) {
            names.push(name);
        }
    }
    claim["keys"] = names.into();
    claim["approval"] = artifacts.into();
    let is_legacy = approvals.iter().any(|approval| matches!(approval.of, Of::Legacy));
    claim["legacy"] = if is_legacy { said.into() } else { Value::Null };
}

/// Every kind of record, in demo mode: one segment.
pub fn demo() -> Model {
    let (pure, idempotent, again, once) = (
        claim("pure", "pure"),
        claim("idempotent", "idempotent"),
        claim("again", "idempotent"),
        claim("once", "once"),
    );
    let big = "x".repeat(5_000);
    let mut hashed = refusal("hashed", "invalid_payload");
    let object = hashed.value.as_object_mut().expect("an object");
    object.remove("payload");
    object.insert("payload_hash".into(), hex(&sha256(&[big.as_bytes()])).into());
    object.insert("id".into(), "ab".repeat(32).into());
    let batches = vec![
        vec![store("demo")],
        vec![
            policy("policy"),
            refusal("refusal", "frozen"),
            hashed,
            simple("suppressed", "suppressed", json!({"count": {"frozen": 7, "busy": 1}})),
        ],
        vec![pure.clone(), receipt_of("pure receipt", &pure, "executed")],
        vec![idempotent.clone()],
        vec![receipt_of("idempotent receipt", &idempotent, "executed")],
        vec![again.clone()],
        vec![retry_of("retry", &again)],
        vec![receipt_of("again receipt", &again, "indeterminate")],
        vec![once.clone()],
        vec![receipt_of("once receipt", &once, "failed")],
        vec![
            completion("completion", &idempotent.value["id"], "worker", json!({"done": [1]})),
            completion("note", &again.value["id"], "operator", json!({"note": "seen"})),
        ],
        vec![simple("freeze", "freeze", json!({"reason": "\u{e9} \"why\"\n"}))],
        vec![simple("unfreeze", "unfreeze", json!({"reason": ""}))],
        vec![claim("owed", "idempotent")],
        vec![],
    ];
    Model { batches, begins: vec![] }
}

/// The same in clawshield mode, over two segments: one approval and two, of each kind of hash.
pub fn clawshield() -> Model {
    let mut model = demo();
    model.set("store", "mode", "clawshield".into());
    keys_of(model.of("policy"));
    let approval = Approval::by;
    approve(model.of("pure"), &[Approval { of: Of::Legacy, ..approval(OPS, 1) }]);
    approve(model.of("idempotent"), &[approval(OPS, 2), approval(AUDIT, 3)]);
    approve(model.of("again"), &[Approval { of: Of::Nonce, ..approval(OPS, 4) }]);
    // More approvals than it took, two of them by one key.
    approve(model.of("once"), &[approval(OPS, 5), approval(OPS, 6), approval(AUDIT, 7)]);
    approve(model.of("owed"), &[approval(AUDIT, 8)]);
    let asked = |label, model: &mut Model| proposal(label, model.rec("owed"));
    let pending = asked("asked", &mut model);
    let said = approval_of("approved", &pending.value, Approval::by(AUDIT, 8));
    let simply =
        |label, kind, proposal: &Rec| simple(label, kind, json!({"id": proposal.value["id"]}));
    let asynchronous = simply("asynchronous", "asynchronous", &pending);
    let mut unwanted = proposal("unwanted", &claim("unwanted", "idempotent"));
    unwanted.value["caller"] = "agent-8".into();
    let rejected = rejection("rejected", &unwanted.value, OPS);
    let late = proposal("late", &claim("late", "once"));
    let mut closed = simply("closed", "closed", &late);
    for (field, value) in [("how", json!("expired")), ("by", Value::Null), ("code", Value::Null)] {
        closed.value[field] = value;
    }
    model.insert_before("owed", pending);
    model.insert_before("owed", unwanted);
    model.insert_before("owed", late);
    for record in [said, asynchronous, rejected, closed] {
        model.insert_before("owed", record);
    }
    model.begins = vec![8];
    model
}

/// The text of a line, with its one value changed in spelling.
pub fn respelled(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from} in {line}");
    let changed = line.replacen(from, to, 1);
    assert!(strict::read(line.as_bytes(), 68).is_ok());
    changed
}
