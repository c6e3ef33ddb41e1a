//! `openexec freeze` and `unfreeze`: a file in the store's directory, seen by the next batch.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ask::says_yes;
use super::options::Options;
use super::owed::{Owed, each_record};
use super::{existing, own, usage};
use crate::executor::{FROZEN_FILE, UNFROZEN_FILE};
use crate::serve::config::Environment;
use crate::sys::dir::Dir;
use crate::sys::exit::{self, Failure};

const REASON_BYTES_MAX: usize = 400;
/// The service reads what an operator writes.
const FROZEN_MODE: u32 = 0o644;

pub fn freeze(options: &Options, environment: &Environment) -> Result<(), Failure> {
    let reason = options.get("--reason").unwrap_or("");
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(usage("--reason takes one line of at most 400 bytes"));
    }
    let (store, dir) = existing::store(environment)?;
    match dir.put(FROZEN_FILE, format!("{reason}\n").as_bytes(), FROZEN_MODE) {
        // A directory of that name cannot be replaced, and freezes as well.
        Err(error) if error.kind() == ErrorKind::IsADirectory => {}
        // The service has its room, and goes on on a full disk. A name alone takes none.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            without_reason(&dir).map_err(|error| failed("writing", &store, &error))?;
            return own(
                "frozen: new executions get 503 until `openexec unfreeze`; there was no room for the reason",
            );
        }
        made => made.map_err(|error| failed("writing", &store, &error))?,
    }
    own("frozen: new executions get 503 until `openexec unfreeze`")
}

fn without_reason(dir: &Dir) -> io::Result<()> {
    match dir.create(FROZEN_FILE, FROZEN_MODE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made?.set_permissions(Permissions::from_mode(FROZEN_MODE)),
    }?;
    dir.sync()
}

pub fn unfreeze(options: &Options, environment: &Environment) -> Result<(), Failure> {
    let (store, dir) = existing::store(environment)?;
    let is_frozen = dir.look(FROZEN_FILE).map_err(|error| failed("reading", &store, &error))?;
    if is_frozen.is_some() {
        let mut owed = Owed::default();
        each_record(&store, &mut |record, line| owed.take(record, line))?;
        if !owed.is_empty() {
            release(&owed, options.has("--yes"))?;
        }
    }
    let ended = dir.look(FROZEN_FILE).and_then(|found| match found {
        None => Ok(false),
        // The service makes a record of it and removes it, when it next looks.
        Some(found) if found.is_file() => dir.rename(FROZEN_FILE, UNFROZEN_FILE).map(|()| true),
        // Somebody made it by hand.
        Some(found) if found.is_dir() => dir.remove_dir(FROZEN_FILE).map(|()| true),
        Some(_) => dir.remove(FROZEN_FILE).map(|()| true),
    });
    match ended {
        Ok(true) => dir.sync(),
        Ok(false) => return own("it was not frozen"),
        // Another `unfreeze` was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => return own("it was not frozen"),
        Err(error) => Err(error),
    }
    .map_err(|error| failed("removing", &store, &error))?;
    own("unfrozen: executions go on")
}

/// Shows the claims that will be run again, and asks.
fn release(owed: &Owed, yes: bool) -> Result<(), Failure> {
    if yes {
        // The caller answers for it.
        return owed.print();
    }
    let page = owed.page(true).own("Let these be completed, and executions go on?");
    match says_yes(&page)? {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(exit::DATA, "still frozen: nothing was released")),
        None => {
            owed.print()?;
            Err(usage(
                "still frozen: these claims would be completed, and there is no terminal to ask on; \
                 run `openexec unfreeze --yes`, or `openexec abandon` for what must not be completed",
            ))
        }
    }
}

fn failed(doing: &str, store: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("{doing} {}", store.join(FROZEN_FILE).display()), error)
}
