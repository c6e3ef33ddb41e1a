//! `POST /mcp`: the Model Context Protocol over Streamable HTTP, one JSON answer a request.
//!
//! Revision 2026-07-28, in which every request says by itself what it needs, and, for clients that
//! begin with `initialize`, 2025-11-25. Nothing is remembered from one request to the next. No
//! event streams: there is nothing that this server has to say by itself, and the list of tools
//! changes only with the process. `Accept` is not looked at: there is one form of answer.
//!
//! Invariant: `tools/call` is `POST /execute` in an envelope. It becomes the same [`Proposal`], made
//! by the same function; the executor decides it without knowing where it came from; and what it
//! answered is inside the result, byte for byte.

mod call;
mod message;
mod revision;
mod tools;

pub use call::Call;

use message::{Fault, LEGACY, MODERN, Message, Revision};

use crate::executor::proposal::{Policy, Proposal};
use crate::http::Answer;
use crate::json::{Object, Value, canonical};

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
        Err((id, fault)) => return Next::Answer(fault.answer(id.as_deref())),
    };
    let Some(id) = message.id.clone() else {
        return Next::Answer(match notification(headers, &message) {
            Ok(()) => Answer { status: 202, ..Answer::json(String::new()) },
            Err(fault) => fault.answer(None),
        });
    };
    match request(headers, message, policy) {
        Ok(next) => next,
        Err(fault) => Next::Answer(fault.answer(Some(&id))),
    }
}

/// There is none that this server acts on. What is no notification but has no id is refused: its
/// sender would take the 202 for an execution.
fn notification(headers: &Headers, message: &Message) -> Result<(), Fault> {
    if let Some(version) = headers.version
        && ![MODERN, LEGACY].contains(&version)
    {
        return Err(Fault::unsupported(version));
    }
    if !message.method.starts_with("notifications/") {
        return Err(Fault::invalid_request("a request needs an id"));
    }
    Ok(())
}

fn request(headers: &Headers, message: Message, policy: &Policy) -> Result<Next, Fault> {
    let revision = revision::of(headers, &message)?;
    let id = message.id.clone().unwrap_or_default();
    let result = match (revision, message.method.as_str()) {
        (_, "tools/call") => return call::read(id, revision, message.params, policy),
        (_, "tools/list") => tools::list(revision, &message.params, policy)?,
        (Revision::Modern, "server/discover") => discovery(),
        (Revision::Legacy, "initialize") => initialization(&message.params)?,
        (Revision::Legacy, "ping") => "{}".to_owned(),
        _ => return Err(Fault::unknown_method(revision, &message.method)),
    };
    Ok(Next::Answer(message::result(&id, &result)))
}

fn discovery() -> String {
    format!(
        "{{\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{SERVER}}},\"cacheScope\":\"public\",\
         \"capabilities\":{{\"tools\":{{}}}},\"instructions\":{},\"resultType\":\"complete\",\
         \"supportedVersions\":[\"{MODERN}\",\"{LEGACY}\"],\"ttlMs\":{LIST_TTL_MS}}}",
        instructions()
    )
}

/// The version that is answered is the one spoken here, whatever was asked for: who cannot speak it
/// goes away (2025-11-25, lifecycle).
fn initialization(params: &Object) -> Result<String, Fault> {
    if !params.get("protocolVersion").is_some_and(Value::is_string) {
        return Err(Fault::invalid_params(Revision::Legacy, "protocolVersion must be a string"));
    }
    Ok(format!(
        "{{\"capabilities\":{{\"tools\":{{}}}},\"instructions\":{},\"protocolVersion\":\"{LEGACY}\",\
         \"serverInfo\":{SERVER}}}",
        instructions()
    ))
}

fn instructions() -> String {
    let mut text = String::new();
    canonical::write_string(INSTRUCTIONS, &mut text);
    text
}
