//! The approvals directory: what an approver left there for a request that brought no artifact.
//!
//! Invariant: files are only ever read, and only under the two names that the request itself gives.
//! Who can write there can make this service refuse, never execute: what is found is checked as if
//! the request had brought it. A file that is no good counts as absent, and says why.

use std::path::Path;

use crate::core::approval::artifact::{self, Artifact};
use crate::core::approval::keys::Keyring;
use crate::core::approval::verify;
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::limits::{JSON_DEPTH_MAX, SMALL_FILE_BYTES_MAX};
use crate::core::proposal::{ApprovalPolicy, Dropped};
use crate::sys::regular::{self, Opened};

/// A file that is there: its name, and the artifacts in it or why there are none.
pub type Found = (String, Result<Vec<Artifact>, String>);

/// What is there: `<exec_id>.json`, then `<action_hash>.json`; nothing where there is no directory for it.
pub fn read(required: &ApprovalPolicy, exec_id: &Hash, action_hash: &Hash) -> Vec<Found> {
    let file = |hash: &Hash| {
        let name = format!("{}.json", hex(hash));
        let artifacts = artifacts(&required.directory.as_ref()?.join(&name))?;
        Some((name, artifacts))
    };
    [exec_id, action_hash].into_iter().filter_map(file).collect()
}

/// The same, with the key that signed each artifact.
pub fn examined(found: Vec<Found>, keyring: &Keyring) -> Vec<Dropped> {
    let examined = |(name, artifacts): Found| {
        let examined = artifacts.map(|artifacts| verify::examine(artifacts, keyring));
        Dropped { name, examined }
    };
    found.into_iter().map(examined).collect()
}

/// `None` where there is nothing under that name.
fn artifacts(path: &Path) -> Option<Result<Vec<Artifact>, String>> {
    let bytes = match regular::open(path) {
        Ok(Opened::Other) => return Some(Err("it is no regular file".to_owned())),
        // At most one byte more than may be there.
        Ok(found) => found.read(SMALL_FILE_BYTES_MAX + 1).transpose()?,
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        // The kind alone: what the system says of a path differs from host to host.
        Err(error) => return Some(Err(format!("it cannot be read: {}", error.kind()))),
    };
    if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
        return Some(Err(format!("it is larger than {SMALL_FILE_BYTES_MAX} bytes")));
    }
    Some(match strict::read(&bytes, JSON_DEPTH_MAX) {
        Ok(value) => artifact::parse(&value),
        Err(error) => Err(error.to_string()),
    })
}
