//! `POST /approvals` and `POST /rejections`: the checks that need no state.

use std::sync::Arc;

use super::Next;
use super::request::{json_problem, object};
use crate::core::approval::rejection::Rejection;
use crate::core::approval::{artifact, verify};
use crate::core::caller::{Who, name_of};
use crate::core::json::strict;
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::problem::{Code, Problem};
use crate::core::proposal::Policy;
use crate::executor::Sees;
use crate::serve::queue::Job;
use crate::serve::records::sees;
use crate::serve::route::no_such_resource;

pub fn approve(body: &[u8], policy: &Policy, who: Who) -> Result<Next, Problem> {
    let required = policy.approvals.as_ref().ok_or_else(no_such_resource)?;
    let given = strict::read(body, JSON_DEPTH_MAX).map_err(|error| json_problem(&error))?;
    let artifacts = artifact::parse(&given).map_err(verify::malformed)?;
    let examined = verify::examine(artifacts, &required.keyring);
    Ok(Next::Ask(Job::Approve(Box::new(examined), seen(who))))
}

pub fn reject(body: &[u8], policy: &Policy, who: Who) -> Result<Next, Problem> {
    let required = policy.approvals.as_ref().ok_or_else(no_such_resource)?;
    let rejection = Rejection::read(object(strict::read(body, JSON_DEPTH_MAX))?, &required.keyring);
    let malformed = |fault: String| Problem::new(Code::RejectionMalformed, fault);
    Ok(Next::Ask(Job::Reject(Box::new(rejection.map_err(malformed)?), seen(who))))
}

/// What others asked cannot be withdrawn.
pub fn own(who: Who) -> Sees {
    Arc::new(move |owner, _| owner == name_of(&who))
}

fn seen(who: Who) -> Sees {
    Arc::new(move |owner, action| sees(&who, owner, action))
}
