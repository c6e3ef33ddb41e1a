//! What a second run may do after a crash between claim and receipt, in a world that others have changed
//! meanwhile: another directory under the old path, a key that was stolen, content that is not what the
//! first run left. (`faults/handlers.py` kills the service at each of its system calls.)
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::approvals::{Minted, TENANT, public_pem};
use crate::common::owed::{Owed, place};
use crate::common::{
    Answer, Scratch, Server, cli, executed, fifo, private_file, problem, refusal, until,
};
use serde_json::{Value, json};

/// Scratch with a store, and with directories that have their markers.
fn marked(settings: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new();
    for name in ["outbox", "other", "files", "approvals"] {
        fs::create_dir(scratch.join(name)).expect("made");
    }
    drop(Server::start(&scratch, settings));
    scratch
}

const DEMO: [(&str, &str); 2] =
    [("OPENEXEC_OUTBOX_DIR", "outbox"), ("OPENEXEC_FILES_DIR", "files")];

fn job(place: Option<String>) -> Owed<'static> {
    Owed {
        action: "enqueue",
        payload: json!({"queue": "q", "job": {}}),
        nonce: "n",
        place,
        approvals: Vec::new(),
        legacy: None,
    }
}

fn receipt(server: &Server, owed: &Owed) -> Answer {
    server.get(&format!("/receipts/{}", owed.id()))
}

fn is_another_directory(answer: &Answer) {
    let body = problem(answer, 500, "indeterminate");
    assert_eq!(body["result"]["indeterminate"]["code"], "interrupted");
    let detail = body["detail"].as_str().expect("text");
    assert!(detail.contains("the directory that it meant"), "{detail}");
}

