//! The approvals of a stored claim, read again: for an audit, and before a second run. And what a legacy text means,
//! the first time too: whoever made it is not trusted.

use super::artifact::{self, Artifact};
use super::keys::Keyring;
use super::verify::{Context, Terms};
use crate::core::hash::{Hash, sha256};
use crate::core::json::{canonical, strict};
use crate::core::receipt::action_hash;
use crate::core::record::Claim;

/// Reads a claim's approvals, and by what they are judged. It has spent them itself.
///
/// # Errors
/// There are no approvals, they are not formed as ones, or they hashed a legacy text that says
/// something else than the payload.
pub fn read<'a>(
    claim: &'a Claim,
    terms: Terms<'a>,
    keyring: &'a Keyring,
    proposer: Option<&'a str>,
) -> Result<(Vec<Artifact>, Context<'a>), String> {
    let value = strict::read_own(claim.approval.as_bytes()).unwrap_or_default();
    if value.is_null() {
        return Err("a claim in clawshield mode has no approval".to_owned());
    }
    if canonical::to_string(&value) != *claim.approval {
        return Err("a claim's approval is not in canonical form".to_owned());
    }
    let artifacts = artifact::parse(&value)?;
    let hash = |text: &str| legacy_hash(text, claim.action, &claim.payload).ok_or(OTHER_TEXT);
    let context = Context {
        terms,
        action: claim.action,
        exec_id: claim.id,
        action_hash: action_hash(claim.action, &claim.payload),
        legacy_hash: claim.legacy.as_deref().map(hash).transpose()?,
        required: keyring.required(claim.action),
        proposer,
        is_spent: &|_| false,
    };
    Ok((artifacts, context))
}

const OTHER_TEXT: &str = "the legacy text that was approved is not what was executed";

/// The SHA-256 of a legacy text, if it says what is executed. Its payload is read by itself, as it was when it
/// came: inside another object it would count for more.
pub fn legacy_hash(text: &str, action: &str, payload: &str) -> Option<Hash> {
    // A name has no character that the two encodings write differently.
    let head = format!("{{\"action\":\"{action}\",\"payload\":");
    let meant = text.strip_prefix(&head).and_then(|rest| rest.strip_suffix('}'));
    let meant = meant.and_then(|text| strict::read_own(text.as_bytes()).ok());
    let is_same = meant.is_some_and(|meant| canonical::to_string(&meant) == payload);
    is_same.then(|| sha256(&[text.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_text_that_says_something_else_is_no_hash_of_the_request() {
        let payload = r#"{"a":1,"é":0.5}"#;
        let same = r#"{"action":"echo","payload":{"\u00e9": 5e-1, "a":1.0}}"#;
        assert_eq!(legacy_hash(same, "echo", payload), Some(sha256(&[same.as_bytes()])));
        for other in [
            r#"{"action":"echo","payload":{"a":2,"\u00e9":0.5}}"#,
            r#"{"action":"echo","payload":{"a":1}}"#,
            r#"{"action":"echo","payload":{"a":1,"a":1,"\u00e9":0.5}}"#,
            r#"{"action":"echo","payload":{"a":1,"\u00e9":0.5}"#,
            r#"{"action":"echo","payload":{"a":1,"\u00e9":0.5}} "#,
            r#"{"action":"add","payload":{"a":1,"\u00e9":0.5}}"#,
            r#"{"payload":{"a":1,"\u00e9":0.5},"action":"echo"}"#,
            "",
        ] {
            assert_eq!(legacy_hash(other, "echo", payload), None, "{other}");
        }
    }
}
