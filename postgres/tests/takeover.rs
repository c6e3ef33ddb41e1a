//! Taking over: as much is read and held of a long log as of a short one, and everything goes on as it was.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use common::http::Client;
use common::proxy::Proxy;
use common::{Cluster, Node, post};
use openexec::core::base64;
use openexec::core::hash::{hex, sha256};
use openexec::evidence::log::FileLog;
use openexec::evidence::path;
use openexec::serve::opening::replay;
use openexec::store::GEOMETRY;
use openexec::sys::disk::Directory;
use serde_json::{Value, json};

/// Connections that ask at once.
const CLIENTS: usize = 32;

/// So many executions under nonces of that kind.
fn fill(node: &Node, kind: &str, count: usize) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let address = &node.address;
            scope.spawn(move || {
                let mut connection = Client::connect(address);
                for n in 0..count / CLIENTS {
                    let body = format!(
                        "{{\"action\":\"echo\",\"nonce\":\"{kind}-{client}-{n}\",\"payload\":{{}}}}"
                    );
                    let answer = connection.exchange(&post("/execute", body.as_bytes()));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
}

/// Kibibytes that a process holds.
fn resident(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn metric(node: &Node, name: &str) -> String {
    let text = node.try_get("/metrics").expect("an answer").text();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
}

/// With a log key and a checkpoint file, which every node here shares.
fn settings(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let path = |name: &str| cluster.dir.join(name).display().to_string();
    // The seed of RFC 8032, test 1.
    let key = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
               -----END PRIVATE KEY-----\n";
    fs::write(path("log.pem"), key).expect("written");
    fs::set_permissions(path("log.pem"), fs::Permissions::from_mode(0o600)).expect("set");
    vec![
        ("OPENEXEC_LOG_KEY_FILE", path("log.pem")),
        ("OPENEXEC_LOG_ORIGIN", "example.org/log".to_owned()),
        ("OPENEXEC_CHECKPOINT_FILE", path("CHECKPOINT")),
    ]
}

fn borrowed<'a>(settings: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn a_long_log_is_taken_over_as_a_short_one() {
    let cluster = Cluster::empty();
    let settings = settings(&cluster);
    cluster.init(&borrowed(&settings));
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("serve", &proxy.dir);
    let through = [&borrowed(&settings)[..], &[("OPENEXEC_DB_URL", &url)]].concat();
    let mut node = Node::start_ready(&cluster, "a", &borrowed(&settings));
    let job = |queue: &str| {
        format!(
            "{{\"action\":\"enqueue\",\"nonce\":\"{queue}\",\"payload\":{{\"queue\":\"{queue}\",\"job\":{{}}}}}}"
        )
    };
    node.insist(&job("first"));
    node.insist(&job("second"));
    let mut seen = Vec::new();
    for (round, count) in [3_200, 3_200, 32_000].into_iter().enumerate() {
        fill(&node, &format!("r{round}"), count);
        let kept = ["openexec_open_jobs", "openexec_pending_proposals"];
        let known = kept.map(|name| metric(&node, name));
        let last = node.insist(&format!(
            "{{\"action\":\"echo\",\"nonce\":\"last-{round}\",\"payload\":{{}}}}"
        ));
        node.kill();
        let before = proxy.answered();
        node = Node::start_ready(&cluster, &format!("n{round}"), &through);
        seen.push((proxy.answered() - before, resident(&node)));
        assert_eq!(kept.map(|name| metric(&node, name)), known);
        let again = node.insist(&format!(
            "{{\"action\":\"echo\",\"nonce\":\"last-{round}\",\"payload\":{{}}}}"
        ));
        assert_eq!((again.header("idempotent-replayed").is_some(), again.body), (true, last.body));
    }
    let lines = cluster.sql("d", "postgres", "SELECT sum(length(line)) FROM openexec.rec");
    let bytes: u64 = lines.parse().expect("a number");
    assert!(bytes > 18 * 1024 * 1024, "{bytes}");
    // Some 4,096 records of 330 bytes and what a row takes beside, and the rest of a start.
    for (read, _) in &seen {
        assert!(*read < 3 * 1024 * 1024, "{seen:?}");
    }
    assert!(seen[2].1 < seen[1].1 + 8 * 1024, "{seen:?}");
    assert!(metric(&node, "openexec_open_jobs").ends_with(" 2"));
    proofs_are_those_of_files(&cluster, &node);
}

/// At every size that shows something, and some others, with a node that never saw those records.
fn proofs_are_those_of_files(cluster: &Cluster, node: &Node) {
    let to = cluster.dir.join("copy");
    let done = cluster.command("serve", &["backup", to.to_str().expect("UTF-8")]).output();
    assert!(done.expect("run").status.success());
    let directory = Arc::new(Directory::open(&to).expect("opened"));
    let read = replay(directory.as_ref(), GEOMETRY, &mut |_, _| {}).expect("a store");
    let files = FileLog::new(directory, GEOMETRY, read.blocks.clone());
    let size = read.tree.size();
    let mut sizes = vec![1, 2, 255, 256, 257, 511, 512, 65_536, 65_537, size - 1, size];
    let mut random = 1u64;
    sizes.extend((0..40).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        1 + (random >> 33) % size
    }));
    for from in sizes {
        let answer = node.try_get(&format!("/log/consistency?from={from}")).expect("an answer");
        let proof = answer.json();
        let hashes: Vec<String> = path::consistency(&files, from, size)
            .expect("read")
            .iter()
            .map(|hash| base64::encode(hash))
            .collect();
        assert_eq!((&proof["size"], &proof["hashes"]), (&json!(size), &json!(hashes)), "{from}");
    }
}

