//! The workers of `examples/workers/postgres`: what they leave where a command misbehaves.

#![allow(clippy::disallowed_types, reason = "it starts workers")]

mod common;

use std::process::{Command, Output};

use common::jobs::{completions, id_of, job};
use common::{Cluster, Node, until};
use serde_json::Value;

/// Runs an example of this directory: its interpreter, itself and its words.
fn run(cluster: &Cluster, worker: &[&str], command: &[&str]) -> Output {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workers/postgres");
    let mut running = Command::new(worker[0]);
    running.current_dir(examples).args(&worker[1..]).args(command).env("PGHOST", &cluster.dir);
    running.env("PGUSER", "work").env("PGDATABASE", "d").output().expect("run")
}

/// The one thing that the log has of it, once it is there.
fn completed(cluster: &Cluster, id: &str) -> (String, Value) {
    until("it is recorded", || completions(cluster, id).len() == 1);
    completions(cluster, id).remove(0)
}

/// Whatever a command prints, and whether it is there at all: a job that was taken is reported, and holds up no other.
#[test]
fn a_worker_reports_whatever_its_command_leaves() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    for (n, printed) in [
        "printf '\\377'",
        "printf '{\"a\":NaN}'",
        "printf '{\"a\":1e999}'",
        "printf '{\"a\":9007199254740993}'",
        "printf '{\"a\":\"\\\\ud800\"}'",
        "printf '{\"a\":[{}'; head -c 8199 /dev/zero | sed 's/\\x0/,{}/g'; printf ']}'",
        "printf '{\"a\":[0'; head -c 37000 /dev/zero | sed 's/\\x0/,1e-6/g'; printf ']}'",
        "printf '{\"a\":\"'; head -c 300000 /dev/zero | tr '\\0' a; printf '\"}'",
        "head -c 200000 /dev/zero | tr '\\0' '['",
        "printf '{\"a\":%s1%s}' $(head -c 99 /dev/zero | tr '\\0' '[') $(head -c 99 /dev/zero | tr '\\0' ']')",
    ]
    .into_iter()
    .enumerate()
    {
        let queue = format!("p{n}");
        let id = id_of(&node.insist(&job(&queue, &queue)));
        let done = run(&cluster, &["/usr/bin/python3", "worker.py", &queue], &["sh", "-c", printed]);
        assert!(done.status.success(), "{printed}: {done:?}");
        let (outcome, result) = completed(&cluster, &id);
        assert!(outcome == "executed" && result["printed"].is_string(), "{printed}: {result}");
    }
    // Nothing is taken where there is no command.
    let id = id_of(&node.insist(&job("absent", "absent")));
    assert!(
        !run(&cluster, &["/usr/bin/python3", "worker.py", "absent"], &["/no/such"])
            .status
            .success()
    );
    let bad = cluster.dir.join("bad");
    std::fs::write(&bad, "#!/no/such\n").expect("written");
    assert!(Command::new("chmod").arg("755").arg(&bad).status().expect("run").success());
    let bad = bad.to_str().expect("UTF-8");
    assert!(!run(&cluster, &["/usr/bin/python3", "worker.py", "absent"], &[bad]).status.success());
    assert_eq!(completed(&cluster, &id).0, "failed");

    // A report that is refused for what it says, as of a job that was released meanwhile, is given up, and the next job taken.
    let id = id_of(&node.insist(&job("released", "released")));
    let once = cluster.dir.join("released");
    let release = format!(
        "mkdir {} 2>/dev/null && psql -qAtX -U op -c \"SELECT openexec.release('$(jq -r .id)')\" || echo '{{\"a\":1}}'",
        once.display()
    );
    let done =
        run(&cluster, &["/usr/bin/python3", "worker.py", "released"], &["sh", "-c", &release]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert_eq!(said.matches("the report was refused").count(), 2, "{said}");
    assert_eq!(completed(&cluster, &id), ("executed".to_owned(), serde_json::json!({"a": 1})));

    // The shell's worker: a result that is refused is set aside, and the others are reported.
    let ids: Vec<String> =
        (0..3).map(|n| id_of(&node.insist(&job(&format!("big{n}"), "big")))).collect();
    let spool = cluster.dir.join("spool");
    let once = cluster.dir.join("once");
    let command = format!(
        "if mkdir {} 2>/dev/null; then head -c 300000 /dev/zero | tr '\\0' a | jq -Rc '{{a: .}}'; else echo '{{\"a\":1}}'; fi >\"$RESULT\"",
        once.display()
    );
    let done = run(
        &cluster,
        &["sh", "queue", "big", spool.to_str().expect("UTF-8")],
        &["sh", "-c", &command],
    );
    assert!(done.status.success(), "{done:?}");
    let results: Vec<Value> = ids.iter().map(|id| completed(&cluster, id).1).collect();
    assert_eq!(results.iter().filter(|result| result["a"] == 1).count(), 2, "{results:?}");
    assert!(results.iter().any(|result| result["printed"].is_string()), "{results:?}");
    // What another program left there is set aside where it is refused, and its outcome is reported without it.
    let id = id_of(&node.insist(&job("left", "big")));
    assert_eq!(cluster.sql("d", "work", "SELECT id FROM openexec.take('big')"), id);
    let left =
        format!("{{\"outcome\":\"executed\",\"result\":{{\"a\":\"{}\"}}}}", "a".repeat(300_000));
    std::fs::write(spool.join(format!("outcome/{id}.json")), left).expect("written");
    let done = run(&cluster, &["sh", "queue", "big", spool.to_str().expect("UTF-8")], &["true"]);
    assert!(done.status.success(), "{done:?}");
    assert!(completed(&cluster, &id).1["reason"].is_string());
    assert_eq!(std::fs::read_dir(spool.join("refused")).expect("listed").count(), 2);
}

/// What a second try comes to says nothing of the first: a no to a job that an operator gave back is no `failed`.
#[test]
fn a_no_to_what_was_given_back_is_not_failed() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let spool = cluster.dir.join("spool");
    let spool = spool.to_str().expect("UTF-8");
    let trace = cluster.dir.join("trace");
    let words =
        format!("strace -f -qq -y -o {} -e trace=fsync sh queue given-sh {spool}", trace.display());
    let traced: Vec<&str> = words.split(' ').collect();
    for (name, worker) in [
        ("first", &["/usr/bin/python3", "worker.py", "first"][..]),
        ("given", &["/usr/bin/python3", "worker.py", "given"]),
        ("first-sh", &["sh", "queue", "first-sh", spool]),
        ("given-sh", &traced),
    ] {
        let id = id_of(&node.insist(&job(name, name)));
        let is_given_back = name.starts_with("given");
        if is_given_back {
            let taken =
                cluster.sql("d", "work", &format!("SELECT id FROM openexec.take('{name}')"));
            assert_eq!(taken, id);
            let released = cluster.sql("d", "op", &format!("SELECT openexec.release('{id}')"));
            assert_eq!(released, "released");
        }
        let done = run(&cluster, worker, &["sh", "-c", "exit 65"]);
        assert!(done.status.success(), "{name}: {done:?}");
        let outcome = if is_given_back { "indeterminate" } else { "failed" };
        assert_eq!(completed(&cluster, &id).0, outcome, "{name}");
        if name == "given-sh" {
            // Nor does a power cut make it a first try again.
            let synced = std::fs::read_to_string(&trace).expect("a trace");
            let mark = format!("/spool/done/{id}.failed>");
            assert!(synced.contains(&mark) && synced.contains("/spool/done>"), "{synced}");
        }
    }
}
