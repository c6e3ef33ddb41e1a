//! Proofs at every size of a log of a few hundred records, against the definitions of RFC 6962
//! written out, and everything that could be wrong with a proof refused.

use std::sync::Arc;

use crate::common::extends::extends;
use openexec::core::hash::{Hash, sha256};
use openexec::core::record::{Identity, Line, Mode, freeze_line};
use openexec::core::time::Time;
use openexec::core::tree::{Head, leaf_hash, node_hash};
use openexec::evidence::guard::{Relation, relation};
use openexec::evidence::log::{FileLog, Log};
use openexec::evidence::path::{consistency, head_at, includes, inclusion};
use openexec::serve::opening::replay;
use openexec::store::open::open;
use openexec::store::{Batch, Files, Geometry, Store, make};
use openexec::sys::disk::{Directory, Disk};
use proptest::prelude::*;

/// Small segments: a block of records lies in several.
const GEOMETRY: Geometry =
    Geometry { segment_bytes: 16 * 1024, batch_bytes_max: 5 * 1024, executions_max: 1_000 };

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => sha256(&[]),
        1 => leaves[0],
        n => {
            let (left, right) = leaves.split_at(n.next_power_of_two() / 2);
            node_hash(&root(left), &root(right))
        }
    }
}

/// RFC 6962, section 2.1.1.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(k);
    let (mut inner, outer) = if index < k {
        (path(index, left), root(right))
    } else {
        (path(index - k, right), root(left))
    };
    inner.push(outer);
    inner
}

