//! What this process may do with the log, over one connection at a time.
//!
//! Invariant: each connection begins with a committed write that raises the log's one session ([`Desk::ready`]), before
//! anything is read or written over it. So what an older connection still has on its way is committed by then or never
//! will be, and what is seen afterwards is what there is. Looking alone would not be knowing: while an older backend
//! waits for its standby, nobody sees its batch, and then it is there.

use std::io;
use std::time::{Duration, Instant};

use openexec::core::hash::Hash;
use openexec::core::tree::Head;
use openexec::store::state::Position;
use openexec::store::{Lost, Note};
use openexec::sys::clock;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use crate::applied::Adds;
use crate::keys::{Key, key};
use crate::link::{Fault, Link};
use crate::load::{Jobs, jobs};
use crate::look::{About, Seen, about, seen};
use crate::outbox::Done;

/// After an attempt to connect that failed, calls fail at once for so long.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// What operators left is looked at again when it was seen longer ago. That no claim is written after a freeze does not
/// rest on this: an append is refused that has not seen the newest word.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Why a node that has seen more ends.
const LACKS: &str = "the database lacks what this node has seen committed";
/// A host whose clock is further from the database's takes nothing.
const CLOCK_MICROS_MAX: i64 = 5_000_000;

pub struct Desk {
    pub link: Link,
    /// Who this process is.
    holder: [u8; 16],
    /// This connection has the lock of the one that is active.
    is_locked: bool,
    /// The operator accepts that a failover may lose commits.
    may_lose: bool,
    session: i64,
    seq: i64,
    /// What is committed, as far as this process knows.
    known: Option<Head>,
    /// The newest timeline on which that was seen.
    timeline: u32,
    /// A batch whose fate is unknown.
    doubt: Option<Doubt>,
    /// What became of the last one that was in doubt: whether it is there.
    pub resolved: Option<bool>,
    /// Why this process may not go on.
    fate: Option<Lost>,
    seen: Seen,
    seen_at: Option<Instant>,
    /// When the last attempt to connect failed, and why.
    failed: Option<(Instant, String)>,
}

struct Doubt {
    session: i64,
    seq: i64,
    head: Head,
}

/// A record with a key, and those that belong to it.
pub type Found = Vec<(String, Position, String)>;

impl Desk {
    pub fn new(link: Link, holder: [u8; 16], may_lose: bool) -> Self {
        Desk {
            link,
            holder,
            is_locked: false,
            may_lose,
            session: 0,
            seq: 0,
            known: None,
            timeline: 0,
            doubt: None,
            resolved: None,
            fate: None,
            seen: Seen::default(),
            seen_at: None,
            failed: None,
        }
    }

    /// Has a connection over which this process may act; makes one if need be.
    ///
    /// # Errors
    /// There is none now (`Unknown`), or this process may not go on.
    pub fn ready(&mut self) -> Result<(), Lost> {
        if let Some(fate) = &self.fate {
            return Err(fate.clone());
        }
        if self.link.is_open() {
            return Ok(());
        }
        if let Some((at, why)) = &self.failed
            && at.elapsed() < REST_AFTER_FAILURE
        {
            return Err(Lost::Unknown(why.clone()));
        }
        let resumed = self.resume();
        self.failed = resumed.as_ref().err().map(|lost| (Instant::now(), lost.to_string()));
        if resumed.is_err() {
            // Whatever it was, this connection has not been found good.
            self.link.give_up();
        }
        match resumed {
            Err(lost @ (Lost::Fenced(_) | Lost::Behind(_))) => {
                self.fate = Some(lost.clone());
                Err(lost)
            }
            resumed => resumed,
        }
    }

