//! What a policy record says, ready to judge approvals and rejections by: with the functions that admitted them.

use std::collections::HashMap;
use std::sync::Arc;

use super::approvers::check_thresholds;
use crate::core::approval::artifact::{self, Artifact};
use crate::core::approval::keys::{Key, Keyring};
use crate::core::approval::rejection::Rejection;
use crate::core::approval::required::groups_of;
use crate::core::approval::stored;
use crate::core::approval::verify::{self, Context, examine, hold, judge};
use crate::core::caller::{Caller, RIGHTS, texts};
use crate::core::handler::RESERVED_RESULT_KEYS;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::{RECORD_DEPTH_MAX, REFUSAL_PAYLOAD_BYTES_MAX};
use crate::core::problem::Problem;
use crate::core::receipt::{self, Outcome, action_hash, exec_id, is_action_name, reserved_result};
use crate::core::record::{self, Claim, Closed, Proposal, Receipt, Refusal, RefusedPayload};
use crate::core::stage::How;
use crate::core::time::Time;

/// A policy record.
pub(super) struct Terms<'a> {
    pub(super) number: u64,
    pub(super) batch: u64,
    allowed: Option<Vec<String>>,
    /// By name; `None` where nobody is asked who calls.
    callers: Option<HashMap<String, Caller>>,
    /// `None` in demo mode.
    pub(super) approvals: Option<Approvals<'a>>,
}

/// What it says of approvals.
pub(super) struct Approvals<'a> {
    tenant: String,
    pub(super) keyring: Keyring,
    ttl_max: Option<u64>,
    /// Of callers.
    persons: HashMap<String, String>,
    by: Beside<'a>,
}

/// What else approvals are judged by.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside<'a> {
    /// The store.
    pub(super) created: Time,
    /// Keys from elsewhere.
    pub(super) trusted: Option<&'a Keyring>,
}

/// A proposal that is pending.
pub(super) struct Asked {
    pub(super) action: String,
    pub(super) action_hash: Hash,
    pub(super) caller: Option<String>,
    pub(super) expires: Time,
}

impl<'a> Terms<'a> {
    pub(super) fn of(
        policy: &record::Policy,
        number: u64,
        batch: u64,
        by: Beside<'a>,
    ) -> Result<Self, String> {
        let allowed = list(&policy.allowed, &|name| {
            name.as_str().filter(|name| is_action_name(name)).map(str::to_owned)
        })?;
        let callers = list(&policy.callers, &caller)?
            .map(|callers| callers.into_iter().collect::<HashMap<_, _>>());
        let approvals = match &policy.tenant {
            Some(tenant) => {
                let (keys, required) = (value(&policy.keys)?, payload(&policy.required)?);
                let keyring = keys.as_array().map(|keys| Keyring::read(keys, &required));
                let keyring = keyring.ok_or("a policy record has no keys")?;
                let held = keyring.and_then(|all| check_thresholds(&all).map(|()| all));
                let keyring = held.map_err(|why| format!("a policy record's keys: {why}"))?;
                // What reads as these keys and is written otherwise is not what a start writes.
                if keyring.recorded() != (keys, Value::Object(required)) {
                    return Err("a policy record's keys have another form".to_owned());
                }
                let all = callers.iter().flatten();
                let person =
                    |(own, caller): (&String, &Caller)| Some((own.clone(), caller.person.clone()?));
                let persons: HashMap<_, _> = all.clone().filter_map(person).collect();
                let ttl_max = policy.ttl_max;
                if keyring.keys()[0].person().is_some() && persons.len() != all.count() {
                    return Err("keys have persons, and a caller has none".to_owned());
                }
                Some(Approvals { tenant: tenant.to_string(), keyring, ttl_max, persons, by })
            }
            None if &*policy.keys == "null" && &*policy.required == "null" => None,
            None => return Err("a policy record has keys and no tenant".to_owned()),
        };
        Ok(Terms { number, batch, allowed, callers, approvals })
    }

    /// A proposal, but for what stands before it.
    pub(super) fn proposal(&self, proposal: &Proposal) -> Result<Asked, String> {
        let Proposal { action, nonce, payload, id, caller, .. } = proposal;
        self.request(id, action, nonce, payload)?;
        self.let_propose(caller.as_deref(), action)?;
        if self.approvals.is_none() {
            return Err("a record that demo mode does not have".to_owned());
        }
        let (caller, action_hash) =
            (caller.as_deref().map(str::to_owned), action_hash(action, payload));
        Ok(Asked { action: (*action).to_owned(), action_hash, caller, expires: proposal.expires })
    }

