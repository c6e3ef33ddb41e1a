//! The outbox is a table: a job leaves in the transaction of its claim and its receipt, and workers take it from there.
//!
//! Invariant: what a receipt says is queued is a row of `openexec.job` until the log says for good what became of it, and
//! there is none without its receipt. So a handler that leaves a job changes nothing by itself: it is `pure` here, and
//! its claim and receipt are one batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::sleep;
use std::time::Duration;

use openexec::core::hash::{hex, unhex};
use openexec::core::json::{Value, canonical, strict};
use openexec::core::receipt::Outcome;
use openexec::core::record::{Claim, Receipt, Record};
use openexec::handlers::{
    self, Call, Effect, HANDLERS, Handler, Run, always, leaves_job, needs_nothing, nowhere,
    queue_of,
};
use openexec::serve::outcomes::{Judge, NO_REPORT, Report, Verdict};
use openexec::sys::exit::Failure;
use openexec::sys::limits::{OUTCOMES_AT_ONCE, OUTCOMES_EVERY_MS};
use openexec::sys::locked;
use tokio_postgres::types::Type;

use crate::desk::Desk;
use crate::link::{Fault, malformed};

/// The handlers as they are over a database. Of those of `own`, the binary's array, the built-in ones alone leave jobs;
/// behind them stand the declared ones, which all do.
pub fn of_database(own: &[Handler], all: &'static [Handler]) -> &'static [Handler] {
    let over = |(at, handler): (usize, &Handler)| {
        let is_ours = at >= own.len() || handlers::find(HANDLERS, handler.action).is_some();
        if is_ours && leaves_job(handler) { recorded(*handler) } else { *handler }
    };
    all.iter().enumerate().map(over).collect::<Vec<_>>().leak()
}

/// The same action, of which the job leaves with the records.
fn recorded(handler: Handler) -> Handler {
    let (action, check) = (handler.action, handler.check);
    let run: Box<Run> = Box::new(move |call, settings| {
        check(call.payload, settings).map_err(|error| call.failure(error.0))?;
        let queue =
            queue_of(action, call.payload).ok_or_else(|| call.failure("it has no queue"))?;
        Ok(handlers::queued(call, queue).1)
    });
    let run = Box::leak(run);
    Handler {
        effect: Effect::Pure,
        offered: always,
        ready: needs_nothing,
        place: nowhere,
        run,
        ..handler
    }
}

/// Those whose jobs are in the table.
pub fn actions(handlers: &'static [Handler]) -> Vec<&'static str> {
    let of_table = |handler: &&Handler| leaves_job(handler) && handler.effect == Effect::Pure;
    handlers.iter().filter(of_table).map(|handler| handler.action).collect()
}

/// A row of `openexec.job`, and in which lines of the batch its claim and its receipt are.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub queue: String,
    /// Canonical JSON.
    pub text: String,
    pub claim: i32,
    pub receipt: i32,
}

/// The jobs that a batch leaves by these actions.
///
/// # Errors
/// A receipt says that another job was left: a bug.
pub fn jobs(lines: &[&str], actions: &[&str]) -> Result<Vec<Job>, String> {
    let (mut claims, mut jobs) = (HashMap::new(), Vec::new());
    for (number, line) in (0..).zip(lines) {
        match Record::read(line) {
            Some(Record::Claim(claim))
                if claim.effect == Effect::Pure && actions.contains(&claim.action) =>
            {
                claims.insert(claim.id, (number, claim));
            }
            Some(Record::Receipt(receipt)) if receipt.outcome == Outcome::Executed => {
                let Some((at, claim)) = claims.remove(&receipt.id) else { continue };
                let id = hex(&claim.id);
                let (queue, text) = job(&id, &claim, &receipt)
                    .ok_or_else(|| format!("the receipt of {id} names another job"))?;
                jobs.push(Job { id, queue, text, claim: at, receipt: number });
            }
            _ => {}
        }
    }
    Ok(jobs)
}

/// The queue and the text of what that execution left.
fn job(id: &str, claim: &Claim, receipt: &Receipt) -> Option<(String, String)> {
    let Value::Object(payload) = strict::read_own(claim.payload.as_bytes()).ok()? else {
        return None;
    };
    let approval_ids = claim.approval_ids()?;
    let call = Call {
        id,
        action: claim.action,
        nonce: &claim.nonce,
        payload: &payload,
        approval_ids: &approval_ids,
        place: None,
        again: false,
    };
    let queue = queue_of(claim.action, &payload)?;
    let (text, result) = handlers::queued(&call, queue);
    let is_it = canonical::to_string(&Value::Object(result)) == *receipt.result;
    is_it.then_some((queue.to_owned(), String::from_utf8(text).ok()?))
}

/// The connection of the node, once it is the active one.
pub type Opened = Arc<OnceLock<Arc<Mutex<Desk>>>>;

/// Looks for what workers report for as long as the process lives.
pub fn watch(opened: &Opened, judge: &Judge) -> Result<(), Failure> {
    loop {
        sleep(Duration::from_millis(OUTCOMES_EVERY_MS));
        let is_open = judge.status.lock().open;
        if let Some(desk) = opened.get().filter(|_| is_open) {
            // Whoever asks the service is told what is wrong with the database.
            let _ = look(desk, judge);
        }
    }
}

/// A row of `openexec.report`.
struct Row {
    id: String,
    queue: String,
    at: i64,
    /// As a file of an outbox says it; or why it is none.
    report: Result<Report, &'static str>,
}

/// One pass over all that waits, the oldest first.
fn look(desk: &Mutex<Desk>, judge: &Judge) -> Result<(), Fault> {
    let mut after = (i64::MIN, String::new());
    loop {
        let rows = read(&mut locked(desk), &after)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.at, last.id.clone());
        let is_last = rows.len() < OUTCOMES_AT_ONCE;
        // Nothing is held while the executor is asked.
        let done = judged(rows, judge);
        locked(desk).reported(&done)?;
        if is_last {
            return Ok(());
        }
    }
}

