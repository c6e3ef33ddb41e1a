//! `enqueue`, `send_email`, `charge_card`: the job files, second runs, and who stands in the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::common::Scratch;
use crate::common::calls::*;
use openexec::core::hash::{hex, sha256};
use openexec::handlers::Settings;
use serde_json::{Value, json};

fn email() -> Value {
    json!({"to": ["a@example.org"], "subject": "s", "text": "t"})
}

fn deploy() -> Value {
    json!({"queue": "deploy", "job": {"tag": "v1"}})
}

/// A scratch whose queue `deploy` holds the job of nonce `n`, and what the run answered.
fn queued() -> (Scratch, Value) {
    let scratch = scratch();
    let result = run(&scratch, "enqueue", &deploy(), "n", false).unwrap();
    (scratch, result)
}

#[test]
fn a_job_is_canonical_json_and_the_result_gives_its_hash() {
    let (scratch, result) = queued();
    let id = id("n");
    let path = scratch.join(&format!("outbox/deploy/{id}.json"));
    let bytes = fs::read(&path).unwrap();
    let expected = format!(
        r#"{{"action":"enqueue","approval_ids":["12345678-1234-1234-1234-123456789012"],"id":"{id}","nonce":"n","payload":{{"job":{{"tag":"v1"}},"queue":"deploy"}}}}"#
    );
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !0o640, 0);
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    assert_eq!(
        result,
        json!({"queued": {"job": format!("deploy/{id}.json"), "sha256": hex(&sha256(&[&bytes]))}})
    );
    let names = tree(&scratch.join("outbox/deploy"));
    assert_eq!(names.len(), 4, "the job, taken, done, outcome: {names:?}");
}

#[test]
fn the_typed_actions_have_their_own_queues() {
    let scratch = scratch();
    let charge = json!({"amount": 1999, "currency": "EUR", "customer": "c"});
    for (action, payload) in [("send_email", email()), ("charge_card", charge)] {
        let result = run(&scratch, action, &payload, "n", false).unwrap();
        let job = result["queued"]["job"].as_str().unwrap();
        assert_eq!(job, format!("{action}/{}.json", id("n")));
        let job: Value =
            serde_json::from_slice(&fs::read(scratch.join("outbox").join(job)).unwrap()).unwrap();
        assert_eq!(job["payload"], payload);
    }
}

#[test]
fn the_longest_queue_name_fits_the_declared_result() {
    let payload = json!({"queue": "q".repeat(64), "job": {}});
    run(&scratch(), "enqueue", &payload, "n", false).unwrap();
}

/// Worker and crash in every order: a job in any of the three places is never queued again.
#[test]
fn a_job_that_is_there_is_never_queued_again() {
    for place in ["", "taken/", "done/"] {
        for again in [false, true] {
            let (scratch, first) = queued();
            let dir = scratch.join("outbox/deploy");
            let name = format!("{}.json", id("n"));
            fs::rename(dir.join(&name), dir.join(format!("{place}{name}"))).unwrap();
            let before = tree(&dir);
            let second = run(&scratch, "enqueue", &deploy(), "n", again).unwrap();
            assert_eq!((second, tree(&dir)), (first, before), "{place} {again}");
        }
    }
}

#[test]
fn other_bytes_under_the_id_fail_a_first_run_and_are_the_workers_in_a_second() {
    for place in ["", "taken/", "done/"] {
        let (scratch, first) = queued();
        let dir = scratch.join("outbox/deploy");
        let name = format!("{}.json", id("n"));
        fs::remove_file(dir.join(&name)).unwrap();
        fs::write(dir.join(format!("{place}{name}")), "noted by a worker").unwrap();
        let before = tree(&dir);
        assert_failed(run(&scratch, "enqueue", &deploy(), "n", false));
        let second = run(&scratch, "enqueue", &deploy(), "n", true).unwrap();
        assert_eq!((second, tree(&dir)), (first, before), "{place}");
    }
}

#[test]
fn a_second_run_that_finds_nothing_queues_the_same_job() {
    let (scratch, first) = queued();
    let before = tree(&scratch.join("outbox"));
    fs::remove_file(scratch.join(&format!("outbox/deploy/{}.json", id("n")))).unwrap();
    let second = run(&scratch, "enqueue", &deploy(), "n", true).unwrap();
    assert_eq!((second, tree(&scratch.join("outbox"))), (first, before));
}

