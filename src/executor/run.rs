//! One run of a handler, and what its end means (design section 9).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handlers::{Call, Effect, Failure, Handler, RESERVED_RESULT_KEYS, Settings};
use crate::json::{Object, Value, canonical, strict};
use crate::limits::{JSON_DEPTH_MAX, RESULT_BYTES_MAX};
use crate::receipt::{Outcome, reserved_result};

/// How an execution ended, and its result as canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub result: String,
}

/// Runs the handler. Never panics, whatever the handler does.
pub fn run(handler: &Handler, call: &Call, settings: &Settings) -> Ended {
    // The handler's state is its own; after a panic nothing of it is looked at again.
    let returned = catch_unwind(AssertUnwindSafe(|| (handler.run)(call, settings)));
    match returned {
        Ok(Ok(result)) => match accept(result, handler.result_bytes_max) {
            Ok(result) => Ended { outcome: Outcome::Executed, result },
            Err((code, detail)) => unusable(handler.effect, code, detail),
        },
        Ok(Err(Failure::Failed(detail))) => failed("handler_failed", &detail),
        Ok(Err(Failure::Unknown(detail))) => match handler.effect {
            Effect::Pure => failed("handler_failed", &detail),
            Effect::Idempotent | Effect::Once => indeterminate("effect_unknown", &detail),
        },
        Err(_) => unusable(handler.effect, "handler_panicked", "The handler panicked"),
    }
}

/// The outcome of a claim that is not run (again).
pub fn indeterminate(code: &str, detail: &str) -> Ended {
    let result = reserved_result("indeterminate", code, &bounded(detail));
    Ended { outcome: Outcome::Indeterminate, result }
}

fn failed(code: &str, detail: &str) -> Ended {
    Ended { outcome: Outcome::Failed, result: reserved_result("failed", code, &bounded(detail)) }
}

/// A handler's own sentence, cut to what the room kept for its receipt surely holds.
fn bounded(detail: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    detail.chars().take(CHARACTERS_MAX).collect()
}

/// The handler came to no usable end. If it changes nothing it has failed; otherwise its effect may
/// be there, and to say "failed" would be to say that it is not.
fn unusable(effect: Effect, code: &str, detail: &str) -> Ended {
    match effect {
        Effect::Pure => failed(code, detail),
        Effect::Idempotent | Effect::Once => indeterminate(code, detail),
    }
}

/// The canonical text of a result that every reader can read back.
fn accept(result: Object, bytes_max: usize) -> Result<String, (&'static str, &'static str)> {
    if result.keys().any(|key| RESERVED_RESULT_KEYS.contains(&key.as_str())) {
        return Err(("result_invalid", "The handler's result has a reserved key"));
    }
    let result = Value::Object(result);
    // Before anything recurses into it.
    if !is_within_depth(&result, JSON_DEPTH_MAX) {
        return Err(("result_invalid", "The handler's result is nested too deeply"));
    }
    let text = canonical::to_string(&result);
    if text.len() > bytes_max.min(RESULT_BYTES_MAX) {
        return Err(("result_too_large", "The handler's result is over its limit"));
    }
    if strict::read(text.as_bytes(), JSON_DEPTH_MAX).is_err() {
        return Err(("result_invalid", "The handler's result has a number out of range"));
    }
    Ok(text)
}

fn is_within_depth(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|v| is_within_depth(v, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|v| is_within_depth(v, depth - 1)),
        _ => true,
    }
}
