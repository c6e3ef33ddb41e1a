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

pub use call::Call;

use envelope::Envelope;
use message::{Fault, LEGACY, MODERN, Message, Refused, Revision};

use crate::core::answer::Answer;
use crate::core::json::strict::JsonError;
use crate::core::json::{Object, Value, canonical};
use crate::core::proposal::{Policy, Proposal};
use crate::serve::front::request::json_problem;

/// The headers that repeat what the body says, for what stands in between.
pub struct Headers<'a> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'a str>,
    /// `Mcp-Method`
    pub method: Option<&'a str>,
    /// `Mcp-Name`
    pub name: Option<&'a str>,
}

/// What to do with a message.
pub enum Next {
    Answer(Answer),
    /// Have the proposal decided, and answer what [`Call::answer`] makes of that.
    Call(Box<Call>, Box<Proposal>),
}

/// For how long a client may keep a list: it changes only when the service is started anew.
const LIST_TTL_MS: u32 = 60_000;

const SERVER: &str = concat!(
    r#"{"name":"openexec","title":"OpenExec","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

const INSTRUCTIONS: &str = "Each tool call is one proposal: it is executed if it is allowed and \
    approved, exactly as proposed, at most once. Give _meta[\"openexec/nonce\"] a value made once \
    for each thing to be done, and repeat it with every retry: the retry then gets the first \
    answer and runs nothing. Without it every call is a new proposal. A refusal says why in `code` \
    and `detail`. After approval_missing a person has to sign its action_hash: wait, then repeat \
    the same call with the same nonce.";

/// Reads one message, and answers it or makes a proposal of it.
pub fn take(headers: &Headers, body: &[u8], policy: &Policy) -> Next {
    let message = match message::read(body) {
        Ok(message) => message,
        Err(Refused::Json(error)) => return Next::Answer(unread(headers, body, &error)),
        Err(Refused::Message(id, fault)) => {
            return Next::Answer(fault.answer(id.as_deref(), revision::by_header(headers)));
        }
    };
    let Some(id) = message.id.clone() else {
        return Next::Answer(notification(headers, &message.method));
    };
    let (revision, taken) = match revision::of(headers, &message) {
        Ok(revision) => (revision, request(revision, id.clone(), message, policy)),
        Err(fault) => (revision::by_header(headers), Err(fault)),
    };
    taken.unwrap_or_else(|fault| Next::Answer(fault.answer(Some(&id), revision)))
}

/// What the strict reader refused was no attempt. Its sender is told so in the form that it waits
/// for, a call in a result that the model reads, wherever the envelope says which that is.
fn unread(headers: &Headers, body: &[u8], error: &JsonError) -> Answer {
    let revision = revision::by_header(headers);
    let Envelope { id, method } = envelope::read(body).unwrap_or_default();
    match (id, method.as_deref()) {
        (Some(id), Some("tools/call")) => {
            call::result(&id, revision, None, &json_problem(error).into())
        }
        (None, Some(method)) if is_notification(method) => notification(headers, method),
        (id, _) => Fault::parse_error(error).answer(id.as_deref(), revision),
    }
}

/// There is none that this server acts on. What is no notification but has no id is refused: its
/// sender would take the 202 for an execution.
fn notification(headers: &Headers, method: &str) -> Answer {
    let taken = match revision::spoken(headers) {
        Ok(()) if !is_notification(method) => Err(Fault::invalid_request("a request needs an id")),
        spoken => spoken,
    };
    match taken {
        Ok(()) => Answer { status: 202, ..Answer::json(String::new()) },
        Err(fault) => fault.answer(None, revision::by_header(headers)),
    }
}

fn is_notification(method: &str) -> bool {
    method.starts_with("notifications/")
}

fn request(
    revision: Revision,
    id: String,
    message: Message,
    policy: &Policy,
) -> Result<Next, Fault> {
    let result = match (revision, message.method.as_str()) {
        (_, "tools/call") => return call::read(id, revision, message.params, policy),
        (_, "tools/list") => tools::list(revision, &message.params, policy)?,
        (Revision::Modern, "server/discover") => discovery(),
        (Revision::Legacy, "initialize") => initialization(&message.params)?,
        (Revision::Legacy, "ping") => "{}".to_owned(),
        _ => return Err(Fault::unknown_method(&message.method)),
    };
    Ok(Next::Answer(message::result(&id, &result)))
}

fn discovery() -> String {
    format!(
        "{{\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{SERVER}}},\"cacheScope\":\"public\",\
         \"capabilities\":{{\"tools\":{{}}}},\"instructions\":{},\"resultType\":\"complete\",\
         \"supportedVersions\":[\"{MODERN}\",\"{}\"],\"ttlMs\":{LIST_TTL_MS}}}",
        instructions(),
        LEGACY.join("\",\"")
    )
}

/// The version that is answered is the one asked for, or else the newest that begins like this: a
/// client that cannot speak it goes away (2025-11-25, lifecycle).
fn initialization(params: &Object) -> Result<String, Fault> {
    let Some(asked) = params.get("protocolVersion").and_then(Value::as_str) else {
        return Err(Fault::invalid_params("protocolVersion must be a string"));
    };
    let version = LEGACY.into_iter().find(|version| *version == asked).unwrap_or(LEGACY[0]);
    Ok(format!(
        "{{\"capabilities\":{{\"tools\":{{}}}},\"instructions\":{},\"protocolVersion\":\"{version}\",\
         \"serverInfo\":{SERVER}}}",
        instructions()
    ))
}

fn instructions() -> String {
    let mut text = String::new();
    canonical::write_string(INSTRUCTIONS, &mut text);
    text
}
