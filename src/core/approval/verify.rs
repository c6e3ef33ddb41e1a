//! Row 7 of the decision, in two halves: which key signed what, and what follows from it.
//!
//! Owns the verdict. Its invariant is that an [`Approved`] exists only as the result of
//! [`judge`]: its fields are private and nothing else makes one.
//!
//! [`examine`] is the expensive half, needs no state, and runs where requests are prepared.
//! [`judge`] is a pure function of what that found, of the state and of the time, and runs where the
//! state is known; `openexec verify` calls it again for each stored claim, as of the claim's time.
//!
//! # Which signatures count
//!
//! RFC 8032 leaves choices to the verifier; this one (`ed25519-compact`) makes them so: S must be
//! below L (no second signature by adding L); A and R must be canonical encodings of points, and not
//! of small order (no key and no R for which a signature holds whatever the message); the equation is
//! checked times the cofactor 8, so points with a small-order part pass, as RFC 8032, section 5.1.7
//! allows. Cofactorless verifiers may refuse such a signature, which only somebody with the private
//! key can make, by a signer built for it. It is safe to accept: it still says that the holder of
//! the key approved exactly this message, and an approval is spent by its `approval_id`, never by
//! the bytes of its signature, so that another signature of the same message executes nothing more.

use std::sync::Arc;

use super::artifact::{self, Artifact};
use super::keys::{Key, Keyring};
use super::required::{Required, groups_of};
use crate::core::clock::Fault;
use crate::core::hash::{self, Hash};
use crate::core::json::strict;
use crate::core::limits::CLOCK_SKEW_SECONDS;
use crate::core::problem::{Code, Problem};
use crate::core::record;
use crate::core::time::Time;

/// Artifacts, each with the configured key under which its signature verifies.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    artifacts: Vec<Artifact>,
    /// One for each artifact, up to the first that no key verifies.
    signers: Vec<Arc<Key>>,
}

/// What the verdict depends on beside the artifacts.
pub struct Context<'a> {
    pub terms: Terms<'a>,
    pub action: &'a str,
    /// The SHA-256 of canonical `{"action","nonce","payload"}`.
    pub exec_id: Hash,
    /// The SHA-256 of canonical `{"action","payload"}`.
    pub action_hash: Hash,
    /// The SHA-256 of the legacy encoding of the same, unless it would be too long.
    pub legacy_hash: Option<Hash>,
    /// How many must approve: [`Keyring::required`].
    pub required: &'a Required,
    /// The person who proposed it.
    pub proposer: Option<&'a str>,
    /// Whether an approval id was spent by an earlier execution, one of the same batch included.
    pub is_spent: &'a dyn Fn(&str) -> bool,
}

/// What the tenant and the times of approvals are judged by, whatever they are for.
pub struct Terms<'a> {
    /// Of a stored claim its own time.
    pub now: Time,
    /// `CLAWSHIELD_TENANT_ID`; of a stored claim what its policy says, as the next.
    pub tenant: &'a str,
    /// `OPENEXEC_MAX_APPROVAL_TTL_SECONDS`.
    pub ttl_max_seconds: Option<u64>,
    pub store_created: Time,
    /// Why `now` is not to be believed.
    pub clock: Option<Fault>,
}

/// Proof that [`judge`] approved, and what the claim record says about it. Nobody else can make one:
///
/// ```compile_fail,E0451
/// use openexec::core::approval::verify::Approved;
/// let forged = Approved { examined: Default::default(), legacy: false };
/// ```
#[must_use]
#[derive(Debug)]
pub struct Approved {
    examined: Examined,
    legacy: bool,
}

impl Examined {
    /// The keys that made the signatures.
    pub fn signers(&self) -> &[Arc<Key>] {
        &self.signers
    }

    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// Each with its key.
    pub fn signed(&self) -> impl Iterator<Item = (&Artifact, &Arc<Key>)> {
        self.artifacts.iter().zip(&self.signers)
    }

    /// Adds what holds of another, each id once: one that came twice would be spent once and counted twice.
    pub fn add(&mut self, other: &Examined) {
        for (artifact, signer) in other.signed() {
            let is_it = |known: &Artifact| known.approval_id() == artifact.approval_id();
            if !self.artifacts.iter().any(is_it) {
                self.artifacts.push(artifact.clone());
                self.signers.push(signer.clone());
            }
        }
    }

    /// Keeps of approvals that hold as few as fill as many places, the earlier ones rather. Of a person's several keys
    /// any may be the one that frees a place for somebody else: so all are there first, and are taken away.
    pub fn reduce(&mut self, required: &Required) {
        let missing = required.missing(&self.signers).len();
        for at in (0..self.artifacts.len()).rev() {
            let signer = self.signers.remove(at);
            if required.missing(&self.signers).len() > missing {
                self.signers.insert(at, signer);
            } else {
                self.artifacts.remove(at);
            }
        }
    }
}

