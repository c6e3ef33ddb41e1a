//! The audit of a whole store: what `openexec verify` does (design section 13).
//!
//! Reads only. Framing, numbers and roots are judged by the same code that opens a store; on top of
//! that every record is held to what it claims: ids and receipts are computed again, a nonce and an
//! approval are spent once, and each stored approval is judged as of its claim's time, by the same
//! function that admitted it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;

use crate::core::approval::artifact::Artifact;
use crate::core::approval::keys::Keyring;
use crate::core::approval::stored;
use crate::core::approval::verify::{Context, examine, judge, judge_unsigned};
use crate::core::handler::RESERVED_RESULT_KEYS;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{DENIAL_PAYLOAD_BYTES_MAX, RECORD_DEPTH_MAX};
use crate::core::problem::Problem;
use crate::core::receipt::{
    Effect, Outcome, action_hash, denial, exec_id, receipt, reserved_result,
};
use crate::core::record::{Claim, Denial, DeniedPayload, Identity, Mode, Receipt, Record};
use crate::core::time::Time;
use crate::core::tree::Head;
use crate::evidence::guard::{Relation, relation};
use crate::store::Geometry;
use crate::store::fault::OpenError;
use crate::store::replay::{Progress, Seen, replay};
use crate::store::table::Table;
use crate::sys::disk::Disk;

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
    let mut observe = |seen: &Seen| auditor.see(seen);
    let mut read = replay(disk, geometry, progress, Some(&mut observe));
    if auditor.met_again {
        // Among forty million hashes of 63 bits two that differ are equal in one store of ten thousand.
        auditor = Auditor { keyring, ..Auditor::default() };
        let mut observe = |seen: &Seen| auditor.see(seen);
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
    /// Claims without a receipt: their effect and their batch.
    owed: HashMap<Hash, (Effect, u64)>,
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
    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        match seen.record {
            Record::Store { at, mode, .. } => {
                (self.mode, self.created) = (Some(*mode), *at);
                Ok(())
            }
            Record::Claim(claim) => self.claim(claim, seen),
            Record::Receipt(receipt) => self.receipt(receipt, seen.batch),
            Record::Denial(denial) => self.denial(denial),
            Record::Suppressed { count, .. } => self.suppressed(count),
            Record::Retry { .. } | Record::Freeze { .. } | Record::Unfreeze { .. } => Ok(()),
        }
    }

    fn claim(&mut self, claim: &Claim, seen: &Seen) -> Result<(), String> {
        payload(claim.payload)?;
        if claim.id != exec_id(claim.action, &claim.nonce, claim.payload) {
            return Err("the claim's id is not the hash of its action, nonce and payload".into());
        }
        if claim.effect == Effect::Once && seen.among != 1 {
            return Err("a claim of effect once is not alone in its batch".to_owned());
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
        self.owed.insert(claim.id, (claim.effect, seen.batch));
        let is_bare = claim.approval == "null" && claim.keys == "[]";
        let has_terms = claim.legacy.is_some()
            || claim.tenant.is_some()
            || claim.required.is_some()
            || claim.ttl_max.is_some();
        match self.mode {
            Some(Mode::Clawshield) => self.approved(claim),
            _ if is_bare && !has_terms => Ok(()),
            _ => Err("a claim in demo mode names an approval".to_owned()),
        }
    }

    /// Row 7 of the decision again, at the claim's time and by the claim's own terms.
    fn approved(&mut self, claim: &Claim) -> Result<(), String> {
        value(claim.approval)?;
        let stored =
            stored::read(claim.approval, claim.legacy.as_deref(), claim.action, claim.payload)?;
        let artifacts = stored.artifacts;
        let tenant = claim.tenant.as_deref().ok_or("the claim has no tenant")?;
        let required = claim
            .required
            .and_then(|required| NonZeroUsize::new(usize::try_from(required).ok()?))
            .ok_or("the claim does not say how many approvals it needed")?;
        let names = names(claim.keys)?;
        if !(required.get()..=artifacts.len()).contains(&names.len()) {
            return Err("the claim does not name as many keys as it needed".to_owned());
        }
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
        let refused = |problem: Problem| {
            Err(format!("the claim's approval does not hold: {}", problem.detail))
        };
        if let Err(problem) = judge_unsigned(&artifacts, &context) {
            return refused(problem);
        }
        let hashed = artifacts.first().map(Artifact::action_hash);
        if claim.legacy.is_some()
            && [&context.action_hash, &context.exec_id].map(Some).contains(&hashed)
        {
            return Err("the claim has a legacy text that no approval hashed".to_owned());
        }
        let Some(keyring) = self.keyring else { return Ok(()) };
        let approved = match judge(&examine(artifacts, keyring), &context) {
            Ok(approved) => approved,
            Err(problem) => return refused(problem),
        };
        let counted = approved.key_names();
        let is_named = |(claimed, name): (&String, &String)| {
            keyring.keys().iter().any(|key| key.name() == name && key.is_named(claimed))
        };
        if names.len() != counted.len() || !names.iter().zip(counted).all(is_named) {
            return Err(format!("the claim names other keys than approved it: {counted:?} did"));
        }
        self.approvals_judged += 1;
        Ok(())
    }

    fn receipt(&mut self, record: &Receipt, batch: u64) -> Result<(), String> {
        let result = payload(record.result)?;
        if record.receipt != receipt(&hex(&record.id), record.result) {
            return Err("the receipt is not the hash of its id and result".to_owned());
        }
        let (effect, claimed) = self.owed.remove(&record.id).ok_or("a receipt has no claim")?;
        if (effect == Effect::Pure) != (claimed == batch) {
            return Err("only a pure claim has its receipt in its own batch".to_owned());
        }
        let is_of_outcome = match record.outcome {
            Outcome::Executed => !RESERVED_RESULT_KEYS.iter().any(|key| result.contains_key(*key)),
            ended => {
                let why = result.get(ended.name());
                let text = |name| why.and_then(|why| why.get(name)).and_then(Value::as_str);
                let reserved = text("code").zip(text("detail"));
                reserved
                    .map(|(code, detail)| reserved_result(ended.name(), code, detail))
                    .as_deref()
                    == Some(record.result)
            }
        };
        if !is_of_outcome {
            return Err("the result is not one of its outcome".to_owned());
        }
        *self.executions.entry(record.outcome.name()).or_insert(0) += 1;
        Ok(())
    }

    fn denial(&mut self, record: &Denial) -> Result<(), String> {
        self.denials += 1;
        if let DeniedPayload::Text(text) = record.payload {
            payload(text)?;
            if text.len() > DENIAL_PAYLOAD_BYTES_MAX {
                return Err("a denial holds a payload that is stored as its hash".to_owned());
            }
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

/// A value in canonical form.
fn value(text: &str) -> Result<Value, String> {
    match strict::read(text.as_bytes(), RECORD_DEPTH_MAX) {
        Ok(value) if canonical::to_string(&value) == text => Ok(value),
        Ok(_) => Err("a value is not in canonical form".to_owned()),
        Err(_) => Err("a value is not one that this program would store".to_owned()),
    }
}

fn payload(text: &str) -> Result<Object, String> {
    match value(text)? {
        Value::Object(object) => Ok(object),
        _ => Err("a value is not an object".to_owned()),
    }
}

/// The names of the keys that counted, each once.
fn names(text: &str) -> Result<Vec<String>, String> {
    let value = value(text)?;
    let name = |name: &Value| name.as_str().map(str::to_owned);
    let names: Option<Vec<String>> =
        value.as_array().and_then(|names| names.iter().map(name).collect());
    let names = names.ok_or("the claim's keys are no names")?;
    if names.iter().collect::<HashSet<_>>().len() == names.len() {
        Ok(names)
    } else {
        Err("the claim names a key twice".to_owned())
    }
}
