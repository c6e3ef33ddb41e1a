//! The registry: a static array of handlers, checked once at start, never changed after.

mod basic;
mod confined;
pub mod fields;
mod files;
mod mail;
mod outbox;
mod outside;
mod payment;

use std::collections::BTreeSet;
use std::fmt;

pub use crate::core::handler::{
    Call, Failure, Handler, Payload, PayloadError, RESERVED_RESULT_KEYS, Settings, Unusable,
    always, find, needs_nothing, nowhere,
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
