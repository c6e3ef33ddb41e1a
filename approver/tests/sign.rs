//! `openexec-approve sign`, as people and scripts use it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{
    REQUEST, Scratch, TOOL, Terminal, fed, key_file, pem, private_der, private_pem, public_key,
    public_pem, refused, text, tool,
};
use openexec::core::approval::artifact;
use openexec::core::hash::{hex, sha256};
use openexec::core::json::canonical;
use openexec::core::receipt;
use openexec::core::time::Time;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

/// `sign` without a terminal, the request on standard input.
fn sign(scratch: &Scratch, key: &Path, more: &[&str], request: &str) -> Output {
    let key = key.to_str().expect("UTF-8");
    tool(scratch, &[&["sign", "--tenant", "t1", "--key", key], more].concat(), request)
}

fn verifies(seed: u8, artifact: &Value) -> bool {
    let read = &artifact::parse(artifact).expect("well formed")[0];
    let signature = artifact["signature"].as_str().expect("text");
    let signature = openexec::core::base64::decode(signature).expect("base64");
    let key = UnparsedPublicKey::new(&ED25519, public_key(seed));
    key.verify(&read.signed_message(), &signature).is_ok()
}

fn artifact(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = text(&output.stdout);
    assert_eq!(line.matches('\n').count(), 1);
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn it_signs_what_it_shows() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o640);
    let request = "{\"action\":\"echo\",\"nonce\":\"n\u{200b}1\",\
                   \"payload\":{\"b\":1.0,\"a\":\"\\u001b]0;x\\u0007\u{202e}evil\"}}";
    let payload = json!({"a": "\u{1b}]0;x\u{7}\u{202e}evil", "b": 1});
    for (more, hash) in
        [(&["--yes"][..], "action_hash"), (&["--yes", "--bind-nonce", "--ttl", "60"], "exec_id")]
    {
        let output = sign(&scratch, &key, more, request);
        let value = artifact(&output);
        assert!(verifies(1, &value));
        assert!(!verifies(2, &value), "a check that passes everything would not tell");

        let hashed = match hash {
            "exec_id" => json!({"action": "echo", "nonce": "n\u{200b}1", "payload": payload}),
            _ => json!({"action": "echo", "payload": payload}),
        };
        let expected = hex(&sha256(&[canonical::to_string(&hashed).as_bytes()]));
        assert_eq!(value["action_hash"], expected);
        let [issued, expires] = ["issued_at", "expires_at"]
            .map(|name| Time::parse(value[name].as_str().expect("text")).expect("a time"));
        let lives = expires.seconds() - issued.seconds();
        assert_eq!(lives, if hash == "exec_id" { 60 } else { 900 });

        let shown = text(&output.stderr);
        let nonce = if hash == "exec_id" { "\"n\\u200b1\" and no other" } else { "any; " };
        let fingerprint = &hex(&sha256(&[&public_key(1)]))[..16];
        for part in [
            "action   echo\n",
            "\n  {\n    \"a\": \"\\u001b]0;x\\u0007\\u202eevil\",\n    \"b\": 1\n  }\n",
            &format!("nonce    {nonce}"),
            "tenant   \"t1\"\n",
            &format!("expires  {}", value["expires_at"].as_str().expect("text")),
            &format!("signs    {expected}"),
            &format!("key      {fingerprint}\n"),
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{shown}");
    }
}

#[test]
fn without_a_terminal_and_without_yes_it_signs_nothing() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    refused(&sign(&scratch, &key, &[], REQUEST), 64, "no terminal");
    refused(&sign(&scratch, &key, &[], &format!("{REQUEST}\nyes\n")), 65, "one JSON value");
}

/// A line for a shell, the request on standard input, so that only the terminal can be asked.
fn line(key: &Path, more: &str) -> String {
    let key = key.display();
    format!("{TOOL} sign --key {key} --tenant t1 {more} < request.json > artifact.json")
}

