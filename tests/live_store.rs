//! A store that is changed for another, or taken away, while a service has it open: nothing more is
//! acknowledged from then on, and nobody else's files are touched.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests start processes")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitStatus;

use common::{Scratch, Server, cli, until};

fn execute(server: &Server, nonce: &str) -> u16 {
    let body = format!(r#"{{"action":"echo","payload":{{}},"nonce":"{nonce}"}}"#);
    let answered =
        common::try_exchange(&server.address, &common::post("/execute", body.as_bytes()));
    answered.map_or(0, |answer| answer.status)
}

fn ended(server: &mut Server) -> ExitStatus {
    let mut ended = None;
    until("it ends", || {
        ended = server.child.try_wait().expect("waited");
        ended.is_some()
    });
    ended.expect("it has ended")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for name in ["00000001.jsonl", "00000002.jsonl"] {
        fs::copy(from.join(name), to.join(name)).expect("copied");
    }
}

/// What somebody does, and what the sentence says of it.
type Deed = (&'static str, fn(&Scratch, &Path), &'static str);

const DEEDS: [Deed; 10] = [
    (
        "renamed",
        |scratch, store| fs::rename(store, scratch.join("away")).expect("renamed"),
        "store is no longer",
    ),
    (
        "renamed, and a copy in its place",
        |scratch, store| {
            copy(store, &scratch.join("copy"));
            fs::rename(store, scratch.join("away")).expect("renamed");
            fs::rename(scratch.join("copy"), store).expect("renamed");
        },
        "store is no longer",
    ),
    ("removed", |_, store| fs::remove_dir_all(store).expect("removed"), "store is no longer"),
    (
        "LOCK removed",
        |_, store| fs::remove_file(store.join("LOCK")).expect("removed"),
        "LOCK was removed",
    ),
    (
        "LOCK replaced",
        |_, store| {
            fs::remove_file(store.join("LOCK")).expect("removed");
            fs::write(store.join("LOCK"), "1 127.0.0.1:1\n").expect("written");
        },
        "LOCK was removed or replaced",
    ),
    (
        "the segment removed",
        |_, store| fs::remove_file(store.join("00000001.jsonl")).expect("removed"),
        "00000001.jsonl was removed",
    ),
    (
        "the segment replaced",
        |scratch, store| {
            fs::copy(store.join("00000001.jsonl"), scratch.join("x")).expect("copied");
            fs::rename(scratch.join("x"), store.join("00000001.jsonl")).expect("renamed");
        },
        "00000001.jsonl was removed or replaced",
    ),
    (
        "the segment renamed",
        |_, store| {
            let (is, not) = (store.join("00000001.jsonl"), store.join("x"));
            fs::rename(is, not).expect("renamed");
        },
        "00000001.jsonl was removed",
    ),
    (
        "the segment made longer",
        |_, store| {
            let file = fs::OpenOptions::new().append(true).open(store.join("00000001.jsonl"));
            file.and_then(|mut file| file.write_all(b"\n")).expect("written");
        },
        "00000001.jsonl was removed or replaced by somebody else, or has another length",
    ),
    (
        "the segment cut",
        |_, store| {
            let file = fs::OpenOptions::new().write(true).open(store.join("00000001.jsonl"));
            file.and_then(|file| file.set_len(600)).expect("cut");
        },
        "00000001.jsonl was removed or replaced by somebody else, or has another length",
    ),
];

#[test]
fn nothing_is_acknowledged_once_it_is_gone() {
    for (what, deed, sentence) in DEEDS {
        for is_asked in [true, false] {
            let scratch = Scratch::new();
            let mut server = Server::start(&scratch, &[]);
            let store = server.store.clone();
            until("the next segment", || store.join("00000002.jsonl").exists());
            assert_eq!(execute(&server, "before"), 200);
            deed(&scratch, &store);
            // Asked or not: a service that rests looks each second.
            if is_asked {
                let status = execute(&server, "after");
                assert!(matches!(status, 503 | 0), "{what}: {status}");
            }
            assert_eq!(ended(&mut server).code(), Some(74), "{what}");
            let log = fs::read_to_string(scratch.join("stderr")).expect("a log");
            assert!(
                log.lines().last().is_some_and(|last| last.contains(sentence)),
                "{what}: {log}"
            );
        }
    }
}

#[test]
fn a_second_service_is_kept_out_whatever_is_removed() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    // Otherwise it would see what is done to it, end, and make room.
    let pid = server.child.id().to_string();
    let stopped = std::process::Command::new("kill").args(["-STOP", &pid]).status();
    assert!(stopped.expect("ran").success());
    for name in ["inner.sock", "LOCK"] {
        fs::remove_file(server.store.join(name)).expect("removed");
        let second = cli(&scratch, &[], &["serve"]);
        assert_eq!(second.code, 75, "{name}: {}", second.stderr);
    }
}

/// The order that was found: the first server made its next segment over the second's.
#[test]
fn a_segment_never_takes_anothers_name() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    let store = server.store.clone();
    until("the next segment", || store.join("00000002.jsonl").exists());
    let third = store.join("00000003.jsonl");
    fs::write(&third, "somebody else's").expect("written");
    let payload = "x".repeat(900_000);
    let mut last = 200;
    for n in 0..16 {
        let body = format!(r#"{{"action":"echo","payload":{{"x":"{payload}"}},"nonce":"n{n}"}}"#);
        let answered =
            common::try_exchange(&server.address, &common::post("/execute", body.as_bytes()));
        last = answered.map_or(0, |answer| answer.status);
        if last != 200 {
            break;
        }
    }
    assert_ne!(last, 200, "it goes on as if the segment were its own");
    assert_eq!(ended(&mut server).code(), Some(74));
    assert_eq!(fs::read_to_string(&third).expect("read"), "somebody else's");
}
