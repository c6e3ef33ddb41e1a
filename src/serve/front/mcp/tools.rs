//! `tools/list`: a tool for each action that may be called.

use serde_json::json;

use super::message::{Fault, INVALID_PARAMS};
use crate::core::caller::Who;
use crate::core::json::{Object, Value};
use crate::core::proposal::Policy;
use crate::handlers::{Effect, Handler, embedded, leaves_job, result_schema, schema};
use crate::serve::front::actions::offered;
use crate::serve::front::openapi::read;

/// The schema of what a tool gives, less its action and its result.
const OUTPUT: &str = include_str!("output.json");

/// The tool that every list has, and which proposes nothing.
pub const PROPOSAL: &str = "openexec_proposal";

/// All of them, in the order of the array, in one page; behind them the one that follows a proposal.
pub fn list(params: &Object, who: &Who, policy: &Policy) -> Result<Value, Fault> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(Fault::new(INVALID_PARAMS, "no cursor was ever given"));
    }
    Ok(
        json!({ "tools": offered(policy, who).map(tool).chain([read(include_str!("proposal.json"))]).collect::<Value>() }),
    )
}

fn tool(handler: &'static Handler) -> Value {
    // A second call of an idempotent handler under a new nonce is a second execution, and a client
    // that repeats calls by itself makes no nonce: so this says less than the effect does. A job has its effect elsewhere.
    let is_pure = handler.effect == Effect::Pure && !leaves_job(handler);
    json!({
        "name": handler.action,
        "description": handler.summary,
        "inputSchema": embedded(schema(handler)),
        "outputSchema": output_schema(handler),
        "annotations":
            {"readOnlyHint": is_pure, "idempotentHint": is_pure, "destructiveHint": !is_pure},
    })
}

/// What `structuredContent` is: the body that `POST /execute` answers with, the problem's too (refused,
/// failed or unknown: RFC 9457), since there are clients that hold both to the schema.
fn output_schema(handler: &Handler) -> Value {
    let mut schema = read(OUTPUT);
    let executed = &mut schema["anyOf"][0]["properties"];
    executed["action"]["const"] = handler.action.into();
    executed["result"] = embedded(result_schema(handler));
    schema
}
