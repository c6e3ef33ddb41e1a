//! What the active node reads. A record that is there stays as it is, so that no lock is needed.

use std::collections::HashMap;
use std::io;

use openexec::core::hash::Hash;
use openexec::executor::FROZEN_FILE;
use openexec::store::state::Position;
use openexec::store::{Lost, Note};
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use super::{Desk, LOOK_AGAIN, unknown};
use crate::keys::{Key, key};
use crate::link::{Fault, malformed};

/// A record with a key, and those that belong to it.
pub type Found = Vec<(String, Position, String)>;

impl Desk {
    /// What has that key.
    ///
    /// # Errors
    /// It cannot be told now.
    pub fn find(&mut self, key: &Key) -> io::Result<Found> {
        self.ready().map_err(unreadable)?;
        let sql = "SELECT kind, n, line FROM openexec.find($1)";
        let rows = self.link.ask(sql, &[(&[key.as_slice()].as_slice(), Type::BYTEA_ARRAY)]);
        let rows = rows.map_err(|fault| io::Error::other(fault.text().to_owned()))?;
        let found =
            |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)? as u64, row.try_get(2)?));
        rows.iter().map(found).collect::<Result<Found, Error>>().map_err(io::Error::other)
    }

    /// What has each of these keys, of most of them, and how it stands: by one statement, so that this was the active
    /// node when it was asked.
    ///
    /// # Errors
    /// It cannot be told now, or this node is not the active one any more.
    pub fn find_all(&mut self, keys: &[Key]) -> Result<HashMap<Key, Found>, Lost> {
        self.ready()?;
        // What operators left may be long, and is in the first row alone.
        let sql = "SELECT session, veto, size, root, last_session, last_seq, names, left_at, now, standby_names, \
                   CASE row_number() OVER () WHEN 1 THEN texts END AS texts, k, kind, n, line \
                   FROM openexec.look() LEFT JOIN openexec.find($1) ON true";
        let texts: Vec<&[u8]> = keys.iter().map(Key::as_slice).collect();
        let rows = self.look_and(sql, &[(&texts, Type::BYTEA_ARRAY)]).map_err(unknown)?;
        // By that look it may know that it was overtaken.
        self.ready()?;
        all(keys, &rows).map_err(|error| unknown(malformed(error)))
    }

    /// Where the claim with that id is.
    ///
    /// # Errors
    /// It cannot be told now.
    pub fn claim(&mut self, id: &Hash) -> io::Result<Option<Position>> {
        let found = self.find(&key(b'i', id))?;
        Ok(found.iter().find(|(kind, ..)| kind.is_empty()).map(|(_, at, _)| *at))
    }

    /// The records from one number to before another.
    ///
    /// # Errors
    /// They cannot be read now.
    pub fn lines(&mut self, from: u64, to: u64) -> io::Result<Vec<String>> {
        self.ready().map_err(unreadable)?;
        let lines = self.read(from, to);
        lines.map_err(|fault| io::Error::other(fault.text().to_owned()))
    }

    /// The same over the connection that there is.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn read(&mut self, from: u64, to: u64) -> Result<Vec<String>, Fault> {
        let (from, to) = (from as i64, to as i64);
        let sql = "SELECT line FROM openexec.rec WHERE n >= $1 AND n < $2 ORDER BY n";
        let rows = self.link.ask(sql, &[(&from, Type::INT8), (&to, Type::INT8)])?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, Error>>().map_err(malformed)
    }

    /// What an operator left under that name. Whoever looks for a stop decides by what is there now, and by nothing that
    /// comes later.
    ///
    /// # Errors
    /// It cannot be told now.
    pub fn note(&mut self, name: &str) -> io::Result<Option<Note>> {
        self.ready().map_err(unreadable)?;
        if self.seen_at.is_none_or(|at| at.elapsed() > LOOK_AGAIN) {
            self.look().map_err(|fault| io::Error::other(fault.text().to_owned()))?;
        }
        if name == FROZEN_FILE {
            self.judged = self.seen.veto;
        }
        let found = self.seen.notes.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, note)| note.clone()))
    }
}

pub fn unreadable(lost: Lost) -> io::Error {
    io::Error::other(lost.to_string())
}

fn all(keys: &[Key], rows: &[Row]) -> Result<HashMap<Key, Found>, Error> {
    let mut all: HashMap<Key, Found> = keys.iter().map(|key| (*key, Found::new())).collect();
    for row in rows {
        let Some(key) = row.try_get::<_, Option<Vec<u8>>>("k")? else { continue };
        let Ok(key) = Key::try_from(key) else { continue };
        let (kind, n) = (row.try_get("kind")?, row.try_get::<_, i64>("n")? as u64);
        // One that was left out is asked for by itself, if it is needed.
        let line: Option<String> = row.try_get("line")?;
        if let (Some(line), Some(found)) = (line, all.get_mut(&key)) {
            found.push((kind, n, line));
        } else {
            all.remove(&key);
        }
    }
    Ok(all)
}