#[test]
fn it_asks_on_the_terminal_and_takes_yes() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    scratch.file("request.json", REQUEST, 0o600);
    for (answer, signs) in [("yes\n", true), ("no\n", false), ("y\n", false), ("\n", false)] {
        let mut terminal = Terminal::run(&scratch, &line(&key, ""), 80);
        let shown = terminal.until("Type yes: ");
        assert!(
            shown.contains("    \"msg\": \"hi\"") && shown.contains("Approve echo?\r\n"),
            "{shown}"
        );
        terminal.types(answer);
        let (code, shown) = terminal.ended();
        assert_eq!(code, Some(if signs { 0 } else { 65 }), "{shown}");
        let artifact = std::fs::read_to_string(scratch.path().join("artifact.json")).expect("read");
        assert_eq!(!artifact.is_empty(), signs, "{answer:?}: {artifact}");
        assert_eq!(shown.contains("not confirmed: nothing was"), !signs);
    }
}

/// What was typed before the question was there answers nothing; neither does what was answered to rows that the
/// terminal has wrapped since.
#[test]
fn a_yes_counts_only_for_what_is_on_the_screen() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    scratch.file("request.json", REQUEST, 0o600);
    let mut terminal = Terminal::run(&scratch, &format!("read go; {}", line(&key, "")), 80);
    terminal.types("go\nyes\nyes\nyes\n");
    terminal.until("Type yes: ");
    terminal.set_columns(40);
    terminal.types("yes\n");
    let again = terminal.until("Type yes: ");
    assert!(again.contains("The width has changed."), "{again}");
    assert!(again.split("\r\n").all(|row| row.len() < 40), "{again}");
    terminal.types("no\n");
    assert_eq!(terminal.ended().0, Some(65));
}

#[test]
fn what_is_longer_than_a_terminal_remembers_is_shown_in_parts() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    let items: Vec<usize> = (0..450).collect();
    let request = json!({"action": "echo", "payload": {"items": items}}).to_string();
    scratch.file("request.json", request, 0o600);
    for (answer, code) in [("\n", 0), ("q\n", 65)] {
        let mut terminal = Terminal::run(&scratch, &line(&key, ""), 80);
        terminal.until("(200 of 463: Enter; q ends) ");
        terminal.types(answer);
        if code == 0 {
            terminal.until("(400 of 463: Enter; q ends) ");
            terminal.types("\n");
            terminal.until("Type yes: ");
            terminal.types("yes\n");
        }
        let (ended, shown) = terminal.ended();
        assert_eq!(ended, Some(code), "{shown}");
    }
}

#[test]
fn keys_that_others_may_read_and_files_that_are_no_keys_are_refused() {
    let scratch = Scratch::new();
    for mode in [0o644, 0o604, 0o602, 0o666] {
        let key = key_file(&scratch, 1, mode);
        refused(&sign(&scratch, &key, &["--yes"], REQUEST), 78, "open to others; run chmod o=");
    }
    let good = private_pem(1);
    let changed = |at: usize, to: u8| {
        let mut der = private_der(1);
        der[at] = to;
        pem("PRIVATE KEY", &der)
    };
    for (content, sentence) in [
        (public_pem(1), "is a public key, which cannot sign"),
        (String::new(), "no PEM block"),
        ("x".repeat(70_000), "too large"),
        (format!("{good}{}", public_pem(1)), "more than one"),
        (format!("x\n{good}"), "outside"),
        (good.replace('\n', "\\n"), "line break"),
        (good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "encrypted key is damaged"),
        (good.replace("PRIVATE KEY", "RSA PRIVATE KEY"), "no PRIVATE KEY"),
        (good.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "damaged"),
        (good.replacen("MC4C", "MC4 C", 1), "base64"),
        (pem("PRIVATE KEY", &private_der(1)[..47]), "no Ed25519"),
        (pem("PRIVATE KEY", &[&private_der(1)[..], &[1]].concat()), "no Ed25519"),
        (changed(11, 0x6e), "no Ed25519"), // X25519
        (changed(4, 9), "no Ed25519"),
        (private_pem(0), "all zeros"),
        ("ssh-rsa AAAA x".to_owned(), "type ed25519"),
        ("ssh-ed25519 AAAA x".to_owned(), "type ed25519"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== x".to_owned(), "damaged"),
        ("ssh-ed25519 ? x".to_owned(), "no base64"),
    ] {
        let path = scratch.file("other.pem", &content, 0o600);
        refused(&sign(&scratch, &path, &["--yes"], REQUEST), 78, sentence);
    }
    let none = scratch.path().join("none");
    refused(&sign(&scratch, &none, &["--yes"], REQUEST), 74, "reading the key");
}

/// A line of `openexec pending`, as a value.
fn pending(payload: &Value) -> Value {
    let canonical = canonical::to_string(payload);
    json!({
        "action": "echo", "nonce": "n1", "payload": payload, "asynchronous": false,
        "asked_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-02T00:00:00.000000Z",
        "caller": "agent", "justification": "for\n\u{202e}you", "state": "pending",
        "action_hash": hex(&receipt::action_hash("echo", &canonical)),
        "id": hex(&receipt::exec_id("echo", "n1", &canonical)),
    })
}

/// A line may be larger than a request: it has more around a payload, and spells it in ASCII.
#[test]
fn whatever_payload_a_service_takes_is_signed_from_its_line() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    // An object counts as 16, the array as one.
    let of_values = |count: usize| json!({"a": vec![0; count - 17]});
    let large = pending(&json!({"msg": "\u{e9}".repeat(300_000)}));
    let large = large.to_string().replace('\u{e9}', "\\u00e9");
    for line in [pending(&of_values(131_072)).to_string(), large] {
        artifact(&sign(&scratch, &key, &["--yes"], &line));
    }
    let request = json!({"action": "echo", "payload": of_values(131_072)});
    let deep = (0..63).fold(json!(0), |inner, _| json!([inner]));
    for (request, sentence) in [
        (pending(&of_values(131_073)).to_string(), "its payload: there are too many values"),
        (pending(&json!({"a": deep})).to_string(), "its payload: containers are nested too deep"),
        (request.to_string(), "there are too many values"),
        (format!("{REQUEST}{}", " ".repeat(1 << 20)), "larger than 1048576 bytes"),
        ("x".repeat(7 << 20), "is larger than"),
    ] {
        refused(&sign(&scratch, &key, &["--yes"], &request), 65, sentence);
    }
}

