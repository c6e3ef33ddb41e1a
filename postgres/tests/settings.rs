//! What a guarantee rests on is set by us: no setting of a role, of the database or of the server's files takes it away.

#![allow(clippy::disallowed_types, reason = "it starts psql with settings of its own")]

mod common;

use std::process::{Command, Output};

use common::{Cluster, Node, until};

/// Everything that a role, the database or a file could be set to and that has to do with us.
const SETTINGS: &str = "
    synchronous_commit off
    client_min_messages error
    standard_conforming_strings off
    default_transaction_isolation 'repeatable read'
    default_transaction_deferrable on
    search_path pg_temp
    session_replication_role replica
    row_security off
    default_tablespace nope
    DateStyle German
    intervalstyle sql_standard
    timezone 'Asia/Kolkata'
    client_encoding LATIN1
    bytea_output escape
    extra_float_digits '-15'
    array_nulls off
    transform_null_equals on
    quote_all_identifiers on
    xmlbinary hex
    check_function_bodies off
    plpgsql.variable_conflict use_column
    plpgsql.extra_errors 'all'
    lock_timeout 1
    idle_in_transaction_session_timeout 1
    jit on
    enable_indexscan off
    work_mem 64";

fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.trim().lines().map(|line| line.trim().split_once(' ').expect("a name and a value"))
}

/// All of it by one such statement each, of a place where settings stand.
fn set(cluster: &Cluster, place: &str) {
    for (name, value) in settings() {
        // A file with a tablespace that is not there, or a word of a library that is not loaded, is not taken.
        let is_of_sessions = name == "default_tablespace" || name.starts_with("plpgsql.");
        if place == "ALTER SYSTEM" && is_of_sessions {
            continue;
        }
        let load = if is_of_sessions { "LOAD 'plpgsql'; " } else { "" };
        cluster.sql("postgres", "postgres", &format!("{load}{place} SET {name} = {value}"));
    }
}

fn job(nonce: &str) -> String {
    format!(
        "{{\"action\":\"enqueue\",\"nonce\":\"{nonce}\",\"payload\":{{\"queue\":\"q\",\"job\":{{\"x\":\"é€\\\\\"}}}}}}"
    )
}

/// The node executes, and workers and operators do what they do.
fn is_as_ever(cluster: &Cluster, node: &Node, nonce: &str) {
    let answer = node.execute(&job(nonce)).expect("an answer");
    assert_eq!(answer.status, 200, "{}: {}", answer.text(), node.log());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let by = |words: &[&str]| {
        let done = cluster.command("op", words).output().expect("run");
        let text = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(text).expect("UTF-8"))
    };
    let work = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT id FROM openexec.take('q'); COMMIT";
    assert_eq!(cluster.sql("d", "work", work), id);
    let (code, text) = by(&["jobs"]);
    assert!(code == Some(0) && text.contains(&id), "{text}");
    assert_eq!(by(&["release", &id]), (Some(0), "released: it waits in its queue again\n".into()));
    assert_eq!(cluster.sql("d", "work", work), id);
    assert_eq!(by(&["freeze"]), (Some(0), "frozen\n".into()));
    let refused = node.echo("frozen").map(|answer| answer.status);
    assert_eq!(refused, Some(503), "{}", node.log());
    assert_eq!(by(&["unfreeze"]), (Some(0), "unfrozen: executions go on\n".into()));
    until("it is unfrozen", || {
        node.echo(&format!("{nonce}-after")).is_some_and(|answer| answer.status == 200)
    });
    assert!(cluster.command("serve", &["check"]).status().expect("run").success());
}

#[test]
fn no_place_of_settings_changes_what_a_node_does() {
    let cluster = Cluster::new();
    let running = Node::start_ready(&cluster, "file", &[]);
    set(&cluster, "ALTER SYSTEM");
    cluster.sql("d", "postgres", "SELECT pg_reload_conf()");
    until("a file's settings hold", || {
        cluster.sql("d", "postgres", "SHOW client_min_messages") == "error"
    });
    is_as_ever(&cluster, &running, "file");
    drop(running);
    cluster.sql("postgres", "postgres", "ALTER SYSTEM RESET ALL");
    cluster.sql("postgres", "postgres", "SELECT pg_reload_conf()");
    set(&cluster, "ALTER DATABASE d");
    let node = Node::start_ready(&cluster, "database", &[]);
    is_as_ever(&cluster, &node, "database");
    drop(node);
    cluster.sql("postgres", "postgres", "ALTER DATABASE d RESET ALL");
    for role in ["serve", "op"] {
        set(&cluster, &format!("ALTER ROLE {role}"));
        cluster.sql("postgres", "postgres", &format!("ALTER ROLE {role} SET role = pg_monitor"));
    }
    let node = Node::start_ready(&cluster, "role", &[]);
    is_as_ever(&cluster, &node, "role");
}

