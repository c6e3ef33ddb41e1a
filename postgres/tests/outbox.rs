//! Jobs leave with their records, are handed out once, and what workers say of them is judged.

#![allow(clippy::disallowed_types, reason = "it starts workers")]

mod common;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use common::jobs::{completions, id_of, job};
use common::proxy::{Proxy, Then};
use common::{Cluster, Node, until};
use openexec::core::hash::{hex, sha256};
use serde_json::Value;

/// Id and text, as a worker gets them.
fn take(cluster: &Cluster, queue: &str) -> Option<(String, String)> {
    let row = cluster.sql("d", "work", &format!("SELECT id, job FROM openexec.take('{queue}')"));
    row.split_once('|').map(|(id, job)| (id.to_owned(), job.to_owned()))
}

fn try_complete(cluster: &Cluster, queue: &str, id: &str, outcome: &str, result: &str) -> bool {
    let sql = format!(
        "SELECT openexec.complete('{queue}', '{id}', '{outcome}', $result${result}$result$)"
    );
    cluster.try_sql("d", "work", &sql).status.success()
}

fn operator(cluster: &Cluster, words: &[&str]) -> (i32, String) {
    let done = cluster.command("op", words).output().expect("run");
    let text = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap_or(-1), String::from_utf8(text).expect("UTF-8"))
}

fn waiting_reports(cluster: &Cluster) -> String {
    cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.report WHERE ignored IS NULL")
}

/// How many rows there are of jobs and of reports.
fn rows(cluster: &Cluster) -> (usize, usize) {
    let sql = "SELECT (SELECT count(*) FROM openexec.job), (SELECT count(*) FROM openexec.report)";
    let counted = cluster.sql("d", "postgres", sql);
    let (jobs, reports) = counted.split_once('|').expect("two");
    (jobs.parse().expect("a number"), reports.parse().expect("a number"))
}

#[test]
fn a_job_leaves_with_its_receipt_and_is_handed_out_once() {
    let cluster = Cluster::new();
    let actions = cluster.dir.join("actions.json");
    let declared = "{\"actions\":[{\"action\":\"restart\",\"summary\":\"Restarts.\",\"payload_schema\":{\"type\":\"object\",\
        \"properties\":{\"host\":{\"type\":\"string\",\"maxLength\":20}},\"additionalProperties\":false}}]}";
    std::fs::write(&actions, declared).expect("written");
    let actions = actions.to_str().expect("UTF-8");
    let node = Node::start_ready(
        &cluster,
        "a",
        &[
            ("OPENEXEC_ACTIONS_FILE", actions),
            ("OPENEXEC_ALLOWED_ACTIONS", "enqueue,send_email,restart"),
        ],
    );
    let asked = [
        ("reports", job("n1", "reports")),
        ("send_email", "{\"action\":\"send_email\",\"nonce\":\"n2\",\"payload\":{\"to\":[\"a@example.org\"],\"subject\":\"s\",\"text\":\"ü\"}}".to_owned()),
        ("restart", "{\"action\":\"restart\",\"nonce\":\"n3\",\"payload\":{\"host\":\"h1\"}}".to_owned()),
    ];
    for (queue, body) in &asked {
        let answer = node.insist(body);
        let again = node.insist(body);
        assert_eq!(answer.json(), again.json());
        let id = id_of(&answer);
        for wrong in ["other", "", "Reports", &format!("{queue} ")] {
            assert_eq!(take(&cluster, wrong), None, "{wrong}");
        }
        let (taken, text) = take(&cluster, queue).expect("a job");
        assert_eq!(take(&cluster, queue), None, "handed out once");
        assert_eq!(taken, id);
        let queued = &answer.json()["result"]["queued"];
        assert_eq!(queued["job"], format!("{queue}/{id}.json"));
        assert_eq!(queued["sha256"], hex(&sha256(&[text.as_bytes()])));
        let (job, body): (Value, Value) =
            (serde_json::from_str(&text).expect("JSON"), serde_json::from_str(body).expect("JSON"));
        for field in ["action", "nonce", "payload"] {
            assert_eq!(job[field], body[field], "{field}");
        }
        assert_eq!((&job["id"], &job["approval_ids"]), (&Value::from(id), &serde_json::json!([])));
    }
    // What is refused leaves nothing: the queue of an action, and a payload that its schema has not.
    for refused in [job("n4", "restart"), asked[2].1.replace("host", "path").replace("n3", "n5")] {
        assert_eq!(node.execute(&refused).map(|answer| answer.status), Some(422), "{refused}");
    }
    assert_eq!(cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.job"), "3");
    // To whoever proposes, a job is no harmless call.
    let tools = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}";
    let tools = common::try_exchange(&node.address, &common::post("/mcp", tools.as_bytes()))
        .expect("an answer");
    for tool in tools.json()["result"]["tools"].as_array().expect("tools") {
        if tool["name"] != "openexec_proposal" {
            assert_eq!(tool["annotations"]["readOnlyHint"], false, "{tool}");
        }
    }
    // The records are those that an audit of files takes.
    let copy = cluster.dir.join("copy");
    let done =
        cluster.command("serve", &["backup", copy.to_str().expect("UTF-8")]).status().expect("run");
    assert!(done.success());
    let refused = cluster
        .command("serve", &["check"])
        .env("OPENEXEC_OUTBOX_DIR", "/tmp")
        .output()
        .expect("run");
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
}

