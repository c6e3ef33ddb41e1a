//! What a restart keeps, and what a store is refused for.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::common::approvals::{Minted, OPS, TENANT, borrowed, public_pem, settings, start};
use crate::common::evidence::records;
use crate::common::{Scratch, Server, canonical, cli, executed, openexec, refusal, run, until};
use openexec::core::hash::{Hash, hex};
use openexec::core::line::Json;
use openexec::core::receipt::exec_id;
use openexec::core::record::{Closed, Rejection};
use openexec::core::stage::How;
use openexec::core::time::Time;
use openexec::evidence::approvers::fingerprint;
use openexec::store::{Batch, GEOMETRY, Store, open::open};
use openexec::sys::disk::Directory;
use serde_json::{Value, json};

const SEGMENT: &str = "00000001.jsonl";

#[test]
fn a_replay_after_a_kill_answers_the_same_bytes() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let body = |n: usize| {
        let payload = json!({"n": n, "text": "é\u{1F600}\u{7f}\"\\", "float": 0.1});
        json!({"action": "echo", "nonce": format!("n{n}"), "payload": payload}).to_string()
    };
    let mut first = Vec::new();
    for restart in 0..4 {
        for (n, answered) in first.iter().enumerate() {
            let replay = server.execute(&body(n));
            assert_eq!((replay.status, &replay.body), (200, answered), "{n} at {restart}");
            assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        }
        assert_eq!(server.runs("echo"), 0);
        let n = first.len();
        let answer = server.execute(&body(n));
        assert_eq!(answer.header("idempotent-replayed"), None);
        first.push(answer.body);
        // At once: what was answered is on the disk.
        server.kill();
        server = Server::start(&scratch, &[]);
        assert_eq!(server.metric("openexec_store_executions"), first.len() as u64);
    }
    let other = json!({"action": "echo", "nonce": "n0"}).to_string();
    refusal(&server.execute(&other), 409, "nonce_conflict");
}

#[test]
fn a_spent_approval_stays_spent() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    let mut server = start(&scratch, &settings);
    let (payload, other) = (json!({"msg": "hello"}), json!({"msg": "bye"}));
    let artifact = Minted::of("echo", &payload).sign();
    let unused = Minted::of("echo", &other).sign();
    let body = |nonce: &str, payload, artifact| {
        json!({"action": "echo", "nonce": nonce, "payload": payload, "approval_artifact": artifact})
            .to_string()
    };
    let first = server.execute(&body("n1", &payload, &artifact));
    executed(&first, "echo", "n1", &payload);
    refusal(&server.execute(&body("n9", &other, &artifact)), 403, "approval_hash_mismatch");
    server.kill();
    let server = Server::start(&scratch, &settings);
    refusal(&server.execute(&body("n2", &payload, &artifact)), 403, "approval_already_used");
    assert_eq!(server.execute(&body("n1", &payload, &json!(null))).body, first.body);
    // What was only refused is good still.
    executed(&server.execute(&body("n9", &other, &unused)), "echo", "n9", &other);
}

