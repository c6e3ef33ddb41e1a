//! `backup DIRECTORY`: the log as a store in files (docs/store.md), for everything that reads one: `openexec verify`,
//! `docs/read_store.py`, proofs. Its records, their batches and the root are the database's.
//!
//! How far the log has come is read once, and then in short transactions: one that is open for long would keep the
//! database from tidying up behind it.

use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::Duration;

use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::store::open::open;
use openexec::store::{Batch, GEOMETRY, Store, make};
use openexec::sys::disk::Directory;
use openexec::sys::exit::{self, Failure};
use tokio_postgres::types::Type;

use crate::desk::Desk;
use crate::link::Fault;
use crate::load::{self, Unopened};

/// Batches whose sizes are read at once.
const BATCHES: i64 = 1000;
/// How long to wait for the next segment.
const SEGMENT: Duration = Duration::from_millis(2);

/// Makes a store there of all that is committed now.
///
/// # Errors
/// Something is there already, a record cannot be read or written, or the log is not under its own root.
pub fn write(desk: &mut Desk, path: &Path) -> Result<Head, Failure> {
    let shown = path.display();
    let failed = |error| Failure::io(format!("writing {shown}"), &error);
    desk.look().map_err(unread)?;
    let head = desk.newest().ok_or_else(|| exit::data("there is no batch in this database"))?;
    let (identity, first) = load::identity(desk).map_err(unopened)?;
    if path.exists() {
        return Err(exit::configuration(format!("{shown} is there already; it was left as it is")));
    }
    let directory = Arc::new(Directory::make(path).map_err(failed)?);
    make(directory.as_ref(), GEOMETRY, &identity).map_err(failed)?;
    let opened = open(directory.clone(), GEOMETRY, &mut |_, _| {});
    let (mut files, _) = opened.map_err(|error| exit::data(format!("{shown}: {error}")))?;
    let preparation = files.preparation();
    let helper = Builder::new().name("segments".into());
    let helper = helper.spawn(move || preparation.run(directory.as_ref(), GEOMETRY.segment_bytes));
    helper.map_err(Failure::while_doing("starting a thread"))?;
    let mut tree = Tree::default();
    tree.push(leaf_hash(first.as_bytes()));
    let mut batch = Batch::default();
    while tree.size() < head.size {
        for size in sizes(desk, tree.size()).map_err(unread)? {
            if size > head.size {
                break;
            }
            let lines = desk.read(tree.size(), size).map_err(unread)?;
            batch.clear();
            for line in &lines {
                batch.push(line);
                tree.push(leaf_hash(line.as_bytes()));
            }
            if tree.size() != size {
                return Err(exit::data(format!("the database lacks records before number {size}")));
            }
            while !files.room().has(batch.bytes_with(0), 0) {
                sleep(SEGMENT);
            }
            files.append(&batch).map_err(|lost| exit::data(format!("{shown}: {lost}")))?;
        }
    }
    if tree.head() != head {
        return Err(exit::data("the records are not those of the newest batch's root"));
    }
    Ok(head)
}

/// How many records there were after each of the next batches.
fn sizes(desk: &mut Desk, after: u64) -> Result<Vec<u64>, Fault> {
    let sql = "SELECT size FROM openexec.batch WHERE size > $1 ORDER BY size LIMIT $2";
    let rows = desk.link.ask(sql, &[(&(after as i64), Type::INT8), (&BATCHES, Type::INT8)])?;
    let size = |row: &tokio_postgres::Row| row.try_get::<_, i64>(0).map(|size| size as u64);
    let sizes: Result<Vec<u64>, _> = rows.iter().map(size).collect();
    match sizes {
        Ok(sizes) if !sizes.is_empty() => Ok(sizes),
        Ok(_) => Err(Fault::Broken("a batch is missing".to_owned())),
        Err(error) => Err(Fault::Broken(error.to_string())),
    }
}

/// What kept the log from being read.
pub fn unopened(unopened: Unopened) -> Failure {
    match unopened {
        Unopened::Fault(fault) => unread(fault),
        Unopened::Damaged(why) => exit::data(format!("the log in the database is damaged: {why}")),
    }
}

fn unread(fault: Fault) -> Failure {
    Failure::new(exit::INPUT_OUTPUT, format!("reading the log: {}", fault.text()))
}
