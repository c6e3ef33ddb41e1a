//! The registry: a static array of handlers, checked once at start, never changed after.

mod basic;
mod confined;
pub mod fields;
mod files;
mod mail;
mod outbox;
mod outside;
mod payment;
pub mod place;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

pub use self::place::nowhere;
use crate::core::json::{Object, Value, strict};
use crate::core::limits::{JSON_DEPTH_MAX, RESULT_BYTES_MAX};
pub use crate::core::receipt::{Effect, is_action_name};
use crate::sys::exit;

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

/// The payload of a request, as read again from its canonical text.
pub type Payload = Object;

/// One action and the code that performs it.
pub struct Handler {
    /// 1 to 64 of `A-Za-z0-9_.-`, unique in the array.
    pub action: &'static str,
    /// One sentence for people and models.
    pub summary: &'static str,
    pub effect: Effect,
    /// JSON Schema 2020-12 text of the payload, shown to whoever proposes.
    pub payload_schema: &'static str,
    /// The same of what `run` returns, for clients that check the results of their calls.
    pub result_schema: &'static str,
    /// The largest canonical result, in bytes: room for it is kept before the claim is written.
    pub result_bytes_max: usize,
    /// Whether the settings that the handler needs are there; otherwise the sentence that names
    /// what is missing. [`always`] for a handler that needs none.
    pub offered: fn(&Settings) -> Result<(), &'static str>,
    /// Tries what `run` needs and no request can mend, such as to write where it will write; at start
    /// and by `openexec check`, and only where the action may be called. The failure ends both, and
    /// names path, user and mend: [`exit::Failure::unusable`]. [`needs_nothing`] where there is nothing
    /// to try.
    pub ready: fn(&Settings) -> Result<(), exit::Failure>,
    /// Judges the payload before anybody is asked to approve it. Pure.
    pub check: fn(&Payload, &Settings) -> Result<(), PayloadError>,
    /// The directory in which it acts, if it acts in one: after a crash it runs again only if that
    /// is still the same ([`place`]). [`nowhere`] for a handler without one.
    pub place: fn(&Settings) -> Option<PathBuf>,
    /// Performs the action.
    pub run: fn(&Call, &Settings) -> Result<Object, Failure>,
}

/// One execution, as its handler sees it.
pub struct Call<'a> {
    /// The `exec_id`: the handler's own idempotency key. 64 hexadecimal digits.
    pub id: &'a str,
    pub action: &'a str,
    pub nonce: &'a str,
    pub payload: &'a Payload,
    /// The approvals that were spent for it; none in demo mode.
    pub approval_ids: &'a [String],
    /// The marker of the directory that the claim means: 32 hexadecimal digits.
    pub place: Option<&'a str>,
    /// A run before this one was cut short by a crash: its effect may be there already, and others
    /// may have changed what it left. It may change only a state that the first run left, or that
    /// the request names as its precondition; any other is [`Failure::Unknown`].
    pub again: bool,
}

impl Call<'_> {
    /// The failure of a run that has changed nothing. A second run cannot say that of the first.
    pub fn failure(&self, sentence: impl Into<String>) -> Failure {
        if self.again {
            Failure::Unknown(sentence.into())
        } else {
            Failure::Failed(sentence.into())
        }
    }
}

/// Why a run has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened. Stored, and repeated to replays.
    Failed(String),
    /// Something may have happened: the outcome is `indeterminate`.
    Unknown(String),
}

/// Why a payload cannot be run: a sentence for the caller, deterministic, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadError(pub String);

/// What the configuration gives to handlers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `OPENEXEC_OUTBOX_DIR`.
    pub outbox_dir: Option<PathBuf>,
    /// `OPENEXEC_FILES_DIR`.
    pub files_dir: Option<PathBuf>,
}

/// For a handler that needs no setting.
pub fn always(_: &Settings) -> Result<(), &'static str> {
    Ok(())
}

/// For a handler whose `run` needs nothing that could be missing.
pub fn needs_nothing(_: &Settings) -> Result<(), exit::Failure> {
    Ok(())
}

/// Keys that a result may not have: they are how a receipt says that there was none.
pub const RESERVED_RESULT_KEYS: [&str; 3] = ["denied", "failed", "indeterminate"];

/// A mistake in the array, found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    BadName(String),
    ReservedName(String),
    Duplicate(String),
    PayloadSchemaIsNotAnObject(String),
    ResultSchemaIsNotAnObject(String),
    ResultTooLarge(String),
    /// By the parsers of others, for that reason.
    RefusedOutside(String, &'static str),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => {
                write!(f, "handler {name:?}: an action is 1 to 64 of A-Za-z0-9_.-")
            }
            Self::ReservedName(name) => {
                write!(f, "handler {name:?}: this name is reserved; choose another")
            }
            Self::Duplicate(name) => write!(f, "handler {name:?} is registered twice; remove one"),
            Self::PayloadSchemaIsNotAnObject(name) => {
                write!(f, "handler {name:?}: payload_schema must be the text of a JSON object")
            }
            Self::ResultSchemaIsNotAnObject(name) => {
                write!(f, "handler {name:?}: result_schema must be the text of a JSON object")
            }
            Self::ResultTooLarge(name) => {
                write!(f, "handler {name:?}: result_bytes_max must be 1 to {RESULT_BYTES_MAX}")
            }
            Self::RefusedOutside(name, reason) => {
                write!(f, "handler {name:?} would be refused by its readers: {reason}")
            }
        }
    }
}

