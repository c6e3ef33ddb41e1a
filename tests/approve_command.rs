//! `openexec approve` and `openexec pending`, as people and scripts use them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::approvals::{private_key, private_pem, public_pem};
use common::{Scratch, Server, openexec, until};
use openexec::core::approval::artifact;
use openexec::core::approval::keys::fingerprint;
use openexec::core::approval::signature::Signature;
use openexec::core::hash::hex;
use openexec::core::receipt;
use openexec::serve::keys::from_text;
use serde_json::{Value, json};

const REQUEST: &str = r#"{"action":"echo","payload":{"msg":"hi"},"nonce":"n1"}"#;

/// The private key of a seed in a file of this mode.
fn key_file(scratch: &Scratch, seed: u8, mode: u32) -> PathBuf {
    let path = scratch.join(&format!("key-{seed}-{mode:o}.pem"));
    std::fs::write(&path, private_pem(&[seed; 32])).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    path
}

/// `approve` without a terminal, the request on standard input.
fn approve(scratch: &Scratch, key: &Path, more: &[&str], request: &str) -> Output {
    let mut command = Command::new("setsid");
    command.args(["--wait", env!("CARGO_BIN_EXE_openexec"), "approve", "--tenant", "t1", "--key"]);
    command.arg(key).args(more).env_clear().current_dir(scratch.path());
    fed(command, request)
}

fn fed(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // It may have ended without reading: a pipe that broke is no failure of the test.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("ended")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn refused(output: &Output, code: i32, sentence: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(sentence), "{sentence}: {stderr}");
    assert!(output.stdout.is_empty(), "nothing is signed: {}", text(&output.stdout));
}

#[test]
fn it_signs_what_it_shows() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o640);
    let request = "{\"action\":\"echo\",\"nonce\":\"n\u{200b}1\",\
                   \"payload\":{\"b\":1.0,\"a\":\"\\u001b]0;x\\u0007\u{202e}evil\"}}";
    for (more, hash) in
        [(&["--yes"][..], "action_hash"), (&["--yes", "--bind-nonce", "--ttl", "60"], "exec_id")]
    {
        let output = approve(&scratch, &key, more, request);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let line = text(&output.stdout);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        let minted = &artifact::parse(&value).expect("well formed")[0];
        let keyring = from_text(&public_pem(1)).expect("a key");
        let Signature::Raw(bytes) = minted.signature() else { panic!("a PEM key signs raw") };
        let signature = ed25519(bytes);
        let public_key = keyring.keys()[0].public_key();
        public_key.verify(minted.signed_message(), &signature).expect("it verifies");

        let mut hashing = openexec(&scratch);
        hashing.arg("hash");
        let hashes: Value = serde_json::from_slice(&fed(hashing, request).stdout).expect("hashes");
        assert_eq!(value["action_hash"], hashes[hash]);
        let lives = minted.expires_at().seconds() - minted.issued_at().seconds();
        assert_eq!(lives, if hash == "exec_id" { 60 } else { 900 });

        let shown = text(&output.stderr);
        let nonce = if hash == "exec_id" { "\"n\\u200b1\" and no other" } else { "any; " };
        for part in [
            "action   echo\n",
            "\n  {\n    \"a\": \"\\u001b]0;x\\u0007\\u202eevil\",\n    \"b\": 1\n  }\n",
            &format!("nonce    {nonce}"),
            "tenant   \"t1\"\n",
            &format!("expires  {}", value["expires_at"].as_str().expect("text")),
            &format!("signs    {}", value["action_hash"].as_str().expect("text")),
            &format!("key      {}", fingerprint(private_key(1).public_key())),
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{shown}");
    }
}

fn ed25519(bytes: &[u8; 64]) -> ed25519_compact::Signature {
    ed25519_compact::Signature::new(*bytes)
}

#[test]
fn without_a_terminal_and_without_yes_it_signs_nothing() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    refused(&approve(&scratch, &key, &[], REQUEST), 64, "no terminal");
    refused(&approve(&scratch, &key, &[], &format!("{REQUEST}\nyes\n")), 65, "one JSON value");
}

