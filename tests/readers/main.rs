//! The rules of docs/store.md, each broken once in a store that is genuine otherwise, and what its three
//! readers say: opening (`serve`, `check`), `openexec verify`, and docs/read_store.py.
//!
//! Opening refuses what breaks the form of a line or the state; the others refuse that and more. Between
//! `verify` and the reader there is one difference: the reader checks no signatures.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the reader is another program; directories are the test's own"
)]

mod approvals;
#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod forge;
mod forms;
mod history;
mod keys;
mod order;
mod proposals;
mod random;
mod records;
mod shown;
mod table;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use openexec::core::approval::keys::Keyring;
use openexec::core::hash::hex;
use openexec::evidence::audit::audit;
use openexec::serve::keys::from_keys_file;
use openexec::store::Geometry;
use openexec::store::replay::replay_to_serve;
use openexec::sys::disk::Directory;
use serde_json::json;

use common::approvals::public_pem;
use forge::{
    AUDIT, Approval, Files, Model, NAMES, OPS, SEGMENT, approve, clawshield, demo, laid_out, reject,
};
use table::{Case, Change, Who};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: SEGMENT as u64, batch_bytes_max: SEGMENT / 3, executions_max: 1_000 };

/// What each reader says: nothing, or why not.
struct Verdicts {
    serve: Result<(), String>,
    verify: Result<(), String>,
    keys: Result<(), String>,
    reader: Result<(), String>,
}