/// Of three callers.
fn callers(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let name = |name: &str| format!("openexec_{}", hex(&sha256(&[name.as_bytes()])));
    let caller = |who: &str| json!({"name": who, "token_sha256": hex(&sha256(&[name(who).as_bytes()])), "may": ["propose", "read"]});
    let file = json!({"callers": [caller("agent 7"), caller("b"), caller("c")]}).to_string();
    let path = cluster.dir.join("callers.json");
    fs::write(&path, file).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    // RFC 8032, test 1.
    let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let settings = [
        ("OPENEXEC_MODE", "clawshield".to_owned()),
        ("CLAWSHIELD_TENANT_ID", "t".to_owned()),
        ("CLAWSHIELD_PUBLIC_KEY", key.to_owned()),
        ("OPENEXEC_CALLERS_FILE", path.display().to_string()),
    ];
    settings.to_vec()
}

fn asked(node: &Node, who: &str, method: &str, path: &str, body: &str) -> common::Answer {
    let token = format!("openexec_{}", hex(&sha256(&[who.as_bytes()])));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    common::try_exchange(&node.address, request.as_bytes()).expect("an answer")
}

/// Every page of every list, and what is said of each proposal.
fn lists(node: &Node, ids: &[String]) -> Vec<Value> {
    let mut all = Vec::new();
    for state in ["pending", "executed", "withdrawn", "refused", "expired", "rejected", "executing"]
    {
        let mut path = format!("/proposals?state={state}");
        loop {
            let page = asked(node, "b", "GET", &path, "");
            assert_eq!(page.status, 200, "{path}: {}", page.text());
            let page = page.json();
            let next = page["next"].as_str().map(str::to_owned);
            all.push(page);
            match next {
                Some(next) => path = format!("/proposals?state={state}&after={next}"),
                None => break,
            }
        }
    }
    all.extend(
        ids.iter().map(|id| asked(node, "b", "GET", &format!("/proposals/{id}"), "").json()),
    );
    all
}

