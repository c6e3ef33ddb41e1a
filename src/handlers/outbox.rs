//! The outbox: an effect leaves as a job file, and an operator's own worker, which holds the
//! credentials and the network, performs it. `enqueue` is the general action. A queue that is named as an
//! action, in upper or lower case, takes the jobs of that action alone, which passed its typed checks and were
//! approved as what they are: those of `send_email`, `charge_card` and declared actions.
//!
//! ```text
//! <OPENEXEC_OUTBOX_DIR>/<queue>/<id>.json         waits
//!                              /taken/<id>.json   a worker took it, by renaming it
//!                              /done/<id>.json    the worker is done with it
//!                              /outcome/<id>.json what became of it, as the worker says
//! ```
//!
//! A job is canonical JSON, `{"action","approval_ids","id","nonce","payload"}`, mode 0640 less the
//! umask; a queue's missing directories are made, mode 0770 less the umask. Names that begin with a
//! dot (`.openexec-<id>`) are unfinished or left by a crash, and no jobs. A worker moves a job only
//! forward, retries it where it lies in `taken/`, uses the id as its own idempotency key, and does
//! not delete it from `done/` before the receipt exists.
//!
//! Invariant: a job file appears whole, synced, and at most once for an id. Order of system calls:
//! open the directories (those of the queue: `mkdir`, and `fsync` of the parent, where missing);
//! look for the id in the three places, in the order in which jobs move, so that one moving
//! meanwhile is not missed; create the temporary name, `write`, `fsync`; `link` it to its name,
//! which unlike `rename` never replaces; `unlink` the temporary name; `fsync` the queue's directory.
//!
//! | the id is | first run | second run (`again`) |
//! | --- | --- | --- |
//! | nowhere | queued | queued: the outbox is the one that the claim names ([`super::place`]) |
//! | in one of the three, the same bytes | success, nothing written | success, nothing written |
//! | in one of the three, other bytes | failed | success: the worker may have noted something in it |
//! | a link, a directory, a device, a FIFO | failed | unknown |
//!
//! An error before `link` is `Failed`, one after it may have begun `Unknown`; in a second run each
//! is `Unknown`, since what the first one did cannot be seen any more.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde_json::json;

use super::confined::{Dir, Found, TEMPORARY, must_be, not_changed, temporary};
use super::schema::Schema;
use super::{Call, Effect, Failure, Handler, Payload, PayloadError, Settings, Unusable};
use crate::core::hash::{hex, sha256};
use crate::core::json::{Object, Value, canonical, object};
use crate::core::limits::PAYLOAD_BYTES_MAX;
use crate::sys::limits::QUEUES_TRIED_MAX;
use crate::sys::regular::Opened;

/// `{"queued":{"job":"<queue>/<id>.json","sha256":".."}}` with the longest queue name.
const QUEUED_BYTES_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 64;
/// How a job of `enqueue` begins.
const OF_ENQUEUE: &[u8] = br#"{"action":"enqueue","#;

static SCHEMA: Schema = Schema::of(ENQUEUE.payload_schema, &[]);

pub const ENQUEUE: Handler = Handler {
    action: "enqueue",
    summary: "Queues a job for one of the operator's own workers.",
    effect: Effect::Idempotent,
    payload_schema: include_str!("schemas/enqueue.json"),
    result_schema: include_str!("schemas/queued.json"),
    result_bytes_max: QUEUED_BYTES_MAX,
    offered: |settings| {
        let missing = "set OPENEXEC_OUTBOX_DIR to the directory that takes the job files";
        settings.outbox_dir.as_ref().map(drop).ok_or(missing)
    },
    ready,
    check: &|payload, settings| queue(payload, settings).map(drop),
    place: |settings| settings.outbox_dir.clone(),
    run: &|call, settings| put(call, settings, queue(call.payload, settings)),
};

/// What has the form of a queue's name must be a queue, and each be written as the outbox itself is.
fn ready(settings: &Settings) -> Result<(), Unusable> {
    let Some(path) = &settings.outbox_dir else { return Ok(()) };
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error| Unusable { path, error }
    };
    let root = Dir::root(path).map_err(unusable(path))?;
    root.try_out(PAYLOAD_BYTES_MAX).map_err(unusable(path))?;
    let mut queues = root.names().map_err(unusable(path))?;
    queues.retain(|name| is_queue_name(name));
    queues.sort_unstable();
    for queue in queues.iter().filter(|queue| owner(queue, settings).is_some()) {
        unmixed(&root, queue).map_err(unusable(&path.join(queue)))?;
    }
    for queue in queues.iter().take(QUEUES_TRIED_MAX) {
        let path = path.join(queue);
        let waiting = root.child(queue).map_err(unusable(&path))?;
        waiting.try_out(1).map_err(unusable(&path))?;
        for place in ["taken", "done", "outcome"] {
            let path = path.join(place);
            let is_missing = waiting.look(place).map_err(unusable(&path))?.is_none();
            // A missing one is made; in one that is there the id of each job is looked for.
            if !is_missing {
                let searched = waiting.child(place).and_then(|dir| dir.look(TEMPORARY));
                searched.map_err(unusable(&path))?;
            }
        }
    }
    Ok(())
}

pub fn is_queue_name(name: &str) -> bool {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=QUEUE_BYTES_MAX).contains(&name.len()) && name.bytes().all(of_a_name)
}