#[test]
fn a_policy_is_recorded_when_it_differs_from_the_one_before() {
    let scratch = Scratch::new();
    let starts: [(&[(&str, &str)], _); 6] = [
        (&[], 1),
        (&[], 1),
        (&[("OPENEXEC_ALLOWED_ACTIONS", "echo,add")], 2),
        // The order and what decides nothing make no other policy.
        (&[("OPENEXEC_ALLOWED_ACTIONS", "add,echo"), ("OPENEXEC_LOG", "off")], 2),
        (&[("OPENEXEC_ALLOWED_ACTIONS", "echo")], 3),
        // As it was at first, and not as it was before: the one in force is compared.
        (&[], 4),
    ];
    for (start, (settings, policies)) in starts.into_iter().enumerate() {
        let mut server = Server::start(&scratch, settings);
        let (nonce, payload) = (format!("n{start}"), json!({}));
        let body = json!({"action": "echo", "nonce": nonce, "payload": payload}).to_string();
        executed(&server.execute(&body), "echo", &nonce, &payload);
        server.kill();
        let lines = records(&server.store);
        let found: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains(r#""kind":"policy""#))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(found.len(), policies, "start {start}");
        let claim = lines.iter().rfind(|line| line.contains(r#""kind":"claim""#)).expect("a claim");
        let named = format!(r#""policy":{}}}"#, found.last().expect("a policy"));
        assert!(claim.contains(&named), "start {start}: {claim}");
    }
}

#[test]
fn a_store_of_demo_mode_shows_no_approvals_to_trusted_keys() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    executed(&server.execute(r#"{"action":"echo","nonce":"n"}"#), "echo", "n", &json!({}));
    server.kill();
    std::fs::write(scratch.join("keys.pem"), public_pem(7)).expect("written");
    assert_eq!(cli(&scratch, &[], &["verify"]).code, 0);
    let ended = cli(&scratch, &[], &["verify", "--keys", "keys.pem"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("demo mode"), "{}", ended.stderr);
}

/// Whichever way it ended, it is over, with any approval and after any restart; what is pending executes.
#[test]
fn what_is_over_stays_over() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    let mut server = start(&scratch, &settings);
    let payload = json!({"msg": "hello"});
    let body = |nonce: &str, artifact: &Value| {
        json!({"action": "echo", "nonce": nonce, "payload": payload, "approval_artifact": artifact})
            .to_string()
    };
    let ends = ["rejected", "withdrawn", "expired", "refused"];
    for nonce in ends.iter().chain(&["pending"]) {
        let answer = server.execute(&body(nonce, &Value::Null));
        assert_eq!(refusal(&answer, 403, "approval_missing")["recorded"], true, "{nonce}");
    }
    server.kill();
    let at = openexec::sys::clock::now();
    let directory = Directory::open(&server.store).expect("a directory");
    let mut store = open(Arc::new(directory), GEOMETRY, &mut |_, _| {}).expect("opened").0;
    let mut batch = Batch::default();
    for end in ends {
        let id = exec_id("echo", end, &payload.to_string());
        let code = (end == "refused").then_some("action_not_allowed");
        batch.push(&match How::ALL.into_iter().find(|how| how.name() == end) {
            Some(how) => Closed { at, by: None, code, how, id }.line(),
            None => rejection(at, &id),
        });
    }
    store.append(&batch).expect("written");
    drop(store);
    for _ in 0..2 {
        server = Server::start(&scratch, &settings);
        for end in ends {
            for artifact in [Value::Null, Minted::of("echo", &payload).sign(), json!("none")] {
                let problem = refusal(&server.execute(&body(end, &artifact)), 403, end);
                assert_eq!(problem["recorded"], true);
                let detail = problem["detail"].as_str().expect("text");
                let says = |word| detail.contains(word);
                assert_eq!(says("because it must not be"), end == "rejected", "{detail}");
                assert_eq!(says("action_not_allowed"), end == "refused", "{detail}");
            }
            let other = json!({"action": "echo", "nonce": end, "payload": {}}).to_string();
            refusal(&server.execute(&other), 409, "nonce_conflict");
        }
        server.kill();
    }
    server = Server::start(&scratch, &settings);
    let artifact = Minted::of("echo", &payload).sign();
    executed(&server.execute(&body("pending", &artifact)), "echo", "pending", &payload);
    server.kill();
    let audited = cli(&scratch, &settings, &["verify"]);
    assert_eq!(audited.code, 0, "{}", audited.stderr);
}

/// A rejection's record, signed by the key of the settings.
fn rejection(at: Time, id: &Hash) -> String {
    let mut said = json!({
        "rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000f0", "tenant_id": TENANT,
        "exec_id": hex(id), "issued_at": at.to_string(), "justification": "because it must not be",
    });
    let key = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([OPS; 32]));
    let message = format!("openexec-rejection-v1\n{}", canonical(&said));
    said["signature"] = openexec::core::base64::encode(&key.sk.sign(message, None)[..]).into();
    let name = fingerprint(&key.pk);
    let artifact = canonical(&said);
    Rejection { artifact: Json(&artifact), at, id: *id, key: name.into() }.line()
}

#[test]
fn refusals_are_remembered() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let request = json!({"action": "nope", "nonce": "n", "payload": {"a": 1}}).to_string();
    let body = refusal(&server.execute(&request), 400, "unknown_action");
    assert_eq!(body["recorded"], true);
    server.kill();
    let server = Server::start(&scratch, &[]);
    let question = json!({"exec_id": body["id"], "result": body["result"],
                          "receipt": body["receipt"]});
    assert_eq!(
        server.post("/receipts/verify", &question.to_string()).text(),
        r#"{"outcome":"denied","recorded":true,"valid":true}"#
    );
}

#[test]
fn a_store_has_one_owner() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let second = cli(&scratch, &[], &["serve"]);
    assert_eq!(second.code, 75, "{}", second.stderr);
    assert!(second.stderr.contains(server.store.to_str().expect("UTF-8")), "{}", second.stderr);
    // Whoever makes one need not stop it to learn that it is there.
    let made = cli(&scratch, &[], &["init"]);
    assert_eq!(made.code, 78, "{}", made.stderr);
    assert!(made.stderr.contains("there is a store in "), "{}", made.stderr);
    // An address has one owner too.
    let elsewhere = format!("file:{}", scratch.join("elsewhere").display());
    let listen = [("OPENEXEC_DB_URL", elsewhere.as_str()), ("OPENEXEC_LISTEN", &server.address)];
    let third = cli(&scratch, &listen, &["serve"]);
    assert_eq!(third.code, 75, "{}", third.stderr);
    // The first was not disturbed.
    assert_eq!(server.execute(r#"{"action":"echo","nonce":"n"}"#).status, 200);
    assert_eq!(cli(&scratch, &[], &["healthcheck"]).code, 0);
}

/// Serves, which must end by itself.
fn serve(scratch: &Scratch) -> crate::common::Ended {
    run(openexec(scratch), "")
}

#[test]
fn a_changed_byte_is_found_and_named() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    for n in 0..3 {
        server.execute(&format!(r#"{{"action":"echo","nonce":"n{n}","payload":{{"n":{n}}}}}"#));
    }
    server.kill();
    let path = server.store.join(SEGMENT);
    let whole = std::fs::read(&path).expect("read");
    let used = whole.iter().rposition(|byte| *byte != b'\n').expect("written") + 1;
    // Where the machine took its time there is a seal by now: one more commit line, which holds nothing but itself.
    let text = std::str::from_utf8(&whole[..used]).expect("text");
    let (before, _) = text.rsplit_once('\n').expect("lines");
    let is_seal =
        before.trim_end().lines().next_back().is_some_and(|line| line.starts_with("{\"batch\":"));
    let used = if is_seal { before.trim_end().len() } else { used };
    let mut changed: Vec<usize> = (0..used).step_by(401).filter(|at| whole[*at] != b'\n').collect();
    // The last byte of all: the end of the last commit.
    changed.push(used - 1);
    // And what the first line says of the store, which no root covers.
    let identity = br#""store":""#;
    let at = whole.windows(identity.len()).position(|bytes| bytes == identity).expect("named");
    changed.push(at + identity.len());
    for at in changed {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let ended = serve(&scratch);
        assert_eq!(ended.code, 65, "byte {at}: {}", ended.stderr);
        let named = ended.stderr.split_once(&format!("{SEGMENT}, byte ")).expect("the file").1;
        let digits = named.split(|c: char| !c.is_ascii_digit()).next().expect("digits");
        let byte: usize = digits.parse().expect("a number");
        // The batch that holds it is one of the few sectors from there on.
        assert!(byte <= at && at < byte + 2048, "changed {at}, named {byte}");
        assert_eq!(std::fs::read(&path).expect("read"), damaged, "nothing was changed");
    }
    std::fs::write(&path, &whole).expect("written");
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.metric("openexec_store_executions"), 3);
}

#[test]
fn what_is_missing_from_the_middle_is_found() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    for n in 0..3 {
        server.execute(&format!(r#"{{"action":"echo","nonce":"n{n}"}}"#));
    }
    server.kill();
    let path = server.store.join(SEGMENT);
    let whole = std::fs::read(&path).expect("read");
    let second = whole.windows(3).position(|w| w == b"\"n1").expect("the claim") / 512 * 512;
    let blank = |bytes: std::ops::Range<usize>| {
        let mut damaged = whole.clone();
        damaged[bytes].fill(b'\n');
        std::fs::write(&path, damaged).expect("written");
        serve(&scratch)
    };
    assert_eq!(blank(second..second + 512).code, 65);
    assert_eq!(blank(0..512).code, 65);
    std::fs::write(&path, &whole[..whole.len() - 512]).expect("written");
    assert_eq!(serve(&scratch).code, 65, "a segment has its size from birth");
    std::fs::write(&path, &whole).expect("written");
    drop(Server::start(&scratch, &[]));
}

#[test]
fn a_batch_cut_short_is_removed_loudly() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    server.execute(r#"{"action":"echo","nonce":"n"}"#);
    server.kill();
    let path = server.store.join(SEGMENT);
    let mut bytes = std::fs::read(&path).expect("read");
    let used = bytes.iter().rposition(|byte| *byte != b'\n').expect("written") + 1;
    // A claim's first sector reached the disk, its last did not.
    let next = used.div_ceil(512) * 512;
    bytes[next..next + 512].fill(b'x');
    std::fs::write(&path, &bytes).expect("written");
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.metric("openexec_store_executions"), 1);
    until("it is logged", || server.log().contains("cut short"));
    let copy = std::fs::read_dir(&server.store)
        .expect("listed")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("torn-"));
    assert!(copy.is_some(), "a copy is kept");
    let again = r#"{"action":"echo","nonce":"n"}"#;
    assert_eq!(server.execute(again).header("idempotent-replayed"), Some("true"));
}

#[test]
fn a_store_belongs_to_the_mode_it_was_made_for() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    // Without a store clawshield mode makes none, not even in an empty directory.
    for _ in 0..2 {
        let ended = cli(&scratch, &settings, &["serve"]);
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        assert!(ended.stderr.contains("openexec init"), "{}", ended.stderr);
        assert_eq!(cli(&scratch, &settings, &["check"]).code, 78);
        assert!(!scratch.join("store").join(SEGMENT).exists());
        let _ = std::fs::create_dir(scratch.join("store"));
    }
    let made = cli(&scratch, &settings, &["init"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let demo = cli(&scratch, &[], &["serve"]);
    assert_eq!(demo.code, 78, "{}", demo.stderr);
    assert!(demo.stderr.contains("OPENEXEC_MODE=clawshield"), "{}", demo.stderr);

    let other = Scratch::new();
    drop(Server::start(&other, &[]));
    let ended = cli(&other, &settings, &["serve"]);
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("OPENEXEC_MODE=demo"), "{}", ended.stderr);
}

#[test]
fn init_refuses_an_existing_store() {
    let scratch = Scratch::new();
    let made = cli(&scratch, &[], &["init"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let path = scratch.join("store");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&path.join(SEGMENT))), (0o700, 0o600));
    let before = std::fs::read(path.join(SEGMENT)).expect("read");
    let again = cli(&scratch, &[], &["init"]);
    assert_eq!(again.code, 78, "{}", again.stderr);
    assert_eq!(std::fs::read(path.join(SEGMENT)).expect("read"), before);
    // A damaged one as well.
    std::fs::write(path.join(SEGMENT), "damaged").expect("written");
    assert_eq!(cli(&scratch, &[], &["init"]).code, 78);
    assert_eq!(std::fs::read(path.join(SEGMENT)).expect("read"), b"damaged");
    assert_eq!(serve(&scratch).code, 65);
    drop(scratch);

    let scratch = Scratch::new();
    assert_eq!(cli(&scratch, &[], &["init"]).code, 0);
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.metric("openexec_store_executions"), 0);
}

#[test]
fn an_open_directory_is_warned_about() {
    let scratch = Scratch::new();
    assert_eq!(cli(&scratch, &[], &["init"]).code, 0);
    let store = scratch.join("store");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o2770)).expect("changed");
    let server = Server::start(&scratch, &[]);
    until("the warning is logged", || server.log().contains("chmod 700"));
}

