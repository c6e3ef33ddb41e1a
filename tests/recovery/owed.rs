//! Claims that are owed a receipt: who is told of them, what releases them, and what ends one.
use std::fs;
use std::os::unix::fs::symlink;

use crate::common::handlers::{counted, service};
use crate::common::owed::{Owed, place};
use crate::common::{
    Scratch, Server, cli, fifo, on_terminal, post, problem, until, without_terminal,
};
use openexec::core::hash::unhex;
use openexec::executor::requests::abandoned;
use openexec::sys::clock;
use serde_json::{Value, json};

const SETTINGS: [(&str, &str); 1] = [("OPENEXEC_FILES_DIR", "files")];

/// A store with a claim, cut short, that a second run could complete.
fn owing() -> (Scratch, Owed<'static>) {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("files")).expect("made");
    drop(Server::start(&scratch, &SETTINGS));
    let owed = Owed {
        action: "write_file",
        payload: json!({"path": "f", "content": "\u{202e}x", "create_only": true}),
        nonce: "n",
        place: Some(place(&scratch.join("files"))),
        approvals: Vec::new(),
        legacy: None,
    };
    owed.append(&scratch.join("store"));
    (scratch, owed)
}

/// What `openexec abandon` leaves for the service.
fn request(id: &str) -> String {
    abandoned(clock::now(), unhex(id).expect("an id")).line + "\n"
}

/// The names in the store's directory, less the segments, which are made ahead.
fn names(scratch: &Scratch) -> Vec<String> {
    let entries = fs::read_dir(scratch.join("store")).expect("listed");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("listed").file_name().into_string();
    let mut names: Vec<String> = entries.map(|entry| name(entry).expect("UTF-8")).collect();
    names.retain(|name| !name.contains(".jsonl"));
    names.sort();
    names
}

fn assert_audited(scratch: &Scratch) {
    let audit = cli(scratch, &[], &["verify", "store", "--json"]);
    assert_eq!(audit.code, 0, "{}", audit.stderr);
    let audit: Value = serde_json::from_str(&audit.stdout).expect("JSON");
    assert_eq!(audit["owed"], 0, "{audit}");
}

#[test]
fn an_operator_is_told_and_asked_before_anything_is_released() {
    let (scratch, owed) = owing();
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    let server = Server::start(&scratch, &SETTINGS);
    until("it is counted", || server.metric("openexec_owed_receipts") == 1);
    until("it grows older", || server.metric("openexec_owed_oldest_seconds") >= 1);

    let line = cli(&scratch, &[], &["pending"]).stdout;
    assert!(line.is_ascii(), "{line}");
    let shown: Value = serde_json::from_str(&line).expect("one line");
    assert_eq!((&shown["owed"], &shown["id"]), (&json!(true), &json!(owed.id())));
    assert_eq!(shown["payload"], owed.payload);
    let before = names(&scratch);
    for stdin in ["", "yes\n"] {
        let refused = without_terminal(&scratch, &["unfreeze"], stdin);
        assert_eq!((refused.code, &refused.stdout), (64, &line), "{}", refused.stderr);
        assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
        assert_eq!(names(&scratch), before);
    }
    let id = owed.id();
    problem(&server.get(&format!("/receipts/{id}")), 503, "frozen");
    let released = without_terminal(&scratch, &["unfreeze", "--yes"], "");
    assert_eq!((released.code, released.stdout.lines().next()), (0, line.lines().next()));
    until("it is completed", || server.get(&format!("/receipts/{id}")).status == 200);
    until("nothing is owed", || server.metric("openexec_owed_receipts") == 0);
    assert_eq!(server.metric("openexec_owed_oldest_seconds"), 0);
    assert_eq!(cli(&scratch, &[], &["pending"]).stdout, "");

    // With nothing to release nothing is asked, and what is not frozen stays so.
    assert_eq!(without_terminal(&scratch, &["unfreeze"], "").code, 0);
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    assert_eq!(without_terminal(&scratch, &["unfreeze"], "").code, 0);
}