fn queue<'a>(payload: &'a Payload, settings: &Settings) -> Result<&'a str, PayloadError> {
    SCHEMA.check(payload)?;
    let queue = payload.get("queue").and_then(Value::as_str).unwrap_or_default();
    match owner(queue, settings) {
        Some(action) => Err(PayloadError(format!("this queue takes the action {action} only"))),
        None => Ok(queue),
    }
}

/// The action that a queue belongs to. In any case: on a file system that ignores it they are the same directory.
fn owner(queue: &str, settings: &Settings) -> Option<&'static str> {
    settings.actions.iter().copied().find(|action| action.eq_ignore_ascii_case(queue))
}

/// An action's queue has no job that `enqueue` left there before it was the action's: nobody held that one to the
/// action's schema, and the worker would take it for one that was.
fn unmixed(root: &Dir, queue: &str) -> io::Result<()> {
    let waiting = root.child(queue)?;
    let taken = waiting.look("taken")?.map(|_| waiting.child("taken")).transpose()?;
    for dir in [Some(waiting), taken].iter().flatten() {
        for name in dir.names()?.iter().filter(|name| name.ends_with(".json")) {
            let mut beginning = Vec::new();
            if let Opened::File(file) = dir.read(name)? {
                file.take(OF_ENQUEUE.len() as u64).read_to_end(&mut beginning)?;
            }
            if beginning == OF_ENQUEUE {
                let text =
                    format!("the queue belongs to an action, and {name} in it is a job of enqueue");
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(())
}

/// Queues the call as a job of the queue that its payload, judged once more, is for.
pub fn put(
    call: &Call,
    settings: &Settings,
    queue: Result<&str, PayloadError>,
) -> Result<Object, Failure> {
    let queue = queue.map_err(|error| call.failure(error.0))?;
    let (job, result) = queued(call, queue);
    let name = format!("{}.json", call.id);
    let temporary = temporary(call.id);

    let places = places(call, settings, queue)?;
    let waiting = &places[0];
    if call.again {
        // What the first run left unfinished; if it cannot be removed, `create` says so.
        let _ = waiting.remove(&temporary);
    }
    if !has(&places, call, &name, &job)? {
        waiting
            .create_with(&temporary, &job, None)
            .map_err(|error| call.failure(format!("the job cannot be written: {error}")))?;
        let linked = waiting.link(&temporary, &name);
        // Whether it is gone makes no difference to anybody: it is not a job.
        let _ = waiting.remove(&temporary);
        let what = "the job cannot be put into its queue";
        linked.map_err(|error| not_changed(call, &error, what))?;
    }
    // Also for a job that is there already: the first run may have ended before this.
    waiting
        .sync()
        .map_err(|error| Failure::Unknown(format!("the queue cannot be synced: {error}")))?;
    Ok(result)
}

/// The job's text, and the result that says it is queued.
pub fn queued(call: &Call, queue: &str) -> (Vec<u8>, Object) {
    let Call { id, action, nonce, payload, approval_ids, .. } = call;
    let job = json!({"action": action, "approval_ids": approval_ids, "id": id, "nonce": nonce, "payload": payload});
    let job = canonical::to_string(&job).into_bytes();
    let said = json!({"job": format!("{queue}/{id}.json"), "sha256": hex(&sha256(&[&job]))});
    (job, object([("queued", said)]))
}

/// Whether all that it does is to leave a job.
pub fn leaves_job(handler: &Handler) -> bool {
    handler.result_schema == ENQUEUE.result_schema
}

/// The queue of such a handler's job: the payload's for `enqueue`, else the action's own.
pub fn queue_of<'a>(action: &'a str, payload: &'a Payload) -> Option<&'a str> {
    if action == ENQUEUE.action { payload.get("queue")?.as_str() } else { Some(action) }
}

/// The three places of a queue, in the order in which jobs move: waiting, taken, done.
fn places(call: &Call, settings: &Settings, queue: &str) -> Result<[Dir; 3], Failure> {
    let failed = |error: io::Error| call.failure(format!("the outbox cannot be opened: {error}"));
    let root = settings.outbox_dir.as_deref().unwrap_or("".as_ref());
    let root = Dir::root(root).map_err(failed)?;
    must_be(&root, call)?;
    let waiting = root.child_or_make(queue).map_err(failed)?;
    if call.again {
        // The first run may have ended between making the queue and this.
        root.sync().map_err(failed)?;
    }
    let taken = waiting.child_or_make("taken").map_err(failed)?;
    let done = waiting.child_or_make("done").map_err(failed)?;
    // The job matters more; who looks there for outcomes tries again.
    let _ = waiting.child_or_make("outcome");
    Ok([waiting, taken, done])
}

/// Whether the job is in one of the places already.
fn has(places: &[Dir; 3], call: &Call, name: &str, job: &[u8]) -> Result<bool, Failure> {
    for dir in places {
        let found = dir
            .find(name)
            .map_err(|error| call.failure(format!("the queue cannot be searched: {error}")))?;
        match found {
            Found::Nothing => {}
            Found::File(file) if call.again || file.holds(job) => return Ok(true),
            Found::File(_) => return Err(call.failure("another job has this id already")),
            Found::Other => return Err(call.failure("what has the job's name is no file")),
        }
    }
    Ok(false)
}
