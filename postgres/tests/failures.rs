//! What goes wrong between a service and its database: each request ends as executed, refused or unknown, and asking
//! again with the same nonce tells the truth. The service goes on by itself.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::proxy::{Proxy, Then};
use common::{Cluster, Node, until};

fn echo(nonce: &str) -> String {
    format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{\"of\":\"{nonce}\"}}}}")
}

fn through(cluster: &Cluster) -> (Proxy, Node) {
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("serve", &proxy.dir);
    let node = Node::start_ready(cluster, "node", &[("OPENEXEC_DB_URL", &url)]);
    (proxy, node)
}

/// Asks once while something is about to happen, then until it is executed: there is one claim and one receipt, and
/// what was acknowledged first stands.
fn once(cluster: &Cluster, node: &Node, nonce: &str) -> (Option<u16>, bool) {
    let body = echo(nonce);
    let first = node.execute(&body);
    let last = node.insist(&body);
    if let Some(first) = first.as_ref().filter(|first| first.status == 200) {
        assert_eq!(first.json(), last.json(), "{nonce}");
    }
    assert_eq!(cluster.count("claim", &format!("\"nonce\":\"{nonce}\"")), 1, "{nonce}");
    let id = last.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(cluster.count("receipt", &id), 1, "{nonce}");
    (first.map(|first| first.status), last.header("idempotent-replayed").is_some())
}

#[test]
fn a_connection_cut_at_any_message_leaves_the_truth() {
    let cluster = Cluster::new();
    let (proxy, mut node) = through(&cluster);
    let mut met = BTreeMap::new();
    // Of an execution, and whatever the service asks beside it.
    for at in 1.. {
        proxy.arm(at, Then::Cut);
        let (first, _) = once(&cluster, &node, &format!("cut-{at}-"));
        *met.entry(first).or_insert(0) += 1;
        if !proxy.is_done() || at == 80 {
            break;
        }
    }
    assert!(met.get(&Some(503)).is_some_and(|count| *count > 8), "{met:?}");
    // Of a connection that is made anew.
    for at in 1.. {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'openexec %'";
        cluster.sql("d", "postgres", sql);
        proxy.arm(at, Then::Cut);
        once(&cluster, &node, &format!("anew-{at}-"));
        if !proxy.is_done() || at == 60 {
            break;
        }
    }
    proxy.disarm();
    assert!(node.child.try_wait().expect("waited").is_none(), "{}", node.log());
    let batches = "SELECT count(*), count(DISTINCT batch), max(batch) FROM openexec.batch";
    let batches = cluster.sql("d", "postgres", batches);
    let [count, distinct, most] = batches.split('|').collect::<Vec<_>>()[..] else {
        panic!("{batches}")
    };
    assert!(count == distinct && count == most, "{batches}");
}

#[test]
fn an_answer_lost_after_the_commit_is_found_and_one_that_never_arrived_is_not() {
    let cluster = Cluster::new();
    let (proxy, node) = through(&cluster);
    node.insist(&echo("first"));
    for (n, (then, is_there)) in
        [(Then::HoldAnswers, true), (Then::Hold, false), (Then::Cut, false)].into_iter().enumerate()
    {
        proxy.arm_on(b"openexec.append", then);
        let (first, is_replay) = once(&cluster, &node, &format!("lost-{n}-"));
        // The statement's text is the first of five messages; the others follow or do not.
        assert_eq!((first, is_replay), (Some(503), is_there), "{then:?}: {}", node.log());
    }
}

/// Several callers, each with its own nonces; what each was told was executed.
fn load(address: &str, round: usize, meanwhile: impl FnOnce()) -> Vec<String> {
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for caller in 0..4 {
            let (stop, told) = (&stop, &told);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let nonce = format!("{round}-{caller}-{n}-");
                    let request = common::post("/execute", echo(&nonce).as_bytes());
                    match common::try_exchange(address, &request) {
                        Ok(answer) if answer.status == 200 => told.lock().unwrap().push(nonce),
                        Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                        Err(_) => thread::sleep(std::time::Duration::from_millis(20)),
                    }
                }
            });
        }
        until("there is load", || told.lock().unwrap().len() > 50);
        meanwhile();
        stop.store(true, Ordering::SeqCst);
    });
    told.into_inner().unwrap()
}

fn each_once(cluster: &Cluster, told: &[String]) {
    let all = "SELECT substring(line FROM '\"nonce\":\"([^\"]*)\"') FROM openexec.rec WHERE line LIKE '%\"kind\":\"claim\"%'";
    let all = cluster.sql("d", "postgres", all);
    let mut claims = BTreeMap::new();
    all.lines().for_each(|nonce| *claims.entry(nonce).or_insert(0) += 1);
    assert!(claims.values().all(|count| *count == 1));
    for nonce in told {
        assert_eq!(claims.get(nonce.as_str()), Some(&1), "{nonce} was acknowledged");
    }
}

#[test]
fn nothing_is_lost_where_the_service_is_killed_or_the_database_is() {
    let cluster = Cluster::new();
    let mut node = Node::start_ready(&cluster, "node", &[]);
    let mut all = Vec::new();
    for round in 0..3 {
        let address = node.address.clone();
        let told = load(&address, round, || match round {
            0 => node.kill(),
            1 => cluster.kill(),
            // Stopped as fast as it may, and started again.
            _ => {
                cluster.stop();
                cluster.start();
            }
        });
        all.extend(told);
        if round == 0 {
            node = Node::start_ready(&cluster, "node", &[]);
        }
        until("it is ready again", || node.is_ready());
        node.insist(&echo(&format!("after-{round}-")));
        each_once(&cluster, &all);
    }
}

#[test]
fn a_log_that_has_lost_what_was_seen_ends_the_service() {
    let cluster = Cluster::new();
    let (proxy, mut node) = through(&cluster);
    node.insist(&echo("first"));
    node.insist(&echo("lost"));
    // As a standby is promoted that has not got the last commit.
    proxy.arm(1, Then::Cut);
    cluster.sql(
        "d",
        "postgres",
        "BEGIN; DELETE FROM openexec.batch WHERE size = (SELECT max(size) FROM openexec.batch); \
         DELETE FROM openexec.rec WHERE n >= (SELECT max(size) FROM openexec.batch); \
         DELETE FROM openexec.key WHERE n >= (SELECT max(size) FROM openexec.batch); COMMIT",
    );
    assert_eq!(node.ended(), 65, "{}", node.log());
}
