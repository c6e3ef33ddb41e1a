//! `openexec freeze` and `unfreeze`: a file in the store's directory, seen by the next batch.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

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
            // Whatever the umask of who runs this: the service has to read it.
            file.set_permissions(Permissions::from_mode(0o644))?;
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
    let ended = if target.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        // The service makes a record of it and removes it, when it next looks.
        std::fs::rename(&target, store.join(UNFROZEN_FILE))
    } else {
        // Nothing, or what somebody made by hand.
        std::fs::remove_file(&target).or_else(|error| match error.kind() {
            ErrorKind::NotFound => Err(error),
            _ => std::fs::remove_dir(&target),
        })
    };
    match ended {
        Err(error) if error.kind() == ErrorKind::NotFound => return print("it was not frozen\n"),
        ended => ended
            .and_then(|()| File::open(&store)?.sync_all())
            .map_err(|error| Failure::io(format!("removing {}", target.display()), &error))?,
    }
    print("unfrozen: executions go on\n")
}
