//! Proposals, and what becomes of them and of jobs.

use serde_json::{Value, json};

use crate::forge::{
    AUDIT, Approval, Model, OPS, Of, approval_of, claim, completion, proposal, reject, simple,
};
use crate::table::Change::{After, Before, Field};
use crate::table::Who::{All, Audits, Verify};
use crate::table::{Case, claw, demo};

/// Puts an altered artifact in place of an approval record's.
pub fn approved(m: &mut Model, approval: Approval) {
    let proposal = m.of("asked").clone();
    let other = approval_of("other", &proposal, approval);
    m.set("approved", "artifact", other.value["artifact"].clone());
    m.set("approved", "key", other.value["key"].clone());
}

/// A rejection that says something else, and is signed.
fn rejected(m: &mut Model, field: &str, value: Value) {
    let mut said = m.of("rejected")["artifact"].clone();
    said[field] = value;
    reject(&mut said, OPS);
    m.set("rejected", "artifact", said);
}

/// The record again, in a batch of its own before the claim.
fn again(m: &mut Model, label: &str) {
    let record = m.rec(label).clone();
    m.insert_before("owed", record);
}

/// Something said of a proposal that has ended.
fn said_of(m: &mut Model, label: &str, of: &str) {
    let mut record = m.rec(label).clone();
    record.value["id"] = m.of(of)["id"].clone();
    m.insert_before("owed", record);
}

pub fn cases() -> Vec<Case> {
    [stages(), contents(), completions()].concat()
}

fn stages() -> Vec<Case> {
    vec![
        claw("a proposal is there once", All, Before(|m| again(m, "asked"))),
        claw("a proposal is not made again when it has ended", All, Before(|m| again(m, "late"))),
        claw(
            "a proposal is not made again while it executes",
            All,
            Before(|m| {
                let (record, last) = (m.rec("asked").clone(), m.batches.len());
                m.insert(last, vec![record]);
            }),
        ),
        claw(
            "a proposal is not made when it was executed",
            Audits,
            Before(|m| {
                let (record, last) = (proposal("again", m.rec("once")), m.batches.len());
                m.insert(last, vec![record]);
            }),
        ),
        claw(
            "a nonce is one proposal's",
            Audits,
            Before(|m| {
                let mut other = m.rec("unwanted").clone();
                other.value["nonce"] = m.of("asked")["nonce"].clone();
                other.value["id"] = json!("ef".repeat(32));
                m.insert_before("owed", other);
            }),
        ),
        claw(
            "a nonce is not another claim's",
            Audits,
            Before(|m| {
                let mut other = m.rec("unwanted").clone();
                other.value["nonce"] = m.of("once")["nonce"].clone();
                other.value["id"] = json!("ef".repeat(32));
                m.insert_before("owed", other);
            }),
        ),
        claw("a claim is its own caller's", Audits, Field("owed", "caller", json!("agent-8"))),
        claw("a claim of nobody's is not a caller's", Audits, Field("owed", "caller", Value::Null)),
        claw("it becomes asynchronous once", All, Before(|m| again(m, "asynchronous"))),
        claw(
            "it was asynchronous from the start",
            All,
            Field("asked", "asynchronous", json!(true)),
        ),
        claw("what becomes asynchronous was asked", All, Before(|m| drop(m.remove("asked")))),
        claw("none that has ended becomes so", All, Before(|m| said_of(m, "asynchronous", "late"))),
        claw("what is approved was asked", All, Field("approved", "id", json!("ef".repeat(32)))),
        claw(
            "what is rejected is not approved",
            All,
            Before(|m| said_of(m, "approved", "unwanted")),
        ),
        claw("what is closed is not approved", All, Before(|m| said_of(m, "approved", "late"))),
        claw("an approval is recorded once", All, Before(|m| again(m, "approved"))),
        claw("it is rejected once", All, Before(|m| again(m, "rejected"))),
        claw("what is closed is not rejected", All, Before(|m| said_of(m, "rejected", "late"))),
        claw("it is closed once", All, Before(|m| again(m, "closed"))),
        claw("what is rejected is not closed", All, Before(|m| said_of(m, "closed", "unwanted"))),
        claw("what is closed was asked", All, Field("closed", "id", json!("ef".repeat(32)))),
        claw(
            "what was claimed is not closed",
            All,
            Before(|m| {
                let id = m.of("owed")["id"].clone();
                let last = m.batches.len();
                let more = json!({"id": id, "how": "expired", "by": null, "code": null});
                m.insert(last, vec![simple("after", "closed", more)]);
            }),
        ),
        claw(
            "what was closed is not claimed",
            All,
            Before(|m| {
                let more =
                    json!({"id": m.of("owed")["id"], "how": "withdrawn", "by": null, "code": null});
                m.insert_before("owed", simple("before", "closed", more));
            }),
        ),
        claw(
            "what is past its time is not claimed",
            All,
            Before(|m| {
                let at = m.of("owed")["at"].clone();
                m.set("asked", "expires", at);
            }),
        ),
        claw(
            "what was rejected is not claimed",
            All,
            Before(|m| {
                let claim = claim("unwanted", "idempotent");
                m.set("owed", "id", claim.value["id"].clone());
                for field in ["action", "nonce", "payload"] {
                    m.set("owed", field, claim.value[field].clone());
                }
                m.remove("asked");
                m.remove("approved");
                m.remove("asynchronous");
            }),
        ),
        demo(
            "in demo mode nothing is proposed",
            Audits,
            Before(|m| {
                let asked = proposal("asked", m.rec("owed"));
                m.insert_before("owed", asked);
            }),
        ),
    ]
}

