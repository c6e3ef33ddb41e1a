//! `openexec evidence` and `verify --evidence` by the real binary, and docs/verify_evidence.py beside it. What files show
//! that somebody has changed is `readers/evidence.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::io::Write;
use std::process::Command;

use common::approvals::{Minted, borrowed, public_pem, settings, start};
use common::evidence::{Evidence, echo, forge, records, verifier};
use common::{Ended, Scratch, Server, cli, run, until};
use serde_json::{Value, json};

/// The script with these arguments.
fn script(scratch: &Scratch, arguments: &[&str]) -> Ended {
    let mut command = Command::new("python3");
    command.current_dir(scratch.path());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_evidence.py"));
    command.args(arguments);
    run(command, "")
}

/// What both programs say of a file: one object, or one code.
fn both(scratch: &Scratch, file: &str, more: &[&str]) -> Result<Value, i32> {
    let ours = cli(scratch, &[], &[&["verify", "--evidence", file, "--json"], more].concat());
    let theirs = script(scratch, &[&[file, "--json"], more].concat());
    assert_eq!(ours.code, theirs.code, "{} / {}", ours.stderr, theirs.stderr);
    if ours.code != 0 {
        return Err(ours.code);
    }
    assert_eq!(ours.stdout, theirs.stdout);
    let lines = |ended: Ended| {
        let said = ["proven ", "attested ", "not shown "];
        let lines: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
        lines.into_iter().filter(|l| said.iter().any(|s| l.starts_with(s))).collect::<Vec<_>>()
    };
    let in_words = lines(cli(scratch, &[], &[&["verify", "--evidence", file], more].concat()));
    assert_eq!(in_words, lines(script(scratch, &[&[file], more].concat())));
    assert_eq!(in_words.len(), 13);
    Ok(serde_json::from_str(&ours.stdout).expect("an object"))
}

