//! The question for an approval, as a form that an MCP client shows to its user, and the answer.
//!
//! What is asked for is no secret: a signed approval permits exactly what the form shows, once. The
//! private key never comes near this service, and the form says so by what it asks to be run.

use super::message::{Fault, Revision};
use crate::executor::proposal::{ApprovalPolicy, Proposal};
use crate::hash::hex;
use crate::json::visible::escaped;
use crate::json::{Object, Value, canonical, strict};
use crate::limits::JSON_DEPTH_MAX;

/// The question's name in `inputRequests`, and the form's only field.
pub const KEY: &str = "approval";

/// The form: flat, as forms must be.
const FORM: &str = r#"{"properties":{"approval":{"description":"What openexec approve printed: a JSON object, or an array of the objects of several approvers.","minLength":2,"title":"Signed approval","type":"string"}},"required":["approval"],"type":"object"}"#;

/// What the form shows.
pub struct Question {
    action: String,
    /// Canonical text.
    payload: String,
    action_hash: String,
    id: String,
    tenant: String,
    /// Approvals by different keys.
    required: usize,
}

/// What came back with a retry.
pub enum Given {
    Nothing,
    Approval(Value),
    /// And what the person did.
    No(&'static str),
}

impl Question {
    pub fn of(proposal: &Proposal, required: &ApprovalPolicy) -> Self {
        Question {
            action: proposal.action.clone(),
            payload: proposal.payload.clone(),
            action_hash: hex(&proposal.action_hash),
            id: hex(&proposal.id),
            tenant: required.tenant.clone(),
            required: required.keyring.required(&proposal.action).get(),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// `elicitation/create`, with a flat form; canonical text.
    pub fn request(&self, nonce: &str) -> String {
        let mut message = String::new();
        canonical::write_string(&self.message(nonce), &mut message);
        format!(
            "{{\"method\":\"elicitation/create\",\"params\":{{\"message\":{message},\
             \"mode\":\"form\",\"requestedSchema\":{FORM}}}}}"
        )
    }

    /// Every line is ours but for what stands behind `payload:` and in the request, which have no
    /// line breaks and nothing invisible in them: a proposal cannot add to what is said about it.
    fn message(&self, nonce: &str) -> String {
        let mut request = String::from("{\"action\":");
        canonical::write_string(&self.action, &mut request);
        request.push_str(",\"nonce\":");
        canonical::write_string(nonce, &mut request);
        request.push_str(&format!(",\"payload\":{}}}", self.payload));
        let several = match self.required {
            1 => String::new(),
            number => format!("It takes {number} approvals, by different keys, in one array.\n"),
        };
        format!(
            "OpenExec was asked to execute this, and needs a signed approval of it.\n\n\
             action: {}\npayload: {}\naction_hash: {}\nexec_id: {}\n\n\
             To approve it, run this where the approver's private key is, read what it shows, and \
             give here what it prints. The key itself belongs nowhere else.\n{several}\n\
             openexec approve --key KEY.pem --tenant {} <<'END'\n{}\nEND\n",
            self.action,
            escaped(&self.payload),
            self.action_hash,
            self.id,
            quoted(&self.tenant),
            escaped(&request),
        )
    }
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The answer among `inputResponses`. What is not needed there is ignored, and an answer that lacks
/// what was asked for is as none: the question is asked again.
pub fn given(params: &Object) -> Result<Given, Fault> {
    let invalid = |detail: &str| Fault::invalid_params(Revision::Modern, detail);
    let responses = match params.get("inputResponses") {
        None => return Ok(Given::Nothing),
        Some(Value::Object(responses)) => responses,
        Some(_) => return Err(invalid("inputResponses must be an object")),
    };
    let Some(response) = responses.get(KEY) else { return Ok(Given::Nothing) };
    match response.get("action").and_then(Value::as_str) {
        Some("accept") => {}
        Some("decline") => return Ok(Given::No("declined")),
        Some("cancel") => return Ok(Given::No("gave no answer")),
        _ => {
            return Err(invalid(
                "the action of an input response must be accept, decline or cancel",
            ));
        }
    }
    match response.get("content").and_then(|content| content.get(KEY)) {
        // What is no JSON is no approval either, and is refused as one that is malformed.
        Some(Value::String(text)) => Ok(Given::Approval(
            strict::read(text.as_bytes(), JSON_DEPTH_MAX)
                .unwrap_or_else(|_| Value::String(String::new())),
        )),
        Some(_) => Err(invalid("approval must be a string")),
        None => Ok(Given::Nothing),
    }
}
