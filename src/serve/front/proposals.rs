//! `GET /proposals/{exec_id}`: what became of a proposal, from the records that the executor found.
//!
//! ```text
//! {"action":"echo","action_hash":"…","approvals":null,"asked_at":"2026-01-01T00:00:00.000000Z",
//!  "asynchronous":false,"caller":null,"expires_at":null,"id":"…","justification":null,"nonce":"n",
//!  "outcome":"executed","payload":{},"receipt":"…","result":{"echo":{}},"state":"executed",
//!  "tenant_id":null,"ttl_max":null}
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::core::approval::artifact::{self, Artifact};
use crate::core::approval::keys::Key;
use crate::core::json::{Value, canonical, strict};
use crate::core::line::{Field, Json, LineReader, LineWriter};
use crate::core::problem::Code;
use crate::core::proposal::Policy;
use crate::core::receipt::action_hash;
use crate::core::record::{Claim, Completion, Proposal, Receipt, Record};
use crate::executor::answer::unavailable;
use crate::sys::answer::Answer;
use crate::sys::limits::PAGE_PAYLOAD_BYTES_MAX;

pub const PENDING: &str = "pending";
/// How a proposal may stand.
#[rustfmt::skip]
pub const STATES: [&str; 9] = [
    PENDING, "executing", "executed", "failed", "indeterminate", "rejected", "withdrawn", "expired", "refused",
];

/// What the store has about one id.
#[derive(Default)]
struct Records<'a> {
    proposal: Option<Proposal<'a>>,
    /// By which the proposal is over: a rejection or a closing.
    end: Option<Record<'a>>,
    /// The executor's own words: a string, of one in the list a number, and the approvals that would count now.
    blocked: Option<Json<'a>>,
    same_hash: Option<Json<'a>>,
    have: Option<Json<'a>>,
    claim: Option<Claim<'a>>,
    receipt: Option<Receipt<'a>>,
    /// What became of the job, as somebody says.
    completion: Option<Completion<'a>>,
}

/// The answer to the client: `found` holds the records' lines, or the problem that there are none.
pub fn show(found: Answer, policy: &Policy) -> Answer {
    if found.code.is_some() {
        return found;
    }
    let shown = Records::of(&found.body).shown(policy).map(Answer::json);
    shown.unwrap_or_else(|| unavailable("The store holds records that cannot be read").into())
}

/// One page of the list of that state: `found` holds what the executor lists.
pub fn list(found: Answer, state: &str, policy: &Policy) -> Answer {
    if found.code.is_some() {
        return found;
    }
    let mut next: Option<&str> = None;
    let mut entries = Vec::new();
    for lines in found.body.split_terminator("\n\n") {
        match said(lines, "next") {
            position @ Some(_) => next = position,
            None => {
                let records = Records::of(lines);
                entries.extend((records.state() == state).then(|| records.shown(policy)).flatten());
            }
        }
    }
    let entries = format!("[{}]", entries.join(","));
    let page = LineWriter::start().with("next", &next).with("proposals", &Json(&entries));
    Answer::json(page.end())
}

/// A word of the executor's own, beside the records.
fn said<'a, T: Field<'a>>(line: &'a str, name: &'static str) -> Option<T> {
    T::take_from(&mut LineReader::start(line), name)
}

impl<'a> Records<'a> {
    fn of(lines: &'a str) -> Self {
        let mut records = Records::default();
        let mut is_asynchronous = false;
        for line in lines.lines() {
            match Record::read(line) {
                Some(Record::Proposal(proposal)) => records.proposal = Some(proposal),
                Some(Record::Asynchronous(_)) => is_asynchronous = true,
                Some(end @ (Record::Rejection(_) | Record::Closed(_))) => records.end = Some(end),
                Some(Record::Claim(claim)) => records.claim = Some(claim),
                Some(Record::Receipt(receipt)) => records.receipt = Some(receipt),
                Some(Record::Completion(said)) => records.completion = Some(said),
                Some(_) => {}
                None => {
                    records.blocked = records.blocked.or(said(line, "blocked"));
                    records.have = records.have.or(said(line, "have"));
                    records.same_hash = records.same_hash.or(said(line, "same_hash"));
                }
            }
        }
        if let Some(proposal) = &mut records.proposal {
            proposal.asynchronous |= is_asynchronous;
        }
        records
    }

