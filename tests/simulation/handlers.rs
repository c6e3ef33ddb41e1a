//! The handlers of the simulation, and the count of their runs, which no crash forgets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use openexec::core::json::{Object, Value};
use openexec::handlers::{Call, Effect, Failure, Handler, Settings};

#[path = "../common/plain.rs"]
mod plain;

use self::plain::PLAIN;
use crate::disk::SimDisk;

pub const RESULT_BYTES_MAX: usize = 256;

pub static HANDLERS: &[Handler] = &[
    Handler { action: "pure", effect: Effect::Pure, ..IDEMPOTENT },
    IDEMPOTENT,
    Handler { action: "once", effect: Effect::Once, ..IDEMPOTENT },
];

const IDEMPOTENT: Handler = Handler {
    action: "idempotent",
    summary: "Counts its runs.",
    effect: Effect::Idempotent,
    result_bytes_max: RESULT_BYTES_MAX,
    run: &run,
    ..PLAIN
};

/// What the handler is asked to do.
pub const DEEDS: [&str; 8] = ["ok", "ok", "ok", "fail", "unknown", "panic", "large", "reserved"];

/// All runs of one execution.
#[derive(Default, Clone, Copy, Debug)]
pub struct Runs {
    pub first: u32,
    pub again: u32,
    pub effect: Option<Effect>,
}

/// What is outside the process: the world that the handlers change.
#[derive(Default)]
pub struct Outside {
    pub runs: HashMap<String, Runs>,
    /// Who used an approval.
    pub approvals: HashMap<String, String>,
    pub disk: Option<Arc<SimDisk>>,
    /// The process dies within a run: at this many from now.
    pub dies_in: Option<u64>,
    pub fault: Option<String>,
}

thread_local! {
    static OUTSIDE: RefCell<Outside> = RefCell::default();
}

pub fn outside<R>(look: impl FnOnce(&mut Outside) -> R) -> R {
    OUTSIDE.with_borrow_mut(look)
}

fn run(call: &Call, _: &Settings) -> Result<Object, Failure> {
    outside(|outside| record(outside, call));
    let text = |text: &str| Object::from_iter([("text".to_owned(), Value::from(text))]);
    match call.payload.get("do").and_then(Value::as_str).unwrap_or("") {
        "fail" => Err(Failure::Failed("asked to fail".to_owned())),
        "unknown" => Err(Failure::Unknown("asked not to know".to_owned())),
        // Unwinds as a panic does, without the hook that prints it.
        "panic" => std::panic::resume_unwind(Box::new(())),
        "large" => Ok(text(&"x".repeat(RESULT_BYTES_MAX))),
        "reserved" => Ok(Object::from_iter([("denied".to_owned(), Value::from(1))])),
        _ => Ok(text(call.id)),
    }
}

fn record(outside: &mut Outside, call: &Call) {
    let disk = outside.disk.clone().expect("a disk");
    if disk.is_dead() {
        return;
    }
    let effect = HANDLERS.iter().find(|h| h.action == call.action).map(|h| h.effect);
    let runs = outside.runs.entry(call.id.to_owned()).or_default();
    runs.effect = effect;
    if call.again {
        runs.again += 1;
    } else {
        runs.first += 1;
    }
    let allowed = match effect {
        // Nothing is changed by it: a refusal for want of room may follow a run.
        Some(Effect::Pure) => true,
        Some(Effect::Idempotent) => {
            runs.first <= 1 && runs.again <= 1 && (call.again || runs.again == 0)
        }
        _ => runs.first <= 1 && runs.again == 0,
    };
    if !allowed {
        outside.fault = Some(format!("{} {} ran too often: {runs:?}", call.action, call.id));
    }
    if effect != Some(Effect::Pure) {
        for approval in call.approval_ids {
            let user = outside.approvals.entry(approval.clone()).or_insert(call.id.to_owned());
            if user != call.id {
                outside.fault =
                    Some(format!("approval {approval} executed {user} and {}", call.id));
            }
        }
    }
    if let Some(left) = &mut outside.dies_in {
        *left -= 1;
        if *left == 0 {
            outside.dies_in = None;
            disk.crash_now();
        }
    }
}
