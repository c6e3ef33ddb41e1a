//! `openexec checkpoint`: how far a log has come, to be kept where its operator cannot change it.
//!
//! Nothing is signed here: beside a live server a second signer could sign what a power cut takes
//! away again. A signed checkpoint is the one in the checkpoint file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::existing::say_torn;
use super::kept::{self, Kept};
use super::options::Options;
use super::verify::beside_a_server;
use super::{own, print, usage};
use crate::core::base64;
use crate::evidence::checkpoint::{Checkpoint, decimal};
use crate::evidence::cosignature::Witnesses;
use crate::evidence::file::CheckpointFile;
use crate::evidence::guard::{Guard, Saved, unsigned};
use crate::evidence::key::LogKey;
use crate::evidence::log::{FileLog, Log};
use crate::evidence::note::split;
use crate::evidence::path::consistency;
use crate::serve::config::Config;
use crate::serve::opening::{Purpose, hold_store, open_store, replay};
use crate::store::fault::OpenError;
use crate::store::{GEOMETRY, Store};
use crate::sys::exit::{self, Failure};
use crate::sys::limits::NOTE_BYTES_MAX;
use crate::sys::locked;
use crate::sys::page::Page;

pub fn run(options: &Options) -> Result<(), Failure> {
    let asked = ["--create", "--vkey", "--add-checkpoint", "--cosignatures"];
    let asked: Vec<_> = asked.into_iter().filter(|name| options.has(name)).collect();
    let value = |name| options.get(name).unwrap_or_default();
    match (options.word(), &asked[..]) {
        (Some(directory), []) => note(Path::new(directory), None),
        (None, []) => {
            let config = options.config()?;
            note(&config.store, config.guard.as_ref())
        }
        (None, ["--create"]) => create(&options.config()?),
        (None, ["--vkey"]) => own(signing(&options.config()?)?.1.verifier()),
        (None, ["--add-checkpoint"]) => request(&options.config()?, value("--add-checkpoint")),
        (None, ["--cosignatures"]) => {
            keep(&options.config()?, value("--cosignatures"), kept::witnesses(options)?)
        }
        _ => Err(usage(
            "checkpoint takes one of DIR, --create, --vkey, --add-checkpoint and --cosignatures",
        )),
    }
}

/// What the checkpoint file says, once the store is found to extend it; without one what the store itself
/// says, all of it read: unsigned, and only what is surely synced.
fn note(path: &Path, guard: Option<&Guard>) -> Result<(), Failure> {
    let saved = held(path, guard, |_, saved| Ok(saved))?;
    Page::new().data(&saved.text).print()
}

fn held<T>(
    path: &Path,
    guard: Option<&Guard>,
    then: impl FnOnce(&dyn Log, Saved) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let text = guard.map(Guard::read).transpose()?;
    beside_a_server(path, |directory, progress| {
        let replay = replay(directory, GEOMETRY, progress)?;
        let identity = replay.identity.as_ref().ok_or(OpenError::Absent)?;
        let log = FileLog::new(directory, GEOMETRY, replay.blocks.clone());
        let saved = match guard.zip(text) {
            Some((guard, text)) => guard.hold(text, identity, &log),
            None => {
                let head = replay.synced();
                Ok(Saved { text: unsigned(&identity.store, head), head })
            }
        };
        Ok(saved.and_then(|saved| then(&log, saved)))
    })?
}

fn signing(config: &Config) -> Result<(&Guard, &LogKey), Failure> {
    let guard = config.guard.as_ref();
    let signing = guard.and_then(|guard| Some((guard, guard.key.as_ref()?)));
    signing.ok_or_else(|| without("OPENEXEC_LOG_KEY_FILE"))
}

