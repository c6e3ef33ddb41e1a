//! `openexec backup`: what comes out is a store that holds what was answered before, it is frozen, and what is not
//! whole passes for nothing. Beside it `tests/faults/backup.py` ends it at each system call.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests start processes")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use common::evidence::{Evidence, echo};
use common::{Scratch, Server, cli, on_terminal, openexec, post, try_exchange, until};

/// A request of which 16 fill a segment.
fn large(nonce: &str) -> String {
    format!(r#"{{"action":"echo","payload":{{"x":"{}"}},"nonce":"{nonce}"}}"#, "x".repeat(900_000))
}

fn extract(tar: &Path, to: &Path) -> bool {
    fs::create_dir(to).expect("made");
    let mut command = Command::new("tar");
    command.arg("-x").arg("-C").arg(to).arg("-f").arg(tar);
    command.stderr(Stdio::null()).status().expect("ran").success()
}

/// A tar of the store, as `openexec backup - > FILE` makes it.
fn tar(scratch: &Scratch, name: &str) {
    let file = fs::File::create(scratch.join(name)).expect("made");
    let mut command = openexec(scratch);
    let made = command.args(["backup", "-"]).stdout(file).stderr(Stdio::piped()).spawn();
    let made = made.expect("started").wait_with_output().expect("ran");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A service on the copy, and a command on it.
fn on_copy<'a>(copy: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("OPENEXEC_DB_URL", copy)], others].concat()
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A service makes the next segment beside its work: a copy may come before it is there.
#[test]
fn a_store_whose_next_segment_is_not_made_yet_is_copied() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.execute(r#"{"action":"echo","payload":{},"nonce":"n"}"#).status, 200);
    drop(server);
    let next = scratch.join("store/00000002.jsonl");
    if let Err(error) = fs::remove_file(&next) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    let made = cli(&scratch, &[], &["backup", "copy"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(scratch.join("copy/00000002.jsonl").exists());
    assert_eq!(cli(&scratch, &[], &["verify", "copy"]).code, 0);
}

#[test]
fn a_copy_made_under_load_extends_the_checkpoint_and_answers_what_was_answered() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    let (is_over, address) = (AtomicBool::new(false), server.address.as_str());
    std::thread::scope(|scope| {
        // Small ones without a pause, and large ones until the segment has changed.
        for thread in 0..3 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut n = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let body = format!(
                        r#"{{"action":"echo","payload":{{}},"nonce":"small-{thread}-{n}"}}"#
                    );
                    let body = if thread == 0 && n < 40 { large(&format!("{n}")) } else { body };
                    let answer = try_exchange(address, &post("/execute", body.as_bytes()));
                    assert_eq!(answer.expect("an answer").status, 200);
                    n += 1;
                }
            });
        }
        // Also where an assertion fails here: otherwise the others would ask for ever.
        let _end = Ends(&is_over);
        let mut segments;
        for turn in 0.. {
            let (nonce, name) = (format!("before-{turn}"), format!("copy-{turn}"));
            let request = format!(r#"{{"action":"echo","payload":{{}},"nonce":"{nonce}"}}"#);
            let answered = server.execute(&request);
            assert_eq!(answered.status, 200);
            let kept = format!("kept-{turn}");
            let saved = server.get("/log/checkpoint").text();
            fs::write(scratch.join(&kept), &saved).expect("written");
            match turn % 2 {
                0 => {
                    let made = cli(&scratch, &[], &["backup", &name]);
                    assert_eq!(made.code, 0, "{}", made.stderr);
                }
                _ => {
                    tar(&scratch, "copy.tar");
                    assert!(extract(&scratch.join("copy.tar"), &scratch.join(&name)));
                }
            }
            // The copy's newest one is not full yet.
            segments = fs::read_dir(scratch.join(&name)).expect("a copy").count() - 2;
            let key = common::evidence::verifier().to_string();
            let arguments = ["verify", &name, "--checkpoint", &kept, "--log-key", &key];
            let verified = cli(&scratch, &[], &arguments);
            assert_eq!(verified.code, 0, "{}", verified.stderr);
            assert!(verified.stdout.contains("checkpoint  extended"), "{}", verified.stdout);
            let restored = Scratch::new();
            fs::rename(scratch.join(&name), restored.join("store")).expect("moved");
            let restored = Server::start(&restored, &[]);
            assert!(restored.get("/ready").text().contains(r#""frozen":true"#));
            let replayed = restored.execute(&request);
            assert_eq!((replayed.status, replayed.text()), (200, answered.text()), "a replay");
            let refused = restored.execute(r#"{"action":"echo","payload":{},"nonce":"new"}"#);
            assert_eq!(refused.json()["code"], "frozen");
            let detail = refused.json()["detail"].to_string();
            assert!(detail.contains("Restored backup"), "{detail}");
            if turn >= 3 && segments >= 3 {
                break;
            }
        }
    });
    let left: Vec<_> = hidden(&scratch);
    assert!(left.is_empty(), "{left:?}");
}

/// What a copy that is not whole is called.
fn hidden(scratch: &Scratch) -> Vec<String> {
    let names = fs::read_dir(scratch.path()).expect("listed");
    let names =
        names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_restored_store_goes_on_where_the_checkpoint_is_and_nowhere_before() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    echo(&server, "first", "x");
    assert_eq!(cli(&scratch, &[], &["backup", "early"]).code, 0);
    echo(&server, "second", "x");
    until("the file covers it", || server.get("/log/checkpoint").text() == evidence.text());
    // What a seal adds, the file says only once it is asked or half a second later.
    server.kill();
    assert_eq!(cli(&scratch, &[], &["backup", "late"]).code, 0);
    let early = cli(&scratch, &on_copy("file:early", &evidence.settings()), &["serve"]);
    assert_eq!(early.code, 65, "{}", early.stderr);
    assert!(early.stderr.contains("fewer than the checkpoint"), "{}", early.stderr);
    fs::remove_dir_all(scratch.join("store")).expect("lost");
    fs::rename(scratch.join("late"), scratch.join("store")).expect("restored");
    let server = evidence.start(&scratch);
    let refused = server.execute(r#"{"action":"echo","payload":{},"nonce":"third"}"#);
    assert_eq!(refused.status, 503);
    assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0);
    until("it goes on", || {
        server.execute(r#"{"action":"echo","payload":{},"nonce":"third"}"#).status == 200
    });
}

#[test]
fn a_tar_cut_short_passes_for_nothing() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    echo(&server, "first", "x");
    server.kill();
    tar(&scratch, "whole.tar");
    let whole = fs::read(scratch.join("whole.tar")).expect("a tar");
    let segment = 16 * 1024 * 1024;
    // Three headers, the blank segment, FROZEN's block, the first segment, two empty blocks.
    assert_eq!(whole.len(), 3 * 512 + segment + 512 + segment + 1024);
    let first = 512 + segment + 1024;
    let cuts = [
        511,
        512,
        513,
        segment,
        512 + segment,
        first - 512,
        first,
        first + 511,
        first + 512,
        first + 513,
        first + 512 + 1024,
        first + segment,
        first + 512 + segment - 1,
    ];
    for cut in cuts {
        fs::write(scratch.join("cut.tar"), &whole[..cut]).expect("written");
        let into = scratch.join("cut");
        extract(&scratch.join("cut.tar"), &into);
        let verified = cli(&scratch, &[], &["verify", "cut"]);
        assert_eq!(verified.code, 65, "{cut}: {}{}", verified.stdout, verified.stderr);
        // Of 511 bytes nothing comes out; there a demo service finds an empty directory.
        if cut > 512 {
            let served = cli(&scratch, &[("OPENEXEC_DB_URL", "file:cut")], &["serve"]);
            assert_eq!(served.code, 65, "{cut}: {}", served.stderr);
        }
        fs::remove_dir_all(into).expect("removed");
    }
    // What ends a tar is no part of what is in it.
    fs::write(scratch.join("cut.tar"), &whole[..whole.len() - 1024]).expect("written");
    extract(&scratch.join("cut.tar"), &scratch.join("cut"));
    assert_eq!(cli(&scratch, &[], &["verify", "cut"]).code, 0);
}

#[test]
fn where_a_copy_cannot_go_nothing_is_left() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let full = scratch.join("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("x"), "x").expect("written");
    fs::write(scratch.join("file"), "x").expect("written");
    fs::create_dir(scratch.join("empty")).expect("made");
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, scratch.join(name)).expect("linked");
    };
    link("empty", "to-empty");
    link("nowhere", "to-nothing");
    link("store", "to-store");
    let before = hidden(&scratch);
    for (target, code) in [
        ("full", 74),
        ("file", 74),
        ("store", 74),
        ("store/copy", 74),
        ("to-store/copy", 74),
        ("to-empty", 74),
        ("to-nothing", 74),
        ("missing/copy", 74),
        ("file/copy", 74),
        ("..", 64),
        ("/", 64),
        ("", 64),
    ] {
        let refused = cli(&scratch, &[], &["backup", target]);
        assert_eq!(refused.code, code, "{target}: {}", refused.stderr);
    }
    assert_eq!(cli(&scratch, &[], &["backup"]).code, 64);
    let nothing = cli(&scratch, &[("OPENEXEC_DB_URL", "file:full")], &["backup", "copy"]);
    assert_eq!(nothing.code, 78, "{}", nothing.stderr);
    let shown = on_terminal(&scratch, "backup -", "");
    assert_eq!(shown.code, 64, "{}", shown.stdout);
    assert!(shown.stdout.contains("a tar is not for a terminal"), "{}", shown.stdout);
    assert_eq!(hidden(&scratch), before);
    assert!(!server.store.join("copy").exists());
    // An empty directory gives way, as what is not there does.
    assert_eq!(cli(&scratch, &[], &["backup", "empty/"]).code, 0);
    assert_eq!(cli(&scratch, &[], &["verify", "empty"]).code, 0);
}

#[test]
fn a_store_that_is_damaged_or_full_of_links_is_not_copied() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    echo(&server, "first", "x");
    server.kill();
    // What fails leaves an empty directory as its owner made it.
    let own = scratch.join("own");
    fs::create_dir(&own).expect("made");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o2750)).expect("changed");
    let made = own.metadata().expect("there");
    let (first, kept) = (server.store.join("00000001.jsonl"), scratch.join("kept"));
    fs::rename(&first, &kept).expect("moved");
    std::os::unix::fs::symlink(&kept, &first).expect("linked");
    let linked = cli(&scratch, &[], &["backup", "copy"]);
    assert_ne!(linked.code, 0, "{}", linked.stdout);
    assert_ne!(cli(&scratch, &[], &["backup", "own"]).code, 0);
    fs::remove_file(&first).expect("removed");
    let mut bytes = fs::read(&kept).expect("read");
    bytes[700] ^= 1;
    fs::write(&first, bytes).expect("written");
    let damaged = cli(&scratch, &[], &["backup", "copy"]);
    assert_eq!(damaged.code, 65, "{}", damaged.stderr);
    assert_eq!(cli(&scratch, &[], &["backup", "own"]).code, 65);
    let is = own.metadata().expect("there");
    assert_eq!((is.ino(), is.mode()), (made.ino(), made.mode()));
    assert!(!scratch.join("copy").exists() && hidden(&scratch).is_empty());
}

