//! `tools/list`: a tool for each action that may be called.

use super::message::{Fault, Revision};
use super::{LIST_TTL_MS, SERVER};
use crate::core::json::{Object, Value, canonical};
use crate::core::proposal::Policy;
use crate::handlers::{Effect, Handler, embedded, result_schema};
use crate::serve::front::actions::{object_schema, offered};

/// All of them, in the order of the array, in one page.
pub fn list(revision: Revision, params: &Object, policy: &Policy) -> Result<String, Fault> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(Fault::invalid_params("no cursor was ever given"));
    }
    let tools: Vec<String> = offered(policy).map(tool).collect();
    let tools = tools.join(",");
    Ok(match revision {
        // It is the same for whoever asks.
        Revision::Modern => format!(
            "{{\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{SERVER}}},\"cacheScope\":\"public\",\
             \"resultType\":\"complete\",\"tools\":[{tools}],\"ttlMs\":{LIST_TTL_MS}}}"
        ),
        Revision::Legacy => format!("{{\"tools\":[{tools}]}}"),
    })
}

/// Canonical text. (Text throughout: a tree of values, built here, would take ten times the code.)
fn tool(handler: &'static Handler) -> String {
    // A second call of an idempotent handler under a new nonce is a second execution, and a client
    // that repeats calls by itself makes no nonce: so this says less than the effect does.
    let is_pure = handler.effect == Effect::Pure;
    let mut tool = format!(
        "{{\"annotations\":{{\"destructiveHint\":{},\"idempotentHint\":{is_pure},\
         \"readOnlyHint\":{is_pure}}},\"description\":",
        !is_pure
    );
    canonical::write_string(handler.summary, &mut tool);
    tool.push_str(",\"inputSchema\":");
    canonical::write(&Value::Object(object_schema(handler)), &mut tool);
    tool.push_str(&format!(",\"name\":\"{}\",\"outputSchema\":", handler.action));
    output_schema(handler, &mut tool);
    tool.push('}');
    tool
}

/// What `structuredContent` is: the body that `POST /execute` answers with, the problem's too, since
/// there are clients that hold both to the schema.
fn output_schema(handler: &Handler, out: &mut String) {
    const HASH: &str = r#"{"pattern":"^[0-9a-f]{64}$","type":"string"}"#;
    let result =
        embedded(result_schema(handler).unwrap_or_default(), "#/anyOf/0/properties/result");
    out.push_str(&format!(
        "{{\"anyOf\":[{{\"additionalProperties\":false,\"properties\":{{\
         \"action\":{{\"const\":\"{}\"}},\"approved\":{{\"const\":true}},\"id\":{HASH},\
         \"outcome\":{{\"const\":\"executed\"}},\"receipt\":{HASH},\"result\":{}}},\
         \"required\":[\"action\",\"approved\",\"id\",\"outcome\",\"receipt\",\"result\"],\
         \"title\":\"Executed\"}},{PROBLEM}],\"type\":\"object\"}}",
        handler.action,
        canonical::to_string(&result)
    ));
}

/// Refused, failed or unknown: RFC 9457.
const PROBLEM: &str = r#"{"properties":{"approved":{"const":false},"code":{"type":"string"},"detail":{"type":"string"},"status":{"maximum":599,"minimum":400,"type":"integer"},"title":{"type":"string"},"type":{"const":"about:blank"}},"required":["code","detail","status","title","type"],"title":"Problem"}"#;
