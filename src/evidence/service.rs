//! The witness's thread: it alone writes the checkpoint file, signs, and makes proofs.
//!
//! Invariant: a checkpoint leaves the process only after it is in the file, and the file is replaced
//! only while it says what this process has written or read there. So whatever is restored or started
//! twice, what was signed once is what the next start is held to.
//!
//! Not the executor's thread: a proof may read many megabytes of records and the file may lie on slow
//! storage, and neither may keep an execution waiting. It needs nothing of the executor's but what is
//! committed, which never changes; the executor is asked only where a receipt is.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::file::CheckpointFile;
use super::guard::{Guard, Saved};
use super::path::{consistency, inclusion};
use super::proof;
use crate::core::base64;
use crate::core::json::canonical;
use crate::core::problem::{Code, Problem};
use crate::core::tree::Head;
use crate::evidence::log::Log;
use crate::store::state::Position;
use crate::sys::answer::{Answer, Reply};
use crate::sys::journal;
use crate::sys::limits::CHECKPOINT_EVERY_MS;
use crate::sys::metrics::Metrics;

/// What is asked of the witness; each needs a log key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// `GET /log/checkpoint`.
    Checkpoint,
    /// `GET /log/consistency`.
    Consistency { from: u64 },
    /// `GET /receipts/{exec_id}/proof`: where the receipt's record is.
    Proof(Position),
}

pub struct Witness {
    guard: Guard,
    /// The store's name.
    store: String,
    log: Arc<dyn Log>,
    file: CheckpointFile,
    /// What the file said at the start, or was replaced by.
    saved: Saved,
    /// It was replaced by this process. What it said at the start may not be on the disk yet: the
    /// process before may have ended between its rename and the sync of the directory.
    is_synced: bool,
    /// What it may say instead, after a replacement that failed.
    may_say: Vec<String>,
    failing: bool,
    metrics: Arc<Metrics>,
}

impl Witness {
    /// `saved` is what the file says and the log was found to extend.
    pub fn new(
        guard: Guard,
        store: String,
        log: Arc<dyn Log>,
        file: CheckpointFile,
        saved: Saved,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (is_synced, may_say, failing) = (false, Vec::new(), false);
        Witness { guard, store, log, file, saved, is_synced, may_say, failing, metrics }
    }

    /// Answers tasks, and looks at the log in between, until the queue is closed. `working` is told
    /// when it begins and when it waits again.
    pub fn serve(&mut self, tasks: &Receiver<(Reply, Task)>, working: &dyn Fn(bool)) {
        let period = Duration::from_millis(CHECKPOINT_EVERY_MS);
        let mut due = Instant::now();
        loop {
            let task = tasks.recv_timeout(due.saturating_duration_since(Instant::now()));
            working(true);
            match task {
                Ok((reply, task)) => reply(self.answer(task)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= due {
                // Logged and counted; the next look tries again.
                let _ = self.save();
                due = Instant::now() + period;
            }
            working(false);
        }
    }

    /// Brings the file up to what is committed.
    ///
    /// # Errors
    /// It could not be written, or is not what this process left there. Then nothing newer is signed.
    pub fn save(&mut self) -> io::Result<()> {
        let saved = self.save_head(self.log.head());
        match &saved {
            Err(error) if !self.failing => journal::error(
                "the checkpoint file cannot be written; executions go on, and nothing is signed \
                 until it can",
                &[
                    ("path", self.guard.path.display().to_string().into()),
                    ("error", error.to_string().into()),
                ],
            ),
            Ok(()) if self.failing => journal::info("the checkpoint file is written again", &[]),
            _ => {}
        }
        self.failing = saved.is_err();
        self.metrics.checkpoint_failing.set(u64::from(self.failing));
        self.metrics.checkpoint_records.set(self.saved.head.size);
        saved
    }

    fn save_head(&mut self, head: Head) -> io::Result<()> {
        if !self.failing && self.is_synced && head == self.saved.head {
            return Ok(());
        }
        let next = Saved { text: self.guard.text(&self.store, head), head };
        self.file.replace(|found| {
            let found = found.ok_or_else(|| {
                let text = "it is gone; was its volume unmounted? Put it back, or restart";
                io::Error::new(io::ErrorKind::NotFound, text)
            })?;
            if found != self.saved.text && !self.may_say.contains(&found) {
                let text = "somebody else has changed it; does another service use it?";
                return Err(io::Error::other(text));
            }
            // Also where it says that already: the sync of an attempt that failed is still owed.
            self.may_say = vec![found, next.text.clone()];
            Ok(next.text.clone())
        })?;
        self.may_say.clear();
        self.is_synced = true;
        self.saved = next;
        Ok(())
    }

    pub fn answer(&mut self, task: Task) -> Answer {
        let made = match task {
            Task::Checkpoint => self.saved_now().map(|saved| Answer::text(saved.text.clone())),
            Task::Consistency { from } => self.consistency(from),
            Task::Proof(position) => self.proof(position),
        };
        made.unwrap_or_else(Answer::from)
    }

    fn saved_now(&mut self) -> Result<&Saved, Problem> {
        let unwritable = "The checkpoint file cannot be written, and nothing is signed that is not in it; \
                          the log says why";
        self.save().map_err(|_| Problem::new(Code::CheckpointUnwritable, unwritable))?;
        Ok(&self.saved)
    }

    fn proof(&mut self, position: Position) -> Result<Answer, Problem> {
        let (index, line) = self.log.find(position)?;
        if index >= self.saved.head.size || !self.is_synced {
            self.saved_now()?;
        }
        let size = self.saved.head.size;
        let path = inclusion(self.log.as_ref(), index, size)?;
        Ok(Answer::text(proof::text(&line, index, &path, &self.saved.text)))
    }

    fn consistency(&mut self, from: u64) -> Result<Answer, Problem> {
        let size = self.saved_now()?.head.size;
        if from > size {
            let detail = format!("from must be 0 to {size}, the newest checkpoint's size");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        let hashes = consistency(self.log.as_ref(), from, size)?;
        let hashes: Vec<String> = hashes.iter().map(|hash| base64::encode(hash)).collect();
        Ok(Answer::json(canonical::to_string(&serde_json::json!({
            "from": from,
            "size": size,
            "hashes": hashes,
            "checkpoint": self.saved.text,
        }))))
    }
}