#[test]
fn a_claim_names_the_directory_that_it_means() {
    let scratch = marked(&DEMO);
    let (outbox, files) = (place(&scratch.join("outbox")), place(&scratch.join("files")));
    for place in [&outbox, &files] {
        assert!(place.len() == 32 && place.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    }
    assert_ne!(outbox, files);
    let mut server = Server::start(&scratch, &DEMO);
    assert_eq!(place(&scratch.join("outbox")), outbox, "made once");
    let requests = [
        ("enqueue", json!({"queue": "q", "job": {}}), json!(outbox)),
        (
            "send_email",
            json!({"to": ["a@example.org"], "subject": "s", "text": "t"}),
            json!(outbox),
        ),
        ("write_file", json!({"path": "a", "content": "x"}), json!(files)),
        ("delete_file", json!({"path": "a"}), json!(files)),
        ("echo", json!({}), Value::Null),
    ];
    for (action, payload, _) in &requests {
        let body = json!({"action": action, "nonce": action, "payload": payload}).to_string();
        executed(&server.execute(&body), action, action, payload);
    }
    server.kill();
    let text = fs::read_to_string(server.store.join("00000001.jsonl")).expect("read");
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let claims: Vec<Value> = records.filter(|record| record["kind"] == "claim").collect();
    assert_eq!(claims.len(), requests.len());
    for ((_, _, place), claim) in requests.iter().zip(&claims) {
        assert_eq!(claim.get("place"), Some(place), "{claim}");
    }
    // Both readers know the field.
    assert_eq!(cli(&scratch, &[], &["verify", "store"]).code, 0);
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/read_store.py");
    let read = crate::common::run(
        {
            let mut command = Command::new("python3");
            command.arg(reader).arg(scratch.join("store"));
            command
        },
        "",
    );
    assert_eq!(read.code, 0, "{}{}", read.stdout, read.stderr);
}

/// What others do to the outbox between crash and restart, and whether the job is queued.
#[test]
fn a_job_is_queued_again_only_into_the_outbox_that_was_meant() {
    type Change = fn(&Scratch);
    let swap: Change = |scratch| {
        fs::rename(scratch.join("outbox"), scratch.join("x")).expect("renamed");
        fs::rename(scratch.join("other"), scratch.join("outbox")).expect("renamed");
        fs::rename(scratch.join("x"), scratch.join("other")).expect("renamed");
    };
    let cases: [(&str, Change, bool); 7] = [
        ("nobody does anything", |_| (), true),
        (
            "the queue is swept",
            |s| fs::create_dir_all(s.join("outbox/q/done")).expect("made"),
            true,
        ),
        (
            "it is moved, and a link leads there",
            |s| {
                fs::rename(s.join("outbox"), s.join("moved")).expect("renamed");
                symlink("moved", s.join("outbox")).expect("linked");
            },
            true,
        ),
        ("two outboxes are swapped", swap, false),
        (
            "another is put there",
            |s| {
                fs::rename(s.join("outbox"), s.join("x")).expect("renamed");
                fs::create_dir(s.join("outbox")).expect("made");
            },
            false,
        ),
        (
            "the marker is removed",
            |s| {
                fs::remove_file(s.join("outbox/.openexec-place")).expect("removed");
            },
            false,
        ),
        (
            "the marker is another's",
            |s| {
                fs::copy(s.join("files/.openexec-place"), s.join("outbox/.openexec-place"))
                    .expect("copied");
            },
            false,
        ),
    ];
    for (what, change, is_queued) in cases {
        let scratch = marked(&DEMO);
        let owed = job(Some(place(&scratch.join("outbox"))));
        owed.append(&scratch.join("store"));
        change(&scratch);
        let server = Server::start(&scratch, &DEMO);
        let answer = receipt(&server, &owed);
        let job = scratch.join(&format!("outbox/q/{}.json", owed.id()));
        assert_eq!(job.exists(), is_queued, "{what}: {}", answer.text());
        match is_queued {
            true => assert_eq!(answer.status, 200, "{what}: {}", answer.text()),
            false => is_another_directory(&answer),
        }
        assert!(!scratch.join(&format!("other/q/{}.json", owed.id())).exists());
    }
    // A claim that names none, of an action that acts in one, and the other way round.
    let scratch = marked(&DEMO);
    let nowhere = job(None);
    let somewhere = Owed {
        action: "write_file",
        payload: json!({"path": "a", "content": "x"}),
        nonce: "m",
        place: Some("0".repeat(32)),
        ..job(None)
    };
    nowhere.append(&scratch.join("store"));
    somewhere.append(&scratch.join("store"));
    let server = Server::start(&scratch, &DEMO);
    is_another_directory(&receipt(&server, &nowhere));
    is_another_directory(&receipt(&server, &somewhere));
    assert!(!scratch.join("files/a").exists());
}

/// The file as somebody has left it, what the request requires, and what comes of it.
#[test]
fn a_second_run_changes_nothing_that_the_first_did_not_leave() {
    let old = crate::common::sha256("old");
    let write = |more: Value| {
        let mut payload = json!({"path": "f", "content": "new"});
        payload.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        ("write_file", payload)
    };
    let delete = |more: Value| {
        ("delete_file", {
            let mut payload = json!({"path": "f"});
            payload
                .as_object_mut()
                .expect("object")
                .extend(more.as_object().expect("object").clone());
            payload
        })
    };
    // (request, before the restart, whether it is executed, and the file after it)
    let cases = [
        (write(json!({})), Some("new"), true, Some("new")),
        (write(json!({})), Some("newer"), false, Some("newer")),
        (write(json!({})), Some("old"), false, Some("old")),
        (write(json!({})), None, false, None),
        (write(json!({"if_sha256": old})), Some("old"), true, Some("new")),
        (write(json!({"if_sha256": old})), Some("newer"), false, Some("newer")),
        (write(json!({"if_sha256": old})), None, false, None),
        (write(json!({"create_only": true})), None, true, Some("new")),
        (write(json!({"create_only": true})), Some("newer"), false, Some("newer")),
        (delete(json!({})), None, true, None),
        (delete(json!({})), Some("anew"), false, Some("anew")),
        (delete(json!({"if_sha256": old})), Some("old"), true, None),
        (delete(json!({"if_sha256": old})), Some("anew"), false, Some("anew")),
        (delete(json!({"if_sha256": old})), None, true, None),
    ];
    let scratch = marked(&DEMO);
    let file = scratch.join("files/f");
    let place = Some(place(&scratch.join("files")));
    for (n, ((action, payload), before, is_executed, after)) in cases.into_iter().enumerate() {
        let owed =
            Owed { action, payload, nonce: &n.to_string(), place: place.clone(), ..job(None) };
        owed.append(&scratch.join("store"));
        let _ = fs::remove_file(&file);
        if let Some(before) = before {
            fs::write(&file, before).expect("written");
        }
        let server = Server::start(&scratch, &DEMO);
        let answer = receipt(&server, &owed);
        let about = format!("{action} {} {before:?}: {}", owed.payload, answer.text());
        assert_eq!(answer.status, if is_executed { 200 } else { 500 }, "{about}");
        if !is_executed {
            problem(&answer, 500, "indeterminate");
        }
        assert_eq!(fs::read_to_string(&file).ok().as_deref(), after, "{about}");
    }
}

/// A thief's claim was cut short before any effect. Everything is stopped, the key revoked, the service
/// restarted, execution released: the thief gets nothing.
#[test]
fn a_stolen_key_executes_nothing_after_its_revocation() {
    let one = |more: &str| {
        let pem = json!(public_pem(1));
        format!(r#"{{"keys":[{{"name":"one","public_key":{pem}{more}}}]}}"#)
    };
    let settings = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", TENANT),
        ("OPENEXEC_KEYS_FILE", "keys.json"),
        ("OPENEXEC_FILES_DIR", "files"),
    ];
    for is_revoked in [false, true] {
        let scratch = Scratch::new();
        fs::create_dir(scratch.join("files")).expect("made");
        private_file(&scratch.join("keys.json"), &one(""));
        assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
        drop(Server::start(&scratch, &settings));
        let place = Some(place(&scratch.join("files")));
        let payload = json!({"path": "f", "content": "the thief's", "create_only": true});
        let approvals = vec![Minted { key: 1, ..Minted::of("write_file", &payload) }.sign()];
        let theft =
            Owed { action: "write_file", payload, place: place.clone(), approvals, ..job(None) };
        // By the legacy hash: its text is in the claim.
        let payload = json!({"path": "é", "content": "by the legacy hash", "create_only": true});
        let text = r#"{"action":"write_file","payload":{"content":"by the legacy hash","create_only":true,"path":"\u00e9"}}"#;
        let legacy = Owed {
            payload,
            nonce: "legacy",
            approvals: vec![Minted { key: 1, ..Minted::hashed(text) }.sign()],
            legacy: Some(text.to_owned()),
            ..theft.clone()
        };
        // One whose legacy text is not what would be executed.
        let other = Owed {
            payload: json!({"path": "g", "content": "another", "create_only": true}),
            nonce: "other",
            approvals: vec![Minted { key: 1, ..Minted::hashed(text) }.sign()],
            ..legacy.clone()
        };
        let all = [&theft, &legacy, &other];
        all.iter().for_each(|owed| owed.append(&scratch.join("store")));
        assert_eq!(cli(&scratch, &settings, &["freeze"]).code, 0);
        if is_revoked {
            let now = openexec::sys::clock::now();
            private_file(&scratch.join("keys.json"), &one(&format!(r#","not_after":"{now}""#)));
        }
        let mut command = crate::common::openexec(&scratch);
        command.envs(settings);
        // It is not ready where nobody can approve, and open all the same.
        let server = Server::spawn_until(command, &scratch, |server| {
            crate::common::try_exchange(&server.address, &crate::common::get("/ready"))
                .is_ok_and(|answer| !answer.text().contains("opening"))
        });
        for owed in all {
            problem(&receipt(&server, owed), 503, "frozen");
        }
        assert_eq!(cli(&scratch, &settings, &["unfreeze", "--yes"]).code, 0);
        until("nothing waits", || all.iter().all(|owed| receipt(&server, owed).status != 503));
        for (owed, may_run) in [(&theft, true), (&legacy, true), (&other, false)] {
            let answer = receipt(&server, owed);
            let path = scratch.join("files").join(owed.payload["path"].as_str().expect("a path"));
            let executed = may_run && !is_revoked;
            assert_eq!(answer.status, if executed { 200 } else { 500 }, "{}", answer.text());
            assert_eq!(path.exists(), executed, "{}", owed.payload);
        }
    }
}

/// Somebody has put something else where the marker belongs: it is neither followed nor waited for.
#[test]
fn a_marker_that_is_none_stops_the_start_and_says_where() {
    type Put<'a> = &'a dyn Fn(&Path);
    let puts: [(&str, Put); 8] = [
        ("a link to a good one", &|path| {
            symlink("../files/.openexec-place", path).expect("linked")
        }),
        ("a link to nothing", &|path| symlink("new", path).expect("linked")),
        ("a FIFO", &|path| fifo(path)),
        ("a directory", &|path| fs::create_dir(path).expect("made")),
        ("nothing in it", &|path| fs::write(path, "").expect("written")),
        ("garbage", &|path| fs::write(path, "x".repeat(32)).expect("written")),
        ("upper case", &|path| fs::write(path, "A".repeat(32)).expect("written")),
        ("too much", &|path| fs::write(path, "0".repeat(1 << 20)).expect("written")),
    ];
    for (what, put) in puts {
        let scratch = marked(&[("OPENEXEC_FILES_DIR", "files")]);
        put(&scratch.join("outbox/.openexec-place"));
        for command in ["serve", "check"] {
            let ended = cli(&scratch, &DEMO, &[command]);
            assert_eq!(ended.code, 78, "{what}: {}", ended.stderr);
            assert!(ended.stderr.contains("outbox/.openexec-place"), "{what}: {}", ended.stderr);
        }
        assert!(!scratch.join("outbox/new").exists());
    }
    // `check` makes none, whoever runs it.
    let scratch = marked(&[]);
    assert_eq!(cli(&scratch, &DEMO, &["check"]).code, 0);
    assert!(!scratch.join("outbox/.openexec-place").exists());
    // One that a person made, without a newline, is good.
    fs::write(scratch.join("outbox/.openexec-place"), "0".repeat(32)).expect("written");
    drop(Server::start(&scratch, &DEMO));
    assert_eq!(place(&scratch.join("outbox")), "0".repeat(32));
}

/// The volume goes away under a running service: nothing is spent, and nothing goes elsewhere.
#[test]
fn without_its_marker_a_directory_takes_nothing() {
    let scratch = marked(&DEMO);
    let server = Server::start(&scratch, &DEMO);
    let body = json!({"action": "enqueue", "nonce": "n", "payload": {"queue": "q", "job": {}}});
    let (body, payload) = (body.to_string(), body["payload"].clone());
    fs::rename(scratch.join("outbox"), scratch.join("away")).expect("renamed");
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(scratch.join("outbox")).expect("made");
        }
        refusal(&server.execute(&body), 403, "action_not_configured");
        assert!(!scratch.join("outbox/q").exists());
    }
    fs::remove_dir(scratch.join("outbox")).expect("removed");
    fs::rename(scratch.join("away"), scratch.join("outbox")).expect("renamed");
    executed(&server.execute(&body), "enqueue", "n", &payload);
}