/// Writes the file; gives its text.
fn made(scratch: &Scratch, environment: &[(&str, &str)], arguments: &[&str], file: &str) -> String {
    let ended = cli(scratch, environment, &[&["evidence"], arguments].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    std::fs::write(scratch.join(file), &ended.stdout).expect("written");
    ended.stdout
}

fn approved(server: &Server, nonce: &str) -> String {
    let payload = json!({"text": "hé \u{1f600}", "n": 1e-7});
    let artifact = Minted::of("echo", &payload).sign();
    let request = json!({"action": "echo", "payload": payload, "nonce": nonce, "approval_artifact": artifact});
    let answer = server.execute(&request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn beside_a_service_with_a_log_key_and_from_the_files_alone() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let settings = settings();
    let all = [borrowed(&settings), evidence.settings()].concat();
    let mut server = start(&scratch, &all);
    let id = approved(&server, "one");
    for n in 0..300 {
        approved(&server, &format!("more {n}"));
    }
    let own = [("OPENEXEC_CHECKPOINT_FILE", evidence.checkpoint.to_str().expect("UTF-8"))];
    until("the checkpoint covers it", || {
        made(&scratch, &own, &[&id], "signed").contains("\u{2014} example.com/log")
    });
    let (key, pem) = (verifier().to_string(), scratch.join("keys.pem"));
    std::fs::write(&pem, public_pem(1)).expect("written");
    let pem = pem.to_str().expect("UTF-8");
    let shown = both(&scratch, "signed", &["--log-key", &key, "--keys", pem]).expect("shown");
    assert_eq!(shown["id"], id.as_str());
    let statements = shown["statements"].as_object().expect("statements");
    for (name, said) in statements {
        let expected = match name.as_str() {
            "policy" | "service" | "once" => "attested",
            "rejection" | "completion" | "unexecuted" | "nothing_else" => "not_shown",
            _ => "proven",
        };
        assert_eq!(said, expected, "{name}");
    }
    let less = both(&scratch, "signed", &[]).expect("shown");
    assert_eq!(
        (&less["statements"]["log"], &less["statements"]["keys"]),
        (&json!("not_shown"), &json!("not_shown"))
    );
    std::fs::write(scratch.join("other.pem"), public_pem(2)).expect("written");
    assert_eq!(both(&scratch, "signed", &["--keys", "other.pem"]), Err(65));
    server.kill();

    // Without a service, without the key and the checkpoint, and by the first digits of the id.
    let unsigned = made(&scratch, &[], &[&id[..8], "store"], "unsigned");
    assert!(unsigned.contains("{\"checkpoint\":\"openexec/") && !unsigned.contains('\u{2014}'));
    assert!(both(&scratch, "unsigned", &["--keys", pem]).is_ok());
    assert_eq!(both(&scratch, "unsigned", &["--log-key", &key]), Err(65));
    let checkpoint = evidence.checkpoint.to_str().expect("UTF-8");
    let given = made(&scratch, &[], &[&id, "store", "--checkpoint", checkpoint], "given");
    assert_eq!(given, made(&scratch, &own, &[&id], "again"));
    assert!(both(&scratch, "given", &["--log-key", &key]).is_ok());

    // A store that has lost records is told by the checkpoint; one that has not and is altered shows nothing.
    let lines = records(&server.store);
    forge(&server.store, &lines[..10]);
    let ended = cli(&scratch, &own, &["evidence", &id]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("does not extend the newest checkpoint"), "{}", ended.stderr);
    let altered: Vec<String> =
        lines.iter().map(|line| line.replace("\"nonce\":\"one\"", "\"nonce\":\"two\"")).collect();
    forge(&server.store, &altered);
    let ended = cli(&scratch, &[], &["evidence", &id]);
    assert_eq!((ended.code, ended.stdout.as_str()), (65, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("the id is not the hash"), "{}", ended.stderr);
}

#[test]
fn what_was_proposed_and_ended_without_an_execution_has_evidence_too() {
    let scratch = Scratch::new();
    let settings = settings();
    let server = start(&scratch, &borrowed(&settings));
    let request = json!({"action": "echo", "payload": {}, "nonce": "pending"});
    let answer = server.execute(&request.to_string());
    assert_eq!(answer.status, 403);
    let id = answer.json()["exec_id"].as_str().expect("an id").to_owned();
    made(&scratch, &[], &[&id], "pending");
    let shown = both(&scratch, "pending", &[]).expect("shown");
    assert_eq!(
        (&shown["outcome"], &shown["statements"]["approvals"]),
        (&Value::Null, &json!("not_shown"))
    );
    let withdrawn = cli(&scratch, &[], &["withdraw", &id, "--yes"]);
    assert_eq!(withdrawn.code, 0, "{}", withdrawn.stderr);
    let text = made(&scratch, &[], &[&id], "over");
    assert!(text.contains("withdrawn") && both(&scratch, "over", &[]).is_ok());
    // A refusal alone is no evidence.
    let request = json!({"action": "nothing", "payload": {}, "nonce": "refused"});
    let refused = server.execute(&request.to_string());
    assert_eq!(refused.status, 400);
    let id = refused.json()["id"].as_str().expect("an id").to_owned();
    let ended = cli(&scratch, &[], &["evidence", &id]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("a refusal alone has no evidence"), "{}", ended.stderr);
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let id = echo(&server, "one", "text");
    let file = scratch.join("file");
    made(&scratch, &[], &[&id], "file");
    let file = file.to_str().expect("UTF-8");
    let key = verifier().to_string();
    std::fs::write(scratch.join("keys.pem"), public_pem(1)).expect("written");
    let absent = scratch.join("absent");
    let absent = absent.to_str().expect("UTF-8");
    for (arguments, code, words) in [
        (&["evidence"][..], 64, "it takes the exec_id"),
        (&["evidence", &id[..7]], 64, "first eight"),
        (&["evidence", &id.to_uppercase()], 64, "first eight"),
        (&["evidence", &format!("{id}0")], 64, "first eight"),
        (&["evidence", &id, "store", "more"], 64, "unexpected"),
        (&["evidence", &"0".repeat(64)], 65, "nothing in this store was proposed"),
        (&["evidence", &id, absent], 74, "absent"),
        (&["evidence", &id, "store", "--checkpoint", file], 65, "not formed as a checkpoint"),
        (&["evidence", &id, "store", "--checkpoint", absent], 74, "absent"),
        (&["verify", "--evidence", file, "store"], 64, "goes with"),
        (&["verify", "--evidence", file, "--checkpoint", file], 64, "goes with"),
        (&["verify", "--evidence", file, "--proof", file, "--log-key", &key], 64, "--proof goes"),
        (&["verify", "--evidence", file, "--keys", "keys.pem"], 65, "demo mode"),
        (&["verify", "--evidence", file, "--keys", absent], 78, "--keys"),
        (&["verify", "--evidence", file, "--keys", ""], 78, "--keys"),
        (&["verify", "--evidence", file, "--log-key", ""], 64, "--log-key"),
        (&["verify", "--evidence", absent], 74, "absent"),
        (&["verify", "--evidence", "store/LOCK"], 65, "byte for byte"),
    ] {
        let ended = cli(&scratch, &[], arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{arguments:?}: {}", ended.stderr);
    }
    let missing = [("OPENEXEC_CHECKPOINT_FILE", absent)];
    assert_eq!(cli(&scratch, &missing, &["evidence", &id]).code, 78);
    for (arguments, code) in [
        (&[file, "--keys", "keys.pem"][..], 65),
        (&[file, "--keys", absent], 78),
        (&[file, "--keys", file], 78),
        (&[file, "--log-key", "x"], 64),
        // As an empty variable of a shell is: nothing that was given is left out.
        (&[file, "--log-key", ""], 64),
        (&[file, "--keys", ""], 78),
        (&[absent], 74),
        (&["store/LOCK"], 65),
    ] {
        assert_eq!(script(&scratch, arguments).code, code, "{arguments:?}");
    }
}

/// Two ids with the same first digits are two ids.
#[test]
fn digits_that_several_ids_begin_with_are_not_enough() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let [one, two] = ["one", "two"].map(|nonce| echo(&server, nonce, "text"));
    server.kill();
    let alike = format!("{}{}", &one[..8], &two[8..]);
    let lines = records(&server.store);
    let lines: Vec<String> = lines.iter().map(|line| line.replace(&two, &alike)).collect();
    forge(&server.store, &lines);
    let ended = cli(&scratch, &[], &["evidence", &one[..8]]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("several ids"), "{}", ended.stderr);
    assert_eq!(cli(&scratch, &[], &["evidence", &one]).code, 0);
}

/// Neither program reads more than the largest file, nor deeper than the form goes.
#[test]
fn what_is_too_large_or_too_deep_is_refused_in_time() {
    let scratch = Scratch::new();
    let large = scratch.join("large");
    let mut file = std::fs::File::create(&large).expect("made");
    file.write_all(b"{\"checkpoint\":\"").expect("written");
    file.set_len(100 << 20).expect("as long as that");
    for (name, text) in [
        ("deep", "[".repeat(1 << 20)),
        ("deeper", format!("{{\"checkpoint\":{}", "{\"a\":".repeat(1 << 18))),
        ("long", format!("[{}0]\n", "0,".repeat(1 << 20))),
    ] {
        std::fs::write(scratch.join(name), text).expect("written");
    }
    for name in ["large", "deep", "deeper", "long"] {
        assert_eq!(both(&scratch, name, &[]), Err(65), "{name}");
    }
}
