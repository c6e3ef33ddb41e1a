//! `openexec checkpoint`: how far a log has come, to be kept where its operator cannot change it.
//!
//! Nothing is signed here: beside a live server a second signer could sign what a power cut takes
//! away again. A signed checkpoint is the one in the checkpoint file.

use std::path::Path;

use super::options::Options;
use super::verify::beside_a_server;
use super::{own, print, usage};
use crate::evidence::guard::{Guard, Saved, unsigned};
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
        (Some(directory), false, false) => note(Path::new(directory), None),
        (None, false, false) => {
            let config = options.config()?;
            note(&config.store, config.guard.as_ref())
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

/// What the checkpoint file says, once the store is found to extend it; without one what the store itself
/// says, all of it read: unsigned, and only what is surely synced.
fn note(path: &Path, guard: Option<&Guard>) -> Result<(), Failure> {
    let text = guard.map(Guard::read).transpose()?;
    let found = beside_a_server(path, |directory, progress| {
        let replay = replay(directory, GEOMETRY, progress)?;
        let identity = replay.identity().ok_or(OpenError::Absent)?;
        Ok(match guard.zip(text) {
            Some((guard, text)) => guard.hold(text, identity, &replay.log(directory, GEOMETRY)),
            None => {
                let head = replay.synced();
                Ok(Saved { text: unsigned(&identity.store, head), head })
            }
        })
    });
    Page::new().data(&found??.text).print()
}

/// Makes the file of a store that has none. Whether it ever had one, only the operator knows.
fn create(config: &Config) -> Result<(), Failure> {
    let guard = config.guard.as_ref().ok_or_else(|| without("OPENEXEC_CHECKPOINT_FILE"))?;
    guard.must_be_absent()?;
    let held = hold_store(config, Purpose::Check)?;
    // Opened as the server does, so that all of it is on the disk before a file says so.
    let (store, ..) = open_store(held.here(&config.store)?, None)?;
    let head = store.log().head();
    guard.create(store.identity(), head)?;
    print("made ", format_args!("{}: {} records", guard.path.display(), head.size))
}

fn without(setting: &str) -> Failure {
    exit::configuration(format!("{setting} is not set; set it as the service has it"))
}
