//! `openexec abandon`: ends one claim that is owed a receipt.
//!
//! The service does it, asked by a file in the store's directory, whose names may be hostile to whoever
//! runs this; without a service this command takes the lock and writes the record itself.

use std::fs::{Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::ask;
use super::existing::Existing;
use super::options::Options;
use super::usage;
use super::waiting::claim_for_people;
use crate::core::hash::{Hash, hex, unhex};
use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::core::receipt::Outcome;
use crate::core::record::Record;
use crate::executor::abandon::{REQUEST_FILE, receipt_line, request};
use crate::serve::config::Config;
use crate::serve::opening::{lock_failure, mode_must_match, open_store, store_lost};
use crate::store::open::identity;
use crate::store::{Batch, GEOMETRY, Store};
use crate::sys::clock;
use crate::sys::dir::Dir;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;
use crate::sys::random;

/// How long the service has for it.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The service reads what an operator writes.
const REQUEST_MODE: u32 = 0o644;

/// What the store has of an execution.
enum Stands {
    Nowhere,
    /// And what to show of it.
    Owed(Page),
    Ended(Outcome, Hash),
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let id = options.word().and_then(unhex);
    let id = id.ok_or_else(|| usage("abandon takes the exec_id, 64 hexadecimal digits"))?;
    let store = Existing::open(&options.environment()?)?;
    match stands(&store, &id)? {
        Stands::Owed(_) if options.has("--yes") => {}
        Stands::Owed(page) => ask(
            &page.own("End it as indeterminate, never to be run again?"),
            "not abandoned: it is still owed a receipt",
            "not abandoned: there is no terminal to ask on; look with `openexec pending`, and run \
             `openexec abandon --yes`",
        )?,
        Stands::Nowhere => {
            let text = "no claim in this store has this exec_id; `openexec pending` lists those that \
                        are owed a receipt";
            return Err(Failure::new(exit::DATA, text));
        }
        Stands::Ended(outcome, _) => {
            let text = format!("it has its receipt already: {}", outcome.name());
            return Err(Failure::new(exit::DATA, text));
        }
    }
    let directory = Directory::open(&store.path)
        .map_err(|error| Failure::io(format!("opening {}", store.path.display()), &error))?;
    match directory.lock(false) {
        Ok(()) => write(directory, &options.config()?, &id)?,
        Err(TryLockError::WouldBlock) => request_it(&store, &id)?,
        Err(error) => return Err(lock_failure(&store.path, &error)),
    }
    match stands(&store, &id)? {
        Stands::Ended(Outcome::Indeterminate, receipt) => Page::new()
            .own(format_args!("abandoned: {} is indeterminate", hex(&id)))
            .own(format_args!("receipt    {}", hex(&receipt)))
            .print(),
        Stands::Ended(outcome, _) => {
            let text = format!("it was not abandoned: it has ended meanwhile, {}", outcome.name());
            Err(Failure::new(exit::DATA, text))
        }
        Stands::Owed(_) | Stands::Nowhere => Err(Failure::new(
            exit::IN_USE,
            "the service has not ended it within 5 s: it is running it now, or starting, or hangs; look \
             with `openexec pending`, and ask again",
        )),
    }
}

fn stands(store: &Existing, id: &Hash) -> Result<Stands, Failure> {
    let mut found = Stands::Nowhere;
    store.each_record(&mut |record, _| match record {
        Record::Claim(claim) if claim.id == *id => {
            found = Stands::Owed(claim_for_people(Page::new(), claim));
        }
        Record::Receipt(receipt) if receipt.id == *id => {
            found = Stands::Ended(receipt.outcome, receipt.receipt);
        }
        _ => {}
    })?;
    Ok(found)
}

/// Without a service, and as it would: by its settings, so that nothing is written to a store that is of
/// another mode or behind its checkpoint file. No file is made that the service could not open later.
fn write(directory: Directory, config: &Config, id: &Hash) -> Result<(), Failure> {
    if let Ok(identity) = identity(&directory, GEOMETRY) {
        mode_must_match(&config.store, &identity, config.policy.mode())?;
    }
    let (mut store, ..) = open_store(Arc::new(directory), config.guard.as_ref())?;
    if !store.state().owes_to(id) {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.push(&receipt_line(clock::now(), id));
    store.append(&batch).map_err(store_lost)
}

/// Leaves the request, and waits until the service has taken it away.
fn request_it(store: &Existing, id: &Hash) -> Result<(), Failure> {
    let dir = &store.dir;
    let failed = |error: io::Error| store.failed("writing", REQUEST_FILE, &error);
    let deadline = Instant::now() + PATIENCE;
    // Somebody else's request is waited for, never replaced.
    let is_placed = in_time(deadline, || match place(dir, id) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        placed => placed.map(|()| true),
    });
    if !is_placed.map_err(failed)? {
        let shown = store.path.join(REQUEST_FILE);
        let text = format!(
            "the service has not taken {} away; if it is no request of another `openexec`, remove it",
            shown.display()
        );
        return Err(Failure::new(exit::IN_USE, text));
    }
    if !in_time(deadline, || Ok(dir.look(REQUEST_FILE)?.is_none())).map_err(failed)? {
        // Nothing is to happen later that was said not to have happened.
        let left = dir.read(REQUEST_FILE).and_then(|found| found.read(SMALL_FILE_BYTES_MAX));
        if left.is_ok_and(|left| left.as_deref() == Some(request(id).as_bytes())) {
            let _ = dir.remove(REQUEST_FILE);
        }
    }
    Ok(())
}

/// Looks until it is done; false where the time is over.
fn in_time(deadline: Instant, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    while !look()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(true)
}

/// Makes the request whole under a name of its own, then gives it the name that the service knows.
fn place(dir: &Dir, id: &Hash) -> io::Result<()> {
    let unfinished = format!("{REQUEST_FILE}.{}.tmp", hex(&random::bytes()?));
    let mut file = dir.create(&unfinished, 0o600)?;
    let placed = file
        .write_all(request(id).as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(REQUEST_MODE)))
        .and_then(|()| file.sync_all())
        .and_then(|()| dir.link(&unfinished, REQUEST_FILE));
    let _ = dir.remove(&unfinished);
    placed
}
