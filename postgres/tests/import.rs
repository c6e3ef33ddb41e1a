//! A store in files goes into a database once, whole, and with its root; wherever that is cut short there is nothing.

#![allow(clippy::disallowed_types, reason = "it starts the program")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::operator::CLAWSHIELD;
use common::proxy::{After, Proxy, Then};
use common::{Cluster, Node, until};
use openexec::core::base64;
use openexec::core::hash::{hex, sha256};
use openexec::serve::opening::replay;
use openexec::store::GEOMETRY;
use openexec::sys::clock;
use openexec::sys::disk::Directory;
use serde_json::{Value, json};

/// A store in files, of what that node has.
fn written(cluster: &Cluster) -> PathBuf {
    let to = cluster.dir.join("files");
    let done =
        cluster.command("serve", &["backup", to.to_str().expect("UTF-8")]).output().expect("run");
    assert!(done.status.success(), "{done:?}");
    to
}

fn import(cluster: &Cluster, from: &Path, url: &str, settings: &[(&str, &str)]) -> Output {
    let words =
        ["import", from.to_str().expect("UTF-8"), "--serve-role", "serve", "--operator-role", "op"];
    let mut command = cluster.command("owner", &words);
    command.env("OPENEXEC_DB_URL", url).envs(settings.iter().copied()).output().expect("run")
}

fn text(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned()
}

fn root(path: &Path) -> (u64, [u8; 32]) {
    let directory = Directory::open(path).expect("opened");
    let head = replay(&directory, GEOMETRY, &mut |_, _| {}).expect("a whole store").tree.head();
    (head.size, head.root)
}

fn is_there(cluster: &Cluster) -> bool {
    cluster.sql("d", "postgres", "SELECT to_regnamespace('openexec') IS NOT NULL") == "t"
}

