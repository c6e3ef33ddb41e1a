//! `GET /openapi.json`: OpenAPI 3.1 of every route, for the handlers that this service offers.
//!
//! What does not depend on them is in `openapi.json` beside this file, and everything that is said
//! there twice here and in the program is held together by `tests/openapi.rs`.

use super::actions::{object_schema, offered};
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{
    ACTION_BYTES_MAX, ARTIFACTS_MAX, BODY_BYTES_MAX, BODY_DEADLINE_MS, HEAD_BYTES_MAX,
    HEAD_DEADLINE_MS, HEADER_LINES_MAX, JSON_DEPTH_MAX, JSON_OBJECT_VALUES, JSON_VALUES_MAX,
    MCP_ID_BYTES_MAX, NONCE_BYTES_MAX, NUMBER_BYTES_MAX, PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX,
};
use crate::core::proposal::Policy;
use crate::handlers::{Handler, embedded, result_schema};

const BASE: &str = include_str!("openapi.json");

/// The document, canonical. Its parts are written as text and then read: trees of values, built
/// here, would take ten times the code.
pub fn document(policy: &Policy) -> String {
    let mut document = read(BASE);
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["x-limits"] = limits();
    let schemas = &mut document["components"]["schemas"];
    for handler in offered(policy) {
        for (part, schema) in [
            ("payload", Value::Object(object_schema(handler))),
            ("result", result_schema(handler).unwrap_or_default()),
        ] {
            let name = format!("{part}.{}", handler.action);
            let schema = embedded(schema, &format!("#/components/schemas/{name}"));
            schemas[&name] = schema;
        }
    }
    schemas["ExecuteRequest"] = one_of(offered(policy).map(|handler| request(handler, policy)));
    schemas["Executed"] = one_of(offered(policy).map(executed));
    let names: Vec<String> = offered(policy).map(|h| format!("\"{}\"", h.action)).collect();
    schemas["ToolName"] = read(&format!("{{\"enum\":[{}]}}", names.join(",")));
    canonical::to_string(&document)
}

fn read(text: &str) -> Value {
    strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_or_default()
}

/// Where nothing is offered, nothing fits.
fn one_of(schemas: impl Iterator<Item = String>) -> Value {
    let schemas: Vec<String> = schemas.collect();
    if schemas.is_empty() {
        return Value::Bool(false);
    }
    read(&format!("{{\"oneOf\":[{}]}}", schemas.join(",")))
}

fn request(handler: &Handler, policy: &Policy) -> String {
    let (action, of) = (handler.action, "#/components/schemas");
    let mut summary = String::new();
    canonical::write_string(handler.summary, &mut summary);
    let (null, required) = match policy.check(handler, "{}") {
        Ok(()) => (",{\"type\":\"null\",\"description\":\"As {}.\"}", ""),
        Err(_) => ("", ",\"payload\""),
    };
    let approval = match &policy.approvals {
        Some(_) => "Approvals\"",
        None => "Json\",\"description\":\"Ignored in demo mode.\"",
    };
    format!(
        "{{\"title\":\"{action}\",\"description\":{summary},\"type\":\"object\",\"properties\":{{\
         \"action\":{{\"const\":\"{action}\"}},\"nonce\":{{\"$ref\":\"{of}/Nonce\"}},\
         \"payload\":{{\"anyOf\":[{{\"allOf\":[{{\"$ref\":\"{of}/payload.{action}\"}},\
         {{\"$ref\":\"{of}/JsonObject\"}}]}},{{\"type\":\"string\",\
         \"contentMediaType\":\"application/json\",\
         \"contentSchema\":{{\"$ref\":\"{of}/payload.{action}\"}},\
         \"description\":\"The text of such an object, as function calling gives it.\"}}{null}]}},\
         \"approval_artifact\":{{\"$ref\":\"{of}/{approval}}}}},\
         \"required\":[\"action\",\"nonce\"{required}],\"additionalProperties\":false}}"
    )
}

fn executed(handler: &'static Handler) -> String {
    let (action, of) = (handler.action, "#/components/schemas");
    format!(
        "{{\"title\":\"{action}\",\"type\":\"object\",\"properties\":{{\
         \"action\":{{\"const\":\"{action}\"}},\"approved\":{{\"const\":true}},\
         \"id\":{{\"$ref\":\"{of}/Hash\"}},\"outcome\":{{\"const\":\"executed\"}},\
         \"receipt\":{{\"$ref\":\"{of}/Hash\"}},\
         \"result\":{{\"$ref\":\"{of}/result.{action}\"}}}},\
         \"required\":[\"action\",\"approved\",\"id\",\"outcome\",\"receipt\",\"result\"],\
         \"additionalProperties\":false}}"
    )
}

/// What a client can run into, by the names of the program's own constants.
fn limits() -> Value {
    let limits: [(&str, u64); 15] = [
        ("HEAD_BYTES_MAX", HEAD_BYTES_MAX as u64),
        ("HEADER_LINES_MAX", HEADER_LINES_MAX as u64),
        ("BODY_BYTES_MAX", BODY_BYTES_MAX as u64),
        ("HEAD_DEADLINE_MS", HEAD_DEADLINE_MS),
        ("BODY_DEADLINE_MS", BODY_DEADLINE_MS),
        ("JSON_DEPTH_MAX", JSON_DEPTH_MAX as u64),
        ("JSON_VALUES_MAX", JSON_VALUES_MAX as u64),
        ("JSON_OBJECT_VALUES", JSON_OBJECT_VALUES as u64),
        ("NUMBER_BYTES_MAX", NUMBER_BYTES_MAX as u64),
        ("PAYLOAD_BYTES_MAX", PAYLOAD_BYTES_MAX as u64),
        ("ACTION_BYTES_MAX", ACTION_BYTES_MAX as u64),
        ("NONCE_BYTES_MAX", NONCE_BYTES_MAX as u64),
        ("ARTIFACTS_MAX", ARTIFACTS_MAX as u64),
        ("RESULT_BYTES_MAX", RESULT_BYTES_MAX as u64),
        ("MCP_ID_BYTES_MAX", MCP_ID_BYTES_MAX as u64),
    ];
    let limits = limits.into_iter().map(|(name, number)| (name.to_owned(), Value::from(number)));
    Value::Object(limits.collect::<Object>())
}
