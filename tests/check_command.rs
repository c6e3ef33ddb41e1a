//! `openexec check`: it says what `serve` would find, ends as `serve` would, and changes nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use common::approvals::{borrowed, settings};
use common::{Ended, Scratch, cli};

fn check(scratch: &Scratch, environment: &[(&str, &str)]) -> Ended {
    cli(scratch, environment, &["check"])
}

/// Every file below the directory: its number, its bytes and when it was last written.
fn listing(directory: &Path) -> BTreeMap<String, (u64, u64, i64)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("measured");
        if metadata.is_dir() {
            found.extend(listing(&path));
        } else {
            let at = metadata.mtime_nsec();
            found.insert(path.display().to_string(), (metadata.ino(), metadata.len(), at));
        }
    }
    found
}

#[test]
fn it_says_what_is_as_it_should_be_and_leaves_everything_as_it_is() {
    let scratch = Scratch::new();
    let fresh = check(&scratch, &[]);
    assert_eq!((fresh.code, fresh.stderr.as_str()), (0, ""), "{}", fresh.stdout);
    assert!(fresh.stdout.contains("configuration: ok (demo mode)"), "{}", fresh.stdout);
    assert!(fresh.stdout.ends_with("address: free\n"), "{}", fresh.stdout);
    assert_eq!(listing(scratch.path()), BTreeMap::new(), "it only looks");

    let (socket, checkpoint) = (scratch.join("socket"), scratch.join("checkpoint"));
    let mut settings = settings();
    settings.push(("OPENEXEC_LISTEN".into(), format!("unix:{}", socket.display())));
    settings.push(("OPENEXEC_CHECKPOINT_FILE".into(), checkpoint.display().to_string()));
    let settings = borrowed(&settings);
    assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
    let before = listing(scratch.path());
    let made = check(&scratch, &settings);
    assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{}", made.stdout);
    for line in [
        "configuration: ok (clawshield mode)",
        "key ",
        "clock: ",
        "store: ",
        "space: ",
        "checkpoint file: ",
        "address: free",
    ] {
        assert!(made.stdout.lines().any(|l| l.starts_with(line)), "{line}: {}", made.stdout);
    }
    // Not replaced either, not even by the same: it would belong to whoever checks.
    assert_eq!(listing(scratch.path()), before, "it leaves nothing behind");
    assert!(!socket.exists());
}

#[test]
fn it_touches_nothing_of_others() {
    let scratch = Scratch::new();
    // Nor anything of the service's: one that is restored has no LOCK, and root's would keep it out.
    assert_eq!(cli(&scratch, &[], &["init"]).code, 0);
    std::fs::remove_file(scratch.join("store/LOCK")).expect("removed");
    let store = listing(scratch.path());
    assert_eq!(check(&scratch, &[]).code, 0);
    assert_eq!(listing(scratch.path()), store);
    std::fs::remove_dir_all(scratch.join("store")).expect("removed");

    let precious = scratch.join("precious");
    std::fs::write(&precious, "precious").expect("written");
    for name in ["check.tmp", "check", "00000001.jsonl.tmp"] {
        symlink(&precious, scratch.join(name)).expect("linked");
    }
    let before = listing(scratch.path());
    assert_eq!(check(&scratch, &[]).code, 0);
    assert_eq!(listing(scratch.path()), before);

    // A socket that somebody listens on is his.
    let socket = scratch.join("socket");
    let live = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let listen = format!("unix:{}", socket.display());
    let ended = check(&scratch, &[("OPENEXEC_LISTEN", &listen)]);
    assert_eq!(ended.code, 75, "{}", ended.stderr);
    assert!(socket.metadata().expect("there").file_type().is_socket());
    drop(live);
}

