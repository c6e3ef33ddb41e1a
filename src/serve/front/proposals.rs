//! `GET /proposals/{exec_id}`: what became of a proposal, from the records that the executor found.
//!
//! ```text
//! {"action":"echo","action_hash":"…","approvals":null,"asked_at":"2026-01-01T00:00:00.000000Z",
//!  "asynchronous":false,"caller":null,"expires_at":null,"id":"…","justification":null,"nonce":"n",
//!  "outcome":"executed","payload":{},"receipt":"…","result":{"echo":{}},"state":"executed",
//!  "tenant_id":null,"ttl_max":null}
//! ```

use serde_json::json;

use crate::core::answer::Answer;
use crate::core::approval::artifact;
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;
use crate::core::line::LineWriter;
use crate::core::proposal::Policy;
use crate::core::receipt::action_hash;
use crate::core::record::{Claim, Completion, Receipt, Record};
use crate::executor::answer::unavailable;

/// What the store has about one id.
#[derive(Default)]
struct Records<'a> {
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
    let mut records = Records::default();
    for line in found.body.lines() {
        match Record::read(line) {
            Some(Record::Claim(claim)) => records.claim = Some(claim),
            Some(Record::Receipt(receipt)) => records.receipt = Some(receipt),
            Some(Record::Completion(said)) => records.completion = Some(said),
            _ => {}
        }
    }
    let shown = records.shown(policy).map(Answer::json);
    shown.unwrap_or_else(|| unavailable("The store holds records that cannot be read").into())
}

impl Records<'_> {
    /// The object, canonical; `None` where there is no claim.
    fn shown(&self, policy: &Policy) -> Option<String> {
        let (claim, receipt) = (self.claim.as_ref()?, self.receipt.as_ref());
        let required = policy.approvals.as_ref();
        let mut line = LineWriter::start()
            .text("action", claim.action)
            .with("action_hash", &action_hash(claim.action, &claim.payload))
            .raw("approvals", &approvals(claim))
            .with("asked_at", &claim.at)
            .raw("asynchronous", "false")
            .with("caller", &claim.caller);
        if let Some(said) = &self.completion {
            line = line.raw("completion", &completion(said));
        }
        line = line
            .raw("expires_at", "null")
            .with("id", &claim.id)
            .raw("justification", "null")
            .text("nonce", &claim.nonce);
        if let Some(receipt) = receipt {
            line = line.with("outcome", &receipt.outcome);
        }
        line = line.raw("payload", &claim.payload);
        if let Some(receipt) = receipt {
            line = line.with("receipt", &receipt.receipt).with("result", &receipt.result);
        }
        let state = receipt.map_or("executing", |receipt| receipt.outcome.name());
        let line = line
            .text("state", state)
            .with("tenant_id", &required.map(|required| required.tenant.clone()))
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

/// Those that the claim spent, each with its key, in their order: nothing is missing. `null` in demo mode.
fn approvals(claim: &Claim) -> String {
    let read = |text: &str| strict::read(text.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    let Ok(artifacts) = artifact::parse(&read(&claim.approval)) else { return "null".to_owned() };
    let keys = read(&claim.keys);
    let names = keys.as_array().into_iter().flatten();
    let have: Value = artifacts
        .iter()
        .zip(names)
        .map(|(artifact, key)| json!({"key": key, "until": artifact.expires_at().to_string()}))
        .collect();
    let missing = json!({"count": 0, "groups": {}});
    canonical::to_string(&json!({"have": have, "missing": missing}))
}