#[test]
fn what_is_no_request_is_not_approved() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    let hashes = pending(&json!({"msg": "hi"}));
    let yes = &["--yes"][..];
    let shown = text(&sign(&scratch, &key, yes, &hashes.to_string()).stderr);
    for part in ["\nasked by \"agent\"\n", "\nin their words \"for\\n\\u202eyou\"\n"] {
        assert!(shown.contains(part), "{shown}");
    }
    // Both are fields of a request.
    let said = r#"{"action":"echo","justification":"please","expires_at":"2026-01-02T00:00:00Z"}"#;
    let output = sign(&scratch, &key, yes, said);
    assert!(text(&output.stderr).contains("\nin their words \"please\"\n"));
    artifact(&output);
    let changed = |name: &str, value: Value| {
        let mut line = hashes.clone();
        line[name] = value;
        line.to_string()
    };
    artifact(&sign(&scratch, &key, yes, &changed("blocked", "frozen".into())));
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
        (without("justification"), "whole line"),
        (r#"{"action":"echo","blocked":"x"}"#.to_owned(), "whole line"),
        (without("nonce"), "do not approve it"),
        (format!("{hashes}\n{hashes}"), "one JSON value"),
        (r#"{"action":"echo","action":"add"}"#.to_owned(), "same key twice"),
        (r#"{"action":"echo","payload":[]}"#.to_owned(), "payload must be"),
    ] {
        refused(&sign(&scratch, &key, yes, &request), 65, sentence);
    }
    for (more, sentence) in [
        (&["--yes", "--ttl", "0"][..], "--ttl takes"),
        (&["--yes", "--ttl", "604801"], "--ttl takes"),
        (&["--yes", "--ttl", "x"], "--ttl takes"),
        (&["--yes", "--sign"], "no option --sign"),
        (&["--yes", "--url", "https://x"], "no option --url"),
        (&["--yes", "--signature", "x"], "or none of them"),
        (&["--yes", "--print-message", "--message", "x"], "or none of them"),
    ] {
        refused(&sign(&scratch, &key, more, REQUEST), 64, sentence);
    }
    let no_nonce = r#"{"action":"echo","payload":{}}"#;
    refused(&sign(&scratch, &key, &["--yes", "--bind-nonce"], no_nonce), 64, "needs a nonce");
    assert!(sign(&scratch, &key, yes, no_nonce).status.success());
}

/// A program of OpenSSL or OpenSSH that has to succeed.
fn run(scratch: &Scratch, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(scratch.path());
    let output = fed(command, "");
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_typed_unseen() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    scratch.file("request.json", REQUEST, 0o600);
    let key = key.to_str().expect("UTF-8");
    let plain = ["pkcs8", "-topk8", "-in", key, "-passout", "pass:open sesame\u{e9}", "-out"];
    for (name, more) in [
        ("default.pem", &[][..]),
        ("scrypt.pem", &["-scrypt"]),
        ("aes128.pem", &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"]),
    ] {
        run(&scratch, "openssl", &[&plain[..], &[name], more].concat());
        std::fs::set_permissions(scratch.path().join(name), std::fs::Permissions::from_mode(0o600))
            .expect("chmod");
        for (typed, opens) in [
            ("open sesame\u{e9}\n", true),
            // Taken back, a letter of two bytes too, and all.
            ("x\u{15}open sesamf\u{7f}e\u{fc}\u{7f}\u{e9}\r", true),
            ("open sesame\n", false),
            ("\n", false),
            ("\u{3}", false),
        ] {
            let line = line(Path::new(name), "--yes");
            let mut terminal =
                Terminal::run(&scratch, &format!("{line}; echo ended $?; stty -a"), 80);
            terminal.until("Passphrase of the key: ");
            terminal.types(typed);
            let (_, shown) = terminal.ended();
            assert!(!shown.contains("sesam"), "{shown}");
            // The terminal is as it was.
            let modes: Vec<&str> = shown.split_ascii_whitespace().collect();
            assert!(["echo", "icanon", "isig"].iter().all(|mode| modes.contains(mode)), "{shown}");
            let artifact =
                std::fs::read_to_string(scratch.path().join("artifact.json")).expect("read");
            assert_eq!(!artifact.is_empty(), opens, "{name} {typed:?}: {shown}");
            let ended = if opens {
                "ended 0"
            } else if typed == "\u{3}" {
                "ended 64"
            } else {
                "ended 78"
            };
            assert!(shown.contains(ended), "{name} {typed:?}: {shown}");
            if opens {
                assert!(verifies(1, &serde_json::from_str(&artifact).expect("JSON")));
            }
        }
    }
    // An old cipher, and without a terminal.
    let old = ["-v1", "PBE-SHA1-3DES"];
    run(&scratch, "openssl", &[&plain[..], &["old.pem"], &old].concat());
    refused(
        &sign(&scratch, &scratch.path().join("default.pem"), &["--yes"], REQUEST),
        64,
        "no terminal",
    );
}

/// Signs and says what OpenSSH itself thinks of the signature.
fn ssh_verifies(scratch: &Scratch, key: &str, line: &str) -> bool {
    let output = sign(scratch, Path::new(key), &["--yes"], REQUEST);
    let value = artifact(&output);
    let fields = ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at"];
    let message: String = fields.iter().map(|name| value[*name].as_str().expect("text")).collect();
    let blob = openexec::core::base64::decode(value["signature"].as_str().expect("text"));
    scratch.file("signature", pem("SSH SIGNATURE", &blob.expect("base64")), 0o600);
    scratch.file("allowed", format!("approver namespaces=\"openexec\" {line}\n"), 0o600);
    let mut command = Command::new("ssh-keygen");
    command.args([
        "-Y",
        "verify",
        "-f",
        "allowed",
        "-I",
        "approver",
        "-n",
        "openexec",
        "-s",
        "signature",
    ]);
    command.current_dir(scratch.path());
    fed(command, &message).status.success()
}

#[test]
fn openssh_keys_sign_in_files_and_in_the_agent() {
    let scratch = Scratch::new();
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]);
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "other"]);
    let public = std::fs::read_to_string(scratch.path().join("ssh.pub")).expect("read");
    let other = std::fs::read_to_string(scratch.path().join("other.pub")).expect("read");
    assert!(ssh_verifies(&scratch, "ssh", &public));
    assert!(
        !ssh_verifies(&scratch, "ssh", &other),
        "a check that passes everything would not tell"
    );
    // The public half says which key; `ssh-keygen` finds the private one beside it or in the agent.
    assert!(ssh_verifies(&scratch, "ssh.pub", &public));

    // In the agent alone. What is started here ends with its socket's shell.
    let script = format!(
        "eval $(ssh-agent) > /dev/null; ssh-add -q ssh; rm ssh; \
         {TOOL} sign --key ssh.pub --tenant t1 --yes request.json; code=$?; kill $SSH_AGENT_PID; exit $code"
    );
    scratch.file("request.json", REQUEST, 0o600);
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(scratch.path());
    artifact(&fed(command, ""));
    // And nowhere.
    refused(&sign(&scratch, Path::new("ssh.pub"), &["--yes"], REQUEST), 78, "did not sign");
}

