//! `GET /actions`: the registered handlers, and whether each may be called; and the same as the
//! `tools` array of OpenAI's and Anthropic's APIs.

use serde_json::json;

use crate::core::caller::Who;
use crate::core::json::{Value, canonical};
use crate::core::problem::{Code, Problem};
use crate::core::proposal::Policy;
use crate::handlers::{Handler, embedded, schema};
use crate::sys::answer::Answer;

/// The list that the query asks for.
///
/// # Errors
/// 422: the query asks for a format that there is none of.
pub fn answer(policy: &Policy, who: &Who, target: &str) -> Result<Answer, Problem> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut formats = query.split('&').filter_map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name == "format").then_some(value)
    });
    let tool: Tool = match (formats.next(), formats.next()) {
        (None, _) => return Ok(list(policy, who)),
        (Some("openai"), None) => |name, description, parameters| {
            json!({"type": "function", "function": {"name": name, "description": description,
                   "parameters": parameters, "strict": false}})
        },
        (Some("openai-responses"), None) => |name, description, parameters| {
            json!({"type": "function", "name": name, "description": description,
                   "parameters": parameters, "strict": false})
        },
        (Some("anthropic"), None) => |name, description, parameters| {
            json!({"name": name, "description": description,
                   "input_schema": parameters})
        },
        _ => {
            let detail = "format can only be openai, openai-responses or anthropic, once";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    };
    Ok(tools(policy, who, tool))
}

/// All of them, in the order of the array; `reason` is null where `allowed`.
fn list(policy: &Policy, who: &Who) -> Answer {
    let actions: Vec<Value> = known(policy, who).map(|handler| describe(handler, policy)).collect();
    Answer::json(canonical::to_string(&json!({ "actions": actions })))
}

fn describe(handler: &Handler, policy: &Policy) -> Value {
    let refused = policy.handler(handler.action).err();
    json!({
        "action": handler.action,
        "summary": handler.summary,
        "effect": handler.effect.name(),
        "allowed": refused.is_none(),
        "reason": refused.map(|problem| problem.detail),
        "payload_schema": schema(handler).unwrap_or(Value::Null),
    })
}

/// Makes a tool, as a model's provider has it, of name, description and schema.
type Tool = fn(&str, &str, Value) -> Value;

/// What may be called, each as `tool` makes it. A function's name has
/// no dot: an action that has one cannot be called this way, and another name for it would be one that
/// nobody registered, allowed or approved.
///
/// `strict` is false, and said where a provider would take its absence for true. It would make the
/// model name every optional field, and takes a part of JSON Schema that differs from one provider to
/// the next; what a payload must be is for the handler's own check to say. Anthropic's default is
/// false, and relays of its API refuse the member.
fn tools(policy: &Policy, who: &Who, tool: Tool) -> Answer {
    let callable = offered(policy, who).filter(|handler| !handler.action.contains('.'));
    let tools =
        callable.map(|handler| tool(handler.action, handler.summary, embedded(schema(handler))));
    Answer::json(canonical::to_string(&tools.collect()))
}

/// The handlers that may be called, in the order of the array.
pub fn offered(policy: &Policy, who: &Who) -> impl Iterator<Item = &'static Handler> {
    known(policy, who).filter(|handler| policy.handler(handler.action).is_ok())
}

/// To a caller that is limited to some actions there are no others.
fn known(policy: &Policy, who: &Who) -> impl Iterator<Item = &'static Handler> {
    let knows = |action| who.as_ref().is_none_or(|caller| caller.knows(action));
    policy.handlers.iter().filter(move |handler| knows(handler.action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::Object;
    use crate::handlers::{Effect, Settings, always, needs_nothing, nowhere};

    const HANDLER: Handler = Handler {
        action: "plain",
        summary: "\"For\" tests.",
        effect: Effect::Pure,
        payload_schema: r#"{"$schema":"x","type":"object","properties":{}}"#,
        result_schema: "{}",
        result_bytes_max: 1,
        offered: always,
        ready: needs_nothing,
        check: &|_, _| Ok(()),
        place: nowhere,
        run: &|_, _| Ok(Object::new()),
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
            actions_file: None,
            allowed_actions: Some(vec!["plain".into(), "with.dot".into(), "not_offered".into()]),
            callers: None,
            approvals: None,
        };
        let parameters = "{\"properties\":{},\"type\":\"object\"}";
        let common = "\"description\":\"\\\"For\\\" tests.\"";
        let function =
            format!("{common},\"name\":\"plain\",\"parameters\":{parameters},\"strict\":false");
        for (format, expected) in [
            ("openai", format!("[{{\"function\":{{{function}}},\"type\":\"function\"}}]")),
            ("openai-responses", format!("[{{{function},\"type\":\"function\"}}]")),
            (
                "anthropic",
                format!("[{{{common},\"input_schema\":{parameters},\"name\":\"plain\"}}]"),
            ),
        ] {
            let tools = answer(&policy, &None, &format!("/actions?a&format={format}"));
            assert_eq!(tools.map(|answer| answer.body), Ok(expected));
        }
        let names: Vec<&str> = offered(&policy, &None).map(|handler| handler.action).collect();
        assert_eq!(names, ["plain", "with.dot"]);
        for bad in [
            "?format",
            "?format=",
            "?format=openAI",
            "?format=openai_responses",
            "?format=gemini",
            "?x=1&format=openai&format=anthropic",
        ] {
            let refused = answer(&policy, &None, bad).map_err(|problem| problem.code);
            assert_eq!(refused, Err(Code::InvalidRequest), "{bad}");
        }
    }
}