#[test]
fn it_is_imported_once_and_goes_on_as_if_it_had_always_been_there() {
    let first = Cluster::new();
    let node = Node::start_ready(&first, "a", &[]);
    let echo =
        |n: u32| format!("{{\"action\":\"echo\",\"nonce\":\"n{n}\",\"payload\":{{\"of\":{n}}}}}");
    let answers: Vec<_> = (0..40).map(|n| node.insist(&echo(n)).json()).collect();
    let job = "{\"action\":\"enqueue\",\"nonce\":\"job\",\"payload\":{\"queue\":\"q\",\"job\":{}}}";
    let job = node.insist(job).json();
    drop(node);
    let files = written(&first);
    let head = root(&files);

    let cluster = Cluster::empty();
    let url = cluster.url("owner", &cluster.dir);
    // One that another process has, that is of another mode, damaged, none, or has a request of an operator.
    let held = Directory::open(&files).expect("opened");
    held.lock(true).expect("locked");
    let done = import(&cluster, &files, &url, &[]);
    assert_eq!(done.status.code(), Some(75), "{}", text(&done));
    drop(held);
    assert_eq!(import(&cluster, &files, &url, &CLAWSHIELD).status.code(), Some(78));
    assert_ne!(import(&cluster, &cluster.dir, &url, &[]).status.code(), Some(0));
    fs::write(files.join("REQUEST"), "").expect("written");
    assert_eq!(import(&cluster, &files, &url, &[]).status.code(), Some(65));
    fs::remove_file(files.join("REQUEST")).expect("removed");
    let segment = fs::read_dir(&files).expect("listed").flatten().map(|entry| entry.path());
    let segment = segment
        .filter(|path| fs::metadata(path).is_ok_and(|it| it.len() == GEOMETRY.segment_bytes))
        .min();
    let segment = segment.expect("a segment");
    let whole = fs::read(&segment).expect("read");
    let mut damaged = whole.clone();
    let at = whole.windows(4).position(|window| window == b"\"n7\"").expect("a nonce");
    damaged[at + 2] = b'8';
    fs::write(&segment, &damaged).expect("written");
    assert_eq!(import(&cluster, &files, &url, &[]).status.code(), Some(65));
    fs::write(&segment, &whole).expect("written");
    assert!(!is_there(&cluster));
    assert!(!files.join("FROZEN").exists());

    let done = import(&cluster, &files, &url, &[]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(files.join("FROZEN").exists(), "no service of files goes on with it");
    let again = import(&cluster, &files, &url, &[]);
    assert_eq!(again.status.code(), Some(78), "{}", text(&again));
    // Before a node has written: the same batches, the same root.
    let copy = written(&cluster);
    assert_eq!(root(&copy), head);
    let node = Node::start_ready(&cluster, "b", &[]);
    for (n, answer) in (0..).zip(&answers) {
        let again = node.insist(&echo(n));
        assert_eq!((&again.json(), again.header("idempotent-replayed").is_some()), (answer, true));
    }
    assert_eq!(cluster.count("claim", ""), 41);
    // Its job was left elsewhere; that it is open is known.
    assert_eq!(cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.job"), "0");
    let followed = node
        .try_get(&format!("/proposals/{}", job["id"].as_str().expect("an id")))
        .expect("an answer");
    assert_eq!(followed.status, 200, "{}", followed.text());
    assert!(node.try_get("/metrics").expect("an answer").text().contains("openexec_open_jobs 1"));
    node.insist(&echo(1000));
}

#[test]
fn a_stop_and_what_is_pending_go_on() {
    let first = Cluster::empty();
    first.init(&CLAWSHIELD);
    let node = Node::start_ready(&first, "a", &CLAWSHIELD);
    let body = "{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}";
    let asked = node.execute(body).expect("an answer");
    let id = asked.json()["id"].as_str().expect("an id").to_owned();
    let pending = |node: &Node| {
        node.try_get(&format!("/proposals/{id}")).expect("an answer").json()["state"].clone()
    };
    assert_eq!(pending(&node), "pending");
    drop(node);
    let files = written(&first);
    fs::write(files.join("FROZEN"), "why\n").expect("written");
    let cluster = Cluster::empty();
    let done = import(&cluster, &files, &cluster.url("owner", &cluster.dir), &CLAWSHIELD);
    assert!(done.status.success(), "{}", text(&done));
    let node = Node::start_ready(&cluster, "b", &CLAWSHIELD);
    assert_eq!(pending(&node), "pending");
    until("the stop is recorded", || cluster.count("freeze", "why") == 1);
    assert_eq!(cluster.count("proposal", ""), 1);
}

/// Signed by the key of [`CLAWSHIELD`] as docs/approvals.md does it, for ten minutes.
fn approval(cluster: &Cluster, number: u32, action: &str) -> Value {
    // RFC 8032, test 1.
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    let [pem, message] = ["key.pem", "message"].map(|name| cluster.dir.join(name));
    let fields = [
        format!("3f0d6f0a-6d0c-4b7e-9a55-{number:012x}"),
        "t".to_owned(),
        hex(&sha256(&[action.as_bytes()])),
        clock::now().to_string(),
        clock::now().plus_seconds(600).to_string(),
    ];
    fs::write(&pem, key).and_then(|()| fs::write(&message, fields.concat())).expect("written");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-sign", "-rawin", "-inkey"]).arg(&pem).arg("-in").arg(&message);
    let signature = base64::encode(&openssl.output().expect("run").stdout);
    let [approval_id, tenant_id, action_hash, issued_at, expires_at] = fields;
    json!({"approval_id": approval_id, "tenant_id": tenant_id, "action_hash": action_hash,
           "issued_at": issued_at, "expires_at": expires_at, "signature": signature})
}

#[test]
fn approvals_that_were_spent_stay_spent() {
    let first = Cluster::empty();
    first.init(&CLAWSHIELD);
    let node = Node::start_ready(&first, "a", &CLAWSHIELD);
    let approvals: Vec<_> = (0..4)
        .map(|n| {
            let action = format!("{{\"action\":\"echo\",\"payload\":{{\"of\":{n}}}}}");
            approval(&first, n, &action)
        })
        .collect();
    let body = |nonce: &str, of: usize| {
        json!({"action": "echo", "nonce": nonce, "payload": {"of": of}, "approval_artifact": approvals[of]})
            .to_string()
    };
    // One for what was a proposal before.
    let proposed = "{\"action\":\"echo\",\"nonce\":\"n2\",\"payload\":{\"of\":2}}";
    assert_eq!(node.execute(proposed).expect("an answer").code(), "approval_missing");
    let answers: Vec<_> = (0..3).map(|n| node.insist(&body(&format!("n{n}"), n)).json()).collect();
    drop(node);
    let files = written(&first);
    let head = root(&files);

    let cluster = Cluster::empty();
    let done = import(&cluster, &files, &cluster.url("owner", &cluster.dir), &CLAWSHIELD);
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(root(&written(&cluster)), head);
    let node = Node::start_ready(&cluster, "b", &CLAWSHIELD);
    for (n, answer) in answers.iter().enumerate() {
        let refused = node.execute(&body(&format!("other{n}"), n)).expect("an answer");
        let said = (refused.status, refused.code());
        assert_eq!(said, (403, "approval_already_used".to_owned()), "{}", refused.text());
        let again = node.insist(&body(&format!("n{n}"), n));
        assert_eq!((&again.json(), again.header("idempotent-replayed").is_some()), (answer, true));
    }
    assert_eq!(cluster.count("claim", ""), 3);
    node.insist(&body("n3", 3));
}

/// While a long store is judged the server ends the session, which is idle: here at once, behind the last answer before.
#[test]
fn an_import_outlives_the_session_that_it_began_with() {
    let first = Cluster::new();
    let files = written(&first);
    let cluster = Cluster::empty();
    let proxy = Proxy::new(&cluster.dir);
    proxy.arm_after(b"server_encoding", After::Answer, Then::Stop);
    let done = std::thread::scope(|scope| {
        let url = cluster.url("owner", &proxy.dir);
        let (cluster, files) = (&cluster, &files);
        let imported = scope.spawn(move || import(cluster, files, &url, &[]));
        until("the answer is on its way", || proxy.is_done());
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'";
        assert_eq!(cluster.sql("d", "postgres", end), "t");
        cluster.until_sessions("the session is over", 0, "usename = 'owner'");
        proxy.go_on();
        imported.join().expect("imported")
    });
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(root(&written(&cluster)), root(&files));
}

/// Its connection is cut at each of some messages, up to the commit and behind it.
#[test]
fn wherever_an_import_is_cut_there_is_all_of_the_log_or_none() {
    let first = Cluster::new();
    let node = Node::start_ready(&first, "a", &[]);
    for n in 0..5 {
        node.insist(&format!("{{\"action\":\"echo\",\"nonce\":\"n{n}\",\"payload\":{{}}}}"));
    }
    drop(node);
    let files = written(&first);
    let head = root(&files);
    let cluster = Cluster::empty();
    let proxy = Proxy::new(&cluster.dir);
    let url = cluster.url("owner", &proxy.dir);
    let (mut cuts, mut at) = (0, 1);
    loop {
        proxy.arm(at, Then::Cut);
        let done = import(&cluster, &files, &url, &[]);
        let was_cut = proxy.is_done();
        proxy.disarm();
        until("nobody is at it any more", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'openexec'";
            cluster.sql("d", "postgres", sql) == "0"
        });
        assert_eq!(done.status.success(), !was_cut, "{at}: {}", text(&done));
        cuts += 1;
        if is_there(&cluster) {
            break;
        }
        at += 11;
    }
    assert!(cuts > 10, "{cuts}");
    let size = cluster.sql("d", "postgres", "SELECT max(size) FROM openexec.batch");
    assert_eq!(size, head.0.to_string());
    assert_eq!(root(&written(&cluster)), head);
}