#[test]
fn the_log_is_json_and_names_nothing_of_a_request() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    server.execute(r#"{"action":"echo","nonce":"secret-nonce","payload":{"a":"secret"}}"#);
    server.execute(r#"{"action":"add","nonce":"secret-nonce-2","payload":{"a":"secret"}}"#);
    server.execute("secret");
    until("it says that it serves", || server.log().contains("OpenExec serves"));
    for line in server.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(line["at"].is_string() && line["level"].is_string() && line["message"].is_string());
    }
    let log = server.log();
    assert!(!log.contains("secret"), "{log}");
    assert!(log.contains("\"mode\":\"demo\"") && log.contains(&server.address), "{log}");
    assert!(log.contains(server.store.to_str().expect("UTF-8")), "{log}");
    drop(server);

    for (level, says) in [("off", false), ("error", false), ("info", true)] {
        let server = Server::start(&scratch, &[("OPENEXEC_LOG", level)]);
        // The log is written beside; an execution later, the start has been said.
        server.execute(r#"{"action":"echo","nonce":"x"}"#);
        if says {
            until("it says that it serves", || server.log().contains("OpenExec serves"));
        } else {
            assert!(!server.log().contains("OpenExec serves"));
        }
    }

    // It listens before it has looked into the store; of one that is damaged it never says that it serves.
    let segment = scratch.join("store").join(SEGMENT);
    let mut bytes = std::fs::read(&segment).expect("read");
    let at = bytes.windows(5).position(|found| found == b"claim").expect("a claim");
    bytes[at] = b'C';
    std::fs::write(&segment, bytes).expect("written");
    let ended = cli(&scratch, &[("OPENEXEC_LISTEN", "127.0.0.1:0")], &["serve"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(!ended.stderr.contains("OpenExec serves"), "{}", ended.stderr);
}

#[test]
fn it_listens_on_a_unix_socket() {
    let scratch = Scratch::new();
    let address = format!("unix:{}", scratch.join("s").display());
    let mut command: Command = openexec(&scratch);
    command.env("OPENEXEC_LISTEN", &address).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("started");
    until("it is healthy", || cli(&scratch, &[], &["healthcheck"]).code == 0);
    let lock = std::fs::read_to_string(scratch.join("store").join("LOCK")).expect("read");
    assert_eq!(lock, format!("{} {address}\n", child.id()));
    let _ = child.kill();
    let _ = child.wait();
    let gone = cli(&scratch, &[], &["healthcheck"]);
    assert_eq!(gone.code, 74, "{}", gone.stderr);
    assert!(gone.stderr.contains(&address), "{}", gone.stderr);
}
