//! `POST /mcp`: the Model Context Protocol over Streamable HTTP, one JSON answer a request.
//!
//! Revision 2026-07-28, in which every request says by itself what it needs, and, for clients that
//! begin with `initialize`, 2025-11-25, 2025-06-18 and 2025-03-26. Nothing is remembered from one request to the next. No
//! event streams: there is nothing that this server has to say by itself, and the list of tools
//! changes only with the process. `Accept` is not looked at: there is one form of answer.
//!
//! Invariant: `tools/call` is `POST /execute` in an envelope. It becomes the same [`Proposal`], made
//! by the same function; the executor decides it without knowing where it came from; and what it
//! answered is inside the result, byte for byte.

mod call;
mod envelope;
mod message;
mod revision;
mod tools;

pub use tools::PROPOSAL;

use std::sync::Arc;

use serde_json::json;

use super::Next;
use envelope::Envelope;
use message::{
    Asker, Fault, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, PARSE_ERROR,
};
use revision::{LEGACY, REVISIONS, Revision};

use crate::core::caller::Who;
use crate::core::json::strict::{self, JsonError};
use crate::core::json::{Object, Value, canonical};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::proposal::Policy;
use crate::serve::front::request::{json_problem, shown};
use crate::sys::answer::Answer;

/// The message's `arguments` stand one container deeper than the payload of `POST /execute`: so
/// that both take the same payloads.
const DEPTH_MAX: usize = JSON_DEPTH_MAX + 1;

/// The headers by their names: they repeat what the body says, for what stands in between.
pub type Headers<'a> = &'a dyn Fn(&'static str) -> Option<&'a str>;

/// For how long a client may keep a list: it changes only when the service is started anew.
const LIST_TTL_MS: u32 = 60_000;

const NOTIFICATIONS: &str = "notifications/";

const INSTRUCTIONS: &str = "Each tool call is one proposal: it is executed if it is allowed and \
    approved, exactly as proposed, at most once. Give _meta[\"openexec/nonce\"] a value made once \
    for each thing to be done, and repeat it with every retry: the retry then gets the first \
    answer and runs nothing. Without it every call is a new proposal. A refusal says why in `code` \
    and `detail`. A call that lacks approvals is pending: it executes by itself once people have \
    approved it. Do not repeat it; the tool openexec_proposal says by its id what became of it.";

/// Reads one message, and makes of it what is to be done next.
///
/// # Errors
/// The answer to one that goes no further.
pub fn take(
    headers: Headers,
    body: &[u8],
    who: &Who,
    policy: &Arc<Policy>,
) -> Result<Next, Answer> {
    let read = strict::read(body, DEPTH_MAX).map_err(|error| unread(headers, body, &error))?;
    let by_header = revision::by_header(headers);
    let message = message::of(read).map_err(|fault| fault.answer(by_header))?;
    let id = message.id.clone().ok_or_else(|| notification(headers, &message.method))?;
    let revision =
        revision::of(headers, &message).map_err(|fault| fault.to(Some(&id)).answer(by_header))?;
    let asker = Asker { id, revision };
    request(headers, &asker, message, who, policy)
        .map_err(|fault| fault.to(Some(&asker.id)).answer(revision))
}

/// What the strict reader refused was no attempt. Its sender is told so in the form that it waits
/// for, a call in a result that the model reads, wherever the envelope says which that is.
fn unread(headers: Headers, body: &[u8], error: &JsonError) -> Answer {
    let revision = revision::by_header(headers);
    let Envelope { id, method } = envelope::read(body).unwrap_or_default();
    match (id, method.as_deref()) {
        (Some(id), Some("tools/call")) => {
            call::result(&Asker { id, revision }, None, &json_problem(error).into(), None)
        }
        (None, Some(method)) if method.starts_with(NOTIFICATIONS) => notification(headers, method),
        (id, _) => {
            let data = json!({"code": error.code.name(), "offset": error.offset});
            let fault = Fault::new(PARSE_ERROR, error.to_string()).with(data);
            fault.to(id.as_deref()).answer(revision)
        }
    }
}

/// There is none that this server acts on. What is no notification but has no id is refused: its
/// sender would take the 202 for an execution.
fn notification(headers: Headers, method: &str) -> Answer {
    let needs_id = || Fault::new(INVALID_REQUEST, "a request needs an id");
    let taken = revision::spoken(headers)
        .and_then(|()| method.starts_with(NOTIFICATIONS).then_some(()).ok_or_else(needs_id));
    match taken {
        Ok(()) => Answer { status: 202, ..Answer::json(String::new()) },
        Err(fault) => fault.answer(revision::by_header(headers)),
    }
}

fn request(
    headers: Headers,
    asker: &Asker,
    message: Message,
    who: &Who,
    policy: &Arc<Policy>,
) -> Result<Next, Fault> {
    let mut result = match (asker.revision, message.method.as_str()) {
        (_, "tools/call") => return call::read(headers, asker, message.params, who, policy),
        (_, "tools/list") => tools::list(&message.params, who, policy)?,
        (Revision::Modern, "server/discover") => json!({
            "capabilities": {"tools": {}},
            "instructions": INSTRUCTIONS,
            "supportedVersions": REVISIONS,
        }),
        (Revision::Legacy, "initialize") => initialization(&message.params)?,
        (Revision::Legacy, "ping") => json!({}),
        (_, other) => return Err(Fault::new(METHOD_NOT_FOUND, shown(other))),
    };
    if asker.revision == Revision::Modern {
        result["_meta"] = served_by();
        result["resultType"] = "complete".into();
        // Without callers it is the same for whoever asks.
        result["cacheScope"] = if who.is_some() { "private" } else { "public" }.into();
        result["ttlMs"] = LIST_TTL_MS.into();
    }
    Ok(Next::Answer(message::result(&asker.id, &canonical::to_string(&result))))
}

/// The version that is answered is the one asked for, or else the newest that begins like this: a
/// client that cannot speak it goes away (2025-11-25, lifecycle).
fn initialization(params: &Object) -> Result<Value, Fault> {
    let Some(asked) = params.get("protocolVersion").and_then(Value::as_str) else {
        return Err(Fault::new(INVALID_PARAMS, "protocolVersion must be a string"));
    };
    let version = *LEGACY.iter().find(|version| **version == asked).unwrap_or(&LEGACY[0]);
    Ok(json!({
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "protocolVersion": version,
        "serverInfo": server(),
    }))
}

/// The `_meta` of a result.
fn served_by() -> Value {
    json!({"io.modelcontextprotocol/serverInfo": server()})
}

fn server() -> Value {
    json!({"name": "openexec", "title": "OpenExec", "version": env!("CARGO_PKG_VERSION")})
}
