//! Several nodes over one log: one is active, and whoever was overtaken writes nothing more.

#![allow(clippy::disallowed_types, reason = "it starts psql")]

mod common;

use std::collections::BTreeSet;

use common::proxy::{Proxy, Then};
use common::{Cluster, Node, until};

fn echo(nonce: &str) -> String {
    format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{}}}}")
}

/// Each metric of the alerts is one of either node, and each of them says whether it is ready in the words of the alerts.
fn the_alerts_name_what_both_have(active: &Node, standby: &Node) {
    let rules = include_str!("../../deploy/prometheus-rules.yaml");
    let words = rules.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("openexec_")).collect();
    assert!(names.len() >= 15, "{names:?}");
    for (node, ready) in [(active, r#"{reason=""} 1"#), (standby, r#"{reason="standby"} 0"#)] {
        let text = node.try_get("/metrics").expect("an answer").text();
        assert!(text.contains(&format!("openexec_ready{ready}\n")), "{text}");
        for name in &names {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is none of {text}");
        }
    }
}

#[test]
fn a_node_that_stands_by_says_so_and_takes_over() {
    let cluster = Cluster::new();
    let mut active = Node::start_ready(&cluster, "a", &[]);
    let executed = active.insist(&echo("before"));
    let standby = Node::start(&cluster, "b", &[]);
    until("it has looked", || standby.log().contains("stands by"));
    for path in ["/", "/health", "/version"] {
        assert_eq!(standby.try_get(path).expect("an answer").status, 200, "{path}");
    }
    let ready = standby.try_get("/ready").expect("an answer");
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (503, r#"{"ready":false,"reason":"standby"}"#)
    );
    the_alerts_name_what_both_have(&active, &standby);
    let id = executed.json()["id"].as_str().expect("an id").to_owned();
    for answer in [standby.execute(&echo("new")), standby.try_get(&format!("/receipts/{id}"))] {
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (503, "standby"));
        assert!(answer.json().get("approved").is_none(), "it is no refusal");
    }
    assert_eq!(cluster.count("claim", "new"), 0);

    active.kill();
    until("it takes over", || standby.is_ready());
    let replayed = standby.execute(&echo("before")).expect("an answer");
    assert_eq!(
        (replayed.body, replayed.headers.contains_key("idempotent-replayed")),
        (executed.body, true)
    );
    standby.insist(&echo("new"));
    assert_eq!(cluster.count("claim", "new"), 1);
}

/// Who may connect, and no more, keeps no node from taking over: with no lock, and with no name.
#[test]
fn a_stranger_holds_nobody_up() {
    let cluster = Cluster::new();
    cluster.sql("postgres", "postgres", "CREATE ROLE stranger LOGIN");
    let mut active = Node::start_ready(&cluster, "a", &[]);
    active.insist(&echo("before"));
    let standby = Node::start(&cluster, "b", &[]);
    until("it has looked", || standby.log().contains("stands by"));
    // What the session of the active one is called, everybody is told; and here every lock is tried that it could have.
    let name = "SELECT 'openexec ' || encode(holder, 'hex') FROM openexec.node";
    let name = cluster.sql("d", "postgres", name);
    let seen = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
    assert_eq!(cluster.sql("d", "stranger", &seen), "1");
    let node = cluster.sql("d", "postgres", "SELECT 'openexec.node'::regclass::oid");
    let text = format!(
        "SET application_name = '{name}'; SELECT pg_advisory_lock({node}); \
         SELECT pg_advisory_lock(classid::bigint << 32 | objid::bigint) FROM pg_locks WHERE locktype = 'advisory'; \
         BEGIN; SELECT pg_sleep(600)"
    );
    let mut psql = std::process::Command::new("psql");
    let psql =
        psql.args(["-qAtX", "-U", "stranger", "-d", "d", "-c", &text, "-h"]).arg(&cluster.dir);
    let mut psql = psql.stdout(std::process::Stdio::null()).spawn().expect("run");
    until("the stranger is there", || cluster.sql("d", "stranger", &seen) == "2");
    active.kill();
    until("it takes over", || standby.is_ready());
    standby.insist(&echo("after"));
    assert!(psql.try_wait().expect("waited").is_none(), "the stranger has gone");
    let _ = (psql.kill(), psql.wait());
    // Nor with the functions, or a lock of a table.
    for sql in ["SELECT openexec.fence('\\x00', 0)", "LOCK openexec.node IN ACCESS SHARE MODE"] {
        assert!(!cluster.try_sql("d", "stranger", sql).status.success(), "{sql}");
    }
}

