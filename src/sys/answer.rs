//! What is answered, before any of it is sent: a problem as RFC 9457 has it.

use crate::core::json::{Value, canonical};
use crate::core::problem::{Code, Problem, title};

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
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        Answer {
            status: problem.code.status(),
            content_type: "application/problem+json",
            code: Some(problem.code),
            ..Answer::json(body(&problem))
        }
    }
}

/// The members of a problem's body.
pub fn value(problem: &Problem) -> Value {
    let mut body = problem.members.clone();
    body.insert("type".into(), "about:blank".into());
    body.insert("title".into(), title(problem.code.status()).into());
    body.insert("status".into(), problem.code.status().into());
    body.insert("detail".into(), problem.detail.as_str().into());
    body.insert("code".into(), problem.code.name().into());
    Value::Object(body)
}

/// The body, `application/problem+json`: the same, canonical.
pub fn body(problem: &Problem) -> String {
    canonical::to_string(&value(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_its_code_says() {
        let body = body(&Problem::new(Code::NoLogKey, "why").with("id", "x"));
        let expected = r#"{"code":"no_log_key","detail":"why","id":"x","status":404,"title":"Not Found","type":"about:blank"}"#;
        assert_eq!(body, expected);
    }
}