/// Prepares what is wrong, and gives the settings with which `check` and `serve` are started.
type Wrong = fn(&Scratch) -> Vec<(&'static str, String)>;

#[test]
fn it_ends_as_serve_would() {
    let made = |scratch: &Scratch| assert_eq!(cli(scratch, &[], &["init"]).code, 0);
    let rows: [(&str, i32, Wrong); 10] = [
        ("the store's path is a file", 74, |scratch| {
            std::fs::write(scratch.join("store"), "").expect("written");
            Vec::new()
        }),
        ("the store's path leads through a file", 74, |scratch| {
            std::fs::write(scratch.join("file"), "").expect("written");
            let path = scratch.join("file/store");
            vec![("OPENEXEC_DB_URL", format!("file:{}", path.display()))]
        }),
        ("an address that is not here", 74, |_| {
            vec![
                ("OPENEXEC_LISTEN", "192.0.2.1:5000".into()),
                ("OPENEXEC_ALLOW_EXPOSED_DEMO", "yes".into()),
            ]
        }),
        ("a socket where a file is", 74, |scratch| {
            let path = scratch.join("socket");
            std::fs::write(&path, "precious").expect("written");
            vec![("OPENEXEC_LISTEN", format!("unix:{}", path.display()))]
        }),
        ("a file where the inner socket is to be", 74, |scratch| {
            std::fs::create_dir(scratch.join("store")).expect("made");
            std::fs::write(scratch.join("store/inner.sock"), "precious").expect("written");
            Vec::new()
        }),
        ("the inner socket for an address", 78, |scratch| {
            let path = scratch.join("store/inner.sock");
            vec![("OPENEXEC_LISTEN", format!("unix:{}", path.display()))]
        }),
        ("a damaged record", 65, |scratch| {
            // Behind the first line, which is all that says what the store is.
            let path = scratch.join("store/00000001.jsonl");
            let mut bytes = std::fs::read(&path).expect("read");
            let second = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 20;
            bytes[second] ^= 1;
            std::fs::write(&path, bytes).expect("written");
            Vec::new()
        }),
        ("the first segment missing", 65, |scratch| {
            let path = |name: &str| scratch.join("store").join(name);
            std::fs::rename(path("00000001.jsonl"), path("00000002.jsonl")).expect("renamed");
            Vec::new()
        }),
        ("a segment cut short", 65, |scratch| {
            let path = scratch.join("store/00000001.jsonl");
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
            file.set_len(1000).expect("cut");
            Vec::new()
        }),
        ("a store of the other mode", 78, |_| {
            settings().into_iter().map(|(name, value)| (&*String::leak(name), value)).collect()
        }),
    ];
    for (what, code, prepare) in rows {
        let scratch = Scratch::new();
        if code == 65 || code == 78 {
            made(&scratch);
        }
        let settings = prepare(&scratch);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let before = listing(scratch.path());
        let checked = check(&scratch, &settings);
        assert_eq!(checked.code, code, "{what}: {}", checked.stderr);
        assert_eq!(listing(scratch.path()), before, "{what}");
        let served = cli(&scratch, &settings, &["serve"]);
        let last = served.stderr.lines().last().unwrap_or_default();
        assert_eq!(served.code, code, "{what}: {}", served.stderr);
        if code != 74 {
            let said = checked.stderr.lines().last();
            assert_eq!(said, Some(last), "{what}: the same sentence");
        }
    }

    // In use, whether or not there is a store.
    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = held.local_addr().expect("an address").to_string();
    let scratch = Scratch::new();
    assert_eq!(check(&scratch, &[("OPENEXEC_LISTEN", &address)]).code, 75);
    made(&scratch);
    assert_eq!(check(&scratch, &[("OPENEXEC_LISTEN", &address)]).code, 75);
    assert_eq!(cli(&scratch, &[("OPENEXEC_LISTEN", &address)], &["serve"]).code, 75);
}

/// A user who is nobody, where the test may choose: root may write anywhere.
const NOBODY: u32 = 65_534;

/// The command as [`NOBODY`], whose everything in `scratch` is.
fn as_nobody(scratch: &Scratch, settings: &[(&str, &str)], command: &str) -> Ended {
    let mut child = common::openexec(scratch);
    child.envs(settings.iter().copied()).arg(command);
    if is_root() {
        child.uid(NOBODY).gid(NOBODY);
        give_away(scratch.path());
    }
    common::run(child, "")
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().expect("itself").uid() == 0
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("given");
    let metadata = path.symlink_metadata().expect("measured");
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("listed") {
            give_away(&entry.expect("an entry").path());
        }
    }
}