/// It is stopped as a machine is that is suspended, and wakes with requests on their way.
#[test]
fn a_node_that_was_overtaken_writes_nothing_and_ends() {
    let cluster = Cluster::new();
    let mut first = Node::start_ready(&cluster, "a", &[]);
    first.insist(&echo("before"));
    let second = Node::start(&cluster, "b", &[]);
    until("it has looked", || second.log().contains("stands by"));
    first.signal("-STOP");
    // Sent while it sleeps: it will find them when it wakes.
    let address = first.address.clone();
    let asked: Vec<_> = (0..8)
        .map(|n| {
            let (address, body) = (address.clone(), echo(&format!("late-{n}-")));
            std::thread::spawn(move || {
                common::try_exchange(&address, &common::post("/execute", body.as_bytes()))
            })
        })
        .collect();
    until("the other takes over", || second.is_ready());
    second.insist(&echo("meanwhile"));
    first.signal("-CONT");
    for answer in asked {
        if let Ok(answer) = answer.join().expect("asked") {
            assert_eq!(answer.status, 503, "{}", answer.text());
        }
    }
    assert_eq!(first.ended(), 75, "{}", first.log());
    assert_eq!(cluster.count("claim", "late-"), 0);
    second.insist(&echo("after"));
    assert_eq!(
        cluster.sql(
            "d",
            "postgres",
            "SELECT count(DISTINCT session) FROM openexec.batch WHERE session > 0"
        ),
        "2"
    );
}

/// What an older session sends is powerless, whatever it says of the rest.
#[test]
fn an_append_of_an_older_session_writes_nothing() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    node.insist(&echo("before"));
    let append = |session: &str, root: &str| {
        let sql = format!(
            "SELECT (openexec.append({session}, 99, (SELECT veto FROM openexec.node), true, size, root, \
             ARRAY['x'], '{{}}', '{{}}', {root}, '{{}}', '{{}}', NULL, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')).status FROM openexec.batch ORDER BY size DESC LIMIT 1"
        );
        cluster.sql("d", "serve", &sql)
    };
    let session = "(SELECT session FROM openexec.node)";
    assert_eq!(append(&format!("{session} - 1"), "root"), "fenced");
    // Of the newest it is the root that is wrong.
    assert_eq!(append(session, "root"), "root");
    assert_eq!(
        cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.rec WHERE line = 'x'"),
        "0"
    );
}

#[test]
fn an_operator_stops_all_nodes_from_any_host() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let executed = node.insist(&echo("before"));
    let operator = |words: &[&str]| {
        let done = cluster.command("op", words).output().expect("run");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    assert_eq!(operator(&["freeze", "--reason", "because"]), "frozen\n");
    // From here on none is executed, whoever asks; replays go on.
    let refused = node.execute(&echo("stopped")).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(["frozen", "outcome_unknown"].contains(&refused.code().as_str()), "{}", refused.text());
    until("it is recorded", || cluster.count("freeze", "because") == 1);
    assert_eq!(node.execute(&echo("stopped")).expect("an answer").code(), "frozen");
    assert_eq!(node.execute(&echo("before")).expect("an answer").body, executed.body);
    assert_eq!(cluster.count("claim", "stopped"), 0);
    assert_eq!(operator(&["freeze"]), "frozen before, with the reason given then\n");
    assert_eq!(operator(&["unfreeze"]), "unfrozen: executions go on\n");
    node.insist(&echo("stopped"));
    until("nothing is left of it", || {
        cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.note") == "0"
    });
    assert_eq!(operator(&["unfreeze"]), "it was not frozen\n");
}

/// An append that had not seen an operator's word when it was made is refused by the database itself.
#[test]
fn a_claim_does_not_overtake_a_freeze() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    node.insist(&echo("before"));
    for round in 0..20 {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                (0..30)
                    .map(|n| node.execute(&echo(&format!("race-{round}-{n}-"))))
                    .collect::<Vec<_>>()
            });
            cluster.sql("d", "op", "SELECT openexec.freeze('race')");
            let claims = cluster.count("claim", &format!("race-{round}-"));
            let answers = asked.join().expect("asked");
            // What had not been claimed when the freeze had returned never was.
            assert_eq!(cluster.count("claim", &format!("race-{round}-")), claims);
            let executed = answers.iter().flatten().filter(|answer| answer.status == 200).count();
            assert_eq!(executed, claims);
        });
        cluster.sql("d", "op", "SELECT openexec.unfreeze()");
        until("it is over", || {
            node.try_get("/ready").is_some_and(|ready| ready.text() == r#"{"ready":true}"#)
        });
    }
}

