//! What holds of every answer, by code that is not the product's.

use openexec::core::problem::{Code, title};
use serde_json::{Value, json};

use super::Answer;

/// SHA-256 in hexadecimal, not by the product's own code.
pub fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 8785, not by the product's own code.
pub fn canonical(value: &Value) -> String {
    serde_json_canonicalizer::to_string(value).expect("canonical")
}

/// What the exec_id of a request is the hash of.
pub fn hashed(body: &Value) -> String {
    let (action, nonce, payload) = (&body["action"], &body["nonce"], &body["payload"]);
    canonical(&json!({"action": action, "nonce": nonce, "payload": payload}))
}

pub fn exec_id(body: &Value) -> String {
    sha256(&hashed(body))
}

/// Holds the answer to what an approver who said something gets.
pub fn is_said(answer: &Answer, id: &str, state: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.text(), format!(r#"{{"id":"{id}","state":"{state}"}}"#));
}

/// Holds the answer to the form of every problem, and gives its body.
pub fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{text}");
    assert_eq!(answer.header("server"), Some("openexec"));
    let body = answer.json();
    assert_eq!(body["code"], code, "{text}");
    assert_eq!(body["status"], status, "{text}");
    assert_eq!(body["type"], "about:blank", "{text}");
    assert!(body["detail"].is_string(), "{text}");
    let known = Code::ALL.iter().find(|known| known.name() == code).expect("a code of the table");
    assert_eq!((known.status(), body["title"].as_str()), (status, Some(title(status))), "{text}");
    assert_eq!(text, canonical(&body), "every answer is canonical");
    body
}

/// As [`problem`], of a refused attempt: it has a receipt, which holds.
pub fn refusal(answer: &Answer, status: u16, code: &str) -> Value {
    let body = problem(answer, status, code);
    assert_eq!(body["approved"], false, "{body}");
    assert!(body["recorded"].is_boolean(), "{body}");
    assert_eq!(body["result"]["denied"]["code"], code, "{body}");
    assert_eq!(body["result"]["denied"]["detail"], body["detail"], "{body}");
    assert_receipt(&body);
    body
}

/// As [`problem`], of what was no attempt: it has no receipt.
pub fn no_attempt(answer: &Answer, status: u16, code: &str) -> Value {
    let body = problem(answer, status, code);
    for member in ["approved", "id", "result", "receipt", "recorded", "outcome"] {
        assert!(body.get(member).is_none(), "{member} in {body}");
    }
    body
}

/// Holds a 200 of `/execute` to its request, by independent code, and gives its body.
pub fn executed(answer: &Answer, action: &str, nonce: &str, payload: &Value) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(text, canonical(&body), "every answer is canonical");
    let names: Vec<&str> = body.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(names, ["action", "approved", "id", "outcome", "receipt", "result"]);
    assert_eq!(body["action"], action);
    assert_eq!(body["approved"], true);
    assert_eq!(body["outcome"], "executed");
    let request = serde_json::json!({"action": action, "nonce": nonce, "payload": payload});
    assert_eq!(body["id"], sha256(&canonical(&request)), "{text}");
    assert_receipt(&body);
    body
}

/// `receipt` = SHA-256 of `id:canonical(result)`.
pub fn assert_receipt(body: &Value) {
    let id = body["id"].as_str().expect("an id");
    assert_eq!(body["receipt"], sha256(&format!("{id}:{}", canonical(&body["result"]))), "{body}");
}