/// Spoils something, and gives what the sentence must name.
type Spoil = fn(&Scratch) -> Vec<String>;

/// Approvals would be spent on what cannot run.
#[test]
fn what_handlers_need_is_tried_at_start_and_by_check() {
    let rows: [(&str, &str, i32, Spoil); 16] = [
        ("an outbox that may not be written", "", 78, |scratch| {
            vec![closed_at(scratch, "outbox", 0o555), "chown ".into(), "user id ".into()]
        }),
        ("an outbox that may not be searched", "", 78, |scratch| {
            vec![closed_at(scratch, "outbox", 0o600), "chown ".into()]
        }),
        ("an outbox that is a file", "", 78, |scratch| {
            std::fs::remove_dir(scratch.join("outbox")).expect("removed");
            std::fs::write(scratch.join("outbox"), "").expect("written");
            vec!["OPENEXEC_OUTBOX_DIR".into(), "is not a directory".into()]
        }),
        ("files that may not be written", "", 78, |scratch| {
            vec![closed_at(scratch, "files", 0o555), "'write_file'".into(), "chown ".into()]
        }),
        ("files that are not there", "", 78, |scratch| {
            std::fs::remove_dir(scratch.join("files")).expect("removed");
            vec!["OPENEXEC_FILES_DIR".into(), "make the directory".into()]
        }),
        ("a queue that may not be written", "", 78, |scratch| {
            vec![closed_at(scratch, "outbox/tickets", 0o555), "chown ".into()]
        }),
        ("a queue of an action that may not be written", "", 78, |scratch| {
            vec![closed_at(scratch, "outbox/send_email", 0o555), "chown ".into()]
        }),
        ("a queue that is a file", "", 78, |scratch| {
            let queue = scratch.join("outbox/tickets");
            std::fs::write(&queue, "").expect("written");
            vec![queue.display().to_string(), "is not a directory".into()]
        }),
        ("a queue that is a link to a directory", "", 78, |scratch| {
            std::fs::create_dir(scratch.join("elsewhere")).expect("made");
            symlink(scratch.join("elsewhere"), scratch.join("outbox/tickets")).expect("linked");
            vec!["outbox/tickets".into(), "is not a directory".into()]
        }),
        ("a place for taken jobs that is a file", "", 78, |scratch| {
            std::fs::create_dir(scratch.join("outbox/tickets")).expect("made");
            std::fs::write(scratch.join("outbox/tickets/taken"), "").expect("written");
            vec!["outbox/tickets/taken".into(), "is not a directory".into()]
        }),
        ("a place for done jobs that may not be searched", "", 78, |scratch| {
            vec![closed_at(scratch, "outbox/tickets/done", 0o400), "chown ".into()]
        }),
        ("an approvals directory that may not be searched", "approvals", 78, |scratch| {
            vec![closed_at(scratch, "approvals", 0o600), "OPENEXEC_APPROVALS_DIR".into()]
        }),
        ("nothing", "", 0, |_| Vec::new()),
        ("nothing that is a queue's", "", 0, |scratch| {
            std::fs::write(scratch.join("outbox/READ.ME"), "").expect("written");
            std::fs::write(scratch.join("outbox/.openexec-left"), "").expect("written");
            std::fs::create_dir(scratch.join("outbox/tickets")).expect("made");
            std::fs::write(scratch.join("outbox/tickets/note"), "").expect("written");
            Vec::new()
        }),
        ("an outbox for no action that is allowed", "echo", 0, |scratch| {
            closed_at(scratch, "outbox", 0o555);
            Vec::new()
        }),
        ("files for no action that is allowed", "echo,enqueue", 0, |scratch| {
            closed_at(scratch, "files", 0o555);
            Vec::new()
        }),
    ];
    for (what, more, code, spoil) in rows {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.join(name).display().to_string();
        for name in ["outbox", "files", "approvals"] {
            std::fs::create_dir(scratch.join(name)).expect("made");
        }
        let (outbox, files, approvals) = (path("outbox"), path("files"), path("approvals"));
        let mut all = vec![("OPENEXEC_OUTBOX_DIR", &*outbox), ("OPENEXEC_FILES_DIR", &files)];
        let claw = common::approvals::settings();
        match more {
            "" => {}
            "approvals" => {
                all.extend(borrowed(&claw));
                all.push(("OPENEXEC_APPROVALS_DIR", &approvals));
            }
            actions => all.push(("OPENEXEC_ALLOWED_ACTIONS", actions)),
        }
        assert_eq!(as_nobody(&scratch, &all, "init").code, 0, "{what}");
        let named = spoil(&scratch);
        let before = listing_of_files(&scratch);
        let checked = as_nobody(&scratch, &all, "check");
        assert_eq!(checked.code, code, "{what}: {}{}", checked.stdout, checked.stderr);
        if code == 0 {
            assert!(checked.stdout.contains("actions: what their handlers need"), "{what}");
        } else {
            let served = as_nobody(&scratch, &all, "serve");
            assert_eq!(served.code, code, "{what}: {}", served.stderr);
            for ended in [checked, served] {
                for part in &named {
                    assert!(ended.stderr.contains(part), "{what}: {part}: {}", ended.stderr);
                }
            }
        }
        assert_eq!(listing_of_files(&scratch), before, "{what}: nothing is left");
    }
}