#[test]
fn of_two_at_once_one_has_the_name() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    echo(&server, "first", "x");
    let start = || {
        openexec(&scratch)
            .args(["backup", "copy"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
    };
    let both = [start().expect("started"), start().expect("started")];
    let mut codes = both.map(|mut child| child.wait().expect("waited").code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(74)]);
    assert_eq!(cli(&scratch, &[], &["verify", "copy"]).code, 0);
    assert!(hidden(&scratch).is_empty());
}

#[test]
fn a_reader_that_stops_keeps_nobody_waiting() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    echo(&server, "first", "x");
    let mut child = openexec(&scratch)
        .args(["backup", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut out = child.stdout.take().expect("piped");
    let mut begun = [0; 512];
    out.read_exact(&mut begun).expect("a header");
    // The pipe is full long before the tar is whole.
    echo(&server, "second", "x");
    let mut tar = begun.to_vec();
    out.read_to_end(&mut tar).expect("read");
    assert!(child.wait().expect("waited").success());
    fs::write(scratch.join("a.tar"), tar).expect("written");
    assert!(extract(&scratch.join("a.tar"), &scratch.join("copy")));
    let verified = cli(&scratch, &[], &["verify", "copy", "--json"]);
    assert!(verified.stdout.contains(r#""executions":{"executed":1}"#), "{}", verified.stdout);
    let mut command = openexec(&scratch);
    command.args(["backup", "-"]);
    let gone = run_with_closed_output(command);
    assert_eq!(gone, Some(74));
}

/// Its code, where nobody reads what it prints.
fn run_with_closed_output(mut command: Command) -> Option<i32> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    drop(child.stdout.take());
    child.wait().expect("waited").code()
}
