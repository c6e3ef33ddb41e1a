//! The approvals of a stored claim, read again: for an audit, and before a second run.

use super::artifact::{self, Artifact};
use crate::core::hash::{Hash, sha256};
use crate::core::json::{canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;

/// What a claim keeps of its approvals.
pub struct Stored {
    pub artifacts: Vec<Artifact>,
    /// The SHA-256 of the legacy text that they hashed.
    pub legacy_hash: Option<Hash>,
}

/// Reads a claim's fields `approval` (canonical text) and `legacy`, for its `action` and `payload`.
///
/// # Errors
/// There are no approvals, they are not formed as ones, or they hashed a legacy text that says
/// something else than the payload.
pub fn read(
    approval: &str,
    legacy: Option<&str>,
    action: &str,
    payload: &str,
) -> Result<Stored, String> {
    let value = strict::read(approval.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    if value.is_null() {
        return Err("a claim in clawshield mode has no approval".to_owned());
    }
    if canonical::to_string(&value) != approval {
        return Err("a claim's approval is not in canonical form".to_owned());
    }
    let artifacts = artifact::parse(&value).map_err(|fault| fault.to_string())?;
    if legacy.is_some_and(|text| !means_the_same(text, action, payload)) {
        return Err("the legacy text that was approved is not what was executed".to_owned());
    }
    Ok(Stored { artifacts, legacy_hash: legacy.map(|text| sha256(&[text.as_bytes()])) })
}

/// Whether a legacy text says what was executed. Its payload is read by itself, as it was when it came:
/// inside another object it would count for more.
fn means_the_same(text: &str, action: &str, payload: &str) -> bool {
    // A name has no character that the two encodings write differently.
    let head = format!("{{\"action\":\"{action}\",\"payload\":");
    let meant = text.strip_prefix(&head).and_then(|rest| rest.strip_suffix('}'));
    let meant = meant.and_then(|text| strict::read(text.as_bytes(), RECORD_DEPTH_MAX).ok());
    meant.is_some_and(|meant| canonical::to_string(&meant) == payload)
}
