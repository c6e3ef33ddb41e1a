//! What is answered, before any of it is sent.

use crate::core::problem::{Code, Problem};

/// How a request is answered, once.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// Of a problem.
    pub code: Option<Code>,
    /// The stored answer of an earlier request: `Idempotent-Replayed: true`.
    pub replayed: bool,
    /// More headers, of visible ASCII.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn json(body: String) -> Self {
        Answer {
            status: 200,
            content_type: "application/json",
            body,
            code: None,
            replayed: false,
            headers: Vec::new(),
        }
    }

    pub fn text(body: String) -> Self {
        Answer { content_type: "text/plain; charset=utf-8", ..Self::json(body) }
    }

    /// The same answer to a request that ran nothing.
    #[must_use]
    pub fn as_replay(mut self) -> Self {
        self.replayed = true;
        self
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        Answer {
            status: problem.code.status(),
            content_type: "application/problem+json",
            code: Some(problem.code),
            ..Answer::json(problem.body())
        }
    }
}