/// A turn decides once whether it is frozen. What it decided before a freeze is refused after it, though the node has looked
/// again meanwhile: here over a new connection, since the answer to another request of that turn did not come.
#[test]
fn what_was_decided_before_a_freeze_is_not_written_after_it() {
    let cluster = Cluster::new();
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("serve", &proxy.dir);
    let node = Node::start_ready(&cluster, "a", &[("OPENEXEC_DB_URL", &url)]);
    // So long a record is asked for by itself.
    let payload = "x".repeat(20_000);
    let long = format!(r#"{{"action":"echo","nonce":"long","payload":{{"a":"{payload}"}}}}"#);
    node.insist(&long);
    let is_decisive = (0..10).any(|round| {
        let nonces = ["first", "decided"].map(|name| format!("{name}-{round}-"));
        let bodies = [echo(&nonces[0]), echo(&nonces[1]), long.clone()];
        // While nothing passes the first one is a turn, and the others wait for the next.
        proxy.part(true);
        std::thread::scope(|scope| {
            let mut asked = Vec::new();
            for (waiting, body) in (1..).zip(&bodies) {
                asked.push(scope.spawn(|| node.execute(body)));
                let line = format!("openexec_requests_waiting {waiting}\n");
                until("it waits", || {
                    node.try_get("/metrics").is_some_and(|metrics| metrics.text().contains(&line))
                });
            }
            proxy.arm_on(b"SELECT kind, n, line", Then::Hold);
            proxy.part(false);
            until("it is asked for", || proxy.is_done());
            cluster.sql("d", "op", "SELECT openexec.freeze('now')");
            let before = cluster.count("claim", &nonces[1]);
            let answers: Vec<_> =
                asked.into_iter().map(|asked| asked.join().expect("asked")).collect();
            assert_eq!(cluster.count("claim", &nonces[1]), before, "{answers:?}");
            proxy.disarm();
            cluster.sql("d", "op", "SELECT openexec.unfreeze()");
            until("it is over", || node.is_ready());
            before == 0
        })
    });
    assert!(is_decisive, "the two were never of one turn");
}

/// What is asked again is looked for by the statement that says who is active, for all that wait at once. So a replay
/// costs one statement, and a node that was overtaken answers none.
#[test]
fn a_replay_is_read_by_the_statement_that_says_who_is_active() {
    const ASKED: usize = 60;
    let cluster = Cluster::new();
    cluster.sql("postgres", "postgres", "ALTER DATABASE d SET track_functions = 'all'");
    let mut node = Node::start_ready(&cluster, "a", &[]);
    let job = node.insist(
        "{\"action\":\"enqueue\",\"nonce\":\"j\",\"payload\":{\"queue\":\"q\",\"job\":{}}}",
    );
    let id = job.json()["id"].as_str().expect("an id").to_owned();
    let long = format!(
        "{{\"action\":\"echo\",\"nonce\":\"long\",\"payload\":{{\"a\":\"{}\"}}}}",
        "x".repeat(20_000)
    );
    let bodies: Vec<String> = (0..ASKED).map(|n| echo(&format!("n{n}"))).collect();
    let first: Vec<_> = bodies.iter().map(|body| node.insist(body).json()).collect();
    for (body, first) in bodies.iter().zip(&first) {
        let again = node.insist(body);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.json(), *first);
    }
    // One session says when all that it called is counted: of what comes last.
    cluster.sql("d", "work", "SELECT * FROM openexec.take('q')");
    cluster.sql("d", "work", &format!("SELECT openexec.complete('q', '{id}', 'executed', '{{}}')"));
    let calls = |name: &str| {
        let sql = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = '{name}'"
        );
        cluster.sql("d", "postgres", &sql).parse::<usize>().expect("a number")
    };
    until("it is counted", || calls("reported") > 0);
    let found = calls("find");
    assert!((2 * ASKED..2 * ASKED + 20).contains(&found), "{found} of {ASKED} and {ASKED} again");
    // A long line is not read together with others; it is read.
    assert_eq!(node.insist(&long).json(), node.insist(&long).json());

    cluster.sql(
        "d",
        "serve",
        "SELECT openexec.fence('\\x00', (SELECT session FROM openexec.node))",
    );
    assert_ne!(node.execute(&bodies[0]).map(|answer| answer.status), Some(200));
    assert_eq!(node.ended(), 75);
}
