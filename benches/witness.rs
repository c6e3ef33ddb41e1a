//! What evidence costs: the tree for each batch, its memory, and how long proofs take.
//!
//! `cargo bench --bench witness` measures logs of 10 k and 1 M records; `-- 10000000` a size of one's
//! own. The log is made in a directory whose syncs do nothing; the batch's own time is measured with
//! them, in `target`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the product")]

#[path = "store/unsynced.rs"]
mod unsynced;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openexec::core::record::{Identity, Mode, freeze_line};
use openexec::core::time::Time;
use openexec::core::tree::{Tree, leaf_hash};
use openexec::evidence::log::{FileLog, Log};
use openexec::evidence::path;
use openexec::store::{Batch, Files, GEOMETRY, Store, make, open};
use openexec::sys::disk::Directory;
use unsynced::Unsynced;

/// Records of one batch of a busy service: 32 executions.
const BATCH: u64 = 64;
/// As long as a record of an ordinary execution.
const LINE_BYTES: usize = 300;
const PROOFS: u64 = 2_000;

fn main() {
    per_batch();
    let sizes: Vec<u64> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes };
    println!(
        "\n| records | index in memory | inclusion: median, p99 | consistency: median, p99 | root at a size |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for size in sizes {
        measure(size);
    }
}

/// The share of the tree in a batch that is written and synced.
fn per_batch() {
    let path = scratch("batch", Path::new(env!("CARGO_TARGET_TMPDIR")));
    let disk = Arc::new(Directory::make(&path).expect("a directory"));
    let mut store = made(disk.clone());
    let mut whole = Vec::new();
    let mut tree_alone = Vec::new();
    let mut tree = Tree::default();
    for n in 0..400 {
        let (batch, lines) = batch(n * BATCH);
        store.preparation().step(disk.as_ref(), GEOMETRY.segment_bytes);
        let began = Instant::now();
        store.append(&batch).expect("appended");
        whole.push(began.elapsed());
        let began = Instant::now();
        let mut grown = tree.clone();
        for line in &lines {
            black_box(grown.push(leaf_hash(line.as_bytes())));
        }
        black_box(grown.root());
        tree = grown;
        tree_alone.push(began.elapsed());
    }
    let (whole, alone) = (median(&mut whole), median(&mut tree_alone));
    println!(
        "a batch of {BATCH} records: {:.0} us, of it the tree {:.1} us ({:.1} %)",
        micros(whole),
        micros(alone),
        100.0 * alone.as_secs_f64() / whole.as_secs_f64()
    );
    let _ = std::fs::remove_dir_all(path);
}

fn measure(records: u64) {
    let path = scratch("log", &std::env::temp_dir());
    let disk = Arc::new(Unsynced(Directory::make(&path).expect("a directory")));
    let mut store = made(disk.clone());
    let mut n = 1;
    while n < records {
        let (batch, _) = batch(n);
        while store.preparation().step(disk.as_ref(), GEOMETRY.segment_bytes) {}
        store.append(&batch).expect("appended");
        n += BATCH;
    }
    let log = &FileLog::new(disk.clone(), GEOMETRY, store.blocks());
    let size = log.head().size;
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let time = |proof: &mut dyn FnMut()| {
        let began = Instant::now();
        proof();
        began.elapsed()
    };
    let mut inclusion: Vec<Duration> = (0..PROOFS)
        .map(|_| {
            let at = random(size);
            time(&mut || drop(black_box(path::inclusion(log, at, size).expect("read"))))
        })
        .collect();
    let mut consistency: Vec<Duration> = (0..PROOFS)
        .map(|_| {
            let from = 1 + random(size);
            time(&mut || drop(black_box(path::consistency(log, from, size).expect("read"))))
        })
        .collect();
    let mut roots: Vec<Duration> = (0..PROOFS)
        .map(|_| {
            let at = random(size);
            time(&mut || {
                black_box(path::head_at(log, at).expect("read"));
            })
        })
        .collect();
    // A hash for each block and as many above it, and where each begins.
    let blocks = size / 256;
    let index = blocks * (32 + 32 + 8);
    println!(
        "| {size} | {:.2} MB | {:.0} us, {:.0} us | {:.0} us, {:.0} us | {:.0} us |",
        index as f64 / 1e6,
        micros(median(&mut inclusion)),
        micros(inclusion[inclusion.len() * 99 / 100]),
        micros(median(&mut consistency)),
        micros(consistency[consistency.len() * 99 / 100]),
        micros(median(&mut roots)),
    );
    drop(store);
    let _ = std::fs::remove_dir_all(path);
}

fn made(disk: Arc<dyn openexec::sys::disk::Disk>) -> Files {
    let identity =
        Identity { store: "0".repeat(32), mode: Mode::Demo, created: Time::from_micros(0) };
    make(disk.as_ref(), GEOMETRY, &identity).expect("a store");
    open::open(disk, GEOMETRY, &mut |_, _| {}).expect("opens").0
}

fn batch(first: u64) -> (Batch, Vec<String>) {
    let mut batch = Batch::default();
    let lines: Vec<String> = (first..first + BATCH)
        .map(|n| {
            let reason = format!("{n:0width$}", width = LINE_BYTES - 70);
            freeze_line(Time::from_micros(n as i64), (n - first).is_multiple_of(2), &reason)
        })
        .collect();
    lines.iter().for_each(|line| batch.push(line));
    (batch, lines)
}

fn scratch(name: &str, below: &Path) -> PathBuf {
    let path = below.join(format!("openexec-bench-witness-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn median(durations: &mut [Duration]) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
