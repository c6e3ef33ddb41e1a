//! From the body of `POST /execute` to a [`Proposal`]: every check that needs no state.

use super::dropped;
use super::request::{self, Nonce, Request};
use crate::core::approval::artifact::{self, Artifact};
use crate::core::approval::verify;
use crate::core::caller::Who;
use crate::core::hash::Hash;
use crate::core::json::{canonical, strict};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::problem::Problem;
use crate::core::proposal::{Approval, ApprovalPolicy, Given, Policy, Proposal, Wish};
use crate::core::receipt;
use crate::sys::limits::PAYLOAD_KEPT_BYTES;

/// Judges rows 1, 2, 5 and 6 of the decision, and of row 7 what needs no state.
///
/// `key` is the header `Idempotency-Key`, `caller` who asks.
///
/// # Errors
/// Rows 1 and 2: what is not well formed was no attempt.
pub fn prepare(
    body: &[u8],
    key: Option<&str>,
    caller: Who,
    policy: &Policy,
) -> Result<Box<Proposal>, Problem> {
    let mut body = request::object(strict::read(body, JSON_DEPTH_MAX))?;
    request::keyed(&mut body, key)?;
    Ok(propose(request::of(body, Nonce::Required)?, caller, policy))
}

/// The same of a request that was read already. It has its nonce.
pub fn propose(mut request: Request, caller: Who, policy: &Policy) -> Box<Proposal> {
    let nonce = request.nonce.as_deref().unwrap_or_default();
    let id = receipt::exec_id(&request.action, nonce, &request.payload);
    let approvals = policy.approvals.as_ref();
    let approval = approvals.map(|required| {
        let action_hash = receipt::action_hash(&request.action, &request.payload);
        examine(&mut request, required, id, action_hash)
    });
    let Request { action, nonce, payload, spelled: mut read, justification, expires_at, .. } =
        request;
    let wish = Wish { asynchronous: false, justification, expires: expires_at };
    // Only the legacy text needs it as it was spelled.
    canonical::normalise(&mut read);
    let (nonce, handler) = (nonce.unwrap_or_default(), policy.admit(&caller, &action, &read));
    let read = (payload.len() <= PAYLOAD_KEPT_BYTES).then_some(read);
    Box::new(Proposal { caller, action, nonce, payload, read, id, handler, approval, wish })
}

/// Row 7, as far as it needs no state.
fn examine(
    request: &mut Request,
    required: &ApprovalPolicy,
    id: Hash,
    action_hash: Hash,
) -> Approval {
    let is_other = |artifact: &Artifact| ![id, action_hash].contains(artifact.action_hash());
    if let Some(artifact) = request.approval_artifact.take() {
        return match artifact::parse(&artifact) {
            Ok(artifacts) => {
                let legacy = legacy(request, artifacts.iter().any(is_other));
                let given = Given::Artifacts(verify::examine(artifacts, &required.keyring));
                Approval { action_hash, legacy, given }
            }
            Err(fault) => Approval { action_hash, legacy: None, given: Given::Malformed(fault) },
        };
    }
    let found = dropped::read(required, &id, &action_hash);
    let mut artifacts = found.iter().filter_map(|(_, artifacts)| artifacts.as_ref().ok()).flatten();
    let legacy = legacy(request, artifacts.any(is_other));
    let files = dropped::examined(found, &required.keyring);
    Approval { action_hash, legacy, given: Given::Files(files) }
}

/// The legacy text is made only where it could matter: where an artifact means neither of the
/// canonical forms.
fn legacy(request: &Request, wanted: bool) -> Option<String> {
    wanted.then(|| request.legacy_text()).flatten()
}
