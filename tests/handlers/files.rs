//! `write_file` and `delete_file`: the table of the module's documentation cell by cell, hostile
//! paths, and somebody who swaps a directory for a link while it runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::common::calls::{self, *};
use crate::common::{Scratch, fifo};
use openexec::core::hash::{hex, sha256};
use openexec::handlers::Failure;
use serde_json::{Value, json};

const ASKED: &str = "asked";
const REQUIRED: &str = "required";
const OTHER: &str = "other";

/// `files` with a directory `d` in it, and `outside` with something to lose.
fn scratch() -> Scratch {
    let scratch = calls::scratch();
    fs::create_dir_all(scratch.join("files/d")).unwrap();
    fs::create_dir_all(scratch.join("outside/sub")).unwrap();
    fs::write(scratch.join("outside/victim"), "victim").unwrap();
    fs::write(scratch.join("outside/sub/victim"), "victim").unwrap();
    scratch
}

/// What a stranger, or a run before this one, has put where `d/t` should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum There {
    Nothing,
    File(&'static str),
    Link,
    Directory,
    Fifo,
    Socket,
    NoParent,
    ParentIsLink,
    ParentIsFile,
}

impl There {
    fn put(self, scratch: &Scratch) {
        let (parent, target) = (scratch.join("files/d"), scratch.join("files/d/t"));
        match self {
            There::Nothing => {}
            There::File(content) => fs::write(target, content).unwrap(),
            There::Link => symlink(scratch.join("outside/victim"), target).unwrap(),
            There::Directory => fs::create_dir(target).unwrap(),
            There::Fifo => fifo(&target),
            There::Socket => drop(UnixListener::bind(target).unwrap()),
            There::NoParent => fs::remove_dir(parent).unwrap(),
            There::ParentIsLink => {
                fs::remove_dir(&parent).unwrap();
                symlink(scratch.join("outside"), parent).unwrap();
            }
            There::ParentIsFile => {
                fs::remove_dir(&parent).unwrap();
                fs::write(parent, "file").unwrap();
            }
        }
    }
}

/// Every cell: target x what is required x first or second run.
#[test]
fn every_cell_of_the_table_holds() {
    let hash = hex(&sha256(&[REQUIRED.as_bytes()]));
    let write = |more: Value| {
        let mut payload = json!({"path": "d/t", "content": ASKED});
        payload.as_object_mut().unwrap().extend(object(&more).clone());
        ("write_file", payload)
    };
    // The columns, each with the contents it goes on from; `None`: from any, and from nothing.
    let (some, none): (&[&str], &[&str]) = (&[REQUIRED], &[]);
    let columns = [
        (write(json!({})), None, true),
        (write(json!({"create_only": true})), Some(none), true),
        (write(json!({"if_sha256": hash})), Some(some), false),
        (("delete_file", json!({"path": "d/t"})), None, true),
        (("delete_file", json!({"path": "d/t", "if_sha256": hash})), Some(some), true),
    ];
    for ((action, payload), goes_on_from, from_nothing) in &columns {
        let writes = *action == "write_file";
        for there in [
            There::Nothing,
            There::File(ASKED),
            There::File(REQUIRED),
            There::File(OTHER),
            There::Link,
            There::Directory,
            There::Fifo,
            There::Socket,
            There::NoParent,
            There::ParentIsLink,
            There::ParentIsFile,
        ] {
            for again in [false, true] {
                // With nothing required a second run finds what was asked for, or changes nothing.
                let may_go_on = !again || goes_on_from.is_some();
                let succeeds = match there {
                    There::Nothing => *from_nothing && (may_go_on || !writes),
                    There::File(ASKED) if writes => true,
                    There::File(content) => {
                        may_go_on && goes_on_from.is_none_or(|from| from.contains(&content))
                    }
                    _ => false,
                };
                let about = format!("{action} {payload} {there:?} again={again}");
                let scratch = scratch();
                there.put(&scratch);
                let before = tree(scratch.path());
                let result = run(&scratch, action, payload, "n", again);
                match result {
                    Ok(result) if writes => {
                        assert!(succeeds, "{about}");
                        let target = fs::read_to_string(scratch.join("files/d/t")).unwrap();
                        assert_eq!(target, ASKED, "{about}");
                        let hash = hex(&sha256(&[ASKED.as_bytes()]));
                        let about = json!({"bytes": 5, "path": "d/t", "sha256": hash});
                        assert_eq!(result, json!({"written": about}));
                    }
                    Ok(result) => {
                        assert!(succeeds, "{about}");
                        assert!(!scratch.join("files/d/t").exists(), "{about}");
                        assert_eq!(result, json!({"deleted": {"path": "d/t"}}));
                    }
                    Err(failure) => {
                        assert!(!succeeds, "{about}: {failure:?}");
                        assert_eq!(matches!(failure, Failure::Unknown(_)), again, "{about}");
                        assert_eq!(tree(scratch.path()), before, "{about}");
                    }
                }
                if fs::metadata(scratch.join("files/d")).is_ok_and(|d| d.is_dir()) {
                    let left = tree(&scratch.join("files/d"));
                    assert!(left.keys().all(|path| path.ends_with("t")) || !succeeds, "{left:?}");
                }
            }
        }
    }
}

