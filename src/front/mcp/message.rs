//! JSON-RPC 2.0 messages as MCP has them: one a body, no batches, no `id` of null.

use crate::http::Answer;
use crate::http::problem::Problem;
use crate::json::{Object, Value, canonical, strict};
use crate::limits::{JSON_DEPTH_MAX, MCP_ID_BYTES_MAX, RECORD_DEPTH_MAX};

/// The message's `arguments` stand one container deeper than the payload of `POST /execute`: so
/// that both take the same payloads.
const DEPTH_MAX: usize = JSON_DEPTH_MAX + 1;

pub const MODERN: &str = "2026-07-28";
pub const LEGACY: &str = "2025-11-25";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// [`MODERN`]: every request carries its version and the client's capabilities.
    Modern,
    /// [`LEGACY`]: begins with `initialize`, of which nothing is kept here.
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

/// Reads a body.
///
/// # Errors
/// It is not one well-formed message; with the id, if it has one that can be read (JSON-RPC 2.0,
/// section 5).
pub fn read(body: &[u8]) -> Result<Message, (Option<String>, Fault)> {
    let mut message = envelope(body).map_err(|fault| (None, fault))?;
    let id = message.get("id").map(id).transpose().map_err(|fault| (None, fault))?;
    match parts(&mut message) {
        Ok((method, params)) => Ok(Message { id, method, params }),
        Err(fault) => Err((id, fault)),
    }
}

fn envelope(body: &[u8]) -> Result<Object, Fault> {
    match strict::read(body, DEPTH_MAX) {
        Ok(Value::Object(message)) => Ok(message),
        Ok(Value::Array(_)) => Err(Fault::invalid_request("batches are not taken")),
        Ok(_) => Err(Fault::invalid_request("the body must be a JSON object")),
        Err(error) => {
            let data =
                object([("code", error.kind.code().into()), ("offset", error.offset.into())]);
            Err(Fault::new(400, -32700, format!("Parse error: {error}"), Some(data)))
        }
    }
}

fn parts(message: &mut Object) -> Result<(String, Object), Fault> {
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(Fault::invalid_request("jsonrpc must be \"2.0\""));
    }
    let method = match message.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return Err(Fault::invalid_request("method must be a string")),
        None => return Err(Fault::invalid_request("there is no method; responses are not taken")),
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
fn id(id: &Value) -> Result<String, Fault> {
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

    /// In the older revision a request that was understood is answered with 200, an error too: its
    /// clients take another status for the transport's.
    pub fn invalid_params(revision: Revision, detail: &str) -> Self {
        let status = if revision == Revision::Modern { 400 } else { 200 };
        Fault::new(status, -32602, format!("Invalid params: {detail}"), None)
    }

    /// As [`Fault::invalid_params`], with the problem's body.
    pub fn of_problem(revision: Revision, problem: &Problem) -> Self {
        let body = strict::read(problem.body().as_bytes(), RECORD_DEPTH_MAX);
        Fault { data: body.ok(), ..Fault::invalid_params(revision, &problem.detail) }
    }

    /// As [`Fault::invalid_params`], with the body of the refusal that was recorded.
    pub fn unknown_tool(revision: Revision, problem: Object) -> Self {
        let name = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
        let name = name.trim_start_matches("Unknown action: ").to_owned();
        let message = format!("Unknown tool: {name}");
        let data = Some(Value::Object(problem));
        Fault { message, data, ..Fault::invalid_params(revision, "") }
    }

    pub fn unknown_method(revision: Revision, method: &str) -> Self {
        let status = if revision == Revision::Modern { 404 } else { 200 };
        let method = crate::front::request::shown(method);
        Fault::new(status, -32601, format!("Method not found: {method}"), None)
    }

    pub fn header_mismatch(detail: &str) -> Self {
        Fault::new(400, -32020, format!("Header mismatch: {detail}"), None)
    }

    pub fn unsupported(requested: &str) -> Self {
        let requested = crate::front::request::shown(requested);
        let supported = Value::Array(vec![MODERN.into(), LEGACY.into()]);
        let data = object([("requested", requested.into()), ("supported", supported)]);
        Fault::new(400, -32022, "Unsupported protocol version", Some(data))
    }

    pub fn internal(detail: &str) -> Self {
        Fault::new(500, -32603, format!("Internal error: {detail}"), None)
    }

    /// With the id of the request, where it is known; there is no id of null in MCP.
    pub fn answer(self, id: Option<&str>) -> Answer {
        let mut error = Object::new();
        error.insert("code".into(), self.code.into());
        error.insert("message".into(), self.message.into());
        error.extend(self.data.map(|data| ("data".to_owned(), data)));
        let error = canonical::to_string(&Value::Object(error));
        let id = id.map_or(String::new(), |id| format!(",\"id\":{id}"));
        let body = format!("{{\"error\":{error}{id},\"jsonrpc\":\"2.0\"}}");
        Answer { status: self.status, ..Answer::json(body) }
    }
}
