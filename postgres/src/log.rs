//! The tree over the database's records: the roots of its perfect subtrees from level 8 on are rows of it, as `append`
//! made them, and what is below is made of the records again. So a proof says what the records say now: one that was
//! altered gives a proof that does not verify, never one that hides it.

use std::io;
use std::sync::{Arc, Mutex};

use openexec::core::hash::Hash;
use openexec::core::limits::LEAVES_PER_BLOCK;
use openexec::core::tree::{BLOCK_LEVEL, Head, leaf_hash};
use openexec::evidence::log::Log;
use openexec::store::state::Position;
use openexec::sys::locked;
use tokio_postgres::types::Type;

use crate::desk::Desk;

/// For the witness, which reads while the executor writes.
pub struct Records {
    pub desk: Arc<Mutex<Desk>>,
    /// What is committed, as this process knows it.
    pub head: Arc<Mutex<Head>>,
}

impl Log for Records {
    fn head(&self) -> Head {
        *locked(&self.head)
    }

    /// Where it cannot be told, whoever asks asks for leaves instead, and is told so then.
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        if level < BLOCK_LEVEL {
            return None;
        }
        let (level, index) = (i32::try_from(level).ok()?, i64::try_from(index).ok()?);
        let mut desk = locked(&self.desk);
        desk.ready().ok()?;
        let sql = "SELECT hash FROM openexec.tree WHERE level = $1 AND ix = $2";
        let rows = desk.link.ask(sql, &[(&level, Type::INT4), (&index, Type::INT8)]).ok()?;
        rows.first()?.try_get::<_, Vec<u8>>(0).ok()?.try_into().ok()
    }

    fn leaves(&self, block: u64) -> io::Result<Vec<Hash>> {
        let from = block * LEAVES_PER_BLOCK;
        let to = (from + LEAVES_PER_BLOCK).min(self.head().size);
        let lines = locked(&self.desk).lines(from, to)?;
        if from >= to || lines.len() as u64 != to - from {
            return Err(io::Error::other("the log has no such block"));
        }
        Ok(lines.iter().map(|line| leaf_hash(line.as_bytes())).collect())
    }

    fn find(&self, position: Position) -> io::Result<(u64, String)> {
        let line = locked(&self.desk).lines(position, position + 1)?.pop();
        line.map(|line| (position, line)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