#[test]
fn workers_that_race_have_each_job_once() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let mut ids = BTreeSet::new();
    for n in 0..120 {
        ids.insert(id_of(&node.insist(&job(&format!("n{n}"), "q"))));
    }
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // In one session, a statement after the other.
                let text = "SELECT id FROM openexec.take('q');\n".repeat(60);
                let text = cluster.session("work").end(&text);
                taken.lock().unwrap().extend(text.lines().map(str::to_owned));
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    assert_eq!(taken.len(), ids.len(), "each once");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[test]
fn a_report_is_judged_and_a_hostile_one_changes_nothing() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let id = id_of(&node.insist(&job("first", "q")));
    let waits = id_of(&node.insist(&job("second", "q")));
    assert_eq!(take(&cluster, "q").map(|(id, _)| id).as_ref(), Some(&id));
    for (queue, id, outcome, result) in [
        ("other", id.as_str(), "executed", "{}"),
        ("q", waits.as_str(), "executed", "{}"),
        ("q", &"0".repeat(64), "executed", "{}"),
        ("q", "", "executed", "{}"),
        ("q", &id.to_uppercase(), "executed", "{}"),
        ("q", &id, "done", "{}"),
        ("q", &id, "", "{}"),
        ("q", &id, "EXECUTED", "{}"),
        ("q", &id, "executed", ""),
        ("q", &id, "executed", "[]"),
        ("q", &id, "executed", "\"{}\""),
        ("q", &id, "executed", "{"),
        ("q", &id, "executed", "{},\"outcome\":\"failed\""),
    ] {
        assert!(!try_complete(&cluster, queue, id, outcome, result), "{queue} {id} {outcome}");
    }
    for (letters, is_taken) in [(256 * 1024 - 7, false), (256 * 1024 - 8, true)] {
        let result = format!("'{{\"a\":\"' || repeat('x', {letters}) || '\"}}'");
        let sql = format!("SELECT openexec.complete('q', '{id}', 'indeterminate', {result})");
        assert_eq!(cluster.try_sql("d", "work", &sql).status.success(), is_taken, "{letters}");
    }
    until("the longest is recorded", || completions(&cluster, &id).len() == 1);
    until("it is judged", || waiting_reports(&cluster) == "0");
    // What is JSON to the database and none to this service. Each takes the place of one that was ignored.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for hostile in ["{\"a\":1,\"a\":2}", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", &deep] {
        assert!(try_complete(&cluster, "q", &id, "executed", hostile), "{hostile}");
        until("it is judged", || waiting_reports(&cluster) == "0");
        let why = cluster.sql("d", "postgres", "SELECT ignored FROM openexec.report");
        assert_eq!(why, "it is no strict JSON of up to 131,072 values", "{hostile}");
    }
    assert_eq!(completions(&cluster, &id).len(), 1);
    assert!(operator(&cluster, &["jobs"]).1.contains("its report was ignored"));

    // Nobody knew; then somebody does; then it stands.
    let known = |outcome: &str, result: &str| {
        assert!(try_complete(&cluster, "q", &id, outcome, result));
        until("it is judged", || waiting_reports(&cluster) == "0");
        completions(&cluster, &id)
    };
    let said = |outcome: &str, result: Value| (outcome.to_owned(), result);
    let first = completions(&cluster, &id).remove(0);
    assert_eq!(first.0, "indeterminate");
    let second = said("executed", serde_json::json!({"charge": "ch_1"}));
    assert_eq!(known("executed", "{\"charge\": \"ch_1\"}"), [first.clone(), second.clone()]);
    for (outcome, result) in [
        ("executed", "{\"charge\":\"ch_1\"}"),
        ("failed", "{}"),
        ("executed", "{}"),
        ("indeterminate", "{}"),
    ] {
        assert_eq!(known(outcome, result), [first.clone(), second.clone()], "{outcome} {result}");
    }
    // The log has all of it: the row went with the last word, and what was said after it was answered and left nothing.
    assert_eq!(rows(&cluster), (1, 0));
    for (queue, id) in [("other", id.as_str()), ("q", &id.to_uppercase()), ("q", &id[1..])] {
        let is_taken = try_complete(&cluster, queue, id, "executed", "{\"charge\":\"ch_1\"}");
        assert_eq!(is_taken, queue == "other", "{queue} {id}");
        until("it is judged", || rows(&cluster) == (1, 0));
    }
    assert!(node.log().contains("in another queue"), "{}", node.log());
    let followed = node.try_get(&format!("/proposals/{id}")).expect("an answer");
    assert!(followed.text().contains("ch_1"), "{}", followed.text());
    assert!(node.log().contains("another completion stands"), "{}", node.log());
}

