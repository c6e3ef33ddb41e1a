//! The approvals of a store are judged on all cores, and what an audit says does not depend on which of them was
//! quicker: it is the first finding in the order of the log.

mod common;

// Where the generator looks for it.
use common::signer;
#[path = "../benches/store/generate.rs"]
mod generate;
#[path = "../benches/store/unsynced.rs"]
mod unsynced;

use std::path::Path;

use common::Scratch;
use common::evidence::{forge, records};
use openexec::evidence::audit::audit;
use openexec::store::GEOMETRY;
use openexec::store::fault::OpenError;
use openexec::sys::disk::Directory;

const EXECUTIONS: u64 = 200;

/// The claim of an execution, after the `store` and the `policy` record.
const fn claim(execution: usize) -> usize {
    2 + 2 * execution
}

fn finding(store: &Path) -> Option<(u64, String)> {
    let disk = Directory::open(store).expect("a directory");
    match audit(&disk, GEOMETRY, None, None, &mut |_, _| {}) {
        Ok(_) => None,
        Err(OpenError::Corrupt { byte, reason, .. }) => Some((byte, reason)),
        Err(error) => panic!("{error}"),
    }
}

/// Where a record's line begins: the store is one segment.
fn byte_of(store: &Path, record: &str) -> u64 {
    let text = std::fs::read_to_string(store.join("00000001.jsonl")).expect("read");
    text.find(record).expect("it is there") as u64
}

/// Another signature, formed as one.
fn broken(line: &str) -> String {
    let at = line.find("\"signature\":\"").expect("a signature") + 13;
    let other = if line[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &line[..at], &line[at + 1..])
}

#[test]
fn the_first_finding_in_the_log_is_what_an_audit_says() {
    let scratch = Scratch::new();
    let store = scratch.join("store");
    let plan = generate::Plan { batch: 7, ..generate::Plan::of(EXECUTIONS, 1) };
    generate::generate(&store, GEOMETRY, plan);
    let genuine = records(&store);
    assert_eq!(finding(&store), None);
    forge(&store, &genuine);
    // Executions whose signature is broken, one whose receipt is, and the record that comes first.
    for (signatures, receipt, first) in [
        (vec![150, 40, 41, 199], None, claim(40)),
        (vec![199], None, claim(199)),
        (vec![0, 1, 2, 3], Some(4), claim(0)),
        (vec![150], Some(100), claim(100) + 1),
        (vec![100], Some(100), claim(100)),
        (vec![], Some(199), claim(199) + 1),
    ] {
        let mut lines = genuine.clone();
        for execution in &signatures {
            lines[claim(*execution)] = broken(&lines[claim(*execution)]);
        }
        if let Some(execution) = receipt {
            let line = &mut lines[claim(execution) + 1];
            *line = line.replace("ordinary", "changed");
        }
        forge(&store, &lines);
        let what = if first % 2 == 0 { "Invalid signature" } else { "not the hash" };
        for _ in 0..5 {
            let (byte, reason) = finding(&store).expect("a finding");
            assert_eq!(
                byte,
                byte_of(&store, &lines[first]),
                "{signatures:?} {receipt:?}: {reason}"
            );
            assert!(reason.contains(what), "{reason}");
        }
    }
}
