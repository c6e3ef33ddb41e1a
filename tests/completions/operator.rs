//! `openexec complete`: an operator's word, beside the service and without one.

use std::fs;

use openexec::core::hash::unhex;
use openexec::core::receipt::Outcome;
use openexec::core::record::{Completion, Witness, freeze_line};
use openexec::executor::requests::abandoned;
use openexec::sys::clock;
use serde_json::{Value, json};

use crate::common::evidence::records;
use crate::common::owed::{Owed, place};
use crate::common::{Ended, Scratch, Server, cli, on_terminal, until, without_terminal};
use crate::{
    OUTBOX, assert_audited, ignored, is_taken, queued, receipt, report, said, shown, started,
};

/// With the settings that it needs where there is no service.
fn complete(scratch: &Scratch, id: &str, outcome: &str, note: &str) -> Ended {
    let arguments = ["complete", id, "--outcome", outcome, "--note", note, "--yes"];
    cli(scratch, &OUTBOX, &arguments)
}

#[test]
fn it_is_recorded_beside_the_receipt_and_stands() {
    for is_frozen in [false, true] {
        let (scratch, mut server) = started();
        let (answer, id) = queued(&server, "live");
        let before = shown(&server, &id);
        assert_eq!(before.get("completion"), None);
        if is_frozen {
            assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
        }
        let done = complete(&scratch, &id, "executed", "the bank \u{202e} \"says\" so");
        assert_eq!(done.code, 0, "{}", done.stderr);
        let result = json!({"note": "the bank \u{202e} \"says\" so"});
        let hash = receipt(&id, "executed", &result);
        assert_eq!(done.stdout, format!("recorded: {id} has been executed\nreceipt   {hash}\n"));
        let mut completion = shown(&server, &id)["completion"].take();
        assert!(completion["at"].take().is_string());
        let expected = json!({"at": null, "by": "operator", "outcome": "executed",
                              "receipt": hash, "result": result});
        assert_eq!(completion, expected);
        let log = server.log();
        assert!(log.contains("what became of a job is recorded") && !log.contains("bank"), "{log}");

        // The first stands, whatever the second says.
        for (outcome, note) in [("failed", "no"), ("executed", "the bank \u{202e} \"says\" so")] {
            let twice = complete(&scratch, &id, outcome, note);
            assert_eq!(twice.code, 65);
            assert!(twice.stderr.contains("executed, by the operator"), "{}", twice.stderr);
        }
        assert_audited(&scratch, 1);

        // What was executed is answered as ever.
        server.kill();
        let server = Server::start(&scratch, &OUTBOX);
        let again = server.execute(
            &json!({"action": "enqueue", "payload": {"queue": "q", "job": {}}, "nonce": "live"})
                .to_string(),
        );
        assert_eq!((again.status, &again.body), (200, &answer.body));
        assert_eq!(server.get(&format!("/receipts/{id}")).body, answer.body);
        assert_eq!(shown(&server, &id)["completion"]["receipt"], hash);
    }
}

#[test]
fn without_a_service_it_is_recorded_too() {
    for is_frozen in [false, true] {
        let (scratch, mut server) = started();
        let (_, id) = queued(&server, "n");
        if is_frozen {
            assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
        }
        server.kill();
        let done = complete(&scratch, &id, "failed", "lost");
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(complete(&scratch, &id, "executed", "no").code, 65);
        let unknown = complete(&scratch, &"0".repeat(64), "executed", "no");
        assert!(unknown.stderr.contains("history --state open"), "{}", unknown.stderr);
        assert_audited(&scratch, 1);
        let server = Server::start(&scratch, &OUTBOX);
        assert_eq!(shown(&server, &id)["completion"]["outcome"], "failed");
        assert_eq!(shown(&server, &id)["state"], "executed");
    }
}

/// The segment is full, and the one behind it was not made. Nothing has failed, and nothing is written.
#[test]
fn without_a_service_and_without_room_it_says_so() {
    let (scratch, mut server) = started();
    let (_, id) = queued(&server, "n");
    let segment = scratch.join("store/00000001.jsonl");
    let left = || {
        let bytes = fs::read(&segment).expect("read");
        let end = bytes.iter().rposition(|byte| *byte != b'\n').expect("text") + 2;
        bytes.len() - end.next_multiple_of(512)
    };
    while left() >= 1_600 {
        // An echo is recorded twice. These take half of what is left, and at last three sectors at most.
        let bytes = if left() > 8_000 { (left() / 4).min(900_000) } else { 0 };
        let payload = json!({"x": "x".repeat(bytes)});
        let request = json!({"action": "echo", "payload": payload, "nonce": left().to_string()});
        assert_eq!(server.execute(&request.to_string()).status, 200);
    }
    server.kill();
    fs::remove_file(scratch.join("store/00000002.jsonl")).expect("removed");
    let before = fs::read(&segment).expect("read");
    let none = complete(&scratch, &id, "failed", &"why ".repeat(100)[..399]);
    assert_eq!(none.code, 74, "{}", none.stderr);
    assert!(none.stderr.contains("has no room for it; its service"), "{}", none.stderr);
    assert!(fs::read(&segment).expect("read") == before, "nothing was written");
    // A start makes room.
    let _server = Server::start(&scratch, &OUTBOX);
    until("it is recorded", || complete(&scratch, &id, "failed", "lost").code == 0);
}