#[test]
fn a_worker_that_holds_its_report_open_stops_nobody() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let [held, other] = ["held", "other"].map(|nonce| {
        let id = id_of(&node.insist(&job(nonce, "q")));
        assert_eq!(take(&cluster, "q").map(|(id, _)| id).as_ref(), Some(&id));
        id
    });
    // One that was ignored, which is then being replaced.
    assert!(try_complete(&cluster, "q", &held, "executed", "{\"a\":1e999}"));
    until("it is judged", || waiting_reports(&cluster) == "0");
    let mut holds = cluster.session("work");
    holds.tell(&format!(
        "BEGIN; SELECT openexec.complete('q', '{held}', 'executed', '{{}}'); SELECT * FROM openexec.take('q');"
    ));
    cluster.until_sessions(
        "it holds",
        1,
        "usename = 'work' AND state = 'idle in transaction' AND query LIKE '%take%'",
    );
    assert!(try_complete(&cluster, "q", &other, "executed", "{}"));
    until("the other's is recorded", || completions(&cluster, &other).len() == 1);
    node.insist(&job("more", "q"));
    assert!(take(&cluster, "q").is_some());
    assert_eq!(completions(&cluster, &held), []);
    holds.end("COMMIT;");
    until("it is recorded", || completions(&cluster, &held).len() == 1);
    assert!(!node.log().contains("asked until it answers"), "{}", node.log());
}

#[test]
fn an_operator_releases_what_nobody_has_said_a_word_of() {
    let cluster = Cluster::new();
    let mut node = Node::start_ready(&cluster, "a", &[]);
    let id = id_of(&node.insist(&job("n", "q")));
    let release = |id: &str| operator(&cluster, &["release", id]);
    assert_eq!(release(&"0".repeat(64)), (65, "openexec: no job has this exec_id\n".to_owned()));
    assert_eq!(release("x").0, 64);
    assert_eq!(release(&id).0, 65, "it waits");
    assert_eq!(operator(&cluster, &["jobs"]), (0, String::new()));
    for _ in 0..2 {
        assert!(take(&cluster, "q").is_some());
        let listed = operator(&cluster, &["jobs"]).1;
        assert!(
            listed.starts_with(&format!("{id} q, taken ")) && listed.contains(" by work"),
            "{listed}"
        );
        assert_eq!(release(&id).0, 0);
    }
    assert!(take(&cluster, "q").is_some());
    // A report that waits counts, though no node is there to record it.
    node.kill();
    assert!(try_complete(&cluster, "q", &id, "indeterminate", "{}"));
    assert!(!try_complete(&cluster, "q", &id, "failed", "{}"), "the first one waits");
    assert_eq!(release(&id).0, 65);
    let node = Node::start_ready(&cluster, "b", &[]);
    until("it is recorded", || {
        completions(&cluster, &id).len() == 1 && waiting_reports(&cluster) == "0"
    });
    // Nobody knows: that is for an operator to decide.
    assert_eq!(release(&id).0, 0);
    assert!(take(&cluster, "q").is_some());
    assert!(try_complete(&cluster, "q", &id, "executed", "{}"));
    until("it is recorded", || {
        completions(&cluster, &id).len() == 2 && waiting_reports(&cluster) == "0"
    });
    let (code, said) = release(&id);
    assert!(code == 65 && !said.contains("no job has this exec_id"), "{said}");
    assert_eq!(operator(&cluster, &["jobs"]), (0, String::new()));
    assert_eq!(rows(&cluster), (0, 0));
    assert!(node.is_ready());
}