impl Approved {
    /// The artifacts, all of which are spent together.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.examined.artifacts
    }

    /// The ids that the execution spends.
    pub fn approval_ids(&self) -> impl Iterator<Item = &str> {
        self.artifacts().iter().map(Artifact::approval_id)
    }

    /// The names of the different keys that counted, in the order of the artifacts.
    pub fn key_names(&self) -> Vec<String> {
        let signers = &self.examined.signers;
        let first = signers.iter().enumerate().filter(|(at, key)| !signers[..*at].contains(key));
        first.map(|(_, key)| key.name().to_owned()).collect()
    }

    /// Whether the approvals hashed the legacy text, which the claim must then hold.
    pub fn is_legacy(&self) -> bool {
        self.legacy
    }
}

/// Finds the key that verifies each signature. It stops at the first artifact that none verifies,
/// which [`judge`] will refuse: so what a stranger sends costs one round of the keys.
pub fn examine(artifacts: Vec<Artifact>, keyring: &Keyring) -> Examined {
    let signer =
        |artifact: &Artifact| keyring.signer(artifact.signature(), &artifact.signed_message());
    Examined { signers: artifacts.iter().map_while(signer).collect(), artifacts }
}

/// The same of a recorded approval, by the keys as they are now; the key that the record names is tried first. `None` of
/// what is no artifact.
pub fn examine_recorded(record: &record::Approval, keyring: &Keyring) -> Option<Examined> {
    let text = strict::read_own(record.artifact.as_bytes()).ok()?;
    let artifact = artifact::parse(&text).ok()?.into_iter().next()?;
    let message = artifact.signed_message();
    let named = keyring.keys().iter().filter(|key| key.name() == record.key);
    let verifies = |key: &&Arc<Key>| key.made(artifact.signature(), &message);
    let signer = named.chain(keyring.keys()).find(verifies).cloned();
    Some(Examined { signers: signer.into_iter().collect(), artifacts: vec![artifact] })
}

/// What the refusal says of an attempt without one.
pub const MISSING: &str = "ClawShield mode requires an approval artifact";

/// Row 7, "artifact present": the refusal of an attempt without one. `unusable` says, a sentence
/// each, why files of the approvals directory do not count.
pub fn missing(action_hash: &Hash, exec_id: &Hash, unusable: &[String]) -> Problem {
    let detail = [&[MISSING.to_owned()], unusable].concat().join("; ");
    for_the_approver(Code::ApprovalMissing, detail, action_hash, exec_id)
}

/// Row 7, "form".
pub fn malformed(fault: impl Into<String>) -> Problem {
    Problem::new(Code::ApprovalMalformed, fault)
}

/// The rest of row 7, check after check, each over all artifacts before the next. One artifact that
/// fails refuses all.
pub fn judge(examined: &Examined, context: &Context<'_>) -> Result<Approved, Problem> {
    hold(examined, context)?;
    // Counted are holders of different keys: not artifacts or signatures.
    let missing = context.required.missing(&examined.signers);
    if !missing.is_empty() {
        let detail = format!(
            "'{}' has {} of the {} approvals by different keys that it needs{}",
            context.action,
            context.required.count() - missing.len(),
            context.required.count(),
            groups_of(&missing)
        );
        let code = Code::ApprovalsInsufficient;
        return Err(for_the_approver(code, detail, &context.action_hash, &context.exec_id));
    }
    let is_canonical = |artifact: &Artifact| {
        *artifact.action_hash() == context.action_hash || *artifact.action_hash() == context.exec_id
    };
    let legacy = !examined.artifacts.iter().all(is_canonical);
    Ok(Approved { examined: examined.clone(), legacy })
}

/// Counts together what the request brings and what there is beside it, as few as it takes: each must hold.
///
/// # Errors
/// `approvals_insufficient`, or what does not hold.
pub fn combine(
    given: Option<&Examined>,
    beside: &[&Examined],
    context: &Context<'_>,
) -> Result<Approved, Problem> {
    let mut all = given.cloned().unwrap_or_default();
    beside.iter().for_each(|examined| all.add(examined));
    all.reduce(context.required);
    judge(&all, context)
}

/// Whether each holds, however many there must be.
///
/// # Errors
/// The refusal.
pub fn hold(examined: &Examined, context: &Context<'_>) -> Result<(), Problem> {
    let (artifacts, id) = (&examined.artifacts, Artifact::approval_id);
    signatures_hold(examined)?;
    keys_hold(&examined.signers, context.action, context.terms.now, context.proposer)?;
    times_hold(artifacts, &context.terms)?;
    check_hash(artifacts, context)?;
    refuse_first(artifacts, Code::ApprovalAlreadyUsed, &|a| (context.is_spent)(id(a)), &|a| {
        format!("Approval {} was spent by an earlier execution", id(a))
    })
}