/// A start from a snapshot or records that somebody has changed ends with 65, and from the right ones goes on.
fn what_is_none_of_ours_is_refused(cluster: &Cluster, settings: &[(&str, &str)], mut node: Node) {
    node.kill();
    let newest = "(SELECT max(size) - 1 FROM openexec.batch)";
    let change = |table: &str, of: &str| format!("UPDATE openexec.{table} SET {of}");
    let text = |of: &str| change("snapshot", &format!("text = {of}"));
    let tail = |of: &str| change("rec", &format!("line = {of} WHERE n = {newest}"));
    let wrong = [
        ("no known form", text("''")),
        ("no known form", text("replace(text, 'pending', 'other')")),
        ("is missing", text("text || E'\\nowed 999999999 0'")),
        ("a claim where there is none", text("text || E'\\nowed 0 0'")),
        (
            "a proposal where there is none",
            text("regexp_replace(text, 'pending [0-9]*', 'pending 1')"),
        ),
        ("of another size", text("regexp_replace(text, '^1 [0-9]*', '1 7')")),
        ("no batch that there is", change("snapshot", "size = size + 100000")),
        (
            "no batch that there is",
            change(
                "batch",
                "frontier = frontier[2:] WHERE size = (SELECT size FROM openexec.snapshot)",
            ),
        ),
        ("not those of the newest batch's root", tail("replace(line, 'withdrawn', 'expired')")),
        ("is of no known form", tail("'x'")),
    ];
    for (why, sql) in wrong {
        let kept = "CREATE TABLE public.kept AS SELECT * FROM openexec";
        for table in ["snapshot", "batch", "rec"] {
            cluster.sql(
                "d",
                "postgres",
                &kept
                    .replace("kept", &format!("kept_{table}"))
                    .replace("openexec", &format!("openexec.{table}")),
            );
        }
        cluster.sql("d", "postgres", &sql);
        let done = cluster.command("serve", &[]).envs(settings.iter().copied()).output();
        let done = done.expect("run");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(65) && said.contains(why), "{sql}: {done:?}");
        for table in ["snapshot", "batch", "rec"] {
            let back = format!(
                "DELETE FROM openexec.{table}; INSERT INTO openexec.{table} SELECT * FROM public.kept_{table}; DROP TABLE public.kept_{table}"
            );
            cluster.sql("d", "postgres", &back);
        }
    }
}

#[test]
fn every_list_and_proposal_is_as_before() {
    let cluster = Cluster::empty();
    let callers = callers(&cluster);
    let settings = borrowed(&callers);
    cluster.init(&settings);
    let mut node = Node::start_ready(&cluster, "a", &settings);
    let mut ids = Vec::new();
    let propose = |node: &Node, ids: &mut Vec<String>, who: &str, nonce: &str| {
        let body = format!(
            "{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{\"n\":\"{}\"}}}}",
            nonce.len()
        );
        let answer = asked(node, who, "POST", "/execute", &body);
        assert_eq!(answer.code(), "approval_missing", "{}", answer.text());
        ids.push(answer.json()["id"].as_str().expect("an id").to_owned());
    };
    // One has much, another little, and most of what a third had is over; more than a page and more than a snapshot.
    for n in 0..150 {
        propose(&node, &mut ids, "agent 7", &format!("a{n}"));
        if n % 10 == 0 {
            propose(&node, &mut ids, "b", &format!("b{n}"));
        }
        propose(&node, &mut ids, "c", &format!("c{n}"));
        if n % 5 != 0 {
            let id = ids.last().expect("one");
            let ended = asked(&node, "c", "DELETE", &format!("/proposals/{id}"), "");
            assert_eq!(ended.status, 200, "{}", ended.text());
        }
    }
    let before = lists(&node, &ids);
    assert!(before.len() > ids.len() + 7, "{}", before.len());
    // By a node that reads every record.
    let snapshots = || cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.snapshot");
    assert_eq!(snapshots(), "0");
    node.kill();
    let mut node = Node::start_ready(&cluster, "b", &settings);
    assert_eq!(lists(&node, &ids), before);
    // By one that reads a snapshot, which is due after so many bytes too.
    let large = "x".repeat(1_000_000);
    for n in 0..20 {
        let body = format!(
            "{{\"action\":\"echo\",\"nonce\":\"l{n}\",\"payload\":{{\"of\":\"{large}\"}}}}"
        );
        let answer = asked(&node, "b", "POST", "/execute", &body);
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let ended = asked(&node, "b", "DELETE", &format!("/proposals/{id}"), "");
        assert_eq!(ended.status, 200, "{}", ended.text());
    }
    assert_eq!(snapshots(), "1");
    let after = lists(&node, &ids);
    assert_eq!(after[..2], before[..2]);
    node.kill();
    let node = Node::start_ready(&cluster, "c", &settings);
    assert_eq!(lists(&node, &ids), after);
    what_is_none_of_ours_is_refused(&cluster, &settings, node);
    let node = Node::start_ready(&cluster, "d", &settings);
    assert_eq!(lists(&node, &ids), after);
    // Whose turn it is next is known too.
    propose(&node, &mut ids, "c", "next");
    let page = asked(&node, "b", "GET", "/proposals?state=pending", "").json();
    assert_eq!(page["proposals"][0], before[0]["proposals"][0]);
}
