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
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::core::hash::{Hash, unhex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::problem::Code;
use crate::core::receipt::Outcome;
use crate::core::record::{Claim, Completion, Record, Witness};
use crate::handlers::{is_queue_name, queue_of};
use crate::serve::queue::{Job, Request};
use crate::serve::records::records_of;
use crate::serve::status::Status;
use crate::sys::answer::Answer;
use crate::sys::dir::{Dir, identity};
use crate::sys::exit::Failure;
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

/// Why what was left is no report.
pub const NO_REPORT: &str = "it is not {\"outcome\":..,\"result\":{..}}";
const NOT_STRICT: &str = "it is no strict JSON of up to 131,072 values";
const TOO_LARGE: &str = "it is larger than 256 KiB";

/// Who asks the executor about reports, wherever they are.
pub struct Judge {
    pub queue: SyncSender<Request>,
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    /// When a minute of lines in the journal began, and how many there are of it.
    pub told: Cell<(Instant, usize)>,
}

/// What a worker says became of a job.
#[derive(Clone)]
pub struct Report {
    pub id: Hash,
    outcome: Outcome,
    /// Canonical.
    result: String,
}

/// Those of an outbox in files.
pub struct Outcomes {
    pub outbox: PathBuf,
    pub judge: Judge,
}

/// A file, and what was read from it.
type Found = (Named, Report);

/// Its name, and what had that name before it was read.
type Named = (String, Seen);

/// By which a file is known again: what takes its name, or is written into it, was not read.
type Seen = ((u64, u64), u64, Option<std::time::SystemTime>);

/// What is done with a report.
pub enum Verdict {
    Record,
    /// It is recorded.
    Remove,
    Ignore(&'static str),
    Wait,
}

impl Report {
    /// Reads `{"outcome":..,"result":{..}}`; else why it is no report, in words that hold none of it.
    pub fn read(id: Hash, bytes: &[u8]) -> Result<Self, &'static str> {
        let value = strict::read(bytes, JSON_DEPTH_MAX).map_err(|_| NOT_STRICT)?;
        let report = Self::of(id, &value).ok_or(NO_REPORT)?;
        let is_small = report.result.len() as u64 <= OUTCOME_BYTES_MAX;
        if is_small { Ok(report) } else { Err(TOO_LARGE) }
    }

    fn of(id: Hash, value: &Value) -> Option<Self> {
        let outcome = value.get("outcome")?.as_str()?;
        let outcome = Outcome::ALL.into_iter().find(|known| known.name() == outcome)?;
        let result = value.get("result").filter(|result| result.is_object())?;
        let is_whole = value.as_object()?.len() == 2;
        is_whole.then(|| Report { id, outcome, result: canonical::to_string(result) })
    }
}

impl Judge {
    /// Asks twice: what is known of each id, and to record what is new. Nothing that is returned is still to be recorded.
    pub fn judge(&self, queue: &str, reports: &[Report]) -> Vec<Verdict> {
        let mut verdicts = self.ask(reports.iter().map(|report| {
            let (queue, report, id) = (queue.to_owned(), report.clone(), report.id);
            let judged = move |found: Answer| judge(&found, &queue, &report);
            (Job::Ask(Box::new(move |e| records_of(e, &id, &None).into())), judged)
        }));
        let is_new = |(verdict, _): &(&mut Verdict, _)| matches!(verdict, Verdict::Record);
        let new: Vec<_> = verdicts.iter_mut().zip(reports).filter(is_new).collect();
        let recorded = self.ask(new.iter().map(|(_, Report { id, outcome, result })| {
            let said = Completion::of(clock::now(), *id, Witness::Worker, *outcome, result);
            let done = |answer: Answer| answer.code.map_or(Verdict::Remove, |_| Verdict::Wait);
            (Job::Record(said.line()), done)
        }));
        for ((verdict, report), recorded) in new.into_iter().zip(recorded) {
            if matches!(recorded, Verdict::Remove) {
                self.metrics.completions.add(report.outcome.name(), 1);
            }
            *verdict = recorded;
        }
        verdicts
    }

    /// Counts one that was ignored, and says so.
    pub fn ignored(&self, queue: &str, file: &str, why: &'static str) {
        self.metrics.outcomes_ignored.add(1);
        let (began, lines) = self.told.get();
        let is_over = began.elapsed() >= Duration::from_secs(60);
        let (began, lines) = if is_over { (Instant::now(), 1) } else { (began, lines + 1) };
        self.told.set((began, lines));
        if lines <= LINES_MAX {
            let fields = [("queue", queue.into()), ("file", file.into()), ("reason", why.into())];
            journal::error("an outcome was ignored", &fields);
        }
    }

    /// Asks the executor and makes of each answer, where it is carried, what is kept of it: an answer may be
    /// as large as a payload. Where the executor has ended, that is to wait.
    fn ask<F: FnOnce(Answer) -> Verdict + Send + 'static>(
        &self,
        jobs: impl Iterator<Item = (Job, F)>,
    ) -> Vec<Verdict> {
        let (sender, receiver) = channel();
        let mut kept = Vec::new();
        for (number, (job, keep)) in jobs.enumerate() {
            kept.push(Verdict::Wait);
            let sender = sender.clone();
            let reply = Box::new(move |answer| {
                let _ = sender.send((number, keep(answer)));
            });
            let _ = self.queue.send((reply, job));
        }
        drop(sender);
        receiver.iter().for_each(|(number, verdict)| kept[number] = verdict);
        kept
    }
}