#[test]
fn an_indeterminate_execution_keeps_its_receipt() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("files")).expect("made");
    let files = [("OPENEXEC_FILES_DIR", "files")];
    drop(Server::start(&scratch, &files));
    let owed = Owed {
        action: "write_file",
        payload: json!({"content": "x", "path": "f"}),
        nonce: "n",
        place: Some(place(&scratch.join("files"))),
        approvals: Vec::new(),
        legacy: None,
    };
    owed.append(&scratch.join("store"));
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    let server = Server::start(&scratch, &files);
    let id = owed.id();
    let early = complete(&scratch, &id, "executed", "too early");
    assert_eq!(early.code, 65);
    assert!(early.stderr.contains("it has no receipt yet"), "{}", early.stderr);
    assert_eq!(cli(&scratch, &[], &["abandon", &id, "--yes"]).code, 0);
    let before = server.get(&format!("/receipts/{id}"));
    assert_eq!(complete(&scratch, &id, "failed", "looked").code, 0);
    let now = shown(&server, &id);
    assert_eq!(
        (&now["state"], &now["outcome"]),
        (&json!("indeterminate"), &json!("indeterminate"))
    );
    assert_eq!(now["completion"]["outcome"], "failed");
    assert_eq!(server.get(&format!("/receipts/{id}")).body, before.body);
    drop(server);
    assert_audited(&scratch, 1);
}

#[test]
fn what_cannot_be_completed_is_refused_and_nothing_is_written() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let long = "x".repeat(401);
    let rows: [(&[&str], i32, &str); 12] = [
        (&["complete"], 64, "exec_id"),
        (&["complete", "x", "--outcome", "failed", "--note", "n"], 64, "exec_id"),
        (&["complete", &id], 64, "--outcome"),
        (&["complete", &id, "--outcome", "done", "--note", "n"], 64, "--outcome"),
        (&["complete", &id, "--outcome", "indeterminate", "--note", "n"], 64, "--outcome"),
        (&["complete", &id, "--outcome", "failed"], 64, "--note"),
        (&["complete", &id, "--outcome", "failed", "--note", ""], 64, "--note"),
        (&["complete", &id, "--outcome", "failed", "--note", "a\nb"], 64, "--note"),
        (&["complete", &id, "--outcome", "failed", "--note", &long], 64, "--note"),
        (&["complete", &id, "--outcome", "failed", "--note", "n"], 64, "no terminal"),
        (&["complete", &id, "--outcome", "failed", "--note", "n", "--id", "x"], 64, "--id"),
        (
            &["complete", &"0".repeat(64), "--outcome", "failed", "--note", "n", "--yes"],
            65,
            "no claim",
        ),
    ];
    for (arguments, code, says) in rows {
        let refused = without_terminal(&scratch, arguments, "yes\n");
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{arguments:?}: {}", refused.stderr);
    }
    for (answer, code) in [("no", 65), ("", 65), ("Yes", 65), ("yes", 0)] {
        let line = format!("complete {id} --outcome failed --note 'a b'");
        let ended = on_terminal(&scratch, &line, answer);
        assert_eq!(ended.code, code, "{answer}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("that it has failed?"), "{}", ended.stdout);
        assert!(ended.stdout.contains("\"a b\""), "{}", ended.stdout);
        let is_shown = shown(&server, &id).get("completion").is_some();
        assert_eq!(is_shown, code == 0, "{answer}");
    }
    drop(server);
    assert_audited(&scratch, 1);
}

#[test]
fn of_a_job_that_never_was_nothing_is_recorded() {
    let (scratch, server) = started();
    queued(&server, "n");
    let failed = json!({"action": "enqueue", "payload": {"queue": "q", "job": {}}, "nonce": "f"});
    let id = crate::sha256(&crate::canonical(&failed));
    // What has the job's name is no file.
    fs::create_dir(scratch.join(&format!("outbox/q/{id}.json"))).expect("made");
    assert_eq!(server.execute(&failed.to_string()).code(), "handler_failed");
    let refused = complete(&scratch, &id, "failed", "n");
    assert_eq!(refused.code, 65, "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing happened"), "{}", refused.stderr);
    drop(server);
    assert_audited(&scratch, 0);
}

