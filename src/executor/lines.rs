//! The record lines of an attempt: its proposal, its claim, or its refusal.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::json;

use super::run::Ended;
use crate::core::caller::{Caller, name_of};
use crate::core::decision::Authorization;
use crate::core::hash::sha256;
use crate::core::json::{Value, canonical};
use crate::core::limits::REFUSAL_PAYLOAD_BYTES_MAX;
use crate::core::line::Json;
use crate::core::problem::Problem;
use crate::core::proposal::{Policy, Proposal};
use crate::core::receipt::refusal;
use crate::core::record::{self, Claim, Refusal, RefusedPayload};
use crate::core::time::Time;

/// The record of what is decided by.
pub fn policy_line(policy: &Policy, at: Time) -> String {
    let approvals = policy.approvals.as_ref();
    let (keys, required) = approvals.map(|policy| policy.keyring.recorded()).unwrap_or_default();
    let recorded =
        |callers: &Vec<Arc<Caller>>| callers.iter().map(|caller| caller.recorded()).collect();
    let callers = policy.callers.as_ref().map_or(Value::Null, recorded);
    let mut allowed = policy.allowed_actions.clone();
    // In an order of its own: to list them otherwise is no other policy.
    allowed.iter_mut().for_each(|names| names.sort_unstable());
    record::Policy {
        actions: policy.actions_file,
        allowed: Json(&canonical::to_string(&json!(allowed))),
        at,
        callers: Json(&canonical::to_string(&callers)),
        keys: Json(&canonical::to_string(&keys)),
        required: Json(&canonical::to_string(&required)),
        tenant: approvals.map(|policy| policy.tenant.as_str().into()),
        ttl_max: approvals.and_then(|policy| policy.ttl_max_seconds),
        version: env!("CARGO_PKG_VERSION").into(),
    }
    .line()
}

pub(super) fn claim_line(
    policy: u64,
    proposal: &Proposal,
    authorization: &Authorization,
    place: Option<&str>,
    at: Time,
) -> String {
    let approved = authorization.approved();
    let artifacts = approved.map_or(Value::Null, |approved| {
        approved.artifacts().iter().map(|artifact| artifact.to_value()).collect()
    });
    let keys: Value = approved.iter().flat_map(|a| a.key_names()).collect();
    let legacy = approved
        .filter(|approved| approved.is_legacy())
        .and_then(|_| proposal.approval.as_ref()?.legacy.as_ref())
        .map(|legacy| legacy.as_str().into());
    Claim {
        at,
        id: proposal.id,
        action: &proposal.action,
        payload: Json(&proposal.payload),
        nonce: proposal.nonce.as_str().into(),
        caller: name_of(&proposal.caller).map(Cow::from),
        effect: authorization.handler().effect,
        approval: Json(&canonical::to_string(&artifacts)),
        keys: Json(&canonical::to_string(&keys)),
        legacy,
        policy,
        place,
    }
    .line()
}

pub(super) fn proposal_line(proposal: &Proposal, at: Time, expires: Time) -> String {
    record::Proposal {
        action: &proposal.action,
        asynchronous: proposal.wish.asynchronous,
        at,
        caller: name_of(&proposal.caller).map(Cow::from),
        expires,
        id: proposal.id,
        justification: proposal.wish.justification.as_deref().map(Cow::from),
        nonce: proposal.nonce.as_str().into(),
        payload: Json(&proposal.payload),
    }
    .line()
}

/// Bytes of a receipt's line and its newline.
pub(super) fn receipt_bytes(ended: &Ended) -> usize {
    const BEYOND_RESULT: usize = 320;
    ended.result.len() + BEYOND_RESULT
}

pub(super) fn refusal_line(proposal: &Proposal, problem: &Problem, at: Time) -> String {
    let payload = if proposal.payload.len() > REFUSAL_PAYLOAD_BYTES_MAX {
        RefusedPayload::Hash(sha256(&[proposal.payload.as_bytes()]))
    } else {
        RefusedPayload::Text(&proposal.payload)
    };
    Refusal {
        at,
        id: proposal.id,
        action: &proposal.action,
        nonce: proposal.nonce.as_str().into(),
        caller: name_of(&proposal.caller).map(Cow::from),
        payload,
        code: problem.code.name(),
        detail: problem.detail.as_str().into(),
        receipt: refusal(&proposal.id, problem.code.name(), &problem.detail),
    }
    .line()
}