/// What a witness is asked (c2sp.org/tlog-witness, add-checkpoint), which has seen `old` records.
fn request(config: &Config, old: &str) -> Result<(), Failure> {
    let takes = "--add-checkpoint takes how many records the witness has seen; 0 at first";
    let old = decimal(old).ok_or_else(|| usage(takes))?;
    let (guard, key) = signing(config)?;
    let text = held(&config.store, Some(guard), |log, saved| {
        let size = saved.head.size;
        if key.verifier().open(&saved.text).is_err() {
            return Err(exit::data("the checkpoint file is not signed yet; the service does it"));
        }
        if old > size {
            return Err(exit::data(format!(
                "the checkpoint has {size} records, the witness {old}"
            )));
        }
        let hashes = consistency(log, old, size);
        let hashes = hashes.map_err(Failure::while_doing("reading the store"))?;
        let lines: String = hashes.iter().map(|hash| base64::encode(hash) + "\n").collect();
        Ok(format!("old {old}\n{lines}\n{}", saved.text))
    });
    Page::new().data(&text?).print()
}

/// Keeps what witnesses have answered: `file` has the request, and behind it their lines.
fn keep(config: &Config, file: &str, witnesses: (Witnesses, u64)) -> Result<(), Failure> {
    let (guard, key) = signing(config)?;
    let given = kept::read_text(file, NOTE_BYTES_MAX)?;
    let note = given.strip_prefix("old ").and_then(|body| body.split_once("\n\n"));
    let note = note.map_or(given.as_str(), |(_, note)| note);
    if witnesses.1 == 0 {
        return Err(usage("--cosignatures needs --witness VKEY, of each that was asked"));
    }
    let (key, all) = (key.verifier(), &witnesses.0);
    let new = Kept::open(file, note, Some(key), (all, witnesses.1))?;
    let path = guard.path.with_added_extension("cosigned");
    let merged = |old: Option<String>| {
        let old = old.unwrap_or_default();
        let ((text, lines), (old_text, old_lines)) =
            (split(note).unwrap_or_default(), split(&old).unwrap_or_default());
        let (before, head) = (Checkpoint::parse(old_text).map(|old| old.head), new.checkpoint.head);
        if let Some(before) = before.filter(|old| old.size >= head.size && *old != head) {
            let kept = format!("what is kept there is newer or a fork: {} records", before.size);
            return Err(io::Error::other(kept));
        }
        let old_lines = if old_text == text { old_lines } else { "" };
        let is_ours = |line: &&str| all.has(line) || matches!(key.signature(line), Ok(Some(_)));
        // Of each key the newest: a witness that sends many makes the file no larger.
        let mut newest = BTreeMap::new();
        for line in old_lines.lines().chain(lines.lines().filter(is_ours)) {
            newest.insert(key_of(line), line);
        }
        let lines: Vec<_> = newest.into_values().collect();
        Ok(format!("{text}\n{}\n", lines.join("\n")))
    };
    let shown = path.display();
    let kept = CheckpointFile::at(&path).and_then(|kept| kept.replace(merged));
    kept.map_err(Failure::while_doing(format_args!("keeping cosignatures in {shown}")))?;
    print("kept in ", shown)
}

/// Makes the file of a store that has none. Whether it ever had one, only the operator knows.
fn create(config: &Config) -> Result<(), Failure> {
    let guard = config.guard.as_ref().ok_or_else(|| without("OPENEXEC_CHECKPOINT_FILE"))?;
    guard.must_be_absent()?;
    let held = hold_store(config, Purpose::Check)?;
    // Opened as the server does, so that all of it is on the disk before a file says so.
    let (store, torn, _) = open_store(held.here(&config.store)?, None)?;
    torn.iter().for_each(say_torn);
    let head = locked(&store.blocks()).head;
    guard.create(store.identity(), head)?;
    print("made ", format_args!("{}: {} records", guard.path.display(), head.size))
}

fn without(setting: &str) -> Failure {
    exit::configuration(format!("{setting} is not set; set it as the service has it"))
}

/// What a line of a signed note begins with: the name, and most of the key's id.
fn key_of(line: &str) -> Option<&str> {
    const ID_CHARACTERS: usize = 5;
    line.get(..line.rfind(' ')? + 1 + ID_CHARACTERS)
}