    /// A new connection of the process that is active.
    fn resume(&mut self) -> Result<(), Lost> {
        let about = self.connect().map_err(unknown)?;
        if self.fence(false).map_err(unknown)?.is_none() {
            // Whoever has taken over may have seen less: then this node's word is the only one of what is lost.
            return Err(if about.timeline < self.timeline || self.is_there().map_err(unknown)? {
                Lost::Fenced("another node has taken over".to_owned())
            } else {
                Lost::Behind(LACKS.to_owned())
            });
        }
        self.look().map_err(unknown)?;
        let (newest, timeline) = (self.seen.newest, about.timeline);
        let doubt = self.doubt.take();
        let is_there = doubt.as_ref().is_some_and(|doubt| {
            newest == Some(doubt.head) && self.seen.last == (doubt.session, doubt.seq)
        });
        if !is_there && newest != self.known {
            self.doubt = doubt;
            let why = LACKS.to_owned();
            self.link.move_on();
            // On an older timeline it is a primary that was cut off from the others: the one to ask is elsewhere.
            return Err(if timeline < self.timeline {
                Lost::Unknown(why)
            } else {
                Lost::Behind(why)
            });
        }
        if let Some(doubt) = doubt {
            self.resolved = Some(is_there);
            if is_there {
                self.known = Some(doubt.head);
            }
        }
        self.timeline = timeline;
        // Not before: the doubt is resolved whatever stands in the way of more.
        self.obstacle().map_or(Ok(()), |why| Err(Lost::Unknown(why.to_owned())))
    }

    /// Whether the log has what this node has seen committed, however much has come since.
    fn is_there(&mut self) -> Result<bool, Fault> {
        let Some(Head { size, root }) = self.known else { return Ok(true) };
        let sql = "SELECT EXISTS (SELECT 1 FROM openexec.batch WHERE size = $1 AND root = $2)";
        let (size, root) = (size as i64, root.as_slice());
        self.link.value(sql, &[(&size, Type::INT8), (&root, Type::BYTEA)])
    }

    /// Whether a failover may lose commits, and nobody has accepted that.
    pub fn is_asynchronous(&self) -> bool {
        let names = &self.seen.standby_names;
        !self.may_lose && (names.is_empty() || names.contains('*'))
    }

    /// Whether any standby would do. Patroni sets it so while none follows, and after each failover until one does: it
    /// passes by itself, and until then nothing is taken.
    pub fn is_any_standby(&self) -> bool {
        self.is_asynchronous() && !self.seen.standby_names.is_empty()
    }

