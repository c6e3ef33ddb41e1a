//! The approvals directory, looked at each second for proposals that are pending: what lies there is given to the
//! executor, which judges it. A thread of its own, since storage may hang.
//!
//! Invariant: nothing is decided here. What is given on was read and examined as what a request finds there.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, channel};
use std::time::{Duration, Instant};

use crate::core::hash::{Hash, sha256};
use crate::core::proposal::ApprovalPolicy;
use crate::executor::Executor;
use crate::serve::front::dropped;
use crate::serve::queue::{Job, Request};
use crate::store::proposals;
use crate::sys::locked;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What was given on and has not changed may count later: a period that begins, a key that is added.
const GIVE_AGAIN: Duration = Duration::from_secs(30);

/// A proposal that is pending.
#[derive(Clone)]
struct Waiting {
    id: Hash,
    action_hash: Hash,
    /// How many were recorded of it.
    approvals: usize,
    /// It has enough, and must be judged again.
    is_blocked: bool,
}

/// The proposals that are pending, as the executor knows them.
#[derive(Default)]
pub struct Pending(Mutex<(u64, Vec<Waiting>)>);

impl Pending {
    /// Takes what has changed.
    pub fn follow<T>(&self, executor: &Executor<T>) {
        let mut known = locked(&self.0);
        let proposals = &executor.store().state().proposals;
        let version = proposals.version + executor.blockings();
        if known.0 == version {
            return;
        }
        let waiting = |(id, pending): (Hash, proposals::Pending)| Waiting {
            id,
            action_hash: pending.action_hash,
            approvals: proposals.approvals(&id).len(),
            is_blocked: executor.blocked(&id).is_some(),
        };
        *known = (version, proposals.oldest_first().into_iter().map(waiting).collect());
    }
}

/// Looks for as long as the executor takes jobs.
pub fn look(pending: &Pending, required: &ApprovalPolicy, queue: &SyncSender<Request>) {
    // What was given on: a mark of the files and of what was recorded, and when.
    let mut given: HashMap<Hash, (Hash, Instant)> = HashMap::new();
    loop {
        std::thread::sleep(LOOK_EVERY);
        let all = locked(&pending.0).1.clone();
        given.retain(|id, _| all.iter().any(|known| known.id == *id));
        for Waiting { id, action_hash, approvals, is_blocked } in all {
            let found = dropped::read(required, &id, &action_hash);
            let mark = sha256(&[format!("{approvals} {found:?}").as_bytes()]);
            let is_known = given
                .get(&id)
                .is_some_and(|(known, at)| *known == mark && at.elapsed() < GIVE_AGAIN);
            let is_nothing = found.is_empty() && approvals == 0;
            if !is_blocked && (is_nothing || is_known) {
                continue;
            }
            given.insert(id, (mark, Instant::now()));
            let files = dropped::examined(found, &required.keyring);
            // One after another: what is approved never fills the queue.
            let (judged, done) = channel();
            let reply = Box::new(move |_| {
                let _ = judged.send(());
            });
            if queue.send((reply, Job::Judge { id, files })).is_err() || done.recv().is_err() {
                return;
            }
        }
    }
}