#[test]
fn a_target_already_as_asked_is_not_touched() {
    let scratch = scratch();
    let payload = json!({"path": "d/t", "content": ASKED});
    run(&scratch, "write_file", &payload, "n", false).unwrap();
    let inode = || fs::metadata(scratch.join("files/d/t")).unwrap().ino();
    let first = inode();
    for again in [false, true] {
        run(&scratch, "write_file", &payload, "n", again).unwrap();
        assert_eq!(inode(), first);
    }
}

#[test]
fn a_new_file_is_0640_and_a_replaced_one_keeps_its_permissions() {
    let scratch = scratch();
    let path = scratch.join("files/t");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    let write = |content: &str| {
        let payload = json!({"path": "t", "content": content});
        run(&scratch, "write_file", &payload, content, false).unwrap();
    };
    write("1");
    assert_eq!(mode() & !0o640, 0);
    for (before, after) in [(0o600, 0o600), (0o644, 0o644), (0o6755, 0o755), (0o666, 0o666)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        write(&format!("{before:o}"));
        assert_eq!(mode(), after, "{before:o}");
    }
}

/// A second run removes what the first left half-written; a first run keeps a stranger's.
#[test]
fn the_leftover_of_a_crash_is_cleared() {
    let hash = hex(&sha256(&[OTHER.as_bytes()]));
    for (payload, goes_on) in [
        (json!({"path": "d/t", "content": ASKED}), false),
        (json!({"path": "d/t", "content": ASKED, "if_sha256": hash}), true),
    ] {
        let scratch = scratch();
        let left = scratch.join(&format!("files/d/.openexec-{}", id("n")));
        fs::write(scratch.join("files/d/t"), OTHER).unwrap();
        fs::write(&left, "half").unwrap();
        assert_failed(run(&scratch, "write_file", &payload, "n", false));
        fs::write(&left, "half").unwrap();
        assert_eq!(run(&scratch, "write_file", &payload, "n", true).is_ok(), goes_on);
        assert!(!left.exists());
        let expected = if goes_on { ASKED } else { OTHER };
        assert_eq!(fs::read_to_string(scratch.join("files/d/t")).unwrap(), expected);
    }
}

#[test]
fn other_names_of_a_hard_linked_file_keep_their_content() {
    for (action, payload) in [
        ("write_file", json!({"path": "t", "content": ASKED})),
        ("delete_file", json!({"path": "t"})),
    ] {
        let scratch = scratch();
        fs::hard_link(scratch.join("outside/victim"), scratch.join("files/t")).unwrap();
        let outside = tree(&scratch.join("outside"));
        run(&scratch, action, &payload, "n", false).unwrap();
        assert_eq!(tree(&scratch.join("outside")), outside);
    }
}

#[test]
fn a_file_too_large_to_compare_is_refused_and_one_within_is_not() {
    for (extra, fits) in [(0, true), (1, false)] {
        let scratch = scratch();
        let bytes = vec![b'x'; 16 * 1024 * 1024 + extra];
        fs::write(scratch.join("files/t"), &bytes).unwrap();
        let payload = json!({"path": "t", "if_sha256": hex(&sha256(&[&bytes]))});
        let result = run(&scratch, "delete_file", &payload, "n", false);
        assert_eq!(result.is_ok(), fits, "{result:?}");
        assert_eq!(scratch.join("files/t").exists(), !fits);
    }
}

#[test]
fn the_longest_path_and_the_most_escapes_fit_the_declared_result() {
    let scratch = scratch();
    let name = "\"".repeat(255);
    let path = format!("{name}/{name}/{name}/{name}");
    fs::create_dir_all(scratch.join(&format!("files/{name}/{name}/{name}"))).unwrap();
    let content = "x".repeat(1_000_000);
    let payload = json!({"path": path, "content": content});
    run(&scratch, "write_file", &payload, "n", false).unwrap();
    run(&scratch, "delete_file", &json!({"path": path}), "m", false).unwrap();
}

