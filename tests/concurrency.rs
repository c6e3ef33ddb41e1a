//! Many clients at once: one execution a nonce, one an approval, one answer for all who ask.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use common::approvals::{Minted, borrowed, settings, start};
use common::handlers::{counted, service};
use common::{Answer, Scratch, Server, exchange, executed, post, problem, refusal, until};
use openexec::sys::limits::CONNECTIONS_MAX;
use serde_json::json;

const CLIENTS: usize = 64;

#[test]
fn serve() {
    common::handlers::serve();
}

/// All of them at once, each on a connection of its own.
fn at_once(address: &str, bodies: Vec<String>) -> Vec<Answer> {
    let barrier = Arc::new(Barrier::new(bodies.len()));
    let clients: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let (barrier, address) = (barrier.clone(), address.to_owned());
            std::thread::spawn(move || {
                let request = post("/execute", body.as_bytes());
                barrier.wait();
                exchange(&address, &request)
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().expect("answered")).collect()
}

fn replays(answers: &[Answer]) -> usize {
    answers.iter().filter(|a| a.header("idempotent-replayed") == Some("true")).count()
}

#[test]
fn one_nonce_runs_once_for_all_who_ask() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    for action in ["sleep", "count", "once"] {
        let body = json!({"action": action, "nonce": action, "payload": {"ms": 20}}).to_string();
        let answers = at_once(&server.address, vec![body; CLIENTS]);
        executed(&answers[0], action, action, &json!({"ms": 20}));
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
        }
        assert_eq!(replays(&answers), CLIENTS - 1, "one ran, the others were told");
        assert_eq!(server.runs(action), 1);
    }
    assert_eq!(counted(&scratch), ["sleep", "count", "once"]);
    assert_eq!(server.metric("openexec_store_executions"), 3);
    assert_eq!(server.metric("openexec_replays_total"), 3 * (CLIENTS as u64 - 1));
}

#[test]
fn one_nonce_for_many_requests_is_for_one_of_them() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    for action in ["sleep", "count", "once"] {
        let body = |n: usize| json!({"action": action, "nonce": action, "payload": {"n": n}});
        let answers = at_once(&server.address, (0..CLIENTS).map(|n| body(n).to_string()).collect());
        let mut won = 0;
        for (n, answer) in answers.iter().enumerate() {
            match answer.status {
                200 => {
                    executed(answer, action, action, &json!({"n": n}));
                    won += 1;
                }
                _ => drop(refusal(answer, 409, "nonce_conflict")),
            }
        }
        assert_eq!((won, server.runs(action), replays(&answers)), (1, 1, 0));
    }
}

#[test]
fn one_approval_under_many_nonces_executes_once() {
    let scratch = Scratch::new();
    let settings = settings();
    let server = start(&scratch, &borrowed(&settings));
    let payload = json!({"msg": "hello world"});
    let artifact = Minted::of("echo", &payload).sign();
    let body = |n: usize| {
        json!({"action": "echo", "nonce": format!("n{n}"), "payload": payload,
               "approval_artifact": artifact})
        .to_string()
    };
    let answers = at_once(&server.address, (0..CLIENTS).map(body).collect());
    let mut won = 0;
    for (n, answer) in answers.iter().enumerate() {
        match answer.status {
            200 => {
                executed(answer, "echo", &format!("n{n}"), &payload);
                won += 1;
            }
            _ => drop(refusal(answer, 403, "approval_already_used")),
        }
    }
    assert_eq!((won, server.runs("echo"), replays(&answers)), (1, 1, 0));
    assert_eq!(server.metric("openexec_store_executions"), 1);
}