/// RFC 6962, section 2.1.2.
fn subproof(from: usize, leaves: &[Hash], is_whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if is_whole { Vec::new() } else { vec![root(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(k);
    let (mut inner, outer) = if from <= k {
        (subproof(from, left, is_whole), root(right))
    } else {
        (subproof(from - k, right, false), root(left))
    };
    inner.push(outer);
    inner
}

struct Sample {
    path: std::path::PathBuf,
    store: Files,
    leaves: Vec<Hash>,
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Sample {
    fn log(&self) -> Arc<dyn Log> {
        let disk = Arc::new(Directory::open(&self.path).expect("the directory"));
        Arc::new(FileLog::new(disk, GEOMETRY, self.store.blocks()))
    }
}

/// A store of `size` records, in batches of one to nine, with seals.
fn sample(name: &str, size: usize) -> Sample {
    let path = std::env::temp_dir().join(format!("oe-proofs-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let disk = Directory::make(&path).expect("a directory");
    let identity =
        Identity { store: "0".repeat(32), mode: Mode::Demo, created: Time::from_micros(0) };
    make(&disk, GEOMETRY, &identity).expect("a store");
    let disk = Arc::new(disk);
    let (store, _) = open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let mut sample = Sample { path, store, leaves: Vec::new() };
    let mut number = 1;
    while number < size {
        let mut batch = Batch::default();
        for _ in 0..(number * 7 % 9 + 1).min(size - number) {
            // Lines of up to 400 bytes, none like another.
            let reason = format!("{number} {}", "é".repeat(number * 31 % 170));
            batch.push(&freeze_line(Time::from_micros(number as i64), number % 2 == 1, &reason));
            number += 1;
        }
        sample.store.preparation().step(disk.as_ref(), GEOMETRY.segment_bytes);
        sample.store.append(&batch).expect("appended");
        if number % 5 == 0 {
            sample.store.rest(0).expect("sealed");
        }
    }
    sample.leaves = leaves(&sample.path);
    assert_eq!(sample.leaves.len(), size);
    sample
}

/// From the files alone.
fn leaves(path: &std::path::Path) -> Vec<Hash> {
    let mut files: Vec<_> = std::fs::read_dir(path)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let text: String =
        files.iter().map(|file| std::fs::read_to_string(file).expect("a segment")).collect();
    let is_record = |line: &&str| matches!(Line::read(line), Some(Line::Record(_)));
    text.lines().filter(is_record).map(|line| leaf_hash(line.as_bytes())).collect()
}

const SIZE: usize = 700;

#[test]
fn every_proof_is_the_one_of_rfc_6962() {
    let sample = sample("all", SIZE);
    let log = sample.log();
    let log = log.as_ref();
    let leaves = &sample.leaves;
    assert_eq!(log.head(), Head { size: SIZE as u64, root: root(leaves) });
    // All sizes up to beyond the first block, then those around the next and a few between.
    let sizes = (1..=300).chain([383, 384, 385, 511, 512, 513, 514, 640, 699, SIZE]);
    for size in sizes {
        let head = Head { size: size as u64, root: root(&leaves[..size]) };
        assert_eq!(head_at(log, head.size).expect("read"), Some(head), "at {size}");
        let near = [0, 1, size / 3, size / 2, 255, 256, size - 1];
        for index in near.into_iter().filter(|index| *index < size) {
            let proof = inclusion(log, index as u64, head.size).expect("read");
            assert_eq!(proof, path(index, &leaves[..size]), "{index} of {size}");
            assert!(includes(&head, index as u64, &leaves[index], &proof));
        }
        let near = [1, 2, size / 3, size / 2, 255, 256, 257, size - 1, size];
        for from in near.into_iter().filter(|from| (1..=size).contains(from)) {
            let older = Head { size: from as u64, root: root(&leaves[..from]) };
            let proof = consistency(log, older.size, head.size).expect("read");
            assert_eq!(proof, subproof(from, &leaves[..size], true), "{from} to {size}");
            assert!(extends(&older, &head, &proof), "{from} to {size}");
        }
    }
    assert_eq!(head_at(log, 0).expect("read"), Some(Head { size: 0, root: root(&[]) }));
    assert_eq!(head_at(log, SIZE as u64 + 1).expect("read"), None);
    assert_eq!(head_at(log, u64::MAX).expect("read"), None);
}

#[test]
fn what_opening_finds_is_what_was_written() {
    let sample = sample("reopened", SIZE);
    let written = sample.log();
    let disk = Directory::open(&sample.path).expect("the directory");
    let replay = replay(&disk, GEOMETRY, &mut |_, _| {}).expect("read");
    let disk: &dyn Disk = &disk;
    let read = FileLog::new(disk, GEOMETRY, replay.blocks.clone());
    let both: [&dyn Log; 2] = [&read, written.as_ref()];
    assert_eq!(read.head(), written.head());
    for (from, size) in [(1, 700), (256, 512), (257, 699), (300, 300), (513, 700)] {
        let [read, written] = both.map(|log| consistency(log, from, size).expect("read"));
        assert_eq!(read, written, "{from} to {size}");
        let [read, written] = both.map(|log| inclusion(log, from - 1, size).expect("read"));
        assert_eq!(read, written, "{from} of {size}");
    }
    // A batch was written after this one only once it was synced; the last may not be.
    let synced = replay.synced();
    assert!(synced.size < SIZE as u64 || read.head() == synced);
    assert_eq!(head_at(&read, synced.size).expect("read"), Some(synced));
}

#[test]
fn a_record_is_found_by_where_it_stands() {
    let sample = sample("found", 600);
    let log = sample.log();
    let segment = GEOMETRY.segment_bytes as usize;
    let mut files: Vec<_> = (1..)
        .map_while(|number| {
            std::fs::read(sample.path.join(openexec::store::segment::name(number))).ok()
        })
        .collect();
    assert!(files.len() > 5, "several segments");
    let bytes: Vec<u8> = files.drain(..).flatten().collect();
    assert_eq!(bytes.len() % segment, 0);
    let mut position = 0;
    let mut index = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).expect("UTF-8");
        match Line::read(text) {
            Some(Line::Record(_)) => {
                let found = log.find(position).expect("found");
                assert_eq!((found.0, found.1.as_str()), (index, text));
                index += 1;
            }
            // Nothing else is a record, nor is the middle of one.
            Some(_) => assert!(log.find(position).is_err(), "{text}"),
            None => {}
        }
        if !line.is_empty() && index < 600 {
            assert!(log.find(position + 1).is_err(), "within {text}");
        }
        position += line.len() as u64 + 1;
    }
    assert_eq!(index, 600);
}

#[test]
fn a_store_stands_to_a_head_as_it_extends_it_or_not() {
    let sample = sample("relation", 300);
    let log = sample.log();
    let to = |head: Head| relation(log.as_ref(), &head).expect("read");
    let at = |size: usize| Head { size: size as u64, root: root(&sample.leaves[..size]) };
    for size in [1, 2, 255, 256, 257, 299, 300] {
        assert_eq!(to(at(size)), Relation::Extends, "{size}");
        assert_eq!(to(Head { root: [9; 32], ..at(size) }), Relation::Differs, "{size}");
    }
    assert_eq!(to(Head { size: 299, ..at(300) }), Relation::Differs);
    assert_eq!(to(Head { size: 301, ..at(300) }), Relation::Lacks(1));
    assert_eq!(to(Head { size: u64::MAX, ..at(300) }), Relation::Lacks(u64::MAX - 300));
}

/// A record altered on the disk below an open store: memory remembers the blocks, the proof is made
/// of what is there, and does not verify.
#[test]
fn a_record_altered_below_us_proves_nothing() {
    let sample = sample("altered", 600);
    let log = sample.log();
    let head = log.head();
    let first = sample.path.join("00000001.jsonl");
    let mut bytes = std::fs::read(&first).expect("read");
    let at = bytes.windows(3).position(|three| three == b"\"5 ").expect("the fifth record") + 1;
    bytes[at] = b'6';
    std::fs::write(&first, bytes).expect("written");
    let altered = leaves(&sample.path);
    assert_ne!(altered[5], sample.leaves[5]);
    let proof = inclusion(log.as_ref(), 5, head.size).expect("read");
    assert!(!includes(&head, 5, &altered[5], &proof));
    // The record next to it has the altered one in its path.
    let proof = inclusion(log.as_ref(), 4, head.size).expect("read");
    assert!(!includes(&head, 4, &altered[4], &proof));
    assert_eq!(head_at(log.as_ref(), 300).expect("read").map(|h| h.size), Some(300));
    let older = Head { size: 100, root: root(&sample.leaves[..100]) };
    let why = relation(log.as_ref(), &older).expect_err("another record").to_string();
    assert_eq!(why, "its records and hashes are not those that its newest root was computed of");
    // Nor does an altered one that a checkpoint has, which is shown once the log was read: what was read is another log.
    let shown = Head { size: 100, root: root(&altered[..100]) };
    assert!(relation(log.as_ref(), &shown).is_err());
}

/// Everything wrong with a proof: one hash changed, swapped, missing, extra, at either end; another
/// index, size, leaf or root.
fn damaged(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[[3; 32]]].concat(), [&[[3; 32]][..], proof].concat()];
    for n in 0..proof.len() {
        let mut changed = proof.to_vec();
        changed[n][n % 32] ^= 1;
        all.push(changed);
        let mut missing = proof.to_vec();
        let hash = missing.remove(n);
        all.push(missing);
        let mut twice = proof.to_vec();
        twice.insert(n, hash);
        all.push(twice);
        if n > 0 && proof[n] != proof[n - 1] {
            let mut swapped = proof.to_vec();
            swapped.swap(n, n - 1);
            all.push(swapped);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn only_the_right_path_includes(size in 1usize..500, pick: u32, other: u32) {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let index = pick as usize % size;
        let head = Head { size: size as u64, root: root(&leaves) };
        let proof = path(index, &leaves);
        prop_assert!(includes(&head, index as u64, &leaves[index], &proof));
        for bad in damaged(&proof) {
            prop_assert!(!includes(&head, index as u64, &leaves[index], &bad));
        }
        let other = other as usize % size;
        if other != index {
            prop_assert!(!includes(&head, other as u64, &leaves[index], &proof));
            prop_assert!(!includes(&head, index as u64, &leaves[other], &proof));
        }
        for index in [size as u64, size as u64 + index as u64, u64::MAX] {
            prop_assert!(!includes(&head, index, &leaves[pick as usize % size], &proof));
        }
        let other_root = Head { root: [1; 32], ..head };
        prop_assert!(!includes(&other_root, index as u64, &leaves[index], &proof));
        let empty = Head { size: 0, ..head };
        prop_assert!(!includes(&empty, index as u64, &leaves[index], &proof));
    }

    #[test]
    fn only_the_right_proof_extends(size in 1usize..500, pick: u32, other: u32) {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let from = pick as usize % size + 1;
        let newer = Head { size: size as u64, root: root(&leaves) };
        let older = Head { size: from as u64, root: root(&leaves[..from]) };
        let proof = subproof(from, &leaves, true);
        prop_assert!(extends(&older, &newer, &proof));
        for bad in damaged(&proof) {
            prop_assert!(!extends(&older, &newer, &bad));
        }
        let with_root = |head: &Head| Head { root: [1; 32], ..*head };
        prop_assert!(!extends(&with_root(&older), &newer, &proof));
        prop_assert!(!extends(&older, &with_root(&newer), &proof));
        for size in [0, newer.size + 1, u64::MAX] {
            let other = Head { size, ..older };
            prop_assert!(!extends(&other, &newer, &proof));
        }
        // A history in which one record of the older log is another.
        let mut rewritten = leaves.clone();
        rewritten[other as usize % from] = [2; 32];
        let forged = Head { size: newer.size, root: root(&rewritten) };
        let proof = subproof(from, &rewritten, true);
        prop_assert!(!extends(&older, &forged, &proof));
    }
}
