//! The decision (design section 6): a pure function of request, state and time.
//!
//! The rows stand here in their order; the first that applies ends it. Rows 1 and 2 were judged
//! before there was a [`Proposal`]; row 8 is the store's.

use super::proposal::{Dropped, Given, Policy, Proposal};
use crate::core::approval::stored;
use crate::core::approval::verify::{
    Approved, Context, Examined, combine, examine, hold, judge, keys_hold, malformed, missing,
};
use crate::core::caller::person_of;
use crate::core::clock::Fault;
use crate::core::handler::Handler;
use crate::core::hash::hex;
use crate::core::json::strict;
use crate::core::problem::{Code, Problem};
use crate::core::receipt::exec_id;
use crate::core::record::{Claim, Record};
use crate::core::time::Time;

/// What the state says about the attempt's nonce.
#[derive(Debug, Clone, PartialEq)]
pub enum Nonce {
    Unknown,
    /// Claimed by the same action and payload, by the same caller.
    SameRequest,
    /// Claimed or proposed by another action, payload or caller.
    OtherRequest,
    /// Proposed by the same, and not decided.
    Pending {
        asynchronous: bool,
    },
    /// Proposed by the same, and over without a claim: what is answered from then on.
    Over(Problem),
}

/// The state and the time, as far as a decision depends on them.
pub struct Facts<'a> {
    pub now: Time,
    pub nonce: Nonce,
    /// The reason given with `freeze`.
    pub frozen: Option<&'a str>,
    pub store_created: Time,
    /// Why `now` is not to be believed.
    pub clock: Option<Fault>,
    pub is_spent: &'a dyn Fn(&str) -> bool,
    /// The approvals that were recorded of it.
    pub recorded: &'a [Examined],
    /// Several that are pending have its action and payload: nobody could say which one a file named by these is for.
    pub is_shared: bool,
}

/// What follows.
#[must_use]
pub enum Decision {
    /// Answer as the first time; run nothing.
    Replay,
    Refuse(Problem),
    /// It is pending, and executes by itself once it is approved.
    Wait,
    Proceed(Authorization),
}

/// The permission to claim and run, which only [`decide`] gives.
#[must_use]
pub struct Authorization {
    handler: &'static Handler,
    approved: Option<Approved>,
}

impl Authorization {
    pub fn handler(&self) -> &'static Handler {
        self.handler
    }

    /// What was approved, and by whom; `None` in demo mode.
    pub fn approved(&self) -> Option<&Approved> {
        self.approved.as_ref()
    }
}

pub fn decide(proposal: &Proposal, policy: &Policy, facts: &Facts) -> Decision {
    match &facts.nonce {
        Nonce::SameRequest => return Decision::Replay,
        Nonce::OtherRequest => {
            let detail = "This nonce was used for another action or payload, or by another caller";
            return Decision::Refuse(Problem::new(Code::NonceConflict, detail));
        }
        Nonce::Over(problem) => return Decision::Refuse(problem.clone()),
        // Whoever has its promise that it executes by itself keeps it, frozen too.
        Nonce::Pending { asynchronous: true } if !proposal.brings_artifacts() => {
            return Decision::Wait;
        }
        Nonce::Unknown | Nonce::Pending { .. } => {}
    }
    match authorize(proposal, policy, facts) {
        Ok(authorization) => Decision::Proceed(authorization),
        Err(problem) => Decision::Refuse(problem),
    }
}

/// What becomes of a pending proposal now: `None` while approvals are missing; the other rows decide after that.
pub fn judge_pending(
    proposal: &Proposal,
    policy: &Policy,
    facts: &Facts,
) -> Option<Result<Authorization, Problem>> {
    policy.approvals.as_ref()?;
    let whatever_the_time = Facts { clock: None, nonce: Nonce::Unknown, ..*facts };
    match judge_given(proposal, policy, &whatever_the_time) {
        Err(problem) if lacks_approvals(&problem) => None,
        _ => Some(authorize(proposal, policy, facts)),
    }
}

/// Whether all that is missing is approvals: a call that is refused so becomes a proposal.
pub fn lacks_approvals(problem: &Problem) -> bool {
    matches!(problem.code, Code::ApprovalMissing | Code::ApprovalsInsufficient)
}

/// What everybody gets who asks for a proposal that is over, by the record of its end.
pub fn over(end: &Record) -> Option<Problem> {
    let (code, detail) = match end {
        Record::Rejection(rejection) => {
            let said = strict::read_own(rejection.artifact.as_bytes()).ok()?;
            let why = said.get("justification")?.as_str()?;
            (Code::Rejected, format!("This proposal was rejected: {why}"))
        }
        Record::Closed(closed) => {
            let why = match closed.code {
                Some(code) => format!("; it was approved, and refused then by {code}"),
                None => String::new(),
            };
            (closed.how.code(), format!("This proposal is over: {}{why}", closed.how.name()))
        }
        _ => return None,
    };
    Some(Problem::new(code, detail))
}

/// Rows 4 to 7.
fn authorize(
    proposal: &Proposal,
    policy: &Policy,
    facts: &Facts,
) -> Result<Authorization, Problem> {
    if let Some(reason) = facts.frozen {
        return Err(frozen(reason));
    }
    let handler = *proposal.handler.as_ref().map_err(Clone::clone)?;
    let approved = match &policy.approvals {
        None => None,
        Some(_) => Some(judge_given(proposal, policy, facts)?),
    };
    Ok(Authorization { handler, approved })
}