/// The same where the claim is on the disk before the handler runs.
#[test]
fn one_approval_under_many_nonces_has_one_effect() {
    let scratch = Scratch::new();
    let settings = settings();
    let init = common::cli(&scratch, &borrowed(&settings), &["init"]);
    assert_eq!(init.code, 0, "{}", init.stderr);
    let mut command = service(&scratch);
    command.envs(borrowed(&settings));
    let server = Server::spawn(command, &scratch);
    for action in ["count", "once"] {
        let artifact = Minted::of(action, &json!({})).sign();
        let body = |n: usize| {
            json!({"action": action, "nonce": format!("{action}{n}"),
                   "approval_artifact": artifact})
            .to_string()
        };
        let answers = at_once(&server.address, (0..CLIENTS).map(body).collect());
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refusal(answer, 403, "approval_already_used");
        }
        assert_eq!((won, server.runs(action)), (1, 1));
    }
    assert_eq!(counted(&scratch).len(), 2);
}

#[test]
fn different_nonces_all_run() {
    let scratch = Scratch::new();
    let mut server = Server::spawn(service(&scratch), &scratch);
    let mut expected = BTreeSet::new();
    for action in ["sleep", "count", "once"] {
        let nonces: Vec<String> = (0..CLIENTS).map(|n| format!("{action}-{n}")).collect();
        let bodies =
            nonces.iter().map(|nonce| json!({"action": action, "nonce": nonce}).to_string());
        let answers = at_once(&server.address, bodies.collect());
        for (nonce, answer) in nonces.iter().zip(&answers) {
            executed(answer, action, nonce, &json!({}));
        }
        assert_eq!(replays(&answers), 0);
        expected.extend(nonces);
    }
    let lines = counted(&scratch);
    assert_eq!(lines.len(), 3 * CLIENTS);
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), expected);
    let batches = server.metric("openexec_batches_total");
    assert!(batches <= 2 * 3 * CLIENTS as u64, "{batches}");

    // All of it is there after a kill.
    server.kill();
    drop(server);
    let server = Server::spawn(service(&scratch), &scratch);
    assert_eq!(server.metric("openexec_store_executions"), 3 * CLIENTS as u64);
    let bodies =
        (0..CLIENTS).map(|n| json!({"action": "once", "nonce": format!("once-{n}")}).to_string());
    let answers = at_once(&server.address, bodies.collect());
    assert_eq!(replays(&answers), CLIENTS);
    assert_eq!(server.runs("once"), 0);
}

#[test]
fn a_replay_waits_for_the_first_to_end() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    let body = json!({"action": "count", "nonce": "slow", "payload": {"ms": 1000}}).to_string();
    let other = json!({"action": "count", "nonce": "slow", "payload": {"ms": 0}}).to_string();
    let ask = |body: &str| {
        let (address, request) = (server.address.clone(), post("/execute", body.as_bytes()));
        std::thread::spawn(move || exchange(&address, &request))
    };
    let first = ask(&body);
    until("the handler runs", || !counted(&scratch).is_empty());
    // Asked while it runs; the nonce is no other request's meanwhile.
    let second = ask(&body);
    let conflict = ask(&other);
    let (first, second) = (first.join().expect("answered"), second.join().expect("answered"));
    executed(&first, "count", "slow", &json!({"ms": 1000}));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(second.body, first.body);
    refusal(&conflict.join().expect("answered"), 409, "nonce_conflict");
    assert_eq!(server.runs("count"), 1);
}

/// A client that goes away takes nothing with it: the execution is there for its retry.
#[test]
fn an_answer_that_nobody_took_is_there_for_the_retry() {
    use std::io::Write;
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    let body = json!({"action": "once", "nonce": "gone", "payload": {"ms": 200}}).to_string();
    let mut stream = std::net::TcpStream::connect(&server.address).expect("a connection");
    stream.write_all(&post("/execute", body.as_bytes())).expect("sent");
    until("the handler runs", || !counted(&scratch).is_empty());
    drop(stream);
    let answer = server.execute(&body);
    executed(&answer, "once", "gone", &json!({"ms": 200}));
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    assert_eq!(counted(&scratch).len(), 1);
}

