//! What the active node writes: each is one statement, which writes nothing for a session that is not the newest.

use openexec::core::tree::Head;
use openexec::store::Lost;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{Desk, Doubt};
use crate::applied::Adds;
use crate::link::{Fault, malformed};
use crate::load::{Jobs, jobs};
use crate::outbox::Done;

impl Desk {
    /// Adds lines and what they bring, and so comes to `head`. Gives the open jobs, if they are others by it: how many,
    /// and the claim of the oldest.
    ///
    /// # Errors
    /// As of [`openexec::store::Store::append`].
    pub fn append(&mut self, adds: &Adds, head: Head) -> Result<Option<Jobs>, Lost> {
        let Adds { lines, keys, opens, closes, snapshot, jobs: left } = adds;
        let Some(known) = self.known else {
            return Err(Lost::Refused("nothing is known of the log".to_owned()));
        };
        self.seq += 1;
        let (session, seq, veto, may_lose) = (self.session, self.seq, self.judged, self.may_lose);
        let keys_alone: Vec<&[u8]> = keys.iter().map(|(key, _)| key.as_slice()).collect();
        let of_lines: Vec<i32> = keys.iter().map(|(_, line)| *line).collect();
        // Set before anything is sent: an early return must leave it in doubt.
        self.doubt = Some(Doubt { session, seq, head });
        let (size, root, new_root) =
            (known.size as i64, known.root.as_slice(), head.root.as_slice());
        let texts: Vec<&str> = left.iter().map(|job| job.text.as_str()).collect();
        let ids: Vec<&str> = left.iter().map(|job| job.id.as_str()).collect();
        let queues: Vec<&str> = left.iter().map(|job| job.queue.as_str()).collect();
        let claims: Vec<i32> = left.iter().map(|job| job.claim).collect();
        let receipts: Vec<i32> = left.iter().map(|job| job.receipt).collect();
        let answer = self.link.ask(
            "SELECT status, jobs, oldest FROM openexec.append(\
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            &[
                (&session, Type::INT8),
                (&seq, Type::INT8),
                (&veto, Type::INT8),
                (&may_lose, Type::BOOL),
                (&size, Type::INT8),
                (&root, Type::BYTEA),
                (lines, Type::TEXT_ARRAY),
                (&keys_alone, Type::BYTEA_ARRAY),
                (&of_lines, Type::INT4_ARRAY),
                (&new_root, Type::BYTEA),
                (opens, Type::INT8_ARRAY),
                (closes, Type::INT8_ARRAY),
                (snapshot, Type::TEXT),
                (&texts, Type::TEXT_ARRAY),
                (&ids, Type::TEXT_ARRAY),
                (&queues, Type::TEXT_ARRAY),
                (&claims, Type::INT4_ARRAY),
                (&receipts, Type::INT4_ARRAY),
            ],
        );
        let read = |rows: Vec<Row>| -> Result<(String, Jobs), Fault> {
            let row = rows.first().ok_or_else(|| Fault::Broken("no row".to_owned()))?;
            Ok((row.try_get(0).map_err(malformed)?, jobs(row, 1).map_err(malformed)?))
        };
        let answer = answer.and_then(read);
        let (status, jobs) = answer.map_err(|fault| {
            // Also where it was refused: who asks again asks over a connection that fences this one.
            self.link.give_up();
            Lost::Unknown(fault.text().to_owned())
        })?;
        if status == "ok" {
            (self.known, self.doubt) = (Some(head), None);
            return Ok((opens.len() + closes.len() > 0).then_some(jobs));
        }
        self.doubt = None;
        Err(match status.as_str() {
            "fenced" => {
                let lost = Lost::Fenced("another node has taken over".to_owned());
                self.fate = Some(lost.clone());
                lost
            }
            "conflict" | "root" | "job" => {
                Lost::Refused(format!("the database found a fault of ours ({status})"))
            }
            // An operator's word came in between, or a setting of the database is another by now.
            _ => {
                self.link.give_up();
                Lost::Unknown(format!("the database took nothing ({status})"))
            }
        })
    }

    /// Takes away reports of workers that are recorded, or says of them why they never will be.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn reported(&mut self, done: &Done) -> Result<(), Fault> {
        if done.is_empty() {
            return Ok(());
        }
        let ids: Vec<&str> = done.iter().map(|(id, ..)| id.as_str()).collect();
        let at: Vec<i64> = done.iter().map(|(_, at, _)| *at).collect();
        let why: Vec<Option<&str>> = done.iter().map(|(.., why)| *why).collect();
        let session = self.session;
        let sql = "SELECT openexec.reported($1, $2, $3, $4)";
        let done = self.link.ask(
            sql,
            &[
                (&session, Type::INT8),
                (&ids, Type::TEXT_ARRAY),
                (&at, Type::INT8_ARRAY),
                (&why, Type::TEXT_ARRAY),
            ],
        );
        done.map(drop)
    }

    /// Takes it away, if it is the one that was left then; whether it is gone.
    pub fn remove_note(&mut self, name: &str, left_at: i64) -> bool {
        let session = self.session;
        let removed = self.link.value(
            "SELECT openexec.remove_note($1, $2, $3)",
            &[(&session, Type::INT8), (&name, Type::TEXT), (&left_at, Type::INT8)],
        );
        self.seen_at = None;
        removed.unwrap_or(false)
    }
}
