//! `openexec freeze` and `unfreeze`: a file in the store's directory, seen by the next batch.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::options::Options;
use super::{existing, print, usage};
use crate::config::Environment;
use crate::executor::{FROZEN_FILE, UNFROZEN_FILE};
use crate::exit::Failure;

const REASON_BYTES_MAX: usize = 400;

pub fn freeze(arguments: &[String], environment: &Environment) -> Result<(), Failure> {
    let options = Options::read(arguments, &["--reason"], 0)?;
    let reason = options.get("--reason").unwrap_or("");
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(usage("--reason takes one line of at most 400 bytes"));
    }
    let store = existing::store(environment)?;
    // Made whole under another name: a reader sees the file with its reason, or none.
    let unfinished = store.join(format!("{FROZEN_FILE}.tmp"));
    let target = store.join(FROZEN_FILE);
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(format!("{reason}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&unfinished, &target))
        .and_then(|()| File::open(&store)?.sync_all());
    made.map_err(|error| Failure::io(format!("writing {}", target.display()), &error))?;
    print("frozen: new executions get 503 until `openexec unfreeze`\n")
}

pub fn unfreeze(arguments: &[String], environment: &Environment) -> Result<(), Failure> {
    Options::none(arguments)?;
    let store = existing::store(environment)?;
    let target = store.join(FROZEN_FILE);
    // The service makes a record of it and removes it, when it next looks.
    match std::fs::rename(&target, store.join(UNFROZEN_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return print("it was not frozen\n");
        }
        renamed => renamed.and_then(|()| File::open(&store)?.sync_all()),
    }
    .map_err(|error| Failure::io(format!("renaming {}", target.display()), &error))?;
    print("unfrozen: executions go on\n")
}
