//! The record lines of an attempt: its claim, or its refusal.

use super::run::Ended;
use crate::core::decision::Authorization;
use crate::core::hash::sha256;
use crate::core::json::{Value, canonical};
use crate::core::limits::DENIAL_PAYLOAD_BYTES_MAX;
use crate::core::problem::Problem;
use crate::core::proposal::{Policy, Proposal};
use crate::core::receipt::denial;
use crate::core::record::{Claim, Denial, DeniedPayload};
use crate::core::time::Time;

pub(super) fn claim_line(
    policy: &Policy,
    proposal: &Proposal,
    authorization: &Authorization,
    place: Option<&str>,
    at: Time,
) -> String {
    let approved = authorization.approved();
    let required = policy.approvals.as_ref();
    let artifacts = approved.map_or(Value::Null, |approved| {
        approved.artifacts().iter().map(|artifact| artifact.to_value()).collect()
    });
    let keys: Value = approved.iter().flat_map(|a| a.key_names()).cloned().collect();
    let legacy = approved
        .filter(|approved| approved.is_legacy())
        .and_then(|_| proposal.approval.as_ref()?.legacy.as_ref())
        .map(|legacy| legacy.text.clone());
    Claim {
        at,
        id: proposal.id,
        action: &proposal.action,
        payload: &proposal.payload,
        nonce: proposal.nonce.clone(),
        effect: authorization.handler().effect,
        approval: &canonical::to_string(&artifacts),
        keys: &canonical::to_string(&keys),
        legacy,
        tenant: required.map(|policy| policy.tenant.clone()),
        required: required.map(|p| p.keyring.required(&proposal.action).get() as u64),
        ttl_max: required.and_then(|policy| policy.ttl_max_seconds),
        place,
    }
    .line()
}

/// Bytes of a receipt's line and its newline.
pub(super) fn receipt_bytes(ended: &Ended) -> usize {
    const BEYOND_RESULT: usize = 320;
    ended.result.len() + BEYOND_RESULT
}

pub(super) fn denial_line(proposal: &Proposal, problem: &Problem, at: Time) -> String {
    let payload = if proposal.payload.len() > DENIAL_PAYLOAD_BYTES_MAX {
        DeniedPayload::Hash(sha256(&[proposal.payload.as_bytes()]))
    } else {
        DeniedPayload::Text(&proposal.payload)
    };
    Denial {
        at,
        id: proposal.id,
        action: proposal.action.clone(),
        nonce: proposal.nonce.clone(),
        payload,
        code: problem.code.name(),
        detail: problem.detail.clone(),
        receipt: denial(&proposal.id, problem.code.name(), &problem.detail),
    }
    .line()
}
