//! What this process may do with the log, over one connection at a time.
//!
//! Invariant: each connection begins with a committed write that raises the log's one session ([`Desk::ready`]), before
//! anything is read or written over it. So what an older connection still has on its way is committed by then or never
//! will be, and what is seen afterwards is what there is. Looking alone would not be knowing: while an older backend
//! waits for its standby, nobody sees its batch, and then it is there.

pub mod read;
mod write;

use std::time::{Duration, Instant};

use openexec::core::tree::Head;
use openexec::store::Lost;
use openexec::sys::clock;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::link::{Fault, Link, malformed};
use crate::look::{About, Seen, about, seen};
use crate::turn::{self, Seat};

/// After an attempt to connect that failed, calls fail at once for so long.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// What operators left is looked at again when it was seen longer ago. That no claim is written after a freeze does not
/// rest on this: an append is refused that was not decided under the newest word.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Why a node that has seen more ends.
const LACKS: &str = "the database lacks what this node has seen committed";
/// A host whose clock is further from the database's takes nothing.
const CLOCK_MICROS_MAX: i64 = 5_000_000;

pub struct Desk {
    pub link: Link,
    /// Who this process is.
    holder: [u8; 16],
    /// This connection is shown without the name of the process.
    is_hidden: bool,
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
    /// The word of operators under which the executor decides: that of when it last looked for a stop.
    judged: i64,
    /// When the last attempt to connect failed, and why.
    failed: Option<(Instant, String)>,
}

struct Doubt {
    session: i64,
    seq: i64,
    head: Head,
}

impl Desk {
    pub fn new(mut link: Link, holder: [u8; 16], may_lose: bool) -> Self {
        link.name = turn::name(&holder);
        Desk {
            link,
            holder,
            is_hidden: false,
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
            judged: 0,
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
        // Who never had a turn has none to go on with.
        if self.session == 0 {
            return Err(Lost::Unknown("the connection was lost".to_owned()));
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
        turn::clear(&mut self.link).map_err(unknown)?;
        if self.fence(None).map_err(unknown)?.is_none() {
            // Whoever has taken over may have seen less: then this node's word is the only one of what is lost.
            return Err(if about.timeline < self.timeline || self.is_there().map_err(unknown)? {
                Lost::Fenced("another node has taken over".to_owned())
            } else {
                Lost::Behind(LACKS.to_owned())
            });
        }
        if !about.has_fsync {
            self.link.move_on();
            return Err(Lost::Unknown("the database has fsync=off; set it".to_owned()));
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
        self.is_hidden = false;
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

    /// The place of the process that took over last.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn seat(&mut self) -> Result<Seat, Fault> {
        let own = self.link.name.clone();
        turn::look(&mut self.link, &own)
    }

    /// Keeps this process's place, as far as the last look found nothing against it. One whose clock is wrong leaves it to
    /// another: it would serve nobody, and nobody else could.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn hold_place(&mut self) -> Result<(), Fault> {
        let hides = self.is_clock_wrong();
        if hides != self.is_hidden {
            let own = self.link.name.clone();
            turn::show(&mut self.link, (!hides).then_some(own.as_str()))?;
            self.is_hidden = hides;
        }
        Ok(())
    }

    /// Takes over from who was seen there: from now on nobody else's session counts. False where another was faster.
    ///
    /// # Errors
    /// It did not come about.
    pub fn take_over(&mut self, seat: &Seat, about: &About) -> Result<bool, Fault> {
        // Before the one that is active is fenced: who could not serve must not end who can.
        self.look()?;
        if let Some(why) = self.obstacle() {
            self.link.give_up();
            return Err(Fault::Broken(why.to_owned()));
        }
        turn::clear(&mut self.link)?;
        if self.fence(Some(seat.session))?.is_none() {
            return Ok(false);
        }
        self.look()?;
        if let Some(why) = self.obstacle() {
            self.link.give_up();
            return Err(Fault::Broken(why.to_owned()));
        }
        (self.known, self.judged) = (self.seen.newest, self.seen.veto);
        self.timeline = about.timeline;
        Ok(true)
    }

    /// Over the session that was seen, or over one of this process.
    fn fence(&mut self, over: Option<i64>) -> Result<Option<i64>, Fault> {
        let sql = "SELECT openexec.fence($1, $2)";
        let holder = self.holder.as_slice();
        let fenced = self.link.value(sql, &[(&holder, Type::BYTEA), (&over, Type::INT8)]);
        // A primary that cannot commit may be one that was left behind: the others are asked, too.
        let session: Option<i64> = fenced.inspect_err(|_| self.link.move_on())?;
        if let Some(session) = session {
            (self.session, self.seq) = (session, 0);
            // What it saw of others while it stood by is over.
            self.fate = None;
        }
        Ok(session)
    }

    /// Looks how it stands.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn look(&mut self) -> Result<(), Fault> {
        self.look_and("SELECT * FROM openexec.look()", &[]).map(drop)
    }

    /// The same by a statement that asks for more beside it.
    fn look_and(
        &mut self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Fault> {
        let before = clock::now().micros();
        let rows = self.link.ask(sql, parameters)?;
        let after = clock::now().micros();
        let row =
            rows.first().ok_or_else(|| Fault::Broken("an answer without a row".to_owned()))?;
        self.seen = seen(row, before, after).map_err(malformed)?;
        self.seen_at = Some(Instant::now());
        // Sessions only grow: to see a newer one is to know.
        if self.session != 0 && self.seen.session != self.session {
            self.fate = Some(Lost::Fenced("another node has taken over".to_owned()));
        }
        Ok(rows)
    }

    /// The newest batch, as the last look found it.
    pub fn newest(&self) -> Option<Head> {
        self.seen.newest
    }

    /// What is there now is what is known, to who writes nothing: one state of the log, whatever comes meanwhile.
    ///
    /// # Errors
    /// As of [`Link::call`].
    pub fn only_reads(&mut self) -> Result<(), Fault> {
        self.link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        self.look()?;
        self.known = self.seen.newest;
        Ok(())
    }

    /// What is committed.
    pub fn known(&self) -> Option<Head> {
        self.known
    }
}

fn unknown(fault: Fault) -> Lost {
    Lost::Unknown(fault.text().to_owned())
}