/// A directory that is there, with that mode: its path.
fn closed_at(scratch: &Scratch, name: &str, mode: u32) -> String {
    let path = scratch.join(name);
    std::fs::create_dir_all(&path).expect("made");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("closed");
    path.display().to_string()
}

/// What is in the directories of the handlers, as root sees it.
fn listing_of_files(scratch: &Scratch) -> BTreeMap<String, (u64, u64, i64)> {
    let mut all = BTreeMap::new();
    for name in ["outbox", "files"] {
        if is_root() && scratch.join(name).is_dir() {
            all.extend(listing(&scratch.join(name)));
        }
    }
    all
}

/// It gates a reload: the configuration is judged, and the service beside it is left alone.
#[test]
fn beside_a_live_service_it_judges_the_configuration() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.join(name).display().to_string();
    let (outbox, checkpoint) = (path("outbox"), path("checkpoint"));
    std::fs::create_dir(&outbox).expect("made");
    let mut settings = settings();
    settings.push(("OPENEXEC_OUTBOX_DIR".into(), outbox.clone()));
    settings.push(("OPENEXEC_CHECKPOINT_FILE".into(), checkpoint));
    let second = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr());
    let second = second.expect("an address").to_string();
    let own = format!("unix:{}", path("own"));
    let listen = format!("127.0.0.1:0,{own},{second}");
    settings.push(("OPENEXEC_LISTEN".into(), listen));
    let settings = borrowed(&settings);
    let server = common::approvals::start(&scratch, &settings);
    let prepared = || server.metric("openexec_segments_prepared") > 0;
    common::until("the next segment is made", prepared);
    let at = server.address.clone();
    let with = |name: &'static str, value: &str| {
        let mut all: Vec<(&str, String)> =
            settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.retain(|(known, _)| *known != name);
        all.push((name, value.to_owned()));
        all
    };
    let port = at.rsplit(':').next().expect("a port");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).expect("bound");
    let demo = [("OPENEXEC_DB_URL", path("store"))];
    let demo: Vec<(&str, String)> =
        demo.map(|(name, value)| (name, format!("file:{value}"))).into();
    let socket = format!("unix:{}", path("socket"));
    // A service that has ended left it, and one that starts again meanwhile has its own there.
    drop(UnixListener::bind(path("left")).expect("bound"));
    let socket_left = || std::fs::symlink_metadata(path("left")).expect("it is there").ino();
    let left_before = socket_left();
    let left_behind = format!("unix:{}", path("left"));
    let in_use = |address: &str| format!("address: {address} is in use beside that service\n");
    let missing = format!("unix:{}", path("missing/socket"));
    let any = format!("0.0.0.0:{port}");
    let [of_first, of_any, of_stdin, of_own, of_second] =
        [&at, &any, "standard input", &own, &second].map(in_use);
    let rows = [
        (with("OPENEXEC_LISTEN", &at), 0, &*of_first),
        (with("OPENEXEC_LISTEN", &any), 0, &of_any),
        (with("OPENEXEC_LISTEN", "stdin"), 0, &of_stdin),
        // Each is tried, not only until one is the service's.
        (with("OPENEXEC_LISTEN", &format!("{at},{missing}")), 74, "cannot listen on"),
        (with("OPENEXEC_LISTEN", &format!("{missing},{at}")), 74, "cannot listen on"),
        (with("OPENEXEC_LISTEN", &format!("{at},127.0.0.1:0")), 0, "address: free"),
        // Of the service's own, LOCK names the first only.
        (with("OPENEXEC_LISTEN", &format!("{at},{own},{second}")), 0, &of_second),
        (with("OPENEXEC_LISTEN", &format!("{own},127.0.0.1:0")), 0, &of_own),
        (with("OPENEXEC_LISTEN", "127.0.0.1:0"), 0, "address: free"),
        (with("OPENEXEC_LISTEN", &socket), 0, "address: free"),
        (with("OPENEXEC_LISTEN", &left_behind), 0, "address: free"),
        (with("OPENEXEC_LISTEN", &taken.1), 75, "cannot listen on"),
        (with("OPENEXEC_ALLOWED_ACTIONS", "nope"), 78, "nope"),
        (with("OPENEXEC_OUTBOX_DIR", &path("missing")), 78, "make the directory"),
        (with("OPENEXEC_CHECKPOINT_FILE", &path("missing")), 78, "missing"),
        (demo, 78, "was made for clawshield mode"),
    ];
    for (settings, code, sentence) in rows {
        let before: Vec<String> = listing(&server.store).into_keys().collect();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
        let ended = check(&scratch, &settings);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, code, "{said}");
        assert!(said.contains(sentence), "{sentence}: {said}");
        assert!(code != 0 || said.contains(", in use ("), "{said}");
        let after: Vec<String> = listing(&server.store).into_keys().collect();
        assert_eq!(after, before, "{sentence}: nothing is left in the store");
    }
    let left: Vec<String> = listing(Path::new(&outbox)).into_keys().collect();
    assert_eq!(left, [path("outbox/.openexec-place")], "but the service's own mark");
    assert_eq!(socket_left(), left_before, "nothing was put in its place");
    // It was not disturbed.
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!(server.execute(r#"{"action":"echo","nonce":"n"}"#).code(), "approval_missing");
    assert_eq!(cli(&scratch, &settings, &["healthcheck"]).code, 0);
}

#[test]
fn it_warns_of_a_store_that_is_open_to_others() {
    let scratch = Scratch::new();
    assert_eq!(cli(&scratch, &[], &["init"]).code, 0);
    let store = scratch.join("store");
    let warning = |ended: &Ended| {
        let mut lines = ended.stdout.lines().filter(|line| line.starts_with("warning: the store"));
        lines.next().map(str::to_owned)
    };
    assert_eq!(warning(&check(&scratch, &[])), None);
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o770)).expect("chmod");
    let ended = check(&scratch, &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let warning = warning(&ended).expect("a warning");
    assert!(warning.contains("mode 770") && warning.contains("chmod 700"), "{warning}");
}

/// A service may start while it looks, and have its own there.
#[test]
fn it_puts_nothing_in_the_place_of_a_socket() {
    let scratch = Scratch::new();
    let path = scratch.join("left");
    drop(UnixListener::bind(&path).expect("bound"));
    let before = listing(scratch.path());
    let inode = || std::fs::symlink_metadata(&path).expect("it is there").ino();
    let (listen, inode_before) = (format!("unix:{}", path.display()), inode());
    let ended = check(&scratch, &[("OPENEXEC_LISTEN", &listen)]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.ends_with("address: free\n"), "{}", ended.stdout);
    assert_eq!((inode(), listing(scratch.path())), (inode_before, before));
}