/// A program in the place of `ssh-keygen` signs something else, with another key, or nothing.
#[test]
fn what_ssh_keygen_gives_is_checked_before_it_is_used() {
    let scratch = Scratch::new();
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]);
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "other"]);
    for (script, sentence) in [
        ("exec /usr/bin/ssh-keygen -Y sign -n openexec -f other", "another key, or something else"),
        ("exec /usr/bin/ssh-keygen -Y sign -n file -f ssh", "another key, or something else"),
        (
            "cat > /dev/null; echo x | /usr/bin/ssh-keygen -q -Y sign -n openexec -f ssh",
            "something else",
        ),
        ("exec /usr/bin/ssh-keygen -Y sign -O hashalg=sha256 -n openexec -f ssh", "something else"),
        ("cat > /dev/null", "no signature"),
        ("cat", "no signature"),
        ("exit 1", "did not sign"),
    ] {
        scratch.file("ssh-keygen", format!("#!/bin/sh\n{script}\n"), 0o755);
        let mut command = Command::new(TOOL);
        command.args(["sign", "--key", "ssh", "--tenant", "t1", "--yes"]);
        command.current_dir(scratch.path()).env("PATH", scratch.path());
        let path = format!("{}:/usr/bin:/bin", scratch.path().display());
        command.env("PATH", path);
        refused(&fed(command, REQUEST), 78, sentence);
    }
}

