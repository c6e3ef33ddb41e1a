//! Approvals against the real binary: what executes, what does not, and what is spent.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::approvals::{private_key, public_pem};
use common::signer::mint;
use common::{Answer, Scratch, Server, fifo, openexec};
use openexec::core::hash::Hash;
use openexec::core::json::strict;
use openexec::core::receipt;
use openexec::sys::clock;
use serde_json::{Value, json};

const TENANT: &str = "t1";

/// One request: `echo` of a message.
struct Asked {
    message: &'static str,
    nonce: String,
}

fn asked(message: &'static str, nonce: &str) -> Asked {
    Asked { message, nonce: nonce.to_owned() }
}

impl Asked {
    fn payload(&self) -> String {
        format!("{{\"msg\":\"{}\"}}", self.message)
    }

    fn action_hash(&self) -> Hash {
        receipt::action_hash("echo", &self.payload())
    }

    fn exec_id(&self) -> Hash {
        receipt::exec_id("echo", &self.nonce, &self.payload())
    }

    fn body(&self, artifact: &Value) -> String {
        let payload: Value = serde_json::from_str(&self.payload()).expect("JSON");
        json!({"action": "echo", "payload": payload, "nonce": self.nonce,
               "approval_artifact": artifact})
        .to_string()
    }

    fn send(&self, server: &Server, artifact: &Value) -> Answer {
        server.execute(&self.body(artifact))
    }
}

/// An approval by the key of that seed, from `from` seconds after now on, for `ttl` seconds.
fn approval_at(seed: u8, hash: &Hash, from: i64, ttl: i64) -> Value {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let issued = clock::now().plus_seconds(from);
    mint(&private_key(seed), TENANT, hash, issued, issued.plus_seconds(ttl), &id)
        .expect("minted")
        .to_value()
}

fn approval(seed: u8, hash: &Hash) -> Value {
    approval_at(seed, hash, 0, 300)
}

