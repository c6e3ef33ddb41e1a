//! The service over a database, beside pgbench writing the same rows in the same run, and taking over a long log.
//!
//! `cargo bench --manifest-path postgres/Cargo.toml [-- SECONDS]`: a round takes so many seconds for each of its rows (3
//! unless said otherwise), there are three of them, and the log is filled for forty times that long. `-- long=EXECUTIONS`
//! measures nothing but taking over a log of so many, which is imported first. At 10,000,000 a log is full, and no node is ready:
//! `long=9999000` takes 20 GB below `TMPDIR`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it drives the binary from outside, and is read by people"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod long;
#[path = "../../../benches/store/unsynced.rs"]
mod unsynced;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::http::Client;
use common::{Cluster, Node, post, until};

const ROUNDS: usize = 3;
const SECONDS: u64 = 3;
const FILLS: u64 = 40;

/// What one execution of `echo` writes: two records, three keys, a batch. Nothing is looked up before, nothing is hashed,
/// locked or compared, and no HTTP stands before it: it is the least that a database can take for these rows.
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

/// The functions of a node over tables of their own. What pgbench cannot know is not compared, the size and the root before
/// and after, and is computed all the same. So its two statements are those of an execution: what it looks up, what it
/// writes, each check of the database's, and each hash.
fn mirror() -> String {
    let mut schema = include_str!("../../src/schema.sql").to_owned();
    for (known, other) in [
        ("SCHEMA openexec", "SCHEMA mirror"),
        ("openexec.", "mirror."),
        ("pg_catalog, openexec,", "pg_catalog, mirror,"),
        ("h.size <> p_size OR h.root <> p_root", "h.size < 0"),
        ("r <> p_new_root", "r IS NULL"),
    ] {
        assert!(schema.contains(known), "{known}");
        schema = schema.replace(known, other);
    }
    let first = "INSERT INTO mirror.batch (size, batch, root, frontier, session, seq) VALUES (0, 0, '', '{}', -1, 0);";
    format!("{schema}{first}")
}

const LOOK: &str = "SELECT * FROM mirror.look() LEFT JOIN mirror.find(ARRAY(SELECT decode(md5(random()::text || o), 'hex') \
     FROM generate_series(1, 2) o)) ON true";
const APPEND: &str = "SELECT mirror.append(0, nextval('bench.n'), 0, true, 0, '', \
     ARRAY(SELECT random() || repeat('x', 310) FROM generate_series(1, 2)), \
     ARRAY(SELECT decode(md5(random()::text || o), 'hex') FROM generate_series(1, 3) o), ARRAY[0, 0, 1], '', \
     '{}', '{}', NULL, '{}', '{}', '{}', '{}', '{}')";

/// Executions a second, and the median of what one took.
struct Seen {
    rate: f64,
    p50: Duration,
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    all[all.len() / 2]
}

/// Statements apart, in a transaction each.
const APART: &[&str] = &[LOOK, APPEND];

fn pgbench(cluster: &Cluster, statements: &[&str], clients: usize, seconds: u64) -> Seen {
    let dir = cluster.dir.join("pgbench");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("made");
    let script = match statements {
        apart if apart == APART => format!("{LOOK};\n{APPEND};\n"),
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
    let long = std::env::args().find_map(|word| word.strip_prefix("long=")?.parse().ok());
    if let Some(executions) = long {
        let cluster = Cluster::empty();
        long::fill(&cluster, executions);
        let node = Node::start_ready(&cluster, "a", &[]);
        return take_over(&cluster, node, |_, _| ());
    }
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(SECONDS);
    let cluster = Cluster::new();
    cluster.sql("d", "postgres", TABLES);
    cluster.sql("d", "postgres", &mirror());
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
        "pgbench, the two statements of an execution, 1 client",
    ];
    let mut seen: Vec<Vec<Seen>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (row, seen) in seen.iter_mut().enumerate() {
            let clients = if row < 3 || row == 7 { 1 } else { 32 };
            let kind = format!("{row}-{round}");
            seen.push(match row {
                0 | 3 => pgbench(&cluster, &[&one_statement], clients, seconds),
                1 | 4 => pgbench(&cluster, &[REC, KEY, BATCH], clients, seconds),
                7 => pgbench(&cluster, APART, clients, seconds),
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
        "\nexecutions to pgbench's one statement, its three, and the two of an execution: {:.2}, {:.2} and {:.2} at 1 connection, \
         {:.2} and {:.2} at 32; p50 at 1 connection {:.2}x, {:.2}x and {:.2}x; replays to executions {:.2}",
        ratio(2, 0),
        ratio(2, 1),
        ratio(2, 7),
        ratio(5, 3),
        ratio(5, 4),
        rates[2].1 / rates[0].1,
        rates[2].1 / rates[1].1,
        rates[2].1 / rates[7].1,
        ratio(6, 5)
    );
    take_over(&cluster, node, |node, part| {
        load(node, &format!("fill-{part}"), false, 64, seconds * FILLS / 4);
    });
}

/// Lets another node take over, four times, before each of which the log may grow.
fn take_over(cluster: &Cluster, mut node: Node, grow: impl Fn(&Node, u32)) {
    println!("\n| records | bytes | ready after | resident |\n| --- | --- | --- | --- |");
    for part in 0..4 {
        grow(&node, part);
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
