//! The store on one simulated disk, its checkpoint file on another, both failing and losing power:
//! what was signed and answered is in the file whatever happens, and is of one history.

use std::path::PathBuf;
use std::sync::Arc;

use openexec::core::line::Json;
use openexec::core::record::{Identity, Mode, Suppressed};
use openexec::core::tree::Head;
use openexec::evidence::checkpoint::Checkpoint;
use openexec::evidence::file::CheckpointFile;
use openexec::evidence::guard::{Guard, Saved};
use openexec::evidence::key::LogKey;
use openexec::evidence::log::{FileLog, Log};
use openexec::evidence::path::head_at;
use openexec::evidence::proof;
use openexec::evidence::service::{Task, Witness};
use openexec::store::open::{open, take_over};
use openexec::store::replay::replay_to_serve;
use openexec::store::{self, Batch, Files, Geometry, Store};
use openexec::sys::metrics::Metrics;

use crate::disk::{Crash, Fault, SimDisk};
use crate::random::Random;
use crate::requests::CREATED;

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 16 * 1024, batch_bytes_max: 5 * 1024, executions_max: 1_000 };
const ORIGIN: &str = "example.com/log";
const FILE: &str = "checkpoint";
const SEEDS: u64 = 1_000;

/// `openssl genpkey -algorithm ed25519` of the seed 0x07 32 times.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
    -----END PRIVATE KEY-----\n";

/// How often each was met.
#[derive(Default, Debug)]
struct Tally {
    answered: u64,
    refused: u64,
    proven: u64,
    store_failed: u64,
    file_failed: u64,
    file_behind: u64,
}

struct History {
    random: Random,
    disk: Arc<SimDisk>,
    elsewhere: Arc<SimDisk>,
    key_file: PathBuf,
    identity: Identity,
    /// The newest that anybody was given.
    signed: Vec<Head>,
    tally: Tally,
}

#[test]
fn whatever_the_storage_does_one_history_is_signed() {
    let key_file = std::env::temp_dir().join(format!("oe-sim-{}.pem", std::process::id()));
    std::fs::write(&key_file, KEY).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, private).expect("changed");
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut disk = || Arc::new(SimDisk::new(Random::new(random.next())));
        let (disk, elsewhere) = (disk(), disk());
        let identity = Identity { store: "c".repeat(32), mode: Mode::Demo, created: CREATED };
        let mut history = History {
            random,
            disk,
            elsewhere,
            key_file: key_file.clone(),
            identity,
            signed: Vec::new(),
            tally: std::mem::take(&mut tally),
        };
        history.live().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        tally = history.tally;
    }
    std::fs::remove_file(key_file).expect("removed");
    println!("{SEEDS} histories: {tally:?}");
    let Tally { answered, refused, proven, store_failed, file_failed, file_behind } = tally;
    let met = [answered, refused, proven, store_failed, file_failed, file_behind];
    assert!(met.iter().all(|times| *times > 50), "hardly met: {tally:?}");
}

impl History {
    fn guard(&self) -> Guard {
        let key = LogKey::read(&self.key_file, ORIGIN).expect("a key");
        Guard { path: FILE.into(), key: Some(key) }
    }

    fn file(&self) -> CheckpointFile {
        CheckpointFile::on(self.elsewhere.clone(), FILE)
    }

    fn live(&mut self) -> Result<(), String> {
        let made = store::make(self.disk.as_ref(), GEOMETRY, &self.identity).expect("made");
        let text = self.guard().text(&self.identity.store, made);
        self.file().replace(|_| Ok(text)).expect("made");
        for _ in 0..2 + self.random.below(3) {
            self.life()?;
            // Each by itself: they are on different storage, and may be on different machines.
            for disk in [&self.disk, &self.elsewhere] {
                let crash = if self.random.chance(60) { Crash::Power } else { Crash::Kill };
                disk.restart(crash);
                disk.fault(None);
                disk.crash_in(None);
            }
        }
        let (store, saved) = self.open()?;
        let log = Arc::new(FileLog::new(self.disk.clone(), GEOMETRY, store.blocks()));
        for head in &self.signed {
            let here = head_at(log.as_ref(), head.size).map_err(|error| error.to_string())?;
            if here != Some(*head) {
                return Err(format!("{head:?} was signed, and the log has {here:?}"));
            }
        }
        if saved.head.size < log.head().size {
            self.tally.file_behind += 1;
        }
        Ok(())
    }

    /// As the server opens it: whatever happened, the store extends the file, and the file everything
    /// that was given to anybody.
    fn open(&mut self) -> Result<(Files, Saved), String> {
        let text = self.file().read().map_err(|error| error.to_string())?;
        let text = text.ok_or("the checkpoint file is gone")?;
        let read = replay_to_serve(self.disk.as_ref(), GEOMETRY, &mut |_, _| {});
        let (read, index) = read.map_err(|error| error.to_string())?;
        let log = FileLog::new(self.disk.as_ref(), GEOMETRY, read.blocks.clone());
        let held = self.guard().hold(text, &self.identity, &log);
        let saved = held.map_err(|failure| failure.to_string())?;
        for head in &self.signed {
            if head.size > saved.head.size {
                return Err(format!("{head:?} was signed, the file has {:?}", saved.head));
            }
        }
        let opened = take_over(self.disk.clone(), GEOMETRY, read, index);
        let (store, _) = opened.map_err(|error| error.to_string())?;
        Ok((store, saved))
    }

