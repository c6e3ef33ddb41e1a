//! Makes stores as a busy service would have written them, without waiting for the disk and without
//! signatures, which neither opening nor an audit without keys looks at.

use std::path::Path;
use std::sync::Arc;

use openexec::core::base64;
use openexec::core::hash::hex;
use openexec::core::receipt::{Outcome, action_hash, exec_id, receipt};
use openexec::core::record::{Claim, Identity, Mode, Receipt};
use openexec::core::time::Time;
use openexec::handlers::Effect;
use openexec::store::{Batch, Geometry, Store, make, open};
use openexec::sys::disk::Directory;

use super::unsynced::Unsynced;

/// Executions in one batch: a busy service's.
const BATCH: u64 = 32;
const CREATED: Time = Time::from_micros(1_767_225_600_000_000);

/// `approvals` for each execution; none: a store of demo mode.
pub fn generate(path: &Path, geometry: Geometry, executions: u64, approvals: u64) {
    let disk = Arc::new(Unsynced(Directory::make(path).expect("a directory")));
    let mode = if approvals == 0 { Mode::Demo } else { Mode::Clawshield };
    let identity = Identity { store: "0".repeat(32), mode, created: CREATED };
    make(disk.as_ref(), geometry, &identity).expect("a store");
    let (mut store, _) = open::open(disk.clone(), geometry, &mut |_, _| {}).expect("opens");
    let preparation = store.preparation();
    let mut batch = Batch::default();
    for n in 0..executions {
        push_execution(&mut batch, n, approvals);
        if (n + 1) % BATCH == 0 || n + 1 == executions {
            while preparation.step(disk.as_ref(), geometry.segment_bytes) {}
            store.append(&std::mem::take(&mut batch)).expect("appended");
        }
    }
}

fn push_execution(batch: &mut Batch, n: u64, approvals: u64) {
    let nonce = format!("{n:08x}-4f5e-4d3c-8b2a-{n:012x}");
    let payload = format!("{{\"amount\":{n},\"note\":\"a payload of ordinary size\"}}");
    let result = format!("{{\"echo\":{payload}}}");
    let id = exec_id("echo", &nonce, &payload);
    let at = CREATED.plus_seconds(1 + n as i64 / 1_000);
    let hash = hex(&action_hash("echo", &payload));
    let artifact = |number: u64| {
        format!(
            "{{\"action_hash\":\"{hash}\",\"approval_id\":\"{n:08x}-4f5e-4d3c-8b2a-{number:012x}\",\
             \"expires_at\":\"2027-01-01T00:00:00Z\",\"issued_at\":\"2026-01-01T00:00:00Z\",\
             \"signature\":\"{}\",\"tenant_id\":\"acme\"}}",
            base64::encode(&[7; 64])
        )
    };
    let artifacts: Vec<String> = (0..approvals).map(artifact).collect();
    let keys: Vec<String> = (0..approvals).map(|number| format!("\"key-{number}\"")).collect();
    let is_approved = approvals > 0;
    let approval = if is_approved { format!("[{}]", artifacts.join(",")) } else { "null".into() };
    let claim = Claim {
        at,
        id,
        action: "echo",
        payload: &payload,
        nonce,
        effect: Effect::Pure,
        approval: &approval,
        keys: &format!("[{}]", keys.join(",")),
        legacy: None,
        tenant: is_approved.then(|| "acme".to_owned()),
        required: is_approved.then_some(approvals),
        ttl_max: None,
        place: None,
    };
    batch.push(&claim.line());
    let hash = receipt(&hex(&id), &result);
    let record = Receipt { at, id, outcome: Outcome::Executed, result: &result, receipt: hash };
    batch.push(&record.line());
}
