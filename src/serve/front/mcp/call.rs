//! `tools/call`: from its parameters to a proposal, and from the executor's answer to its result.

use super::Next;
use super::SERVER;
use super::message::{self, Fault, Revision};
use crate::core::answer::Answer;
use crate::core::hash::hex;
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;
use crate::core::problem::Code;
use crate::core::proposal::Policy;
use crate::serve::front::prepare::propose;
use crate::serve::front::request::{self, Nonce};
use crate::sys::random;

const NONCE: &str = "openexec/nonce";
const APPROVAL: &str = "openexec/approval";

/// A call whose proposal is being decided.
pub struct Call {
    /// Of the request, canonical text.
    id: String,
    revision: Revision,
    tool: String,
    nonce: String,
}

/// Makes a proposal of a call.
///
/// # Errors
/// What is not well formed was no attempt: nothing is recorded, and no nonce is spent.
pub fn read(
    id: String,
    revision: Revision,
    mut params: Object,
    policy: &Policy,
) -> Result<Next, Fault> {
    let invalid = Fault::invalid_params;
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(invalid("name must be a string"));
    };
    // Moved and not copied: one tree at a time.
    let arguments = match params.remove("arguments") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(invalid("arguments must be an object")),
    };
    let of_meta = |key: &str| params.get("_meta").and_then(|m| m.get(key)).filter(|v| !v.is_null());
    let nonce = match of_meta(NONCE) {
        Some(Value::String(nonce)) => nonce.clone(),
        Some(_) => return Err(invalid("openexec/nonce in _meta must be a string")),
        None => match random::bytes() {
            Ok(bytes) => hex(&bytes),
            Err(_) => return Err(Fault::internal("no nonce could be made")),
        },
    };
    let mut body = Object::new();
    body.insert("action".into(), name.as_str().into());
    body.insert("payload".into(), Value::Object(arguments));
    body.insert("nonce".into(), nonce.as_str().into());
    body.insert("approval_artifact".into(), of_meta(APPROVAL).cloned().unwrap_or_default());
    let request =
        request::of(body, Nonce::Required).map_err(|problem| Fault::of_problem(&problem))?;
    Ok(Next::Call(Box::new(Call { id, revision, tool: name, nonce }), propose(request, policy)))
}

impl Call {
    /// The result, made of what the executor answered.
    pub fn answer(self, answer: Answer) -> Answer {
        let replayed = answer.replayed;
        let problem = problem(&answer);
        // A tool that there is none of is an error of the protocol. The attempt is recorded all the
        // same.
        let wrapped = match problem {
            Some(problem)
                if problem.get("code").is_some_and(|code| code == Code::UnknownAction.name()) =>
            {
                Fault::unknown_tool(&self.tool, problem).answer(Some(&self.id), self.revision)
            }
            _ => result(&self.id, self.revision, Some(&self.nonce), &answer),
        };
        Answer { replayed, ..wrapped }
    }
}

/// The answer's body as it is, and once more as text for clients that read no other.
pub fn result(id: &str, revision: Revision, nonce: Option<&str>, answer: &Answer) -> Answer {
    let body = &answer.body;
    // The result may be a megabyte: assembled once, as text, keys in canonical order.
    let mut out = message::begin(id);
    out.reserve(3 * body.len() + 1024);
    out.push_str(&format!("{{\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{SERVER}"));
    if let Some(nonce) = nonce {
        out.push_str(&format!(",\"{NONCE}\":"));
        canonical::write_string(nonce, &mut out);
    }
    if answer.replayed {
        out.push_str(",\"openexec/replayed\":true");
    }
    out.push_str("},\"content\":[{\"text\":");
    canonical::write_string(body, &mut out);
    let is_error = answer.status != 200;
    out.push_str(&format!(",\"type\":\"text\"}}],\"isError\":{is_error}"));
    if revision == Revision::Modern {
        out.push_str(",\"resultType\":\"complete\"");
    }
    out.push_str(",\"structuredContent\":");
    out.push_str(body);
    out.push_str("}}");
    Answer::json(out)
}

/// The body of what was not executed.
fn problem(answer: &Answer) -> Option<Object> {
    if answer.status == 200 {
        return None;
    }
    match strict::read(answer.body.as_bytes(), RECORD_DEPTH_MAX) {
        Ok(Value::Object(problem)) => Some(problem),
        _ => None,
    }
}