fn contents() -> Vec<Case> {
    vec![
        claw("only a refusal has a code", Audits, Field("closed", "code", json!("unknown_action"))),
        claw("a refusal has a code", Audits, Field("closed", "how", json!("refused"))),
        claw(
            "what expires is nobody's deed",
            Audits,
            Before(|m| {
                m.set("closed", "how", json!("expired"));
                m.set("closed", "by", json!("agent-7"));
            }),
        ),
        claw("the id of a proposal", Audits, After(|m| m.set("late", "nonce", "other".into()))),
        claw(
            "what is proposed is allowed",
            Audits,
            Field("policy", "allowed", json!(["do.pure", "do.idempotent"])),
        ),
        claw(
            "an approval is of the proposal",
            Audits,
            Before(|m| approved(m, Approval { of: Of::Hash([7; 32]), ..Approval::by(AUDIT, 8) })),
        ),
        claw(
            "an approval is for the tenant",
            Audits,
            Before(|m| approved(m, Approval { tenant: "t", ..Approval::by(AUDIT, 8) })),
        ),
        claw(
            "an approval had not expired when it came",
            Audits,
            Before(|m| {
                approved(m, Approval { expires: crate::forge::AT, ..Approval::by(AUDIT, 8) })
            }),
        ),
        claw("an approval names a key", Audits, Field("approved", "key", json!("boss"))),
        claw(
            "an approval names the key that signed",
            Verify,
            Field("approved", "key", json!("ops")),
        ),
        claw(
            "an approval is by a key that may",
            Audits,
            Before(|m| {
                let proposal = m.of("asked").clone();
                let mut other = approval_of("other", &proposal, Approval::by(AUDIT, 7));
                other.value["at"] = "2026-03-01T12:00:00.000001Z".into();
                m.insert_before("owed", other);
            }),
        ),
        claw(
            "an approval record has one approval",
            Audits,
            Before(|m| {
                let object = m.of("approved")["artifact"].as_object_mut().expect("an object");
                object.remove("tenant_id");
            }),
        ),
        claw(
            "an approval record's approval has an id",
            All,
            Before(|m| {
                let object = m.of("approved")["artifact"].as_object_mut().expect("an object");
                object.remove("approval_id");
            }),
        ),
        claw(
            "an approval record's approval has an id that is a text",
            All,
            Before(|m| m.of("approved")["artifact"]["approval_id"] = json!(1)),
        ),
        claw(
            "a rejection is of the proposal",
            Audits,
            Before(|m| rejected(m, "exec_id", json!("ef".repeat(32)))),
        ),
        claw(
            "a rejection says why in 500 characters at most",
            Audits,
            Before(|m| rejected(m, "justification", "\u{1f600}".repeat(501).into())),
        ),
        claw(
            "a rejection is for the tenant",
            Audits,
            Before(|m| rejected(m, "tenant_id", json!("t"))),
        ),
        claw("a rejection has an id", Audits, Before(|m| rejected(m, "rejection_id", json!("1")))),
        claw("a rejection has a time", Audits, Before(|m| rejected(m, "issued_at", json!("now")))),
        claw(
            "a rejection is not of later",
            Audits,
            Before(|m| rejected(m, "issued_at", json!("2026-03-01T12:01:01Z"))),
        ),
        claw(
            "a rejection is not older than the store",
            Audits,
            Before(|m| rejected(m, "issued_at", json!("2026-02-28T23:59:59Z"))),
        ),
        claw(
            "a rejection has a justification",
            Audits,
            Before(|m| rejected(m, "justification", json!(1))),
        ),
        claw("a rejection has no more fields", Audits, Before(|m| rejected(m, "more", json!("")))),
        claw("a rejection names a key that may", Audits, Field("rejected", "key", json!("boss"))),
        claw(
            "a rejection names the key that signed",
            Verify,
            Field("rejected", "key", json!("audit")),
        ),
        claw(
            "a rejection's signature covers what it says",
            Verify,
            Before(|m| m.of("rejected")["artifact"]["justification"] = "yes".into()),
        ),
    ]
}

fn completions() -> Vec<Case> {
    vec![
        demo(
            "what is completed has a receipt",
            All,
            Before(|m| {
                let id = m.of("owed")["id"].clone();
                let last = m.batches.len();
                m.insert(last, vec![completion("early", &id, "worker", json!({}))]);
            }),
        ),
        demo(
            "what is completed was executed",
            All,
            Field("completion", "id", json!("ef".repeat(32))),
        ),
        demo(
            "a completion stands",
            Audits,
            Before(|m| {
                let second = m.rec("completion").clone();
                m.insert_before("owed", second);
            }),
        ),
        demo(
            "the receipt of a completion covers its result",
            Audits,
            After(|m| m.set("completion", "result", json!({}))),
        ),
        demo(
            "the receipt of a completion covers its outcome",
            Audits,
            After(|m| m.set("completion", "outcome", "failed".into())),
        ),
        demo(
            "a completion is a worker's or an operator's",
            All,
            Field("completion", "by", json!("boss")),
        ),
        demo(
            "an operator's completion is a note",
            Audits,
            Field("completion", "by", json!("operator")),
        ),
        demo("an operator's note is a text", Audits, Field("note", "result", json!({"note": 1}))),
        demo(
            "an operator knows what became of it",
            Audits,
            Field("note", "outcome", json!("indeterminate")),
        ),
    ]
}