impl Outcomes {
    /// Looks for as long as the process lives.
    pub fn watch(&self) -> Result<(), Failure> {
        loop {
            std::thread::sleep(Duration::from_millis(OUTCOMES_EVERY_MS));
            if self.judge.status.lock().open {
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
            if is_queue_name(&name) {
                // What is no directory, or may not be entered, is no queue of ours.
                let queue = root.child(&name);
                let _ = queue.and_then(|queue| self.look_into(&name, &queue, &mut names));
            }
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
                Err((named, why)) => self.ignore(queue, &outcomes, &named, why, &mut ignored),
            }
            if reports.len() == OUTCOMES_AT_ONCE {
                self.report(queue, &outcomes, std::mem::take(&mut reports), &mut ignored);
            }
        }
        self.report(queue, &outcomes, reports, &mut ignored);
        if ignored > 0 { thin_out(&outcomes.child("ignored")?) } else { Ok(()) }
    }

    fn report(&self, queue: &str, dir: &Dir, found: Vec<Found>, ignored: &mut usize) {
        let reports: Vec<_> = found.iter().map(|(.., report)| report.clone()).collect();
        for ((named, _), verdict) in found.iter().zip(self.judge.judge(queue, &reports)) {
            match verdict {
                Verdict::Remove if is_still(dir, named) => drop(dir.remove(&named.0)),
                Verdict::Ignore(why) => self.ignore(queue, dir, named, why, ignored),
                _ => {}
            }
        }
    }

