//! What a process that takes over has to read: the newest snapshot, the records that it means, and those after it. So
//! it takes as long for a long log as for a short one.
//!
//! Invariant: what is gone on with is under the root of the newest batch. The records that are read are added to the
//! roots of the subtrees that the database has of the log at the snapshot, and must come to it. Of the records before
//! it none is read again here, but for those that still matter: that all are as they were written is for a backup to
//! tell.

use openexec::core::hash::Hash;
use openexec::core::record::{Identity, Record};
use openexec::core::tree::{Tree, leaf_hash};
use openexec::store::state::Position;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use crate::applied::Applied;
use crate::desk::Desk;
use crate::link::{Fault, malformed};
use crate::snapshot::{self, Unread};

/// Bytes of records that are read at once, about.
const READ_BYTES: u64 = 1024 * 1024;
/// Records that are read at once, at least and at most.
const READ_RECORDS: (u64, u64) = (16, 4096);

/// Why the log cannot be gone on with.
#[derive(Debug)]
pub enum Unopened {
    /// It may be tried again.
    Fault(Fault),
    /// It is not what this program wrote.
    Damaged(String),
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Self {
        Unopened::Fault(fault)
    }
}

/// How many jobs are open, and where the claim of the oldest is.
pub type Jobs = (u64, Option<Position>);

/// What the log means now, and how its jobs stand.
pub struct Loaded {
    pub identity: Identity,
    pub records: Applied,
    pub jobs: Jobs,
}

/// Reads what the log means.
///
/// # Errors
/// It cannot be read now, or is not one to go on with.
pub fn load(desk: &mut Desk) -> Result<Loaded, Unopened> {
    let head = desk.known().ok_or_else(|| damaged(0, "there is no batch"))?;
    let (identity, _) = identity(desk)?;
    let mut records = start(desk, head.size)?;
    let from = records.tree.size();
    let mut apply = |at, line: &str| {
        // Of what has been executed nothing is looked up here: its key is there.
        records.apply(line, at, |_| Some(0))?;
        records.tree.push(leaf_hash(line.as_bytes()));
        Ok(())
    };
    each(from, head.size, |from, to| desk.read(from, to), &mut apply)?;
    if records.tree.head() != head {
        let why = "the records are not those of the newest batch's root";
        return Err(Unopened::Damaged(why.to_owned()));
    }
    records.state.proposals.over = Default::default();
    Ok(Loaded { identity, records, jobs: open_jobs(desk)? })
}

/// What log it is, and the record that says so.
///
/// # Errors
/// It does not say that, or not now.
pub fn identity(desk: &mut Desk) -> Result<(Identity, String), Unopened> {
    let first = desk.read(0, 1)?.pop().unwrap_or_default();
    let Some(Record::Store(store)) = Record::read(&first) else {
        return Err(damaged(0, "it does not say what store this is"));
    };
    let identity = Identity { store: store.store.to_owned(), mode: store.mode, created: store.at };
    Ok((identity, first))
}

/// Gives each record from one number to before another, of which `read` reads about a megabyte at once.
///
/// # Errors
/// One cannot be read, or is missing, or `take` says what is wrong with it.
pub fn each(
    from: u64,
    to: u64,
    mut read: impl FnMut(u64, u64) -> Result<Vec<String>, Fault>,
    take: &mut dyn FnMut(u64, &str) -> Result<(), String>,
) -> Result<(), Unopened> {
    let (mut at, mut count) = (from, READ_RECORDS.0);
    while at < to {
        let lines = read(at, (at + count).min(to))?;
        if lines.is_empty() {
            return Err(damaged(at, "it is missing"));
        }
        for line in &lines {
            take(at, line).map_err(|reason| damaged(at, &reason))?;
            at += 1;
        }
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        count =
            (READ_BYTES * lines.len() as u64 / bytes as u64).clamp(READ_RECORDS.0, READ_RECORDS.1);
    }
    Ok(())
}

/// What was applied at the newest snapshot; nothing where there is none.
fn start(desk: &mut Desk, size: u64) -> Result<Applied, Unopened> {
    let sql = "SELECT s.size, s.text, b.root, b.frontier FROM openexec.snapshot s \
               LEFT JOIN openexec.batch b ON b.size = s.size ORDER BY s.size DESC LIMIT 1";
    let rows = desk.link.ask(sql, &[])?;
    let Some(row) = rows.first() else { return Ok(Applied::default()) };
    let (at, text, tree) = snapshot_of(row).map_err(malformed)?;
    let tree = tree.filter(|_| at <= size);
    let tree = tree.ok_or_else(|| damaged(at, "a snapshot is of no batch that there is"))?;
    let again = |positions: &[Position]| lines(desk, positions);
    let read = snapshot::read(&text, again).map_err(|unread| match unread {
        Unread::Fault(fault) => Unopened::Fault(fault),
        Unread::Damaged(why) => damaged(at, why),
    });
    let mut records = read?;
    if records.state.records != at {
        return Err(damaged(at, "the snapshot is of another size"));
    }
    records.tree = tree;
    Ok(records)
}

/// Its size, its text, and the tree of the batch that it came with.
fn snapshot_of(row: &Row) -> Result<(u64, String, Option<Tree>), Error> {
    let size = row.try_get::<_, i64>(0)? as u64;
    let root: Option<Vec<u8>> = row.try_get(2)?;
    let frontier: Option<Vec<Vec<u8>>> = row.try_get(3)?;
    let subtrees: Option<Vec<Hash>> = frontier
        .unwrap_or_default()
        .into_iter()
        .map(|subtree| Hash::try_from(subtree).ok())
        .collect();
    let tree = subtrees.and_then(|subtrees| Tree::of(size, subtrees));
    let tree = tree.filter(|tree| root.is_some_and(|root| root == tree.root()));
    Ok((size, row.try_get(1)?, tree))
}

/// The records at these places, in this order; fewer where one is missing.
fn lines(desk: &mut Desk, positions: &[Position]) -> Result<Vec<String>, Fault> {
    let positions: Vec<i64> = positions.iter().map(|position| *position as i64).collect();
    let sql = "SELECT rec.line FROM unnest($1) WITH ORDINALITY u(n, o) JOIN openexec.rec ON rec.n = u.n ORDER BY u.o";
    let rows = desk.link.ask(sql, &[(&positions, Type::INT8_ARRAY)])?;
    let lines: Result<_, Error> = rows.iter().map(|row| row.try_get(0)).collect();
    lines.map_err(malformed)
}

/// From two columns.
pub fn jobs(row: &Row, at: usize) -> Result<Jobs, Error> {
    let count: Option<i64> = row.try_get(at)?;
    let oldest: Option<i64> = row.try_get(at + 1)?;
    Ok((count.unwrap_or_default() as u64, oldest.map(|oldest| oldest as u64)))
}

/// How the jobs stand.
///
/// # Errors
/// It cannot be told now.
pub fn open_jobs(desk: &mut Desk) -> Result<Jobs, Fault> {
    let sql = "SELECT (SELECT jobs FROM openexec.batch ORDER BY size DESC LIMIT 1), \
               (SELECT min(n) FROM openexec.open_job)";
    let rows = desk.link.ask(sql, &[])?;
    let row = rows.first().ok_or_else(|| Fault::Broken("an answer without a row".to_owned()))?;
    jobs(row, 0).map_err(malformed)
}

fn damaged(at: u64, why: &str) -> Unopened {
    Unopened::Damaged(format!("record {at}: {why}"))
}
