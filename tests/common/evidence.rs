//! A log key, a checkpoint file, and what a service answers from them.

use std::path::{Path, PathBuf};

use openexec::core::base64;
use openexec::core::record::{Identity, Line, Record};
use openexec::evidence::checkpoint::Checkpoint;
use openexec::evidence::note::VerifierKey;
use openexec::store::{Batch, GEOMETRY, Store, make, open::open};
use openexec::sys::disk::Directory;

use super::approvals::{private_key, private_pem};
use super::private_file;
use super::service::of_database;
use super::{Ended, Scratch, Server, cli};

pub const ORIGIN: &str = "example.com/log";
/// The seed of the log's key.
pub const LOG_KEY: u8 = 77;

/// A service's settings with a log key; the checkpoint file is in a directory of its own.
pub struct Evidence {
    pub checkpoint: PathBuf,
    pub key: PathBuf,
}

impl Evidence {
    pub fn new(scratch: &Scratch) -> Self {
        let elsewhere = scratch.join("elsewhere");
        std::fs::create_dir_all(&elsewhere).expect("made");
        let key = scratch.join("log.pem");
        private_file(&key, &private_pem(&[LOG_KEY; 32]));
        Evidence { checkpoint: elsewhere.join("checkpoint"), key }
    }

    pub fn settings(&self) -> Vec<(&str, &str)> {
        vec![
            ("OPENEXEC_LOG_KEY_FILE", self.key.to_str().expect("UTF-8")),
            ("OPENEXEC_LOG_ORIGIN", ORIGIN),
            ("OPENEXEC_CHECKPOINT_FILE", self.checkpoint.to_str().expect("UTF-8")),
        ]
    }

    /// Without a key: the file alone.
    pub fn unsigned(&self) -> Vec<(&str, &str)> {
        vec![("OPENEXEC_CHECKPOINT_FILE", self.checkpoint.to_str().expect("UTF-8"))]
    }

    pub fn start(&self, scratch: &Scratch) -> Server {
        Server::start(scratch, &self.settings())
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.checkpoint).expect("the checkpoint file")
    }
}

pub fn verifier() -> VerifierKey {
    VerifierKey::new(ORIGIN, *private_key(LOG_KEY).public_key()).expect("a key")
}

/// A signed checkpoint's text, read.
pub fn opened(note: &str) -> Checkpoint {
    let text = verifier().open(note).unwrap_or_else(|fault| panic!("{fault}: {note}"));
    Checkpoint::parse(text).expect("a checkpoint")
}

/// Executes `echo` once; gives the id.
pub fn echo(server: &Server, nonce: &str, text: &str) -> String {
    let request = serde_json::json!({"action": "echo", "payload": {"text": text}, "nonce": nonce});
    let answer = server.execute(&request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// `openexec verify --proof` of this text.
pub fn verify_proof(scratch: &Scratch, proof: &str, key: &str) -> Ended {
    std::fs::write(scratch.join("a.tlog-proof"), proof).expect("written");
    cli(scratch, &[], &["verify", "--proof", "a.tlog-proof", "--log-key", key])
}

/// The record lines of a store, from its files; or from the rows of its database.
pub fn records(store: &Path) -> Vec<String> {
    if let Some(rows) = of_database("records", store) {
        return rows.lines().map(str::to_owned).collect();
    }
    let mut lines = Vec::new();
    for number in 1.. {
        let name = openexec::store::segment::name(number);
        let Ok(text) = std::fs::read_to_string(store.join(name)) else { break };
        let is_record = |line: &&str| matches!(Line::read(line), Some(Line::Record(_)));
        // Most of a segment is blank.
        lines.extend(text.trim_end().lines().filter(is_record).map(str::to_owned));
    }
    lines
}

/// What somebody who may write the files can do: a whole store of these records, every root made
/// again, so that nothing in it shows what it was.
pub fn forge(store: &Path, records: &[String]) {
    std::fs::remove_dir_all(store).expect("removed");
    let disk = Directory::make(store).expect("a directory");
    let Some(Record::Store(first)) = Record::read(&records[0]) else {
        panic!("no store record: {}", records[0]);
    };
    let identity = Identity { store: first.store.to_owned(), mode: first.mode, created: first.at };
    make(&disk, GEOMETRY, &identity).expect("a store");
    let (mut forged, _) =
        open(std::sync::Arc::new(disk), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let mut rest = &records[1..];
    while let Some(first) = rest.first() {
        let is_policy = matches!(Record::read(first), Some(Record::Policy(_)));
        let (lines, others) = rest.split_at(if is_policy { 3 } else { 2 }.min(rest.len()));
        rest = others;
        let mut batch = Batch::default();
        lines.iter().for_each(|line| batch.push(line));
        forged.append(&batch).expect("appended");
    }
}

/// A directory copied, as a backup is.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

/// The base64 of the same bytes with bits set that its padding leaves over.
pub fn other_spelling(text: &str) -> String {
    assert!(text.ends_with('=') && base64::decode(text).is_some());
    let digits = text.trim_end_matches('=');
    let last = digits.bytes().last().expect("a digit");
    let other = match last {
        b'9' => b'+',
        b'z' => b'0',
        b'Z' => b'a',
        digit => digit + 1,
    };
    format!("{}{}{}", &digits[..digits.len() - 1], char::from(other), &text[digits.len()..])
}
