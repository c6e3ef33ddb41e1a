//! `tools/call`: from its parameters to a proposal, and from the executor's answer to its result.
//!
//! `requestState` carries the nonce of a call from the question for an approval to the retry. It is
//! not sealed, because it grants nothing: with a forged one a caller names a nonce, which it may do
//! anyway (`_meta["openexec/nonce"]`), and gets what that nonce is worth. But it names the call it
//! belongs to, so that one which was mixed up, cut or changed is refused and executes nothing.

use super::Next;
use super::SERVER;
use super::elicit::{self, Given, Question};
use super::message::{self, Fault, Revision};
use super::revision::can_show_forms;
use crate::approval::verify;
use crate::executor::proposal::{Approval, Policy};
use crate::front::prepare::propose;
use crate::front::request::{self, Nonce};
use crate::hash::{Hash, hex, unhex};
use crate::http::Answer;
use crate::json::{Object, Value, canonical, strict};
use crate::limits::RECORD_DEPTH_MAX;
use crate::random;

const NONCE: &str = "openexec/nonce";
const APPROVAL: &str = "openexec/approval";

/// A call whose proposal is being decided.
pub struct Call {
    /// Of the request, canonical text.
    id: String,
    revision: Revision,
    nonce: String,
    /// What to ask the client's user where an approval is missing.
    question: Option<Question>,
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
    let invalid = |detail: &str| Fault::invalid_params(revision, detail);
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(invalid("name must be a string"));
    };
    // Moved and not copied: one tree at a time.
    let arguments = match params.remove("arguments") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(invalid("arguments must be an object")),
    };
    let (state, given) = match revision {
        Revision::Modern => (state(&params)?, elicit::given(&params)?),
        Revision::Legacy => (None, Given::Nothing),
    };
    let of_meta = |key: &str| params.get("_meta").and_then(|m| m.get(key)).filter(|v| !v.is_null());
    let nonce = match (of_meta(NONCE), &state) {
        (Some(Value::String(nonce)), _) => nonce.clone(),
        (Some(_), _) => return Err(invalid("openexec/nonce in _meta must be a string")),
        (None, Some((_, nonce))) => nonce.clone(),
        (None, None) => match random::bytes() {
            Ok(bytes) => hex(&bytes),
            Err(_) => return Err(Fault::internal("no nonce could be made")),
        },
    };
    let approval = match (of_meta(APPROVAL), &given) {
        (Some(approval), _) => approval.clone(),
        (None, Given::Approval(approval)) => approval.clone(),
        _ => Value::Null,
    };
    let mut body = Object::new();
    body.insert("action".into(), name.into());
    body.insert("payload".into(), Value::Object(arguments));
    body.insert("nonce".into(), nonce.as_str().into());
    body.insert("approval_artifact".into(), approval);
    let request = request::of(body, Nonce::Required)
        .map_err(|problem| Fault::of_problem(revision, &problem))?;
    let mut proposal = propose(request, policy);
    if state.is_some_and(|(id, _)| id != proposal.id) {
        return Err(invalid("requestState is of another call"));
    }
    if let (Given::No(word), Some(_)) = (&given, &policy.approvals) {
        // Somebody said no here: an approval that lies elsewhere must not overrule that.
        let said = format!("the person who was asked {word}");
        let refused = verify::missing(&proposal.action_hash, &proposal.id, &[said]);
        proposal.approval = Approval::Refused(refused);
    }
    let can_ask = revision == Revision::Modern && can_show_forms(&params);
    let question = match (&policy.approvals, &proposal.approval) {
        (Some(required), Approval::Dropped { .. }) if can_ask => {
            Some(Question::of(&proposal, required))
        }
        _ => None,
    };
    let call = Call { id, revision, nonce, question };
    Ok(Next::Call(Box::new(call), proposal))
}

/// `requestState`: the `exec_id` of the call that it is of, a colon, and its nonce.
fn state(params: &Object) -> Result<Option<(Hash, String)>, Fault> {
    let invalid = || Fault::invalid_params(Revision::Modern, "requestState is not one of ours");
    match params.get("requestState") {
        None => Ok(None),
        Some(Value::String(state)) => {
            let (id, nonce) = state.split_once(':').ok_or_else(invalid)?;
            Ok(Some((unhex(id).ok_or_else(invalid)?, nonce.to_owned())))
        }
        Some(_) => Err(invalid()),
    }
}

impl Call {
    /// The result, made of what the executor answered.
    pub fn answer(self, answer: Answer) -> Answer {
        let replayed = answer.replayed;
        let problem = problem(&answer);
        let code = problem.as_ref().and_then(|problem| problem.get("code")).and_then(Value::as_str);
        let wrapped = match (code, &self.question) {
            // A tool that there is none of is an error of the protocol. The attempt is recorded all
            // the same.
            (Some("unknown_action"), _) => {
                Fault::unknown_tool(self.revision, problem.unwrap_or_default())
                    .answer(Some(&self.id))
            }
            (Some("approval_missing"), Some(question)) => self.ask(question),
            _ => self.result(&answer),
        };
        Answer { replayed, ..wrapped }
    }

    /// The answer's body as it is, and once more as text for clients that read no other.
    fn result(&self, answer: &Answer) -> Answer {
        let body = &answer.body;
        // The result may be a megabyte: assembled once, as text, keys in canonical order.
        let mut out = message::begin(&self.id);
        out.reserve(3 * body.len() + 512);
        out.push_str(&format!("{{\"_meta\":{},\"content\":[{{\"text\":", self.meta()));
        canonical::write_string(body, &mut out);
        let is_error = answer.status != 200;
        out.push_str(&format!(",\"type\":\"text\"}}],\"isError\":{is_error}"));
        if self.revision == Revision::Modern {
            out.push_str(",\"resultType\":\"complete\"");
        }
        out.push_str(",\"structuredContent\":");
        out.push_str(body);
        out.push_str("}}");
        Answer::json(out)
    }

    /// The question to the client's user; the retry is to bring the answer.
    fn ask(&self, question: &Question) -> Answer {
        let request = question.request(&self.nonce);
        let mut state = String::new();
        canonical::write_string(&format!("{}:{}", question.id(), self.nonce), &mut state);
        let result = format!(
            "{{\"_meta\":{},\"inputRequests\":{{\"{}\":{request}}},\"requestState\":{state},\
             \"resultType\":\"input_required\"}}",
            self.meta(),
            elicit::KEY
        );
        message::result(&self.id, &result)
    }

    fn meta(&self) -> String {
        let mut nonce = String::new();
        canonical::write_string(&self.nonce, &mut nonce);
        format!("{{\"io.modelcontextprotocol/serverInfo\":{SERVER},\"{NONCE}\":{nonce}}}")
    }
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
