//! `tools/call`: from its parameters to a proposal, and from the executor's answer to its result.

use std::sync::Arc;

use serde_json::json;

use super::message::{Asker, Fault, INTERNAL_ERROR, INVALID_PARAMS, UNKNOWN_TOOL};
use super::revision::Revision;
use super::{Headers, served_by, tools};
use crate::core::caller::Who;
use crate::core::hash::{hex, unhex};
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::problem::{Code, Problem};
use crate::core::proposal::Policy;
use crate::serve::front::prepare::propose;
use crate::serve::front::request::{self, Nonce};
use crate::serve::front::{IDEMPOTENCY_KEY, Next, show};
use crate::serve::queue::Job;
use crate::sys::answer::{Answer, value};
use crate::sys::random;

const NONCE: &str = "openexec/nonce";
const APPROVAL: &str = "openexec/approval";

/// A call whose proposal is being decided, or looked for.
pub struct Call {
    asker: Asker,
    tool: String,
    /// `None` where it proposes nothing.
    nonce: Option<String>,
    /// How many approvals such a call needs.
    needed: usize,
}

/// Makes a proposal of a call.
///
/// # Errors
/// What is not well formed was no attempt: nothing is recorded, and no nonce is spent.
pub fn read(
    headers: Headers,
    asker: &Asker,
    mut params: Object,
    who: &Who,
    policy: &Arc<Policy>,
) -> Result<Next, Fault> {
    let invalid = |detail: &str| Fault::new(INVALID_PARAMS, detail);
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(invalid("name must be a string"));
    };
    // Moved and not copied: one tree at a time.
    let arguments = match params.remove("arguments") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(invalid("arguments must be an object")),
    };
    if name == tools::PROPOSAL {
        return Ok(followed(asker, name, &arguments, who, policy));
    }
    let mut of_meta = |name| params.get_mut("_meta")?.get_mut(name).map(Value::take);
    let mut body = Object::new();
    body.insert("nonce".into(), of_meta(NONCE).unwrap_or_default());
    let refused = |problem: Problem| invalid(&problem.detail).with(value(&problem));
    request::keyed(&mut body, headers(IDEMPOTENCY_KEY)).map_err(refused)?;
    let nonce = match &body["nonce"] {
        Value::String(nonce) => nonce.clone(),
        Value::Null => match random::bytes() {
            Ok(bytes) => hex(&bytes),
            Err(_) => return Err(Fault::new(INTERNAL_ERROR, "no nonce could be made")),
        },
        _ => return Err(invalid("openexec/nonce in _meta must be a string")),
    };
    body.insert("action".into(), name.as_str().into());
    body.insert("payload".into(), Value::Object(arguments));
    body.insert("nonce".into(), nonce.as_str().into());
    body.insert("approval_artifact".into(), of_meta(APPROVAL).unwrap_or_default());
    let request = request::of(body, Nonce::Required).map_err(refused)?;
    let approvals = policy.approvals.as_ref();
    let needed = approvals.map_or(0, |approvals| approvals.keyring.required(&name).count());
    let call = Call { asker: asker.clone(), tool: name, nonce: Some(nonce), needed };
    let mut proposal = propose(request, who.clone(), policy);
    // A model that is refused gives up or calls again under another nonce; one that is told to wait waits.
    proposal.wish.asynchronous = true;
    Ok(Next::Then(Job::Execute(proposal), Box::new(|answer| call.answer(&answer))))
}

/// Asks what became of a proposal.
fn followed(
    asker: &Asker,
    tool: String,
    arguments: &Object,
    who: &Who,
    policy: &Arc<Policy>,
) -> Next {
    let id = arguments.get("id").filter(|_| arguments.len() == 1).and_then(Value::as_str);
    let Some(id) = id.and_then(unhex) else {
        let why = "arguments must be an id alone, of 64 lower-case hex digits";
        let problem = Problem::new(Code::InvalidPayload, why);
        return Next::Answer(result(asker, None, &problem.into(), None));
    };
    let call = Call { asker: asker.clone(), tool, nonce: None, needed: 0 };
    show(policy, id, who.clone(), |shown| call.answer(&shown))
}

impl Call {
    /// The result, made of what the executor answered.
    pub fn answer(self, answer: &Answer) -> Answer {
        let wrapped = if answer.code == Some(Code::UnknownAction) {
            // A tool that there is none of is an error of the protocol, with the body of the refusal
            // that was recorded all the same.
            let body = strict::read_own(answer.body.as_bytes()).unwrap_or_default();
            let fault = Fault::new(UNKNOWN_TOOL, self.tool).with(body);
            fault.to(Some(&self.asker.id)).answer(self.asker.revision)
        } else {
            let hint = (answer.status == 202).then(|| {
                format!(
                    "It is pending: it needs {} approval(s), and then executes by itself. Do not call again; the tool \
                     {} says by this id what became of it.",
                    self.needed,
                    tools::PROPOSAL
                )
            });
            result(&self.asker, self.nonce.as_deref(), answer, hint)
        };
        Answer { replayed: answer.replayed, ..wrapped }
    }
}

/// The answer's body as it is, and once more as text for clients that read no other; behind it a sentence, if there
/// is one to say.
pub fn result(asker: &Asker, nonce: Option<&str>, answer: &Answer, hint: Option<String>) -> Answer {
    let mut meta = served_by();
    if let Some(nonce) = nonce {
        meta[NONCE] = nonce.into();
    }
    if answer.replayed {
        meta["openexec/replayed"] = true.into();
    }
    // The body may be a megabyte: assembled as text, keys in canonical order.
    let mut text = String::with_capacity(2 * answer.body.len());
    canonical::write_string(&answer.body, &mut text);
    let hint = hint
        .map(|text| format!(",{}", canonical::to_string(&json!({"text": text, "type": "text"}))));
    let Asker { id, revision } = asker;
    let complete = match revision {
        Revision::Modern => ",\"resultType\":\"complete\"",
        Revision::Legacy => "",
    };
    Answer::json(format!(
        "{{\"id\":{id},\"jsonrpc\":\"2.0\",\"result\":{{\"_meta\":{},\
         \"content\":[{{\"text\":{text},\"type\":\"text\"}}{}],\"isError\":{}{complete},\
         \"structuredContent\":{}}}}}",
        canonical::to_string(&meta),
        hint.unwrap_or_default(),
        answer.status >= 400 || nonce.is_none() && has_failed(&answer.body),
        answer.body
    ))
}

/// Whether a worker says of the proposal's job that it has failed.
fn has_failed(proposal: &str) -> bool {
    let proposal = strict::read_own(proposal.as_bytes()).unwrap_or_default();
    proposal["completion"]["outcome"] == "failed"
}
