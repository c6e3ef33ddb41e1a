//! Whatever is put where reports are looked for: nothing is followed, waited for, or touched elsewhere.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::common::{fifo, until};
use crate::{assert_audited, ignored, is_taken, queued, report, said, shown, started, take};

#[test]
fn what_is_no_report_is_moved_away_and_recorded_nowhere() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let outcome = scratch.join("outbox/q/outcome");
    fs::write(scratch.join("victim"), "victim").expect("written");
    let victim = scratch.join("victim");
    let whole = said("executed", &json!({}));
    let large = said("executed", &json!({"x": "y".repeat(256 * 1024)}));
    // Of 256 KiB as it stands, and larger in canonical form.
    let swollen =
        said("executed", &json!({"x": vec![0; 1]})).replace('0', &vec!["1e15"; 40_000].join(","));
    assert!(swollen.len() < 256 * 1024);
    // Two objects, a text and an array, and one value more than a report may have.
    let many = said("executed", &json!({"x": vec![0; 131_072 - 33]}));
    let texts: [(&str, &str); 18] = [
        ("too large in canonical form", &swollen),
        ("too many values", &many),
        ("nothing in it", ""),
        ("garbage", "\0\u{ff}"),
        ("half a report", &whole[..whole.len() - 1]),
        ("two", &format!("{whole}{whole}")),
        ("an array", "[]"),
        ("no result", r#"{"outcome":"executed"}"#),
        ("no outcome", r#"{"result":{}}"#),
        ("another outcome", r#"{"outcome":"done","result":{}}"#),
        ("an outcome that is no text", r#"{"outcome":1,"result":{}}"#),
        ("a result that is no object", r#"{"outcome":"executed","result":[]}"#),
        ("one field more", r#"{"outcome":"executed","result":{},"x":1}"#),
        ("a name twice", r#"{"outcome":"executed","result":{},"result":{}}"#),
        ("a number out of range", r#"{"outcome":"executed","result":{"x":1e300}}"#),
        (
            "too deep",
            &format!(
                "{{\"outcome\":\"executed\",\"result\":{}{}}}",
                "{\"x\":".repeat(70),
                "1".to_owned() + &"}".repeat(70)
            ),
        ),
        ("a mark", &format!("\u{feff}{whole}")),
        ("too large", &large),
    ];
    for (what, text) in texts {
        take(&scratch, "q", &id, text);
        assert_eq!(ignored(&scratch, "q"), [format!("{id}.json")], "{what}");
        assert_eq!(shown(&server, &id).get("completion"), None, "{what}");
        fs::remove_file(outcome.join("ignored").join(format!("{id}.json"))).expect("removed");
    }
    let path = outcome.join(format!("{id}.json"));
    let huge =
        |path: &Path| File::create(path).and_then(|file| file.set_len(1 << 30)).expect("made");
    let puts: [(&str, &dyn Fn()); 5] = [
        ("a FIFO", &|| fifo(&path)),
        ("a link to a file", &|| symlink(&victim, &path).expect("linked")),
        ("a link to nothing", &|| symlink(scratch.join("new"), &path).expect("linked")),
        ("a hard link", &|| fs::hard_link(&victim, &path).expect("linked")),
        ("a gibibyte", &|| huge(&path)),
    ];
    for (what, put) in puts {
        put();
        until("it is taken away", || is_taken(&scratch, "q", &id));
        assert_eq!(ignored(&scratch, "q"), [format!("{id}.json")], "{what}");
        fs::remove_file(outcome.join("ignored").join(format!("{id}.json"))).expect("removed");
        assert_eq!(fs::read(&victim).expect("there"), b"victim", "{what}");
        assert!(!scratch.join("new").exists(), "{what}");
    }
    for name in [&id.to_uppercase(), &id[..63], "x", &"0".repeat(64), &format!("{id} ")] {
        take(&scratch, "q", name, &whole);
        assert!(ignored(&scratch, "q").contains(&format!("{name}.json")), "{name}");
    }
    // What somebody may be writing stays, and so does a directory, with what is in it.
    for name in [format!(".{id}.json"), format!("{id}.json.tmp"), "x".to_owned()] {
        fs::write(outcome.join(name), "x").expect("written");
    }
    fs::create_dir_all(path.join("inside")).expect("made");
    let (_, other) = queued(&server, "other");
    take(&scratch, "q", &other, &whole);
    assert!(path.join("inside").is_dir());
    for name in [format!(".{id}.json"), format!("{id}.json.tmp"), "x".to_owned()] {
        assert!(outcome.join(name).exists());
    }
    assert_eq!(shown(&server, &other)["completion"]["outcome"], "executed");
    fs::remove_dir_all(&path).expect("removed");
    // The worker that was wrong so often is heard once it is right.
    take(&scratch, "q", &id, &whole);
    assert_eq!(shown(&server, &id)["completion"]["outcome"], "executed");
    assert!(server.metric("openexec_outcomes_ignored_total") >= 28);
    let log = server.log();
    for why in ["larger than 256 KiB", "no strict JSON of up to 131,072 values", "it is not {"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(log.contains("an outcome was ignored") && !log.contains("1e300"), "{log}");
    drop(server);
    assert_audited(&scratch, 2);
}

/// The directories themselves may be something else.
#[test]
fn directories_that_are_none_lead_nowhere() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let (outbox, elsewhere) = (scratch.join("outbox"), scratch.join("elsewhere"));
    let whole = said("executed", &json!({}));
    for directory in ["done", "outcome/ignored"] {
        fs::create_dir_all(elsewhere.join(directory)).expect("made");
    }
    for name in [format!("{id}.json"), "x.json".to_owned()] {
        fs::write(elsewhere.join("outcome").join(name), &whole).expect("written");
    }
    // A queue that is a link, and an `outcome` and an `ignored` that are.
    symlink(&elsewhere, outbox.join("linked")).expect("linked");
    fs::create_dir_all(outbox.join("half/done")).expect("made");
    symlink(elsewhere.join("outcome"), outbox.join("half/outcome")).expect("linked");
    fs::create_dir_all(outbox.join("third/done")).expect("made");
    fs::create_dir_all(outbox.join("third/outcome")).expect("made");
    symlink(elsewhere.join("outcome/ignored"), outbox.join("third/outcome/ignored"))
        .expect("linked");
    fs::write(outbox.join("third/outcome/y.json"), "y").expect("written");
    // No queues of ours: a file, a name that no queue has, a directory without `done`.
    fs::write(outbox.join("file"), "x").expect("written");
    fs::create_dir_all(outbox.join("no queue/done")).expect("made");
    fs::create_dir_all(outbox.join("bare")).expect("made");
    fs::create_dir_all(outbox.join("fresh/done")).expect("made");
    until("a missing directory is made", || outbox.join("fresh/outcome").is_dir());
    // Two more looks, of which the second began after all of it was there.
    for nonce in ["one", "two"] {
        let (_, id) = queued(&server, nonce);
        take(&scratch, "q", &id, &whole);
    }
    assert_eq!(shown(&server, &id).get("completion"), None);
    for name in [format!("outcome/{id}.json"), "outcome/x.json".to_owned()] {
        assert_eq!(fs::read_to_string(elsewhere.join(name)).expect("there"), whole);
    }
    assert_eq!(fs::read_dir(elsewhere.join("outcome/ignored")).expect("listed").count(), 0);
    assert!(outbox.join("third/outcome/y.json").exists(), "there is nowhere to move it");
    assert!(!outbox.join("bare/outcome").exists() && !outbox.join("no queue/outcome").exists());
    drop(server);
    assert_audited(&scratch, 2);
}

/// A flood hides no report, and leaves the newest thousand.
#[test]
fn a_flood_is_thinned_out() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let outcome = scratch.join("outbox/q/outcome");
    for n in 0..5_000 {
        fs::write(outcome.join(format!("{n}.json")), "x").expect("written");
    }
    report(&scratch, "q", &id, &said("executed", &json!({})));
    until("the report is taken away", || is_taken(&scratch, "q", &id));
    until("it is quiet", || server.metric("openexec_outcomes_ignored_total") == 5_000);
    until("a thousand are left", || ignored(&scratch, "q").len() == 1_000);
    // The one that comes now is the newest.
    take(&scratch, "q", "last", "x");
    until("a thousand are left", || ignored(&scratch, "q").len() == 1_000);
    assert!(ignored(&scratch, "q").contains(&"last.json".to_owned()));
    assert!(server.log().matches("an outcome was ignored").count() <= 40);
    assert_eq!(shown(&server, &id)["completion"]["outcome"], "executed");
    drop(server);
    assert_audited(&scratch, 1);
}
