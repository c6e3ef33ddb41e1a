//! Kinds of keys, groups and persons: what a policy may say of them, and what an approval must then be.

use openexec::core::base64;
use serde_json::{Value, json};

use crate::common::approvals::private_key;
use crate::common::ssh::{How, Signer};
use crate::forge::{AUDIT, Approval, Model, OPS, approve};
use crate::table::Change::{Before, Field};
use crate::table::Who::{Audits, Verify};
use crate::table::{Case, Vary, claw};
use openexec::core::hash::hex;

fn key(m: &mut Model, number: usize, field: &str, value: Value) {
    m.of("policy")["keys"][number][field] = value;
}

/// All that `audit` signed is signed by a key of SSH with the same 32 bytes, in this way.
fn by_ssh(m: &mut Model, signer: &Signer, how: &How) {
    key(m, 1, "type", signer.kind().into());
    key(m, 1, "application", signer.application.into());
    sign_again(m, signer, how);
}

fn sign_again(m: &mut Model, signer: &Signer, how: &How) {
    for label in ["idempotent", "once", "owed"] {
        for artifact in m.of(label)["approval"].as_array_mut().expect("approvals") {
            again(artifact, signer, how);
        }
    }
    again(&mut m.of("approved")["artifact"], signer, how);
}

fn again(artifact: &mut Value, signer: &Signer, how: &How) {
    let fields = ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at"];
    let message: String = fields.map(|name| artifact[name].as_str().expect("a text")).concat();
    let own = private_key(AUDIT).public_key().to_vec();
    let key = ed25519_compact::PublicKey::from_slice(&own).expect("a key");
    let bytes = base64::decode(artifact["signature"].as_str().expect("a text")).expect("base64");
    let bytes = ed25519_compact::Signature::from_slice(&bytes);
    if bytes.is_ok_and(|bytes| key.verify(&message, &bytes).is_ok()) {
        artifact["signature"] = base64::encode(&signer.sign(message.as_bytes(), how)).into();
    }
}

/// A third key, so that two of one person do not leave a threshold out of reach.
fn persons(m: &mut Model, names: [&str; 3]) {
    let mut third = m.of("policy")["keys"][0].clone();
    third["name"] = "third".into();
    third["public_key"] = hex(&private_key(3).public_key()[..]).into();
    m.of("policy")["keys"].as_array_mut().expect("keys").push(third);
    for (number, name) in names.into_iter().enumerate() {
        key(m, number, "person", name.into());
    }
    m.of("policy")["callers"][0]["person"] = "a".into();
}

fn groups(m: &mut Model, ops: &[&str], audit: &[&str], required: Value) {
    key(m, 0, "groups", json!(ops));
    key(m, 1, "groups", json!(audit));
    m.set("policy", "required", required);
}

fn token(m: &mut Model, verified: bool, flags: u8) {
    by_ssh(m, &Signer::token(AUDIT), &How { flags, ..How::default() });
    key(m, 1, "verified", verified.into());
}

/// What all must accept.
pub fn variants() -> Vec<(&'static str, Vary)> {
    vec![
        ("an OpenSSH key", |m| by_ssh(m, &Signer::ssh(AUDIT), &How::default())),
        ("a security key that was touched", |m| token(m, false, 0x01)),
        ("a security key whose holder was verified", |m| token(m, true, 0x05)),
        ("groups", |m| {
            groups(m, &["ops"], &["audit"], json!({"*": 1, "do.once": {"audit": 1, "ops": 1}}))
        }),
        ("a key in two groups that sits in the second", |m| {
            groups(m, &["a", "b"], &["a"], json!({"*": 1, "do.once": {"a": 1, "b": 1}}));
        }),
        ("persons", |m| persons(m, ["p", "q", "p"])),
    ]
}

pub fn cases() -> Vec<Case> {
    [policies(), signatures(), places()].concat()
}

