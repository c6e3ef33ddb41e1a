//! What workers report: `<queue>/outcome/<exec_id>.json`, by whoever may write in the outbox.
//!
//! ```text
//! {"outcome":"executed","result":{"charge":"ch_1"}}
//! ```
//!
//! A thread of its own lists the directories in bounded steps and hands what it finds to the executor, which
//! decides. A file is removed once its completion is on the disk; what can never be one is moved to
//! `outcome/ignored/`; everything else waits where it is. Invariant: nothing is followed, waited for or read
//! beyond its bound ([`crate::sys::regular`]), and only names in `outcome/` are changed. To a name that begins
//! with a dot, or does not end in `.json`, nothing is done: somebody is writing it.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::core::answer::Answer;
use crate::core::hash::{Hash, unhex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::{JSON_DEPTH_MAX, RECORD_DEPTH_MAX};
use crate::core::problem::Code;
use crate::core::receipt::Outcome;
use crate::core::record::{Claim, Completion, Record, Witness};
use crate::handlers::is_queue_name;
use crate::serve::queue::{Job, Request};
use crate::serve::records::records_of;
use crate::serve::status::Status;
use crate::sys::dir::{Dir, identity};
use crate::sys::limits::{
    OUTCOME_BYTES_MAX, OUTCOMES_AT_ONCE, OUTCOMES_EVERY_MS, OUTCOMES_IGNORED_MAX,
};
use crate::sys::metrics::Metrics;
use crate::sys::regular::Opened;
use crate::sys::{clock, journal};

/// After so many names the thread rests: so a million of them take a part of a core.
const NAMES_PER_STEP: usize = 1024;
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Lines of the journal about ignored files, a minute.
const LINES_MAX: usize = 10;

pub struct Outcomes {
    pub outbox: PathBuf,
    pub queue: SyncSender<Request>,
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub began: Instant,
    /// The minute since then in which the last lines were written, and how many.
    pub told: Cell<(u64, usize)>,
}

/// A file that says what became of a job.
struct Report {
    name: String,
    id: Hash,
    outcome: Outcome,
    /// Canonical.
    result: String,
    seen: Seen,
}

/// By which a file is known again: what takes its name, or is written into it, was not read.
type Seen = ((u64, u64), u64, Option<std::time::SystemTime>);

/// What is done with a file.
enum Verdict {
    Record,
    /// It is recorded already.
    Remove,
    Ignore(&'static str),
    Wait,
}

impl Outcomes {
    /// Looks for as long as the process lives.
    pub fn watch(&self) {
        loop {
            std::thread::sleep(Duration::from_millis(OUTCOMES_EVERY_MS));
            if self.status.lock().open {
                // Whoever tries to leave a job is told what is wrong with the outbox.
                let _ = self.look();
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        let (root, mut names) = (Dir::root(&self.outbox)?, 0);
        for name in root.each_name()? {
            rest(&mut names);
            let name = name?;
            if !is_queue_name(&name) {
                continue;
            }
            // What is no directory, or may not be entered, is no queue of ours.
            let _ = root.child(&name).and_then(|queue| self.look_into(&name, &queue, &mut names));
        }
        Ok(())
    }

    fn look_into(&self, queue: &str, dir: &Dir, names: &mut usize) -> io::Result<()> {
        let outcomes = match dir.look("done")? {
            Some(_) => dir.child_or_make("outcome")?,
            None => return Ok(()),
        };
        let (mut reports, mut ignored) = (Vec::new(), 0);
        for name in outcomes.each_name()? {
            rest(names);
            let name = name?;
            if name.starts_with('.') || !name.ends_with(".json") {
                continue;
            }
            match read(&outcomes, name) {
                Ok(Some(report)) => reports.push(report),
                Ok(None) => {}
                Err((name, why)) => self.ignore(queue, &outcomes, &name, why, &mut ignored),
            }
            if reports.len() == OUTCOMES_AT_ONCE {
                self.report(queue, &outcomes, std::mem::take(&mut reports), &mut ignored);
            }
        }
        self.report(queue, &outcomes, reports, &mut ignored);
        if ignored > 0 { thin_out(&outcomes.child("ignored")?) } else { Ok(()) }
    }

    /// Two questions to the executor: what it knows of each id, and to record what is new.
    fn report(&self, queue: &str, dir: &Dir, reports: Vec<Report>, ignored: &mut usize) {
        let jobs = reports.iter().map(|report| {
            let asked = (queue.to_owned(), report.outcome, report.result.clone());
            let judged = move |found: Answer| judge(&found, &asked.0, asked.1, &asked.2);
            let id = report.id;
            (Job::Ask(Box::new(move |e| records_of(e, &id, &None))), judged)
        });
        let verdicts = self.ask(jobs);
        let mut new = Vec::new();
        for (report, verdict) in reports.into_iter().zip(verdicts) {
            match verdict {
                Some(Verdict::Record) => new.push(report),
                Some(Verdict::Remove) => remove(dir, &report),
                Some(Verdict::Ignore(why)) => self.ignore(queue, dir, &report.name, why, ignored),
                Some(Verdict::Wait) | None => {}
            }
        }
        let said = |report: &Report| {
            let Report { id, outcome, result, .. } = report;
            Completion::of(clock::now(), *id, Witness::Worker, *outcome, result).line()
        };
        let jobs = new.iter().map(|report| {
            (Job::Record(said(report)), |answer: Answer| {
                answer.code.is_none().then_some(answer.body)
            })
        });
        for (report, recorded) in new.iter().zip(self.ask(jobs)) {
            let Some(Some(line)) = recorded else { continue };
            if let Some(Record::Completion(said)) = Record::read(&line) {
                self.metrics.completions.add(said.outcome.name(), 1);
            }
            remove(dir, report);
        }
    }

    /// Asks the executor and makes of each answer, where it is carried, what is kept of it: an answer may be
    /// as large as a payload. `None` where the executor has ended.
    fn ask<T: Send + 'static, F: FnOnce(Answer) -> T + Send + 'static>(
        &self,
        jobs: impl Iterator<Item = (Job, F)>,
    ) -> Vec<Option<T>> {
        let (sender, receiver) = channel();
        let mut kept = Vec::new();
        for (number, (job, keep)) in jobs.enumerate() {
            kept.push(None);
            let sender = sender.clone();
            let reply = Box::new(move |answer| {
                let _ = sender.send((number, keep(answer)));
            });
            let _ = self.queue.send((reply, job));
        }
        drop(sender);
        for (number, answer) in receiver {
            kept[number] = Some(answer);
        }
        kept
    }

    fn ignore(&self, queue: &str, dir: &Dir, name: &str, why: &'static str, count: &mut usize) {
        let moved = dir.child_or_make("ignored").and_then(|ignored| dir.move_to(name, &ignored));
        if moved.is_err() {
            return;
        }
        *count += 1;
        self.metrics.outcomes_ignored.add(1);
        let minute = self.began.elapsed().as_secs() / 60;
        let lines = if self.told.get().0 == minute { self.told.get().1 + 1 } else { 1 };
        self.told.set((minute, lines));
        if lines <= LINES_MAX {
            let fields = [("queue", queue.into()), ("file", name.into()), ("reason", why.into())];
            journal::error("an outcome was ignored", &fields);
        }
        if count.is_multiple_of(OUTCOMES_IGNORED_MAX / 4) {
            let _ = dir.child("ignored").and_then(|ignored| thin_out(&ignored));
        }
    }
}

fn rest(names: &mut usize) {
    *names += 1;
    if names.is_multiple_of(NAMES_PER_STEP) {
        std::thread::sleep(STEP_PAUSE);
    }
}

/// What a file says; `None` where it is gone or cannot be read now; else its name and why it is no report.
fn read(dir: &Dir, name: String) -> Result<Option<Report>, (String, &'static str)> {
    let Some(id) = name.strip_suffix(".json").and_then(unhex) else {
        return Err((name, "its name is not EXEC_ID.json"));
    };
    let file = match dir.read(&name) {
        Ok(Opened::File(file)) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err((name, "the service may not read it"));
        }
        // A directory stays where it is: nobody knows what is in it.
        Ok(Opened::Other)
            if dir.look(&name).is_ok_and(|found| found.is_some_and(|it| !it.is_dir())) =>
        {
            return Err((name, "it is no regular file"));
        }
        Ok(_) | Err(_) => return Ok(None),
    };
    let Ok(metadata) = file.metadata() else { return Ok(None) };
    let seen = seen(&metadata);
    let bytes = match Opened::File(file).read(OUTCOME_BYTES_MAX + 1) {
        Ok(Some(bytes)) if bytes.len() as u64 <= OUTCOME_BYTES_MAX => bytes,
        Ok(_) => return Err((name, "it is larger than 256 KiB")),
        Err(_) => return Ok(None),
    };
    match said(&bytes) {
        Some((outcome, result)) => Ok(Some(Report { name, id, outcome, result, seen })),
        None => Err((name, "it is not {\"outcome\":..,\"result\":{..}}")),
    }
}

fn said(bytes: &[u8]) -> Option<(Outcome, String)> {
    let value = strict::read(bytes, JSON_DEPTH_MAX).ok()?;
    let outcome = value.get("outcome")?.as_str()?;
    let outcome = Outcome::ALL.into_iter().find(|known| known.name() == outcome)?;
    let result = value.get("result").filter(|result| result.is_object())?;
    let result = canonical::to_string(result);
    let is_whole = value.as_object()?.len() == 2 && result.len() as u64 <= OUTCOME_BYTES_MAX;
    is_whole.then_some((outcome, result))
}

/// By what the executor has of the execution.
fn judge(found: &Answer, queue: &str, outcome: Outcome, result: &str) -> Verdict {
    match found.code {
        Some(Code::NotFound) => return Verdict::Ignore("no execution has this id"),
        Some(_) => return Verdict::Wait,
        None => {}
    }
    let (mut is_claimed, mut ended, mut known) = (false, None, None);
    for line in found.body.lines() {
        match Record::read(line) {
            Some(Record::Claim(claim)) if !is_of(&claim, queue) => {
                return Verdict::Ignore("the execution left its job in another queue");
            }
            Some(Record::Claim(_)) => is_claimed = true,
            Some(Record::Receipt(receipt)) => ended = Some(receipt.outcome),
            Some(Record::Completion(said)) => {
                known = Some((said.by, said.outcome, said.result.0.to_owned()));
            }
            _ => {}
        }
    }
    match (ended, known) {
        _ if !is_claimed => Verdict::Ignore("it is proposed, and no execution"),
        (None, _) => Verdict::Wait,
        (Some(Outcome::Failed), _) => Verdict::Ignore("the execution failed, and left no job"),
        (_, None) => Verdict::Record,
        (_, Some(known)) if known == (Witness::Worker, outcome, result.to_owned()) => {
            Verdict::Remove
        }
        (_, Some((_, Outcome::Indeterminate, _))) if outcome != Outcome::Indeterminate => {
            Verdict::Record
        }
        (_, Some(_)) => Verdict::Ignore("another completion stands"),
    }
}

/// Whether that is the queue which the claim named: the payload's for `enqueue`, else the action's own.
fn is_of(claim: &Claim, queue: &str) -> bool {
    if claim.action != "enqueue" {
        return claim.action == queue;
    }
    let payload = strict::read(claim.payload.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    payload.get("queue").and_then(Value::as_str) == Some(queue)
}

fn seen(metadata: &fs::Metadata) -> Seen {
    (identity(metadata), metadata.len(), metadata.modified().ok())
}

/// Removes what was read, and not what has taken its name since.
fn remove(dir: &Dir, report: &Report) {
    if dir.look(&report.name).is_ok_and(|now| now.is_some_and(|now| seen(&now) == report.seen)) {
        let _ = dir.remove(&report.name);
    }
}

/// Keeps the newest. What others put there beyond what is looked at in one go has its turn later.
fn thin_out(ignored: &Dir) -> io::Result<()> {
    let mut found = Vec::new();
    for name in ignored.each_name()?.take(4 * OUTCOMES_IGNORED_MAX) {
        let name = name?;
        if let Some(metadata) = ignored.look(&name)? {
            found.push((changed(&metadata), name));
        }
    }
    found.sort_unstable();
    let surplus = found.len().saturating_sub(OUTCOMES_IGNORED_MAX);
    for (_, name) in found.drain(..surplus) {
        let _ = ignored.remove(&name);
    }
    Ok(())
}

/// When a file was moved last.
fn changed(metadata: &fs::Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}