/// On a terminal: the request on standard input, so that only the terminal can be asked.
#[test]
fn it_asks_on_the_terminal_and_takes_yes() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    std::fs::write(scratch.join("request.json"), REQUEST).expect("written");
    for (answer, signs) in [("yes\n", true), ("no\n", false), ("y\n", false), ("\n", false)] {
        let line = format!(
            "{} approve --key {} --tenant t1 < request.json > artifact.json",
            env!("CARGO_BIN_EXE_openexec"),
            key.display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.current_dir(scratch.path());
        let output = fed(command, answer);
        let shown = text(&output.stdout);
        assert!(
            shown.contains("    \"msg\": \"hi\"") && shown.contains("Approve echo?\r\nType yes: "),
            "{shown}"
        );
        assert_eq!(output.status.code(), Some(if signs { 0 } else { 65 }), "{shown}");
        let artifact = std::fs::read_to_string(scratch.join("artifact.json")).expect("read");
        assert_eq!(!artifact.is_empty(), signs, "{answer:?}: {artifact}");
        assert_eq!(shown.contains("not approved: nothing was"), !signs);
    }
}

#[test]
fn keys_that_others_may_read_and_files_that_are_no_keys_are_refused() {
    let scratch = Scratch::new();
    for mode in [0o644, 0o604, 0o602, 0o666] {
        let key = key_file(&scratch, 1, mode);
        refused(&approve(&scratch, &key, &["--yes"], REQUEST), 78, "open to others; run chmod o=");
    }
    let path = scratch.join("other.pem");
    for (content, sentence) in [
        (public_pem(1), "no PRIVATE KEY"),
        (String::new(), "no PEM block"),
        ("x".repeat(70_000), "too large"),
    ] {
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let output = approve(&scratch, &path, &["--yes"], REQUEST);
        refused(&output, 78, sentence);
    }
    let output = approve(&scratch, &scratch.join("none"), &["--yes"], REQUEST);
    refused(&output, 74, "reading the key");
}

