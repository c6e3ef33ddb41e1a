//! JSON-RPC 2.0 messages as MCP has them: one a body, no batches, no `id` of null.

use serde_json::json;

use super::revision::Revision;
use crate::core::json::{Object, Value, canonical};
use crate::sys::answer::Answer;
use crate::sys::limits::MCP_ID_BYTES_MAX;

/// A request, or without an id a notification.
pub struct Message {
    /// Canonical text.
    pub id: Option<String>,
    pub method: String,
    pub params: Object,
}

/// Whom an answer goes to.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Of the request, canonical text.
    pub id: String,
    pub revision: Revision,
}

/// A kind of JSON-RPC error: the HTTP status, the code, and how the message begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u16, i32, &'static str);

pub const PARSE_ERROR: Kind = Kind(400, -32700, "Parse error");
pub const INVALID_REQUEST: Kind = Kind(400, -32600, "Invalid request");
pub const METHOD_NOT_FOUND: Kind = Kind(404, -32601, "Method not found");
pub const INVALID_PARAMS: Kind = Kind(400, -32602, "Invalid params");
pub const UNKNOWN_TOOL: Kind = Kind(400, -32602, "Unknown tool");
pub const INTERNAL_ERROR: Kind = Kind(500, -32603, "Internal error");
pub const HEADER_MISMATCH: Kind = Kind(400, -32020, "Header mismatch");
pub const UNSUPPORTED_VERSION: Kind = Kind(400, -32022, "Unsupported protocol version");

/// A JSON-RPC error.
#[derive(Debug)]
pub struct Fault {
    /// Of the request, where it is known; there is no id of null in MCP.
    id: Option<String>,
    kind: Kind,
    detail: String,
    data: Option<Value>,
}

/// The message that a body holds.
///
/// # Errors
/// It is none; with its id, if it has one that can be read (JSON-RPC 2.0, section 5).
pub fn of(body: Value) -> Result<Message, Fault> {
    let invalid = |detail: &str| Fault::new(INVALID_REQUEST, detail);
    let mut message = match body {
        Value::Object(message) => message,
        Value::Array(_) => return Err(invalid("batches are not taken")),
        _ => return Err(invalid("the body must be a JSON object")),
    };
    // An optional member of null is none, here and below.
    message.retain(|_, value| !value.is_null());
    let id = message.get("id").map(id).transpose()?;
    // A response's id is one of ours, of which there are none: a request of that number is not answered.
    let answers = message.contains_key("result") || message.contains_key("error");
    if answers && !message.contains_key("method") {
        return Err(invalid("responses are not taken"));
    }
    let invalid = |detail| Err(invalid(detail).to(id.as_deref()));
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid("jsonrpc must be \"2.0\"");
    }
    let Some(Value::String(method)) = message.remove("method") else {
        return invalid("method must be a string");
    };
    let params = match message.remove("params") {
        None => Object::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return invalid("params must be an object"),
    };
    Ok(Message { id, method, params })
}

/// A string or an integer, short enough to be repeated.
pub fn id(id: &Value) -> Result<String, Fault> {
    let is_integer = id.as_f64().is_some_and(|number| number.fract() == 0.0);
    let text = canonical::to_string(id);
    if !(id.is_string() || is_integer) || text.len() > MCP_ID_BYTES_MAX {
        let detail =
            format!("id must be a string or an integer of {MCP_ID_BYTES_MAX} bytes at most");
        return Err(Fault::new(INVALID_REQUEST, detail));
    }
    Ok(text)
}

/// The answer to a request; `result` is canonical text.
pub fn result(id: &str, result: &str) -> Answer {
    Answer::json(format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":{result}}}"))
}

impl Fault {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Fault { id: None, kind, detail: detail.into(), data: None }
    }

    /// The same with what programs read of it.
    pub fn with(self, data: Value) -> Self {
        Fault { data: Some(data), ..self }
    }

    /// The same as the answer to the request of that id.
    pub fn to(self, id: Option<&str>) -> Self {
        Fault { id: id.map(str::to_owned), ..self }
    }

    /// In the older revisions a request that was understood is answered with 200, an error too: their
    /// clients take another status for the end of the session. They name the one exception, a version
    /// that is not spoken here.
    pub fn answer(self, revision: Revision) -> Answer {
        let Kind(status, code, beginning) = self.kind;
        let is_of_headers = [HEADER_MISMATCH, UNSUPPORTED_VERSION].contains(&self.kind);
        let is_result = revision == Revision::Legacy && self.id.is_some() && !is_of_headers;
        let mut error = json!({"code": code, "message": format!("{beginning}: {}", self.detail)});
        if let Some(data) = self.data {
            error["data"] = data;
        }
        let error = canonical::to_string(&error);
        let id = self.id.map_or(String::new(), |id| format!(",\"id\":{id}"));
        let body = format!("{{\"error\":{error}{id},\"jsonrpc\":\"2.0\"}}");
        Answer { status: if is_result { 200 } else { status }, ..Answer::json(body) }
    }
}