fn policies() -> Vec<Case> {
    vec![
        claw(
            "a key that is no security key has no application",
            Audits,
            Before(|m| key(m, 1, "application", json!("ssh:"))),
        ),
        claw(
            "an OpenSSH key that is no security key has no application",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How::default());
                key(m, 1, "application", json!("ssh:"));
            }),
        ),
        claw(
            "a security key has an application",
            Audits,
            Before(|m| {
                token(m, false, 0x01);
                key(m, 1, "application", Value::Null);
            }),
        ),
        claw(
            "no key but a security key verifies its holder",
            Audits,
            Before(|m| key(m, 1, "verified", json!(true))),
        ),
        claw(
            "no OpenSSH key but a security key verifies its holder",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How::default());
                key(m, 1, "verified", json!(true));
            }),
        ),
        claw(
            "a key's groups stand in their order",
            Audits,
            Before(|m| key(m, 1, "groups", json!(["b", "a"]))),
        ),
        claw(
            "a key's group stands once",
            Audits,
            Before(|m| key(m, 1, "groups", json!(["a", "a"]))),
        ),
        claw(
            "a key's actions stand in their order",
            Audits,
            Before(|m| key(m, 1, "actions", json!(["do.once", "do.idempotent"]))),
        ),
        claw(
            "a key's action stands once",
            Audits,
            Before(|m| key(m, 1, "actions", json!(["do.idempotent", "do.once", "do.once"]))),
        ),
        claw("a group is a name", Audits, Before(|m| key(m, 1, "groups", json!(["a b"])))),
        claw("a group has a name", Audits, Before(|m| key(m, 1, "groups", json!([""])))),
        claw(
            "where one key has a person, all have",
            Audits,
            Before(|m| key(m, 1, "person", json!("p"))),
        ),
        claw(
            "where keys have a person, callers have",
            Audits,
            Before(|m| {
                persons(m, ["p", "q", "r"]);
                m.of("policy")["callers"][0]["person"] = Value::Null;
            }),
        ),
        claw(
            "nobody approves what they proposed",
            Audits,
            Before(|m| {
                persons(m, ["p", "q", "r"]);
                m.of("policy")["callers"][0]["person"] = "p".into();
            }),
        ),
        claw(
            "nobody approves beforehand what they proposed",
            Audits,
            Before(|m| {
                persons(m, ["p", "q", "r"]);
                m.of("policy")["callers"][0]["person"] = "p".into();
                for label in ["pure", "idempotent", "again", "once", "owed"] {
                    approve(m.of(label), &[Approval::by(AUDIT, 60)]);
                    m.set(label, "keys", json!(["audit"]));
                }
                m.set("policy", "required", json!({"*": 1}));
                m.of("policy")["keys"][1]["actions"] = Value::Null;
                for (number, label) in (70..).zip(["pure", "idempotent", "again", "once", "owed"]) {
                    approve(m.of(label), &[Approval::by(AUDIT, number)]);
                }
                crate::proposals::approved(m, Approval::by(OPS, 8));
            }),
        ),
        claw("a person is a name", Audits, Before(|m| persons(m, ["p", "q", " r"]))),
        claw(
            "a group that no key is in cannot approve",
            Audits,
            Field("policy", "required", json!({"*": {"ops": 1}})),
        ),
        claw(
            "one key does not sit in two groups",
            Audits,
            Before(|m| groups(m, &["a", "b"], &[], json!({"*": {"a": 1, "b": 1}}))),
        ),
        claw(
            "there are no more places than approvals",
            Audits,
            Before(|m| groups(m, &["a"], &["b"], json!({"*": 1, "do.once": {"a": 9, "b": 8}}))),
        ),
        claw(
            "two keys of one person do not reach a threshold",
            Audits,
            Before(|m| {
                for number in [0, 1] {
                    key(m, number, "person", json!("p"));
                }
            }),
        ),
    ]
}