#[test]
fn what_is_no_request_is_not_approved() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    let payload = r#"{"msg":"hi"}"#;
    let hashes = json!({
        "action": "echo", "nonce": "n1", "payload": {"msg": "hi"}, "asynchronous": false,
        "asked_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-02T00:00:00.000000Z",
        "caller": null, "justification": null, "state": "pending",
        "action_hash": hex(&receipt::action_hash("echo", payload)),
        "id": hex(&receipt::exec_id("echo", "n1", payload)),
    });
    let yes = &["--yes"][..];
    assert!(approve(&scratch, &key, yes, &hashes.to_string()).status.success());
    let changed = |name: &str, value: Value| {
        let mut line = hashes.clone();
        line[name] = value;
        line.to_string()
    };
    let without = |name: &str| {
        let mut line = hashes.clone();
        line.as_object_mut().expect("an object").remove(name);
        line.to_string()
    };
    for (request, sentence) in [
        (changed("payload", json!({"msg": "ho"})), "do not approve it"),
        (changed("nonce", "n2".into()), "do not approve it"),
        (changed("action", "add".into()), "do not approve it"),
        (changed("action_hash", "0".repeat(64).into()), "do not approve it"),
        (changed("id", Value::Null), "do not approve it"),
        (changed("more", Value::Null), "Unknown field: more"),
        (without("payload"), "whole line"),
        (without("asked_at"), "whole line"),
        (without("nonce"), "do not approve it"),
        (format!("{hashes}\n{hashes}"), "one JSON value"),
        (r#"{"action":"echo","action":"add"}"#.to_owned(), "same key twice"),
        (r#"{"action":"echo","payload":[]}"#.to_owned(), "payload must be"),
    ] {
        refused(&approve(&scratch, &key, yes, &request), 65, sentence);
    }
    for (more, sentence) in [
        (&["--yes", "--ttl", "0"][..], "--ttl takes"),
        (&["--yes", "--ttl", "604801"], "--ttl takes"),
        (&["--yes", "--ttl", "x"], "--ttl takes"),
        (&["--yes", "--sign"], "no option --sign"),
    ] {
        refused(&approve(&scratch, &key, more, REQUEST), 64, sentence);
    }
    let no_nonce = r#"{"action":"echo","payload":{}}"#;
    refused(&approve(&scratch, &key, &["--yes", "--bind-nonce"], no_nonce), 64, "needs a nonce");
    assert!(approve(&scratch, &key, yes, no_nonce).status.success());
}

fn pending(scratch: &Scratch) -> Vec<String> {
    let output = openexec(scratch).arg("pending").output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The agent proposes and is refused; the host lists it; the approver signs what the list says and
/// leaves the file; the agent repeats the same call.
#[test]
fn from_a_refusal_to_an_execution_without_the_agent_holding_an_approval() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    let directory = scratch.join("approvals");
    std::fs::create_dir(&directory).expect("made");
    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t1"),
        ("CLAWSHIELD_PUBLIC_KEY", &public_pem(1)),
        ("OPENEXEC_APPROVALS_DIR", &directory.display().to_string()),
    ];
    assert!(openexec(&scratch).arg("init").envs(environment).status().expect("run").success());
    let server = Server::start(&scratch, &environment);
    assert!(pending(&scratch).is_empty());
    // Until the next segment is there, refusals are only counted.
    until("a segment is prepared", || server.metric("openexec_segments_prepared") == 1);

    let other = r#"{"action":"add","payload":{"a":1.0},"nonce":"n\u202e2"}"#;
    let large = json!({"action": "echo", "nonce": "n3", "payload": {"msg": "x".repeat(5000)}});
    let large = large.to_string();
    for (request, times) in [(REQUEST, 2), (other, 1), (&large, 1), (REQUEST, 1)] {
        for _ in 0..times {
            assert_eq!(server.execute(request).code(), "approval_missing");
        }
    }
    // Refused for another reason: an approval would not mend it.
    server.execute(r#"{"action":"none","payload":{},"nonce":"n4"}"#);

    // One line a request, in the order of their first refusals.
    let lines = pending(&scratch);
    let nonces: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["nonce"].clone())
        .collect();
    assert_eq!(nonces, ["n1", "n\u{202e}2", "n3"]);
    let bound = &["--yes", "--bind-nonce"][..];
    for (line, request, more) in [
        (&lines[0], REQUEST, &["--yes"][..]),
        (&lines[1], other, bound),
        (&lines[2], &large, bound),
    ] {
        let artifact = approve(&scratch, &key, more, line);
        assert!(artifact.status.success(), "{}", text(&artifact.stderr));
        let value: Value = serde_json::from_slice(&artifact.stdout).expect("JSON");
        // Its own hash is the name under which it is looked for.
        let name = format!("{}.json", value["action_hash"].as_str().expect("text"));
        std::fs::write(directory.join(name), &artifact.stdout).expect("written");
        let executed = server.execute(request);
        assert_eq!(executed.status, 200, "{}", executed.text());
    }
    assert!(pending(&scratch).is_empty());

    // The same on a terminal, for people.
    let line = format!("{} pending", env!("CARGO_BIN_EXE_openexec"));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("OPENEXEC_DB_URL", format!("file:{}", server.store.display()));
    server.execute(r#"{"action":"echo","payload":{"msg":"a\u001b[2J\u202eb"},"nonce":"n5"}"#);
    let shown = text(&fed(command, "").stdout);
    assert!(shown.contains("\"msg\": \"a\\u001b[2J\\u202eb\""), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
}

#[test]
fn pending_needs_a_store() {
    let scratch = Scratch::new();
    let output = openexec(&scratch).arg("pending").output().expect("run");
    refused(&output, 78, "there is no store");
}

/// The documents' pipe from the host to the approver's machine. `ssh` hands its words to a shell there,
/// which has nothing of this environment.
#[test]
fn the_pipe_over_ssh_works_as_printed() {
    let scratch = Scratch::new();
    let page = include_str!("../docs/approvals.md");
    let printed = page.split("\nssh ").nth(1).expect("the command").split("\n```").next();
    let bin = Path::new(env!("CARGO_BIN_EXE_openexec")).parent().expect("a directory").display();
    let path = format!("{}:{bin}:/usr/bin:/bin", scratch.path().display());
    let ssh = scratch.join("ssh");
    std::fs::write(&ssh, format!("#!/bin/sh\nshift\nexec env -i PATH={bin}:/bin sh -c \"$*\"\n"))
        .expect("written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::rename(key_file(&scratch, 1, 0o600), scratch.join("alice.pem")).expect("renamed");

    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "acme"),
        ("CLAWSHIELD_PUBLIC_KEY", &public_pem(1)),
    ];
    assert!(openexec(&scratch).arg("init").envs(environment).status().expect("run").success());
    let server = Server::start(&scratch, &environment);
    until("it is stored", || server.execute(REQUEST).json()["recorded"] == true);
    let store = server.store.display().to_string();
    let line = format!("ssh {}", printed.expect("a command"));
    let line = line.replace("/var/lib/openexec/store", &store);
    assert!(line.contains(&store), "{line}");
    std::fs::write(scratch.join("pipe.sh"), line).expect("written");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", "sh pipe.sh", "/dev/null"]);
    command.env("PATH", path).current_dir(scratch.path());
    let output = fed(command, "yes\n");
    assert!(output.status.success(), "{}", text(&output.stdout));

    let artifact = std::fs::read_to_string(scratch.join("approval.json")).expect("an approval");
    let mut request: Value = serde_json::from_str(REQUEST).expect("JSON");
    request["approval_artifact"] = serde_json::from_str(&artifact).expect("JSON");
    assert_eq!(server.execute(&request.to_string()).status, 200);
}
