//! Identities and receipts (design section 7): no time, no randomness, no host in any of them.

use crate::core::hash::{Hash, hex, sha256};
use crate::core::json::canonical;
use crate::core::limits::{ACTION_BYTES_MAX, NONCE_BYTES_MAX};
use crate::core::line::words;

words! {
    /// What repeating a run would do, which decides what a crash leaves behind.
    Effect {
        /// Changes nothing outside: claim and receipt share one sync.
        Pure = "pure",
        /// Safe to repeat under the same id: claimed first; run again after a crash.
        Idempotent = "idempotent",
        /// May run at most once: claimed by itself; after a crash its outcome is `indeterminate`.
        Once = "once",
    }
    /// How an execution that was claimed ended.
    Outcome {
        Executed = "executed",
        Failed = "failed",
        Indeterminate = "indeterminate",
    }
}

/// 1 to 64 of `A-Za-z0-9_.-`.
pub fn is_action_name(text: &str) -> bool {
    (1..=ACTION_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// 1 to 256 bytes without control characters (Unicode Cc).
pub fn is_nonce(text: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Canonical `{"action":A,"nonce":N,"payload":P}`; `payload` is canonical text already.
/// Its SHA-256 is the `exec_id`, and the `action_hash` of a nonce-bound approval.
pub fn exec_id(action: &str, nonce: &str, payload: &str) -> Hash {
    request_hash(action, Some(nonce), payload)
}

/// SHA-256 of canonical `{"action":A,"payload":P}`: the `action_hash` of an ordinary approval.
pub fn action_hash(action: &str, payload: &str) -> Hash {
    request_hash(action, None, payload)
}

fn request_hash(action: &str, nonce: Option<&str>, payload: &str) -> Hash {
    let mut head = String::with_capacity(512);
    head.push_str("{\"action\":");
    canonical::write_string(action, &mut head);
    if let Some(nonce) = nonce {
        head.push_str(",\"nonce\":");
        canonical::write_string(nonce, &mut head);
    }
    head.push_str(",\"payload\":");
    sha256(&[head.as_bytes(), payload.as_bytes(), b"}"])
}

/// SHA-256 of `exec_id + ":" + canonical(result)`; `id` in hexadecimal, `result` canonical text.
pub fn receipt(id: &str, result: &str) -> Hash {
    sha256(&[id.as_bytes(), b":", result.as_bytes()])
}

/// Whether a result, canonical text, says that a job was left: `{"queued":{"job":..}}`.
pub fn names_job(result: &str) -> bool {
    result.starts_with("{\"queued\":{\"job\":")
}

/// The receipt of a completion: SHA-256 of `exec_id + ":" + canonical({"completion":{"outcome","result"}})`.
pub fn completion(id: &Hash, outcome: Outcome, result: &str) -> Hash {
    let outcome = outcome.name();
    let said = format!("{{\"completion\":{{\"outcome\":\"{outcome}\",\"result\":{result}}}}}");
    receipt(&hex(id), &said)
}

/// A reserved result: canonical `{KIND:{"code":..,"detail":..}}`, `KIND` one of `denied`,
/// `failed`, `indeterminate`.
pub fn reserved_result(kind: &str, code: &str, detail: &str) -> String {
    let mut text = format!("{{\"{kind}\":{{\"code\":");
    canonical::write_string(code, &mut text);
    text.push_str(",\"detail\":");
    canonical::write_string(detail, &mut text);
    text.push_str("}}");
    text
}

/// The receipt of a refusal.
pub fn refusal(id: &Hash, code: &str, detail: &str) -> Hash {
    receipt(&hex(id), &reserved_result("denied", code, detail))
}