fn signatures() -> Vec<Case> {
    vec![
        claw(
            "an OpenSSH key does not sign as a PEM key does",
            Verify,
            Before(|m| key(m, 1, "type", json!("ssh-ed25519"))),
        ),
        claw(
            "a PEM key does not sign as an OpenSSH key does",
            Verify,
            Before(|m| sign_again(m, &Signer::ssh(AUDIT), &How::default())),
        ),
        claw(
            "a signature names the key that made it",
            Verify,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How::default());
                sign_again(m, &Signer::ssh(OPS), &How::default());
                let mut claim = m.of("again").clone();
                approve(&mut claim, &[Approval::by(AUDIT, 8)]);
                let artifact = &mut claim["approval"][0];
                again(artifact, &Signer::ssh(OPS), &How::default());
                m.of("owed")["approval"][0]["signature"] = artifact["signature"].clone();
            }),
        ),
        claw(
            "a security key that must verify its holder did",
            Verify,
            Before(|m| token(m, true, 0x01)),
        ),
        claw(
            "a security key's application is the policy's",
            Verify,
            Before(|m| {
                token(m, false, 0x01);
                key(m, 1, "application", json!("ssh:other"));
            }),
        ),
        claw("a security key was touched", Audits, Before(|m| token(m, false, 0x00))),
        claw("a security key did nothing else", Audits, Before(|m| token(m, false, 0x81))),
        claw(
            "a signature is for OpenExec",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How { namespace: "file", ..How::default() })
            }),
        ),
        claw(
            "a signature reserves nothing",
            Audits,
            Before(|m| by_ssh(m, &Signer::ssh(AUDIT), &How { reserved: "x", ..How::default() })),
        ),
        claw(
            "a signature is over SHA-512",
            Audits,
            Before(|m| by_ssh(m, &Signer::ssh(AUDIT), &How { hash: "sha256", ..How::default() })),
        ),
        claw(
            "a signature is of version 1",
            Audits,
            Before(|m| by_ssh(m, &Signer::ssh(AUDIT), &How { version: 2, ..How::default() })),
        ),
        claw(
            "a signature has nothing behind it",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How::default());
                let signature = &mut m.of("owed")["approval"][0]["signature"];
                let bytes = base64::decode(signature.as_str().expect("a text")).expect("base64");
                *signature = base64::encode(&[&bytes[..], &[0]].concat()).into();
            }),
        ),
        claw(
            "a signature is whole",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::token(AUDIT), &How::default());
                let signature = &mut m.of("owed")["approval"][0]["signature"];
                let bytes = base64::decode(signature.as_str().expect("a text")).expect("base64");
                *signature = base64::encode(&bytes[..bytes.len() - 1]).into();
            }),
        ),
        claw(
            "a signature is by no RSA key",
            Audits,
            Before(|m| {
                by_ssh(m, &Signer::ssh(AUDIT), &How::default());
                let signature = &mut m.of("owed")["approval"][0]["signature"];
                let bytes = base64::decode(signature.as_str().expect("a text")).expect("base64");
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let (from, to) = (b"ssh-ed25519", b"ssh-ed25518");
                assert!(text.contains("ssh-ed25519"));
                let mut bytes = bytes;
                for at in 0..bytes.len() - from.len() {
                    if bytes[at..].starts_with(from) {
                        bytes[at..at + to.len()].copy_from_slice(to);
                    }
                }
                *signature = base64::encode(&bytes).into();
            }),
        ),
    ]
}

fn places() -> Vec<Case> {
    vec![
        claw(
            "a claim has a key of each group that it takes",
            Audits,
            Before(|m| {
                let required = json!({"*": 1, "do.idempotent": {"ops": 1}});
                groups(m, &["ops"], &["audit"], required);
            }),
        ),
        claw(
            "one key of two groups fills one place",
            Audits,
            Before(|m| {
                let required = json!({"*": 1, "do.idempotent": {"a": 1, "b": 1}});
                groups(m, &["a"], &["a", "b"], required);
            }),
        ),
        claw(
            "two keys of one person fill one place",
            Audits,
            Before(|m| persons(m, ["p", "p", "q"])),
        ),
    ]
}
