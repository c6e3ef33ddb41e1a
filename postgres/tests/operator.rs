//! What an operator and an auditor ask over a database: the library's commands show what they show over the same log in
//! files, and what they have recorded is there.

mod common;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::operator::{CLAWSHIELD, clawshield, lines, op, propose, run};
use common::{Cluster, Node, until};
use openexec::core::hash::hex;
use openexec::core::line::Json;
use openexec::core::receipt::exec_id;
use openexec::core::record::Claim;
use openexec::core::time::Time;
use openexec::evidence::history::{Filter, Readable, Tail, history};
use openexec::handlers::{HANDLERS, find};
use openexec::store::open::open;
use openexec::store::replay::{Observer, observe};
use openexec::store::state::State;
use openexec::store::{Batch, GEOMETRY, Store, files};
use openexec::sys::clock;
use openexec::sys::disk::Directory;
use openexec::sys::exit::{self, Failure};
use serde_json::Value;

fn backup(cluster: &Cluster, name: &str) -> PathBuf {
    let to = cluster.dir.join(name);
    let done = run(cluster, "serve", &[], &["backup", to.to_str().expect("UTF-8")]);
    assert_eq!(done.code, 0, "{}", done.err);
    to
}

/// The same log in files, read by what reads files.
struct InFiles(Directory);

impl Readable for InFiles {
    fn each(&self, observer: Observer) -> Result<(State, Tail), Failure> {
        let read = observe(&self.0, GEOMETRY, &mut |_, _| {}, observer);
        let read = read.map_err(|error| exit::data(error.to_string()))?;
        let tail = read.tail();
        Ok((read.state, tail))
    }

    fn line(&self, at: u64) -> io::Result<String> {
        files::line(&self.0, GEOMETRY, at)
    }
}

type Row = (String, String, bool, Vec<String>);

fn of_files(store: &Path, filter: &Filter) -> Vec<Row> {
    let log = InFiles(Directory::open(store).expect("opened"));
    let mut rows = Vec::new();
    let told = history(&log, filter, &mut |row| {
        rows.push((hex(&row.id), row.state.to_owned(), row.is_open, row.lines.to_vec()));
        Ok(())
    });
    told.expect("read");
    rows
}

fn of_database(cluster: &Cluster, words: &[&str]) -> Vec<Row> {
    let done = run(cluster, "op", &[], &[&["history", "--json"], words].concat());
    assert_eq!(done.code, 0, "{words:?}: {}", done.err);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let row = |row: Value| {
        let records = row["records"].as_array().expect("records").iter().map(Value::to_string);
        (text(&row["id"]), text(&row["state"]), row["open"] == true, records.collect())
    };
    lines(&done.out).into_iter().map(row).collect()
}

/// A store in files of demo mode: executions, jobs, and a claim that is owed its receipt; frozen.
fn owing() -> (Cluster, Cluster, PathBuf, String) {
    let first = Cluster::new();
    // A claim is run again only where its files are.
    let place = first.dir.join("place");
    std::fs::create_dir(&place).expect("made");
    let settings = [("OPENEXEC_FILES_DIR", place.to_str().expect("UTF-8"))];
    let node = Node::start_ready(&first, "a", &settings);
    let marker = std::fs::read_to_string(place.join(".openexec-place")).expect("a marker");
    for n in 0..20 {
        node.insist(&format!("{{\"action\":\"echo\",\"nonce\":\"n{n}\",\"payload\":{{}}}}"));
    }
    for n in 0..3 {
        node.insist(&format!(
            "{{\"action\":\"enqueue\",\"nonce\":\"j{n}\",\"payload\":{{\"queue\":\"q\",\"job\":{{}}}}}}"
        ));
    }
    drop(node);
    let store = backup(&first, "files");
    let payload = "{\"content\":\"x\",\"create_only\":true,\"path\":\"f\"}";
    let id = exec_id("write_file", "owed", payload);
    let disk = Arc::new(Directory::open(&store).expect("a directory"));
    let (mut files, _) = open(disk, GEOMETRY, &mut |_, _| {}).expect("it opens");
    let claim = Claim {
        at: clock::now(),
        id,
        action: "write_file",
        payload: Json(payload),
        nonce: "owed".into(),
        caller: None,
        effect: find(HANDLERS, "write_file").expect("registered").effect,
        approval: Json("null"),
        keys: Json("[]"),
        legacy: None,
        policy: files.state().policy.expect("a policy").number,
        place: Some(marker.trim_end()),
    };
    let mut batch = Batch::default();
    batch.push(&claim.line());
    files.append(&batch).expect("appended");
    drop(files);
    std::fs::write(store.join("FROZEN"), "why\n").expect("written");
    let cluster = Cluster::empty();
    let words = "--serve-role serve --operator-role op --worker-role work";
    let words: Vec<&str> =
        ["import", store.to_str().expect("UTF-8")].into_iter().chain(words.split(' ')).collect();
    let done = run(&cluster, "owner", &[], &words);
    assert_eq!(done.code, 0, "{}", done.err);
    // The store is in the first one's directory.
    (cluster, first, store, hex(&id))
}