/// A server in clawshield mode with the public key of seed 1, over a store of its own.
fn clawshield(scratch: &Scratch, more: &[(&str, &str)]) -> Server {
    let pem = public_pem(1);
    let mut environment = vec![("OPENEXEC_MODE", "clawshield"), ("CLAWSHIELD_TENANT_ID", TENANT)];
    if more.iter().all(|(name, _)| !name.contains("KEY")) {
        environment.push(("CLAWSHIELD_PUBLIC_KEY", &pem));
    }
    environment.extend_from_slice(more);
    if !scratch.join("store").exists() {
        let made = openexec(scratch).arg("init").envs(environment.iter().copied()).output();
        let made = made.expect("run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    Server::start(scratch, &environment)
}

/// Names and seeds of keys, as a keys file; `more` is merged into the first.
fn keys_file(scratch: &Scratch, more: Value, required: Value) -> String {
    let mut keys: Vec<Value> = [("alice", 1), ("bob", 2), ("carol", 3)]
        .iter()
        .map(|(name, seed)| json!({"name": name, "public_key": public_pem(*seed)}))
        .collect();
    for (name, value) in more.as_object().expect("an object") {
        keys[0][name] = value.clone();
    }
    keys[2]["actions"] = json!(["add"]);
    let path = scratch.join("keys.json");
    let text = json!({"keys": keys, "required": required}).to_string();
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    path.display().to_string()
}

fn claims(scratch: &Scratch) -> Vec<Value> {
    records(scratch, "claim")
}

fn records(scratch: &Scratch, kind: &str) -> Vec<Value> {
    let lines = common::evidence::records(&scratch.join("store")).into_iter();
    let values = lines.map(|line| strict::read(line.as_bytes(), 68).expect("JSON"));
    values.filter(|value| value["kind"] == kind).collect()
}

fn pending(scratch: &Scratch) -> String {
    let output = openexec(scratch).arg("pending").output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn arrays_count_different_keys_and_refuse_whole() {
    let scratch = Scratch::new();
    let keys = keys_file(&scratch, json!({}), json!({"echo": 2, "*": 1}));
    let server = clawshield(&scratch, &[("OPENEXEC_KEYS_FILE", &keys)]);
    let request = asked("pay", "n1");
    let (hash, bound) = (request.action_hash(), request.exec_id());
    let [alice, bob] = [approval(1, &hash), approval(2, &hash)];
    let many: Vec<Value> = (0..17).map(|_| approval(1, &hash)).collect();
    for (artifacts, code) in [
        (json!([]), "approval_malformed"),
        (json!(many), "approval_malformed"),
        (json!([alice, "x"]), "approval_malformed"),
        (json!([[alice, bob]]), "approval_malformed"),
        (json!("x"), "approval_malformed"),
        (json!([alice, alice]), "approval_malformed"),
        (json!([alice]), "approvals_insufficient"),
        (alice.clone(), "approvals_insufficient"),
        (json!([alice, approval(1, &hash)]), "approvals_insufficient"),
        (json!([alice, approval(2, &[7; 32])]), "approval_hash_mismatch"),
        (json!([alice, approval(9, &hash)]), "approval_signature_invalid"),
        (json!([alice, bob, approval(3, &hash)]), "approval_key_not_authorized"),
        (json!([alice, approval_at(2, &hash, -1, 1)]), "approval_expired"),
        (json!([alice, approval_at(2, &hash, 120, 60)]), "approval_not_yet_valid"),
    ] {
        let answer = request.send(&server, &artifacts);
        assert_eq!(answer.code(), code, "{}", answer.text());
        assert_eq!(answer.json()["approved"], false);
        let text = answer.text();
        let signature = alice["signature"].as_str().expect("text");
        assert!(!text.contains(signature), "no signature in {text}");
    }
    assert!(pending(&scratch).contains("\"nonce\":\"n1\""), "one more approval would mend it");
    // None of that spent anything. Either canonical hash counts.
    let bob_bound = approval(2, &bound);
    let answer = request.send(&server, &json!([alice, bob_bound]));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(pending(&scratch), "");
    let claim = &claims(&scratch)[0];
    assert_eq!(claim["keys"], json!(["alice", "bob"]));
    assert_eq!(claim["approval"], json!([alice, bob_bound]));
    let policy = &records(&scratch, "policy")[0];
    assert_eq!((&policy["required"]["echo"], &policy["tenant"]), (&json!(2), &json!(TENANT)));
    // One spent approval refuses the fresh one beside it, and does not spend it.
    let again = asked("pay", "n2");
    let fresh = approval(2, &hash);
    assert_eq!(again.send(&server, &json!([alice, fresh])).code(), "approval_already_used");
    assert_eq!(again.send(&server, &json!([fresh, alice])).code(), "approval_already_used");
    assert_eq!(again.send(&server, &json!([fresh, approval(1, &hash)])).status, 200);
    // The third key approves what it may.
    let payload = "{\"a\":1}";
    let add = approval(3, &receipt::action_hash("add", payload));
    let body =
        json!({"action": "add", "payload": {"a": 1}, "nonce": "n3", "approval_artifact": add});
    assert_eq!(server.execute(&body.to_string()).status, 200);
}

#[test]
fn of_64_uses_of_one_approval_one_executes() {
    let scratch = Scratch::new();
    let server = clawshield(&scratch, &[]);
    let artifact = approval(1, &asked("once", "").action_hash());
    let statuses =
        at_once(64, |number| asked("once", &format!("n{number}")).send(&server, &artifact));
    let executed = statuses.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(executed, 1);
    let spent = statuses.iter().filter(|a| a.status == 403 && a.code() == "approval_already_used");
    assert_eq!(spent.count(), 63);
    assert_eq!(claims(&scratch).len(), 1);
}

#[test]
fn of_overlapping_pairs_one_executes() {
    let scratch = Scratch::new();
    let keys = keys_file(&scratch, json!({}), json!({"*": 2}));
    // A third key that may approve echo: every pair shares an approval with each other pair.
    let text = std::fs::read_to_string(&keys).expect("read").replace("[\"add\"]", "[\"echo\"]");
    std::fs::write(&keys, text).expect("written");
    let server = clawshield(&scratch, &[("OPENEXEC_KEYS_FILE", &keys)]);
    for round in 0..5 {
        let hash = asked("pair", "").action_hash();
        let [a, b, c] = [1, 2, 3].map(|seed| approval(seed, &hash));
        let pairs = [json!([a, b]), json!([b, c]), json!([c, a])];
        let answers = at_once(24, |number| {
            asked("pair", &format!("r{round}-{number}")).send(&server, &pairs[number % 3])
        });
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        let others = answers.iter().filter(|answer| answer.status != 200);
        assert!(others.clone().all(|answer| answer.code() == "approval_already_used"));
    }
}

fn at_once(count: usize, send: impl Fn(usize) -> Answer + Sync) -> Vec<Answer> {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |number| {
            start.wait();
            send(number)
        };
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || run(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("answered")).collect()
    })
}

#[test]
fn a_spent_approval_stays_spent() {
    let scratch = Scratch::new();
    let mut server = clawshield(&scratch, &[]);
    let (first, second) = (asked("m", "n1"), asked("m", "n2"));
    let artifact = approval(1, &first.action_hash());
    assert_eq!(first.send(&server, &artifact).status, 200);
    assert_eq!(second.send(&server, &artifact).code(), "approval_already_used");

    // After a kill and a restart.
    server.kill();
    let mut server = clawshield(&scratch, &[]);
    assert_eq!(second.send(&server, &artifact).code(), "approval_already_used");

    // After one has run out: the replay still answers, and asks for no approval. One that is too late
    // on a slow machine was only refused.
    let (brief, other) = (asked("brief", "n3"), asked("brief", "n4"));
    let (artifact, executed) = (0..5)
        .map(|_| {
            let artifact = approval_at(1, &brief.action_hash(), 0, 2);
            let answer = brief.send(&server, &artifact);
            (artifact, answer)
        })
        .find(|(_, answer)| answer.code() != "approval_expired")
        .expect("executed in time");
    assert_eq!(executed.status, 200, "{}", executed.text());
    common::until("it has run out", || {
        std::thread::sleep(Duration::from_millis(100));
        let code = other.send(&server, &artifact).code();
        assert!(["approval_already_used", "approval_expired"].contains(&code.as_str()), "{code}");
        code == "approval_expired"
    });
    for artifact in [artifact.clone(), Value::Null] {
        let replay = brief.send(&server, &artifact);
        assert_eq!((replay.status, replay.body.clone()), (200, executed.body.clone()));
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    }

    // In a new store, which has forgotten it: one that is still valid, of before that store.
    let old = approval_at(1, &first.action_hash(), 0, 300);
    let issued = clock::now().seconds();
    common::until("another second", || clock::now().seconds() > issued);
    server.kill();
    std::fs::remove_dir_all(scratch.join("store")).expect("removed");
    let server = clawshield(&scratch, &[]);
    assert_eq!(first.send(&server, &old).code(), "approval_before_store");
    assert_eq!(first.send(&server, &approval(1, &first.action_hash())).status, 200);
}

#[test]
fn an_approval_of_one_nonce_is_for_that_nonce() {
    let scratch = Scratch::new();
    let server = clawshield(&scratch, &[]);
    let (first, second) = (asked("m", "n1"), asked("m", "n2"));
    let bound = approval(1, &first.exec_id());
    assert_eq!(second.send(&server, &bound).code(), "approval_hash_mismatch");
    assert_eq!(first.send(&server, &bound).status, 200);
}

#[test]
fn an_approval_may_live_as_long_as_configured() {
    let scratch = Scratch::new();
    let server = clawshield(&scratch, &[("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "300")]);
    let request = asked("m", "n1");
    let hash = request.action_hash();
    let long = approval_at(1, &hash, 0, 301);
    assert_eq!(request.send(&server, &long).code(), "approval_ttl_too_long");
    assert_eq!(request.send(&server, &approval_at(1, &hash, 0, 300)).status, 200);
    assert_eq!(records(&scratch, "policy")[0]["ttl_max"], 300);
}

#[test]
fn keys_are_rotated_and_revoked() {
    let scratch = Scratch::new();
    let both = format!("{}{}", public_pem(1), public_pem(2)).replace('\n', "\\n");
    let mut server = clawshield(&scratch, &[("CLAWSHIELD_PUBLIC_KEY", &both)]);
    let hash = asked("m", "").action_hash();
    let send = |server: &Server, nonce: &str, seed: u8| {
        asked("m", nonce).send(server, &approval(seed, &hash))
    };
    assert_eq!(send(&server, "n1", 1).status, 200);
    assert_eq!(send(&server, "n2", 2).status, 200);
    server.kill();
    let mut server = clawshield(&scratch, &[("CLAWSHIELD_PUBLIC_KEY", &public_pem(2))]);
    assert_eq!(send(&server, "n3", 1).code(), "approval_signature_invalid");
    assert_eq!(send(&server, "n3", 2).status, 200);
    server.kill();
    let revoked = json!({"not_after": clock::now().plus_seconds(-1).to_string()});
    let keys = keys_file(&scratch, revoked, json!({}));
    let server = clawshield(&scratch, &[("OPENEXEC_KEYS_FILE", &keys)]);
    let refused = send(&server, "n4", 1);
    assert_eq!(refused.code(), "approval_key_expired");
    assert!(refused.text().contains("'alice'"), "{}", refused.text());
    assert_eq!(send(&server, "n4", 2).status, 200);
}

#[test]
fn what_would_open_everything_is_refused_at_start() {
    let scratch = Scratch::new();
    let directory = scratch.join("approvals");
    std::fs::create_dir(&directory).expect("made");
    let (directory, missing) =
        (directory.display().to_string(), scratch.join("none").display().to_string());
    let twice = json!({"name": "mallory", "public_key": public_pem(2)});
    let keys = keys_file(&scratch, twice, json!({}));
    let other = Scratch::new();
    let misspelt = keys_file(&other, json!({}), json!({"ecko": 2}));
    let pem = public_pem(1);
    let claw = [("OPENEXEC_MODE", "clawshield"), ("CLAWSHIELD_TENANT_ID", TENANT)];
    let with = |more: &[(&'static str, String)]| {
        let mut all = claw.map(|(name, value)| (name, value.to_owned())).to_vec();
        all.extend_from_slice(more);
        all
    };
    for (environment, sentence) in [
        (with(&[("OPENEXEC_KEYS_FILE", keys)]), "same public key"),
        // The action that was meant would need one approval, and not two.
        (with(&[("OPENEXEC_KEYS_FILE", misspelt)]), "\"required\" names \"ecko\", which"),
        (vec![("OPENEXEC_APPROVALS_DIR", directory)], "OPENEXEC_APPROVALS_DIR is set in demo mode"),
        (
            with(&[("CLAWSHIELD_PUBLIC_KEY", pem), ("OPENEXEC_APPROVALS_DIR", missing)]),
            "make the directory",
        ),
    ] {
        let ended = openexec(&scratch).arg("check").envs(environment).output().expect("run");
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{text}");
        assert!(text.contains(sentence), "{text}");
    }
}

/// A server with an approvals directory.
fn with_directory(scratch: &Scratch) -> (Server, std::path::PathBuf) {
    let directory = scratch.join("approvals");
    let _ = std::fs::create_dir(&directory);
    let shown = directory.display().to_string();
    (clawshield(scratch, &[("OPENEXEC_APPROVALS_DIR", &shown)]), directory)
}

fn drop_file(directory: &Path, hash: &Hash, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = directory.join(format!("{}.json", openexec::core::hash::hex(hash)));
    std::fs::write(&path, content).expect("written");
    path
}

fn remove(path: &Path) {
    let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
}

#[test]
fn a_dropped_approval_executes_once_and_only_what_it_is_for() {
    let scratch = Scratch::new();
    let (server, directory) = with_directory(&scratch);
    let (first, second) = (asked("m", "n1"), asked("m", "n2"));
    let hash = first.action_hash();
    assert_eq!(first.send(&server, &Value::Null).code(), "approval_missing");
    drop_file(&directory, &hash, approval(1, &hash).to_string());
    // One that the request brings is the one that counts.
    let bad = first.send(&server, &approval(9, &hash));
    assert_eq!(bad.code(), "approval_signature_invalid");
    assert_eq!(asked("other", "n9").send(&server, &Value::Null).code(), "approval_missing");
    assert_eq!(asked("other", "n1").send(&server, &Value::Null).code(), "nonce_conflict");
    let executed = first.send(&server, &Value::Null);
    assert_eq!(executed.status, 200, "{}", executed.text());
    assert_eq!(first.send(&server, &Value::Null).body, executed.body);
    let refused = second.send(&server, &Value::Null);
    assert_eq!(refused.code(), "approval_missing");
    let detail = refused.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.starts_with("ClawShield mode requires an approval artifact; "), "{detail}");
    assert!(detail.contains("spent by an earlier execution"), "{detail}");
    // The same again, byte for byte: the detail is part of what a receipt covers.
    assert_eq!(second.send(&server, &Value::Null).body, refused.body);
    // An array, and one bound to the nonce, under its own name.
    drop_file(&directory, &second.exec_id(), json!([approval(1, &second.exec_id())]).to_string());
    assert_eq!(second.send(&server, &Value::Null).status, 200);
}

#[test]
fn hostile_content_of_the_approvals_directory_does_nothing() {
    let scratch = Scratch::new();
    let (server, directory) = with_directory(&scratch);
    let request = asked("m", "n1");
    let (hash, bound) = (request.action_hash(), request.exec_id());
    let path = drop_file(&directory, &hash, "");
    let good = approval(1, &hash);
    let refused_with = |sentence: &str| {
        let answer = request.send(&server, &Value::Null);
        assert_eq!((answer.status, answer.code().as_str()), (403, "approval_missing"));
        let detail = answer.json()["detail"].as_str().expect("text").to_owned();
        assert!(detail.contains(sentence), "{sentence}: {detail}");
        assert!(detail.len() < 600, "{detail}");
        assert_eq!(answer.json()["action_hash"], openexec::core::hash::hex(&hash));
    };

    for (content, sentence) in [
        (String::new(), "not one JSON value"),
        ("junk \u{1b}[2J".to_owned(), "not one JSON value"),
        ("\0".repeat(1000), "not one JSON value"),
        (good.to_string()[..200].to_owned(), "not one JSON value"),
        (format!("{good}{good}"), "not one JSON value"),
        (good.to_string().replacen('{', "{\"tenant_id\":\"t1\",", 1), "same key twice"),
        ("[".repeat(60_000), "nested too deep"),
        (" ".repeat(65_537), "larger than 65536 bytes"),
        (format!("{good}{}", " ".repeat(20 << 20)), "larger than 65536 bytes"),
        ("null".to_owned(), "neither an object nor an array"),
        ("{}".to_owned(), "approval_id is missing"),
        (json!([good, good]).to_string(), "earlier in the array"),
        (approval(9, &hash).to_string(), "Invalid signature"),
        (approval(1, &[7; 32]).to_string(), "Action hash mismatch"),
        (approval_at(1, &hash, -9, 9).to_string(), "expired"),
        (approval_at(1, &hash, -3000, 4000).to_string(), "before this store"),
        (approval_at(1, &hash, 99, 99).to_string(), "in the future"),
    ] {
        std::fs::write(&path, content).expect("written");
        refused_with(sentence);
    }
    std::fs::write(&path, b"\xff").expect("written");
    refused_with("not UTF-8");

    // Links, to a good approval and to nothing; a directory; a pipe that nobody writes to.
    let elsewhere = scratch.join("good.json");
    std::fs::write(&elsewhere, good.to_string()).expect("written");
    remove(&path);
    symlink(&elsewhere, &path).expect("linked");
    refused_with("no regular file");
    remove(&path);
    symlink(scratch.join("nothing"), &path).expect("linked");
    refused_with("no regular file");
    remove(&path);
    std::fs::create_dir(&path).expect("made");
    refused_with("no regular file");
    remove(&path);
    fifo(&path);
    refused_with("no regular file");
    remove(&path);
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    refused_with("no regular file");
    remove(&path);

    // Two bad files: both reasons. One bad and one good: it executes, and only now is spent.
    drop_file(&directory, &bound, "junk");
    std::fs::write(&path, "{}").expect("written");
    refused_with("not one JSON value (byte 0); ");
    refused_with("approval_id is missing");
    std::fs::write(&path, good.to_string()).expect("written");
    assert_eq!(request.send(&server, &Value::Null).status, 200);
    assert_eq!(claims(&scratch).len(), 1);
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), good.to_string());
}

#[test]
fn two_people_approve_through_the_directory() {
    let scratch = Scratch::new();
    let directory = scratch.join("approvals");
    std::fs::create_dir(&directory).expect("made");
    let shown = directory.display().to_string();
    let keys = keys_file(&scratch, json!({}), json!({"*": 2, "add": 1}));
    let environment = [("OPENEXEC_KEYS_FILE", &keys[..]), ("OPENEXEC_APPROVALS_DIR", &shown)];
    let server = clawshield(&scratch, &environment);
    let request = asked("m", "n1");
    let hash = request.action_hash();
    let [alice, bob] = [1, 2].map(|seed| approval(seed, &hash));
    drop_file(&directory, &hash, alice.to_string());
    let refused = request.send(&server, &Value::Null);
    assert_eq!(refused.code(), "approval_missing");
    assert!(refused.text().contains("1 of the 2 approvals"), "{}", refused.text());
    drop_file(&directory, &hash, json!([alice, bob]).to_string());
    assert_eq!(request.send(&server, &Value::Null).status, 200);
    assert_eq!(claims(&scratch)[0]["keys"], json!(["alice", "bob"]));
}
