//! From a head to what is done about it: the request as it goes inside, or the gate's own answer.

use super::answer::Persistence;
use super::request::{self, Body};
use super::{Settings, busy};
use crate::core::problem::{Code, Problem};
use crate::serve::route;

/// What is left of a head once it was understood and written anew.
pub(super) struct Understood {
    pub body: Body,
    pub expects_continue: bool,
    pub is_head: bool,
    /// For the executor, or for what only it has.
    pub waits: bool,
    pub is_post: bool,
    pub persistence: Persistence,
}

/// An answer of the gate's own.
pub(super) struct Refusal {
    pub problem: Problem,
    pub allow: Option<&'static str>,
    pub is_head: bool,
}

impl Refusal {
    pub(super) fn new(problem: Problem) -> Self {
        Refusal { problem, allow: None, is_head: false }
    }

    /// Of a head that was not understood; its method may have been (RFC 9110, section 9.3.2: no
    /// answer to HEAD has content).
    pub(super) fn of(head: &[u8], problem: Problem) -> Self {
        Refusal { is_head: head.starts_with(b"HEAD "), ..Refusal::new(problem) }
    }
}

/// Writes the head anew for the inner connection, or says what to answer instead: `Err` is what
/// cannot be understood, an inner `Err` what was understood and is refused.
pub(super) fn understand(
    settings: &Settings,
    head: &[u8],
    inner_request: &mut Vec<u8>,
) -> Result<Result<Understood, (Refusal, Persistence)>, Refusal> {
    let request = request::parse(head).map_err(|problem| Refusal::of(head, problem))?;
    let is_head = request.method == "HEAD";
    let persistence = match (request.keep_alive, request.is_http_1_0) {
        (true, false) => Persistence::Keep,
        (true, true) => Persistence::KeepAndSay,
        (false, _) => Persistence::Close,
    };
    match request.decide(&settings.allowed_hosts, settings.body_bytes_max) {
        Ok((body, route)) => {
            request.write_inner(inner_request);
            Ok(Ok(Understood {
                body,
                expects_continue: request.expects_continue,
                is_head,
                waits: !route.is_answered_at_once(),
                is_post: request.method == "POST",
                persistence,
            }))
        }
        Err(problem) => {
            let refusal = Refusal {
                allow: match problem.code {
                    Code::MethodNotAllowed => route::allow_of(request.target),
                    _ => None,
                },
                problem,
                is_head,
            };
            // A body that is not read must not be taken for a request.
            let then = if request.has_body() { Persistence::Close } else { persistence };
            Ok(Err((refusal, then)))
        }
    }
}

/// The answer to a request whose own was lost. Only a POST can have had an effect.
pub(super) fn unanswered(is_post: bool) -> Problem {
    if is_post {
        return Problem::new(
            Code::OutcomeUnknown,
            "The answer was lost; ask again with the same nonce, never with a new one",
        );
    }
    busy("The answer was lost; ask again")
}

pub(super) fn timeout(detail: &str) -> Problem {
    Problem::new(Code::Timeout, detail)
}