/// Every mistake in `handlers`, in their order.
pub fn check_registry(handlers: &[Handler]) -> Vec<RegistryError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for handler in handlers {
        let name = || handler.action.to_owned();
        if !is_action_name(handler.action) {
            errors.push(RegistryError::BadName(name()));
        }
        // A `.`-only name is a path to whoever makes a file or a URL of it.
        if handler.action.starts_with('.') || RESERVED_RESULT_KEYS.contains(&handler.action) {
            errors.push(RegistryError::ReservedName(name()));
        }
        if !names.insert(handler.action) {
            errors.push(RegistryError::Duplicate(name()));
        }
        if schema(handler).is_none() {
            errors.push(RegistryError::PayloadSchemaIsNotAnObject(name()));
        }
        if result_schema(handler).is_none() {
            errors.push(RegistryError::ResultSchemaIsNotAnObject(name()));
        }
        if !(1..=RESULT_BYTES_MAX).contains(&handler.result_bytes_max) {
            errors.push(RegistryError::ResultTooLarge(name()));
        }
        if let Some(reason) = outside::refused(handler) {
            errors.push(RegistryError::RefusedOutside(name(), reason));
        }
    }
    errors
}

/// The schema of the handler's payload as a value; `None` when its text is not a JSON object.
pub fn schema(handler: &Handler) -> Option<Value> {
    strict::read(handler.payload_schema.as_bytes(), JSON_DEPTH_MAX).ok().filter(Value::is_object)
}

/// The same of its result.
pub fn result_schema(handler: &Handler) -> Option<Value> {
    strict::read(handler.result_schema.as_bytes(), JSON_DEPTH_MAX).ok().filter(Value::is_object)
}

/// A schema as part of another document, in which it stands at the JSON pointer `at`: what it refers
/// to inside itself is found there, and which dialect it is in is said by the document.
pub fn embedded(mut schema: Value, at: &str) -> Value {
    if let Value::Object(root) = &mut schema {
        root.remove("$schema");
        // With an identifier of its own, what is in it is relative to that, wherever it stands.
        if root.contains_key("$id") {
            return schema;
        }
    }
    fn rebase(schema: &mut Value, at: &str) {
        match schema {
            Value::Object(members) => {
                for (name, value) in members {
                    match (name.as_str(), value) {
                        ("$ref" | "$dynamicRef", Value::String(target)) => {
                            if let Some(pointer) = target.strip_prefix('#')
                                && (pointer.is_empty() || pointer.starts_with('/'))
                            {
                                *target = format!("{at}{pointer}");
                            }
                        }
                        (_, value) => rebase(value, at),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, at)),
            _ => {}
        }
    }
    rebase(&mut schema, at);
    schema
}

/// The handler of that name.
pub fn find(handlers: &'static [Handler], action: &str) -> Option<&'static Handler> {
    handlers.iter().find(|handler| handler.action == action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_array_has_no_mistake() {
        assert_eq!(check_registry(HANDLERS), []);
    }

    #[test]
    fn a_schema_inside_another_document_refers_to_itself() {
        let read = |text: &str| strict::read(text.as_bytes(), 16).expect("test schema");
        let schema = read(
            r##"{"$schema":"s","$defs":{"a":{"$ref":"#"}},"properties":{"$ref":{"$ref":"#/$defs/a"},
                "b":{"items":[{"$ref":"other.json#/a"},{"$ref":"#name"}]}}}"##,
        );
        let expected = read(
            r##"{"$defs":{"a":{"$ref":"#/x"}},"properties":{"$ref":{"$ref":"#/x/$defs/a"},
                "b":{"items":[{"$ref":"other.json#/a"},{"$ref":"#name"}]}}}"##,
        );
        assert_eq!(embedded(schema, "#/x"), expected);
        let named = read(r##"{"$id":"urn:x","$ref":"#/a"}"##);
        assert_eq!(embedded(named.clone(), "#/x"), named);
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
        assert_eq!(
            check_registry(&bad),
            [
                RegistryError::BadName("a b".into()),
                RegistryError::ReservedName("denied".into()),
                RegistryError::Duplicate("twice".into()),
                RegistryError::PayloadSchemaIsNotAnObject("schema".into()),
                RegistryError::ResultSchemaIsNotAnObject("result".into()),
                RegistryError::ResultTooLarge("large".into()),
            ]
        );
    }
}
