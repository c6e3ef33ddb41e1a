//! `GET /actions`: the registered handlers, and whether each may be called; and the same as the
//! `tools` array of function calling.

use crate::executor::proposal::Policy;
use crate::handlers::{Handler, schema};
use crate::http::Answer;
use crate::http::problem::Problem;
use crate::json::{Object, Value, canonical};

/// The list that the query asks for.
///
/// # Errors
/// 422: the query asks for a format that there is none of.
pub fn answer(policy: &Policy, target: &str) -> Result<Answer, Problem> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut formats = query.split('&').filter_map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name == "format").then_some(value)
    });
    match (formats.next(), formats.next()) {
        (None, _) => Ok(list(policy)),
        (Some("openai"), None) => Ok(tools(policy)),
        _ => Err(Problem::new(422, "invalid_request", "format can only be openai, once")),
    }
}

/// All of them, in the order of the array; `reason` is null where `allowed`.
fn list(policy: &Policy) -> Answer {
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

/// What may be called, as chat-completions APIs take it. A function's name has no dot: an action
/// that has one cannot be called this way, and another name for it would be one that nobody
/// registered, allowed or approved.
fn tools(policy: &Policy) -> Answer {
    let of_function = |handler: &Handler| {
        let mut tool = String::from("{\"function\":{\"description\":");
        canonical::write_string(handler.summary, &mut tool);
        tool.push_str(&format!(",\"name\":\"{}\",\"parameters\":", handler.action));
        canonical::write(&Value::Object(object_schema(handler)), &mut tool);
        tool.push_str("},\"type\":\"function\"}");
        tool
    };
    let callable = offered(policy).filter(|handler| !handler.action.contains('.'));
    let tools: Vec<String> = callable.map(of_function).collect();
    Answer::json(format!("[{}]", tools.join(",")))
}

/// The handlers that may be called, in the order of the array.
pub fn offered(policy: &Policy) -> impl Iterator<Item = &'static Handler> {
    policy.handlers.iter().filter(|handler| policy.handler(handler.action).is_ok())
}

/// The schema of a handler's payload, which is an object whether or not the schema says so; clients
/// want it said.
pub fn object_schema(handler: &Handler) -> Object {
    let mut object = match schema(handler) {
        Some(Value::Object(object)) => object,
        _ => Object::new(),
    };
    object.insert("type".to_owned(), "object".into());
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::{Effect, Settings, always};

    const HANDLER: Handler = Handler {
        action: "plain",
        summary: "\"For\" tests.",
        effect: Effect::Pure,
        payload_schema: "{}",
        result_schema: "{}",
        result_bytes_max: 1,
        offered: always,
        check: |_, _| Ok(()),
        run: |_, _| Ok(Object::new()),
    };

    static HANDLERS: &[Handler] = &[
        HANDLER,
        Handler { action: "with.dot", ..HANDLER },
        Handler { action: "not_offered", offered: |_| Err("why"), ..HANDLER },
        Handler { action: "not_allowed", ..HANDLER },
    ];

    #[test]
    fn a_function_has_a_name_that_is_one() {
        let policy = Policy {
            handlers: HANDLERS,
            settings: Settings::default(),
            allowed_actions: Some(vec!["plain".into(), "with.dot".into(), "not_offered".into()]),
            approvals: None,
        };
        let tools = answer(&policy, "/actions?a&format=openai").map(|answer| answer.body);
        assert_eq!(
            tools.as_deref(),
            Ok("[{\"function\":{\"description\":\"\\\"For\\\" tests.\",\"name\":\"plain\",\
                \"parameters\":{\"type\":\"object\"}},\"type\":\"function\"}]")
        );
        let names: Vec<&str> = offered(&policy).map(|handler| handler.action).collect();
        assert_eq!(names, ["plain", "with.dot"]);
        for bad in ["?format", "?format=", "?format=openAI", "?x=1&format=openai&format=openai"] {
            let refused = answer(&policy, bad).map_err(|problem| (problem.status, problem.code));
            assert_eq!(refused, Err((422, "invalid_request")), "{bad}");
        }
    }
}
