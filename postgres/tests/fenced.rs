//! Two nodes under load, and the active one dies, sleeps or is cut off: at most one acknowledges, what a node had on
//! its way when it lost its place writes nothing, and each execution that was acknowledged is there once.

#![allow(clippy::disallowed_methods, reason = "it asks as a client that does not wait for long")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, RwLock};
use std::thread;

use common::proxy::Proxy;
use common::{Cluster, Node, until};

const CALLERS: usize = 6;

/// Who executed what: the node that acknowledged each nonce as its own execution.
#[derive(Default)]
struct Told {
    by: Mutex<BTreeMap<String, usize>>,
    /// The newest node that has acknowledged, from 0.
    count: [AtomicUsize; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Asleep,
    CutOff,
}

/// Asks whoever is there, in turns and with the same nonce until it is executed.
fn ask(caller: usize, addresses: &RwLock<Vec<String>>, told: &Told, stop: &AtomicBool) {
    let mut turn = caller;
    for n in 0.. {
        let nonce = format!("{caller}-{n}-");
        let body = format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{}}}}");
        loop {
            if stop.load(SeqCst) {
                return;
            }
            let (node, address) = {
                let addresses = addresses.read().unwrap();
                (turn % addresses.len(), addresses[turn % addresses.len()].clone())
            };
            match asked(&address, &body) {
                Some(answer) if answer.status == 200 => {
                    if answer.header("idempotent-replayed").is_none() {
                        let before = told.by.lock().unwrap().insert(nonce, node);
                        assert_eq!(before, None, "acknowledged twice as new");
                    }
                    told.count[node].fetch_add(1, SeqCst);
                    break;
                }
                Some(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                None => {}
            }
            turn += 1;
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// As a client does that does not wait for long: a node that sleeps keeps its connections open.
fn asked(address: &str, body: &str) -> Option<common::Answer> {
    use std::io::{BufReader, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).ok()?;
    stream.write_all(&common::post("/execute", body.as_bytes())).ok()?;
    common::http::read_answer(&mut BufReader::new(stream)).ok()
}

/// Nonce and session of each claim, in the log's order.
fn claims(cluster: &Cluster) -> Vec<(String, i64)> {
    let sql = "SELECT substring(line FROM '\"nonce\":\"([^\"]*)\"'), \
               (SELECT session FROM openexec.batch WHERE size > n ORDER BY size LIMIT 1) \
               FROM openexec.rec WHERE line LIKE '%\"kind\":\"claim\"%' ORDER BY n";
    let all = cluster.sql("d", "postgres", sql);
    let claim = |line: &str| {
        let (nonce, session) = line.split_once('|').expect("two");
        (nonce.to_owned(), session.parse().expect("a number"))
    };
    all.lines().map(claim).collect()
}

fn round(fault: Fault) {
    let cluster = Cluster::new();
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("serve", &proxy.dir);
    let mut first = Node::start_ready(&cluster, "a", &[("OPENEXEC_DB_URL", &url)]);
    let second = Node::start(&cluster, "b", &[]);
    until("it stands by", || second.log().contains("stands by"));
    let addresses = RwLock::new(vec![first.address.clone(), second.address.clone()]);
    let (told, stop) = (Told::default(), AtomicBool::new(false));
    let count = |node: usize| told.count[node].load(SeqCst);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (addresses, told, stop) = (&addresses, &told, &stop);
            scope.spawn(move || ask(caller, addresses, told, stop));
        }
        until("there is load", || count(0) > 100);
        match fault {
            Fault::Killed => first.kill(),
            Fault::Asleep => first.signal("-STOP"),
            Fault::CutOff => proxy.part(true),
        }
        until("the other executes", || count(1) > 100);
        match fault {
            Fault::Killed => {}
            Fault::Asleep => first.signal("-CONT"),
            Fault::CutOff => proxy.part(false),
        }
        if fault != Fault::Killed {
            assert_eq!(first.ended(), 75, "{fault:?}: {}", first.log());
        }
        let so_far = count(1);
        until("it goes on", || count(1) > so_far + 100);
        stop.store(true, SeqCst);
    });
    let claims = claims(&cluster);
    let sessions: BTreeMap<&str, i64> =
        claims.iter().map(|(nonce, session)| (nonce.as_str(), *session)).collect();
    assert_eq!(sessions.len(), claims.len(), "{fault:?}: a nonce is claimed twice");
    let told = told.by.into_inner().unwrap();
    let of = |node: usize| {
        let own = told.iter().filter(move |(_, by)| **by == node);
        own.map(|(nonce, _)| *sessions.get(nonce.as_str()).expect("acknowledged, and not there"))
    };
    // Whatever the second one wrote is of later sessions: from its first on the other has acknowledged nothing.
    let (last, first_of_second) = (of(0).max(), of(1).min());
    assert!(last.is_some() && last < first_of_second, "{fault:?}: {last:?} {first_of_second:?}");
    // And the log is of sessions that only grow.
    assert!(claims.windows(2).all(|two| two[0].1 <= two[1].1), "{fault:?}");
}

#[test]
fn one_that_is_killed_under_load_is_followed_by_the_other() {
    round(Fault::Killed);
}

#[test]
fn one_that_wakes_again_under_load_has_lost_its_place() {
    round(Fault::Asleep);
}

#[test]
fn one_that_was_cut_off_under_load_has_lost_its_place() {
    round(Fault::CutOff);
}