/// A worker's report may not be committed yet: a release waits until that is decided, and goes by what there is then.
#[test]
fn a_release_waits_for_a_report_that_is_on_its_way_and_sees_it() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let id = id_of(&node.insist(&job("n", "q")));
    // Nobody records the report meanwhile.
    drop(node);
    let release = format!("SELECT openexec.release('{id}');");
    for (end, status) in [("ROLLBACK;", "released"), ("COMMIT;", "reported")] {
        assert!(take(&cluster, "q").is_some());
        let mut worker = cluster.session("work");
        worker.tell(&format!("BEGIN; SELECT openexec.complete('q', '{id}', 'executed', '{{}}');"));
        let holds =
            "usename = 'work' AND state = 'idle in transaction' AND query LIKE '%complete%'";
        cluster.until_sessions("it holds the job", 1, holds);
        // One that reads what was true before it waited would not see the report.
        let old = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {release} COMMIT;");
        let done = cluster.try_sql("d", "op", &old);
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && text.contains("READ COMMITTED"), "{end} {text}");
        let mut operator = cluster.session("op");
        operator.tell(&release);
        let waits = "usename = 'op' AND wait_event_type = 'Lock' AND query LIKE '%release%'";
        cluster.until_sessions("the release waits", 1, waits);
        worker.end(end);
        assert_eq!(operator.end(""), status, "{end}");
    }
    assert_eq!(take(&cluster, "q"), None, "it is not given to another");
    let _node = Node::start_ready(&cluster, "b", &[]);
    until("it is recorded", || completions(&cluster, &id).len() == 1);
    until("nothing is left", || rows(&cluster) == (0, 0));
}

/// The connection of the service is cut at each message; it is killed, too. Each proposal leaves one job.
#[test]
fn wherever_a_service_is_cut_each_job_is_there_once() {
    let cluster = Cluster::new();
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("serve", &proxy.dir);
    let settings = [("OPENEXEC_DB_URL", url.as_str())];
    let mut node = Node::start_ready(&cluster, "node", &settings);
    let mut ids = BTreeSet::new();
    for at in 1..40 {
        proxy.arm(at, Then::Cut);
        node.execute(&job(&format!("cut-{at}"), "q"));
        if at % 13 == 0 {
            node.kill();
            node = Node::start_ready(&cluster, "node", &settings);
        }
        ids.insert(id_of(&node.insist(&job(&format!("cut-{at}"), "q"))));
    }
    for then in [Then::HoldAnswers, Then::Hold, Then::Cut] {
        proxy.arm_on(b"openexec.append", then);
        let body = job(&format!("{then:?}"), "q");
        assert_eq!(node.execute(&body).map(|answer| answer.status), Some(503));
        ids.insert(id_of(&node.insist(&body)));
    }
    let jobs = cluster.sql("d", "postgres", "SELECT id FROM openexec.job");
    assert_eq!(jobs.lines().count(), ids.len());
    assert_eq!(jobs.lines().map(str::to_owned).collect::<BTreeSet<_>>(), ids);
    assert_eq!(cluster.count("receipt", "queued"), ids.len());
}

/// The two examples, as the role of workers; the command appends the id that it was given to a file.
struct Worker<'a> {
    cluster: &'a Cluster,
    is_python: bool,
}

impl Worker<'_> {
    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.cluster.dir.join("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn start(&self, socket: &std::path::Path) -> Child {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workers/postgres");
        let effects = self.cluster.dir.join("effects");
        let append = format!(
            "jq -r .id \"$@\" >>'{}' && echo '{{\"done\":true}}' >\"${{RESULT:-/dev/stdout}}\"",
            effects.display()
        );
        let mut command;
        if self.is_python {
            command = Command::new("/usr/bin/python3");
            command.arg(format!("{examples}/worker.py")).args(["q", "sh", "-c", &append, "-"]);
        } else {
            command = Command::new("sh");
            command.arg(format!("{examples}/queue")).arg("q").arg(self.cluster.dir.join("spool"));
            command.args(["sh", "-c", &append, "-"]);
        }
        command.env("PGHOST", socket).env("PGUSER", "work").env("PGDATABASE", "d");
        command.env_remove("RESULT").stdin(Stdio::null()).spawn().expect("started")
    }

    fn run(&self, socket: &std::path::Path) -> bool {
        self.start(socket).wait().expect("ended").success()
    }
}