/// A directory that is written again for each store.
struct Place {
    path: PathBuf,
    reader: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("oe-readers-{}-{number}", std::process::id());
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/read_store.py");
        let mut command = Command::new("python3");
        command.args(["-c", DRIVER, script, &SEGMENT.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut reader = command.spawn().expect("python3");
        let asks = reader.stdin.take().expect("piped");
        let answers = BufReader::new(reader.stdout.take().expect("piped"));
        Place { path: parent.join(name), reader, asks, answers }
    }

    fn write(&self, files: &Files) -> Directory {
        let _ = std::fs::remove_dir_all(&self.path);
        std::fs::create_dir(&self.path).expect("made");
        for (name, bytes) in files {
            std::fs::write(self.path.join(name), bytes).expect("written");
        }
        Directory::open(&self.path).expect("a directory")
    }

    fn judge(&mut self, files: &Files) -> Verdicts {
        let disk = self.write(files);
        let audited = |keyring: Option<&Keyring>| {
            let audited = audit(&disk, GEOMETRY, keyring, None, &mut |_, _| {});
            audited.map(drop).map_err(|error| error.to_string())
        };
        let opened = replay_to_serve(&disk, GEOMETRY, &mut |_, _| {});
        Verdicts {
            serve: opened.map(drop).map_err(|error| error.to_string()),
            verify: audited(None),
            keys: audited(Some(&keyring())),
            reader: self.read().map(drop),
        }
    }

    /// One process reads many stores; each line it is given is a directory. What it says of it.
    fn read(&mut self) -> Result<String, String> {
        writeln!(self.asks, "{}", self.path.display()).expect("asked");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("answered");
        let answer: String = serde_json::from_str(&answer).expect("an answer");
        if answer.starts_with("ok: ") { Ok(answer) } else { Err(answer) }
    }
}

/// Anything but a refusal ends it, and the test.
const DRIVER: &str = r#"
import contextlib, importlib.util, io, json, sys
spec = importlib.util.spec_from_file_location("read_store", sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
reader.SEGMENT = int(sys.argv[2])
for line in sys.stdin:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            reader.audit(line.rstrip("\n"))
        answer = said.getvalue()
    except SystemExit as refused:
        answer = str(refused.code)
    print(json.dumps(answer), flush=True)
"#;

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn keyring() -> Keyring {
    let key = |(seed, name): &(u8, &str)| json!({"name": name, "public_key": public_pem(*seed)});
    let keys: Vec<_> = NAMES.iter().map(key).collect();
    from_keys_file(&json!({"keys": keys}).to_string()).expect("keys")
}

fn made(mut model: Model, change: &Change) -> Files {
    match change {
        Change::Before(change) => change(&mut model),
        Change::Field(label, field, value) => model.set(label, field, value.clone()),
        _ => {}
    }
    model.seal();
    match change {
        Change::Put(label, field, value) => model.set(label, field, value.clone()),
        Change::Without(label, field) => {
            model.of(label).as_object_mut().expect("an object").remove(field);
        }
        Change::After(change) => change(&mut model),
        Change::Text(label, change) => {
            let line = openexec::core::json::canonical::to_string(model.of(label));
            let changed = change(&line);
            assert_ne!(line, changed);
            model.rec(label).text = Some(changed);
        }
        _ => {}
    }
    let mut frame = model.frame();
    if let Change::Frame(change) = change {
        change(&mut frame);
    }
    let mut files = laid_out(&frame);
    if let Change::Bytes(change) = change {
        change(&mut files);
    }
    files
}

#[test]
fn a_genuine_store_is_accepted_by_all() {
    let mut place = Place::new();
    for (name, model) in [("demo", demo()), ("clawshield", clawshield())] {
        for (change, files) in table::genuine(&model) {
            let verdicts = place.judge(&files);
            for (reader, verdict) in [
                ("serve", verdicts.serve),
                ("verify", verdicts.verify),
                ("verify --keys", verdicts.keys),
                ("read_store.py", verdicts.reader),
            ] {
                assert_eq!(verdict, Ok(()), "{name}, {change}: {reader}");
            }
        }
    }
}

/// A keys file of these keys under names of its own, of which each action needs so many.
fn trusted(seeds: &[u8], required: usize) -> Keyring {
    let key = |seed: &u8| json!({"name": format!("key {seed}"), "public_key": public_pem(*seed)});
    let keys: Vec<_> = seeds.iter().map(key).collect();
    from_keys_file(&json!({"keys": keys, "required": {"*": required}}).to_string()).expect("keys")
}

#[test]
fn what_is_trusted_from_elsewhere_is_asked_of_every_approval_and_rejection() {
    let place = Place::new();
    let verdict = |[claims, approval, rejection]: [u8; 3], keys: &Keyring| {
        let mut model = clawshield();
        let policy = model.of("policy");
        policy["required"] = json!({"*": 1});
        for key in policy["keys"].as_array_mut().expect("keys") {
            (key["actions"], key["not_after"]) = (json!(null), json!(null));
        }
        for (label, number) in [("pure", 1), ("idempotent", 2), ("again", 4), ("once", 5)] {
            approve(model.of(label), &[Approval::by(claims, number)]);
        }
        approve(model.of("owed"), &[Approval::by(claims, 9)]);
        proposals::approved(&mut model, Approval::by(approval, 8));
        let mut said = model.of("rejected")["artifact"].clone();
        reject(&mut said, rejection);
        model.set("rejected", "artifact", said);
        let (_, name) = NAMES.iter().find(|(seed, _)| *seed == rejection).expect("a name");
        model.set("rejected", "key", json!(name));
        let files = made(model, &Change::Before(|_| {}));
        let disk = place.write(&files);
        let audited = audit(&disk, GEOMETRY, Some(keys), None, &mut |_, _| {});
        audited.map(drop).map_err(|error| error.to_string())
    };
    for who in [[OPS; 3], [AUDIT; 3], [AUDIT, OPS, OPS], [OPS, AUDIT, OPS], [OPS, OPS, AUDIT]] {
        for seeds in [&[OPS][..], &[AUDIT], &[OPS, AUDIT]] {
            let found = verdict(who, &trusted(seeds, 1));
            let are_all = who.iter().all(|seed| seeds.contains(seed));
            match &found {
                Ok(()) => assert!(are_all, "{who:?} by {seeds:?}"),
                Err(why) => assert!(!are_all && why.contains("trust"), "{who:?} {seeds:?}: {why}"),
            }
        }
    }
    let why = verdict([OPS; 3], &trusted(&[OPS, AUDIT], 2)).expect_err("one of two");
    assert!(why.contains("it needs 2 approvals"), "{why}");
}

#[test]
fn each_rule_broken_once_is_refused_by_those_who_hold_it() {
    let cases: Vec<Case> = table::cases();
    assert!(cases.len() > 1_000, "{}", cases.len());
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut place = Place::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let base = if case.clawshield { clawshield() } else { demo() };
                    let verdicts = place.judge(&made(base, &case.change));
                    let (serve, reader) = match case.refused_by {
                        Who::All => (true, true),
                        Who::Audits => (false, true),
                        Who::Verify => (false, false),
                    };
                    for (reader, refuses, verdict) in [
                        ("serve", serve, &verdicts.serve),
                        ("verify", true, &verdicts.verify),
                        ("verify --keys", true, &verdicts.keys),
                        ("read_store.py", reader, &verdicts.reader),
                    ] {
                        if verdict.is_err() != refuses {
                            let text = format!("{}: {reader} says {verdict:?}", case.rule);
                            wrong.lock().expect("alive").push(text);
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("alive");
    assert!(wrong.is_empty(), "of {}:\n{}", cases.len(), wrong.join("\n"));
}

/// How `verify` refuses what only a signature shows.
const UNSIGNED: [&str; 2] = ["Invalid signature", "names other keys than approved it"];

/// Any change at all, of any record: whatever the verdict is, it is one.
#[test]
fn random_changes_are_judged_alike() {
    let count = std::env::var("OPENEXEC_READERS").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(200);
    let next = AtomicUsize::new(0);
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut place = Place::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed >= count {
                        return;
                    }
                    let (what, files) = random::changed(seed);
                    let verdicts = place.judge(&files);
                    let both = (&verdicts.verify, &verdicts.reader);
                    let is_signature = matches!(both, (Err(why), Ok(())) if UNSIGNED.iter().any(|w| why.contains(w)));
                    assert!(
                        is_signature || both.0.is_ok() == both.1.is_ok(),
                        "seed {seed}, {what}: {both:?}"
                    );
                    let serves = verdicts.serve.is_ok() || verdicts.verify.is_err();
                    assert!(serves, "seed {seed}, {what}: {:?}", verdicts.serve);
                    let audits = verdicts.verify.is_ok() || verdicts.keys.is_err();
                    assert!(audits, "seed {seed}, {what}");
                    accepted.fetch_add(usize::from(verdicts.verify.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    let accepted = accepted.into_inner() as u64;
    println!("{accepted} of {count} changed stores are as good as genuine");
    assert!(accepted * 2 < count, "most changes change nothing: {accepted} of {count}");
}

/// What a power cut, rot or somebody leaves of the bytes: opening, `verify` and the reader say alike whether it is a store,
/// and then of how many records and batches, and under which root.
#[test]
fn damaged_bytes_are_judged_alike() {
    let count = std::env::var("OPENEXEC_READERS").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(100);
    let (mut place, mut accepted) = (Place::new(), 0);
    for seed in 0..count {
        let (what, files) = random::damaged(seed);
        let disk = place.write(&files);
        let audited = audit(&disk, GEOMETRY, None, None, &mut |_, _| {}).map(|found| {
            let (owed, root) = (found.owed, hex(&found.root));
            format!(
                "ok: {} records in {} batches, {owed} owed, root {root}\n",
                found.records, found.batches
            )
        });
        let opened = replay_to_serve(&disk, GEOMETRY, &mut |_, _| {}).map(|(found, _)| {
            let (head, owed) = (found.tree.head(), found.state.owed().len());
            let (size, batch, root) = (head.size, found.batch, hex(&head.root));
            format!("ok: {size} records in {batch} batches, {owed} owed, root {root}\n")
        });
        let read =
            place.read().map(|said| said.split_inclusive('\n').next().expect("a line").to_owned());
        let all = (&audited, &opened, &read);
        let said = [audited.as_ref().ok(), opened.as_ref().ok(), read.as_ref().ok()];
        assert!(said.iter().all(|other| *other == said[0]), "seed {seed}, {what}: {all:?}");
        accepted += u64::from(audited.is_ok());
    }
    println!("{accepted} of {count} damaged stores are read");
    assert!(accepted > 0 && accepted < count, "{accepted} of {count}");
}