/// Whether a configured key made each signature.
///
/// # Errors
/// The refusal.
pub fn signatures_hold(examined: &Examined) -> Result<(), Problem> {
    if let Some(artifact) = examined.artifacts.get(examined.signers.len()) {
        let id = artifact.approval_id();
        let detail =
            format!("Invalid signature: approval {id} does not verify under any configured key");
        return Err(Problem::new(Code::ApprovalSignatureInvalid, detail));
    }
    Ok(())
}

/// Whether the keys may approve that action at that time, and whether one is the proposer's own. Of a claim that is to run a second time the
/// artifacts are judged as of the claim, and its keys as of now too.
pub fn keys_hold(
    signers: &[Arc<Key>],
    action: &str,
    now: Time,
    proposer: Option<&str>,
) -> Result<(), Problem> {
    refuse_first(signers, Code::ApprovalKeyNotAuthorized, &|k| !k.may_approve(action), &|k| {
        format!("Key '{}' may not approve '{action}'", k.name())
    })?;
    refuse_first(signers, Code::ApprovalKeyExpired, &|k| k.is_expired(now), &|k| {
        format!("Key '{}' is past its not_after", k.name())
    })?;
    let is_own = |key: &Arc<Key>| proposer.is_some() && key.person() == proposer;
    refuse_first(signers, Code::ApproverIsProposer, &is_own, &|k| {
        format!("Key '{}' is of the person who proposed this", k.name())
    })
}

/// What approvals say, whoever signed them and whatever they are for: tenant and times.
///
/// # Errors
/// The refusal.
pub fn times_hold(artifacts: &[Artifact], terms: &Terms<'_>) -> Result<(), Problem> {
    let refuse = |code, wrong: &dyn Fn(&Artifact) -> bool, why: &dyn Fn(&Artifact) -> String| {
        refuse_first(artifacts, code, wrong, why)
    };
    let id = Artifact::approval_id;
    refuse(Code::TenantMismatch, &|a| a.tenant_id() != terms.tenant, &|a| {
        format!("Tenant mismatch: approval {} is for another tenant than this service", id(a))
    })?;
    // Which of the two it is does not depend on the time of asking: the inverted period first.
    refuse(Code::ApprovalExpired, &|a| a.issued_at() >= a.expires_at(), &|a| {
        format!("Approval artifact expired before it was issued: {}", id(a))
    })?;
    refuse(Code::ApprovalExpired, &|a| a.expires_at() <= terms.now, &|a| {
        format!("Approval artifact expired at {}: {}", a.expires_at_text(), id(a))
    })?;
    let latest = terms.now.plus_seconds(CLOCK_SKEW_SECONDS);
    refuse(Code::ApprovalNotYetValid, &|a| a.issued_at() > latest, &|a| {
        format!("Approval {} was issued in the future; check both clocks", id(a))
    })?;
    let longest =
        terms.ttl_max_seconds.map_or(i64::MAX, |ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
    refuse(
        Code::ApprovalTtlTooLong,
        &|a| a.expires_at() > a.issued_at().plus_seconds(longest),
        &|a| format!("Approval {} lives longer than the {longest} seconds allowed", id(a)),
    )?;
    let created = terms.store_created.seconds();
    refuse(Code::ApprovalBeforeStore, &|a| a.issued_at().seconds() < created, &|a| {
        format!("Approval {} was issued before this store was created; approve again", id(a))
    })?;
    terms.clock.map_or(Ok(()), |fault| Err(clock_fault(fault)))
}

/// Also for the replays of a claim that waits for a clock to be believed.
pub fn clock_fault(fault: Fault) -> Problem {
    Problem::new(fault.code(), fault.advice())
}

/// An artifact may hash the request in any of the contract's ways.
fn check_hash(artifacts: &[Artifact], context: &Context<'_>) -> Result<(), Problem> {
    let covers = |hash: &Hash| {
        *hash == context.action_hash
            || *hash == context.exec_id
            || Some(*hash) == context.legacy_hash
    };
    let other = artifacts.iter().find(|artifact| !covers(artifact.action_hash()));
    let Some(artifact) = other else { return Ok(()) };
    let detail = format!(
        "Action hash mismatch: expected {}, approval {} is for {}",
        hash::hex(&context.action_hash),
        artifact.approval_id(),
        hash::hex(artifact.action_hash())
    );
    let code = Code::ApprovalHashMismatch;
    Err(for_the_approver(code, detail, &context.action_hash, &context.exec_id))
}

/// Refuses for the first key or artifact that is `wrong`.
fn refuse_first<A>(
    all: &[A],
    code: Code,
    wrong: &dyn Fn(&A) -> bool,
    why: &dyn Fn(&A) -> String,
) -> Result<(), Problem> {
    let first = all.iter().find(|one| wrong(one));
    first.map_or(Ok(()), |one| Err(Problem::new(code, why(one))))
}

/// With what an approver would sign.
fn for_the_approver(code: Code, detail: String, action_hash: &Hash, exec_id: &Hash) -> Problem {
    Problem::new(code, detail)
        .with("action_hash", hash::hex(action_hash))
        .with("exec_id", hash::hex(exec_id))
}
