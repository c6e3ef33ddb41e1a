//! The executor's thread: drains the queue into turns, and passes answers on to be carried away.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::Executor;
use super::proposal::Job;
use crate::http::Answer;
use crate::limits::{BATCH_REQUESTS_MAX, SEAL_AFTER_MS};
use crate::store::Poisoned;

/// How a request is answered, once.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// A request on its way to the executor.
pub type Request = (Reply, Job);

/// An answer on its way back. Another thread carries it, so that the executor waits for nobody.
pub type Carried = (Reply, Answer);

/// Runs until the store fails or the queue is closed.
///
/// # Errors
/// The store failed; everybody who waited has an answer on its way.
pub fn serve(
    executor: &mut Executor<Reply>,
    queue: &Receiver<Request>,
    carrier: &Sender<Carried>,
) -> Result<(), Poisoned> {
    let mut answers = |reply: Reply, answer: Answer| {
        // The carrier ends only with the process.
        let _ = carrier.send((reply, answer));
    };
    loop {
        let first = if executor.has_staged() {
            // Receipts wait for their sync: whatever is there comes along, nothing is waited for.
            queue.try_recv().ok()
        } else {
            executor.status.set_working(false);
            match queue.recv_timeout(Duration::from_millis(SEAL_AFTER_MS)) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => {
                    executor.status.set_working(true);
                    executor.idle(&mut answers)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        };
        executor.status.set_working(true);
        let mut requests = Vec::with_capacity(BATCH_REQUESTS_MAX);
        requests.extend(first);
        while requests.len() < BATCH_REQUESTS_MAX
            && let Ok(request) = queue.try_recv()
        {
            requests.push(request);
        }
        executor.turn(requests, &mut answers)?;
    }
}

/// The carrier's thread: gives out answers in their order until the executor is gone.
pub fn carry(answers: &Receiver<Carried>) {
    for (reply, answer) in answers {
        reply(answer);
    }
}