    /// One of [`STATES`].
    fn state(&self) -> &'static str {
        match (&self.receipt, &self.claim, &self.end) {
            (Some(receipt), ..) => receipt.outcome.name(),
            (None, Some(_), _) => "executing",
            (.., Some(Record::Rejection(_))) => Code::Rejected.name(),
            (.., Some(Record::Closed(closed))) => closed.how.name(),
            _ => PENDING,
        }
    }

    /// The object, canonical; `None` where there is neither proposal nor claim.
    fn shown(&self, policy: &Policy) -> Option<String> {
        let (asked, claim, receipt) =
            (self.proposal.as_ref(), self.claim.as_ref(), self.receipt.as_ref());
        // What needs no approval begins with its claim.
        let (action, payload, nonce, id, at, caller) = match (asked, claim) {
            (Some(p), _) => (p.action, &*p.payload, &p.nonce, &p.id, p.at, &p.caller),
            (None, Some(c)) => (c.action, &*c.payload, &c.nonce, &c.id, c.at, &c.caller),
            (None, None) => return None,
        };
        let required = policy.approvals.as_ref();
        let have = claim.map_or_else(|| missing(policy, action, self.have), approvals);
        let rejection = match &self.end {
            Some(Record::Rejection(rejection)) => Some(Json(&rejection.artifact)),
            _ => None,
        };
        let completion = self.completion.as_ref().map(completion);
        let is_long = self.same_hash.is_some() && payload.len() > PAGE_PAYLOAD_BYTES_MAX;
        let line = LineWriter::start()
            .with("action", &action)
            .with("action_hash", &action_hash(action, payload))
            .with("approvals", &Json(&have))
            .with("asked_at", &at)
            .with("asynchronous", &asked.is_some_and(|asked| asked.asynchronous))
            .given("blocked", self.blocked)
            .with("caller", caller)
            .given("completion", completion.as_deref().map(Json))
            .with("expires_at", &asked.map(|asked| asked.expires))
            .with("id", id)
            .with("justification", &asked.and_then(|asked| asked.justification.clone()))
            .with("nonce", nonce)
            .given("outcome", receipt.map(|receipt| receipt.outcome))
            .given("payload", (!is_long).then_some(Json(payload)))
            .given("payload_bytes", is_long.then_some(payload.len() as u64))
            .given("receipt", receipt.map(|receipt| receipt.receipt))
            .given("rejection", rejection)
            .given("result", receipt.map(|receipt| Json(&receipt.result)))
            .given("same_hash", self.same_hash)
            .with("state", &self.state())
            .with("tenant_id", &required.map(|required| required.tenant.as_str()))
            .with("ttl_max", &required.and_then(|required| required.ttl_max_seconds));
        Some(line.end())
    }
}

fn completion(said: &Completion) -> String {
    LineWriter::start()
        .with("at", &said.at)
        .with("by", &said.by)
        .with("outcome", &said.outcome)
        .with("receipt", &said.receipt)
        .with("result", &said.result)
        .end()
}

/// Of what was not claimed: which it has, how many it needs, and of which groups. `null` in demo mode.
fn missing(policy: &Policy, action: &str, have: Option<Json>) -> String {
    let Some(required) = &policy.approvals else { return "null".to_owned() };
    let have = have.and_then(|text| strict::read_own(text.as_bytes()).ok());
    let have = have.unwrap_or_else(|| json!([]));
    let named =
        |key: &&Arc<Key>| have.as_array().into_iter().flatten().any(|one| one["key"] == key.name());
    let keys: Vec<_> = required.keyring.keys().iter().filter(named).cloned().collect();
    let places = required.keyring.required(action).missing(&keys);
    let mut groups = BTreeMap::new();
    places.iter().flatten().for_each(|group| *groups.entry(*group).or_insert(0) += 1);
    let missing = json!({"count": places.len(), "groups": groups});
    canonical::to_string(&json!({"have": have, "missing": missing}))
}

/// The keys by which the claim was approved, each with the end of its approval, in their order: nothing is missing. `null`
/// in demo mode. Where a call brought several of a key, nobody can tell here whose end is whose.
fn approvals(claim: &Claim) -> String {
    let read = |text: &str| strict::read_own(text.as_bytes()).unwrap_or_default();
    let Ok(artifacts) = artifact::parse(&read(&claim.approval)) else { return "null".to_owned() };
    let keys = read(&claim.keys);
    let names = keys.as_array().map_or(&[][..], Vec::as_slice);
    let is_one_each = artifacts.len() == names.len();
    let until = |one: &Artifact| is_one_each.then(|| one.expires_at().to_string());
    let have = artifacts.iter().zip(names);
    let have: Value = have.map(|(one, key)| json!({"key": key, "until": until(one)})).collect();
    let missing = json!({"count": 0, "groups": {}});
    canonical::to_string(&json!({"have": have, "missing": missing}))
}
