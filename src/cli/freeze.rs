//! `openexec freeze` and `unfreeze`: a file in the store's directory, seen by the next batch.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::options::Options;
use super::{print, usage};
use crate::config::{Environment, store_path};
use crate::executor::FROZEN_FILE;
use crate::exit::{self, Failure};

const REASON_BYTES_MAX: usize = 400;

pub fn freeze(arguments: &[String], environment: &Environment) -> Result<(), Failure> {
    let options = Options::read(arguments, &["--reason"], 0)?;
    let reason = options.get("--reason").unwrap_or("");
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(usage("--reason takes one line of at most 400 bytes"));
    }
    let store = existing_store(environment)?;
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
    let store = existing_store(environment)?;
    let target = store.join(FROZEN_FILE);
    match std::fs::remove_file(&target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return print("it was not frozen\n");
        }
        removed => removed.and_then(|()| File::open(&store)?.sync_all()),
    }
    .map_err(|error| Failure::io(format!("removing {}", target.display()), &error))?;
    print("unfrozen: executions go on\n")
}

pub fn existing_store(environment: &Environment) -> Result<std::path::PathBuf, Failure> {
    let store = store_path(environment).map_err(super::refused)?;
    let is_store = |path: &Path| path.join(crate::store::segment::name(1)).is_file();
    if !is_store(&store) {
        let text = format!(
            "there is no store in {}; set OPENEXEC_DB_URL as the server has it",
            store.display()
        );
        return Err(Failure::new(exit::CONFIGURATION, text));
    }
    Ok(store)
}
