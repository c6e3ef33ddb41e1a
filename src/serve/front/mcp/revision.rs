//! Which revision of the protocol a request speaks, and what that revision asks of it.

use serde_json::json;

use super::Headers;
use super::message::{Fault, HEADER_MISMATCH, INVALID_PARAMS, Message, UNSUPPORTED_VERSION};
use crate::core::base64;
use crate::core::json::Value;
use crate::serve::front::request::shown;

/// Newest first.
pub const REVISIONS: [&str; 4] = [MODERN, "2025-11-25", "2025-06-18", "2025-03-26"];
pub const LEGACY: &[&str] = REVISIONS.split_at(1).1;
const MODERN: &str = "2026-07-28";

const PROTOCOL_VERSION: &str = "MCP-Protocol-Version";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// [`MODERN`]: every request carries its version and the client's capabilities.
    Modern,
    /// One of [`LEGACY`]: begins with `initialize`, of which nothing is kept here. They differ in
    /// nothing that this server says; the batches of the oldest are not taken.
    Legacy,
}

/// The revision of a request, held to the rules of that revision. A client that disagrees with
/// itself is told so before one whose version is unknown, and that one before anything that
/// another version may have changed.
pub fn of(headers: Headers, message: &Message) -> Result<Revision, Fault> {
    let mismatch = |detail| Err(Fault::new(HEADER_MISMATCH, detail));
    let incomplete =
        || Err(Fault::new(INVALID_PARAMS, format!("_meta must have {VERSION} and {CAPABILITIES}")));
    let meta = message.params.get("_meta").unwrap_or(&Value::Null);
    if !(meta.is_object() || meta.is_null()) {
        return Err(Fault::new(INVALID_PARAMS, "_meta must be an object"));
    }
    let Some(declared) = meta.get(VERSION).filter(|version| !version.is_null()) else {
        // What is spoken is settled by its body; until then no header can be right.
        if message.method == "initialize" {
            return Ok(Revision::Legacy);
        }
        // Without the header it is of 2025-03-26, which has none (2025-06-18, "Protocol Version
        // Header").
        spoken(headers)?;
        let revision = by_header(headers);
        return if revision == Revision::Legacy { Ok(revision) } else { incomplete() };
    };
    let version = headers(PROTOCOL_VERSION);
    if version.is_none() || version != declared.as_str() {
        return mismatch("MCP-Protocol-Version is not what _meta has as its protocolVersion");
    }
    if declared != MODERN {
        // The older revisions have no such key: who sends it means something else.
        return Err(unsupported(declared.as_str().unwrap_or_default()));
    }
    if !meta.get(CAPABILITIES).is_some_and(Value::is_object) {
        return incomplete();
    }
    if headers("Mcp-Method") != Some(&message.method) {
        return mismatch("Mcp-Method is not the method of the body");
    }
    if message.method == "tools/call"
        && let Some(Value::String(name)) = message.params.get("name")
        && headers("Mcp-Name").and_then(decoded).as_ref() != Some(name)
    {
        return mismatch("Mcp-Name is not the name in params");
    }
    Ok(Revision::Modern)
}

/// The revision whose statuses the sender of a message understands, before more is known of it.
pub fn by_header(headers: Headers) -> Revision {
    if headers(PROTOCOL_VERSION) == Some(MODERN) { Revision::Modern } else { Revision::Legacy }
}

/// Holds the header to the versions that are spoken here.
pub fn spoken(headers: Headers) -> Result<(), Fault> {
    match headers(PROTOCOL_VERSION) {
        Some(version) if !REVISIONS.contains(&version) => Err(unsupported(version)),
        _ => Ok(()),
    }
}

fn unsupported(requested: &str) -> Fault {
    let requested = shown(requested);
    let data = json!({"requested": requested, "supported": REVISIONS});
    Fault::new(UNSUPPORTED_VERSION, requested).with(data)
}

/// A header's value: as it is, or base64 of it between `=?base64?` and `?=`.
fn decoded(value: &str) -> Option<String> {
    let inside = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    match inside {
        None => Some(value.to_owned()),
        Some(text) => String::from_utf8(base64::decode(text)?).ok(),
    }
}
