//! The clock of the real binary: what it says, and when nothing can be executed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::process::Command;
use std::sync::Arc;

use common::approvals::{Minted, borrowed, settings};
use common::{Answer, Ended, Scratch, Server, cli, in_files, private_file, until};
use openexec::core::line::Json;
use openexec::core::record::{Identity, Mode, Suppressed};
use openexec::store::{Batch, GEOMETRY, Store, make, open::open};
use openexec::sys::clock;
use openexec::sys::disk::Directory;
use serde_json::json;

const DAY: i64 = 86_400;

/// A store made so many seconds ahead of the clock.
fn make_ahead(scratch: &Scratch, seconds: i64) {
    let created = clock::now().plus_seconds(seconds);
    let identity = Identity { store: "ab".repeat(16), mode: Mode::Clawshield, created };
    let directory = Directory::make(&scratch.join("store")).expect("made");
    make(&directory, GEOMETRY, &identity).expect("a store");
}

/// As if the clock had run ahead by so many seconds, and something had been recorded.
fn record_ahead(scratch: &Scratch, seconds: i64) {
    let disk = Directory::open(in_files(&scratch.join("store"))).expect("a directory");
    let (mut store, _) = open(Arc::new(disk), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let mut batch = Batch::default();
    batch.push(
        &Suppressed {
            at: clock::now().plus_seconds(seconds),
            count: Json(r#"{"approval_expired":1}"#),
        }
        .line(),
    );
    store.append(&batch).expect("appended");
}

fn ask(server: &Server, nonce: &str) -> Answer {
    let payload = json!({"n": nonce});
    let approval = Minted::of("echo", &payload).sign();
    let body = json!({
        "action": "echo", "payload": payload, "nonce": nonce, "approval_artifact": approval,
    });
    server.execute(&body.to_string())
}

fn not_ready(server: &Server, reason: &str) {
    until(reason, || server.get("/ready").text().contains(reason));
    let expected = format!("{{\"ready\":false,\"reason\":\"{reason}\"}}");
    assert_eq!(server.get("/ready").text(), expected);
    until("the journal says so", || server.log().contains(reason));
    let log = server.log();
    let line = log.lines().find(|line| line.contains(reason)).expect("a line");
    assert!(line.contains("\"advice\":\""), "{line}");
}

/// It is no error: the service would start, and answer replays.
fn check_warns(scratch: &Scratch, settings: &[(&str, &str)], reason: &str) -> Ended {
    let checked = cli(scratch, settings, &["check"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
    let warning = format!("warning: nothing can be executed ({reason}): ");
    assert!(checked.stdout.contains(&warning), "{}", checked.stdout);
    checked
}

fn serve(scratch: &Scratch, settings: &[(&str, &str)]) -> Server {
    let mut command = common::openexec(scratch);
    command.envs(settings.iter().copied());
    open_server(command, scratch)
}

/// Open, and ready or not.
fn open_server(command: Command, scratch: &Scratch) -> Server {
    let is_open = |server: &Server| {
        let ready = common::try_exchange(&server.address, &common::get("/ready"));
        ready
            .is_ok_and(|ready| !["opening", "standby"].iter().any(|why| ready.text().contains(why)))
    };
    Server::spawn_until(command, scratch, is_open)
}

#[test]
fn a_store_from_the_future_says_that_it_can_execute_nothing() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    make_ahead(&scratch, 30 * DAY);
    let checked = check_warns(&scratch, &settings, "clock_before_store");
    assert!(checked.stdout.contains("`openexec init`"), "{}", checked.stdout);
    let server = serve(&scratch, &settings);
    assert_eq!(ask(&server, "a").code(), "approval_before_store");
    not_ready(&server, "clock_before_store");
}

#[test]
fn a_clock_behind_any_record_says_so_until_somebody_has_looked() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
    record_ahead(&scratch, 50);
    let checked = cli(&scratch, &settings, &["check"]);
    assert!(!checked.stdout.contains("nothing can"), "every clock may be off: {}", checked.stdout);
    record_ahead(&scratch, 3_600);
    check_warns(&scratch, &settings, "clock_behind");
    let server = serve(&scratch, &settings);
    let refused = ask(&server, "a");
    assert_eq!((refused.status, refused.code().as_str()), (503, "clock_behind"));
    not_ready(&server, "clock_behind");
    assert_eq!(cli(&scratch, &settings, &["freeze"]).code, 0);
    until("frozen, it is ready", || server.get("/ready").status == 200);
    assert_eq!(cli(&scratch, &settings, &["unfreeze"]).code, 0);
    until("it executes", || ask(&server, "a").status == 200);
    assert_eq!(server.get("/ready").text(), r#"{"ready":true}"#);
}

/// A step back that stops nothing revives nothing either: what had expired by the newest record has, keys and all.
#[test]
fn a_clock_a_little_behind_the_newest_record_revives_nothing() {
    let scratch = Scratch::new();
    let keys = scratch.join("keys.json");
    let [past, lasting] = [1, 2].map(common::approvals::public_pem);
    let not_after = format!("{:.19}Z", clock::now().plus_seconds(30).to_string());
    let keys_file = json!({"keys": [
        {"name": "past", "public_key": past, "not_after": not_after},
        {"name": "lasting", "public_key": lasting},
    ]});
    private_file(&keys, &keys_file.to_string());
    let settings = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", common::approvals::TENANT),
        ("OPENEXEC_KEYS_FILE", keys.to_str().expect("UTF-8")),
    ];
    assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
    record_ahead(&scratch, 50);
    let newest = clock::now().plus_seconds(45);
    let server = serve(&scratch, &settings);
    let ask = |key, expires_seconds, nonce: &str| {
        let payload = json!({"n": nonce});
        let approval = Minted { key, expires_seconds, ..Minted::of("echo", &payload) }.sign();
        let body = json!({
            "action": "echo", "payload": payload, "nonce": nonce, "approval_artifact": approval,
        });
        server.execute(&body.to_string())
    };
    assert_eq!(ask(2, 30, "a").code(), "approval_expired");
    assert_eq!(ask(1, 600, "b").code(), "approval_key_expired");
    assert_eq!(ask(2, 600, "c").status, 200);
    drop(server);
    let history = cli(&scratch, &settings, &["history", "--json"]).stdout;
    let times: Vec<_> = history
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            openexec::core::time::Time::parse(row["at"].as_str().expect("a time")).expect("a time")
        })
        .collect();
    assert!(!times.is_empty() && times.iter().all(|at| *at >= newest), "{history}");
    let verified = cli(&scratch, &settings, &["verify"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn keys_of_which_none_may_approve_any_more_are_told_of() {
    let scratch = Scratch::new();
    let keys = scratch.join("keys.json");
    let pem = common::approvals::public_pem(1);
    let expired = json!({"name": "ops", "public_key": pem, "not_after": "2026-01-02T00:00:00Z"});
    let lasting = json!({"name": "ops", "public_key": pem});
    let text = |keys: serde_json::Value| json!({"keys": [keys]}).to_string();
    private_file(&keys, &text(expired));
    let settings = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", common::approvals::TENANT),
        ("OPENEXEC_KEYS_FILE", keys.to_str().expect("UTF-8")),
    ];
    assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
    check_warns(&scratch, &settings, "nobody_can_approve");
    let server = serve(&scratch, &settings);
    assert_eq!(ask(&server, "a").code(), "approval_key_expired");
    not_ready(&server, "nobody_can_approve");
    drop(server);
    private_file(&keys, &text(lasting));
    let server = Server::start(&scratch, &settings);
    assert_eq!(ask(&server, "a").status, 200);
}

/// In demo mode nothing is judged by the clock.
#[test]
fn demo_mode_asks_no_clock() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    drop(server);
    record_ahead(&scratch, DAY);
    let checked = cli(&scratch, &[], &["check"]);
    assert!(!checked.stdout.contains("nothing can be executed"), "{}", checked.stdout);
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.execute(r#"{"action":"echo","nonce":"n"}"#).status, 200);
    assert_eq!(server.get("/ready").text(), r#"{"ready":true}"#);
}

/// The service under libfaketime, which moves the wall clock of the running binary, as `date` would,
/// and leaves the monotonic one alone. `None`, and it says so, where there is none.
fn with_other_clock(scratch: &Scratch, settings: &[(&str, &str)]) -> Option<Command> {
    let Ok(library) = std::env::var("OPENEXEC_FAKETIME") else {
        eprintln!("skipped: OPENEXEC_FAKETIME does not name libfaketime.so.1");
        return None;
    };
    let mut command = common::openexec(scratch);
    command.envs(settings.iter().copied());
    command.env("LD_PRELOAD", library).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Some(command)
}

#[test]
fn a_clock_that_jumps_is_seen_while_nobody_asks() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    let Some(mut command) = with_other_clock(&scratch, &settings) else { return };
    make_ahead(&scratch, -DAY);
    let offset = scratch.join("offset");
    let set = |text: &str| {
        std::fs::write(scratch.join("offset.new"), text).expect("written");
        std::fs::rename(scratch.join("offset.new"), &offset).expect("renamed");
    };
    set("+0s");
    command.env("FAKETIME_TIMESTAMP_FILE", &offset).env("FAKETIME_NO_CACHE", "1");
    let server = open_server(command, &scratch);
    assert_eq!(ask(&server, "a").status, 200);

    set("+3h");
    not_ready(&server, "clock_jumped");
    set("+0s");
    let refused = ask(&server, "b");
    assert_eq!((refused.status, refused.code().as_str()), (503, "clock_jumped"));
    assert_eq!(cli(&scratch, &settings, &["freeze"]).code, 0);
    assert_eq!(cli(&scratch, &settings, &["unfreeze"]).code, 0);
    until("it executes", || ask(&server, "b").status == 200);

    // What is recorded while it is wrong counts after a restart, whichever way it was wrong.
    set("-3h");
    let refused = ask(&server, "c");
    assert_eq!(refused.code(), "approval_not_yet_valid");
    not_ready(&server, "clock_behind");
    set("+0s");
    until("it is right again", || ask(&server, "c").status == 200);
    let metric = "openexec_refusals_total{code=\"clock_jumped\"}";
    assert_eq!(server.metric(metric), 1);
}

/// `unfreeze` vouches for the clock as it was then: given while the service is stopped, it revives no approval
/// for one that is set back before the start.
#[test]
fn an_unfreeze_does_not_vouch_for_a_clock_that_is_set_back_later() {
    let scratch = Scratch::new();
    let settings = settings();
    let settings = borrowed(&settings);
    let Some(mut command) = with_other_clock(&scratch, &settings) else { return };
    make_ahead(&scratch, -DAY);
    let server = serve(&scratch, &settings);
    assert_eq!(ask(&server, "a").status, 200);
    drop(server);
    assert_eq!(cli(&scratch, &settings, &["freeze"]).code, 0);
    assert_eq!(cli(&scratch, &settings, &["unfreeze"]).code, 0);
    command.env("FAKETIME", "-3h").env("NO_FAKE_STAT", "1");
    let server = open_server(command, &scratch);
    not_ready(&server, "clock_behind");
}
