//! The log as a store in files: the same records under the same root, read by what reads files.

#![allow(clippy::disallowed_types, reason = "it starts Python's reader")]

mod common;

use std::process::{Command, Stdio};

use common::{Cluster, Node};
use openexec::core::hash::hex;
use openexec::serve::opening::replay;
use openexec::store::GEOMETRY;
use openexec::sys::disk::Directory;

#[test]
fn a_backup_of_a_live_log_is_a_store_with_the_same_root() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    // Enough that segments change: 40 payloads of 600 KB.
    let long = "x".repeat(600_000);
    for n in 0..40 {
        node.insist(&format!(
            "{{\"action\":\"echo\",\"nonce\":\"n{n}\",\"payload\":{{\"of\":\"{long}\"}}}}"
        ));
    }
    node.insist("{\"action\":\"echo\",\"nonce\":\"small\",\"payload\":{}}");
    let to = cluster.dir.join("copy");
    let copy = || {
        let done = cluster.command("serve", &["backup", to.to_str().expect("UTF-8")]).output();
        done.expect("run")
    };
    let done = copy();
    assert!(done.status.success(), "{done:?}");
    let [size, root]: [String; 2] = ["size", "encode(root, 'hex')"].map(|column| {
        let sql = format!("SELECT {column} FROM openexec.batch ORDER BY size DESC LIMIT 1");
        cluster.sql("d", "postgres", &sql)
    });
    let said = String::from_utf8(done.stdout).expect("UTF-8");
    assert_eq!(said, format!("written: {size} records, root {root}\n"));
    let directory = Directory::open(&to).expect("opened");
    let read = replay(&directory, GEOMETRY, &mut |_, _| {}).expect("a store");
    assert_eq!(
        (read.tree.size().to_string(), hex(&read.tree.root())),
        (size.clone(), root.clone())
    );
    assert_eq!(read.state.executions, 41);
    let lines = cluster.sql("d", "postgres", "SELECT line FROM openexec.rec ORDER BY n");
    assert_eq!(lines.lines().count().to_string(), size);
    // Another reader of the format.
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/read_store.py");
    let read = Command::new("python3").arg(reader).arg(&to).stderr(Stdio::piped()).output();
    let read = read.expect("run");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    // What is there is not written over.
    assert_eq!(copy().status.code(), Some(78));
}
