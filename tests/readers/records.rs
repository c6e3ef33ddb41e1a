//! What a record says of itself.

use openexec::core::hash::{hex, sha256};
use serde_json::{Value, json};

use crate::forge::{Approval, Model, OPS, approve, keys_of};
use crate::table::Change::{After, Before, Field};
use crate::table::Who::{All, Audits};
use crate::table::{Case, claw, demo};

fn receipt(m: &mut Model, label: &str, outcome: &str, result: Value) {
    m.set(label, "outcome", outcome.into());
    m.set(label, "result", result);
}

pub fn cases() -> Vec<Case> {
    vec![
        demo(
            "a claim's caller is one of the policy's",
            Audits,
            Field("owed", "caller", json!("agent-9")),
        ),
        demo(
            "where it is asked who calls, nobody is nameless",
            Audits,
            Field("owed", "caller", Value::Null),
        ),
        demo(
            "where nobody is asked, nobody has a name",
            Audits,
            Field("policy", "callers", Value::Null),
        ),
        demo(
            "a caller's rights stand in their order",
            Audits,
            Before(|m| m.of("policy")["callers"][1]["may"] = json!(["read", "propose"])),
        ),
        demo(
            "a caller's right stands once",
            Audits,
            Before(|m| m.of("policy")["callers"][0]["may"] = json!(["propose", "propose"])),
        ),
        demo(
            "a caller's actions stand in their order",
            Audits,
            Before(|m| {
                let actions = m.of("policy")["callers"][0]["actions"].as_array_mut();
                actions.expect("actions").reverse();
            }),
        ),
        demo(
            "a caller's action stands once",
            Audits,
            Before(|m| {
                let actions = m.of("policy")["callers"][0]["actions"].as_array_mut();
                actions.expect("actions").insert(0, json!("do.idempotent"));
            }),
        ),
        demo(
            "a claim's caller may propose",
            Audits,
            Before(|m| m.of("policy")["callers"][0]["may"] = json!(["approve", "read"])),
        ),
        demo(
            "a claim's caller may propose its action",
            Audits,
            Before(|m| m.of("policy")["callers"][0]["actions"] = json!(["do.once", "do.pure"])),
        ),
        claw(
            "a proposal's caller may propose",
            Audits,
            Before(|m| m.of("policy")["callers"][1]["may"] = json!(["read"])),
        ),
        claw(
            "a proposal's caller may propose its action",
            Audits,
            Before(|m| m.of("policy")["callers"][1]["actions"] = json!(["do.once"])),
        ),
        demo(
            "the id of a claim",
            Audits,
            After(|m| {
                let other = hex(&sha256(&[b"other"]));
                m.set("owed", "id", other.into());
            }),
        ),
        demo(
            "the id of a claim covers its action",
            Audits,
            After(|m| m.set("owed", "action", "other".into())),
        ),
        demo(
            "the id of a claim covers its nonce",
            Audits,
            After(|m| m.set("owed", "nonce", "other".into())),
        ),
        demo(
            "the id of a claim covers its payload",
            Audits,
            After(|m| m.set("owed", "payload", json!({}))),
        ),
        demo(
            "the id of a refusal",
            Audits,
            After(|m| {
                m.set("refusal", "payload", json!({"n": 2}));
            }),
        ),
        demo(
            "the receipt of a receipt",
            Audits,
            After(|m| m.set("pure receipt", "result", json!({"sum": 2}))),
        ),
        demo(
            "the receipt of a refusal covers its code",
            Audits,
            After(|m| m.set("refusal", "code", "busy".into())),
        ),
        demo(
            "the receipt of a refusal covers its detail",
            Audits,
            After(|m| m.set("refusal", "detail", "".into())),
        ),
        demo(
            "the receipt of a refusal with a hash",
            Audits,
            After(|m| m.set("hashed", "code", "busy".into())),
        ),
        demo(
            "no hash covers the outcome: executed, by a failure's result",
            Audits,
            After(|m| {
                m.set("once receipt", "outcome", "executed".into());
            }),
        ),
        demo(
            "the outcome failed, by an execution's result",
            Audits,
            After(|m| {
                m.set("pure receipt", "outcome", "failed".into());
            }),
        ),
        demo(
            "the outcome indeterminate, by a failure's result",
            Audits,
            After(|m| {
                m.set("once receipt", "outcome", "indeterminate".into());
            }),
        ),
        demo(
            "the outcome failed, by an indeterminate result",
            Audits,
            After(|m| {
                m.set("again receipt", "outcome", "failed".into());
            }),
        ),
        demo(
            "the result denied is no execution's",
            Audits,
            Before(|m| {
                receipt(
                    m,
                    "pure receipt",
                    "executed",
                    json!({"denied": {"code": "a", "detail": ""}}),
                );
            }),
        ),
        demo(
            "a reserved name beside others is no execution's",
            Audits,
            Before(|m| {
                receipt(m, "pure receipt", "executed", json!({"failed": 1, "sum": 2}));
            }),
        ),
        demo(
            "a failure's result has one name",
            Audits,
            Before(|m| {
                let why = json!({"code": "a", "detail": ""});
                receipt(m, "once receipt", "failed", json!({"failed": why, "more": 1}));
            }),
        ),
        demo(
            "a failure's result has a code",
            Audits,
            Before(|m| {
                receipt(m, "once receipt", "failed", json!({"failed": {"detail": ""}}));
            }),
        ),
        demo(
            "a failure's result has no more than code and detail",
            Audits,
            Before(|m| {
                let why = json!({"code": "a", "detail": "", "more": 1});
                receipt(m, "once receipt", "failed", json!({"failed": why}));
            }),
        ),
        demo(
            "a failure's code is a text",
            Audits,
            Before(|m| {
                receipt(m, "once receipt", "failed", json!({"failed": {"code": 1, "detail": ""}}));
            }),
        ),
        demo(
            "a denied payload of over 4,096 bytes is a hash",
            Audits,
            Before(|m| {
                m.set("refusal", "payload", json!({"n": "x".repeat(4_089)}));
            }),
        ),
        demo(
            "a refusal has a payload or its hash",
            All,
            Before(|m| {
                m.set("refusal", "payload_hash", "ab".repeat(32).into());
            }),
        ),
        demo(
            "a refusal has one of the two",
            All,
            After(|m| {
                m.of("refusal").as_object_mut().expect("an object").remove("payload");
            }),
        ),
        demo(
            "suppressed counts are counts of something",
            Audits,
            Field("suppressed", "count", json!({})),
        ),
        demo(
            "suppressed counts are not zero",
            Audits,
            Field("suppressed", "count", json!({"busy": 0})),
        ),
        demo(
            "suppressed counts are not negative",
            Audits,
            Field("suppressed", "count", json!({"busy": -1})),
        ),
        demo(
            "suppressed counts are whole",
            Audits,
            Field("suppressed", "count", json!({"busy": 1.5})),
        ),
        demo(
            "suppressed counts are of codes",
            Audits,
            Field("suppressed", "count", json!({"Busy?": 1})),
        ),
        demo("suppressed counts are in an object", All, Field("suppressed", "count", json!([1]))),
        demo(
            "suppressed counts are numbers",
            Audits,
            Field("suppressed", "count", json!({"busy": "1"})),
        ),
        demo(
            "a claim in demo mode has no approval",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(OPS, 9)]);
            }),
        ),
        demo(
            "a claim in demo mode has no empty approval",
            Audits,
            Field("owed", "approval", json!([])),
        ),
        demo("a claim in demo mode has no keys", Audits, Field("owed", "keys", json!(["ops"]))),
        demo("a claim in demo mode has no legacy text", Audits, Field("owed", "legacy", json!(""))),
        demo("a policy of demo mode has no keys", Audits, Before(|m| keys_of(m.of("policy")))),
        demo("a policy of demo mode has no tenant", Audits, Field("policy", "tenant", json!("t"))),
        demo(
            "a policy of demo mode has no thresholds",
            Audits,
            Field("policy", "required", json!({"*": 1})),
        ),
    ]
}
