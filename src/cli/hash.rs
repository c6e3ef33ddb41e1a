//! `openexec hash`: the hashes of a request, for whoever approves it.

use super::options::Options;
use super::{own, usage};
use crate::core::hash::{hex, sha256};
use crate::core::json::canonical;
use crate::core::receipt;
use crate::serve::front::request;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::BODY_BYTES_MAX;

pub fn run(options: &Options) -> Result<(), Failure> {
    let body = super::read(options.word(), BODY_BYTES_MAX)?;
    if body.is_empty() {
        return Err(usage("the request is empty: give a file or standard input"));
    }
    own(hashes(&body)?)
}

/// Canonical `{"action_hash":..,"exec_id":..,"legacy_action_hash":..}`; without a nonce `exec_id` is
/// null, and so is `legacy_action_hash` where the legacy text would be too long.
fn hashes(body: &[u8]) -> Result<String, Failure> {
    let request = request::read(body, request::Nonce::Optional)
        .map_err(|problem| exit::data(format!("the request is refused: {}", problem.detail)))?;
    let (action, payload) = (&request.action, &request.payload);
    let exec_id = |nonce: &String| hex(&receipt::exec_id(action, nonce, payload));
    let legacy_hash = |text: String| hex(&sha256(&[text.as_bytes()]));
    Ok(canonical::to_string(&serde_json::json!({
        "action_hash": hex(&receipt::action_hash(action, payload)),
        "exec_id": request.nonce.as_ref().map(exec_id),
        "legacy_action_hash": request.legacy_text().map(legacy_hash),
    })))
}
