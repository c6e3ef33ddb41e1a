//! The workers of `examples/workers/postgres`: what they leave where a command misbehaves.

#![allow(clippy::disallowed_types, reason = "it starts workers")]

mod common;

use std::process::Command;

use common::{Answer, Cluster, Node, until};
use serde_json::Value;

fn job(nonce: &str, queue: &str) -> String {
    format!(
        "{{\"action\":\"enqueue\",\"nonce\":\"{nonce}\",\"payload\":{{\"queue\":\"{queue}\",\"job\":{{}}}}}}"
    )
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// What the log has of it, outcome and result.
fn completions(cluster: &Cluster, id: &str) -> Vec<(String, Value)> {
    let sql = format!(
        "SELECT line FROM openexec.rec WHERE line LIKE '%\"kind\":\"completion\"%' AND line LIKE '%{id}%' ORDER BY n"
    );
    let lines = cluster.sql("d", "postgres", &sql);
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let said =
        |line: Value| (line["outcome"].as_str().expect("text").to_owned(), line["result"].clone());
    lines.lines().map(read).map(said).collect()
}

/// Whatever a command prints, and whether it is there at all: a job that was taken is reported, and holds up no other.
#[test]
fn a_worker_reports_whatever_its_command_leaves() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workers/postgres");
    let run = |program: &str, script: &str, words: &[&str]| {
        let mut worker = Command::new(program);
        worker.arg(format!("{examples}/{script}")).args(words).env("PGHOST", &cluster.dir);
        worker.env("PGUSER", "work").env("PGDATABASE", "d").output().expect("run")
    };
    let completed = |id: &str| {
        until("it is recorded", || completions(&cluster, id).len() == 1);
        completions(&cluster, id).remove(0)
    };
    for (n, printed) in [
        "printf '\\377'",
        "printf '{\"a\":NaN}'",
        "printf '{\"a\":1e999}'",
        "printf '{\"a\":9007199254740993}'",
        "printf '{\"a\":\"\\\\ud800\"}'",
        "printf '{\"a\":\"'; head -c 300000 /dev/zero | tr '\\0' a; printf '\"}'",
        "head -c 200000 /dev/zero | tr '\\0' '['",
        "printf '{\"a\":%s1%s}' $(head -c 99 /dev/zero | tr '\\0' '[') $(head -c 99 /dev/zero | tr '\\0' ']')",
    ]
    .into_iter()
    .enumerate()
    {
        let queue = format!("p{n}");
        let id = id_of(&node.insist(&job(&queue, &queue)));
        let done = run("/usr/bin/python3", "worker.py", &[&queue, "sh", "-c", printed]);
        assert!(done.status.success(), "{printed}: {done:?}");
        let (outcome, result) = completed(&id);
        assert!(outcome == "executed" && result["printed"].is_string(), "{printed}: {result}");
    }
    // Nothing is taken where there is no command. A command that cannot be begun proves nothing: a worker
    // before this one may have had the job, and an operator released it.
    let id = id_of(&node.insist(&job("absent", "absent")));
    assert!(!run("/usr/bin/python3", "worker.py", &["absent", "/no/such"]).status.success());
    let bad = cluster.dir.join("bad");
    std::fs::write(&bad, "#!/no/such\n").expect("written");
    assert!(Command::new("chmod").arg("755").arg(&bad).status().expect("run").success());
    let bad = bad.to_str().expect("UTF-8");
    assert!(!run("/usr/bin/python3", "worker.py", &["absent", bad]).status.success());
    assert_eq!(completed(&id).0, "indeterminate");

    // The shell's worker: a result that is refused is set aside, and the others are reported.
    let ids: Vec<String> =
        (0..3).map(|n| id_of(&node.insist(&job(&format!("big{n}"), "big")))).collect();
    let spool = cluster.dir.join("spool");
    let once = cluster.dir.join("once");
    let command = format!(
        "if mkdir {} 2>/dev/null; then head -c 300000 /dev/zero | tr '\\0' a | jq -Rc '{{a: .}}'; else echo '{{\"a\":1}}'; fi >\"$RESULT\"",
        once.display()
    );
    let done = run("sh", "queue", &["big", spool.to_str().expect("UTF-8"), "sh", "-c", &command]);
    assert!(done.status.success(), "{done:?}");
    let results: Vec<Value> = ids.iter().map(|id| completed(id).1).collect();
    assert_eq!(results.iter().filter(|result| result["a"] == 1).count(), 2, "{results:?}");
    assert!(results.iter().any(|result| result["reason"].is_string()), "{results:?}");
    assert_eq!(std::fs::read_dir(spool.join("refused")).expect("listed").count(), 2);
}
