//! Evidence, as whoever does not trust the service meets it: what it signs, what it proves, and
//! what it refuses to open or to sign. Each attack is made on the real binary.
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::approvals::{private_key, private_pem, public_pem};
use crate::common::evidence::{
    Evidence, LOG_KEY, ORIGIN, copy, echo, forge, opened, other_spelling, records, verifier,
    verify_proof,
};
use crate::common::extends::extends;
use crate::common::handlers::service;
use crate::common::{Scratch, Server, cli, problem, until};
use openexec::core::base64;
use openexec::core::tree::leaf_hash;
use openexec::evidence::proof::check;

#[test]
fn every_receipt_is_proven_as_soon_as_it_is_answered() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Others execute meanwhile, so that the log grows between an answer and its proof.
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                echo(&server, &format!("other {n}"), "");
            }
        });
        for n in 0..150 {
            let id = echo(&server, &format!("n{n}"), "a text");
            let answer = server.get(&format!("/receipts/{id}/proof"));
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            let proven = check(&answer.text(), &verifier()).expect("a proof");
            let receipt: serde_json::Value = serde_json::from_str(&proven.line).expect("JSON");
            assert_eq!(receipt["id"], id);
            assert_eq!(receipt["kind"], "receipt");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let checkpoint = server.get("/log/checkpoint");
    assert_eq!(checkpoint.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(checkpoint.text(), evidence.text(), "it was in the file before it was answered");
    let head = opened(&checkpoint.text()).head;
    assert_eq!(head.size, records(&server.store).len() as u64);
    assert_eq!(server.metric("openexec_checkpoint_records"), head.size);
    assert_eq!(server.get("/log/checkpoint").body, checkpoint.body, "one size, one signature");
}

#[test]
fn the_newest_extends_every_older_one() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let mut kept = Vec::new();
    for n in 0..40 {
        echo(&server, &format!("n{n}"), "");
        kept.push(opened(&server.get("/log/checkpoint").text()).head);
    }
    let sizes: BTreeSet<u64> = kept.iter().map(|head| head.size).collect();
    assert_eq!(sizes.len(), 40, "each execution made it longer");
    for older in &kept {
        let answer = server.get(&format!("/log/consistency?from={}", older.size));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body = answer.json();
        assert_eq!(answer.text(), crate::common::canonical(&body));
        let newest = opened(body["checkpoint"].as_str().expect("a note")).head;
        assert_eq!((&body["from"], &body["size"]), (&older.size.into(), &newest.size.into()));
        let hashes = body["hashes"].as_array().expect("hashes").iter();
        let hashes: Vec<[u8; 32]> = hashes
            .map(|hash| base64::decode(hash.as_str().expect("text")).expect("base64"))
            .map(|bytes| bytes.try_into().expect("a hash"))
            .collect();
        assert!(extends(older, &newest, &hashes), "{}", older.size);
    }
    for bad in [
        "",
        "?",
        "?from",
        "?from=",
        "?from=00",
        "?from=01",
        "?from=-1",
        "?from=+1",
        "?from=1.0",
        "?from=x",
        "?from=1&from=2",
        "?from=1&x=1",
        "?x=1",
        "?from=83",
        "?FROM=1",
        "?from=18446744073709551615",
        "?from=18446744073709551616",
        "?from=%31",
    ] {
        problem(&server.get(&format!("/log/consistency{bad}")), 422, "invalid_request");
    }
}

#[test]
fn what_was_not_executed_is_not_proven() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let refused = server.execute(r#"{"action":"launch","payload":{},"nonce":"n"}"#).json();
    let id = refused["id"].as_str().expect("an id");
    let digits = "0123456789abcdef".repeat(4);
    for id in [id, &digits, &digits.to_uppercase(), &digits[1..], "x", "%2e", "verify"] {
        problem(&server.get(&format!("/receipts/{id}/proof")), 404, "not_found");
    }
    for path in ["/log/checkpoint", "/log/consistency?from=1", "/receipts/x/proof"] {
        problem(&server.post(path, "{}"), 405, "method_not_allowed");
    }
}

#[test]
fn failed_and_indeterminate_outcomes_are_proven_too() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut command = service(&scratch);
    command.envs(evidence.settings());
    let server = Server::spawn(command, &scratch);
    for (action, outcome) in
        [("fail", "failed"), ("unknown", "indeterminate"), ("panic_once", "indeterminate")]
    {
        let request = format!(r#"{{"action":"{action}","payload":{{}},"nonce":"{action}"}}"#);
        let answer = server.execute(&request).json();
        assert_eq!(answer["outcome"], outcome);
        let id = answer["id"].as_str().expect("an id");
        let proof = server.get(&format!("/receipts/{id}/proof")).text();
        let ended = verify_proof(&scratch, &proof, &verifier().to_string());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.contains(&format!("outcome     {outcome}\n")), "{}", ended.stdout);
        assert!(ended.stdout.contains(answer["receipt"].as_str().expect("a receipt")));
    }
}