/// The person at the terminal says yes, or anything else.
#[test]
fn the_terminal_is_asked_and_not_the_pipe() {
    let (scratch, owed) = owing();
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    for (answer, code) in [("no", 65), ("y", 65), ("yes", 0)] {
        let ended = on_terminal(&scratch, "unfreeze", answer);
        assert_eq!(ended.code, code, "{answer}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains(&owed.id()), "{}", ended.stdout);
        assert_eq!(scratch.join("store/FROZEN").exists(), code != 0);
    }
    let id = owed.id();
    for (answer, code) in [("no", 65), ("", 65), ("YES", 65), ("yes", 0), ("yes", 65)] {
        let ended = on_terminal(&scratch, &format!("abandon {id}"), answer);
        assert_eq!(ended.code, code, "{answer}: {}{}", ended.stdout, ended.stderr);
        let pending = cli(&scratch, &[], &["pending"]).stdout;
        let has_receipt = answer == "yes";
        assert_eq!(pending.contains(&id), !has_receipt, "{answer}: {pending}");
    }
}

#[test]
fn what_becomes_indeterminate_at_start_is_in_the_journal() {
    for (action, is_told) in [("echo", true), ("write_file", false)] {
        let (scratch, owed) = owing();
        let [files] = SETTINGS;
        let server = Server::start(&scratch, &[files, ("OPENEXEC_ALLOWED_ACTIONS", action)]);
        until("it is open", || server.log().contains("OpenExec serves"));
        let line = format!("\"id\":\"{}\"", owed.id());
        let log = server.log();
        let told = log.lines().any(|l| l.contains("has become indeterminate") && l.contains(&line));
        assert_eq!(told, is_told, "{action}: {log}");
        assert!(!log.contains("create_only"), "nothing of a payload: {log}");
    }
}

#[test]
fn a_claim_is_abandoned_beside_the_service_and_without_one() {
    for serves in [false, true] {
        let (scratch, owed) = owing();
        let id = owed.id();
        assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
        let server = serves.then(|| Server::start(&scratch, &SETTINGS));
        let before = names(&scratch);
        for (word, code) in [("", 64), ("x", 64), (&"0".repeat(64)[..], 65), (&id[..63], 64)] {
            assert_eq!(cli(&scratch, &[], &["abandon", "--yes", word]).code, code, "{word}");
        }
        assert_eq!(cli(&scratch, &[], &["abandon"]).code, 64);
        // Nobody is there to be asked.
        for stdin in ["", "yes\n"] {
            let refused = without_terminal(&scratch, &["abandon", &id], stdin);
            assert_eq!((refused.code, &*refused.stdout), (64, ""), "{}", refused.stderr);
            assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
        }
        assert_eq!(names(&scratch), before, "{serves}: nothing was asked of the service");
        let done = cli(&scratch, &[], &["abandon", "--yes", &id]);
        assert_eq!(done.code, 0, "{serves}: {}", done.stderr);
        assert!(done.stdout.contains("indeterminate"), "{}", done.stdout);
        // A second time, and of one that has ended.
        let twice = cli(&scratch, &[], &["abandon", "--yes", &id]);
        assert_eq!(twice.code, 65, "{}", twice.stderr);
        assert!(twice.stderr.contains("indeterminate"), "{}", twice.stderr);
        assert_eq!(names(&scratch), before, "{serves}: nothing is left behind");

        let server = server.unwrap_or_else(|| Server::start(&scratch, &SETTINGS));
        let body = problem(&server.get(&format!("/receipts/{id}")), 500, "indeterminate");
        assert_eq!(body["result"]["indeterminate"]["code"], "abandoned");
        assert!(done.stdout.contains(body["receipt"].as_str().expect("a receipt")));
        // Nothing is left to release, and it never runs.
        assert_eq!(without_terminal(&scratch, &["unfreeze"], "").code, 0);
        let echo = r#"{"action":"echo","nonce":"m"}"#;
        until("it is not frozen", || server.execute(echo).status == 200);
        assert!(!scratch.join("files/f").exists());
        drop(server);
        assert_audited(&scratch);
    }
}

/// What runs is not abandoned: it gets the receipt of what it did.
#[test]
fn what_runs_cannot_be_abandoned() {
    for (ms, code) in [(1_500, 65), (3_600_000, 75)] {
        let scratch = Scratch::new();
        let server = Server::spawn(service(&scratch), &scratch);
        let payload = json!({"ms": ms});
        let body = json!({"action": "count", "nonce": "n", "payload": payload}).to_string();
        let id = crate::common::sha256(&crate::common::canonical(
            &json!({"action": "count", "nonce": "n", "payload": payload}),
        ));
        let (address, request) = (server.address.clone(), post("/execute", body.as_bytes()));
        let client = std::thread::spawn(move || crate::common::try_exchange(&address, &request));
        until("it runs", || !counted(&scratch).is_empty());
        let refused = cli(&scratch, &[], &["abandon", &id, "--yes"]);
        // A busy machine may take longer than the command waits.
        assert!([code, 75].contains(&refused.code), "{ms}: {}", refused.stderr);
        assert!(!scratch.join("store/REQUEST").exists(), "nothing happens later");
        if code == 65 {
            assert_eq!(client.join().expect("joined").expect("answered").status, 200);
        }
        drop(server);
    }
}

/// What others have put in the request's place is neither followed nor waited for, by either side.
#[test]
fn a_hostile_request_file_does_nothing() {
    type Put<'a> = &'a dyn Fn(&Scratch);
    let path = |scratch: &Scratch| scratch.join("store/REQUEST");
    let write = |scratch: &Scratch, text: &[u8]| fs::write(path(scratch), text).expect("written");
    let puts: [(&str, Put); 9] = [
        ("nothing in it", &|scratch| write(scratch, b"")),
        ("garbage", &|scratch| write(scratch, &[0xff; 300])),
        ("a huge one", &|scratch| write(scratch, &vec![b'a'; 64 << 20])),
        ("an id that is not owed", &|scratch| {
            write(scratch, request(&"0".repeat(64)).as_bytes());
        }),
        ("two requests", &|scratch| {
            let line = request(&"0".repeat(64));
            write(scratch, line.repeat(2).as_bytes());
        }),
        ("a FIFO", &|scratch| fifo(&path(scratch))),
        ("a link to a file", &|scratch| symlink("../victim", path(scratch)).expect("linked")),
        ("a link to nothing", &|scratch| symlink("../new", path(scratch)).expect("linked")),
        ("a directory", &|scratch| fs::create_dir(path(scratch)).expect("made")),
    ];
    for (what, put) in puts {
        let (scratch, owed) = owing();
        fs::write(scratch.join("victim"), "victim").expect("written");
        assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
        put(&scratch);
        let server = Server::start(&scratch, &SETTINGS);
        let ended = cli(&scratch, &[], &["abandon", &owed.id(), "--yes"]);
        // A directory cannot be removed: a person has to.
        let code = if what == "a directory" { 75 } else { 0 };
        assert_eq!(ended.code, code, "{what}: {}", ended.stderr);
        assert!(code == 0 || ended.stderr.contains("store/REQUEST"), "{}", ended.stderr);
        assert_eq!(server.get("/ready").status, 200, "{what}");
        assert_eq!(fs::read(scratch.join("victim")).expect("there"), b"victim", "{what}");
        assert!(!scratch.join("new").exists(), "{what}");
        assert!(!names(&scratch).iter().any(|name| name.ends_with(".tmp")), "{what}");
    }
}

/// A request that was left before a start counts before anything is run again.
#[test]
fn a_request_is_taken_before_the_second_run() {
    let (scratch, owed) = owing();
    fs::write(scratch.join("store/REQUEST"), request(&owed.id())).expect("written");
    let server = Server::start(&scratch, &SETTINGS);
    problem(&server.get(&format!("/receipts/{}", owed.id())), 500, "indeterminate");
    assert!(!scratch.join("files/f").exists() && !scratch.join("store/REQUEST").exists());
}
