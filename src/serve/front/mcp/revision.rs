//! Which revision of the protocol a request speaks, and what that revision asks of it.

use super::Headers;
use super::message::{Fault, LEGACY, MODERN, Message, Revision};
use crate::core::base64;
use crate::core::json::Value;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The revision of a request, held to the rules of that revision. A client that disagrees with
/// itself is told so before one whose version is unknown, and that one before anything that
/// another version may have changed.
pub fn of(headers: &Headers, message: &Message) -> Result<Revision, Fault> {
    let meta = match message.params.get("_meta") {
        None | Some(Value::Null) => None,
        Some(Value::Object(meta)) => Some(meta),
        Some(_) => return Err(Fault::invalid_params("_meta must be an object")),
    };
    let declared = meta.and_then(|meta| meta.get(VERSION)).filter(|version| !version.is_null());
    let Some(declared) = declared else {
        // What is spoken is settled by its body; until then no header can be right.
        let begins = message.method == "initialize";
        return if begins { Ok(Revision::Legacy) } else { undeclared(headers) };
    };
    if headers.version.is_none() || headers.version != declared.as_str() {
        return Err(Fault::header_mismatch(
            "MCP-Protocol-Version is not what _meta has as its protocolVersion",
        ));
    }
    if declared != MODERN {
        // The older revisions have no such key: who sends it means something else.
        return Err(Fault::unsupported(declared.as_str().unwrap_or_default()));
    }
    if !meta.and_then(|meta| meta.get(CAPABILITIES)).is_some_and(Value::is_object) {
        let detail = format!("_meta must have {CAPABILITIES}, an object");
        return Err(Fault::invalid_params(&detail));
    }
    if headers.method != Some(&message.method) {
        return Err(Fault::header_mismatch("Mcp-Method is not the method of the body"));
    }
    if message.method == "tools/call"
        && let Some(Value::String(name)) = message.params.get("name")
        && headers.name.and_then(decoded).as_ref() != Some(name)
    {
        return Err(Fault::header_mismatch("Mcp-Name is not the name in params"));
    }
    Ok(Revision::Modern)
}

/// Of a request whose `_meta` names no version. Without the header it is of 2025-03-26, which has
/// none (2025-06-18, "Protocol Version Header").
fn undeclared(headers: &Headers) -> Result<Revision, Fault> {
    spoken(headers)?;
    if by_header(headers) == Revision::Legacy {
        return Ok(Revision::Legacy);
    }
    let detail = format!("_meta must have {VERSION} and {CAPABILITIES}");
    Err(Fault::invalid_params(&detail))
}

/// The revision whose statuses the sender of a message understands, before more is known of it.
pub fn by_header(headers: &Headers) -> Revision {
    if headers.version == Some(MODERN) { Revision::Modern } else { Revision::Legacy }
}

/// Holds the header to the versions that are spoken here.
pub fn spoken(headers: &Headers) -> Result<(), Fault> {
    match headers.version {
        Some(version) if version != MODERN && !LEGACY.contains(&version) => {
            Err(Fault::unsupported(version))
        }
        _ => Ok(()),
    }
}

/// A header's value: as it is, or base64 of it between `=?base64?` and `?=`.
fn decoded(value: &str) -> Option<String> {
    let inside = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    match inside {
        None => Some(value.to_owned()),
        Some(text) => String::from_utf8(base64::decode(text)?).ok(),
    }
}
