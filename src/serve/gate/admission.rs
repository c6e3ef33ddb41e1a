//! From a head to what is done about it: the request as it goes inside, or the gate's own answer.
//!
//! Everything that is judged by the head alone is judged here, before a byte of the body is asked for.

use super::answer::{Persistence, Refusal};
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
    pub caller: Option<usize>,
    pub has_effect: bool,
    pub persistence: Persistence,
}

impl Understood {
    /// The gate's own answer to it, the last on its connection.
    pub(super) fn refusal(&self, problem: Problem) -> Refusal {
        Refusal { is_head: self.is_head, ..Refusal::new(problem) }
    }

    /// The answer to a request whose own was lost. Only a GET can have had no effect.
    pub(super) fn unanswered(&self) -> Refusal {
        self.refusal(if self.has_effect {
            Problem::new(
                Code::OutcomeUnknown,
                "The answer was lost; ask again with the same nonce, never with a new one",
            )
        } else {
            busy("The answer was lost; ask again")
        })
    }
}

/// Writes the head anew for the inner connection, or says what to answer instead.
pub(super) fn understand(
    settings: &Settings,
    head: &[u8],
    inner_request: &mut Vec<u8>,
) -> Result<Understood, Refusal> {
    let request = request::parse(head).map_err(|problem| Refusal::of(head, problem))?;
    let is_head = request.head.method == "HEAD";
    let persistence = match (request.keep_alive, request.is_http_1_0) {
        (true, false) => Persistence::Keep,
        (true, true) => Persistence::KeepAndSay,
        (false, _) => Persistence::Close,
    };
    let decided =
        request.decide(&settings.allowed_hosts, settings.tokens.as_ref(), settings.body_bytes_max);
    let (body, route, caller) = decided.map_err(|problem| Refusal {
        allow: if problem.code == Code::MethodNotAllowed {
            route::allow_of(request.head.target, settings.tokens.is_some())
        } else {
            None
        },
        problem,
        is_head,
        // A body that is not read must not be taken for a request.
        then: if request.has_body() { Persistence::Close } else { persistence },
    })?;
    request.write_inner(caller, inner_request);
    Ok(Understood {
        body,
        expects_continue: request.expects_continue,
        is_head,
        waits: !route.is_answered_at_once(),
        caller,
        has_effect: !matches!(request.head.method, "GET" | "HEAD"),
        persistence,
    })
}
