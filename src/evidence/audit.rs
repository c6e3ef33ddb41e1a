//! The audit of a whole store: what `openexec verify` does (design section 13).
//!
//! Reads only. Framing, numbers and roots are judged by the same code that opens a store; on top of
//! that every record is held to what it claims: ids and receipts are computed again, a nonce and an
//! approval are spent once, and each stored approval is judged as of its claim's time by the policy
//! in force, by the same function that admitted it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::core::approval::keys::{Key, Keyring, fingerprint};
use crate::core::approval::stored;
use crate::core::approval::verify::{Context, examine, judge};
use crate::core::handler::RESERVED_RESULT_KEYS;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{RECORD_DEPTH_MAX, REFUSAL_PAYLOAD_BYTES_MAX};
use crate::core::receipt::{
    Effect, Outcome, action_hash, exec_id, receipt, refusal, reserved_result,
};
use crate::core::record::{self, Claim, Identity, Mode, Receipt, Record, Refusal, RefusedPayload};
use crate::core::time::Time;
use crate::core::tree::Head;
use crate::evidence::guard::{Relation, relation};
use crate::store::Geometry;
use crate::store::fault::OpenError;
use crate::store::replay::{Progress, Seen, observe};
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
    pub refusals: u64,
    /// Refusals that were only counted.
    pub suppressed: u64,
    /// Claims whose approvals were judged.
    pub approvals_judged: u64,
    /// The keys of all policies: fingerprint and name.
    pub keys: BTreeSet<(String, String)>,
    /// Text stands behind the last commit: a batch being written, or cut short.
    pub unfinished_tail: bool,
    /// How it stands to the checkpoint that was given.
    pub relation: Option<Relation>,
}

/// Audits the store on `disk`: by the policies in it, and by the keys of `keyring` too. `kept` is a checkpoint
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
    let mut read = observe(disk, geometry, progress, &mut |seen| auditor.see(seen));
    if auditor.met_again {
        // Among forty million hashes of 63 bits two that differ are equal in one store of ten thousand.
        auditor = Auditor { keyring, ..Auditor::default() };
        read = observe(disk, geometry, progress, &mut |seen| auditor.see(seen));
    }
    let replay = read?;
    let identity = replay.identity().cloned().ok_or(OpenError::Absent)?;
    let relation = kept.map(|kept| relation(&replay.log(disk, geometry), kept)).transpose();
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
        refusals: auditor.refusals,
        suppressed: auditor.suppressed,
        approvals_judged: auditor.approvals_judged,
        keys: auditor.keys,
        unfinished_tail: replay.tail().is_some(),
        relation,
    })
}

#[derive(Default)]
struct Auditor<'a> {
    keyring: Option<&'a Keyring>,
    mode: Option<Mode>,
    created: Time,
    /// Records so far.
    records: u64,
    /// What the policy record in force says.
    terms: Option<Terms>,
    nonces: Spent,
    approvals: Spent,
    /// A nonce or an approval seems to be spent a second time.
    met_again: bool,
    /// Claims without a receipt: their effect and their batch.
    owed: HashMap<Hash, (Effect, u64)>,
    executions: BTreeMap<&'static str, u64>,
    refusals: u64,
    suppressed: u64,
    approvals_judged: u64,
    keys: BTreeSet<(String, String)>,
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

/// What a policy record says, ready to judge by.
struct Terms {
    number: u64,
    batch: u64,
    allowed: Option<Vec<String>>,
    /// `None` in demo mode.
    approvals: Option<(String, Keyring)>,
    ttl_max: Option<u64>,
}

impl Terms {
    fn of(policy: &record::Policy, number: u64, batch: u64) -> Result<Self, String> {
        let allowed = value(&policy.allowed)?;
        let name = |name: &Value| name.as_str().map(str::to_owned);
        let approvals = match &policy.tenant {
            Some(tenant) => {
                let keyring = Keyring::from_record(&policy.keys, &policy.required);
                let keyring = keyring.map_err(|why| format!("a policy record's keys: {why}"))?;
                Some((tenant.to_string(), keyring))
            }
            None if &*policy.keys == "null" && &*policy.required == "null" => None,
            None => return Err("a policy record has keys and no tenant".to_owned()),
        };
        let allowed = allowed.as_array().map(|names| names.iter().filter_map(name).collect());
        Ok(Terms { number, batch, allowed, approvals, ttl_max: policy.ttl_max })
    }
}