/// A proof that is asked for while the execution runs is not invented.
#[test]
fn a_receipt_that_is_not_there_yet_is_not_proven() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut command = service(&scratch);
    command.envs(evidence.settings());
    let mut server = Server::spawn(command, &scratch);
    let before = server.get("/log/checkpoint").text();
    let (address, request) =
        (server.address.clone(), r#"{"action":"once","payload":{"ms":60000},"nonce":"n"}"#);
    std::thread::spawn(move || {
        let _ = crate::common::try_exchange(
            &address,
            &crate::common::post("/execute", request.as_bytes()),
        );
    });
    until("the handler runs", || !crate::common::handlers::counted(&scratch).is_empty());
    // The witness answers while the executor is in the handler, and covers the claim.
    let during = server.get("/log/checkpoint").text();
    assert_eq!(opened(&during).head.size, opened(&before).head.size + 2);
    server.kill();
    let mut command = service(&scratch);
    command.envs(evidence.settings());
    let server = Server::spawn(command, &scratch);
    let claim = records(&server.store).into_iter().find(|line| line.contains("\"claim\""));
    let claim: serde_json::Value = serde_json::from_str(&claim.expect("a claim")).expect("JSON");
    let proof = server.get(&format!("/receipts/{}/proof", claim["id"].as_str().expect("an id")));
    let proven = check(&proof.text(), &verifier()).expect("a proof");
    assert!(proven.line.contains("\"indeterminate\""), "{}", proven.line);
}

#[test]
fn without_a_log_key_there_is_no_evidence() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = Server::start(&scratch, &evidence.unsigned());
    let id = echo(&server, "n", "");
    for path in [
        "/log/checkpoint".to_owned(),
        "/log/consistency?from=1".to_owned(),
        "/log/consistency".to_owned(),
        format!("/receipts/{id}/proof"),
        "/receipts/x/proof".to_owned(),
    ] {
        problem(&server.get(&path), 404, "no_log_key");
    }
    // The file is there all the same, and follows.
    until("the file covers it", || evidence.text().lines().nth(1) == Some("4"));
    let text = evidence.text();
    assert_eq!(text.lines().count(), 3);
    let store = records(&server.store)[0].clone();
    let store: serde_json::Value = serde_json::from_str(&store).expect("JSON");
    assert_eq!(
        text.lines().next(),
        Some(&*format!("openexec/{}", store["store"].as_str().expect("x")))
    );
}

#[test]
fn the_key_is_read_from_a_private_file_of_one_ed25519_key() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let refused = |what: &str, settings: &[(&str, &str)], sentence: &str| {
        let ended = cli(&scratch, settings, &["check"]);
        assert_eq!(ended.code, 78, "{what}: {}", ended.stdout);
        assert!(ended.stderr.contains(sentence), "{what}: {}", ended.stderr);
    };
    let chmod = |mode| {
        std::fs::set_permissions(&evidence.key, PermissionsExt::from_mode(mode)).expect("changed");
    };
    for mode in [0o604, 0o644, 0o602, 0o601] {
        chmod(mode);
        refused("open to others", &evidence.settings(), "it is open to others");
    }
    chmod(0o440);
    assert_eq!(cli(&scratch, &evidence.settings(), &["checkpoint", "--vkey"]).code, 0);
    chmod(0o600);
    for text in ["", "x", &public_pem(LOG_KEY), &private_pem(&[0; 32]), &private_pem(&[1; 31])] {
        std::fs::write(&evidence.key, text).expect("written");
        refused(text, &evidence.settings(), "OPENEXEC_LOG_KEY_FILE: ");
    }
    std::fs::write(&evidence.key, private_pem(&[1; 32])).expect("written");
    for origin in ["", " ", "a b", "a\tb", "a+b", "a\u{a0}b", "a\nb", &"x".repeat(257)] {
        let mut settings = evidence.settings();
        settings[1].1 = origin;
        refused(origin, &settings, "OPENEXEC_LOG_ORIGIN: must be");
    }
    // An approver's key must not be here at all.
    let mut settings = evidence.settings();
    let approver = public_pem(1);
    settings.extend([
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t"),
        ("CLAWSHIELD_PUBLIC_KEY", approver.as_str()),
    ]);
    refused("an approver's key", &settings, "is the private key of an approver");
    for leaves_out in 0..3 {
        let mut settings = evidence.settings();
        settings.remove(leaves_out);
        refused(
            "one of three",
            &settings,
            if leaves_out == 2 { "is required" } else { "need one another" },
        );
    }
    // A link would be replaced by a file, on the storage where the link is.
    let link = scratch.join("link");
    std::os::unix::fs::symlink(&evidence.checkpoint, &link).expect("linked");
    let mut settings = evidence.settings();
    settings[2].1 = link.to_str().expect("UTF-8");
    refused("a link", &settings, "is no file in a directory that is there");
    // Paths that lie within one another.
    let files = scratch.join("elsewhere");
    let mut settings = evidence.settings();
    settings.push(("OPENEXEC_FILES_DIR", files.to_str().expect("UTF-8")));
    refused("the checkpoint below the files", &settings, "OPENEXEC_CHECKPOINT_FILE lies within");
    let inside = format!("{}/log.pem", files.display());
    std::fs::copy(&evidence.key, &inside).expect("copied");
    settings[0].1 = &inside;
    refused("the key below the files", &settings, "OPENEXEC_LOG_KEY_FILE lies within");
    let inside = scratch.join("store/checkpoint");
    let mut settings = evidence.settings();
    settings[2].1 = inside.to_str().expect("UTF-8");
    std::fs::create_dir(scratch.join("store")).expect("made");
    refused("the checkpoint in the store", &settings, "OPENEXEC_CHECKPOINT_FILE lies within");
}

