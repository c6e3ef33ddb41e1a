//! What a server says of itself, of the log and of what operators left.

use openexec::core::hash::Hash;
use openexec::core::time::Time;
use openexec::core::tree::Head;
use openexec::store::Note;
use tokio_postgres::{Error, Row};

use crate::link::{Fault, Link, malformed};

/// How it stands, as `openexec.look()` tells.
#[derive(Default)]
pub struct Seen {
    pub session: i64,
    pub veto: i64,
    pub newest: Option<Head>,
    /// Session and number of the newest batch.
    pub last: (i64, i64),
    pub notes: Vec<(String, Note)>,
    /// How far our clock is from the database's, at least.
    pub clock_micros: i64,
    pub standby_names: String,
}

/// What a connection leads to.
pub struct About {
    /// It takes no writes.
    pub is_standby: bool,
    pub has_fsync: bool,
    pub version: i32,
    pub timeline: u32,
}

/// Asks where the connection leads.
///
/// # Errors
/// As of [`Link::call`].
pub fn about(link: &mut Link) -> Result<About, Fault> {
    let sql = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, \
               current_setting('fsync')::boolean, current_setting('server_version_num')::int, \
               CASE WHEN pg_is_in_recovery() THEN '0' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END";
    let rows = link.ask(sql, &[])?;
    let row = rows.first().ok_or_else(|| Fault::Broken("an answer without a row".to_owned()))?;
    let read = || -> Result<About, Error> {
        let timeline: String = row.try_get(3)?;
        Ok(About {
            is_standby: row.try_get(0)?,
            has_fsync: row.try_get(1)?,
            version: row.try_get(2)?,
            timeline: u32::from_str_radix(&timeline, 16).unwrap_or(0),
        })
    };
    read().map_err(malformed)
}

/// Reads what it said, asked and answered between these times of ours.
///
/// # Errors
/// It is of another form than ours.
pub fn seen(row: &Row, before: i64, after: i64) -> Result<Seen, Error> {
    let newest = match (
        row.try_get::<_, Option<i64>>("size")?,
        row.try_get::<_, Option<Vec<u8>>>("root")?,
    ) {
        (Some(size), Some(root)) => {
            Hash::try_from(root).ok().map(|root| Head { size: size as u64, root })
        }
        _ => None,
    };
    let names: Vec<String> = row.try_get("names")?;
    let texts: Vec<String> = row.try_get("texts")?;
    let left_at: Vec<i64> = row.try_get("left_at")?;
    let notes = names.into_iter().zip(texts).zip(left_at).map(|((name, text), at)| {
        (name, Note { text: Some(text), left_at: Time::from_micros(at) })
    });
    let now: i64 = row.try_get("now")?;
    Ok(Seen {
        session: row.try_get("session")?,
        veto: row.try_get("veto")?,
        newest,
        last: (
            row.try_get::<_, Option<i64>>("last_session")?.unwrap_or_default(),
            row.try_get::<_, Option<i64>>("last_seq")?.unwrap_or_default(),
        ),
        notes: notes.collect(),
        clock_micros: (before - now).max(now - after),
        standby_names: row.try_get("standby_names")?,
    })
}