#[test]
fn what_is_owed_is_shown_released_by_a_yes_alone_and_abandoned() {
    let (cluster, first, store, owed) = owing();
    let place = first.dir.join("place");
    let settings = [("OPENEXEC_FILES_DIR", place.to_str().expect("UTF-8"))];
    // Before any node was there, all that only reads is answered.
    let all = of_database(&cluster, &[]);
    assert_eq!(all.len(), 24);
    assert_eq!(all, of_files(&store, &Filter::default()));
    let begun = Time::parse("2020-01-01T00:00:00Z");
    for (words, filter) in [
        (&["--state", "stuck"][..], Filter { states: vec!["stuck".into()], ..Filter::default() }),
        (
            &["--state", "open,executing"],
            Filter { states: vec!["open".into(), "executing".into()], ..Filter::default() },
        ),
        (&["--action", "enqueue"], Filter { action: Some("enqueue".into()), ..Filter::default() }),
        (&["--since", "2020-01-01"], Filter { since: begun, ..Filter::default() }),
        (&["--until", "2020-01-01"], Filter { until: begun, ..Filter::default() }),
        (&["--caller", "nobody"], Filter { caller: Some("nobody".into()), ..Filter::default() }),
    ] {
        assert_eq!(of_database(&cluster, words), of_files(&store, &filter), "{words:?}");
    }
    let shown = lines(&op(&cluster, &["pending"]).out);
    assert_eq!((shown.len(), &shown[0]["id"]), (1, &Value::from(owed.as_str())));
    // No node: nothing is promised, and nothing is left for later.
    let alone = op(&cluster, &["abandon", &owed, "--yes"]);
    assert_eq!(alone.code, 75, "{}", alone.err);
    assert!(alone.err.contains("no node is active"), "{}", alone.err);
    assert_eq!(
        cluster.sql("d", "postgres", "SELECT count(*) FROM openexec.note WHERE name = 'REQUEST'"),
        "0"
    );

    let node = Node::start_ready(&cluster, "a", &settings);
    for words in [&["unfreeze"][..], &["abandon", &owed]] {
        let refused = op(&cluster, words);
        assert_eq!(refused.code, 64, "{words:?}: {}", refused.err);
        assert!(refused.err.contains("--yes"), "{}", refused.err);
    }
    assert_eq!(cluster.count("receipt", &owed), 0);
    assert_eq!(cluster.sql("d", "postgres", "SELECT name FROM openexec.note"), "FROZEN");
    let done = op(&cluster, &["abandon", &owed, "--yes"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(
        done.out.starts_with(&format!("abandoned: {owed} is indeterminate\nreceipt    ")),
        "{}",
        done.out
    );
    assert_eq!(cluster.count("receipt", &owed), 1);
    assert_eq!(op(&cluster, &["abandon", &owed, "--yes"]).code, 65);
    assert_eq!(op(&cluster, &["pending"]).out, "");
    // Nothing is released now, and nobody has to say yes.
    assert_eq!(op(&cluster, &["unfreeze"]).out, "unfrozen: executions go on\n");
    assert_eq!(op(&cluster, &["unfreeze"]).out, "it was not frozen\n");

    // Of that, and of a job: what became of it, once.
    let job = of_database(&cluster, &["--state", "open"])[0].0.clone();
    for (id, outcome) in [(&owed, "executed"), (&job, "failed")] {
        let words =
            ["complete", id, "--outcome", outcome, "--note", "the bank \u{202e} says so", "--yes"];
        let done = op(&cluster, &words);
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.starts_with(&format!("recorded: {id} has ")), "{}", done.out);
        let again = op(&cluster, &words);
        assert_eq!(again.code, 65, "{}", again.err);
        assert!(again.err.contains("by the operator"), "{}", again.err);
    }
    assert_eq!(cluster.count("completion", ""), 2);
    drop(node);
    let copy = backup(&cluster, "copy");
    assert_eq!(of_database(&cluster, &[]), of_files(&copy, &Filter::default()));
    let completed = Filter { states: vec!["completed".into()], ..Filter::default() };
    assert_eq!(of_database(&cluster, &["--state", "completed"]), of_files(&copy, &completed));
}

#[test]
fn what_is_pending_is_shown_and_withdrawn() {
    let (cluster, node) = clawshield();
    let ids: Vec<String> = (0..4).map(|n| propose(&node, &format!("n{n}"))).collect();
    let shown = |settings: &[(&str, &str)]| {
        let done = run(&cluster, "serve", settings, &["pending"]);
        assert_eq!(done.code, 0, "{}", done.err);
        lines(&done.out)
            .iter()
            .map(|line| line["id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), ids);
    assert_eq!(shown(&CLAWSHIELD), ids);
    for (words, code) in [
        (&["withdraw"][..], 64),
        (&["withdraw", &ids[0]], 64),
        (&["withdraw", &ids[0], "--all", "--yes"], 64),
        (&["withdraw", &ids[0][1..], "--yes"], 64),
        (&["withdraw", &"0".repeat(64), "--yes"], 65),
        (&["abandon", &ids[0], "--yes"], 65),
        (&["complete", &ids[0], "--outcome", "executed", "--note", "x", "--yes"], 65),
        (&["history", "/tmp"], 64),
        (&["history", "--state", "none"], 64),
        (&["history", "--key", "none"], 65),
        (&["pending", "x"], 64),
        (&["freeze", "--reason", "a\nb"], 64),
        (&["checkpoint"], 64),
    ] {
        let done = op(&cluster, words);
        assert_eq!(done.code, code, "{words:?}: {}", done.err);
    }
    // Who may not ask is told so, and has left nothing.
    for role in ["serve", "work"] {
        let done = run(&cluster, role, &[], &["withdraw", &ids[0], "--yes"]);
        assert_eq!(done.code, 78, "{role}: {}", done.err);
        assert!(done.err.contains("the operator's role"), "{role}: {}", done.err);
    }
    assert_eq!(run(&cluster, "work", &[], &["pending"]).code, 78);
    assert_eq!(run(&cluster, "work", &[], &["history"]).code, 78);
    assert_eq!(cluster.count("closed", ""), 0);

    let done = op(&cluster, &["withdraw", &ids[1], "--yes"]);
    assert_eq!((done.code, done.out), (0, format!("withdrawn: {}\n", ids[1])), "{}", done.err);
    assert_eq!(op(&cluster, &["withdraw", &ids[1], "--yes"]).code, 65);
    // Two operators at once: each is told the truth, and each proposal ends once.
    std::thread::scope(|scope| {
        let both =
            [&ids[0], &ids[0]].map(|id| scope.spawn(|| op(&cluster, &["withdraw", id, "--yes"])));
        let both = both.map(|ended| ended.join().expect("ended"));
        assert!(both.iter().any(|done| done.code == 0), "{} {}", both[0].err, both[1].err);
        assert!(
            both.iter().all(|done| matches!(done.code, 0 | 65)),
            "{} {}",
            both[0].err,
            both[1].err
        );
    });
    assert_eq!(op(&cluster, &["withdraw", "--all", "--yes"]).code, 0);
    assert_eq!(cluster.count("closed", "withdrawn"), 4);
    assert!(shown(&[]).is_empty());
    assert_eq!(node.echo("n1").expect("an answer").code(), "withdrawn");
    assert_eq!(of_database(&cluster, &["--state", "withdrawn"]).len(), 4);
}

#[test]
fn a_node_makes_its_checkpoint_file_of_what_no_failover_takes_away() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    node.insist("{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}");
    let file = cluster.dir.join("checkpoint");
    let settings = [("OPENEXEC_CHECKPOINT_FILE", file.to_str().expect("UTF-8"))];
    let create = |role: &str, settings: &[(&str, &str)]| {
        run(&cluster, role, settings, &["checkpoint", "--create"])
    };
    assert_eq!(create("serve", &[]).code, 78);
    assert_eq!(create("op", &settings).code, 78);
    let other = [settings.as_slice(), &CLAWSHIELD].concat();
    assert_eq!(create("serve", &other).code, 78);
    assert!(!file.exists());
    // What waits for a standby is no record yet.
    cluster.set_standbys("s1");
    let waits = create("serve", &settings);
    assert_eq!(waits.code, 74, "{}", waits.err);
    assert!(!file.exists());
    cluster.set_standbys("");
    until("it serves again", || node.is_ready());
    let done = create("serve", &settings);
    assert_eq!(done.code, 0, "{}", done.err);
    let size = cluster.sql("d", "postgres", "SELECT max(size) FROM openexec.batch");
    assert_eq!(done.out, format!("made {}: {size} records\n", file.display()));
    let text = std::fs::read_to_string(&file).expect("read");
    assert_eq!(text.lines().nth(1), Some(size.as_str()), "{text}");
    assert_eq!(create("serve", &settings).code, 65, "it is there");
    drop(node);
    let node = Node::start_ready(&cluster, "b", &settings);
    node.insist("{\"action\":\"echo\",\"nonce\":\"m\",\"payload\":{}}");
}

/// `check` ends as a start would, beside a node that serves: by the mode, and by what the checkpoint file says of the log.
#[test]
fn a_check_finds_what_a_start_would() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    node.insist("{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}");
    let file = cluster.dir.join("checkpoint");
    let settings = [("OPENEXEC_CHECKPOINT_FILE", file.to_str().expect("UTF-8"))];
    let check = |settings: &[(&str, &str)]| run(&cluster, "serve", settings, &["check"]);
    assert_eq!(check(&[]).code, 0);
    assert_eq!(check(&settings).code, 78, "there is no such file");
    assert_eq!(run(&cluster, "serve", &settings, &["checkpoint", "--create"]).code, 0);
    node.insist("{\"action\":\"echo\",\"nonce\":\"m\",\"payload\":{}}");
    let done = check(&settings);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(
        done.out.contains("checkpoint file: ") && done.out.contains("extended"),
        "{}",
        done.out
    );
    let done = check(&CLAWSHIELD);
    assert_eq!(done.code, 78, "{}", done.out);
    assert!(done.err.contains("was made for demo mode"), "{}", done.err);
    let text = std::fs::read_to_string(&file).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (size, root, says) in [
        ("9999", lines[2], "fewer than"),
        (lines[1], root, "are not those"),
        (lines[1], "x", "damaged"),
    ] {
        std::fs::write(&file, format!("{}\n{size}\n{root}\n", lines[0])).expect("written");
        let done = check(&settings);
        assert_eq!(done.code, 65, "{says}: {}", done.out);
        assert!(done.err.contains(says), "{says}: {}", done.err);
    }
    drop(node);
    let done = cluster.command("serve", &["serve"]).envs(settings).output().expect("run");
    assert_eq!(done.status.code(), Some(65), "a start says the same");
}

#[test]
fn a_node_is_asked_for_its_health_where_it_runs() {
    let cluster = Cluster::new();
    let health = |name: &str| {
        let directory = cluster.dir.join(format!("run-{name}"));
        run(
            &cluster,
            "serve",
            &[("RUNTIME_DIRECTORY", directory.to_str().expect("UTF-8"))],
            &["healthcheck"],
        )
    };
    assert_eq!(health("nowhere").code, 74);
    let mut node = Node::start_ready(&cluster, "a", &[]);
    let next = Node::start(&cluster, "b", &[]);
    for name in ["a", "b"] {
        let done = health(name);
        assert_eq!(done.code, 0, "{name}: {}", done.err);
    }
    // What a process that was killed has left there is no node.
    node.kill();
    assert_eq!(health("a").code, 74);
    drop(next);
    assert_eq!(health("b").code, 74);
}
