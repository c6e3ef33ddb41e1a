//! What the parsers of others refuse of a handler's description. It goes to model providers, through
//! clients that judge it before anybody is asked, and into databases; and one that is refused there
//! takes every other action of the list with it.
//!
//! The rules are those of OpenAI's and Anthropic's tools, and of `jsonb` in PostgreSQL.

use super::{Handler, result_schema, schema};
use crate::core::json::{Object, Value};

const SUMMARY_CHARS_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 64;
/// What may not stand at the top of a payload's schema.
const COMBINATORS: [&str; 5] = ["allOf", "anyOf", "enum", "not", "oneOf"];
/// Members that hold values, not schemas.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// The first reason; `None` also where a schema is no object, which is said by itself.
pub fn refused(handler: &Handler) -> Option<&'static str> {
    let (payload, result) = (schema(handler)?, result_schema(handler)?);
    let characters = handler.summary.chars().count();
    if !(1..=SUMMARY_CHARS_MAX).contains(&characters) || handler.summary.contains(is_control) {
        return Some("summary must be 1 to 1024 characters, none of them a control character");
    }
    if has_control(&payload) || has_control(&result) {
        return Some(r"a schema has a control character; spell it as \\x00 in a pattern");
    }
    if any(&payload, refers) || any(&result, refers) {
        return Some("a schema may not refer to another: no $ref, $dynamicRef, $id");
    }
    let properties = payload.get("properties").and_then(Value::as_object);
    if payload["type"] != "object" || properties.is_none() {
        return Some(r#"payload_schema must say "type":"object" and have "properties""#);
    }
    if !properties.is_some_and(|p| p.iter().all(|(name, of)| is_name(name) && of.is_object())) {
        return Some("a property must be an object, named by 1 to 64 of A-Za-z0-9_.-");
    }
    if COMBINATORS.iter().any(|name| payload.get(name).is_some()) {
        return Some("payload_schema may not have oneOf, anyOf, allOf, not or enum at its top");
    }
    any(&payload, lacks)
        .then_some(r#"in payload_schema an array needs "items", and an object "properties""#)
}

/// Line breaks and tabs are taken everywhere.
pub(super) fn is_control(char: char) -> bool {
    char.is_control() && !['\n', '\t'].contains(&char)
}

fn has_control(value: &Value) -> bool {
    match value {
        Value::String(text) => text.chars().any(is_control),
        Value::Array(items) => items.iter().any(has_control),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.chars().any(is_control) || has_control(value))
        }
        _ => false,
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Whether that holds of a schema or of one in it.
fn any(schema: &Value, holds: fn(&Object) -> bool) -> bool {
    match schema {
        Value::Object(members) => {
            let mut inner = members.iter().filter(|(name, _)| !DATA.contains(&name.as_str()));
            holds(members) || inner.any(|(_, of)| any(of, holds))
        }
        Value::Array(schemas) => schemas.iter().any(|schema| any(schema, holds)),
        _ => false,
    }
}

/// It stands in other documents, where what it refers to is elsewhere.
fn refers(schema: &Object) -> bool {
    ["$ref", "$dynamicRef", "$id"].iter().any(|keyword| schema.contains_key(*keyword))
}

/// It is of a container and does not say of which things.
fn lacks(schema: &Object) -> bool {
    let is = |name: &str| match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(|one| one == name),
        Some(one) => one == name,
        None => false,
    };
    (is("array") && !schema.contains_key("items"))
        || (is("object") && !schema.contains_key("properties"))
}