/// The key's public half is what openssl says it is.
#[test]
fn the_verifier_key_is_made_of_the_public_key() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let ended = cli(&scratch, &evidence.settings(), &["checkpoint", "--vkey"]);
    let text = ended.stdout.trim_end();
    let public = private_key(LOG_KEY).public_key().to_vec();
    let parts: Vec<&str> = text.splitn(3, '+').collect();
    assert_eq!(parts[0], ORIGIN);
    assert_eq!(base64::decode(parts[2]), Some([&[1][..], &public].concat()));
    let hashed = [ORIGIN.as_bytes(), b"\n\x01", &public].concat();
    use sha2::Digest;
    let id: String =
        sha2::Sha256::digest(&hashed)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(parts[1], id);
    assert_eq!(text, verifier().to_string());
    assert_eq!(cli(&scratch, &[], &["checkpoint", "--vkey"]).code, 78);
    for usage in [&["checkpoint", "--vkey", "--create"][..], &["checkpoint", "x", "--vkey"]] {
        assert_eq!(cli(&scratch, &evidence.settings(), usage).code, 64);
    }
}

/// One record altered and every later root made again: the store is whole in itself. A checkpoint that
/// somebody kept says otherwise.
#[test]
fn a_rewritten_store_is_caught_by_a_kept_checkpoint() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    for n in 0..5 {
        echo(&server, &format!("n{n}"), "pay 1 EUR");
    }
    let kept = server.get("/log/checkpoint").text();
    echo(&server, "later", "");
    let newest = server.get("/log/checkpoint").text();
    server.kill();
    let kept_file = scratch.join("kept");
    std::fs::write(&kept_file, &kept).expect("written");
    let verify = |more: &[&str]| {
        let arguments = [&["verify", "store", "--checkpoint", "kept"], more].concat();
        cli(&scratch, &[], &arguments)
    };
    let key = verifier().to_string();
    let good = verify(&["--log-key", &key]);
    assert_eq!(good.code, 0, "{}", good.stderr);
    assert!(good.stdout.contains("checkpoint  extended: 12 records of example.com/log, signature"));
    let json = verify(&["--json", "--log-key", &key]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["checkpoint"]["size"], 12);
    assert_eq!(json["checkpoint"]["signature_verified"], true);

    let mut lines = records(&server.store);
    // Claim and receipt, both changed so that ids and receipts hold.
    let altered = rewrite(&mut lines, 3, "pay 9 EUR");
    assert!(altered);
    forge(&server.store, &lines);
    let audited = cli(&scratch, &[], &["verify", "store"]);
    assert_eq!(audited.code, 0, "nothing in it shows: {}", audited.stderr);
    let caught = verify(&[]);
    assert_eq!(caught.code, 65, "{}", caught.stdout);
    assert!(caught.stderr.contains("the store's first 12 records are not the checkpoint's"));
    // Nor does the service open it, or sign anything.
    let ended = cli(&scratch, &evidence.settings(), &["serve"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("are not those of the checkpoint file"), "{}", ended.stderr);
    assert_eq!(evidence.text(), newest);
    let ended = cli(&scratch, &evidence.settings(), &["check"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    let ended = cli(&scratch, &evidence.settings(), &["checkpoint"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (65, ""), "{}", ended.stderr);
}

/// Makes execution `number` another one, whole in itself.
fn rewrite(lines: &mut [String], number: usize, text: &str) -> bool {
    use openexec::core::hash::hex;
    use openexec::core::line::Json;
    use openexec::core::receipt::{exec_id, receipt};
    use openexec::core::record::{Claim, Receipt, Record};
    let (claim_line, receipt_line) = (lines[2 + 2 * number].clone(), lines[3 + 2 * number].clone());
    let (Some(Record::Claim(claim)), Some(Record::Receipt(old))) =
        (Record::read(&claim_line), Record::read(&receipt_line))
    else {
        return false;
    };
    let payload = format!("{{\"text\":\"{text}\"}}");
    let result = format!("{{\"echo\":{payload}}}");
    let id = exec_id(claim.action, &claim.nonce, &payload);
    lines[2 + 2 * number] = Claim { id, payload: Json(&payload), ..claim }.line();
    let hash = receipt(&hex(&id), &result);
    lines[3 + 2 * number] = Receipt { id, result: Json(&result), receipt: hash, ..old }.line();
    true
}

/// A backup is restored: what came after it is forgotten, and would be executed again.
#[test]
fn a_restored_backup_is_refused_and_nothing_is_signed_twice() {
    for has_key in [true, false] {
        let scratch = Scratch::new();
        let evidence = Evidence::new(&scratch);
        let settings = if has_key { evidence.settings() } else { evidence.unsigned() };
        let mut server = Server::start(&scratch, &settings);
        echo(&server, "before", "");
        server.kill();
        let (store, backup) = (scratch.join("store"), scratch.join("backup"));
        copy(&store, &backup);
        server = Server::start(&scratch, &settings);
        echo(&server, "after", "");
        let records_now = records(&store).len();
        until("the file covers it", || {
            evidence.text().lines().nth(1) == Some(&records_now.to_string())
        });
        server.kill();
        let signed = evidence.text();
        copy(&store, &scratch.join("newest"));

        copy(&backup, &store);
        let before = std::fs::read(store.join("00000001.jsonl")).expect("read");
        for command in [&["serve"][..], &["check"], &["checkpoint"]] {
            let ended = cli(&scratch, &settings, command);
            assert_eq!(ended.code, 65, "{command:?}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(" records, 2 fewer than the checkpoint file"),
                "{}",
                ended.stderr
            );
        }
        assert_eq!(std::fs::read(store.join("00000001.jsonl")).expect("read"), before);
        assert_eq!(evidence.text(), signed);
        let kept = evidence.checkpoint.to_str().expect("UTF-8");
        let ended = cli(&scratch, &[], &["verify", "store", "--checkpoint", kept]);
        assert_eq!(ended.code, 65, "{}", ended.stdout);
        assert!(
            ended.stderr.contains("has 2 records fewer than the checkpoint's 6"),
            "{}",
            ended.stderr
        );

        // The file deleted too: a volume that is not mounted, says the service, and stays down.
        std::fs::remove_file(&evidence.checkpoint).expect("removed");
        for command in [&["serve"][..], &["check"], &["checkpoint"]] {
            let ended = cli(&scratch, &settings, command);
            assert_eq!(ended.code, 78, "{command:?}: {}", ended.stderr);
            assert!(ended.stderr.contains("there is no checkpoint file"), "{}", ended.stderr);
        }
        assert!(!evidence.checkpoint.exists(), "it is never made by itself");

        // The store that it was is welcome.
        std::fs::write(&evidence.checkpoint, &signed).expect("written");
        copy(&scratch.join("newest"), &store);
        server = Server::start(&scratch, &settings);
        echo(&server, "after", "");
        assert_eq!(server.runs("echo"), 0, "a replay");
    }
}

#[test]
fn a_segment_removed_from_the_end_is_missed() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    let text = "x".repeat(1_000_000);
    for n in 0..9 {
        echo(&server, &format!("n{n}"), &text);
    }
    until("the second segment is written", || {
        server.metric("openexec_store_bytes") > 16 * 1024 * 1024
    });
    let size = opened(&server.get("/log/checkpoint").text()).head.size;
    let prove = |server: &Server, n: usize| {
        let request = serde_json::json!({"text": text});
        let request =
            serde_json::json!({"action": "echo", "payload": request, "nonce": format!("n{n}")});
        let id = crate::common::sha256(&crate::common::canonical(&request));
        check(&server.get(&format!("/receipts/{id}/proof")).text(), &verifier()).expect("a proof")
    };
    // A megabyte in `extra`, and a record of the second segment.
    assert_eq!(prove(&server, 0).line.len() / 1_000_000, 1);
    assert_eq!(prove(&server, 8).index, size - 1);
    server.kill();
    let segments = |store: &std::path::Path| std::fs::read_dir(store).expect("listed").count();
    assert!(segments(&server.store) > 2);
    for name in ["00000003.jsonl", "00000002.jsonl"] {
        let _ = std::fs::remove_file(server.store.join(name));
    }
    let ended = cli(&scratch, &evidence.settings(), &["serve"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("the checkpoint file {}", evidence.checkpoint.display()))
    );
    assert!(ended.stderr.contains(" fewer than the checkpoint file"), "{}", ended.stderr);
}

#[test]
fn a_store_that_is_lost_is_not_replaced_in_silence() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    echo(&server, "n", "");
    server.kill();
    let signed = evidence.text();
    std::fs::remove_dir_all(&server.store).expect("removed");
    for command in ["serve", "check", "init"] {
        let ended = cli(&scratch, &evidence.settings(), &[command]);
        assert_eq!(ended.code, 65, "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("is there already, and says how far"), "{}", ended.stderr);
    }
    assert!(!server.store.join("00000001.jsonl").exists());
    assert_eq!(evidence.text(), signed);
}

#[test]
fn the_file_is_made_with_the_store_or_on_purpose() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let made = cli(&scratch, &evidence.settings(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(opened(&evidence.text()).head.size, 1);
    assert_eq!(cli(&scratch, &evidence.settings(), &["check"]).code, 0);

    // A store from before there was a checkpoint file.
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let ended = cli(&scratch, &evidence.settings(), &["checkpoint", "--create"]);
    assert_eq!(ended.code, 78, "no store: {}", ended.stdout);
    let mut server = Server::start(&scratch, &[]);
    echo(&server, "n", "");
    let ended = cli(&scratch, &evidence.settings(), &["checkpoint", "--create"]);
    assert_eq!(ended.code, 75, "in use: {}", ended.stderr);
    server.kill();
    assert_eq!(cli(&scratch, &evidence.settings(), &["serve"]).code, 78);
    assert_eq!(cli(&scratch, &[], &["checkpoint", "--create"]).code, 78);
    let made = cli(&scratch, &evidence.settings(), &["checkpoint", "--create"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(opened(&evidence.text()).head.size, 4);
    let again = cli(&scratch, &evidence.settings(), &["checkpoint", "--create"]);
    assert_eq!(again.code, 65, "{}", again.stdout);
    let checked = cli(&scratch, &evidence.settings(), &["check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains(", 4 records, extended\n"), "{}", checked.stdout);
    assert!(checked.stdout.contains(&format!("log key: {}\n", verifier())), "{}", checked.stdout);
    evidence.start(&scratch);
}

#[test]
fn a_key_may_come_later_and_another_log_s_file_is_refused() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = Server::start(&scratch, &evidence.unsigned());
    server.kill();
    let unsigned = evidence.text();
    assert_eq!(unsigned.lines().count(), 3);
    // The first look signs it, whether or not anything was executed.
    server = evidence.start(&scratch);
    until("the file is signed", || evidence.text().contains('\u{2014}'));
    assert_eq!(opened(&evidence.text()).head.size, 1);
    assert_eq!(server.get("/log/checkpoint").text(), evidence.text());
    server.kill();
    let signed = evidence.text();

    let refused = |text: &str, settings: &[(&str, &str)], code: i32, sentence: &str| {
        std::fs::write(&evidence.checkpoint, text).expect("written");
        let ended = cli(&scratch, settings, &["serve"]);
        assert_eq!(ended.code, code, "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(sentence), "{text}: {}", ended.stderr);
        assert_eq!(evidence.text(), text, "it is left as it is");
    };
    let with = evidence.settings();
    refused(&signed, &evidence.unsigned(), 78, "of another log or another key");
    let mut renamed = evidence.settings();
    renamed[1].1 = "example.com/other";
    refused(&signed, &renamed, 78, "of another log or another key");
    std::fs::write(&evidence.key, private_pem(&[1; 32])).expect("written");
    refused(&signed, &with, 78, "of another log or another key");
    std::fs::write(&evidence.key, private_pem(&[LOG_KEY; 32])).expect("written");
    let store = &unsigned.lines().next().expect("a line")["openexec/".len()..];
    let other = unsigned.replace(store, &"0".repeat(32));
    refused(&other, &with, 78, "of another log or another key");
    refused(&other, &evidence.unsigned(), 78, "of another log or another key");
    for damaged in ["", "x", "\n\n\n", &unsigned[..unsigned.len() - 1], &unsigned[1..40]] {
        refused(damaged, &with, 65, "is damaged");
        refused(damaged, &evidence.unsigned(), 65, "is damaged");
    }
    refused(&signed.replacen("\n1\n", "\n2\n", 1), &with, 65, "signature by this key is wrong");
    let larger = unsigned.replacen("\n1\n", "\n2\n", 1);
    refused(&larger, &evidence.unsigned(), 65, " records, 1 fewer than the checkpoint file");
    std::fs::write(&evidence.checkpoint, &signed).expect("written");
    evidence.start(&scratch);
}

/// The storage of the file fails, vanishes, or is somebody else's: executions go on, nothing is signed.
#[test]
fn what_is_not_in_the_file_is_not_signed() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let before = echo(&server, "before", "");
    until("the file covers it", || opened(&evidence.text()).head.size == 4);
    let covered = evidence.text();
    let (elsewhere, unmounted) = (scratch.join("elsewhere"), scratch.join("unmounted"));
    let blocked = elsewhere.join("checkpoint.tmp");
    let mut n = 0;
    let mut while_broken = |what: &str| {
        n += 1;
        let id = echo(&server, &format!("n{n}"), "");
        until("it is noticed", || server.metric("openexec_checkpoint_failing") == 1);
        for path in [
            "/log/checkpoint".into(),
            "/log/consistency?from=1".into(),
            format!("/receipts/{id}/proof"),
        ] {
            let body = problem(&server.get(&path), 503, "checkpoint_unwritable");
            assert!(!body.to_string().contains('\u{2014}'), "{what}: {body}");
        }
        // What was signed before can be shown again.
        let proof = server.get(&format!("/receipts/{before}/proof")).text();
        assert!(check(&proof, &verifier()).is_ok(), "{what}: {proof}");
    };
    let mended = |what: &str| {
        until("it is mended", || server.metric("openexec_checkpoint_failing") == 0);
        let checkpoint = server.get("/log/checkpoint").text();
        assert_eq!(checkpoint, evidence.text(), "{what}");
        assert_eq!(opened(&checkpoint).head.size, records(&server.store).len() as u64, "{what}");
    };

    std::fs::rename(&elsewhere, &unmounted).expect("renamed");
    while_broken("unmounted");
    assert_eq!(std::fs::read_to_string(unmounted.join("checkpoint")).expect("read"), covered);
    std::fs::rename(&unmounted, &elsewhere).expect("renamed");
    mended("unmounted");

    // Nothing can be written beside it.
    let last = evidence.text();
    std::fs::create_dir(&blocked).expect("made");
    while_broken("unwritable");
    assert_eq!(evidence.text(), last);
    std::fs::remove_dir(&blocked).expect("removed");
    mended("unwritable");

    // Another service with a copy of the store writes the same file.
    let last = evidence.text();
    std::fs::write(&evidence.checkpoint, &covered).expect("written");
    while_broken("somebody else's");
    assert_eq!(evidence.text(), covered, "it is left as it is");
    std::fs::write(&evidence.checkpoint, &last).expect("written");
    mended("somebody else's");

    // Another service stands between its look at the file and its replacement.
    let last = evidence.text();
    let held = std::fs::File::options().write(true).open(&evidence.checkpoint).expect("opened");
    held.lock().expect("locked");
    while_broken("held");
    assert_eq!(evidence.text(), last, "it is left as it is");
    drop(held);
    mended("held");

    let last = evidence.text();
    std::fs::remove_file(&evidence.checkpoint).expect("removed");
    while_broken("removed");
    assert!(!evidence.checkpoint.exists(), "it is never made by itself");
    std::fs::write(&evidence.checkpoint, &last).expect("written");
    mended("removed");
    let log = server.log();
    // Once each, not each half second.
    assert_eq!(log.matches("the checkpoint file cannot be written").count(), 5, "{log}");
    assert_eq!(log.matches("the checkpoint file is written again").count(), 5, "{log}");
}

/// A clone of the store, started elsewhere with the same key and the same file.
#[test]
fn two_histories_are_not_signed_by_one_key() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    echo(&server, "common", "");
    until("the file covers it", || opened(&evidence.text()).head.size == 4);
    server.kill();
    let clone = scratch.join("clone");
    copy(&server.store, &clone);
    server = evidence.start(&scratch);
    let mut command = crate::common::openexec(&scratch);
    command.envs(evidence.settings());
    command.env("OPENEXEC_DB_URL", format!("file:{}", clone.display()));
    command.env("OPENEXEC_LOG", "off");
    let mut child = command.spawn().expect("started");
    let mut address = String::new();
    until("the clone serves", || {
        let lock = std::fs::read_to_string(clone.join("LOCK")).unwrap_or_default();
        address = lock.trim_end().split_once(' ').map(|(_, at)| at.to_owned()).unwrap_or_default();
        !address.is_empty()
            && crate::common::try_exchange(&address, &crate::common::get("/ready"))
                .is_ok_and(|a| a.status == 200)
    });
    // Both go on, each its own way, and both are asked for what they sign.
    let mut signed: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        let ask = |at: String| {
            scope.spawn(move || {
                let mut signed = Vec::new();
                for n in 0..100 {
                    let body = format!(r#"{{"action":"echo","payload":{{}},"nonce":"{at} {n}"}}"#);
                    crate::common::exchange(&at, &crate::common::post("/execute", body.as_bytes()));
                    let answer =
                        crate::common::exchange(&at, &crate::common::get("/log/checkpoint"));
                    signed.extend((answer.status == 200).then(|| answer.text()));
                }
                signed
            })
        };
        let both = [ask(server.address.clone()), ask(address.clone())];
        signed.extend(both.into_iter().flat_map(|asked| asked.join().expect("asked")));
    });
    let _ = child.kill();
    let _ = child.wait();
    let heads: BTreeSet<(u64, [u8; 32])> =
        signed.iter().map(|note| opened(note).head).map(|head| (head.size, head.root)).collect();
    assert!(!heads.is_empty());
    let sizes: BTreeSet<u64> = heads.iter().map(|(size, _)| *size).collect();
    assert_eq!(sizes.len(), heads.len(), "two roots were signed for one size: {signed:#?}");
    // All that was signed is of one history: that of whoever wrote first.
    let stores = [&server.store, &clone];
    let of_one = stores.iter().any(|store| {
        let leaves: Vec<[u8; 32]> =
            records(store).iter().map(|line| leaf_hash(line.as_bytes())).collect();
        heads.iter().all(|(size, root)| {
            let mut tree = openexec::core::tree::Tree::default();
            for leaf in leaves.iter().take(*size as usize) {
                tree.push(*leaf);
            }
            tree.size() == *size && tree.root() == *root
        })
    });
    assert!(of_one, "{signed:#?}");
}

#[test]
fn the_checkpoint_command_prints_what_can_be_kept() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    echo(&server, "n1", "");
    echo(&server, "n2", "");
    // Beside a live server: the file's, signed, and the directory's own, unsigned.
    let signed = server.get("/log/checkpoint").text();
    let ended = cli(&scratch, &evidence.settings(), &["checkpoint"]);
    assert_eq!((ended.code, &ended.stdout), (0, &signed), "{}", ended.stderr);
    let own = || {
        let ended = cli(&scratch, &[], &["checkpoint", "store"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        openexec::evidence::checkpoint::Checkpoint::parse(&ended.stdout).expect("a checkpoint")
    };
    // The last batch counts once another stands behind it: before, a power cut could take it away.
    assert!(own().head.size == 4 || own().head == opened(&signed).head);
    until("the seal is there", || own().head == opened(&signed).head);
    assert!(own().origin.starts_with("openexec/"));
    // Without a checkpoint file configured it is the same.
    let ended = cli(&scratch, &[], &["checkpoint"]);
    assert_eq!(ended.stdout, own().text());
    std::fs::write(scratch.join("kept"), own().text()).expect("written");
    server.kill();
    let ended = cli(&scratch, &[], &["verify", "store", "--checkpoint", "kept"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // Of another store it says nothing, though the sizes would fit.
    let kept = own().text().replace(&own().origin[9..12], "fff");
    std::fs::write(scratch.join("kept"), kept).expect("written");
    let ended = cli(&scratch, &[], &["verify", "store", "--checkpoint", "kept"]);
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("of another store"), "{}", ended.stderr);
    for bad in [&["verify", "--log-key", "x"][..], &["verify", "--proof", "kept"]] {
        assert_eq!(cli(&scratch, &[], bad).code, 64, "{bad:?}");
    }
    assert_eq!(cli(&scratch, &[], &["checkpoint", "nowhere"]).code, 74);
}

/// `openexec verify --proof`, with every part of a proof tampered with.
#[test]
fn no_proof_that_was_tampered_with_is_accepted() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let ids: Vec<String> = (0..8).map(|n| echo(&server, &format!("n{n}"), "a text")).collect();
    // Of a checkpoint that covers all of them, however long that took.
    server.get("/log/checkpoint");
    let get = |id: &str| server.get(&format!("/receipts/{id}/proof")).text();
    let (good, other) = (get(&ids[2]), get(&ids[5]));
    let key = verifier().to_string();
    let ended = verify_proof(&scratch, &good, &key);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("id          {}\n", ids[2])), "{}", ended.stdout);

    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let blank = lines.iter().position(|line| *line == "\n").expect("an empty line");
    assert!(blank > 6 && lines[2].starts_with("index "), "{good}");
    let hashes = 3..blank;
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
        change(&mut lines);
        lines.concat()
    };
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, text: String| {
        assert_ne!(text, good, "{what}");
        bad.push((what.to_owned(), text));
    };
    for n in hashes.clone() {
        add("a hash missing", with(&|lines| drop(lines.remove(n))));
        add("a hash twice", with(&|lines| lines.insert(n, lines[n].clone())));
        add(
            "another spelling",
            with(&|lines| {
                lines[n] = other_spelling(lines[n].trim_end()) + "\n";
            }),
        );
        add("no padding", with(&|lines| lines[n] = lines[n].replace('=', "")));
        add("a space", with(&|lines| lines[n].insert(4, ' ')));
        add(
            "another hash",
            with(&|lines| {
                let mut bytes = base64::decode(lines[n].trim_end()).expect("base64");
                bytes[n] ^= 1;
                lines[n] = base64::encode(&bytes) + "\n";
            }),
        );
        if n + 1 < blank {
            add("two swapped", with(&|lines| lines.swap(n, n + 1)));
        }
    }
    add("all hashes missing", with(&|lines| drop(lines.drain(3..blank))));
    for index in ["0", "6", "8", "17", "18", "18446744073709551615", "07", "-7", "x", ""] {
        add("another index", with(&|lines| lines[2] = format!("index {index}\n")));
    }
    let other_lines: Vec<String> = other.split_inclusive('\n').map(str::to_owned).collect();
    add("another record", with(&|lines| lines[1] = other_lines[1].clone()));
    add("another index", with(&|lines| lines[2] = other_lines[2].clone()));
    add(
        "another path",
        with(&|lines| {
            lines.splice(3..blank, other_lines[3..blank].iter().cloned());
        }),
    );
    let record = String::from_utf8(base64::decode(lines[1][6..].trim_end()).expect("base64"));
    let record = record.expect("UTF-8");
    for (from, to) in
        [("a text", "a lie!"), ("executed", "failed"), ("receipt", "refusal"), ("}", "")]
    {
        let altered = base64::encode(record.replace(from, to).as_bytes());
        add("an altered record", with(&|lines| lines[1] = format!("extra {altered}\n")));
    }
    add("an empty record", with(&|lines| lines[1] = "extra \n".to_owned()));
    add("no record", with(&|lines| drop(lines.remove(1))));
    add("the record twice", with(&|lines| lines.insert(1, lines[1].clone())));
    add("index first", with(&|lines| lines.swap(1, 2)));
    add("no empty line", with(&|lines| drop(lines.remove(blank))));
    add("two empty lines", with(&|lines| lines.insert(blank, "\n".to_owned())));
    add("another format", with(&|lines| lines[0] = "c2sp.org/tlog-proof@v2\n".to_owned()));
    add("a byte order mark", format!("\u{feff}{good}"));
    add("CRLF", good.replace('\n', "\r\n"));
    add("nothing", String::new());
    add("the first line alone", lines[0].to_owned());
    add("the end missing", good[..good.len() - 1].to_owned());
    add("no checkpoint", with(&|lines| lines.truncate(blank + 1)));

    // The checkpoint's own lines: name, size, root, an empty line, a signature.
    let size = blank + 2;
    for changed in ["17\n", "19\n", "018\n", "18 \n", "1\n", "0\n"] {
        add("another size", with(&|lines| lines[size] = changed.to_owned()));
    }
    add("another name", with(&|lines| lines[blank + 1] = "example.com/other\n".to_owned()));
    add("another root", with(&|lines| lines[size + 1] = lines[3].clone()));
    add("an extension", with(&|lines| lines.insert(size + 2, "x\n".to_owned())));
    add("no signature", with(&|lines| lines.truncate(size + 3)));
    let signature = size + 3;
    assert!(lines[signature].starts_with("\u{2014} "), "{good}");
    add(
        "a hyphen for the dash",
        with(&|lines| {
            lines[signature] = lines[signature].replace('\u{2014}', "-");
        }),
    );
    add("text after it", format!("{good}x\n"));
    add("an empty line after it", format!("{good}\n"));
    for (what, bytes) in signatures(lines[signature]) {
        let line = format!("\u{2014} {ORIGIN} {}\n", base64::encode(&bytes));
        add(what, with(&|lines| lines[signature] = line.clone()));
    }
    let spelled = lines[signature].trim_end().rsplit_once(' ').expect("base64").1;
    add("another spelling of a signature", good.replace(spelled, &other_spelling(spelled)));
    // A wrong one beside the right one.
    let wrong = signatures(lines[signature])[0].1.clone();
    let wrong = format!("\u{2014} {ORIGIN} {}\n", base64::encode(&wrong));
    add("a wrong one after the right one", format!("{good}{wrong}"));
    add("a wrong one before the right one", with(&|lines| lines.insert(signature, wrong.clone())));

    assert!(bad.len() > 70, "{}", bad.len());
    for (what, text) in bad {
        let ended = verify_proof(&scratch, &text, &key);
        assert_eq!(ended.code, 65, "{what}: {}\n{text}", ended.stdout);
        assert_eq!(ended.stdout, "", "{what}");
    }

    // What the format asks to be passed over, and what is the same twice.
    let unknown = base64::encode(&[9; 68]);
    for (what, text) in [
        (
            "an unknown key before",
            with(&|lines| {
                lines.insert(signature, format!("\u{2014} witness.example/w1 {unknown}\n"));
            }),
        ),
        ("an unknown key after", format!("{good}\u{2014} witness.example/w1 {unknown}\n")),
        ("our name with an unknown id", format!("{good}\u{2014} {ORIGIN} {unknown}\n")),
        ("the same twice", format!("{good}{}", lines[signature])),
        ("twenty witnesses", {
            let witness = |n| format!("\u{2014} witness.example/w{n} {unknown}\n");
            good.clone() + &(0..20).map(witness).collect::<String>()
        }),
    ] {
        let ended = verify_proof(&scratch, &text, &key);
        assert_eq!(ended.code, 0, "{what}: {}", ended.stderr);
    }

    // The right proof under a wrong key: another's, another name's, one that is not formed as one.
    let other_key =
        openexec::evidence::note::VerifierKey::new(ORIGIN, *private_key(1).public_key());
    let other_name = openexec::evidence::note::VerifierKey::new(
        "example.com/o",
        *private_key(LOG_KEY).public_key(),
    );
    for (key, code) in [
        (other_key.expect("a key").to_string(), 65),
        (other_name.expect("a key").to_string(), 65),
        (key.replacen(ORIGIN, "example.com/o", 1), 64),
        (key[..key.len() - 1].to_owned(), 64),
        (key.replace('+', " "), 64),
        (other_spelling_of_key(&key), 64),
        (String::new(), 64),
        ("PRIVATE+KEY+x+y+z".to_owned(), 64),
    ] {
        let ended = verify_proof(&scratch, &good, &key);
        assert_eq!(ended.code, code, "{key}: {}", ended.stdout);
    }
}

/// Wrong signatures in the bytes of a right line: its id and 64 bytes.
fn signatures(line: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = base64::decode(line.trim_end().rsplit_once(' ').expect("base64").1);
    let bytes = bytes.expect("base64");
    assert_eq!(bytes.len(), 68);
    let flip = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    vec![
        ("a signature with another bit", flip(67)),
        ("R with another bit", flip(4)),
        ("another id", flip(0)),
        ("no signature", bytes[..4].to_vec()),
        ("a short signature", bytes[..67].to_vec()),
        ("a long signature", [&bytes[..], &[0]].concat()),
        ("zeros", [&bytes[..4], &[0; 64]].concat()),
    ]
}

fn other_spelling_of_key(key: &str) -> String {
    // 33 bytes take 44 characters without padding: a character more is the other spelling.
    format!("{key}=")
}
