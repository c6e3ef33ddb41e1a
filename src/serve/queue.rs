//! The executor's thread: drains the queue into turns, and passes answers on to be carried away.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::core::limits::BATCH_REQUESTS_MAX;
use crate::executor::{self, Answers, Executor};
use crate::serve::approvals::Pending;
use crate::serve::status::Status;
use crate::store::Lost;
use crate::sys::answer::{Answer, Reply};
use crate::sys::limits::{ANSWERS_CARRIED_BYTES_MAX, SEAL_AFTER_MS};
use crate::sys::locked;

/// The executor gives out an answer of at most so many bytes by itself.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// What the executor is asked to do; whoever asks is answered once.
pub type Job = executor::Job<Reply>;

/// A request on its way to the executor.
pub type Request = (Reply, Job);

/// The way back: another thread carries the answers, so that the executor waits for no client. Their
/// bytes are bounded; the gate always takes an answer or cuts its connection, so there is soon room.
#[derive(Clone)]
pub struct Carrier {
    queue: Sender<(Reply, Answer)>,
    load: Arc<Load>,
}

#[derive(Default)]
struct Load {
    laden: Mutex<Laden>,
    lightened: Condvar,
    /// The request in hand is the only one.
    is_alone: AtomicBool,
}

#[derive(Default)]
struct Laden {
    bytes: usize,
    /// The executor waits. To wake nobody costs a system call an answer.
    is_awaited: bool,
}

/// The other end, for [`Carried::carry`].
pub struct Carried {
    answers: Receiver<(Reply, Answer)>,
    load: Arc<Load>,
}

pub fn carrier() -> (Carrier, Carried) {
    let (queue, answers) = channel();
    let load = Arc::new(Load::default());
    (Carrier { queue, load: load.clone() }, Carried { answers, load })
}

impl Carrier {
    /// Nobody else waits for an answer to one alone, and a small one fits into its socket, which is empty: to hand it
    /// over would only take time.
    pub fn answers(self) -> Answers<Reply> {
        Box::new(move |reply, said| {
            let answer = Answer::from(said);
            if self.load.is_alone.load(Relaxed) && answer.body.len() <= AT_ONCE_BYTES_MAX {
                reply(answer);
            } else {
                self.send(reply, answer);
            }
        })
    }

    fn send(&self, reply: Reply, answer: Answer) {
        let bytes = answer.body.len();
        let mut laden = locked(&self.load.laden);
        while laden.bytes > 0 && laden.bytes + bytes > ANSWERS_CARRIED_BYTES_MAX {
            laden.is_awaited = true;
            laden = self.load.lightened.wait(laden).unwrap_or_else(PoisonError::into_inner);
        }
        laden.bytes += bytes;
        drop(laden);
        // The carrier ends only with the process.
        let _ = self.queue.send((reply, answer));
    }
}

impl Carried {
    /// The carrier's thread: gives out answers in their order until the executor is gone.
    pub fn carry(&self) {
        for (reply, answer) in &self.answers {
            let bytes = answer.body.len();
            reply(answer);
            let mut laden = locked(&self.load.laden);
            laden.bytes -= bytes;
            if std::mem::take(&mut laden.is_awaited) {
                self.load.lightened.notify_one();
            }
        }
    }
}

/// Runs until the store fails or the queue is closed.
///
/// # Errors
/// The store failed; everybody who waited has an answer on its way.
pub fn serve(
    executor: &mut Executor<Reply>,
    queue: &Receiver<Request>,
    carrier: &Carrier,
    status: &Status,
    pending: &Pending,
) -> Result<(), Lost> {
    // Nobody waits for a store that does not answer.
    let mut turn_away = || {
        while let Ok((reply, job)) = queue.try_recv() {
            reply(executor::answer::after_poison(&job).into());
        }
    };
    let mut requests = Vec::with_capacity(BATCH_REQUESTS_MAX);
    loop {
        pending.follow(executor);
        let first = if executor.has_staged() {
            // Receipts wait for their sync: whatever is there comes along, nothing is waited for.
            queue.try_recv().ok()
        } else {
            status.lock().working = false;
            match queue.recv_timeout(Duration::from_millis(SEAL_AFTER_MS)) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => {
                    status.lock().working = true;
                    let rested = executor.idle();
                    rested.or_else(|lost| executor.settle(lost, &mut turn_away))?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        };
        status.lock().working = true;
        requests.extend(first);
        while requests.len() < BATCH_REQUESTS_MAX
            && let Ok(request) = queue.try_recv()
        {
            requests.push(request);
        }
        executor.store().expect(&mut requests.iter().filter_map(|(_, job)| match job {
            Job::Execute(proposal) => Some(proposal.nonce.as_str()),
            _ => None,
        }));
        carrier.load.is_alone.store(requests.len() == 1, Relaxed);
        let turned = executor.turn(requests.drain(..));
        turned.or_else(|lost| executor.settle(lost, &mut turn_away))?;
    }
}