    /// Why nothing is taken now, though the database answers.
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.is_clock_wrong() {
            return Some("this host's clock is over 5 s from the database's; set it");
        }
        if self.is_any_standby() {
            return Some(
                "synchronous_standby_names has a *, which does not say what standby has what was executed; name those \
                 that may be promoted (where Patroni sets it, wait until a standby follows), or set \
                 OPENEXEC_ACCEPT_LOST_COMMITS=yes",
            );
        }
        if self.is_asynchronous() {
            return Some(
                "synchronous_standby_names names no standby, so that a failover loses what was executed; name those \
                 that may be promoted, or set OPENEXEC_ACCEPT_LOST_COMMITS=yes",
            );
        }
        None
    }

    fn is_clock_wrong(&self) -> bool {
        self.seen.clock_micros > CLOCK_MICROS_MAX
    }

    /// Connects to a primary.
    ///
    /// # Errors
    /// The host whose turn it is cannot be reached, or is none.
    pub fn connect(&mut self) -> Result<About, Fault> {
        self.link.connect()?;
        self.is_locked = false;
        self.about()
    }

    /// What the connection leads to.
    ///
    /// # Errors
    /// It takes no writes, or did not say.
    pub fn about(&mut self) -> Result<About, Fault> {
        let about = about(&mut self.link).inspect_err(|_| self.link.give_up())?;
        if about.is_standby {
            self.link.move_on();
            return Err(Fault::Broken("the host is a standby and takes no writes".to_owned()));
        }
        Ok(about)
    }

    /// Whether this session is the one that may try to be active.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn try_lock(&mut self) -> Result<bool, Fault> {
        if !self.is_locked {
            let sql = "SELECT pg_try_advisory_lock('openexec.node'::regclass::oid::bigint)";
            self.is_locked = self.link.value(sql, &[])?;
        }
        Ok(self.is_locked)
    }

    /// Keeps this connection's place, as far as the last look found nothing against it. One whose clock is wrong leaves
    /// it to another: it would serve nobody, and nobody else could.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn hold_place(&mut self) -> Result<(), Fault> {
        if !self.is_clock_wrong() {
            return self.try_lock().map(drop);
        }
        if self.is_locked {
            let sql = "SELECT pg_advisory_unlock('openexec.node'::regclass::oid::bigint)";
            self.is_locked = false;
            self.link.value::<bool>(sql, &[])?;
        }
        Ok(())
    }

    /// Takes over: from now on nobody else's session counts.
    ///
    /// # Errors
    /// It did not come about.
    pub fn take_over(&mut self, about: &About) -> Result<(), Fault> {
        // Before the one that is active is fenced: who could not serve must not end who can.
        self.look()?;
        if let Some(why) = self.obstacle() {
            self.link.give_up();
            return Err(Fault::Broken(why.to_owned()));
        }
        let fenced = self.fence(true)?;
        if fenced.is_none() {
            return Err(Fault::Broken("the log has no row of who may write".to_owned()));
        }
        self.look()?;
        if let Some(why) = self.obstacle() {
            self.link.give_up();
            return Err(Fault::Broken(why.to_owned()));
        }
        self.known = self.seen.newest;
        self.timeline = about.timeline;
        Ok(())
    }

    fn fence(&mut self, takes: bool) -> Result<Option<i64>, Fault> {
        let sql = "SELECT openexec.fence($1, $2)";
        let holder = self.holder.as_slice();
        let session: Option<i64> =
            self.link.value(sql, &[(&holder, Type::BYTEA), (&takes, Type::BOOL)])?;
        if let Some(session) = session {
            (self.session, self.seq) = (session, 0);
        }
        Ok(session)
    }

    /// Looks how it stands.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn look(&mut self) -> Result<(), Fault> {
        let before = clock::now().micros();
        let rows = self.link.ask("SELECT * FROM openexec.look()", &[])?;
        let after = clock::now().micros();
        let row =
            rows.first().ok_or_else(|| Fault::Broken("an answer without a row".to_owned()))?;
        self.seen = seen(row, before, after).map_err(malformed)?;
        self.seen_at = Some(Instant::now());
        // Sessions only grow: to see a newer one is to know.
        if self.session != 0 && self.seen.session != self.session {
            self.fate = Some(Lost::Fenced("another node has taken over".to_owned()));
        }
        Ok(())
    }

    /// The newest batch, as the last look found it.
    pub fn newest(&self) -> Option<Head> {
        self.seen.newest
    }

    /// What is committed.
    pub fn known(&self) -> Option<Head> {
        self.known
    }

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
        let (session, seq, veto, may_lose) =
            (self.session, self.seq, self.seen.veto, self.may_lose);
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

    /// What has that key.
    ///
    /// # Errors
    /// It cannot be told now.
    pub fn find(&mut self, key: &Key) -> io::Result<Found> {
        self.ready().map_err(unreadable)?;
        let sql = "SELECT kind, n, line FROM openexec.find($1)";
        let rows = self.link.ask(sql, &[(&key.as_slice(), Type::BYTEA)]);
        let rows = rows.map_err(|fault| io::Error::other(fault.text().to_owned()))?;
        let found =
            |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)? as u64, row.try_get(2)?));
        rows.iter().map(found).collect::<Result<Found, Error>>().map_err(io::Error::other)
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

    /// What an operator left under that name, and when in microseconds.
    ///
    /// # Errors
    /// It cannot be told now.
    pub fn note(&mut self, name: &str) -> io::Result<Option<(Note, i64)>> {
        self.ready().map_err(unreadable)?;
        if self.seen_at.is_none_or(|at| at.elapsed() > LOOK_AGAIN) {
            self.look().map_err(|fault| io::Error::other(fault.text().to_owned()))?;
        }
        let found = self.seen.notes.iter().find(|(known, ..)| known == name);
        Ok(found.map(|(_, note, at)| (note.clone(), *at)))
    }

    /// Takes it away, if it is the one that was seen; whether it is gone.
    pub fn remove_note(&mut self, name: &str) -> bool {
        let Ok(Some((_, left_at))) = self.note(name) else { return false };
        let session = self.session;
        let removed = self.link.value(
            "SELECT openexec.remove_note($1, $2, $3)",
            &[(&session, Type::INT8), (&name, Type::TEXT), (&left_at, Type::INT8)],
        );
        self.seen_at = None;
        removed.unwrap_or(false)
    }
}

/// An answer of another form than ours: it is not our schema.
pub fn malformed(error: Error) -> Fault {
    Fault::Broken(error.to_string())
}

fn unknown(fault: Fault) -> Lost {
    Lost::Unknown(fault.text().to_owned())
}

fn unreadable(lost: Lost) -> io::Error {
    io::Error::other(lost.to_string())
}