/// Who can write into the store's directory can ask for what the commands ask for, and for nothing else.
#[test]
fn a_request_file_writes_no_other_record() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let (_, other) = queued(&server, "other");
    assert_eq!(complete(&scratch, &other, "failed", "first").code, 0);
    let hash = unhex(&id).expect("an id");
    let at = clock::now();
    let of = |id: &str, by, outcome, result: &str| {
        Completion::of(at, unhex(id).expect("an id"), by, outcome, result).line()
    };
    let note = r#"{"note":"n"}"#;
    let good = of(&id, Witness::Operator, Outcome::Executed, note);
    let claim = records(&scratch.join("store")).into_iter().find(|line| line.contains("\"claim\""));
    let texts: Vec<String> = vec![
        claim.expect("a claim"),
        abandoned(at, hash).line,
        freeze_line(at, true, "why"),
        of(&id, Witness::Worker, Outcome::Executed, note),
        of(&id, Witness::Operator, Outcome::Indeterminate, note),
        of(&id, Witness::Operator, Outcome::Executed, "{}"),
        of(&id, Witness::Operator, Outcome::Executed, r#"{"note":1}"#),
        of(&id, Witness::Operator, Outcome::Executed, r#"{"note":"n","more":1}"#),
        of(&id, Witness::Operator, Outcome::Executed, r#"{"note": "n"}"#),
        of(&id, Witness::Operator, Outcome::Executed, r#"{"note":"\u006e"}"#),
        of(&"0".repeat(64), Witness::Operator, Outcome::Executed, note),
        of(&other, Witness::Operator, Outcome::Executed, note),
        good.replace("\"executed\"", "\"failed\""),
        good.replace("\"completion\"", "\"closed\""),
        format!("{good}\nno record"),
        format!(" {good}"),
        good[..good.len() - 1].to_owned(),
        good.replace(&id, &id.to_uppercase()),
    ];
    let path = scratch.join("store/REQUEST");
    let before = records(&scratch.join("store"));
    // Each batch looks for it.
    let take = || {
        until("it is taken away", || {
            server.get(&format!("/receipts/{id}"));
            !path.exists()
        });
    };
    for text in texts {
        fs::write(scratch.join("request"), &text).expect("written");
        fs::rename(scratch.join("request"), &path).expect("renamed");
        take();
        let records = server.metric("openexec_store_records");
        assert_eq!(records, before.len() as u64, "{text}");
    }
    // And that is what was missing in each. Said twice, it is written once.
    fs::write(scratch.join("request"), format!("{good}\n{good}\n")).expect("written");
    fs::rename(scratch.join("request"), &path).expect("renamed");
    take();
    let now = records(&scratch.join("store"));
    assert_eq!(now.len(), before.len() + 1);
    let written: Value = serde_json::from_str(&now[before.len()]).expect("JSON");
    let asked: Value = serde_json::from_str(&good).expect("JSON");
    assert_ne!(written["at"], asked["at"], "the service's own time");
    assert_eq!((&written["receipt"], &written["result"]), (&asked["receipt"], &asked["result"]));
    drop(server);
    assert_audited(&scratch, 2);
}

/// Worker and operator say it at once: the first stands, and of the other nothing is left but what it is told.
#[test]
fn two_that_know_at_once_and_one_stands() {
    let (scratch, server) = started();
    let (mut workers, mut operators) = (0, 0);
    for n in 0..12 {
        let (_, id) = queued(&server, &format!("n{n}"));
        let barrier = std::sync::Barrier::new(2);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                report(&scratch, "q", &id, &said("executed", &json!({"n": n})));
            });
            barrier.wait();
            complete(&scratch, &id, "failed", "the bank says so")
        });
        until("the report is taken away", || is_taken(&scratch, "q", &id));
        let completion = &shown(&server, &id)["completion"];
        let (by, result) = match ended.code {
            0 => ("operator", json!({"note": "the bank says so"})),
            65 => ("worker", json!({"n": n})),
            _ => panic!("{}{}", ended.stdout, ended.stderr),
        };
        assert_eq!((&completion["by"], &completion["result"]), (&json!(by), &result));
        *(if by == "worker" { &mut workers } else { &mut operators }) += 1;
    }
    assert_eq!((workers + operators, ignored(&scratch, "q").len()), (12, operators));
    assert_audited(&scratch, 12);
}
