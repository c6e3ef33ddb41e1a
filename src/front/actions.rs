//! `GET /actions`: the registered handlers, and whether each may be called.

use crate::executor::proposal::Policy;
use crate::handlers::{Handler, schema};
use crate::http::Answer;
use crate::json::{Value, canonical};

/// All of them, in the order of the array; `reason` is null where `allowed`.
pub fn list(policy: &Policy) -> Answer {
    let actions: Vec<Value> =
        policy.handlers.iter().map(|handler| describe(handler, policy)).collect();
    Answer::json(canonical::to_string(&serde_json::json!({ "actions": actions })))
}

fn describe(handler: &Handler, policy: &Policy) -> Value {
    let refused = policy.handler(handler.action).err();
    serde_json::json!({
        "action": handler.action,
        "summary": handler.summary,
        "effect": handler.effect.name(),
        "allowed": refused.is_none(),
        "reason": refused.map(|problem| problem.detail),
        "payload_schema": schema(handler).unwrap_or(Value::Null),
    })
}
