//! A store of many segments is imported in as little memory as a short one, and wherever that is cut short it is begun again.

#![allow(clippy::disallowed_types, reason = "it starts the program")]

mod common;
#[allow(dead_code, reason = "the benchmark fills with it, too")]
#[path = "../benches/database/long.rs"]
mod long;
#[path = "../../benches/store/unsynced.rs"]
mod unsynced;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::Cluster;
use openexec::core::hash::hex;
use openexec::serve::opening::replay;
use openexec::store::GEOMETRY;
use openexec::sys::disk::Directory;

const LOOK_AGAIN: Duration = Duration::from_millis(10);
const EXECUTIONS: u64 = 100_000;
/// More than are read at once: some 70 MiB.
const SEGMENTS_LEAST: u64 = 5;
/// A few segments are in memory at a time, taken apart: 90 MiB, also for three times as many. With all of the store in it, too, 150.
const KIB_MAX: u64 = 128 << 10;

fn import(cluster: &Cluster, files: &Path) -> Command {
    let words = ["import", files.to_str().expect("UTF-8")];
    let roles = "--serve-role serve --operator-role op";
    let words: Vec<&str> = words.into_iter().chain(roles.split(' ')).collect();
    let mut command = cluster.command("owner", &words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The most that it has held so far; `None` once it has ended.
fn peak_kib(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Of what it does with a part of the store, and with all of it.
#[test]
fn a_long_store_takes_no_more_memory_and_is_begun_again_where_it_was_killed() {
    let cluster = Cluster::empty();
    let files = cluster.dir.join("files");
    long::generate(&files, EXECUTIONS);
    let directory = Directory::open(&files).expect("opened");
    let head = replay(&directory, GEOMETRY, &mut |_, _| {}).expect("a whole store").tree.head();
    drop(directory);
    let lengths = fs::read_dir(&files).expect("listed").flatten();
    let lengths = lengths.map(|entry| entry.metadata().expect("read").len());
    let segments = lengths.filter(|length| *length == GEOMETRY.segment_bytes).count() as u64;
    assert!(segments >= SEGMENTS_LEAST, "{segments}");

    // Killed with a part of it in the database, whose files grow before anything is committed.
    let grown = || -> u64 {
        let size = cluster.sql("postgres", "postgres", "SELECT pg_database_size('d')");
        size.parse().expect("a number")
    };
    let before = grown();
    let mut child = import(&cluster, &files).spawn().expect("started");
    while grown() < before + segments * GEOMETRY.segment_bytes / 4 {
        assert!(child.try_wait().expect("waited").is_none(), "it has ended already");
        sleep(LOOK_AGAIN);
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    cluster.until_sessions("its session is over", 0, "usename = 'owner'");
    let is_there = "SELECT to_regnamespace('openexec') IS NOT NULL";
    assert_eq!(cluster.sql("d", "postgres", is_there), "f");
    assert!(!files.join("FROZEN").exists(), "a service of the store goes on");

    let (mut child, mut peak) = (import(&cluster, &files).spawn().expect("started"), 0);
    while child.try_wait().expect("waited").is_none() {
        peak = peak_kib(&child).unwrap_or(peak);
        sleep(LOOK_AGAIN);
    }
    let done = child.wait_with_output().expect("ended");
    assert!(done.status.success(), "{done:?}");
    assert!(0 < peak && peak < KIB_MAX, "{peak} KiB");
    let root = hex(&head.root);
    let said = String::from_utf8(done.stdout).expect("UTF-8");
    assert_eq!(said, format!("imported: {} records, root {root}\n", head.size));
    let newest = "SELECT size, encode(root, 'hex') FROM openexec.batch ORDER BY size DESC LIMIT 1";
    assert_eq!(cluster.sql("d", "postgres", newest), format!("{}|{root}", head.size));
    let batches = cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.batch");
    assert!(batches.parse::<u64>().expect("a number") > EXECUTIONS / 2048, "{batches}");
    let again = import(&cluster, &files).output().expect("run");
    assert_eq!(again.status.code(), Some(78), "{again:?}");
}
