//! The registry: a static array of handlers, checked once at start, never changed after. The JSON Schemas of those that
//! are built in are files in `schemas/`.

mod basic;
mod confined;
pub mod declared;
mod files;
mod mail;
mod outbox;
mod outside;
mod payment;
pub mod schema;
mod subset;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

pub use self::outbox::{is_queue_name, leaves_job, queue_of, queued};
pub use crate::core::handler::{
    Call, Check, Failure, Handler, Payload, PayloadError, RESERVED_RESULT_KEYS, Run, Settings,
    Unusable, find,
};
use crate::core::json::{Value, strict};
use crate::core::limits::{JSON_DEPTH_MAX, RESULT_BYTES_MAX};
pub use crate::core::receipt::{Effect, is_action_name};
pub use crate::sys::place;

/// The handlers of the prebuilt binary.
pub static HANDLERS: &[Handler] = &[
    basic::ECHO,
    basic::ADD,
    outbox::ENQUEUE,
    mail::SEND_EMAIL,
    payment::CHARGE_CARD,
    files::WRITE_FILE,
    files::DELETE_FILE,
];

/// For a handler that needs no setting.
pub fn always(_: &Settings) -> Result<(), &'static str> {
    Ok(())
}

/// For a handler whose `run` needs nothing that could be missing.
pub fn needs_nothing(_: &Settings) -> Result<(), Unusable> {
    Ok(())
}

/// For a handler that acts in no directory.
pub fn nowhere(_: &Settings) -> Option<PathBuf> {
    None
}

/// Names that mean something else: how a receipt says that there was no result, and how an MCP client asks what
/// became of its call.
const RESERVED: [&str; 4] = ["denied", "failed", "indeterminate", "openexec_proposal"];

/// A mistake in the array, found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub action: &'static str,
    pub says: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handler {:?}: {}", self.action, self.says)
    }
}

/// Every mistake in `handlers`, in their order.
pub fn check_registry(handlers: &[Handler]) -> Vec<Mistake> {
    const { assert!(RESULT_BYTES_MAX == 1_048_576, "a sentence below says so") };
    let mut mistakes = Vec::new();
    let mut names = BTreeSet::new();
    for handler in handlers {
        let action = handler.action;
        // Upper and lower case are one name: on some file systems queues of both are one directory.
        let lower = action.to_ascii_lowercase();
        let rules = [
            (is_action_name(action), "an action is 1 to 64 of A-Za-z0-9_.-"),
            // A `.`-only name is a path to whoever makes a file or a URL of it.
            (
                !action.starts_with('.') && !RESERVED.contains(&&*lower),
                "this name is reserved; choose another",
            ),
            (names.insert(lower.clone()), "it is registered twice; remove one"),
            (schema(handler).is_some(), "payload_schema must be the text of a JSON object"),
            (result_schema(handler).is_some(), "result_schema must be the text of a JSON object"),
            (
                (1..=RESULT_BYTES_MAX).contains(&handler.result_bytes_max),
                "result_bytes_max must be 1 to 1048576",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds).map(|(_, says)| *says);
        let all = broken.chain(outside::refused(handler));
        mistakes.extend(all.map(|says| Mistake { action, says }));
    }
    mistakes
}

/// The schema of the handler's payload as a value; `None` when its text is not a JSON object.
pub fn schema(handler: &Handler) -> Option<Value> {
    strict::read(handler.payload_schema.as_bytes(), JSON_DEPTH_MAX).ok().filter(Value::is_object)
}

/// The same of its result.
pub fn result_schema(handler: &Handler) -> Option<Value> {
    strict::read(handler.result_schema.as_bytes(), JSON_DEPTH_MAX).ok().filter(Value::is_object)
}

/// A schema as part of another document, which says by itself of which dialect it is.
pub fn embedded(schema: Option<Value>) -> Value {
    let mut schema = schema.unwrap_or_default();
    schema.as_object_mut().map(|members| members.remove("$schema"));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_array_has_no_mistake() {
        assert_eq!(check_registry(HANDLERS), []);
    }

    #[test]
    fn every_mistake_is_named() {
        let bad = [
            Handler { action: "a b", ..basic::ECHO },
            Handler { action: "denied", ..basic::ECHO },
            Handler { action: "twice", ..basic::ECHO },
            Handler { action: "twice", ..basic::ECHO },
            Handler { action: "schema", payload_schema: "[]", ..basic::ECHO },
            Handler { action: "result", result_schema: "true", ..basic::ECHO },
            Handler { action: "large", result_bytes_max: RESULT_BYTES_MAX + 1, ..basic::ECHO },
        ];
        let named: Vec<String> = check_registry(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            named,
            [
                "handler \"a b\": an action is 1 to 64 of A-Za-z0-9_.-",
                "handler \"denied\": this name is reserved; choose another",
                "handler \"twice\": it is registered twice; remove one",
                "handler \"schema\": payload_schema must be the text of a JSON object",
                "handler \"result\": result_schema must be the text of a JSON object",
                "handler \"large\": result_bytes_max must be 1 to 1048576",
            ]
        );
    }
}