/// Cut short before the link, half-written; and after it, the temporary name not yet removed.
#[test]
fn a_second_run_clears_what_the_first_left() {
    for published in [false, true] {
        let (scratch, first) = queued();
        let before = tree(&scratch.join("outbox"));
        let dir = scratch.join("outbox/deploy");
        let job = dir.join(format!("{}.json", id("n")));
        let temporary = dir.join(format!(".openexec-{}", id("n")));
        fs::hard_link(&job, &temporary).unwrap();
        if !published {
            fs::remove_file(&job).unwrap();
            fs::write(&temporary, "{\"act").unwrap();
        }
        let second = run(&scratch, "enqueue", &deploy(), "n", true).unwrap();
        assert_eq!((second, tree(&scratch.join("outbox"))), (first, before));
        assert_eq!(fs::metadata(&job).unwrap().nlink(), 1);
    }
}

#[test]
fn what_is_no_directory_is_no_queue() {
    for (place, target) in [
        ("deploy", Some("../elsewhere")),
        ("deploy", Some("nowhere")),
        ("deploy", None),
        ("deploy/taken", Some("../../elsewhere")),
        ("deploy/done", Some("../../elsewhere")),
        ("deploy/done", None),
    ] {
        let scratch = scratch();
        fs::create_dir(scratch.join("elsewhere")).unwrap();
        let place = scratch.join("outbox").join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, &place).unwrap(),
            None => fs::write(&place, "").unwrap(),
        }
        assert_failed(run(&scratch, "enqueue", &deploy(), "n", false));
        assert_unknown(run(&scratch, "enqueue", &deploy(), "n", true));
        assert_eq!(tree(&scratch.join("elsewhere")).len(), 0);
    }
}

#[test]
fn what_has_the_jobs_name_and_is_no_file_is_left_alone() {
    for place in ["", "taken/", "done/"] {
        for link in [false, true] {
            let (scratch, _) = queued();
            let dir = scratch.join("outbox/deploy");
            let name = format!("{}.json", id("n"));
            fs::rename(dir.join(&name), dir.join("victim")).unwrap();
            match link {
                true => symlink(dir.join("victim"), dir.join(format!("{place}{name}"))).unwrap(),
                false => fs::create_dir(dir.join(format!("{place}{name}"))).unwrap(),
            }
            let before = tree(&dir);
            assert_failed(run(&scratch, "enqueue", &deploy(), "n", false));
            assert_unknown(run(&scratch, "enqueue", &deploy(), "n", true));
            assert_eq!(tree(&dir), before);
        }
    }
}

#[test]
fn an_outbox_that_is_a_file_fails_before_anything_happens() {
    let scratch = scratch();
    fs::remove_dir(scratch.join("outbox")).unwrap();
    fs::write(scratch.join("outbox"), "").unwrap();
    assert_failed(run(&scratch, "enqueue", &deploy(), "n", false));
    assert_unknown(run(&scratch, "enqueue", &deploy(), "n", true));
}

/// It may be a volume that is not mounted.
#[test]
fn a_missing_outbox_is_not_made() {
    let scratch = scratch();
    fs::remove_dir(scratch.join("outbox")).unwrap();
    assert_failed(run(&scratch, "enqueue", &deploy(), "n", false));
    assert_unknown(run(&scratch, "enqueue", &deploy(), "n", true));
    assert!(!scratch.join("outbox").exists());
}

#[test]
fn without_its_setting_a_handler_is_not_offered_and_says_which() {
    for (action, setting) in [
        ("enqueue", "OPENEXEC_OUTBOX_DIR"),
        ("send_email", "OPENEXEC_OUTBOX_DIR"),
        ("charge_card", "OPENEXEC_OUTBOX_DIR"),
        ("write_file", "OPENEXEC_FILES_DIR"),
        ("delete_file", "OPENEXEC_FILES_DIR"),
    ] {
        let why = (handler(action).offered)(&Settings::default()).unwrap_err();
        assert!(why.contains(setting), "{action}: {why}");
        assert_eq!((handler(action).offered)(&settings(&scratch())), Ok(()));
    }
}

/// A run judges its payload again: nothing that `check` would refuse is queued, whoever calls.
#[test]
fn a_run_refuses_what_its_check_refuses() {
    let scratch = scratch();
    for row in vectors("payloads.json") {
        let action = row["action"].as_str().unwrap();
        if row["ok"] == json!(false) {
            assert_failed(run(&scratch, action, &row["payload"], "n", false));
        }
    }
    assert_eq!(tree(&scratch.join("outbox")).len(), 0);
}