    /// A claim, of this proposal if there was one, but for what [`Terms::approved`] judges and what else stands before it.
    pub(super) fn claim(&self, claim: &Claim, asked: Option<&Asked>) -> Result<(), String> {
        let Claim { action, caller, .. } = claim;
        if claim.policy != self.number {
            return Err("the claim names a policy record that is not in force".to_owned());
        }
        // What nobody by name proposed may be claimed when callers are asked who they are.
        if asked.is_none() || caller.is_some() {
            self.let_propose(caller.as_deref(), action)?;
        }
        if asked.is_some_and(|asked| asked.caller.as_deref() != caller.as_deref()) {
            return Err("a claim of another caller's proposal".to_owned());
        }
        if asked.is_some_and(|asked| asked.expires <= claim.at) {
            return Err("a claim of a proposal whose time was over".to_owned());
        }
        let is_bare = &*claim.approval == "null" && &*claim.keys == "[]" && claim.legacy.is_none();
        if self.approvals.is_none() && !is_bare {
            return Err("a claim in demo mode names an approval".to_owned());
        }
        Ok(())
    }

    /// The rest of a claim: what was asked for, and its approvals.
    pub(super) fn approved(&self, claim: &Claim) -> Result<(), String> {
        self.request(&claim.id, claim.action, &claim.nonce, &claim.payload)?;
        self.approvals.as_ref().map_or(Ok(()), |approvals| approvals.claim(claim))
    }

    /// What was asked for is what has this id, and was allowed.
    fn request(&self, id: &Hash, action: &str, nonce: &str, text: &str) -> Result<(), String> {
        payload(text)?;
        if *id != exec_id(action, nonce, text) {
            return Err("the id is not the hash of the action, nonce and payload".to_owned());
        }
        match &self.allowed {
            Some(names) if !names.iter().any(|name| name == action) => {
                Err(format!("the action '{action}' was not allowed"))
            }
            _ => Ok(()),
        }
    }

    fn let_propose(&self, caller: Option<&str>, action: &str) -> Result<(), String> {
        let may = match (&self.callers, caller) {
            (None, None) => true,
            (Some(callers), Some(name)) => {
                callers.get(name).is_some_and(|caller| caller.may_propose(action))
            }
            _ => false,
        };
        let shown = caller.unwrap_or("nobody by name");
        if may { Ok(()) } else { Err(format!("{shown} might not propose '{action}'")) }
    }
}

/// What an array of a policy record says; `None` of null.
fn list<T>(text: &str, one: &dyn Fn(&Value) -> Option<T>) -> Result<Option<Vec<T>>, String> {
    match value(text)? {
        Value::Null => Ok(None),
        items => {
            let read = items.as_array().and_then(|items| items.iter().map(one).collect());
            read.map(Some).ok_or_else(|| "a policy record says something of no form".to_owned())
        }
    }
}

/// A caller and its name, from what [`Caller::recorded`] gives.
fn caller(item: &Value) -> Option<(String, Caller)> {
    let text = |field: &str| item[field].as_str().map(str::to_owned);
    let may = texts(&item["may"], |right| RIGHTS.contains(&right))?;
    let actions = texts(&item["actions"], is_action_name);
    let caller = Caller { name: text("name")?, may, actions, person: text("person") };
    (caller.recorded() == *item).then(|| (caller.name.clone(), caller))
}

