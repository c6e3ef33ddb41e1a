//! One run of a handler, and what its end means (design section 9).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Event, Executor, ToRun};
use crate::core::handler::{Call, Failure, Handler, RESERVED_RESULT_KEYS, Settings};
use crate::core::hash::hex;
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{
    DETAIL_CHARACTERS_MAX, JSON_DEPTH_MAX, JSON_OBJECT_VALUES, JSON_VALUES_MAX,
    NUMBER_MAGNITUDE_MAX, RESULT_BYTES_MAX,
};
use crate::core::receipt::{Effect, Outcome, reserved_result};
use crate::sys::place;

/// How an execution ended, and its result as canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub result: String,
}

impl<T> Executor<T> {
    /// The marker of the directory that the handler acts in now, which its volume may have left since
    /// start; `None` where it acts in none.
    pub(super) fn place(&self, handler: &Handler) -> io::Result<Option<String>> {
        (handler.place)(&self.policy.settings).map(|path| place::at(&path)).transpose()
    }

    pub(super) fn run(&self, claimed: &ToRun) -> Ended {
        let handler = claimed.handler;
        let read = || strict::read_own(claimed.payload.as_bytes()).ok();
        let again = if claimed.read.is_none() { read() } else { None };
        let Some(Value::Object(payload)) = claimed.read.as_ref().or(again.as_ref()) else {
            return indeterminate("payload_unreadable", "The payload cannot be read");
        };
        let call = Call {
            id: &hex(&claimed.id),
            action: handler.action,
            nonce: &claimed.nonce,
            payload,
            approval_ids: &claimed.approval_ids,
            place: claimed.place.as_deref(),
            again: claimed.again,
        };
        (self.watch)(Event::Runs(handler.action));
        let ended = run(handler, &call, &self.policy.settings);
        (self.watch)(Event::Ran(handler.action));
        ended
    }
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
    detail.chars().take(DETAIL_CHARACTERS_MAX).collect()
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
    // Judged before anything recurses into it, and as it is: its text is not read again.
    let mut left = JSON_VALUES_MAX;
    if !can_be_read_back(&result, JSON_DEPTH_MAX, &mut left) {
        return Err((
            "result_invalid",
            "The handler's result is nested too deeply, has a number out of range or is too large",
        ));
    }
    let text = canonical::to_string(&result);
    if text.len() > bytes_max.min(RESULT_BYTES_MAX) {
        return Err(("result_too_large", "The handler's result is over its limit"));
    }
    Ok(text)
}

/// Whether the strict reader would take the value's text.
fn can_be_read_back(value: &Value, depth: usize, left: &mut usize) -> bool {
    let takes = if value.is_object() { JSON_OBJECT_VALUES } else { 1 };
    let Some(rest) = left.checked_sub(takes) else { return false };
    *left = rest;
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => {
            number.as_f64().is_some_and(|number| number.abs() <= NUMBER_MAGNITUDE_MAX)
        }
        Value::Array(items) => {
            depth > 0 && items.iter().all(|item| can_be_read_back(item, depth - 1, left))
        }
        Value::Object(map) => {
            depth > 0 && map.values().all(|item| can_be_read_back(item, depth - 1, left))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut() {
        let long = "é".repeat(DETAIL_CHARACTERS_MAX + 1);
        for ended in [failed("handler_failed", &long), indeterminate("effect_unknown", &long)] {
            assert_eq!(ended.result.matches('é').count(), DETAIL_CHARACTERS_MAX);
        }
    }
}
