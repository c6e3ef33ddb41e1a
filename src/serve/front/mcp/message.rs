//! JSON-RPC 2.0 messages as MCP has them: one a body, no batches, no `id` of null.

use crate::core::answer::Answer;
use crate::core::json::strict::{self, JsonError};
use crate::core::json::{Object, Value, canonical};
use crate::core::limits::{JSON_DEPTH_MAX, MCP_ID_BYTES_MAX, RECORD_DEPTH_MAX};
use crate::core::problem::{Code, Problem};

/// The message's `arguments` stand one container deeper than the payload of `POST /execute`: so
/// that both take the same payloads.
const DEPTH_MAX: usize = JSON_DEPTH_MAX + 1;

const PARSE_ERROR: i32 = -32700;
const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED: i32 = -32022;

pub const MODERN: &str = "2026-07-28";
/// Newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// [`MODERN`]: every request carries its version and the client's capabilities.
    Modern,
    /// One of [`LEGACY`]: begins with `initialize`, of which nothing is kept here. They differ in
    /// nothing that this server says; the batches of the oldest are not taken.
    Legacy,
}

/// A request, or without an id a notification.
pub struct Message {
    /// Canonical text.
    pub id: Option<String>,
    pub method: String,
    pub params: Object,
}

/// A JSON-RPC error, and the HTTP status that it has.
#[derive(Debug)]
pub struct Fault {
    status: u16,
    code: i32,
    message: String,
    data: Option<Value>,
}

/// Of a message that is not well formed.
pub enum Refused {
    /// The strict reader does not take it.
    Json(JsonError),
    /// No message; with the id, if it has one that can be read (JSON-RPC 2.0, section 5).
    Message(Option<String>, Fault),
}

/// Reads a body.
///
/// # Errors
/// It is not one well-formed message.
pub fn read(body: &[u8]) -> Result<Message, Refused> {
    let refused = |detail| Refused::Message(None, Fault::invalid_request(detail));
    let mut message = match strict::read(body, DEPTH_MAX).map_err(Refused::Json)? {
        Value::Object(message) => message,
        Value::Array(_) => return Err(refused("batches are not taken")),
        _ => return Err(refused("the body must be a JSON object")),
    };
    // An optional member of null is none, here and below.
    message.retain(|_, value| !value.is_null());
    let id =
        message.get("id").map(id).transpose().map_err(|fault| Refused::Message(None, fault))?;
    // A response's id is one of ours, of which there are none: a request of that number is not answered.
    let answers = message.contains_key("result") || message.contains_key("error");
    if answers && !message.contains_key("method") {
        return Err(refused("responses are not taken"));
    }
    match parts(&mut message) {
        Ok((method, params)) => Ok(Message { id, method, params }),
        Err(fault) => Err(Refused::Message(id, fault)),
    }
}

fn parts(message: &mut Object) -> Result<(String, Object), Fault> {
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(Fault::invalid_request("jsonrpc must be \"2.0\""));
    }
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return Err(Fault::invalid_request("method must be a string")),
        None => return Err(Fault::invalid_request("there is no method")),
    };
    let params = match message.remove("params") {
        None => Object::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(Fault::invalid_request("params must be an object")),
    };
    Ok((method, params))
}

fn object(members: [(&str, Value); 2]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A string or an integer, short enough to be repeated.
pub fn id(id: &Value) -> Result<String, Fault> {
    let is_integer = id.as_f64().is_some_and(|number| number.fract() == 0.0);
    let text = canonical::to_string(id);
    if !(id.is_string() || is_integer) || text.len() > MCP_ID_BYTES_MAX {
        let detail =
            format!("id must be a string or an integer of {MCP_ID_BYTES_MAX} bytes at most");
        return Err(Fault::invalid_request(&detail));
    }
    Ok(text)
}

/// The answer to a request; `result` is canonical text.
pub fn result(id: &str, result: &str) -> Answer {
    Answer::json(begin(id) + result + "}")
}

/// The same up to its result.
pub fn begin(id: &str) -> String {
    format!("{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":")
}

impl Fault {
    fn new(status: u16, code: i32, message: impl Into<String>, data: Option<Value>) -> Self {
        Fault { status, code, message: message.into(), data }
    }

    pub fn invalid_request(detail: &str) -> Self {
        Fault::new(400, -32600, format!("Invalid request: {detail}"), None)
    }

    pub fn parse_error(error: &JsonError) -> Self {
        let data = object([
            ("code", Code::from(error.kind).name().into()),
            ("offset", error.offset.into()),
        ]);
        Fault::new(400, PARSE_ERROR, format!("Parse error: {error}"), Some(data))
    }

    pub fn invalid_params(detail: &str) -> Self {
        Fault::new(400, -32602, format!("Invalid params: {detail}"), None)
    }

    /// As [`Fault::invalid_params`], with the problem's body.
    pub fn of_problem(problem: &Problem) -> Self {
        let body = strict::read(problem.body().as_bytes(), RECORD_DEPTH_MAX);
        Fault { data: body.ok(), ..Fault::invalid_params(&problem.detail) }
    }

    /// With the body of the refusal that was recorded.
    pub fn unknown_tool(name: &str, problem: Object) -> Self {
        Fault::new(400, -32602, format!("Unknown tool: {name}"), Some(Value::Object(problem)))
    }

    pub fn unknown_method(method: &str) -> Self {
        let method = crate::serve::front::request::shown(method);
        Fault::new(404, -32601, format!("Method not found: {method}"), None)
    }

    pub fn header_mismatch(detail: &str) -> Self {
        Fault::new(400, HEADER_MISMATCH, format!("Header mismatch: {detail}"), None)
    }

    pub fn unsupported(requested: &str) -> Self {
        let requested = crate::serve::front::request::shown(requested);
        let supported = [&[MODERN][..], &LEGACY].concat().into();
        let data = object([("requested", requested.into()), ("supported", supported)]);
        Fault::new(400, UNSUPPORTED, "Unsupported protocol version", Some(data))
    }

    pub fn internal(detail: &str) -> Self {
        Fault::new(500, -32603, format!("Internal error: {detail}"), None)
    }

    /// With the id of the request, where it is known; there is no id of null in MCP.
    ///
    /// In the older revisions a request that was understood is answered with 200, an error too: their
    /// clients take another status for the end of the session. They name the one exception, a version
    /// that is not spoken here.
    pub fn answer(self, id: Option<&str>, revision: Revision) -> Answer {
        let is_of_headers = [HEADER_MISMATCH, UNSUPPORTED].contains(&self.code);
        let is_result = revision == Revision::Legacy && id.is_some() && !is_of_headers;
        let status = if is_result { 200 } else { self.status };
        let mut error = Object::new();
        error.insert("code".into(), self.code.into());
        error.insert("message".into(), self.message.into());
        error.extend(self.data.map(|data| ("data".to_owned(), data)));
        let error = canonical::to_string(&Value::Object(error));
        let id = id.map_or(String::new(), |id| format!(",\"id\":{id}"));
        let body = format!("{{\"error\":{error}{id},\"jsonrpc\":\"2.0\"}}");
        Answer { status, ..Answer::json(body) }
    }
}
