//! What an operator asks the active node for, where that is stopped, killed, overtaken or not there, or the database does not
//! answer: what the command says of it is so.

#![allow(clippy::disallowed_types, reason = "it starts the program")]

mod common;

use common::operator::{CLAWSHIELD, Ended, clawshield, op, propose, withdraws};
use common::{Node, until};
use openexec::core::limits::{PROPOSALS_PENDING, REQUEST_BYTES_MAX};

/// As many as there may be are one request, and one batch: all of them end, or none does.
#[test]
fn all_that_may_be_pending_is_withdrawn_at_once() {
    let (cluster, node) = clawshield();
    let ids: Vec<String> =
        (0..PROPOSALS_PENDING).map(|n| propose(&node, &format!("n{n}"))).collect();
    let batches = || {
        cluster.sql("d", "postgres", "SELECT count(DISTINCT batch) FROM openexec.batch b \
        JOIN openexec.rec ON rec.n < b.size AND rec.n >= coalesce((SELECT max(size) FROM openexec.batch WHERE size < b.size), 0) \
        WHERE line LIKE '%\"kind\":\"closed\"%'")
    };
    // The node is stopped while it is asked: nothing of it is done, then or later.
    node.signal("-STOP");
    let done = op(&cluster, &["withdraw", "--all", "--yes"]);
    assert_eq!(done.code, 75, "{}", done.err);
    node.signal("-CONT");
    until("it serves again", || node.is_ready());
    propose(&node, "n0");
    assert_eq!(cluster.count("closed", "withdrawn"), 0);
    // A node that is busy for longer than a command waits has done nothing.
    until("it is done", || {
        let done = op(&cluster, &["withdraw", "--all", "--yes"]);
        let ended = cluster.count("closed", "withdrawn");
        let all = if done.code == 0 { ids.len() } else { 0 };
        assert!(matches!(done.code, 0 | 75), "{}", done.err);
        assert_eq!((ended, done.out.lines().count()), (all, all), "{}", done.err);
        done.code == 0
    });
    assert_eq!(batches(), "1");
}

/// What was said not to have been done is not done later, whatever the node had on its way of it.
#[test]
fn a_request_that_was_taken_back_does_nothing_any_more() {
    let (cluster, node) = clawshield();
    // The node is stopped while it is asked, and goes on afterwards.
    let id = propose(&node, "stopped");
    node.signal("-STOP");
    let done = op(&cluster, &["withdraw", &id, "--yes"]);
    assert_eq!(done.code, 75, "{}", done.err);
    node.signal("-CONT");
    until("it serves again", || node.is_ready());
    propose(&node, "later");
    assert_eq!(cluster.count("closed", &id), 0, "it was done after all");

    // And at any moment: when that returns it is there, or never will be.
    for n in 0..20 {
        let id = propose(&node, &format!("race{n}"));
        let line = withdraws(&id);
        let wait = format!("pg_sleep({})", f64::from(n % 10) / 200.0);
        let sql = format!(
            "SELECT openexec.request('{line}') AS at \\gset\nSELECT 1 FROM {wait};\nSELECT openexec.take_back(:at);"
        );
        let script = cluster.dir.join("race.sql");
        std::fs::write(&script, sql).expect("written");
        let mut psql = std::process::Command::new("psql");
        psql.args(["-qAtX", "-U", "op", "-h"]).arg(&cluster.dir).args(["-f"]).arg(&script).arg("d");
        let back = Ended::from(psql.output().expect("run"));
        let ended = cluster.count("closed", &id);
        match back.out.lines().last() {
            Some("f") => assert_eq!(ended, 1, "{}", back.err),
            Some("t") => {
                // A turn later.
                until("another is recorded", || {
                    node.echo(&format!("turn{n}")).is_some_and(|a| a.status == 403)
                });
                assert_eq!(cluster.count("closed", &id), ended);
            }
            _ => panic!("{} {}", back.out, back.err),
        }
    }
}

