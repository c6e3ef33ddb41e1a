//! Which record may stand where.

use serde_json::json;

use crate::forge::{AUDIT, Approval, approve, claim, receipt_of, retry_of};
use crate::table::Change::{Before, Field};
use crate::table::Who::{All, Audits};
use crate::table::{Case, claw, demo};

pub fn cases() -> Vec<Case> {
    vec![
        demo(
            "the store record is the first",
            All,
            Before(|m| {
                let record = m.remove("refusal");
                m.batches[0].insert(0, record);
            }),
        ),
        demo(
            "there is one store record",
            All,
            Before(|m| {
                let mut again = m.rec("store").clone();
                again.label = "store again";
                m.insert_before("refusal", again);
            }),
        ),
        demo(
            "there is a store record",
            All,
            Before(|m| {
                let at = m.of("store").clone();
                m.remove("store");
                // So that the segment line still says something.
                let mut refusal = m.remove("refusal");
                refusal.value["store"] = at["store"].clone();
                m.batches[0].push(refusal);
            }),
        ),
        demo("a kind that there is none of", All, Field("refusal", "kind", json!("denial"))),
        demo(
            "a policy is in force",
            All,
            Before(|m| {
                m.remove("policy");
            }),
        ),
        demo("a claim names the policy in force", All, Field("owed", "policy", json!(0))),
        demo(
            "a claim names no policy that was in force before",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.label = "other";
                other.value["version"] = "2".into();
                m.insert_before("owed", other);
            }),
        ),
        demo(
            "a policy is another than the one in force",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.value["at"] = "2026-03-01T12:00:01.000000Z".into();
                m.insert_before("freeze", other);
            }),
        ),
        demo(
            "a policy is the first of its batch",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.label = "other";
                other.value["version"] = "2".into();
                let (batch, _) = m.place("freeze");
                m.batches[batch].push(other);
            }),
        ),
        demo(
            "a receipt has a claim",
            All,
            Before(|m| {
                m.remove("idempotent");
            }),
        ),
        demo(
            "a receipt comes after its claim",
            All,
            Before(|m| {
                let receipt = m.remove("idempotent receipt");
                m.insert_before("idempotent", receipt);
            }),
        ),
        demo(
            "there is one receipt of an id",
            All,
            Before(|m| {
                let again = m.rec("idempotent receipt").clone();
                m.insert_before("again", again);
            }),
        ),
        demo(
            "there is one receipt of an id, with the same outcome or another",
            All,
            Before(|m| {
                let claim = m.rec("idempotent").clone();
                m.insert_before("again", receipt_of("second", &claim, "failed"));
            }),
        ),
        demo(
            "a retry has a claim",
            All,
            Before(|m| {
                m.of("retry")["id"] = "cd".repeat(32).into();
            }),
        ),
        demo(
            "a retry comes before the receipt",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                m.insert_before("once", retry);
            }),
        ),
        demo(
            "a retry comes after the claim",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                m.insert_before("again", retry);
            }),
        ),
        demo(
            "a claim is retried once",
            All,
            Before(|m| {
                let retry = m.rec("retry").clone();
                m.insert_before("again receipt", retry);
            }),
        ),
        demo(
            "a claim of effect once is never retried",
            All,
            Before(|m| {
                let retry = retry_of("retry once", m.rec("once"));
                m.insert_before("once receipt", retry);
            }),
        ),
        demo(
            "no claim stands inside a freeze",
            All,
            Before(|m| {
                let claim = m.remove("owed");
                m.insert_before("unfreeze", claim);
            }),
        ),
        demo(
            "no retry stands inside a freeze",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                let (freeze, unfreeze) = (m.remove("freeze"), m.remove("unfreeze"));
                m.insert_before("again receipt", freeze);
                m.insert_before("again receipt", retry);
                m.insert_before("again receipt", unfreeze);
            }),
        ),
        demo(
            "a freeze is not frozen again",
            All,
            Before(|m| {
                let again = m.rec("freeze").clone();
                m.insert_before("unfreeze", again);
            }),
        ),
        demo(
            "an unfreeze ends a freeze",
            All,
            Before(|m| {
                m.remove("freeze");
            }),
        ),
        demo(
            "an unfreeze ends it once",
            All,
            Before(|m| {
                let again = m.rec("unfreeze").clone();
                m.insert_before("owed", again);
            }),
        ),
        demo(
            "a nonce has one claim",
            Audits,
            Before(|m| {
                let mut again = claim("other", "idempotent");
                again.value["nonce"] = m.of("idempotent")["nonce"].clone();
                let receipt = receipt_of("other receipt", &again, "executed");
                m.insert_before("again", again);
                m.insert_before("again", receipt);
            }),
        ),
        demo(
            "an id has one claim without a receipt",
            All,
            Before(|m| {
                let again = m.rec("owed").clone();
                m.insert_before("owed", again);
            }),
        ),
        demo(
            "an id has one claim",
            Audits,
            Before(|m| {
                let again = m.rec("idempotent").clone();
                let receipt = m.rec("idempotent receipt").clone();
                m.insert_before("again", again);
                m.insert_before("again", receipt);
            }),
        ),
        demo(
            "a pure claim's receipt is in its batch",
            Audits,
            Before(|m| {
                let receipt = m.remove("pure receipt");
                m.insert_before("idempotent", receipt);
            }),
        ),
        demo(
            "another claim's receipt is in a later batch",
            Audits,
            Before(|m| {
                let receipt = m.remove("idempotent receipt");
                let (batch, _) = m.place("idempotent");
                m.batches[batch].push(receipt);
            }),
        ),
        demo(
            "a claim of effect once is alone in its batch",
            Audits,
            Before(|m| {
                let record = m.remove("suppressed");
                let (batch, _) = m.place("once");
                m.batches[batch].insert(0, record);
            }),
        ),
        claw(
            "an approval is in one claim",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(AUDIT, 3)]);
            }),
        ),
    ]
}