/// Cut at each message of its own: what it has not got stays taken until it is released, and nothing is done twice
/// without that.
#[test]
fn wherever_a_worker_is_cut_no_job_is_lost_and_none_done_twice() {
    for is_python in [true, false] {
        let cluster = Cluster::new();
        let node = Node::start_ready(&cluster, "node", &[]);
        let proxy = Proxy::new(&cluster.dir);
        let worker = Worker { cluster: &cluster, is_python };
        let mut ids = BTreeSet::new();
        for at in (1..).step_by(3) {
            ids.insert(id_of(&node.insist(&job(&format!("n{at}"), "q"))));
            proxy.arm(at, Then::Cut);
            worker.run(&proxy.dir);
            if !proxy.is_done() || at > 120 {
                break;
            }
        }
        proxy.disarm();
        assert!(ids.len() > 10, "it was cut {} times", ids.len());
        worker.run(&proxy.dir);
        let effects = worker.effects();
        let distinct: BTreeSet<_> = effects.iter().cloned().collect();
        assert_eq!(distinct.len(), effects.len(), "none twice");
        until("all reports are judged", || waiting_reports(&cluster) == "0");
        // What is left is what it never got.
        let left: Vec<String> =
            operator(&cluster, &["jobs"]).1.lines().map(|line| line[..64].to_owned()).collect();
        assert_eq!(distinct.len() + left.len(), ids.len(), "{left:?}");
        assert!(left.iter().all(|id| !distinct.contains(id)));
        assert!(!left.is_empty(), "an answer was cut off");
        for id in &left {
            assert_eq!(operator(&cluster, &["release", id]).0, 0);
        }
        assert!(worker.run(&cluster.dir));
        let effects = worker.effects();
        assert_eq!(
            (effects.len(), effects.into_iter().collect::<BTreeSet<_>>()),
            (ids.len(), ids.clone())
        );
        until("each is recorded", || ids.iter().all(|id| completions(&cluster, id).len() == 1));
        assert!(ids.iter().all(|id| completions(&cluster, id)[0].0 == "executed"));
        until("nothing is left of them but their records", || rows(&cluster) == (0, 0));
    }
}

/// A worker that did not hear that its report was taken says it again, when the row of its job is gone; and one that holds
/// the row while the last word is recorded keeps nobody, and in the end nothing is left.
#[test]
fn a_job_of_which_the_end_is_recorded_leaves_no_row() {
    let cluster = Cluster::new();
    let mut node = Node::start_ready(&cluster, "a", &[]);
    let id = id_of(&node.insist(&job("n", "q")));
    assert!(take(&cluster, "q").is_some());
    for _ in 0..3 {
        assert!(try_complete(&cluster, "q", &id, "executed", "{\"a\": 1.0}"));
        until("it is recorded", || completions(&cluster, &id).len() == 1);
        until("nothing is left", || rows(&cluster) == (0, 0));
    }
    assert!(!node.log().contains("was ignored"), "{}", node.log());
    // Of what the log says nothing about, nothing is taken: not of a claim that left no job, and not of none.
    let echo = node.insist("{\"action\":\"echo\",\"nonce\":\"e\",\"payload\":{}}");
    for unknown in [id_of(&echo), "0".repeat(64)] {
        assert!(!try_complete(&cluster, "q", &unknown, "executed", "{}"), "{unknown}");
    }
    // Nobody knows: the job is open, and its row stays for an operator to release.
    let open = id_of(&node.insist(&job("open", "q")));
    assert!(take(&cluster, "q").is_some());
    assert!(try_complete(&cluster, "q", &open, "indeterminate", "{}"));
    until("it is recorded", || {
        completions(&cluster, &open).len() == 1 && waiting_reports(&cluster) == "0"
    });
    assert_eq!(rows(&cluster), (1, 0));
    // Somebody holds the row while the last word is recorded.
    node.kill();
    assert!(try_complete(&cluster, "q", &open, "failed", "{}"));
    let mut holds = cluster.session("postgres");
    holds.tell("BEGIN; SELECT 1 FROM openexec.job FOR UPDATE;");
    cluster.until_sessions(
        "it holds",
        1,
        "state = 'idle in transaction' AND query LIKE '%FOR UPDATE%'",
    );
    let node = Node::start_ready(&cluster, "b", &[]);
    until("it is recorded", || completions(&cluster, &open).len() == 2);
    node.insist(&job("more", "q"));
    assert_eq!(rows(&cluster), (2, 1), "it waits for whoever holds the row");
    holds.end("ROLLBACK;");
    until("one waits, and nothing else is left", || rows(&cluster) == (1, 0));
    assert_eq!(take(&cluster, "q").map(|(_, text)| text.contains("more")), Some(true));
}