#[test]
fn a_request_has_an_end_and_another_takes_its_place() {
    let (cluster, node) = clawshield();
    let [old, new] = ["old", "new"].map(|nonce| propose(&node, nonce));
    let left = |text: &str, at: &str| {
        let sql = format!(
            "INSERT INTO openexec.note VALUES ('REQUEST', '{text}', clock_timestamp() - interval '{at}')"
        );
        cluster.sql("d", "postgres", &sql)
    };
    // Of an operator's command that was killed: a node does it within the minute, and none does it later.
    left(&withdraws(&old), "61 seconds");
    // A node looks at each turn.
    for n in 0..5 {
        propose(&node, &format!("turn{n}"));
    }
    let done = op(&cluster, &["withdraw", &new, "--yes"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!((cluster.count("closed", &old), cluster.count("closed", &new)), (0, 1));
    left(&withdraws(&old), "1 second");
    until("it is done", || cluster.count("closed", &old) == 1);
    let is_gone = || cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.note") == "0";
    until("it is taken away", is_gone);

    // What is no request does nothing, and stands in nobody's way.
    let next = propose(&node, "next");
    let requested = |bytes| format!("SELECT openexec.request(repeat('x', {bytes}))");
    let of = |text| format!("SELECT openexec.request('{text}')");
    let no_requests = ["", "no record", "{\"kind\":\"claim\"}"].map(of);
    for sql in no_requests.into_iter().chain([requested(REQUEST_BYTES_MAX)]) {
        cluster.sql("d", "op", &sql);
        until("it is taken away", is_gone);
    }
    let large = cluster.try_sql("d", "op", &requested(REQUEST_BYTES_MAX + 1));
    assert!(String::from_utf8_lossy(&large.stderr).contains("at most 256,000 bytes"), "{large:?}");
    assert!(!cluster.try_sql("d", "op", "SELECT openexec.request(NULL)").status.success());
    assert!(is_gone());
    assert_eq!(op(&cluster, &["withdraw", &next, "--yes"]).code, 0);

    // Nobody is there to take it: another operator's is not replaced, and is named.
    drop(node);
    until("no node is active", || {
        cluster.sql(
            "d",
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'serve'",
        ) == "0"
    });
    let asked = [
        cluster.sql("d", "op", "SELECT openexec.request('x')"),
        cluster.sql("d", "op", "SELECT openexec.request('x')"),
    ];
    assert_eq!(asked[0], asked[1], "the same text is the same request");
    assert_eq!(cluster.sql("d", "op", "SELECT openexec.request('y') IS NULL"), "t");
    // The veto is what an append that has seen the request is refused by; only what was there raises it.
    let veto = || -> i64 {
        let veto = cluster.sql("d", "postgres", "SELECT veto FROM openexec.node");
        veto.parse().expect("a number")
    };
    let before = veto();
    for (is_there, raised) in [("t", 1), ("f", 1)] {
        let back = cluster.sql("d", "op", &format!("SELECT openexec.take_back({})", asked[0]));
        assert_eq!((back.as_str(), veto() - before), (is_there, raised));
    }
    left("old", "61 seconds");
    assert_ne!(cluster.sql("d", "op", "SELECT openexec.request('new')"), "");
    assert_eq!(veto() - before, 2, "what took the old one's place");
}

/// The active node is killed while it is asked, and another takes over: what is said of the request is so.
#[test]
fn while_nodes_change_what_is_said_of_a_request_is_so() {
    let (cluster, mut node) = clawshield();
    for n in 0..2 {
        let id = propose(&node, &format!("n{n}"));
        let next = Node::start(&cluster, &format!("b{n}"), &CLAWSHIELD);
        let done = std::thread::scope(|scope| {
            let asked = scope.spawn(|| op(&cluster, &["withdraw", &id, "--yes"]));
            node.kill();
            asked.join().expect("ended")
        });
        until("another has taken over", || next.is_ready());
        propose(&next, &format!("after{n}"));
        let is_there = cluster.count("closed", &id) == 1;
        assert_eq!(done.code == 0, is_there, "{}: {}", done.code, done.err);
        assert!(matches!(done.code, 0 | 75), "{}", done.err);
        node = next;
    }
}

/// While no standby has what is committed, nobody knows whether a request is there, and nothing else is said.
#[test]
fn where_the_database_does_not_answer_a_request_is_not_said_to_be_gone() {
    let (cluster, node) = clawshield();
    let id = propose(&node, "n");
    cluster.set_standbys("s1");
    let done = op(&cluster, &["withdraw", &id, "--yes"]);
    assert_eq!(done.code, 74, "{}", done.err);
    assert!(done.err.contains("may still be done within a minute"), "{}", done.err);
    cluster.set_standbys("");
    until("it serves again", || node.is_ready());
    let done = op(&cluster, &["withdraw", &id, "--yes"]);
    assert!(matches!(done.code, 0 | 65), "{}", done.err);
    assert_eq!(cluster.count("closed", &id), 1);
}