    fn ignore(&self, queue: &str, dir: &Dir, named: &Named, why: &'static str, count: &mut usize) {
        let ignored = dir.child_or_make("ignored");
        let moved = |ignored| is_still(dir, named) && dir.move_to(&named.0, &ignored).is_ok();
        if !ignored.is_ok_and(moved) {
            return;
        }
        *count += 1;
        self.judge.ignored(queue, &named.0, why);
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

/// What a file says; `None` where it is gone or cannot be read now; else which it was and why it is no report.
fn read(dir: &Dir, name: String) -> Result<Option<Found>, (Named, &'static str)> {
    let Ok(Some(found)) = dir.look(&name) else { return Ok(None) };
    let id = name.strip_suffix(".json").and_then(unhex);
    let named = (name, seen(&found));
    let Some(id) = id else {
        return Err((named, "its name is not EXEC_ID.json"));
    };
    let file = match dir.read(&named.0) {
        Ok(Opened::File(file)) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err((named, "the service may not read it"));
        }
        // A directory stays where it is: nobody knows what is in it.
        Ok(Opened::Other) if !found.is_dir() => return Err((named, "it is no regular file")),
        Ok(_) | Err(_) => return Ok(None),
    };
    let bytes = match Opened::File(file).read(OUTCOME_BYTES_MAX + 1) {
        Ok(Some(bytes)) if bytes.len() as u64 <= OUTCOME_BYTES_MAX => bytes,
        Ok(_) => return Err((named, TOO_LARGE)),
        Err(_) => return Ok(None),
    };
    match Report::read(id, &bytes) {
        Ok(report) => Ok(Some((named, report))),
        Err(why) => Err((named, why)),
    }
}

/// By what the executor has of the execution.
fn judge(found: &Answer, queue: &str, Report { outcome, result, .. }: &Report) -> Verdict {
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
        (_, Some((Witness::Worker, said, text))) if (said, &text) == (*outcome, result) => {
            Verdict::Remove
        }
        (_, Some((_, Outcome::Indeterminate, _))) if *outcome != Outcome::Indeterminate => {
            Verdict::Record
        }
        (_, Some(_)) => Verdict::Ignore("another completion stands"),
    }
}

fn is_of(claim: &Claim, queue: &str) -> bool {
    let payload = strict::read_own(claim.payload.as_bytes()).unwrap_or_default();
    payload.as_object().and_then(|payload| queue_of(claim.action, payload)) == Some(queue)
}

fn seen(metadata: &fs::Metadata) -> Seen {
    (identity(metadata), metadata.len(), metadata.modified().ok())
}

/// Whether the name is that of what was read, and not of what has taken it since.
fn is_still(dir: &Dir, (name, read): &Named) -> bool {
    dir.look(name).is_ok_and(|now| now.is_some_and(|now| seen(&now) == *read))
}

/// Keeps the newest. What others put there beyond what is looked at in one go has its turn later.
fn thin_out(ignored: &Dir) -> io::Result<()> {
    let mut found = Vec::new();
    for name in ignored.each_name()?.take(4 * OUTCOMES_IGNORED_MAX) {
        let name = name?;
        if let Some(metadata) = ignored.look(&name)? {
            // By when it was moved.
            found.push(((metadata.ctime(), metadata.ctime_nsec()), name));
        }
    }
    found.sort_unstable();
    let surplus = found.len().saturating_sub(OUTCOMES_IGNORED_MAX);
    found.into_iter().take(surplus).for_each(|(_, name)| drop(ignored.remove(&name)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A good report may be put in the place of a bad one while that is judged.
    #[test]
    fn what_has_taken_the_name_of_an_ignored_report_is_not_moved() {
        let path = std::env::temp_dir().join(format!("openexec-outcomes-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let (queue, _requests) = std::sync::mpsc::sync_channel(1);
        let (status, metrics) = (Arc::default(), Arc::<Metrics>::default());
        let told = Cell::new((Instant::now(), 0));
        let judge = Judge { queue, status, metrics: Arc::clone(&metrics), told };
        let outcomes = Outcomes { outbox: path.clone(), judge };
        let (dir, name) = (Dir::root(&path).unwrap(), format!("{}.json", "ab".repeat(32)));
        let (file, mut count) = (path.join(&name), 0);
        fs::write(&file, "bad").unwrap();
        let (named, why) = read(&dir, name.clone()).err().unwrap();
        let good = r#"{"outcome":"executed","result":{}}"#;
        fs::write(path.join("new"), good).unwrap();
        fs::rename(path.join("new"), &file).unwrap();
        outcomes.ignore("q", &dir, &named, why, &mut count);
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), count), (good, 0));
        let ((name, seen), _) = read(&dir, name).unwrap().unwrap();
        outcomes.ignore("q", &dir, &(name, seen), why, &mut count);
        assert_eq!((file.exists(), count, metrics.outcomes_ignored.get()), (false, 1, 1));
        fs::remove_dir_all(path).unwrap();
    }
}
