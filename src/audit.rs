//! The audit of a whole store: what `openexec verify` does (design section 13).
//!
//! Reads only. Framing, numbers and roots are judged by the same code that opens a store; on top of
//! that every record is held to what it claims: ids and receipts are computed again, a nonce and an
//! approval are spent once, and each stored approval is judged as of its claim's time, by the same
//! function that admitted it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;

use crate::approval::keys::Keyring;
use crate::approval::stored;
use crate::approval::verify::{Context, Verdict, examine, judge};
use crate::handlers::RESERVED_RESULT_KEYS;
use crate::hash::{Hash, hex};
use crate::json::{Object, Value, canonical, strict};
use crate::limits::RECORD_DEPTH_MAX;
use crate::receipt::{Outcome, action_hash, denial, exec_id, receipt};
use crate::store::Geometry;
use crate::store::disk::Disk;
use crate::store::fault::OpenError;
use crate::store::record::{Claim, Denial, DeniedPayload, Identity, Mode, Receipt, Record};
use crate::store::replay::{Progress, replay};
use crate::store::table::Table;
use crate::store::tree::Head;
use crate::time::Time;
use crate::witness::guard::{Relation, relation};

/// What an audit that found nothing wrong has seen.
#[derive(Debug, Clone)]
pub struct Summary {
    pub identity: Identity,
    pub records: u64,
    pub batches: u64,
    pub root: Hash,
    /// By outcome.
    pub executions: BTreeMap<&'static str, u64>,
    /// Claims that have no receipt yet.
    pub owed: u64,
    /// Refusals that are stored.
    pub denials: u64,
    /// Refusals that were only counted.
    pub suppressed: u64,
    /// Claims whose approvals were judged with their signatures.
    pub approvals_judged: u64,
    /// Text stands behind the last commit: a batch being written, or cut short.
    pub unfinished_tail: bool,
    /// How it stands to the checkpoint that was given.
    pub relation: Option<Relation>,
}

/// Audits the store on `disk`. Without a `keyring` signatures are not checked. `kept` is a checkpoint
/// from elsewhere.
///
/// # Errors
/// The first violation, with file and byte; or the disk's.
pub fn audit(
    disk: &dyn Disk,
    geometry: Geometry,
    keyring: Option<&Keyring>,
    kept: Option<&Head>,
    progress: Progress,
) -> Result<Summary, OpenError> {
    let mut auditor = Auditor { keyring, ..Auditor::default() };
    let mut observe = |record: &Record, _| auditor.see(record);
    let mut read = replay(disk, geometry, progress, Some(&mut observe));
    if auditor.met_again {
        // Among forty million hashes of 63 bits two that differ are equal in one store of ten thousand.
        auditor = Auditor { keyring, ..Auditor::default() };
        let mut observe = |record: &Record, _| auditor.see(record);
        read = replay(disk, geometry, progress, Some(&mut observe));
    }
    let replay = read?;
    let identity = replay.identity().cloned().ok_or(OpenError::Absent)?;
    let relation = kept.map(|kept| relation(&replay.source(disk, geometry), kept)).transpose();
    let relation = relation.map_err(|error| OpenError::Disk {
        doing: "reading a block of records".to_owned(),
        error,
    })?;
    Ok(Summary {
        identity,
        records: replay.tree.size(),
        batches: replay.batch,
        root: replay.tree.root(),
        executions: auditor.executions,
        owed: replay.state.owed().len() as u64,
        denials: auditor.denials,
        suppressed: auditor.suppressed,
        approvals_judged: auditor.approvals_judged,
        unfinished_tail: replay.has_tail(),
        relation,
    })
}

#[derive(Default)]
struct Auditor<'a> {
    keyring: Option<&'a Keyring>,
    mode: Option<Mode>,
    created: Time,
    nonces: Spent,
    approvals: Spent,
    /// A nonce or an approval seems to be spent a second time.
    met_again: bool,
    executions: BTreeMap<&'static str, u64>,
    denials: u64,
    suppressed: u64,
    approvals_judged: u64,
}

/// What was seen before, by keyed hash, in less memory than the index of a service that serves the store.
#[derive(Default)]
struct Spent {
    keys: RandomState,
    seen: Table,
}

impl Spent {
    /// Whether it was new.
    fn insert(&mut self, text: &str) -> bool {
        self.seen.insert_hash(self.keys.hash_one(text))
    }
}

