//! The routes of the witness: `/log/checkpoint`, `/log/consistency`, `/receipts/{exec_id}/proof`.

use std::sync::mpsc::SyncSender;

use super::{Front, Next, enqueue, exec_id};
use crate::core::caller::Who;
use crate::core::problem::{Code, Problem};
use crate::evidence::checkpoint::decimal;
use crate::evidence::service::Task;
use crate::executor::answer;
use crate::serve::route::Route;
use crate::sys::answer::Reply;

impl Front {
    /// All three need a checkpoint that somebody can verify, so none is there without a log key.
    pub(super) fn evidence(&self, route: Route, target: &str, who: Who) -> Result<Next, Problem> {
        if self.witness.is_none() {
            let detail = "This log has no key: set OPENEXEC_LOG_KEY_FILE";
            return Err(Problem::new(Code::NoLogKey, detail));
        }
        let next = match route {
            Route::Consistency => Next::AskWitness(Task::Consistency { from: from(target)? }),
            Route::Proof => Next::Prove(exec_id(target)?, who),
            _ => Next::AskWitness(Task::Checkpoint),
        };
        self.status.absence().map_or(Ok(next), Err)
    }
}

/// `from=N` and nothing beside it.
fn from(target: &str) -> Result<u64, Problem> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.strip_prefix("from=").and_then(decimal).ok_or_else(|| {
        let detail = "The query must be from=N, a size that the log once had";
        Problem::new(Code::InvalidRequest, detail)
    })
}

/// Puts a task into the witness's queue.
pub fn ask(witness: Option<&SyncSender<(Reply, Task)>>, reply: Reply, task: Task) {
    if let Some(witness) = witness {
        let after_end = |_: &Task| answer::unavailable("The service is about to end").into();
        enqueue(witness, "witness", reply, task, after_end);
    }
}
