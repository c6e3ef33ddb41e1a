//! `openexec hash`: the hashes of a request, for whoever approves it.

use std::fs::File;
use std::io::Read;

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
    let mut body = Vec::new();
    let limit = BODY_BYTES_MAX as u64 + 1;
    let read = match file {
        None | Some("-") => std::io::stdin().take(limit).read_to_end(&mut body),
        Some(path) => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut body)),
    };
    read.map_err(|error| Failure::io(format!("reading {}", file.unwrap_or("-")), &error))?;
    if body.len() > BODY_BYTES_MAX {
        return Err(Failure::new(exit::DATA, "the request is larger than 1 MiB"));
    }
    if body.is_empty() {
        return Err(usage("the request is empty: give a file or standard input"));
    }
    Ok(body)
}