impl Auditor<'_> {
    fn see(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Store { at, mode, .. } => {
                if self.mode.is_some() {
                    return Err("a second store record".to_owned());
                }
                (self.mode, self.created) = (Some(*mode), *at);
                Ok(())
            }
            _ if self.mode.is_none() => Err("the first record is not the store's".to_owned()),
            Record::Claim(claim) => self.claim(claim),
            Record::Receipt(receipt) => self.receipt(receipt),
            Record::Denial(denial) => self.denial(denial),
            Record::Suppressed { count, .. } => self.suppressed(count),
            Record::Retry { .. } | Record::Freeze { .. } | Record::Unfreeze { .. } => Ok(()),
        }
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), String> {
        payload(claim.payload)?;
        if claim.id != exec_id(claim.action, &claim.nonce, claim.payload) {
            return Err("the claim's id is not the hash of its action, nonce and payload".into());
        }
        if !self.nonces.insert(&claim.nonce) {
            self.met_again = true;
            return Err("a nonce is claimed a second time".to_owned());
        }
        let ids = claim.approval_ids().ok_or("the claim's approvals cannot be read")?;
        for id in &ids {
            if !self.approvals.insert(id) {
                self.met_again = true;
                return Err(format!("approval {id} is spent a second time"));
            }
        }
        match self.mode {
            Some(Mode::Clawshield) => self.approved(claim),
            _ if claim.approval == "null" => Ok(()),
            _ => Err("a claim in demo mode names an approval".to_owned()),
        }
    }

    /// Row 7 of the decision again, at the claim's time and by the claim's own terms.
    fn approved(&mut self, claim: &Claim) -> Result<(), String> {
        let stored =
            stored::read(claim.approval, claim.legacy.as_deref(), claim.action, claim.payload)?;
        let tenant = claim.tenant.as_deref().ok_or("the claim has no tenant")?;
        let required = claim
            .required
            .and_then(|required| NonZeroUsize::new(usize::try_from(required).ok()?))
            .ok_or("the claim does not say how many approvals it needed")?;
        let Some(keyring) = self.keyring else { return Ok(()) };
        let context = Context {
            now: claim.at,
            action: claim.action,
            tenant,
            exec_id: claim.id,
            action_hash: action_hash(claim.action, claim.payload),
            legacy_hash: stored.legacy_hash,
            required,
            ttl_max_seconds: claim.ttl_max,
            store_created: self.created,
            clock: None,
            is_spent: &|_| false,
        };
        match judge(&examine(stored.artifacts, keyring), &context) {
            Verdict::Approved(_) => {
                self.approvals_judged += 1;
                Ok(())
            }
            Verdict::Refused(problem) => {
                Err(format!("the claim's approval does not hold: {}", problem.detail))
            }
        }
    }

    fn receipt(&mut self, record: &Receipt) -> Result<(), String> {
        let result = payload(record.result)?;
        if record.receipt != receipt(&hex(&record.id), record.result) {
            return Err("the receipt is not the hash of its id and result".to_owned());
        }
        let reserved = RESERVED_RESULT_KEYS.iter().find(|key| result.contains_key(**key));
        let expected = match record.outcome {
            Outcome::Executed => None,
            ended => Some(ended.name()),
        };
        if reserved.copied() != expected {
            return Err("the result is not one of its outcome".to_owned());
        }
        *self.executions.entry(record.outcome.name()).or_insert(0) += 1;
        Ok(())
    }

    fn denial(&mut self, record: &Denial) -> Result<(), String> {
        self.denials += 1;
        if let DeniedPayload::Text(text) = record.payload {
            payload(text)?;
            if record.id != exec_id(&record.action, &record.nonce, text) {
                return Err("the denial's id is not the hash of what was denied".to_owned());
            }
        }
        if denial(&record.id, record.code, &record.detail) != record.receipt {
            return Err("the denial's receipt is not the hash of its id and result".to_owned());
        }
        Ok(())
    }

    fn suppressed(&mut self, count: &str) -> Result<(), String> {
        let count = payload(count)?;
        for number in count.values() {
            let number = number.as_u64().ok_or("a suppressed count is not a number")?;
            let sum = self.suppressed.checked_add(number);
            self.suppressed = sum.ok_or("more refusals are counted than there can be")?;
        }
        Ok(())
    }
}

/// An object in canonical form.
fn payload(text: &str) -> Result<Object, String> {
    match strict::read(text.as_bytes(), RECORD_DEPTH_MAX) {
        Ok(value) if canonical::to_string(&value) != text => {
            Err("a value is not in canonical form".to_owned())
        }
        Ok(Value::Object(object)) => Ok(object),
        _ => Err("a value is not an object that this program would store".to_owned()),
    }
}
