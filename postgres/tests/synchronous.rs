//! A standby that must have each commit before it is one: `pg_receivewal --synchronous` (PostgreSQL, its reference page).

#![allow(clippy::disallowed_types, reason = "it starts a standby of PostgreSQL's")]

mod common;

use std::process::{Child, Command, Stdio};

use common::{Cluster, Node, until};

/// A commit of a node that waits for its standby.
const APPENDS: &str = "wait_event = 'SyncRep' AND query LIKE '%openexec.append%'";
/// The server then says that it is done, with a warning; and everybody sees it.
const CANCEL: &str =
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn echo(nonce: &str) -> String {
    format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{}}}}")
}

struct Standby(Child);

impl Standby {
    fn start(cluster: &Cluster) -> Self {
        let mut find = Command::new("sh");
        find.args([
            "-c",
            "find /usr/lib/postgresql -path '*/bin/pg_receivewal' | sort -V | tail -n 1",
        ]);
        let bin = find.output().expect("run").stdout;
        let bin = String::from_utf8(bin).expect("UTF-8");
        let to = cluster.dir.join("received");
        let _ = std::fs::create_dir(&to);
        let mut receive = Command::new(bin.trim_end());
        receive.args(["--synchronous", "--no-loop", "-D"]).arg(&to).stderr(Stdio::null());
        receive
            .arg("-d")
            .arg(format!("host={} user=postgres application_name=s1", cluster.dir.display()));
        let child = receive.spawn().expect("started");
        until("it follows", || {
            cluster.sql("d", "postgres", "SELECT sync_state FROM pg_stat_replication") == "sync"
        });
        Standby(child)
    }
}

fn followed() -> (Cluster, Standby) {
    let cluster = Cluster::new();
    cluster.set_standbys("s1");
    let standby = Standby::start(&cluster);
    (cluster, standby)
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_no_standby_has_was_not_executed_yet_whoever_says_so() {
    let (cluster, mut standby) = followed();
    let node = Node::start_ready(&cluster, "a", &[("OPENEXEC_ACCEPT_LOST_COMMITS", "")]);
    node.insist(&echo("before"));
    for (n, is_cancelled) in [true, false].into_iter().enumerate() {
        let nonce = format!("held-{n}-");
        drop(standby);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| node.execute(&echo(&nonce)));
            cluster.until_sessions("it waits for its standby", 1, APPENDS);
            if is_cancelled {
                cluster.sql("d", "postgres", CANCEL);
            }
            let answer = asked.join().expect("asked").expect("an answer");
            assert_eq!((answer.status, answer.code().as_str()), (503, "outcome_unknown"));
        });
        let ready = || node.try_get("/ready").map(|answer| answer.status);
        until("it is not ready", || ready() == Some(503));
        assert_eq!(node.execute(&echo("other")).map(|answer| answer.status), Some(503));
        standby = Standby::start(&cluster);
        let known = node.insist(&echo(&nonce));
        assert!(known.header("idempotent-replayed").is_some(), "it was there: {}", node.log());
        assert_eq!(cluster.count("claim", &nonce), 1);
        until("it is ready again", || ready() == Some(200));
    }

    // Nobody has to be waited for any more: nothing is taken, and nothing was spent.
    cluster.set_standbys("");
    until("it is not ready", || node.try_get("/ready").map(|answer| answer.status) == Some(503));
    let answer = node.execute(&echo("asynchronous")).expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(cluster.count("claim", "asynchronous"), 0);
    cluster.set_standbys("s1");
    node.insist(&echo("asynchronous"));
    assert_eq!(cluster.count("claim", "asynchronous"), 1);
}

/// Settings that would hide the warning, or not wait at all, wherever they stand.
#[test]
fn no_setting_makes_an_execution_of_what_no_standby_has() {
    let (cluster, mut standby) = followed();
    for place in ["ALTER ROLE serve", "ALTER DATABASE d", "ALTER SYSTEM"] {
        let set = |change: &str| {
            for setting in ["client_min_messages = error", "synchronous_commit = local"] {
                let setting = setting.split(if change == "RESET" { ' ' } else { '\0' }).next();
                let sql = format!("{place} {change} {}", setting.expect("a name"));
                // Of the superuser who says so no commit may wait.
                cluster.sql("postgres", "postgres", &sql);
            }
            cluster.sql("d", "postgres", "SELECT pg_reload_conf()");
        };
        set("SET");
        let node = Node::start_ready(&cluster, "a", &[("OPENEXEC_ACCEPT_LOST_COMMITS", "")]);
        node.insist(&echo(&format!("before {place}")));
        drop(standby);
        let nonce = format!("held {place}");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| node.execute(&echo(&nonce)));
            cluster.until_sessions("it waits for its standby", 1, APPENDS);
            cluster.sql("d", "postgres", CANCEL);
            let answer = asked.join().expect("asked").expect("an answer");
            assert_eq!((answer.status, answer.code().as_str()), (503, "outcome_unknown"));
        });
        standby = Standby::start(&cluster);
        let known = node.insist(&echo(&nonce));
        assert!(known.header("idempotent-replayed").is_some(), "it was there: {}", node.log());
        assert_eq!(cluster.count("claim", &nonce), 1);
        drop(node);
        set("RESET");
    }
}

/// The commit of a worker's `take` stands, and the server warns that its standby has not got it: the command is not run.
#[test]
fn a_worker_does_nothing_about_a_job_that_a_failover_may_give_to_another() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workers/postgres");
    // What would hide the warning and not wait.
    let hides = "-c client_min_messages=error -c synchronous_commit=off";
    for (is_python, queue, options) in
        [(true, "p", ""), (false, "s", ""), (true, "p", hides), (false, "s", hides)]
    {
        let cluster = Cluster::new();
        let node = Node::start_ready(&cluster, "a", &[]);
        node.insist(&common::jobs::job("n", queue));
        drop(node);
        cluster.set_standbys("s1");
        let done = cluster.dir.join("done");
        let mut worker = if is_python {
            let mut worker = Command::new("/usr/bin/python3");
            worker.arg(format!("{examples}/worker.py")).arg(queue);
            worker
        } else {
            let mut worker = Command::new("sh");
            worker.arg(format!("{examples}/queue")).arg(queue).arg(cluster.dir.join("spool"));
            worker
        };
        worker.args(["sh", "-c", &format!("touch {}", done.display())]).stderr(Stdio::null());
        worker.env("PGHOST", &cluster.dir).env("PGUSER", "work").env("PGDATABASE", "d");
        worker.env("PGOPTIONS", options);
        let mut worker = worker.stdin(Stdio::null()).spawn().expect("started");
        let waits = "wait_event = 'SyncRep' AND usename = 'work'";
        cluster.until_sessions("it waits for its standby", 1, waits);
        cluster.sql("d", "postgres", CANCEL);
        assert!(!worker.wait().expect("ended").success());
        assert!(!done.exists(), "it was begun");
        let taken = "SELECT count(*) FROM openexec.job WHERE taken_at IS NOT NULL";
        assert_eq!(cluster.sql("d", "postgres", taken), "1", "and everybody sees it as taken");
    }
}
