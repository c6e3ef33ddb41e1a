//! The service over a database, beside pgbench writing the same rows in the same run, and taking over a long log.
//!
//! `cargo bench --manifest-path postgres/Cargo.toml [-- SECONDS]`: a round takes so many seconds for each of its seven
//! rows (3 unless said otherwise), there are three of them, and the log is filled for forty times that long.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it drives the binary from outside, and is read by people"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::http::Client;
use common::{Cluster, Node, post, until};

const ROUNDS: usize = 3;
const SECONDS: u64 = 3;
const FILLS: u64 = 40;

/// What one execution of `echo` writes: two records, three keys, a batch.
const TABLES: &str = "
    CREATE SCHEMA bench; CREATE SEQUENCE bench.n;
    CREATE TABLE bench.rec (n bigint PRIMARY KEY, line text NOT NULL);
    CREATE TABLE bench.key (k bytea PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE bench.batch (size bigint PRIMARY KEY, batch bigint NOT NULL UNIQUE, root bytea NOT NULL,
        frontier bytea[] NOT NULL, session bigint NOT NULL, seq bigint NOT NULL, jobs bigint NOT NULL DEFAULT 0,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), UNIQUE (session, seq))";
const REC: &str =
    "INSERT INTO bench.rec SELECT nextval('bench.n'), repeat('x', 330) FROM generate_series(1, 2)";
const KEY: &str = "INSERT INTO bench.key SELECT decode(md5(random()::text || o), 'hex'), o FROM generate_series(1, 3) o";
const BATCH: &str = "INSERT INTO bench.batch SELECT n, n, '\\x00', array_fill(decode(repeat('00', 32), 'hex'), ARRAY[12]), 1, n \
     FROM nextval('bench.n') n";

/// Executions a second, and the median of what one took.
struct Seen {
    rate: f64,
    p50: Duration,
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    all[all.len() / 2]
}

fn pgbench(cluster: &Cluster, statements: &[&str], clients: usize, seconds: u64) -> Seen {
    let dir = cluster.dir.join("pgbench");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("made");
    let script = match statements {
        [one] => format!("{one};\n"),
        many => format!("BEGIN;\n{};\nCOMMIT;\n", many.join(";\n")),
    };
    fs::write(dir.join("script"), script).expect("written");
    let mut pgbench = Command::new("pgbench");
    pgbench
        .current_dir(&dir)
        .arg("-h")
        .arg(&cluster.dir)
        .args(["-U", "postgres", "-n", "-M", "prepared", "-j", "2", "-l", "-f", "script"]);
    pgbench.args(["-c", &clients.to_string(), "-T", &seconds.to_string(), "d"]);
    let done = pgbench.output().expect("run");
    assert!(done.status.success(), "{done:?}");
    let logs = fs::read_dir(&dir).expect("listed").flatten();
    let logs = logs.filter(|log| log.file_name().to_string_lossy().starts_with("pgbench_log"));
    let mut took = Vec::new();
    for log in logs {
        let text = fs::read_to_string(log.path()).expect("read");
        let micros = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok());
        took.extend(micros.map(Duration::from_micros));
    }
    Seen { rate: took.len() as f64 / seconds as f64, p50: median(took) }
}

/// So many connections ask for so long; under nonces of that kind, or again and again under the same.
fn load(node: &Node, kind: &str, repeats: bool, clients: usize, seconds: u64) -> Seen {
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let took: Vec<Vec<Duration>> = thread::scope(|scope| {
        let one = |client: usize| {
            let mut connection = Client::connect(&node.address);
            let mut took = Vec::new();
            for n in 0.. {
                let n = if repeats { 0 } else { n };
                let body = format!(
                    "{{\"action\":\"echo\",\"nonce\":\"{kind}-{client}-{n}\",\"payload\":{{}}}}"
                );
                let asked = Instant::now();
                if asked > until {
                    break;
                }
                let answer = connection.exchange(&post("/execute", body.as_bytes()));
                assert_eq!(answer.status, 200, "{}", answer.text());
                took.push(asked.elapsed());
            }
            took
        };
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || one(client))).collect();
        clients.into_iter().map(|client| client.join().expect("asked")).collect()
    });
    let took = took.concat();
    Seen { rate: took.len() as f64 / began.elapsed().as_secs_f64(), p50: median(took) }
}

fn main() {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(SECONDS);
    let cluster = Cluster::new();
    cluster.sql("d", "postgres", TABLES);
    let node = Node::start_ready(&cluster, "a", &[]);
    let one_statement = format!("WITH a AS ({REC} RETURNING 1), b AS ({KEY} RETURNING 1) {BATCH}");
    let rows = [
        "pgbench, one statement, 1 client",
        "pgbench, three statements in a transaction, 1 client",
        "executions, 1 connection",
        "pgbench, one statement, 32 clients",
        "pgbench, three statements in a transaction, 32 clients",
        "executions, 32 connections",
        "replays, 32 connections",
    ];
    let mut seen: Vec<Vec<Seen>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (row, seen) in seen.iter_mut().enumerate() {
            let clients = if row < 3 { 1 } else { 32 };
            let kind = format!("{row}-{round}");
            seen.push(match row {
                0 | 3 => pgbench(&cluster, &[&one_statement], clients, seconds),
                1 | 4 => pgbench(&cluster, &[REC, KEY, BATCH], clients, seconds),
                2 | 5 => load(&node, &kind, false, clients, seconds),
                _ => load(&node, &kind, true, clients, seconds),
            });
        }
    }
    println!("| | a second | p50 ms |\n| --- | --- | --- |");
    let mut rates = Vec::new();
    for (row, seen) in rows.iter().zip(&seen) {
        let rate = median(seen.iter().map(|seen| seen.rate).collect());
        let p50 = median(seen.iter().map(|seen| seen.p50).collect()).as_secs_f64() * 1000.0;
        println!("| {row} | {rate:.0} | {p50:.2} |");
        rates.push((rate, p50));
    }
    let ratio = |a: usize, b: usize| rates[a].0 / rates[b].0;
    println!(
        "\nexecutions to pgbench's one statement, and its three: {:.2} and {:.2} at 1 connection, {:.2} and {:.2} at 32; \
         p50 at 1 connection {:.2}x and {:.2}x; replays to executions {:.2}",
        ratio(2, 0),
        ratio(2, 1),
        ratio(5, 3),
        ratio(5, 4),
        rates[2].1 / rates[0].1,
        rates[2].1 / rates[1].1,
        ratio(6, 5)
    );
    take_over(&cluster, node, seconds * FILLS);
}

/// Fills the log, and lets another node take over at some lengths of it.
fn take_over(cluster: &Cluster, mut node: Node, seconds: u64) {
    println!("\n| records | bytes | ready after | resident |\n| --- | --- | --- | --- |");
    for part in 0..4 {
        load(&node, &format!("fill-{part}"), false, 64, seconds / 4);
        let standby = Node::start(cluster, &format!("n{part}"), &[]);
        until("it stands by", || standby.log().contains("stands by"));
        let bytes = cluster.sql("d", "postgres", "SELECT pg_size_pretty(sum(pg_total_relation_size(oid))) FROM pg_class WHERE relnamespace = 'openexec'::regnamespace AND relkind = 'r'");
        let records = cluster.sql("d", "postgres", "SELECT max(size) FROM openexec.batch");
        let began = Instant::now();
        node.kill();
        until("it takes over", || standby.is_ready());
        let took = began.elapsed();
        println!(
            "| {records} | {bytes} | {:.2} s | {} KiB |",
            took.as_secs_f64(),
            resident(&standby)
        );
        node = standby;
    }
}

fn resident(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