#[test]
fn a_missing_files_directory_is_not_made() {
    let scratch = calls::scratch();
    let payload = json!({"path": "t", "content": ""});
    assert_failed(run(&scratch, "write_file", &payload, "n", false));
    assert_unknown(run(&scratch, "write_file", &payload, "n", true));
    assert!(!scratch.join("files").exists());
}

/// `files` as an attacker would furnish it.
fn hostile() -> Scratch {
    let scratch = scratch();
    let files = scratch.join("files");
    fs::create_dir_all(files.join("a")).unwrap();
    fs::create_dir_all(files.join("dir")).unwrap();
    fs::write(files.join("kept"), "kept").unwrap();
    fs::write(files.join("dir/kept"), "kept").unwrap();
    for (name, target) in [
        ("link-to-file", "../outside/victim"),
        ("link-to-inside", "kept"),
        ("link-to-dir", "../outside"),
        ("a/link-up", "../.."),
        ("link-to-link", "link-to-dir"),
        ("link-to-root", "/"),
        ("link-to-self", "/proc/self/root"),
        ("link-to-cwd", "/proc/self/cwd"),
        ("link-loop", "link-loop"),
        ("dangling", "../outside/new"),
        ("link-to-null", "/dev/null"),
        ("link-inside-dir", "dir"),
    ] {
        symlink(target, files.join(name)).unwrap();
    }
    fifo(&files.join("fifo"));
    drop(UnixListener::bind(files.join("socket")).unwrap());
    scratch
}

/// None of them changes anything at all, inside or out. Those that are wrong in their form are
/// refused before anybody is asked; the others when they are run.
#[test]
fn hostile_paths_change_nothing() {
    let scratch = hostile();
    let before = tree(scratch.path());
    let mut rows: Vec<(String, bool)> = vectors("hostile_paths.json")
        .iter()
        .map(|row| (row["path"].as_str().unwrap().to_owned(), row["runs"] == json!(true)))
        .collect();
    rows.push(("a".repeat(256), false));
    rows.push((format!("a/{}", "é".repeat(128)), false));
    rows.push(("a/".repeat(512) + "b", false));
    rows.push(("a/".repeat(511) + "b", true));
    assert!(rows.len() >= 40);
    for (path, runs) in rows {
        let requests = [
            ("write_file", json!({"path": path, "content": "x"})),
            ("write_file", json!({"path": path, "content": "x", "create_only": true})),
            ("delete_file", json!({"path": path})),
        ];
        for (at, (action, payload)) in requests.iter().enumerate() {
            assert_eq!(check(action, payload).is_ok(), runs, "{action} {path:?}");
            let result = run(&scratch, action, payload, &format!("{path} {at}"), false);
            assert!(matches!(result, Err(Failure::Failed(_))), "{action} {path:?}: {result:?}");
            assert_eq!(tree(scratch.path()), before, "{action} {path:?}");
        }
    }
}

/// A stranger swaps the directory for a link to `outside`, and the target for a link to a file
/// there, as fast as the machine can, while files in it are written and deleted.
#[test]
fn a_racing_swapper_gets_nothing_outside_changed() {
    const ROUNDS: u32 = 20_000;
    let scratch = scratch();
    let outside = tree(&scratch.join("outside"));
    let files = scratch.join("files");
    let (done, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    fs::create_dir_all(files.join("d/sub")).unwrap();
    symlink("../outside", files.join("link")).unwrap();
    let mut succeeded = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // The name `d` stands now for the directory, now for nothing, now for the link.
                fs::rename(files.join("d"), files.join("real")).unwrap();
                fs::rename(files.join("link"), files.join("d")).unwrap();
                fs::rename(files.join("d"), files.join("link")).unwrap();
                fs::rename(files.join("real"), files.join("d")).unwrap();
                let _ = symlink("../../outside/victim", files.join("d/planted"));
                let _ = fs::rename(files.join("d/planted"), files.join("d/victim"));
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..ROUNDS {
            let path = ["d/victim", "d/sub/victim"][round as usize % 2];
            let nonce = round.to_string();
            let (action, payload) = match round % 3 {
                0 => ("delete_file", json!({"path": path})),
                1 => ("write_file", json!({"path": path, "content": nonce, "create_only": true})),
                _ => ("write_file", json!({"path": path, "content": nonce})),
            };
            succeeded += u32::from(run(&scratch, action, &payload, &nonce, round % 5 == 0).is_ok());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tree(&scratch.join("outside")), outside);
    // Both sides were really at it.
    assert!(succeeded > 0 && succeeded < ROUNDS, "{succeeded} of {ROUNDS} succeeded");
    assert!(swaps.into_inner() > ROUNDS / 10);
}
