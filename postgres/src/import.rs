//! `import DIRECTORY`: the log of a store in files, once, into a database that has none.
//!
//! Invariant: schema, roles and all records are one transaction, so there is no half of a log, wherever this is cut
//! short. Each batch of the files is appended as a node appends it, and the root is that of the files in the end.
//! Before it is committed the store is frozen: two services over one history would each spend the same approvals.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use openexec::core::limits::SMALL_FILE_BYTES_MAX;
use openexec::core::tree::Head;
use openexec::evidence::log::Log;
use openexec::executor::requests::REQUEST_FILE;
use openexec::executor::{FROZEN_FILE, UNFROZEN_FILE};
use openexec::serve::config::Config;
use openexec::serve::opening::{lock_failure, mode_must_match, read_store};
use openexec::serve::status::Status;
use openexec::store::fault::OpenError;
use openexec::store::replay::{Progress, Seen, observe};
use openexec::store::{Batch, GEOMETRY, Store};
use openexec::sys::disk::{Directory, Disk};
use openexec::sys::exit::{self, Failure};
use openexec::sys::{locked, page};
use tokio_postgres::types::Type;

use crate::desk::Desk;
use crate::link::Fault;
use crate::rights::Roles;
use crate::schema;
use crate::store::Postgres;

const MOVED: &[u8] = b"its log is in a database since `openexec-postgres import`\n";

/// Reads the store there into the database, under the root that is returned.
///
/// # Errors
/// Another process has the store, it is damaged or of another mode, or something failed. Nothing is in the database
/// then, unless it is the commit of which nobody knows.
pub fn read(mut desk: Desk, config: &Config, path: &Path, roles: &Roles) -> Result<Head, Failure> {
    let shown = path.display();
    let directory = Directory::open(path);
    let directory = directory.map_err(Failure::while_doing(format_args!("opening {shown}")))?;
    directory.lock(false).map_err(|error| lock_failure(path, &error))?;
    if directory.dir().look(REQUEST_FILE).map_err(Failure::while_doing(REQUEST_FILE))?.is_some() {
        let text =
            format!("{shown} has a REQUEST of an operator: start its service once, or remove it");
        return Err(exit::data(text));
    }
    let notes = [FROZEN_FILE, UNFROZEN_FILE].map(|name| note(&directory, name));
    // All of it is read and judged before anything is written.
    let whole = |disk: &dyn Disk, geometry, progress: Progress| {
        Ok::<_, OpenError>((observe(disk, geometry, progress, &mut |_| Ok(()))?, ()))
    };
    let (replay, (), _) = read_store(&directory, config.guard.as_ref(), whole)?;
    let identity =
        replay.identity.as_ref().ok_or_else(|| exit::data("it has no first record"))?.clone();
    mode_must_match(path, &identity, config.policy.mode())?;

    // Anew: while a long store was judged the server ended the session, which was idle.
    let about = desk.connect().map_err(failed)?;
    desk.link.run("BEGIN").map_err(failed)?;
    let statements = schema::statements(&identity, roles).map_err(exit::usage)?;
    desk.link.run(&statements).map_err(failed)?;
    let seat = desk.seat().map_err(failed)?;
    desk.take_over(&seat, &about).map_err(failed)?;
    let store = Postgres::open(desk, Arc::<Status>::default(), Vec::new());
    let mut store =
        store.map_err(|why| exit::data(format!("what was begun cannot be read: {why:?}")))?;
    copy(&mut store, &directory)?;
    let (head, desk) = (store.log().head(), store.desk());
    let mut desk = locked(&desk);
    if head != replay.tree.head() {
        return Err(exit::data(
            "the records in the database have another root: nothing was imported",
        ));
    }
    for (name, found) in [FROZEN_FILE, UNFROZEN_FILE].into_iter().zip(notes) {
        let Some((text, left_at)) = found? else { continue };
        let sql = "INSERT INTO openexec.note VALUES ($1, $2, to_timestamp($3::bigint / 1000000.0))";
        let left =
            desk.link.ask(sql, &[(&name, Type::TEXT), (&text, Type::TEXT), (&left_at, Type::INT8)]);
        left.map_err(failed)?;
    }
    let frozen = directory.dir().put(FROZEN_FILE, MOVED, 0o644);
    frozen.map_err(Failure::while_doing(format_args!("writing {FROZEN_FILE} in {shown}")))?;
    desk.link.run("COMMIT").map_err(|fault| {
        let text = format!(
            "whether it was imported is not known: {}; look with `openexec-postgres check`",
            fault.text()
        );
        Failure::new(exit::INPUT_OUTPUT, text)
    })?;
    Ok(head)
}

/// Appends the batches of the store, but for its first record, which is there.
fn copy(store: &mut Postgres, directory: &Directory) -> Result<(), Failure> {
    let (mut batch, mut number, mut is_first) = (Batch::default(), 0, true);
    let mut add = |seen: &Seen| {
        let (_, line) = seen.record()?;
        if seen.batch != number && !batch.is_empty() {
            store.append(&batch).map_err(|lost| lost.to_string())?;
            batch.clear();
        }
        number = seen.batch;
        if !std::mem::take(&mut is_first) {
            batch.push(line);
        }
        Ok(())
    };
    let copied = observe(directory, GEOMETRY, &mut page::progress, &mut add);
    copied.map_err(|error| exit::data(format!("it was not imported: {error}")))?;
    if !batch.is_empty() {
        store.append(&batch).map_err(|lost| exit::data(format!("it was not imported: {lost}")))?;
    }
    Ok(())
}

/// What an operator left under that name, and when in microseconds.
fn note(directory: &Directory, name: &str) -> Result<Option<(String, i64)>, Failure> {
    let failed = |error| Failure::io(format!("reading {name}"), &error);
    let Some(metadata) = directory.dir().look(name).map_err(failed)? else { return Ok(None) };
    let bytes = directory.dir().read(name).and_then(|found| found.read(SMALL_FILE_BYTES_MAX));
    let text = bytes.ok().flatten().unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(&text).replace('\0', "").trim_end().chars().take(400).collect();
    let at = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(Some((text, at.map_or(0, |at| at.as_micros() as i64))))
}

fn failed(fault: Fault) -> Failure {
    Failure::new(exit::INPUT_OUTPUT, format!("importing: {}", fault.text()))
}