    fn life(&mut self) -> Result<(), String> {
        let (mut store, saved) = self.open()?;
        let log = Arc::new(FileLog::new(self.disk.clone(), GEOMETRY, store.blocks()));
        let metrics = Arc::new(Metrics::default());
        let name = self.identity.store.clone();
        let mut witness =
            Witness::new(self.guard(), name, log.clone(), self.file(), saved, metrics);
        let kinds = [
            (Fault::Write, 6),
            (Fault::Sync { shows_old: false }, 6),
            (Fault::Sync { shows_old: true }, 6),
            (Fault::Read, 12),
            (Fault::Name, 16),
            (Fault::SyncDirectory, 6),
        ];
        if self.random.chance(30) {
            let kind = kinds[self.random.below(3) as usize].0;
            self.disk.fault(Some((kind, 1 + self.random.below(8))));
        }
        if self.random.chance(60) {
            let (kind, within) = self.random.pick(&kinds);
            self.elsewhere.fault(Some((kind, 1 + self.random.below(within))));
        }
        if self.random.chance(50) {
            self.elsewhere.crash_in(Some(1 + self.random.below(40)));
        }
        for step in 0..self.random.below(12) {
            if self.random.chance(60) {
                store.preparation().step(self.disk.as_ref(), GEOMETRY.segment_bytes);
                let mut batch = Batch::default();
                for line in 0..1 + self.random.below(3) {
                    batch.push(
                        &Suppressed {
                            at: CREATED,
                            count: Json(&format!("{{\"{step}_{line}\":1}}")),
                        }
                        .line(),
                    );
                }
                // Poisoned, the process ends; nobody is told anything after that.
                if store.append(&batch).is_err() {
                    self.tally.store_failed += 1;
                    return Ok(());
                }
            }
            match self.random.below(4) {
                0 => self.tally.file_failed += u64::from(witness.save().is_err()),
                1 => self.ask(&mut witness, Task::Checkpoint)?,
                2 => self.ask(&mut witness, Task::Consistency { from: 1 })?,
                _ => {
                    // The first record of all, whose line begins behind the segment's.
                    let segment = self.disk.contents();
                    let first = &segment["00000001.jsonl"];
                    let at = first.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
                    self.ask(&mut witness, Task::Proof(at as u64))?;
                }
            }
            if self.elsewhere.is_dead() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks, and remembers what was signed for anybody to see.
    fn ask(&mut self, witness: &mut Witness, task: Task) -> Result<(), String> {
        let answer = witness.answer(task);
        if answer.status != 200 {
            self.tally.refused += 1;
            return if answer.body.contains("\u{2014}") {
                Err(format!("a refusal with a signature: {}", answer.body))
            } else {
                Ok(())
            };
        }
        let note = match task {
            Task::Checkpoint => answer.body.clone(),
            Task::Consistency { .. } => {
                let body: openexec::core::json::Value =
                    serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
                body["checkpoint"].as_str().unwrap_or("").to_owned()
            }
            Task::Proof(_) => {
                let key = self.guard();
                let verifier = key.key.as_ref().map(LogKey::verifier).expect("a key");
                // What is proven is no receipt.
                let proven = proof::check(&answer.body, verifier)?;
                if proof::read_receipt(&proven.line).is_ok() {
                    return Err(format!("{proven:?}"));
                }
                self.tally.proven += 1;
                let (_, note) = answer.body.split_once("\n\n").ok_or("no checkpoint")?;
                note.to_owned()
            }
        };
        let guard = self.guard();
        let verifier = guard.key.as_ref().map(LogKey::verifier).expect("a key");
        let text = verifier.open(&note).map_err(|fault| fault.to_string())?;
        let checkpoint = Checkpoint::parse(text).ok_or("no checkpoint")?;
        self.signed.push(checkpoint.head);
        self.tally.answered += 1;
        Ok(())
    }
}

/// The harness itself: without the file a history like these would sign two.
#[test]
fn a_store_that_forgot_is_told_from_one_that_did_not() {
    let disk = Arc::new(SimDisk::new(Random::new(1)));
    let identity = Identity { store: "c".repeat(32), mode: Mode::Demo, created: CREATED };
    store::make(disk.as_ref(), GEOMETRY, &identity).expect("made");
    let (mut store, _) = open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let before = store.blocks().lock().expect("a lock").head;
    let mut batch = Batch::default();
    batch.push(&Suppressed { at: CREATED, count: Json(r#"{"one_more":1}"#) }.line());
    store.append(&batch).expect("appended");
    let after = store.blocks().lock().expect("a lock").head;
    let guard = Guard { path: FILE.into(), key: None };
    let log = FileLog::new(disk.clone(), GEOMETRY, store.blocks());
    for (head, code) in [
        (before, None),
        (after, None),
        (Head { size: after.size + 1, ..after }, Some(65)),
        (Head { root: before.root, ..after }, Some(65)),
    ] {
        let text = guard.text(&identity.store, head);
        let held = guard.hold(text, &identity, &log);
        assert_eq!(held.err().map(|failure| failure.code), code, "{head:?}");
    }
}
