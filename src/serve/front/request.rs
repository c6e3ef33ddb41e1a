//! The form of a request: rows 1 and 2 of the decision. Shared by the service and the command line,
//! so that what is hashed for an approver is what will be executed.

use super::legacy;
use crate::core::json::strict::JsonError;
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{JSON_DEPTH_MAX, LEGACY_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::is_nonce;
use crate::core::time::Time;
use crate::handlers::is_action_name;
use crate::sys::limits::JUSTIFICATION_CHARACTERS_MAX;

/// The fields of a request.
const FIELDS: [&str; 6] =
    ["action", "approval_artifact", "expires_at", "justification", "nonce", "payload"];

/// A well-formed request.
pub struct Request {
    pub action: String,
    /// `None` only where it may be missing.
    pub nonce: Option<String>,
    /// Canonical text: what is hashed, stored and run.
    pub payload: String,
    /// As it was spelled: `1.0` and `1` are told apart, for the legacy hash alone.
    pub spelled: Value,
    /// `None` where it is missing or null.
    pub approval_artifact: Option<Value>,
    /// The caller's own words.
    pub justification: Option<String>,
    /// When a proposal of it expires.
    pub expires_at: Option<Time>,
}

/// Whether a request needs a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    Required,
    Optional,
}

/// Reads the body of `POST /execute`.
///
/// # Errors
/// Row 1: 400 with the byte `offset`. Row 2: 422 `invalid_request`, `unknown_field`.
pub fn read(body: &[u8], needed: Nonce) -> Result<Request, Problem> {
    of(object(strict::read(body, JSON_DEPTH_MAX))?, needed)
}

/// Row 1.
pub fn object(read: Result<Value, JsonError>) -> Result<Object, Problem> {
    match read {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(invalid("The body must be a JSON object")),
        Err(error) => Err(json_problem(&error)),
    }
}

/// Gives the body the nonce that the header `Idempotency-Key` names: as it was sent, less one pair of
/// quotation marks (draft-ietf-httpapi-idempotency-key-header has it between such).
///
/// # Errors
/// Row 2: the body has another nonce.
pub fn keyed(body: &mut Object, key: Option<&str>) -> Result<(), Problem> {
    let Some(key) = key else { return Ok(()) };
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    match body.get("nonce") {
        None | Some(Value::Null) => drop(body.insert("nonce".into(), key.into())),
        Some(nonce) if nonce == key => {}
        Some(_) => {
            return Err(invalid(
                "Idempotency-Key is not the nonce of the body; send one of the two",
            ));
        }
    }
    Ok(())
}

/// Row 2.
pub fn of(mut body: Object, needed: Nonce) -> Result<Request, Problem> {
    let action = action(body.remove("action"))?;
    let nonce = nonce(body.remove("nonce"), needed)?;
    let spelled = payload(body.remove("payload"))?;
    let payload = canonical::to_string(&spelled);
    if payload.len() > PAYLOAD_BYTES_MAX {
        let detail = format!("payload is over {PAYLOAD_BYTES_MAX} bytes in canonical form");
        return Err(invalid(detail));
    }
    only(&body, &FIELDS)?;
    let approval_artifact = body.remove("approval_artifact").filter(|value| !value.is_null());
    let justification = match body.remove("justification") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.chars().count() <= JUSTIFICATION_CHARACTERS_MAX => {
            Some(text)
        }
        Some(_) => return Err(invalid("justification must be a string of at most 500 characters")),
    };
    let expires_at = match body.get("expires_at") {
        None | Some(Value::Null) => None,
        Some(given) => match given.as_str().and_then(Time::parse) {
            Some(expires_at) => Some(expires_at),
            None => return Err(invalid("expires_at must be a time, as 2026-01-31T12:00:00Z")),
        },
    };
    Ok(Request { action, nonce, payload, spelled, approval_artifact, justification, expires_at })
}

impl Request {
    /// The encoding that existing approvals hash, of `{"action":A,"payload":P}` as it was spelled;
    /// `None` where it would be too long.
    pub fn legacy_text(&self) -> Option<String> {
        // What stands around the payload: the two names, and an action that needs no escape.
        const AROUND_BYTES_MAX: usize = 256;
        let payload = legacy::to_string(&self.spelled, LEGACY_BYTES_MAX - AROUND_BYTES_MAX)?;
        Some(format!("{{\"action\":\"{}\",\"payload\":{payload}}}", self.action))
    }
}

fn action(given: Option<Value>) -> Result<String, Problem> {
    match given {
        Some(Value::String(action)) if is_action_name(&action) => Ok(action),
        _ => Err(invalid("action must be a string of 1 to 64 of A-Za-z0-9_.-")),
    }
}

fn nonce(given: Option<Value>, needed: Nonce) -> Result<Option<String>, Problem> {
    match given {
        Some(Value::String(nonce)) if is_nonce(&nonce) => Ok(Some(nonce)),
        None | Some(Value::Null) if needed == Nonce::Optional => Ok(None),
        _ => Err(invalid("nonce must be a string of 1 to 256 bytes without control characters")),
    }
}

/// An object, nothing, or the text of an object or of nothing, as function calling gives it.
fn payload(given: Option<Value>) -> Result<Value, Problem> {
    match given {
        None | Some(Value::Null) => Ok(Value::Object(Object::new())),
        Some(object @ Value::Object(_)) => Ok(object),
        // What models write where a tool needs no arguments.
        Some(Value::String(text)) if text.trim_matches([' ', '\t', '\n', '\r']).is_empty() => {
            Ok(Value::Object(Object::new()))
        }
        // The text stands in the body's one open container.
        Some(Value::String(text)) => {
            match strict::read_nested(text.as_bytes(), 1, JSON_DEPTH_MAX) {
                Ok(object @ Value::Object(_)) => Ok(object),
                Ok(_) => Err(invalid("payload is a string that does not hold a JSON object")),
                Err(error) => Err(invalid(format!("payload is a string that is refused: {error}"))),
            }
        }
        Some(_) => Err(invalid("payload must be an object, or a string that holds one")),
    }
}

/// Nothing that is sent is silently dropped.
pub fn only(body: &Object, fields: &[&str]) -> Result<(), Problem> {
    match body.keys().find(|name| !fields.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(Problem::new(Code::UnknownField, format!("Unknown field: {}", shown(name))))
        }
    }
}

pub fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

/// Row 1.
pub fn json_problem(error: &JsonError) -> Problem {
    Problem::new(error.code, error.to_string()).with("offset", error.offset)
}

/// A name from a request, bounded, for a detail.
pub fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    name.chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect()
}
