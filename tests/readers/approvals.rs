//! A claim's approvals, by the policy in force at the claim's time.

use openexec::core::hash::sha256;
use serde_json::{Value, json};

use crate::forge::{AT, AUDIT, Approval, Model, OPS, Of, approve};
use crate::table::Change::{Before, Field};
use crate::table::Who::{All, Audits, Verify};
use crate::table::{Case, claw};

fn artifact(m: &mut Model, label: &str, field: &str, value: Value) {
    m.of(label)["approval"][0][field] = value;
}

fn key(m: &mut Model, number: usize, field: &str, value: Value) {
    m.of("policy")["keys"][number][field] = value;
}

fn approved(m: &mut Model, approval: Approval) {
    approve(m.of("owed"), &[approval]);
}

/// A claim of this payload, and an approval of the legacy text that spells it so.
fn spelled(m: &mut Model, payload: Value, text: &str) {
    m.set("pure", "payload", payload);
    let text = format!("{{\"action\":\"do.pure\",\"payload\":{text}}}");
    let of = Of::Hash(sha256(&[text.as_bytes()]));
    approve(m.of("pure"), &[Approval { of, ..Approval::by(OPS, 1) }]);
    m.set("pure", "legacy", text.into());
}

pub fn cases() -> Vec<Case> {
    vec![
        claw(
            "a claim in clawshield mode has an approval",
            Audits,
            Field("owed", "approval", Value::Null),
        ),
        claw("it has at least one", Audits, Field("owed", "approval", json!([]))),
        claw(
            "a claim has at most 16",
            Audits,
            Before(|m| {
                let many: Vec<_> = (0..17).map(|n| Approval::by(AUDIT, 100 + n)).collect();
                approve(m.of("owed"), &many);
            }),
        ),
        claw(
            "an approval is an array's",
            All,
            Before(|m| {
                let one = m.of("owed")["approval"][0].clone();
                m.set("owed", "approval", one);
            }),
        ),
        claw(
            "an approval has an id",
            All,
            Before(|m| {
                let one = m.of("owed")["approval"][0].as_object_mut().expect("an object");
                one.remove("approval_id");
            }),
        ),
        claw(
            "an approval's id is a text",
            All,
            Before(|m| artifact(m, "owed", "approval_id", json!(1))),
        ),
        claw(
            "an approval's id is a UUID",
            Audits,
            Before(|m| artifact(m, "owed", "approval_id", json!("a"))),
        ),
        claw(
            "an approval's id is in lower case",
            Audits,
            Before(|m| {
                let upper = json!("3F0D6F0A-6D0C-4B7E-9A55-000000000008");
                artifact(m, "owed", "approval_id", upper);
            }),
        ),
        claw(
            "an approval has no more fields",
            Audits,
            Before(|m| artifact(m, "owed", "more", json!(1))),
        ),
        claw(
            "an approval has all fields",
            Audits,
            Before(|m| {
                let one = m.of("owed")["approval"][0].as_object_mut().expect("an object");
                one.remove("signature");
            }),
        ),
        claw(
            "an approval's times are dates",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-02-30T11:59:00Z"));
            }),
        ),
        claw(
            "an approval's times are UTC",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-03-01T11:59:00+01:00"));
            }),
        ),
        claw(
            "an approval's times have at most nine digits",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-03-01T11:59:00.0000000000Z"));
            }),
        ),
        claw(
            "an approval's hash is one",
            Audits,
            Before(|m| artifact(m, "owed", "action_hash", json!("ab"))),
        ),
        claw(
            "an approval's signature has 64 bytes",
            Audits,
            Before(|m| {
                artifact(m, "owed", "signature", json!("AAAA"));
            }),
        ),
        claw(
            "an approval's signature is strict base64",
            Audits,
            Before(|m| {
                let text =
                    m.of("owed")["approval"][0]["signature"].as_str().expect("a text").to_owned();
                let other = crate::random::other_spelling(&text);
                artifact(m, "owed", "signature", other.into());
            }),
        ),
        claw(
            "an approval counts once",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(AUDIT, 8), Approval::by(OPS, 8)]);
            }),
        ),
        claw(
            "an approval is for the claim's tenant",
            Audits,
            Before(|m| {
                approved(m, Approval { tenant: "tenant-2", ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw("a policy has a tenant", Audits, Field("policy", "tenant", Value::Null)),
        claw("the tenant is the approval's", Audits, Field("policy", "tenant", json!("tenant-2"))),
        claw("a policy has keys", Audits, Field("policy", "keys", Value::Null)),
        claw("a policy has at least one key", Audits, Field("policy", "keys", json!([]))),
        claw("a policy has thresholds", Audits, Field("policy", "required", Value::Null)),
        claw(
            "a policy has the other threshold",
            Audits,
            Field("policy", "required", json!({"a": 1})),
        ),
        claw(
            "a threshold can be reached",
            Audits,
            Field("policy", "required", json!({"*": 1, "a": 2})),
        ),
        claw(
            "every other threshold can be reached",
            Audits,
            Field("policy", "required", json!({"*": 2})),
        ),
        claw(
            "a threshold is an action's",
            Audits,
            Field("policy", "required", json!({"*": 1, "a b": 1})),
        ),
        claw("a key's name is there once", Audits, Before(|m| key(m, 1, "name", "ops".into()))),
        claw(
            "a key is there once",
            Audits,
            Before(|m| {
                let first = m.of("policy")["keys"][0]["public_key"].clone();
                key(m, 1, "public_key", first);
            }),
        ),
        claw("a key has a name", Audits, Before(|m| key(m, 1, "name", "".into()))),
        claw("a key may approve something", Audits, Before(|m| key(m, 1, "actions", json!([])))),
        claw(
            "a key may approve the action",
            Audits,
            Before(|m| key(m, 1, "actions", json!(["do.once"]))),
        ),
        claw(
            "a key is not past its not_after",
            Audits,
            Before(|m| key(m, 1, "not_after", AT.into())),
        ),
        claw(
            "an action is allowed",
            Audits,
            Field("policy", "allowed", json!(["do.pure", "do.once"])),
        ),
        claw(
            "an approval had not expired",
            Audits,
            Before(|m| {
                approved(m, Approval { expires: AT, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "an approval expires after it was issued",
            Audits,
            Before(|m| {
                let issued = "2026-03-01T12:00:30Z";
                approved(m, Approval { issued, expires: issued, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "an approval was issued by then",
            Audits,
            Before(|m| {
                approved(
                    m,
                    Approval { issued: "2026-03-01T12:01:00.000001Z", ..Approval::by(AUDIT, 8) },
                );
            }),
        ),
        claw(
            "an approval is not older than the store",
            Audits,
            Before(|m| {
                approved(
                    m,
                    Approval { issued: "2026-02-28T23:59:59.999999Z", ..Approval::by(AUDIT, 8) },
                );
            }),
        ),
        claw(
            "an approval lives no longer than the policy says",
            Audits,
            Field("policy", "ttl_max", json!(659)),
        ),
        claw(
            "nor by a microsecond in centuries",
            Audits,
            Before(|m| {
                m.set("policy", "ttl_max", json!(18_000_000_000u64));
                let expires = "2596-07-23T19:59:00.000001Z";
                approved(m, Approval { expires, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "an approval is of the claim",
            Audits,
            Before(|m| {
                approved(m, Approval { of: Of::Hash([7; 32]), ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "each approval is of the claim",
            Audits,
            Before(|m| {
                let other = Approval { of: Of::Hash([7; 32]), ..Approval::by(OPS, 9) };
                approve(m.of("owed"), &[Approval::by(AUDIT, 8), other]);
            }),
        ),
        claw(
            "a legacy text beside canonical approvals is one that was hashed",
            Audits,
            Before(|m| {
                let nonce = Approval { of: Of::Nonce, ..Approval::by(OPS, 9) };
                approve(m.of("owed"), &[Approval::by(AUDIT, 8), nonce]);
                let text = crate::random::legacy_of(m.of("owed"));
                m.set("owed", "legacy", text.into());
            }),
        ),
        claw("a claim has as many keys as it takes", Audits, Field("once", "keys", json!(["ops"]))),
        claw("a claim names its keys", Audits, Field("owed", "keys", json!([]))),
        claw(
            "a claim names no more keys than approvals",
            Audits,
            Field("owed", "keys", json!(["audit", "ops"])),
        ),
        claw(
            "a claim names a key once",
            Audits,
            Field("idempotent", "keys", json!(["ops", "ops"])),
        ),
        claw("a key's name is a text", Audits, Field("owed", "keys", json!([1]))),
        claw("keys are an array", Audits, Field("owed", "keys", json!("audit"))),
        claw(
            "a legacy text is one that was hashed",
            Audits,
            Before(|m| {
                let text = crate::random::legacy_of(m.of("owed"));
                m.set("owed", "legacy", text.into());
            }),
        ),
        claw("a legacy hash has its text", Audits, Field("pure", "legacy", Value::Null)),
        claw(
            "a legacy text is the one that was hashed",
            Audits,
            Before(|m| {
                let text = m.of("pure")["legacy"].as_str().expect("a text").replace("0.5", "0.50");
                m.set("pure", "legacy", text.into());
            }),
        ),
        claw(
            "a legacy text means what was executed",
            Audits,
            Before(|m| {
                // Signed as it is: another action's text.
                let mut other = m.of("again").clone();
                approve(&mut other, &[Approval { of: Of::Legacy, ..Approval::by(OPS, 1) }]);
                for field in ["approval", "legacy"] {
                    m.set("pure", field, other[field].clone());
                }
            }),
        ),
        claw(
            "a legacy text has no number of over 1,100 bytes",
            Audits,
            Before(|m| {
                let text = format!("{{\"n\":0.5{}}}", "0".repeat(1_098));
                spelled(m, json!({"n": 0.5}), &text);
            }),
        ),
        claw(
            "a legacy text has no number that is nearly zero",
            Audits,
            Before(|m| spelled(m, json!({"n": 0}), "{\"n\":1e-400}")),
        ),
        claw(
            "a signature is the key's",
            Verify,
            Before(|m| {
                let other = m.of("again")["approval"][0]["signature"].clone();
                artifact(m, "owed", "signature", other);
            }),
        ),
        claw(
            "a signature covers the id",
            Verify,
            Before(|m| {
                artifact(m, "owed", "approval_id", json!("3f0d6f0a-6d0c-4b7e-9a55-0000000000ff"));
            }),
        ),
        claw("a claim names the key that verifies", Verify, Field("owed", "keys", json!(["ops"]))),
        claw(
            "a claim names keys in their order",
            Verify,
            Field("idempotent", "keys", json!(["audit", "ops"])),
        ),
        claw(
            "a claim names every key that verifies",
            Verify,
            Before(|m| {
                m.set("idempotent", "keys", json!(["ops"]));
            }),
        ),
        claw("a claim names no stranger", Audits, Field("owed", "keys", json!(["boss"]))),
        claw(
            "two approvals by one key are one",
            Verify,
            Before(|m| {
                approve(m.of("once"), &[Approval::by(AUDIT, 10), Approval::by(AUDIT, 11)]);
                m.set("once", "keys", json!(["audit", "ops"]));
            }),
        ),
    ]
}
