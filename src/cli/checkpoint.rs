//! `openexec checkpoint`: how far a log has come, to be kept where its operator cannot change it.
//!
//! Nothing is signed here: beside a live server a second signer could sign what a power cut takes
//! away again. A signed checkpoint is the one in the checkpoint file.

use std::path::Path;

use super::options::Options;
use super::verify::beside_a_server;
use super::{own, print, usage};
use crate::evidence::guard::{Guard, unsigned};
use crate::serve::config::Config;
use crate::serve::opening::{Purpose, hold_store, open_store};
use crate::store::fault::OpenError;
use crate::store::replay::replay;
use crate::store::{GEOMETRY, Store};
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;

pub fn run(options: &Options) -> Result<(), Failure> {
    let directory = options.word();
    match (directory, options.has("--create"), options.has("--vkey")) {
        (Some(directory), false, false) => note(&of_directory(Path::new(directory))?),
        (None, false, false) => {
            let config = options.config()?;
            note(&match &config.guard {
                Some(guard) => of_file(guard, &config.store)?,
                None => of_directory(&config.store)?,
            })
        }
        (None, true, false) => create(&options.config()?),
        (None, false, true) => {
            let config = options.config()?;
            let key = config.guard.as_ref().and_then(|guard| guard.key.as_ref());
            let key = key.ok_or_else(|| without("OPENEXEC_LOG_KEY_FILE"))?;
            own(key.verifier())
        }
        _ => Err(usage("checkpoint takes one of DIR, --create and --vkey")),
    }
}

/// What the store itself says, all of it read: unsigned, and only what is surely synced.
fn of_directory(path: &Path) -> Result<String, Failure> {
    beside_a_server(path, |directory, progress| {
        let replay = replay(directory, GEOMETRY, progress)?;
        let identity = replay.identity().ok_or(OpenError::Absent)?;
        Ok(unsigned(&identity.store, replay.synced()))
    })
}

/// What the checkpoint file says, once the store is found to extend it.
fn of_file(guard: &Guard, store: &Path) -> Result<String, Failure> {
    let text = guard.read()?;
    let held = beside_a_server(store, |directory, progress| {
        let replay = replay(directory, GEOMETRY, progress)?;
        let identity = replay.identity().ok_or(OpenError::Absent)?;
        Ok(guard.hold(text, identity, &replay.log(directory, GEOMETRY)))
    });
    Ok(held??.text)
}

/// Makes the file of a store that has none. Whether it ever had one, only the operator knows.
fn create(config: &Config) -> Result<(), Failure> {
    let guard = config.guard.as_ref().ok_or_else(|| without("OPENEXEC_CHECKPOINT_FILE"))?;
    guard.must_be_absent()?;
    let held = hold_store(&config.store, config.policy.mode(), None, Purpose::Check)?;
    // Opened as the server does, so that all of it is on the disk before a file says so.
    let (store, ..) = open_store(held.here(&config.store)?, None)?;
    let head = store.log().head();
    guard.create(store.identity(), head)?;
    print("made ", format_args!("{}: {} records", guard.path.display(), head.size))
}

fn note(text: &str) -> Result<(), Failure> {
    Page::new().data(text).print()
}

fn without(setting: &str) -> Failure {
    Failure::new(exit::CONFIGURATION, format!("{setting} is not set; set it as the service has it"))
}
