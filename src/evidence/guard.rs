//! Holding a store to its checkpoint file: the rollback guard.
//!
//! A store that was restored from a backup has forgotten nonces and would execute again; one that was
//! rewritten is another history. Both are found at opening, before anything is written, because the
//! file says how far the log had come and under which root. It is made with the store and never by
//! itself later: a file that is missing may be a volume that is not mounted.

use std::io;
use std::path::PathBuf;

use super::checkpoint::Checkpoint;
use super::file::CheckpointFile;
use super::key::LogKey;
use super::note::{NoteFault, split};
use super::path::head_at;
use crate::core::record::Identity;
use crate::core::tree::Head;
use crate::evidence::log::Log;
use crate::sys::exit::{self, Failure};

/// `OPENEXEC_CHECKPOINT_FILE`, and the log's key if there is one.
pub struct Guard {
    pub path: PathBuf,
    pub key: Option<LogKey>,
}

/// What the file said, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub text: String,
    pub head: Head,
}

/// How a store stands to a head from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Relation {
    /// It begins with it.
    Extends,
    /// It has so many records fewer.
    Lacks(u64),
    /// It has as many records, and they are others.
    Differs,
}

/// How the log stands to `head`.
pub fn relation(log: &dyn Log, head: &Head) -> io::Result<Relation> {
    Ok(match head_at(log, head.size)? {
        None => Relation::Lacks(head.size - log.head().size),
        Some(here) if here == *head => Relation::Extends,
        Some(_) => Relation::Differs,
    })
}

/// The name of a log that has no key.
pub fn unsigned_origin(store: &str) -> String {
    format!("openexec/{store}")
}

/// A checkpoint that nobody signs.
pub fn unsigned(store: &str, head: Head) -> String {
    Checkpoint { origin: unsigned_origin(store), head }.text()
}

impl Guard {
    /// What the file must say of `store` at this head.
    pub fn text(&self, store: &str, head: Head) -> String {
        match &self.key {
            Some(key) => key.sign(head),
            None => unsigned(store, head),
        }
    }

    pub fn file(&self) -> Result<CheckpointFile, Failure> {
        CheckpointFile::at(&self.path).map_err(|error| self.trouble("opening", &error))
    }

    /// Makes the file, where there is none.
    pub fn create(&self, identity: &Identity, head: Head) -> Result<(), Failure> {
        self.must_be_absent()?;
        let text = self.text(&identity.store, head);
        let made = self.file()?.replace(|_| Ok(text));
        made.map_err(|error| self.trouble("making", &error))
    }

    /// Before a store is made: a checkpoint without a store is one of a store that was lost.
    pub fn must_be_absent(&self) -> Result<(), Failure> {
        match self.file()?.read() {
            Ok(None) => Ok(()),
            _ => Err(exit::data(format!(
                "the checkpoint file {} is there already, and says how far its store had come; \
                 it was left as it is. Mount that store, or move the file away and keep it: \
                 docs/runbook.md, \"Rolled back store\"",
                self.path.display()
            ))),
        }
    }

    /// What the file says. Beside a live server it is read before the store, which is never behind.
    ///
    /// # Errors
    /// 78 where it is missing.
    pub fn read(&self) -> Result<String, Failure> {
        let text = self.file()?.read().map_err(|error| self.trouble("reading", &error))?;
        text.ok_or_else(|| {
            exit::configuration(format!(
                "there is no checkpoint file {}: mount its volume; if this store never had one, run \
                 `openexec checkpoint --create`",
                self.path.display()
            ))
        })
    }

    /// Holds a store to what the file said.
    ///
    /// # Errors
    /// 78 where it is another log's; 65 where it is damaged, or the store does not extend it.
    pub fn hold(&self, text: String, identity: &Identity, log: &dyn Log) -> Result<Saved, Failure> {
        let shown = self.path.display();
        let head = self.judge(&text, &identity.store)?;
        let relation = relation(log, &head).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => exit::data(error.to_string()),
            _ => Failure::io("reading the store", &error),
        })?;
        let (size, have) = (head.size, log.head().size);
        let why = match relation {
            Relation::Extends => return Ok(Saved { text, head }),
            Relation::Lacks(records) => format!(
                "the store has {have} records, {records} fewer than the checkpoint file {shown}. It is an \
                 older copy, or went on from one, and would execute again what it has forgotten"
            ),
            Relation::Differs => format!(
                "the store's first {size} records are not those of the checkpoint file {shown}: it \
                 was rewritten, or is another store"
            ),
        };
        Err(exit::data(format!(
            "{why}. Nothing was changed; docs/runbook.md, \"Rolled back store\""
        )))
    }

    /// The head that the file says. Signed by our key under our name; or unsigned and of this store,
    /// as it was before there was a key.
    fn judge(&self, text: &str, store: &str) -> Result<Head, Failure> {
        let shown = self.path.display();
        let damaged = |why: &str| Err(self.damaged(why));
        if let Some(key) = &self.key {
            match key.verifier().open(text).map(Checkpoint::parse) {
                Ok(Some(checkpoint)) if checkpoint.origin == key.verifier().name() => {
                    return Ok(checkpoint.head);
                }
                Ok(_) => return damaged("what is signed is no checkpoint of this log"),
                Err(fault @ NoteFault::BadSignature) => return damaged(&fault.to_string()),
                Err(NoteFault::NotSigned | NoteFault::Malformed(_)) => {}
            }
        }
        let is_signed = split(text).is_ok();
        match Checkpoint::parse(text) {
            Some(found) if found.origin == unsigned_origin(store) && found.text() == text => {
                Ok(found.head)
            }
            None if !is_signed => damaged("it is no checkpoint"),
            _ => Err(exit::configuration(format!(
                "the checkpoint file {shown} is of another log or another key, beginning \
                 {:?}, or its signature is damaged; correct the setting, or do as \
                 docs/runbook.md says under \"Damaged checkpoint file\"",
                text.lines().next().unwrap_or("")
            ))),
        }
    }

    fn damaged(&self, why: &str) -> Failure {
        exit::data(format!(
            "the checkpoint file {} is damaged: {why}; docs/runbook.md, \"Damaged checkpoint file\"",
            self.path.display()
        ))
    }

    fn trouble(&self, doing: &str, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::InvalidData {
            return self.damaged(&error.to_string());
        }
        Failure::io(format!("{doing} the checkpoint file {}", self.path.display()), error)
    }
}
