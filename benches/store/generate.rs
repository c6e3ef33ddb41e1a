//! Makes stores as a busy service would have written them, without waiting for the disk.

use std::path::Path;
use std::sync::Arc;

use crate::signer::{PrivateKey, mint};
use openexec::core::base64;
use openexec::core::hash::hex;
use openexec::core::json::canonical;
use openexec::core::line::Json;
use openexec::core::receipt::{Outcome, action_hash, exec_id, receipt};
use openexec::core::record::{Claim, Identity, Mode, Policy, Receipt};
use openexec::core::time::Time;
use openexec::handlers::Effect;
use openexec::store::{Batch, Geometry, Store, make, open};
use openexec::sys::disk::Directory;

use serde_json::{Value, json};

use super::unsynced::Unsynced;

const TENANT: &str = "acme";
const CREATED: Time = Time::from_micros(1_767_225_600_000_000);

#[derive(Clone, Copy)]
pub struct Plan {
    pub executions: u64,
    /// For each execution; none: a store of demo mode.
    pub approvals: u64,
    /// Executions in one batch.
    pub batch: u64,
}

impl Plan {
    /// Batches of 32: a service as busy as it can be.
    pub const fn of(executions: u64, approvals: u64) -> Self {
        Plan { executions, approvals, batch: 32 }
    }
}

pub fn generate(path: &Path, geometry: Geometry, plan: Plan) {
    let Plan { executions, approvals, batch: in_batch } = plan;
    let disk = Arc::new(Unsynced(Directory::make(path).expect("a directory")));
    let mode = if approvals == 0 { Mode::Demo } else { Mode::Clawshield };
    let identity = Identity { store: "0".repeat(32), mode, created: CREATED };
    make(disk.as_ref(), geometry, &identity).expect("a store");
    let (mut store, _) = open::open(disk.clone(), geometry, &mut |_, _| {}).expect("opens");
    let preparation = store.preparation();
    let mut batch = Batch::default();
    let signers: Vec<PrivateKey> = (1..=approvals).map(|seed| private_key(seed as u8)).collect();
    batch.push(&policy(&signers));
    for n in 0..executions {
        push_execution(&mut batch, n, &signers);
        if (n + 1) % in_batch == 0 || n + 1 == executions {
            while preparation.step(disk.as_ref(), geometry.segment_bytes) {}
            store.append(&std::mem::take(&mut batch)).expect("appended");
        }
    }
}

/// The key whose seed is this byte 32 times (RFC 8410, section 7).
fn private_key(seed: u8) -> PrivateKey {
    const PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let body = base64::encode(&[&PREFIX[..], &[seed; 32]].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    PrivateKey::from_pem(&pem).expect("a key")
}

/// The policy of demo mode, or of as many keys as each execution needs.
fn policy(signers: &[PrivateKey]) -> String {
    let key = |(number, key): (usize, &PrivateKey)| {
        json!({
            "actions": null, "application": null, "groups": [], "name": format!("key-{number}"),
            "not_after": null, "person": null, "public_key": hex(&key.public_key()[..]),
            "type": "ed25519", "verified": false,
        })
    };
    let is_demo = signers.is_empty();
    let keys: Value = signers.iter().enumerate().map(key).collect();
    let (keys, required) =
        if is_demo { (Value::Null, Value::Null) } else { (keys, json!({"*": signers.len()})) };
    Policy {
        actions: None,
        allowed: Json("null"),
        at: CREATED,
        callers: Json("null"),
        keys: Json(&canonical::to_string(&keys)),
        required: Json(&canonical::to_string(&required)),
        tenant: (!is_demo).then(|| TENANT.into()),
        ttl_max: None,
        version: "0".into(),
    }
    .line()
}

fn push_execution(batch: &mut Batch, n: u64, signers: &[PrivateKey]) {
    let nonce = format!("{n:08x}-4f5e-4d3c-8b2a-{n:012x}");
    let payload = format!("{{\"amount\":{n},\"note\":\"a payload of ordinary size\"}}");
    let result = format!("{{\"echo\":{payload}}}");
    let id = exec_id("echo", &nonce, &payload);
    let at = CREATED.plus_seconds(1 + n as i64 / 1_000);
    let hash = action_hash("echo", &payload);
    let artifact = |(number, key): (usize, &PrivateKey)| {
        let id = format!("{n:08x}-4f5e-4d3c-8b2a-{number:012x}");
        let until = CREATED.plus_seconds(366 * 86_400);
        canonical::to_string(
            &mint(key, TENANT, &hash, CREATED, until, &id).expect("signed").to_value(),
        )
    };
    let artifacts: Vec<String> = signers.iter().enumerate().map(artifact).collect();
    let keys: Vec<String> = (0..signers.len()).map(|number| format!("\"key-{number}\"")).collect();
    let is_approved = !signers.is_empty();
    let approval = if is_approved { format!("[{}]", artifacts.join(",")) } else { "null".into() };
    let claim = Claim {
        at,
        id,
        action: "echo",
        payload: Json(&payload),
        nonce: nonce.into(),
        caller: None,
        effect: Effect::Pure,
        approval: Json(&approval),
        keys: Json(&format!("[{}]", keys.join(","))),
        legacy: None,
        policy: 1,
        place: None,
    };
    batch.push(&claim.line());
    let hash = receipt(&hex(&id), &result);
    let record =
        Receipt { at, id, outcome: Outcome::Executed, result: Json(&result), receipt: hash };
    batch.push(&record.line());
}