/// Large requests wait for one another, and for the handler; what needs neither does not wait.
#[test]
fn large_requests_that_wait_do_not_keep_health_from_answering() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    let received = server.metric("openexec_received_bytes_total");
    let ask = |nonce: &str, payload: serde_json::Value| {
        let body = json!({"action": "once", "nonce": nonce, "payload": payload}).to_string();
        let (address, request) = (server.address.clone(), post("/execute", body.as_bytes()));
        std::thread::spawn(move || exchange(&address, &request).status)
    };
    let mut clients = vec![ask("slow", json!({"ms": 3_000}))];
    until("it runs", || !counted(&scratch).is_empty());
    // As much as may be inside, and more.
    let bytes = openexec::sys::limits::BODY_BYTES_MAX - 1_000;
    clients.extend((0..4).map(|n| ask(&format!("large {n}"), json!({"x": "x".repeat(bytes)}))));
    let all = received + 4 * bytes as u64;
    until("they have come", || server.metric("openexec_received_bytes_total") > all);
    for path in ["/health", "/ready", "/version", "/actions", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(server.metric("openexec_handler_running"), 1, "it has not waited for the handler");
    for client in clients {
        assert_eq!(client.join().expect("joined"), 200);
    }
}

/// Eight connections, and an executor that gets to nobody: the clients give up, the liveness probe
/// goes on asking, and every request that came in is executed once it can be.
#[test]
fn a_stall_and_clients_that_leave_do_not_take_health_down() {
    use std::io::Write;
    let scratch = Scratch::new();
    let mut command = service(&scratch);
    command.env("OPENEXEC_MAX_CONNECTIONS", "8");
    let server = Server::spawn(command, &scratch);
    let fifo = scratch.join("fifo");
    common::fifo(&fifo);
    let ask = |body: &str| {
        let mut stream = std::net::TcpStream::connect(&server.address).expect("connected");
        stream.write_all(&post("/execute", body.as_bytes())).expect("sent");
        stream
    };
    let hold = json!({"action": "hold", "nonce": "held", "payload": {"path": fifo}}).to_string();
    let mut clients = vec![ask(&hold)];
    until("the handler runs", || counted(&scratch) == ["held"]);
    clients.extend((0..7).map(|n| ask(&format!(r#"{{"action":"count","nonce":"left-{n}"}}"#))));
    until("all wait", || server.metric("openexec_requests_waiting") == 8);
    let refused = server.execute(r#"{"action":"count","nonce":"next"}"#);
    problem(&refused, 503, "busy");
    drop(clients);
    for path in ["/health", "/ready", "/version", "/actions", "/openapi.json", "/metrics"] {
        for _ in 0..5 {
            assert_eq!(server.get(path).status, 200, "{path}");
        }
    }
    until("nobody has a place but who asks", || server.metric("openexec_connections_open") == 1);
    drop(std::fs::OpenOptions::new().write(true).open(&fifo).expect("released"));
    until("none waits", || server.metric("openexec_requests_waiting") == 0);
    assert_eq!(counted(&scratch).len(), 8);
    let replay = server.execute(&hold);
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(server.execute(r#"{"action":"count","nonce":"next"}"#).status, 200);
}

/// As many as there are connections by default, and the executor gets to none of them at first.
#[test]
fn as_many_as_there_are_connections_may_wait_at_once() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    let fifo = scratch.join("fifo");
    common::fifo(&fifo);
    let hold = json!({"action": "hold", "nonce": "held", "payload": {"path": fifo}}).to_string();
    let address = server.address.clone();
    let held = std::thread::spawn(move || at_once(&address, vec![hold]));
    until("the handler runs", || counted(&scratch) == ["held"]);
    let body = |n| format!(r#"{{"action":"count","nonce":"n{n}"}}"#);
    let (bodies, address) = ((1..CONNECTIONS_MAX).map(body).collect(), server.address.clone());
    let clients = std::thread::spawn(move || at_once(&address, bodies));
    until("all wait", || server.metric("openexec_requests_waiting") == CONNECTIONS_MAX as u64);
    for path in ["/health", "/ready", "/version", "/actions", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    problem(&server.execute(r#"{"action":"count","nonce":"next"}"#), 503, "busy");
    drop(std::fs::OpenOptions::new().write(true).open(&fifo).expect("released"));
    let answers = [held, clients].map(|asked| asked.join().expect("joined")).concat();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(counted(&scratch).len(), CONNECTIONS_MAX);
}
