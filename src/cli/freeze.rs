//! `openexec freeze` and `unfreeze`: a file in the store's directory, seen by the next batch.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;

use super::ask::{ask, can_ask};
use super::existing::Existing;
use super::options::Options;
use super::waiting::Waiting;
use super::{one_line, own};
use crate::executor::{FROZEN_FILE, UNFROZEN_FILE};
use crate::sys::dir::Dir;
use crate::sys::exit::Failure;
use crate::sys::page;

/// The service reads what an operator writes.
const FROZEN_MODE: u32 = 0o644;

pub fn freeze(options: &Options) -> Result<(), Failure> {
    let reason = one_line(options, "--reason")?;
    let store = Existing::open(&options.environment()?)?;
    let failed = |error| store.failed("writing", FROZEN_FILE, &error);
    match store.dir.put(FROZEN_FILE, format!("{reason}\n").as_bytes(), FROZEN_MODE) {
        // A directory of that name cannot be replaced, and freezes as well.
        Err(error) if error.kind() == ErrorKind::IsADirectory => {}
        // The service has its room, and goes on on a full disk. A name alone takes none.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            without_reason(&store.dir).map_err(failed)?;
            return own(
                "frozen: new executions get 503 until `openexec unfreeze`; there was no room for the reason",
            );
        }
        made => made.map_err(failed)?,
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

pub fn unfreeze(options: &Options) -> Result<(), Failure> {
    let store = Existing::open(&options.environment()?)?;
    let (dir, failed) = (&store.dir, |error| store.failed("ending", FROZEN_FILE, &error));
    if dir.look(FROZEN_FILE).map_err(failed)?.is_some() {
        // As if the stop were over.
        release(
            &Waiting::judged(&store, options.config(), false)?.released(),
            options.has("--yes"),
        )?;
    }
    let ended = dir.look(FROZEN_FILE).and_then(|found| match found {
        None => Err(ErrorKind::NotFound.into()),
        // The service makes a record of it and removes it, when it next looks.
        Some(found) if found.is_file() => dir.rename(FROZEN_FILE, UNFROZEN_FILE),
        // Somebody made it by hand.
        Some(found) if found.is_dir() => dir.remove_dir(FROZEN_FILE),
        Some(_) => dir.remove(FROZEN_FILE),
    });
    match ended.and_then(|()| dir.sync()) {
        // Another `unfreeze` may have been quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => own("it was not frozen"),
        ended => {
            ended.map_err(failed)?;
            own("unfrozen: executions go on")
        }
    }
}

/// Shows the claims that will be run again and the proposals that may execute, and asks.
fn release(waiting: &Waiting, yes: bool) -> Result<(), Failure> {
    if waiting.is_empty() {
        return Ok(());
    }
    if yes || !can_ask() {
        waiting.page(page::stdout_is_terminal()).print()?;
    }
    if yes {
        // The caller answers for it.
        return Ok(());
    }
    ask(
        &waiting.page(true).own("Let these go on: claims be completed, and proposals executed?"),
        "still frozen: nothing was released",
        "still frozen: these would go on, and there is no terminal to ask on; run `openexec unfreeze \
         --yes`, `openexec abandon` for a claim that must not be completed, or `openexec withdraw` for a proposal that must not \
         execute",
    )
}
