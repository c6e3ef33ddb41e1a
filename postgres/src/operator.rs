//! The log in the database as the library's commands see it: whoever may select reads it, and with the operator's role
//! leaves word for the node that is active.
//!
//! Invariant: what a command says has not been done is not done later. A request that nobody has taken in time is taken
//! back, and the function that does it makes powerless what a node has on its way of it. Nothing is read in one long
//! transaction: records are only added, so those up to a size that was read once are one state of the log.

use std::cell::RefCell;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use openexec::cli::existing::Existing;
use openexec::cli::options::Options;
use openexec::core::hash::Hash;
use openexec::core::record::Record;
use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::evidence::history::{Readable, Tail};
use openexec::handlers::Handler;
use openexec::serve::config::Config;
use openexec::store::replay::{Observer, Seen};
use openexec::store::state::{Position, State};
use openexec::sys::exit::{self, Failure, usage};
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};

use crate::backup::unopened;
use crate::desk::Desk;
use crate::link::{Fault, malformed};
use crate::load;
use crate::schema;
use crate::settings::{Own, configured, connected};
use crate::turn;

/// How long a node has for a request; and, once more, the database to take it back.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Insufficient privilege (PostgreSQL, appendix A).
const NOT_PERMITTED: &str = "42501";
/// Where the database no longer answers, and what was asked may be done all the same.
const MAY_BE_DONE: &str =
    "the request may still be done within a minute: look with `pending` or `history`";
/// The same of the end of a stop.
const MAY_GO_ON: &str =
    "it may go on all the same: `/ready` of the active node says so; `freeze` stops it again";

pub struct Log {
    handlers: &'static [Handler],
    own: Own,
    desk: RefCell<Desk>,
}

