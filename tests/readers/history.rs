//! `openexec history`, held to another program that reads the same files: `history.py`, over stores of random lives of
//! proposals, executions and refusals.

use std::path::{Path, PathBuf};
use std::process::Command;

use openexec::core::hash::{hex, sha256};
use serde_json::{Value, json};

use crate::forge::{Files, Model, clawshield, demo, laid_out, simple};
use crate::random::Random;

const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
const BINARY: &str = env!("CARGO_BIN_EXE_openexec");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/history.py");
/// What callers, keys and reasons may hold.
const NAMES: [&str; 5] =
    ["ops", "a b  c", "\u{202e}zz \u{5ea}", "line\n\u{1b}[2J\u{7f}\"", "\u{1f600}"];

/// Stores as a service has them, in a directory that is removed.
struct Stores(PathBuf);

impl Stores {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("oe-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Stores(path)
    }

    fn add(&self, number: u64, files: &Files) -> PathBuf {
        let store = self.0.join(number.to_string());
        std::fs::create_dir_all(&store).expect("made");
        for (name, bytes) in files {
            let mut bytes = bytes.clone();
            bytes.resize(SEGMENT_BYTES, b'\n');
            std::fs::write(store.join(name), bytes).expect("written");
        }
        store
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sealed(mut model: Model) -> Files {
    model.seal();
    laid_out(&model.frame())
}

/// How it ended, what it said, and what it complained about.
fn history(store: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).arg("history").arg(store).args(arguments).output();
    let output = output.expect("run");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn it_says_what_another_reader_says_of_the_same_files() {
    let stores = Stores::new("history");
    let mut paths = vec![stores.add(0, &sealed(demo())), stores.add(1, &sealed(clawshield()))];
    paths.extend((2..6).map(|seed| stores.add(seed, &laid_out(&lives(seed).frame()))));
    let judged = Command::new("python3").arg(SCRIPT).arg(BINARY).args(&paths).output();
    let judged = judged.expect("python3");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    println!("{}", String::from_utf8_lossy(&judged.stdout));
}

/// Whatever an opening refuses ends with 65 before a row is shown.
#[test]
fn a_damaged_store_shows_nothing() {
    let stores = Stores::new("damaged");
    let mut files = laid_out(&lives(2).frame());
    let whole = stores.add(0, &files);
    let (code, _, why) = history(&whole, &[]);
    assert_eq!(code, Some(0), "{why}");
    let last = files.values_mut().next_back().expect("a segment");
    let at = last.iter().rposition(|byte| *byte == b'}').expect("text") - 3;
    last[at] ^= 1;
    let (code, shown, why) = history(&stores.add(1, &files), &["--json"]);
    assert_eq!((code, shown.as_str()), (Some(65), ""), "{why}");
    assert!(why.contains(".jsonl, byte "), "{why}");
}

/// `verify` says of how much it says that it is right.
#[test]
fn an_audit_counts_what_it_has_seen() {
    let stores = Stores::new("counted");
    let model = clawshield();
    let kinds = model.batches.iter().flatten().map(|record| record.value["kind"].clone());
    let kinds: Vec<Value> = kinds.collect();
    let store = stores.add(0, &sealed(model));
    let output =
        Command::new(BINARY).arg("verify").arg(&store).arg("--json").output().expect("run");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (name, kind) in [
        ("proposals", "proposal"),
        ("approvals", "approval"),
        ("rejections", "rejection"),
        ("closed", "closed"),
        ("completions", "completion"),
        ("refusals", "refusal"),
    ] {
        let count = kinds.iter().filter(|found| *found == kind).count();
        assert!(count > 0 && said[name] == count, "{name}: {said}");
    }
    // One of three was rejected, one closed and one claimed.
    assert_eq!((&said["pending"], &said["keys_trusted"]), (&json!(0), &json!(false)), "{said}");
    let output = Command::new(BINARY).arg("verify").arg(&store).output().expect("run");
    let text = String::from_utf8(output.stdout).expect("text");
    let proposals = "proposals   3, 0 of them pending; 1 approvals, 1 rejections, 1 closed\n";
    assert!(text.contains(proposals) && text.contains("completions 2\n"), "{text}");
    assert!(text.contains("not checked against keys that you trust"), "{text}");
}

/// An opening looks into no payload, and what breaks JSON there would break the row.
#[test]
fn what_is_no_json_is_not_shown() {
    let stores = Stores::new("nojson");
    let mut model = demo();
    model.seal();
    let line = openexec::core::json::canonical::to_string(model.of("owed"));
    model.rec("owed").text = Some(line.replace("\"payload\":{", "\"payload\":{\"\u{7}\":,"));
    let (code, shown, why) = history(&stores.add(0, &laid_out(&model.frame())), &["--json"]);
    assert_eq!(code, Some(65), "{shown}{why}");
    assert!(!shown.contains("owed") && why.contains("is no strict JSON"), "{shown}{why}");
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let stores = Stores::new("asked");
    let store = stores.add(0, &sealed(clawshield()));
    for (arguments, code, sentence) in [
        (&["--since", "yesterday"][..], 64, "--since takes a date (2026-01-31) or a time"),
        (&["--until", "2026-02-30"], 64, "--until takes a date"),
        (&["--since", "2026-01-01T02:00"], 64, "--since takes a date"),
        (&["--since", "2026-01-01T02:00:00+24:00"], 64, "--since takes a date"),
        (&["--since", "2026-01-01T02:00:00+1:00"], 64, "--since takes a date"),
        (&["--since", "2026-01-01T02:00:00Z+01:00"], 64, "--since takes a date"),
        (&["--since", "20260101"], 64, "--since takes a date"),
        (&["--since", "\u{661}026-01-0"], 64, "--since takes a date"),
        (&["--since", ""], 64, "--since takes a date"),
        (&["--since", "2026-01-02", "--until", "2026-01-02"], 64, "--since is not before --until"),
        (&["--state", "waiting"], 64, "--state takes one of these"),
        (&["--state", "pending,"], 64, "--state takes one of these"),
        (&["--key", "nobody"], 65, "no policy of this store has the key \"nobody\""),
    ] {
        let (ended, shown, why) = history(&store, arguments);
        assert_eq!((ended, shown.as_str()), (Some(code), ""), "{arguments:?}: {why}");
        assert!(why.contains(sentence), "{arguments:?}: {why}");
    }
    let nowhere = stores.0.join("nowhere");
    let (code, _, why) = history(&nowhere, &[]);
    assert_eq!(code, Some(74), "{why}");
}

/// A store of random lives, which an opening takes. What only an audit judges (hashes, signatures) is made up.
fn lives(seed: u64) -> Model {
    let mut random = Random(seed);
    let base = clawshield();
    let mut batches = vec![base.batches[0].clone()];
    let policies: Vec<Value> = (0..3).map(|number| policy(&base, number)).collect();
    let (mut policy_at, mut records) = (0, 1u64);
    let mut lives: Vec<Life> = Vec::new();
    let mut clock = 0;
    for step in 0..120 {
        clock += [0, 1, 999, 61_000_000][random.below(4)] * (1 + random.below(9));
        if step % 50 == 0 {
            policy_at = records;
            batches.push(vec![simple("", "policy", at(policies[step / 50].clone(), clock))]);
            records += 1;
            continue;
        }
        let mut made = Vec::new();
        if lives.len() < 3 || random.below(4) == 0 {
            lives.push(Life::new(&mut random, lives.len()));
        }
        let number = random.below(lives.len());
        lives[number].step(&mut random, policy_at, &mut made);
        records += made.len() as u64;
        batches
            .push(made.into_iter().map(|(kind, more)| simple("", kind, at(more, clock))).collect());
    }
    let model = Model { begins: vec![60], batches };
    for record in model.batches.iter().flatten() {
        let line = openexec::core::json::canonical::to_string(&record.value);
        assert!(openexec::core::record::Record::read(&line).is_some(), "{line}");
    }
    model
}

fn at(mut value: Value, micros: usize) -> Value {
    let start = openexec::core::time::Time::parse("2026-03-01T12:00:00Z").expect("a time");
    let time = openexec::core::time::Time::from_micros(start.micros() + micros as i64);
    value["at"] = time.to_string().into();
    value
}

/// The keys have other names and persons in each.
fn policy(base: &Model, number: usize) -> Value {
    let mut policy = base.clone().of("policy").clone();
    for (index, key) in policy["keys"].as_array_mut().expect("keys").iter_mut().enumerate() {
        key["name"] = NAMES[(number + index) % NAMES.len()].into();
        key["person"] = if number == 1 { json!(NAMES[3 - index]) } else { Value::Null };
        key["public_key"] = hex(&sha256(&[&[(index + number / 2) as u8]])).into();
    }
    policy["version"] = number.to_string().into();
    policy
}

/// What becomes of one id.
struct Life {
    asked: Value,
    stage: &'static str,
    has_job: bool,
}

impl Life {
    fn new(random: &mut Random, number: usize) -> Self {
        let mut id = sha256(&[&number.to_le_bytes()]);
        if random.below(4) == 0 {
            // Several begin alike.
            id[..4].copy_from_slice(b"same");
        }
        let caller = NAMES.get(random.below(NAMES.len() + 2));
        let asked = json!({
            "id": hex(&id), "action": if random.below(2) == 0 { "charge" } else { "send.mail" },
            "nonce": format!("n{number}"), "caller": caller,
            "payload": {"n": number, "text": NAMES[random.below(NAMES.len())]},
        });
        Life { asked, stage: "new", has_job: false }
    }

    fn with(&self, more: Value) -> Value {
        let mut value = self.asked.clone();
        value.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        value
    }

    fn step(&mut self, random: &mut Random, policy: u64, made: &mut Vec<(&'static str, Value)>) {
        let id = self.asked["id"].clone();
        let name = NAMES[random.below(NAMES.len())];
        let of_id = |more: Value| {
            let mut value = more;
            value["id"] = id.clone();
            value
        };
        let chance = random.below(8);
        match (self.stage, chance) {
            (_, 0) => {
                let mut refusal = self.with(json!({
                    "code": "approval_missing", "detail": name, "receipt": "0".repeat(64),
                }));
                if random.below(2) == 0 {
                    let fields = refusal.as_object_mut().expect("fields");
                    fields.remove("payload");
                    fields.insert("payload_hash".into(), "ab".repeat(32).into());
                }
                made.push(("refusal", refusal));
            }
            ("new", 1..=4) => {
                self.stage = "pending";
                made.push((
                    "proposal",
                    self.with(json!({
                        "justification": name, "asynchronous": chance == 1,
                        "expires": "2026-03-02T12:00:00.000000Z",
                    })),
                ));
            }
            ("pending", 1..=3) => {
                made.push((
                    "approval",
                    of_id(json!({"key": name, "artifact": {"approval_id": name}})),
                ));
            }
            ("pending", 4) => {
                self.stage = "over";
                let artifact = json!({"justification": name});
                made.push(("rejection", of_id(json!({"key": name, "artifact": artifact}))));
            }
            ("pending", 5) => {
                self.stage = "over";
                let how = ["withdrawn", "expired", "refused"][random.below(3)];
                let code = (how == "refused").then_some("action_not_allowed");
                let by = (how == "withdrawn").then_some("operator");
                made.push(("closed", of_id(json!({"how": how, "code": code, "by": by}))));
            }
            ("new" | "pending", _) => {
                self.stage = "claimed";
                let effect = ["pure", "idempotent", "once"][random.below(3)];
                let keys: Vec<&str> = NAMES.into_iter().filter(|_| random.below(3) == 0).collect();
                made.push(("claim", self.with(json!({
                    "approval": [], "effect": effect, "keys": keys, "legacy": null, "place": null,
                    "policy": policy,
                }))));
                if effect == "pure" {
                    self.receipt(random, made);
                }
            }
            ("claimed", _) => self.receipt(random, made),
            ("ended", 1..=5) => {
                let outcome = ["executed", "failed", "indeterminate"][random.below(3)];
                made.push((
                    "completion",
                    of_id(json!({
                        "by": "worker", "outcome": outcome, "result": {"said": name},
                        "receipt": "0".repeat(64),
                    })),
                ));
            }
            _ => {}
        }
    }

    fn receipt(&mut self, random: &mut Random, made: &mut Vec<(&'static str, Value)>) {
        self.stage = "ended";
        self.has_job = random.below(2) == 0;
        let outcome = ["executed", "failed", "indeterminate"][random.below(3)];
        let result = match outcome {
            "executed" if self.has_job => json!({"queued": {"job": "a", "queue": "b"}}),
            "executed" => json!({"said": NAMES[2]}),
            outcome => json!({outcome: {"code": "interrupted", "detail": "zz"}}),
        };
        let fields = json!({
            "id": self.asked["id"], "outcome": outcome, "result": result, "receipt": "0".repeat(64),
        });
        made.push(("receipt", fields));
    }
}