fn read(desk: &mut Desk, after: &(i64, String)) -> Result<Vec<Row>, Fault> {
    // An outcome is one of three words; whatever the result is, it is judged as a part of the whole.
    let sql = "SELECT r.id, r.queue, (extract(epoch FROM r.at) * 1000000)::bigint,
            format('{\"outcome\":\"%s\",\"result\":%s}', r.outcome, r.result)
        FROM openexec.report r WHERE r.ignored IS NULL
            AND ((extract(epoch FROM r.at) * 1000000)::bigint, r.id) > ($1, $2) ORDER BY 3, 1 LIMIT $3";
    let most = OUTCOMES_AT_ONCE as i64;
    let rows = desk
        .link
        .ask(sql, &[(&after.0, Type::INT8), (&after.1, Type::TEXT), (&most, Type::INT8)])?;
    let row = |row: &tokio_postgres::Row| {
        let (id, text): (String, String) = (row.try_get(0)?, row.try_get(3)?);
        let report = unhex(&id).ok_or(NO_REPORT);
        let report = report.and_then(|id| Report::read(id, text.as_bytes()));
        Ok(Row { id, queue: row.try_get(1)?, at: row.try_get(2)?, report })
    };
    let rows: Result<Vec<Row>, tokio_postgres::Error> = rows.iter().map(row).collect();
    rows.map_err(malformed)
}

/// What may be taken away of these, and why what never can be recorded.
pub type Done = Vec<(String, i64, Option<&'static str>)>;

fn judged(mut rows: Vec<Row>, judge: &Judge) -> Done {
    let mut done = Done::new();
    rows.sort_by(|a, b| a.queue.cmp(&b.queue));
    for rows in rows.chunk_by(|a, b| a.queue == b.queue) {
        let (said, malformed): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.report.is_ok());
        let reports: Vec<_> = said.iter().filter_map(|row| row.report.clone().ok()).collect();
        let verdicts = judge.judge(&rows[0].queue, &reports);
        let ignored = |row: &&Row| row.report.as_ref().err().map(|why| Verdict::Ignore(why));
        let malformed = malformed.into_iter().filter_map(|row| Some((row, ignored(&row)?)));
        for (row, verdict) in said.into_iter().zip(verdicts).chain(malformed) {
            let why = match verdict {
                Verdict::Remove => None,
                Verdict::Ignore(why) => {
                    judge.ignored(&row.queue, &row.id, why);
                    Some(why)
                }
                Verdict::Record | Verdict::Wait => continue,
            };
            done.push((row.id.clone(), row.at, why));
        }
    }
    done
}