/// A dump can be restored into a database that refuses some letters: one request with such a letter would be of unknown
/// outcome, and hold up all others.
#[test]
fn a_log_in_a_database_of_another_encoding_is_not_served() {
    let cluster = Cluster::new();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let made = format!(
            "CREATE DATABASE other ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        cluster.sql("postgres", "postgres", &made);
        let moved = "pg_dump -h \"$0\" -U postgres d | psql -qX -v ON_ERROR_STOP=1 -h \"$0\" -U postgres other";
        let moved = Command::new("sh").args(["-c", moved]).arg(&cluster.dir).status().expect("run");
        assert!(moved.success(), "{encoding}");
        for word in ["check", "serve"] {
            let url = format!("postgresql://serve@/other?host={}", cluster.dir.display());
            let done = cluster.command("serve", &[word]).env("OPENEXEC_DB_URL", url).output();
            let done = done.expect("run");
            let text = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(78), "{encoding}, {word}: {text}");
            assert!(text.contains("otherwise than as UTF-8"), "{text}");
        }
        cluster.sql("postgres", "postgres", "DROP DATABASE other");
    }
}

/// The functions that write, and a call of each that may do nothing.
const CALLS: [(&str, &str, &str); 11] = [
    ("serve", "fence", "'\\x00', NULL"),
    (
        "serve",
        "append",
        "0, 0, 0, true, 0, '', '{}', '{}', '{}', '', '{}', '{}', NULL, '{}', '{}', '{}', '{}', '{}'",
    ),
    ("serve", "remove_note", "0, 'x', 0"),
    ("serve", "reported", "0, '{}', '{}', '{}'"),
    ("op", "freeze", "''"),
    ("op", "unfreeze", ""),
    ("op", "release", "''"),
    ("op", "request", "''"),
    ("op", "take_back", "0"),
    ("work", "take", "'q'"),
    ("work", "complete", "'q', ID, 'executed', '{}'"),
];

fn asked(cluster: &Cluster, role: &str, text: &str) -> Output {
    let mut psql = Command::new("psql");
    psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", role, "-c", text, "-h"]);
    psql.env("PGOPTIONS", "-c client_min_messages=error -c synchronous_commit=off");
    psql.arg(&cluster.dir).arg("d").output().expect("run")
}

/// Of a commit that no standby has the server tells by a WARNING alone, and only where it was made to wait for one.
#[test]
fn each_function_that_writes_sees_to_it_that_its_commit_waits_and_is_warned_of() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    let ids: Vec<String> = (0..2)
        .map(|n| node.insist(&job(&format!("n{n}"))).json()["id"].as_str().expect("").to_owned())
        .collect();
    drop(node);
    assert_eq!(
        cluster.sql("d", "work", "SELECT id FROM openexec.take('q') WHERE id IS NOT NULL"),
        ids[0]
    );
    let written = "SELECT proname FROM pg_proc WHERE pronamespace = 'openexec'::regnamespace AND provolatile = 'v' \
                   AND proname NOT IN ('look', 'begins') ORDER BY 1";
    let mut names = CALLS.map(|(_, name, _)| name);
    names.sort_unstable();
    let written = cluster.sql("d", "postgres", written);
    assert_eq!(written.lines().collect::<Vec<_>>(), names);
    for (role, name, parameters) in CALLS {
        let parameters = parameters.replace("ID", &format!("'{}'", ids[0]));
        let call = format!("SELECT openexec.{name}({parameters})");
        let holds = "SELECT current_setting('client_min_messages') || current_setting('synchronous_commit')";
        let done = asked(&cluster, role, &format!("BEGIN; {call}; {holds}; ROLLBACK"));
        let text = String::from_utf8(done.stdout).expect("UTF-8");
        assert!(done.status.success(), "{name}: {:?}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(text.lines().last(), Some("warningon"), "{name}: {text}");
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            let done = asked(&cluster, role, &format!("BEGIN ISOLATION LEVEL {level}; {call}"));
            let text = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(!done.status.success() && text.contains("READ COMMITTED"), "{name}: {text}");
        }
    }
    assert!(!asked(&cluster, "work", "SELECT openexec.begins()").status.success());
}
