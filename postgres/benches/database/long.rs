//! A long log, made in files without waiting for the disk and imported: `import` appends as a node does.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use openexec::core::hash::hex;
use openexec::core::line::Json;
use openexec::core::receipt::{Outcome, exec_id, receipt};
use openexec::core::record::{Claim, Identity, Mode, Policy, Receipt};
use openexec::core::time::Time;
use openexec::handlers::Effect;
use openexec::store::{Batch, GEOMETRY, Store, make, open};
use openexec::sys::disk::Directory;

use crate::common::Cluster;
use crate::unsynced::Unsynced;

const CREATED: Time = Time::from_micros(1_767_225_600_000_000);
/// Executions in one append.
const BATCH: u64 = 1024;

/// Fills an empty database with the log of so many executions.
pub fn fill(cluster: &Cluster, executions: u64) {
    let files = cluster.dir.join("files");
    let began = Instant::now();
    generate(&files, executions);
    println!("{executions} executions: made in files in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let words = [
        "import",
        files.to_str().expect("UTF-8"),
        "--serve-role",
        "serve",
        "--operator-role",
        "op",
    ];
    let done = cluster.command("owner", &words).output().expect("run");
    assert!(done.status.success(), "{done:?}");
    println!("imported in {:.0} s", began.elapsed().as_secs_f64());
    fs::remove_dir_all(&files).expect("removed");
}

pub fn generate(path: &Path, executions: u64) {
    let disk = Arc::new(Unsynced(Directory::make(path).expect("a directory")));
    let identity = Identity { store: "0".repeat(32), mode: Mode::Demo, created: CREATED };
    make(disk.as_ref(), GEOMETRY, &identity).expect("a store");
    let (mut store, _) = open::open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("opens");
    let preparation = store.preparation();
    let mut batch = Batch::default();
    let policy = Policy {
        actions: None,
        allowed: Json("null"),
        at: CREATED,
        callers: Json("null"),
        keys: Json("null"),
        required: Json("null"),
        tenant: None,
        ttl_max: None,
        version: "0".into(),
    };
    batch.push(&policy.line());
    for n in 0..executions {
        push(&mut batch, n);
        if (n + 1) % BATCH == 0 || n + 1 == executions {
            while preparation.step(disk.as_ref(), GEOMETRY.segment_bytes) {}
            store.append(&std::mem::take(&mut batch)).expect("appended");
        }
    }
}

fn push(batch: &mut Batch, n: u64) {
    let nonce = format!("{n:08x}-4f5e-4d3c-8b2a-{n:012x}");
    let (payload, result) = ("{}", "{\"echo\":{}}");
    let id = exec_id("echo", &nonce, payload);
    let at = CREATED.plus_seconds(1 + n as i64 / 1_000);
    let claim = Claim {
        at,
        id,
        action: "echo",
        payload: Json(payload),
        nonce: nonce.into(),
        caller: None,
        effect: Effect::Pure,
        approval: Json("null"),
        keys: Json("[]"),
        legacy: None,
        policy: 1,
        place: None,
    };
    batch.push(&claim.line());
    let hash = receipt(&hex(&id), result);
    let receipt =
        Receipt { at, id, outcome: Outcome::Executed, result: Json(result), receipt: hash };
    batch.push(&receipt.line());
}
