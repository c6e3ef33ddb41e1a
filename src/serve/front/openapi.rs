//! `GET /openapi.json`: OpenAPI 3.1 of every route, for the handlers that this service offers.
//!
//! The document is `openapi.json` beside this file, filled here at a few places: the version, the
//! statuses of the codes, and what depends on the handlers. `tests/openapi.rs` holds the rest of it to
//! the program.

use serde_json::json;

use super::actions::offered;
use crate::core::caller::Who;
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::problem::Code;
use crate::core::proposal::Policy;
use crate::handlers::{Handler, embedded, result_schema, schema};
use crate::serve::route::ROUTES;

const BASE: &str = include_str!("openapi.json");

/// The document, canonical.
pub fn document(policy: &Policy, who: &Who) -> String {
    let mut document = read(BASE);
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let schemas = &mut document["components"]["schemas"];
    let sentences = schemas["Code"]["oneOf"].take();
    schemas["Code"]["oneOf"] = Code::ALL.iter().map(|code| described(*code, &sentences)).collect();
    if policy.approvals.is_none() {
        schemas["ApprovalArtifact"] =
            json!({"$ref": "#/components/schemas/Json", "description": "Ignored in demo mode."});
    }
    match policy.callers {
        Some(_) => secure(&mut document),
        None => leave_out_callers(&mut document),
    }
    let schemas = &mut document["components"]["schemas"];
    let mut names = Vec::new();
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for handler in offered(policy, who) {
        names.push(handler.action);
        requests.push(request(&schemas["ExecuteRequest"], handler, policy));
        answers.push(of_action(&schemas["Executed"], handler));
        for (part, schema) in [("payload", schema(handler)), ("result", result_schema(handler))] {
            schemas[format!("{part}.{}", handler.action)] = embedded(schema);
        }
    }
    schemas["ExecuteRequest"] = one_of(requests);
    schemas["Executed"] = one_of(answers);
    names.push(super::mcp::PROPOSAL);
    schemas["ToolName"] = json!({ "enum": names });
    canonical::to_string(&document)
}

pub(super) fn read(text: &str) -> Value {
    strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_or_default()
}

fn described(code: Code, sentences: &Value) -> Value {
    let sentence = sentences[code.name()].as_str().unwrap_or_default();
    json!({"const": code.name(), "description": format!("{}: {sentence}", code.status())})
}

/// A schema of the base in which the action has its name.
fn of_action(base: &Value, handler: &Handler) -> Value {
    read(&canonical::to_string(base).replace("{action}", handler.action))
}

/// Says where a token is needed: everywhere but at the routes that everybody may ask.
fn secure(document: &mut Value) {
    document["components"]["securitySchemes"]["token"] =
        json!({"type": "http", "scheme": "bearer"});
    document["security"] = json!([{"token": []}]);
    for row in ROUTES.iter().filter(|row| row.needs.is_none()) {
        document["paths"][row.path][row.method.to_ascii_lowercase()]["security"] = json!([]);
    }
}

/// What is there only where it is asked who calls is not in the document otherwise.
fn leave_out_callers(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for row in ROUTES.iter().filter(|row| row.is_of_callers) {
        if let Some(methods) = paths.get_mut(row.path).and_then(Value::as_object_mut) {
            methods.remove(&row.method.to_ascii_lowercase());
        }
    }
    paths.retain(|_, methods| methods.as_object().is_some_and(|methods| !methods.is_empty()));
}

/// A payload is required, or may be null where `{}` is one: the last of either list goes.
fn request(base: &Value, handler: &Handler, policy: &Policy) -> Value {
    let mut request = of_action(base, handler);
    request["description"] = handler.summary.into();
    let list = match policy.admit(&None, handler.action, &json!({})) {
        Ok(_) => &mut request["required"],
        Err(_) => &mut request["properties"]["payload"]["anyOf"],
    };
    list.as_array_mut().and_then(Vec::pop);
    request
}

/// Where nothing is offered, nothing fits.
fn one_of(schemas: Vec<Value>) -> Value {
    if schemas.is_empty() { Value::Bool(false) } else { json!({ "oneOf": schemas }) }
}
