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
use std::path::Path;

use common::clawshield::{borrowed, settings};
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
        ("the inner socket for an address", 74, |scratch| {
            std::fs::create_dir(scratch.join("store")).expect("made");
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
            assert_eq!(checked.stderr.trim_end(), last, "{what}: the same sentence");
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