impl Log {
    /// The log of the database that is configured.
    ///
    /// # Errors
    /// There is none, or it cannot be reached.
    pub fn find<'a>(
        options: &'a Options,
        directory: Option<&str>,
    ) -> Result<Box<dyn Existing + 'a>, Failure> {
        if directory.is_some() {
            return Err(usage(
                "it reads the database; `openexec history DIR` reads a store in files",
            ));
        }
        let (own, _) = Own::read()?;
        let mut desk = connected(&own)?;
        if !schema::is_there(&mut desk.link).map_err(failed("looking for the log"))? {
            return Err(exit::configuration(
                "there is no log in this database; correct OPENEXEC_DB_URL",
            ));
        }
        Ok(Box::new(Log { handlers: options.handlers, own, desk: RefCell::new(desk) }))
    }

    fn value<T: FromSqlOwned>(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<T, Failure> {
        self.desk.borrow_mut().link.value(sql, parameters).map_err(failed(doing))
    }

    /// The same of what may be asked twice: where the connection is lost, over another one, until the time is over. Of a
    /// failure it says that the request may be done, where it `is_left` already or an answer was lost.
    fn insist<T: FromSqlOwned>(
        &self,
        deadline: Instant,
        mut is_left: bool,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<T, Failure> {
        loop {
            let failure = match self.value("asking the active node", sql, parameters) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let is_lost = !self.desk.borrow().link.is_open();
            is_left |= is_lost;
            if !is_lost || Instant::now() > deadline {
                return Err(if is_left { also(failure, MAY_BE_DONE) } else { failure });
            }
            sleep(LOOK_AGAIN);
            if let Ok(desk) = connected(&self.own) {
                self.desk.replace(desk);
            }
        }
    }

    /// Leaves a request, and waits until the active node has taken it away.
    fn ask(&self, text: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        // Another operator's is waited for, never replaced. The same text is the same request.
        let left_at = loop {
            let sql = "SELECT openexec.request($1)";
            match self.insist::<Option<i64>>(deadline, false, sql, &[(&text, Type::TEXT)])? {
                Some(left_at) => break left_at,
                None if Instant::now() > deadline => {
                    return Err(self.nobody("another request waits").unwrap_or_else(|| {
                        let text =
                            "another request was there for 5 s; it ends within a minute: ask again";
                        Failure::new(exit::IN_USE, text)
                    }));
                }
                None => sleep(LOOK_AGAIN),
            }
        };
        let left = [(&left_at as &(dyn ToSql + Sync), Type::INT8)];
        let sql = "SELECT EXISTS (SELECT 1 FROM openexec.note WHERE name = 'REQUEST' \
                   AND (extract(epoch FROM left_at) * 1000000)::bigint = $1)";
        while self.insist(deadline, true, sql, &left).unwrap_or(true) {
            if Instant::now() > deadline {
                let (deadline, sql) = (Instant::now() + PATIENCE, "SELECT openexec.take_back($1)");
                let is_back: bool = self.insist(deadline, true, sql, &left)?;
                let nobody = is_back.then(|| self.nobody("the request was taken back")).flatten();
                return nobody.map_or(Ok(()), Err);
            }
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// That no node is active, if that is so, and what became of the request; and since when nothing was written.
    fn nobody(&self, what: &str) -> Option<Failure> {
        let seat = turn::look(&mut self.desk.borrow_mut().link, "").ok()?;
        let sql =
            "SELECT date_trunc('second', at)::text FROM openexec.batch ORDER BY size DESC LIMIT 1";
        let newest: String = self.value("looking for a node", sql, &[]).ok()?;
        let text = format!(
            "no node is active, and none became it within 5 s; {what}. The newest records are of {newest}. \
             Start a node, and ask again"
        );
        seat.is_free.then(|| Failure::new(exit::IN_USE, text))
    }
}

/// What failed, and what else to know.
fn also(failure: Failure, more: &str) -> Failure {
    Failure { text: format!("{}; {more}", failure.text).into(), ..failure }
}

fn failed(doing: &'static str) -> impl FnOnce(Fault) -> Failure {
    move |fault| match &fault {
        Fault::Refused { state, text } if state == NOT_PERMITTED => exit::configuration(format!(
            "{doing}: {text}; use the operator's role in OPENEXEC_DB_URL"
        )),
        _ => Failure::new(exit::INPUT_OUTPUT, format!("{doing}: {}", fault.text())),
    }
}

/// The newest batch that is committed.
fn newest(desk: &mut Desk) -> Result<Head, Fault> {
    let sql = "SELECT size, root FROM openexec.batch ORDER BY size DESC LIMIT 1";
    let rows = desk.link.ask(sql, &[])?;
    let row = rows.first().ok_or_else(|| Fault::Broken("there is no batch".to_owned()))?;
    let size: i64 = row.try_get(0).map_err(malformed)?;
    let root: Vec<u8> = row.try_get(1).map_err(malformed)?;
    let root = Hash::try_from(root).map_err(|_| Fault::Broken("no root".to_owned()))?;
    Ok(Head { size: size as u64, root })
}

impl Readable for Log {
    fn each(&self, observer: Observer) -> Result<(State, Tail), Failure> {
        let head = newest(&mut self.desk.borrow_mut()).map_err(failed("reading the log"))?;
        let (mut state, mut tree) = (State::default(), Tree::default());
        // Not held while a record is looked at: whoever does may ask for another.
        let read = |from, to| self.desk.borrow_mut().read(from, to);
        let mut take = |position, line: &str| {
            let record = Record::read(line).ok_or("it is of no known form")?;
            let change = state.keys.change(&record, line.len());
            let change = change.ok_or("its approvals cannot be read")?;
            state.apply(record.at(), &change, position)?;
            tree.push(leaf_hash(line.as_bytes()));
            let line = line.as_bytes();
            observer(&Seen { line, change: &change, execution: None, position, batch: 0, among: 1 })
        };
        load::each(0, head.size, read, &mut take).map_err(unopened)?;
        if tree.head() != head {
            return Err(exit::data("the records are not those of the newest batch's root"));
        }
        Ok((state, None))
    }

    fn line(&self, at: Position) -> io::Result<String> {
        let lines = self.desk.borrow_mut().read(at, at + 1);
        let mut lines = lines.map_err(|fault| io::Error::other(fault.text().to_owned()))?;
        lines.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Existing for Log {
    fn config(&self) -> Result<Config, Failure> {
        configured(self.handlers).map(|(_, config)| config)
    }

    fn write(&self, lines: &[String]) -> Result<(), Failure> {
        self.ask(&lines.join("\n"))
    }

    fn is_frozen(&self) -> Result<bool, Failure> {
        let sql = "SELECT EXISTS (SELECT 1 FROM openexec.note WHERE name = 'FROZEN')";
        self.value("looking for a stop", sql, &[])
    }

    fn freeze(&self, reason: &str) -> Result<&'static str, Failure> {
        let sql = "SELECT openexec.freeze($1)";
        let was_frozen: bool = self.value("freezing", sql, &[(&reason, Type::TEXT)])?;
        Ok(if was_frozen { "frozen before, with the reason given then" } else { "frozen" })
    }

    fn unfreeze(&self) -> Result<bool, Failure> {
        let unfrozen = self.value("unfreezing", "SELECT openexec.unfreeze()", &[]);
        let is_lost = !self.desk.borrow().link.is_open();
        unfrozen.map_err(|failure| if is_lost { also(failure, MAY_GO_ON) } else { failure })
    }
}
