//! What the executor says, as an answer. The same function writes a stored outcome the first time, for a replay and after
//! a restart: the bytes cannot differ.

use serde_json::json;

use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::line::{Json, LineWriter};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::{Outcome, refusal};
use crate::executor::Said;
use crate::executor::answer::Conclusion;
use crate::sys::answer::Answer;
use crate::sys::limits::RETRY_AFTER_SECONDS;

/// What a question found, or why it found nothing.
impl From<Result<String, Problem>> for Said {
    fn from(found: Result<String, Problem>) -> Self {
        found.map_or_else(Said::Problem, Said::Text)
    }
}

impl From<Said> for Answer {
    fn from(said: Said) -> Self {
        match said {
            Said::Ended(ended) => stored(&ended),
            Said::Replayed(ended) => Answer { replayed: true, ..stored(&ended) },
            Said::Refused(problem, id, is_recorded) => refused(problem, &id, is_recorded),
            Said::Accepted(id) => accepted(&id),
            Said::Stands(id, state) => {
                Answer::json(format!("{{\"id\":\"{}\",\"state\":\"{state}\"}}", hex(&id)))
            }
            Said::Problem(problem) => problem.into(),
            Said::Text(text) => Answer::json(text),
        }
    }
}

/// The answer to an execution that was claimed and ended.
fn stored(Conclusion { action, id, outcome, result, receipt }: &Conclusion) -> Answer {
    let (code, fallback) = match outcome {
        Outcome::Executed => {
            let body = LineWriter::start().with("action", &action.as_str()).with("approved", &true);
            let body = body.with("id", id).with("outcome", outcome).with("receipt", receipt);
            return Answer::json(body.with("result", &Json(result)).end());
        }
        Outcome::Failed => (Code::HandlerFailed, "The handler failed; nothing happened"),
        Outcome::Indeterminate => {
            (Code::Indeterminate, "It is not known whether the action took effect")
        }
    };
    let result = strict::read_own(result.as_bytes()).unwrap_or_default();
    let detail = result[outcome.name()]["detail"].as_str().unwrap_or(fallback).to_owned();
    // No `approved`: a client of the first service stops, a careful one sees that it is no refusal.
    Problem::new(code, detail)
        .with("outcome", outcome.name())
        .with("id", hex(id))
        .with("receipt", hex(receipt))
        .with("result", result)
        .into()
}

/// A refusal with its receipt; `is_recorded` says whether the refusal itself is stored.
fn refused(problem: Problem, id: &Hash, is_recorded: bool) -> Answer {
    let (code, detail) = (problem.code.name(), problem.detail.clone());
    problem
        .with("approved", false)
        .with("id", hex(id))
        .with("receipt", hex(&refusal(id, code, &detail)))
        .with("recorded", is_recorded)
        .with("result", json!({"denied": {"code": code, "detail": detail}}))
        .into()
}

/// It is pending, and executes by itself: no `approved`, no receipt.
fn accepted(id: &Hash) -> Answer {
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
