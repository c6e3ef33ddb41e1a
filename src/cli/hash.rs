//! `openexec hash`: the hashes of a request, for whoever approves it.

use super::options::Options;
use super::{own, usage};
use crate::core::hash::{hex, sha256};
use crate::core::limits::BODY_BYTES_MAX;
use crate::core::receipt;
use crate::serve::front::request;
use crate::sys::exit::{self, Failure};

pub fn run(options: &Options) -> Result<(), Failure> {
    let body = read(options.word())?;
    own(hashes(&body)?)
}

/// Canonical `{"action_hash":..,"exec_id":..,"legacy_action_hash":..}`; without a nonce `exec_id` is
/// null, and so is `legacy_action_hash` where the legacy text would be too long.
fn hashes(body: &[u8]) -> Result<String, Failure> {
    let request = request::read(body, request::Nonce::Optional).map_err(|problem| {
        Failure::new(exit::DATA, format!("the request is refused: {}", problem.detail))
    })?;
    let quoted = |hash: Option<String>| hash.map_or("null".to_owned(), |h| format!("\"{h}\""));
    let action_hash = hex(&receipt::action_hash(&request.action, &request.payload));
    let exec_id = request
        .nonce
        .as_ref()
        .map(|n| hex(&receipt::exec_id(&request.action, n, &request.payload)));
    let legacy = request.legacy_text().map(|text| hex(&sha256(&[text.as_bytes()])));
    Ok(format!(
        "{{\"action_hash\":\"{action_hash}\",\"exec_id\":{},\"legacy_action_hash\":{}}}",
        quoted(exec_id),
        quoted(legacy)
    ))
}

/// A request from a file, or from standard input without one or with `-`.
pub fn read(file: Option<&str>) -> Result<Vec<u8>, Failure> {
    let body = super::read(file, BODY_BYTES_MAX)?;
    match body.is_empty() {
        true => Err(usage("the request is empty: give a file or standard input")),
        false => Ok(body),
    }
}
