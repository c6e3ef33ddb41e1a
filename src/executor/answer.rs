//! The answers to an attempt. The same function makes a stored outcome's answer the first time, for
//! a replay and after a restart: the bytes cannot differ.

use serde_json::json;

use super::Job;
use crate::core::answer::Answer;
use crate::core::hash::{Hash, hex, write_hex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::{RECORD_DEPTH_MAX, RETRY_AFTER_SECONDS};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::{Outcome, refusal};

/// The answer to an execution that was claimed and ended. `result` is canonical text.
pub fn stored(action: &str, id: &Hash, outcome: Outcome, result: &str, receipt: &Hash) -> Answer {
    let (code, fallback) = match outcome {
        Outcome::Executed => {
            // Assembled as text, keys in canonical order: the result may be a megabyte.
            let mut body = String::with_capacity(result.len() + 384);
            body.push_str("{\"action\":");
            canonical::write_string(action, &mut body);
            body.push_str(",\"approved\":true,\"id\":\"");
            write_hex(id, &mut body);
            body.push_str("\",\"outcome\":\"executed\",\"receipt\":\"");
            write_hex(receipt, &mut body);
            body.push_str("\",\"result\":");
            body.push_str(result);
            body.push('}');
            return Answer::json(body);
        }
        Outcome::Failed => (Code::HandlerFailed, "The handler failed; nothing happened"),
        Outcome::Indeterminate => {
            (Code::Indeterminate, "It is not known whether the action took effect")
        }
    };
    let result = strict::read(result.as_bytes(), RECORD_DEPTH_MAX).unwrap_or(Value::Null);
    let detail = result
        .get(outcome.name())
        .and_then(|why| why.get("detail"))
        .and_then(Value::as_str)
        .unwrap_or(fallback)
        .to_owned();
    // No `approved`: a client of the first service stops, a careful one sees that it is no refusal.
    Problem::new(code, detail)
        .with("outcome", outcome.name())
        .with("id", hex(id))
        .with("receipt", hex(receipt))
        .with("result", result)
        .into()
}

/// A refusal with its receipt; `recorded` says whether the refusal itself is stored.
pub fn refused(problem: &Problem, id: &Hash, recorded: bool) -> Answer {
    let receipt = hex(&refusal(id, problem.code.name(), &problem.detail));
    let result = json!({"denied": {"code": problem.code.name(), "detail": problem.detail}});
    problem
        .clone()
        .with("approved", false)
        .with("id", hex(id))
        .with("receipt", receipt)
        .with("recorded", recorded)
        .with("result", result)
        .into()
}

/// It is pending, and executes by itself: no `approved`, no receipt.
pub fn accepted(id: &Hash) -> Answer {
    let id = hex(id);
    Answer {
        status: 202,
        headers: vec![
            ("Location", format!("/proposals/{id}")),
            ("Preference-Applied", "respond-async".to_owned()),
            ("Retry-After", RETRY_AFTER_SECONDS.to_string()),
        ],
        ..Answer::json(format!("{{\"id\":\"{id}\",\"state\":\"pending\"}}"))
    }
}

/// The batch that held it failed while being written: whether it counts, the next opening tells.
pub fn unknown(id: &Hash) -> Answer {
    let detail = "The store failed while this was being written. \
                  Ask again with the same nonce, never with a new one";
    Problem::new(Code::OutcomeUnknown, detail).with("id", hex(id)).into()
}

/// The store cannot be read or is not open yet: nothing was spent.
pub fn unavailable(detail: &str) -> Problem {
    Problem::new(Code::StoreUnavailable, detail)
}

/// It was claimed, and its receipt is not there yet.
pub fn incomplete() -> Problem {
    unavailable("This execution is not complete; ask again")
}

/// To what comes after the store has failed.
pub fn after_poison<T>(job: &Job<T>) -> Answer {
    match job {
        Job::Execute(proposal) => unknown(&proposal.id),
        Job::Judge { id, .. } => unknown(id),
        Job::Reject(rejection, _) => unknown(&rejection.exec_id),
        _ => unavailable("The store has failed; ask again after the restart").into(),
    }
}