/// A KMS, an HSM, paper: the message goes out, the signature comes back.
#[test]
fn somebody_else_signs_and_only_their_signature_of_this_is_taken() {
    let scratch = Scratch::new();
    key_file(&scratch, 1, 0o600);
    key_file(&scratch, 2, 0o600);
    let public = scratch.file("one.pub", public_pem(1), 0o644);
    let output = sign(&scratch, &public, &["--yes", "--print-message"], REQUEST);
    assert!(output.status.success(), "{}", text(&output.stderr));
    scratch.file("message", &output.stdout, 0o600);
    for (seed, name) in [(1, "good"), (2, "other")] {
        let key = format!("key-{seed}-600.pem");
        run(
            &scratch,
            "openssl",
            &["pkeyutl", "-sign", "-inkey", &key, "-rawin", "-in", "message", "-out", name],
        );
    }
    let raw = std::fs::read(scratch.path().join("good")).expect("read");
    scratch.file("base64", openexec::core::base64::encode(&raw) + "\n", 0o600);
    scratch.file("short", &raw[1..], 0o600);
    scratch.file("changed", text(&output.stdout).replacen("t1", "t2", 1), 0o600);
    let bring = |message: &str, signature: &str, request: &str| {
        let more = ["--yes", "--message", message, "--signature", signature];
        sign(&scratch, &public, &more, request)
    };
    for signature in ["good", "base64"] {
        let value = artifact(&bring("message", signature, REQUEST));
        assert!(verifies(1, &value));
    }
    for (message, signature, request, sentence) in [
        ("message", "other", REQUEST, "not this key's signature"),
        ("message", "short", REQUEST, "not this key's signature"),
        ("message", "message", REQUEST, "not this key's signature"),
        ("changed", "good", REQUEST, "another request or tenant"),
        ("good", "good", REQUEST, "none that --print-message printed"),
        (
            "message",
            "good",
            r#"{"action":"echo","payload":{"msg":"ho"},"nonce":"n1"}"#,
            "another request",
        ),
    ] {
        refused(&bring(message, signature, request), 65, sentence);
    }
}