impl Auditor<'_> {
    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        let number = self.records;
        self.records += 1;
        match &seen.record()?.0 {
            Record::Store(store) => (self.mode, self.created) = (Some(store.mode), store.at),
            Record::Policy(policy) => {
                let terms = Terms::of(policy, number, seen.batch)?;
                if terms.approvals.is_some() != (self.mode == Some(Mode::Clawshield)) {
                    return Err("a policy record of the other mode".to_owned());
                }
                let keys = terms.approvals.iter().flat_map(|(_, keyring)| keyring.keys());
                let named = |key: &Arc<Key>| (fingerprint(key.public_key()), key.name().to_owned());
                self.keys.extend(keys.map(named));
                self.terms = Some(terms);
            }
            Record::Claim(claim) => self.claim(claim, seen)?,
            Record::Receipt(receipt) => self.receipt(receipt, seen.batch)?,
            Record::Refusal(refusal) => self.refusal(refusal)?,
            Record::Suppressed(suppressed) => self.suppressed(&suppressed.count)?,
            Record::Proposal(proposal) => {
                payload(&proposal.payload)?;
            }
            Record::Approval(record::Approval { artifact, .. })
            | Record::Rejection(record::Rejection { artifact, .. }) => {
                payload(artifact)?;
            }
            Record::Completion(completion) => {
                payload(&completion.result)?;
            }
            Record::Asynchronous(_) | Record::Closed(_) => {}
            Record::Retry(_) | Record::Freeze(_) | Record::Unfreeze(_) => {}
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim, seen: &Seen) -> Result<(), String> {
        payload(&claim.payload)?;
        if claim.id != exec_id(claim.action, &claim.nonce, &claim.payload) {
            return Err("the claim's id is not the hash of its action, nonce and payload".into());
        }
        let terms = self.terms.as_ref().filter(|terms| terms.number == claim.policy);
        let terms = terms.ok_or("the claim names a policy record that is not in force")?;
        let others = seen.among - usize::from(terms.batch == seen.batch);
        if claim.effect == Effect::Once && others != 1 {
            return Err("a claim of effect once is not alone in its batch".to_owned());
        }
        if terms.allowed.as_ref().is_some_and(|names| !names.iter().any(|n| n == claim.action)) {
            return Err("the claim's action was not allowed".to_owned());
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
        match &terms.approvals {
            Some((tenant, keyring)) => {
                approved(claim, tenant, keyring, terms.ttl_max, self.created, self.keyring)?;
                self.approvals_judged += 1;
                Ok(())
            }
            None if &*claim.approval == "null"
                && &*claim.keys == "[]"
                && claim.legacy.is_none() =>
            {
                Ok(())
            }
            None => Err("a claim in demo mode names an approval".to_owned()),
        }
    }

    fn receipt(&mut self, record: &Receipt, batch: u64) -> Result<(), String> {
        let result = payload(&record.result)?;
        if record.receipt != receipt(&hex(&record.id), &record.result) {
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
                    == Some(&record.result)
            }
        };
        if !is_of_outcome {
            return Err("the result is not one of its outcome".to_owned());
        }
        *self.executions.entry(record.outcome.name()).or_insert(0) += 1;
        Ok(())
    }

    fn refusal(&mut self, record: &Refusal) -> Result<(), String> {
        self.refusals += 1;
        if let RefusedPayload::Text(text) = record.payload {
            payload(text)?;
            if text.len() > REFUSAL_PAYLOAD_BYTES_MAX {
                return Err("a refusal holds a payload that is stored as its hash".to_owned());
            }
            if record.id != exec_id(record.action, &record.nonce, text) {
                return Err("the refusal's id is not the hash of what was denied".to_owned());
            }
        }
        if refusal(&record.id, record.code, &record.detail) != record.receipt {
            return Err("the refusal's receipt is not the hash of its id and result".to_owned());
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

/// Row 7 of the decision again, at the claim's time and by the policy in force. `trusted`: keys from elsewhere.
fn approved(
    claim: &Claim,
    tenant: &str,
    keyring: &Keyring,
    ttl_max_seconds: Option<u64>,
    store_created: Time,
    trusted: Option<&Keyring>,
) -> Result<(), String> {
    value(&claim.approval)?;
    let stored =
        stored::read(&claim.approval, claim.legacy.as_deref(), claim.action, &claim.payload)?;
    let artifacts = stored.artifacts;
    let hashed = artifacts.first().map(|artifact| *artifact.action_hash());
    let context = Context {
        now: claim.at,
        action: claim.action,
        tenant,
        exec_id: claim.id,
        action_hash: action_hash(claim.action, &claim.payload),
        legacy_hash: stored.legacy_hash,
        required: keyring.required(claim.action),
        ttl_max_seconds,
        store_created,
        clock: None,
        is_spent: &|_| false,
    };
    if claim.legacy.is_some() && [context.action_hash, context.exec_id].map(Some).contains(&hashed)
    {
        return Err("the claim has a legacy text that no approval hashed".to_owned());
    }
    let counted = judge(&examine(artifacts, keyring), &context)
        .map_err(|problem| format!("the claim's approval does not hold: {}", problem.detail))?;
    let counted = counted.key_names();
    if *claim.keys != *canonical::to_string(&Value::from(counted)) {
        return Err(format!("the claim names other keys than approved it: {counted:?} did"));
    }
    let Some(trusted) = trusted else { return Ok(()) };
    for name in counted {
        let key = keyring.keys().iter().find(|key| key.name() == name);
        let is_trusted = |known: &&Arc<Key>| {
            key.is_some_and(|key| key.public_key() == known.public_key() && known.is_named(name))
        };
        let known = trusted.keys().iter().find(is_trusted);
        let known = known.ok_or_else(|| format!("key '{name}' is none of those that you trust"))?;
        if !known.may_approve(claim.action) || known.is_expired(claim.at) {
            return Err(format!(
                "key '{name}' was not to approve this, by the keys that you trust"
            ));
        }
    }
    Ok(())
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