/// Row 7.
fn judge_given(proposal: &Proposal, policy: &Policy, facts: &Facts) -> Result<Approved, Problem> {
    // A proposal prepared without approvals where they are required is a bug of ours; it must not become
    // an execution.
    let context = context(proposal, policy, facts);
    let Some((approval, context)) = proposal.approval.as_ref().zip(context) else {
        return Err(Problem::new(Code::ApprovalMissing, "No approval was examined"));
    };
    let (given, files): (_, &[Dropped]) = match &approval.given {
        Given::Malformed(fault) => return Err(malformed(fault)),
        Given::Artifacts(examined) => (Some(examined), &[]),
        Given::Files(files) => (None, files),
    };
    // Of what the request brings all must hold, and all are spent where they are enough by themselves.
    if let Some(given) = given {
        match judge(given, &context) {
            Err(problem) if lacks_approvals(&problem) && !facts.recorded.is_empty() => {}
            judged => return judged,
        }
    }
    // What does not hold of the others is passed over, with the reason in the detail: the agent that asks did not make
    // it and cannot mend it.
    let (mut beside, mut unusable) = (recorded(&context, facts)?, Vec::new());
    let own = hex(&proposal.id);
    for Dropped { name, examined } in files {
        let reason = match examined.as_ref().map(|examined| (examined, hold(examined, &context))) {
            Ok(_) if facts.is_shared && !name.starts_with(&own) => {
                "several proposals that are pending share it".to_owned()
            }
            Ok((examined, Ok(()))) => {
                beside.push(examined);
                continue;
            }
            // The clock: that is no fault of theirs, and no other approval would help.
            Ok((_, Err(problem))) if problem.code.status() == 503 => return Err(problem),
            Ok((_, Err(problem))) => problem.detail,
            Err(reason) => reason.clone(),
        };
        unusable.push(format!("{name} does not count: {reason}"));
    }
    let is_none = beside.is_empty();
    combine(given, &beside, &context).map_err(|problem| {
        if given.is_some() {
            return problem;
        }
        unusable.extend((!is_none).then_some(problem.detail));
        missing(&context.action_hash, &context.exec_id, &unusable)
    })
}

/// By what approvals of it are judged; `None` in demo mode.
pub fn context<'a>(
    proposal: &'a Proposal,
    policy: &'a Policy,
    facts: &Facts<'a>,
) -> Option<Context<'a>> {
    let (required, approval) = (policy.approvals.as_ref()?, proposal.approval.as_ref()?);
    Some(Context {
        terms: required.terms(facts.now, facts.store_created, facts.clock),
        action: &proposal.action,
        exec_id: proposal.id,
        action_hash: approval.action_hash,
        legacy_hash: approval
            .legacy
            .as_ref()
            .and_then(|text| stored::legacy_hash(text, &proposal.action, &proposal.payload)),
        required: required.keyring.required(&proposal.action),
        proposer: person_of(&proposal.caller),
        is_spent: facts.is_spent,
    })
}

/// The recorded approvals that hold: of each key the one that does so for longest.
///
/// # Errors
/// The clock is not believed: that is no fault of theirs.
pub fn recorded<'a>(context: &Context, facts: &Facts<'a>) -> Result<Vec<&'a Examined>, Problem> {
    let holding = facts.recorded.iter().filter_map(|one| match hold(one, context) {
        Ok(()) => Some(Ok(one)),
        Err(problem) => (problem.code.status() == 503).then_some(Err(problem)),
    });
    let all = holding.collect::<Result<Vec<_>, _>>()?;
    let is_longer = |one: &Examined, other: &Examined| {
        let mut both = one.signed().zip(other.signed());
        both.any(|(one, other)| one.1 == other.1 && one.0.expires_at() > other.0.expires_at())
    };
    let longest = all.iter().filter(|one| !all.iter().any(|other| is_longer(other, one)));
    Ok(longest.copied().collect())
}

/// Whether a stored claim, cut short by a crash, may run a second time: rows 5 to 7 as configured now.
/// The times of its artifacts are judged as of the claim, and its own spending is none. A key must hold
/// now as well, and not only at the claim's time: it may have been stolen.
///
/// # Errors
/// The refusal that it would get now.
pub fn judge_again(
    claim: &Claim,
    policy: &Policy,
    store_created: Time,
    now: Time,
) -> Result<&'static Handler, Problem> {
    if exec_id(claim.action, &claim.nonce, &claim.payload) != claim.id {
        let detail = "The claim's id is not the hash of its action, nonce and payload";
        return Err(Problem::new(Code::ApprovalHashMismatch, detail));
    }
    let caller = policy.caller(claim.caller.as_deref())?;
    let payload = strict::read_own(claim.payload.as_bytes()).unwrap_or_default();
    let handler = policy.admit(&caller, claim.action, &payload)?;
    let Some(required) = &policy.approvals else { return Ok(handler) };
    let terms = required.terms(claim.at, store_created, None);
    let (artifacts, context) = stored::read(claim, terms, &required.keyring, person_of(&caller))
        .map_err(|fault| Problem::new(Code::ApprovalMalformed, fault))?;
    let examined = examine(artifacts, &required.keyring);
    let _ = judge(&examined, &context)?;
    keys_hold(examined.signers(), claim.action, now.max(claim.at), None)?;
    Ok(handler)
}

/// Row 4; also what the replays of a claim get that waits for `unfreeze`.
pub fn frozen(reason: &str) -> Problem {
    let because = if reason.is_empty() { "" } else { ": " };
    Problem::new(Code::Frozen, format!("Execution is frozen{because}{reason}"))
}