impl Approvals<'_> {
    /// Row 7 of the decision again, at the claim's time.
    pub(super) fn claim(&self, claim: &Claim) -> Result<(), String> {
        let proposer = self.person(claim.caller.as_deref());
        let (artifacts, context) = stored::read(claim, self.at(claim.at), &self.keyring, proposer)?;
        let canonical = [context.action_hash, context.exec_id];
        let mut hashes = artifacts.iter().map(Artifact::action_hash);
        if claim.legacy.is_some() && hashes.all(|hash| canonical.contains(hash)) {
            return Err("the claim has a legacy text that no approval hashed".to_owned());
        }
        let judged = judge(&examine(artifacts, &self.keyring), &context);
        let counted = judged.map_err(does_not_hold)?.key_names();
        if *claim.keys != *canonical::to_string(&Value::from(counted.clone())) {
            return Err(format!("the claim names other keys than approved it: {counted:?} did"));
        }
        let keys = self.trust(&counted, claim.action, claim.at)?;
        let Some(trusted) = self.by.trusted else { return Ok(()) };
        let required = trusted.required(claim.action);
        match required.missing(&keys) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(format!(
                "by the keys that you trust, it needs {} approvals{}",
                required.count(),
                groups_of(&missing)
            )),
        }
    }

    /// An approval of a pending proposal, at its own time.
    pub(super) fn record(&self, approval: &record::Approval, asked: &Asked) -> Result<(), String> {
        let artifacts = artifact::parse(&value(&approval.artifact)?)?;
        let context = Context {
            terms: self.at(approval.at),
            action: &asked.action,
            exec_id: approval.id,
            action_hash: asked.action_hash,
            legacy_hash: None,
            required: self.keyring.required(&asked.action),
            proposer: self.person(asked.caller.as_deref()),
            is_spent: &|_| false,
        };
        let examined = examine(artifacts, &self.keyring);
        hold(&examined, &context).map_err(does_not_hold)?;
        let signers: Vec<_> = examined.signers().iter().map(|key| key.name().to_owned()).collect();
        if signers != [&*approval.key] {
            return Err(format!("the approval names another key than signed it: {signers:?} did"));
        }
        self.trust(&signers, &asked.action, approval.at).map(drop)
    }

    fn at(&self, now: Time) -> verify::Terms<'_> {
        let (tenant, ttl_max_seconds) = (self.tenant.as_str(), self.ttl_max);
        verify::Terms { now, tenant, ttl_max_seconds, store_created: self.by.created, clock: None }
    }

    fn person(&self, caller: Option<&str>) -> Option<&str> {
        self.persons.get(caller?).map(String::as_str)
    }

    /// Of the keys that are trusted, if any are given, those that these of the policy are. A key is its 32 bytes:
    /// what it was called may change.
    fn trust(&self, names: &[String], action: &str, at: Time) -> Result<Vec<Arc<Key>>, String> {
        let Some(trusted) = self.by.trusted else { return Ok(Vec::new()) };
        let one = |name: &String| {
            let own = self.keyring.keys().iter().find(|key| key.name() == name);
            let is_own =
                |key: &&Arc<Key>| own.is_some_and(|own| own.public_key() == key.public_key());
            match trusted.keys().iter().find(is_own) {
                Some(key) if key.may_approve(action) && !key.is_expired(at) => Ok(key.clone()),
                Some(_) => Err(format!(
                    "by the keys that you trust, '{name}' might not approve '{action}' at {at}"
                )),
                None => Err(format!("key '{name}' is none of those that you trust")),
            }
        };
        names.iter().map(one).collect()
    }

    /// A rejection of a pending proposal, at its own time.
    pub(super) fn rejection(
        &self,
        rejection: &record::Rejection,
        asked: &Asked,
    ) -> Result<(), String> {
        let said = Rejection::read(payload(&rejection.artifact)?, &self.keyring)?;
        let signer = said.judge(&self.tenant, self.by.created, rejection.at);
        let signer = signer.map_err(|problem| format!("a rejection: {}", problem.detail))?;
        if said.exec_id != rejection.id || *signer.name() != *rejection.key {
            return Err("a rejection of something else, or by another key".to_owned());
        }
        Rejection::may(signer, &asked.action, rejection.at)
            .map_err(|problem| format!("a rejection: {}", problem.detail))?;
        let names = [signer.name().to_owned()];
        self.trust(&names, &asked.action, rejection.at).map(drop)
    }
}

fn does_not_hold(problem: Problem) -> String {
    format!("an approval does not hold: {}", problem.detail)
}

/// What a receipt says of itself.
pub(super) fn receipt(record: &Receipt) -> Result<(), String> {
    let result = payload(&record.result)?;
    if record.receipt != receipt::receipt(&hex(&record.id), &record.result) {
        return Err("the receipt is not the hash of its id and result".to_owned());
    }
    let is_of_outcome = match record.outcome {
        Outcome::Executed => !RESERVED_RESULT_KEYS.iter().any(|key| result.contains_key(*key)),
        ended => {
            let why = result.get(ended.name());
            let text = |name| why.and_then(|why| why.get(name)).and_then(Value::as_str);
            let reserved = text("code").zip(text("detail"));
            let reserved =
                reserved.map(|(code, detail)| reserved_result(ended.name(), code, detail));
            reserved.as_deref() == Some(&record.result)
        }
    };
    if is_of_outcome { Ok(()) } else { Err("the result is not one of its outcome".to_owned()) }
}

/// What a refusal says of itself.
pub(super) fn refusal(record: &Refusal) -> Result<(), String> {
    if let RefusedPayload::Text(text) = record.payload {
        payload(text)?;
        if text.len() > REFUSAL_PAYLOAD_BYTES_MAX {
            return Err("a refusal holds a payload that is stored as its hash".to_owned());
        }
        if record.id != exec_id(record.action, &record.nonce, text) {
            return Err("the refusal's id is not the hash of what was denied".to_owned());
        }
    }
    if receipt::refusal(&record.id, record.code, &record.detail) != record.receipt {
        return Err("the refusal's receipt is not the hash of its id and result".to_owned());
    }
    Ok(())
}

/// What a closing says of itself.
pub(super) fn closed(record: &Closed) -> Result<(), String> {
    let says = (record.code.is_some(), record.by.is_some());
    if says.0 != (record.how == How::Refused) || says.1 && record.how != How::Withdrawn {
        return Err("a closing says something else than how".to_owned());
    }
    Ok(())
}

/// A value in canonical form.
pub(super) fn value(text: &str) -> Result<Value, String> {
    match strict::read(text.as_bytes(), RECORD_DEPTH_MAX) {
        Ok(value) if canonical::to_string(&value) == text => Ok(value),
        Ok(_) => Err("a value is not in canonical form".to_owned()),
        Err(_) => Err("a value is not one that this program would store".to_owned()),
    }
}

pub(super) fn payload(text: &str) -> Result<Object, String> {
    match value(text)? {
        Value::Object(object) => Ok(object),
        _ => Err("a value is not an object".to_owned()),
    }
}
