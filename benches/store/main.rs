//! Opening and auditing: time and resident memory at several sizes, and bytes an execution.
//!
//! `cargo bench --bench store` measures 10 k and 1 M executions; `-- 10000000` a size of one's own.
//! Beside each opening the same files are read and hashed without being understood: the ratio says
//! what understanding costs, whatever the machine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the product")]

mod unsynced;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openexec::audit::audit;
use openexec::handlers::Effect;
use openexec::hash::{hex, sha256};
use openexec::receipt::{Outcome, exec_id, receipt};
use openexec::store::disk::{Directory, Disk};
use openexec::store::record::{Claim, Identity, Mode, Receipt};
use openexec::store::{Batch, GEOMETRY, make, open};
use openexec::time::Time;
use unsynced::Unsynced;

/// Executions in one batch of the generated stores: a busy service's.
const BATCH: u64 = 32;

fn main() {
    let sizes: Vec<u64> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes };
    println!(
        "| executions | bytes each | opening | read and hash alone | ratio | resident | an execution \
         | audited, records/s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for size in sizes {
        measure(size);
    }
}

fn measure(executions: u64) {
    let path = std::env::temp_dir().join(format!("openexec-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    generate(&path, executions);
    let disk: Arc<dyn Disk> = Arc::new(Directory::open(&path).expect("the directory"));

    let before = resident();
    let began = Instant::now();
    let (store, _) = open::open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("opens");
    let opening = began.elapsed();
    let grown = resident().saturating_sub(before);
    assert_eq!(store.state().executions(), executions);
    let each = store.bytes() / executions;
    drop(store);

    let began = Instant::now();
    let summary = audit(disk.as_ref(), GEOMETRY, None, None, &mut |_, _| {}).expect("a good store");
    let audited = summary.records as f64 / began.elapsed().as_secs_f64();

    let alone = read_and_hash(disk.as_ref());
    println!(
        "| {executions} | {each} | {:.2} s | {:.2} s | {:.2} | {} MiB | {} bytes | {audited:.0} |",
        opening.as_secs_f64(),
        alone.as_secs_f64(),
        opening.as_secs_f64() / alone.as_secs_f64(),
        grown >> 20,
        grown / executions
    );
    let _ = std::fs::remove_dir_all(&path);
}

/// Makes a store as a service would have written it, without waiting for the disk.
fn generate(path: &Path, executions: u64) {
    let disk = Arc::new(Unsynced(Directory::make(path).expect("a directory")));
    let identity =
        Identity { store: "0".repeat(32), mode: Mode::Demo, created: Time::from_micros(0) };
    make(disk.as_ref(), GEOMETRY, &identity).expect("a store");
    let (mut store, _) = open::open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("opens");
    let preparation = store.preparation();
    let mut batch = Batch::default();
    for n in 0..executions {
        push_execution(&mut batch, n);
        if (n + 1) % BATCH == 0 || n + 1 == executions {
            while preparation.step(disk.as_ref(), GEOMETRY.segment_bytes) {}
            store.append(&std::mem::take(&mut batch)).expect("appended");
        }
    }
}

fn push_execution(batch: &mut Batch, n: u64) {
    let nonce = format!("{n:08x}-4f5e-4d3c-8b2a-{n:012x}");
    let payload = format!("{{\"amount\":{n},\"note\":\"a payload of ordinary size\"}}");
    let result = format!("{{\"echo\":{payload}}}");
    let (id, at) = (exec_id("echo", &nonce, &payload), Time::from_micros(n as i64));
    let claim = Claim {
        at,
        id,
        action: "echo",
        payload: &payload,
        nonce,
        effect: Effect::Pure,
        approval: "null",
        keys: "[]",
        legacy: None,
        tenant: None,
        required: None,
        ttl_max: None,
        place: None,
    };
    batch.push(&claim.line());
    let hash = receipt(&hex(&id), &result);
    let record = Receipt { at, id, outcome: Outcome::Executed, result: &result, receipt: hash };
    batch.push(&record.line());
}

fn read_and_hash(disk: &dyn Disk) -> Duration {
    let began = Instant::now();
    let mut buffer = vec![0; GEOMETRY.segment_bytes as usize];
    for number in 1.. {
        let name = openexec::store::segment::name(number);
        if disk.length(&name).is_err() {
            break;
        }
        disk.read_at(&name, 0, &mut buffer).expect("read");
        std::hint::black_box(sha256(&[&buffer]));
    }
    began.elapsed()
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * 4096
}
