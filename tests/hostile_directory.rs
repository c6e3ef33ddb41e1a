//! Every command, run by root in a store's directory that somebody else owns and has prepared: no link
//! is followed, nothing is opened that is no regular file, and nothing waits for the one who did it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests start processes")]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Scratch;

/// Somebody who owns the directory.
const NOBODY: u32 = 65_534;
/// Nothing here takes long; what has not ended by then waits for somebody who never comes.
const HANGS: Duration = Duration::from_secs(60);

/// What a command finds under a name.
const KINDS: [&str; 11] = [
    "a link to a file of root's",
    "a further name of a file of root's",
    "a link to nothing",
    "a link to a FIFO",
    "a FIFO",
    "a directory",
    "a socket that nobody reads",
    "a device",
    "a huge file",
    "an unreadable file",
    "a file of another's text",
];

/// Names that are looked at, made or removed, beside those that begin a store.
const NAMES: [&str; 14] = [
    "LOCK",
    "FROZEN",
    "UNFROZEN",
    "FROZEN.tmp",
    "00000001.jsonl",
    "00000002.jsonl",
    "00000001.jsonl.tmp",
    "00000002.jsonl.tmp",
    "inner.sock",
    "inner.sock~",
    "torn-00000001-512",
    "check-0.tmp",
    "../checkpoint/file",
    "../checkpoint/file.tmp",
];

struct World {
    scratch: Scratch,
    store: PathBuf,
    /// Root's, and nobody else's.
    precious: PathBuf,
    before: (Vec<u8>, u32, i64, i64, u64),
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        for (name, mode) in [("roots", 0o700), ("checkpoint", 0o777)] {
            fs::create_dir(scratch.join(name)).expect("made");
            fs::set_permissions(scratch.join(name), Permissions::from_mode(mode)).expect("set");
        }
        let precious = scratch.join("roots/precious");
        fs::write(&precious, "root:x:0:0\n").expect("written");
        fs::set_permissions(&precious, Permissions::from_mode(0o600)).expect("set");
        let store = scratch.join("store");
        let before = seen(&precious);
        let world = World { scratch, store, precious, before };
        assert!(world.run("init").success());
        chown(&world.store, Some(NOBODY), Some(NOBODY)).expect("given away");
        chown(world.scratch.join("checkpoint"), Some(NOBODY), Some(NOBODY)).expect("given away");
        world
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = common::openexec(&self.scratch);
        command.args(words).env("OPENEXEC_CHECKPOINT_FILE", self.scratch.join("checkpoint/file"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, word: &str) -> std::process::ExitStatus {
        let words: Vec<&str> = word.split(' ').collect();
        let mut child = self.command(&words).spawn().expect("started");
        wait(&mut child, word, |_| false).expect("it ends by itself")
    }

    /// Serves until it ends or answers.
    fn serve(&self) {
        let _ = fs::remove_file(self.scratch.join("log"));
        let mut command = self.command(&["serve"]);
        let log = self.scratch.join("log");
        let mut child =
            command.stderr(File::create(&log).expect("a log")).spawn().expect("started");
        let is_open =
            |_: &Child| fs::read_to_string(&log).is_ok_and(|log| log.contains("OpenExec serves"));
        if wait(&mut child, "serve", is_open).is_none() {
            child.kill().expect("killed");
            child.wait().expect("waited");
        }
    }

    /// Puts it under the name, and gives what to undo it by.
    fn plant(&self, name: &str, kind: &str) -> Planted {
        let path = self.store.join(name);
        let aside = self.scratch.join("aside");
        let kept = fs::rename(&path, &aside).is_ok();
        let roots = self.scratch.join("roots");
        let mut listener = None;
        match kind {
            "a link to a file of root's" => symlink(&self.precious, &path).expect("linked"),
            "a further name of a file of root's" => {
                fs::hard_link(&self.precious, &path).expect("linked");
            }
            "a link to nothing" => symlink(roots.join("absent"), &path).expect("linked"),
            "a link to a FIFO" => {
                let fifo = roots.join("fifo");
                if !fifo.exists() {
                    common::fifo(&fifo);
                }
                symlink(&fifo, &path).expect("linked");
            }
            "a FIFO" => common::fifo(&path),
            "a directory" => fs::create_dir(&path).expect("made"),
            "a socket that nobody reads" => listener = Some(deaf(&path)),
            "a device" => make("mknod", &path, &["c", "1", "5"]),
            "a huge file" => File::create(&path).expect("made").set_len(1 << 40).expect("grown"),
            "an unreadable file" => {
                fs::write(&path, "x").expect("written");
                fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("set");
            }
            _ => fs::write(&path, format!("1 unix:{}/deaf\n", roots.display())).expect("written"),
        }
        let owner = fs::symlink_metadata(&path).expect("there");
        if owner.ino() != fs::metadata(&self.precious).expect("there").ino() {
            std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        Planted { path, aside: kept.then_some(aside), _listener: listener }
    }

    /// The auditors' script, in no more memory than a few segments take; whether it took the store for good.
    fn read_store(&self, what: &str) -> bool {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/read_store.py");
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -v 500000; exec python3 \"$0\" \"$1\"", script])
            .arg(&self.store);
        let log = self.scratch.join("reader");
        command.stdin(Stdio::null()).stdout(File::create(&log).expect("a log"));
        command.stderr(File::create(self.scratch.join("refused")).expect("a log"));
        let status = wait(&mut command.spawn().expect("started"), what, |_| false).expect("ended");
        let said = [log, self.scratch.join("refused")].map(|log| fs::read(log).expect("read"));
        let said = String::from_utf8(said.concat()).expect("UTF-8");
        assert!(!said.contains("Traceback"), "{what}: {said}");
        assert!(said.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "{what}: {said:?}");
        status.success()
    }

    fn must_be_untouched(&self, what: &str) {
        assert_eq!(seen(&self.precious), self.before, "{what}");
        let absent = self.scratch.join("roots/absent");
        assert!(absent.symlink_metadata().is_err(), "{what}: made through a link");
    }
}

struct Planted {
    path: PathBuf,
    aside: Option<PathBuf>,
    _listener: Option<UnixListener>,
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir(&self.path));
        if let Some(aside) = &self.aside {
            fs::rename(aside, &self.path).expect("put back");
        }
    }
}

/// Content, mode, when content and names changed last, and how many names but those that we gave it.
fn seen(path: &Path) -> (Vec<u8>, u32, i64, i64, u64) {
    let metadata = fs::metadata(path).expect("there");
    let content = fs::read(path).expect("read");
    (content, metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

fn make(tool: &str, path: &Path, more: &[&str]) {
    let made = Command::new(tool).arg(path).args(more).status().expect("started");
    assert!(made.success(), "{tool} {}", path.display());
}

/// A socket whose queue is full: to connect waits until somebody accepts, so for ever.
fn deaf(path: &Path) -> UnixListener {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let address = socket2::SockAddr::unix(path).expect("an address");
    socket.bind(&address).expect("bound");
    socket.listen(0).expect("listening");
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    // One waits in the queue, and that is all there is room for.
    std::mem::forget(std::os::unix::net::UnixStream::connect(path).expect("queued"));
    listener
}

/// How it ended; `None` where it goes on, and is as far as it should come.
fn wait(
    child: &mut Child,
    what: &str,
    is_far_enough: impl Fn(&Child) -> bool,
) -> Option<std::process::ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waited") {
            return Some(status);
        }
        if is_far_enough(child) {
            return None;
        }
        if began.elapsed() > HANGS {
            let _ = child.kill();
            panic!("{what} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        eprintln!("skipped: only root can give files away and make devices");
    }
    is_root
}

#[test]
fn short_commands_touch_nothing_of_roots() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let _deaf = deaf(&world.scratch.join("roots/deaf"));
    for kind in KINDS {
        for name in NAMES {
            let planted = world.plant(name, kind);
            for word in ["freeze", "unfreeze", "pending", "healthcheck"] {
                world.run(word);
                world.must_be_untouched(&format!("{word}: {name} is {kind}"));
            }
            drop(planted);
            for left in ["FROZEN", "UNFROZEN"] {
                let left = world.store.join(left);
                let _ = fs::remove_file(&left).or_else(|_| fs::remove_dir(&left));
            }
        }
    }
}

#[test]
fn what_reads_or_writes_a_store_touches_nothing_of_roots() {
    if !is_root() {
        return;
    }
    let world = World::new();
    for kind in KINDS {
        // Names that are reached whatever the others are stand together.
        for names in [
            &["LOCK"][..],
            &["00000001.jsonl"],
            &["00000002.jsonl"],
            &["inner.sock"],
            &["../checkpoint/file"],
            &["FROZEN", "00000002.jsonl.tmp", "inner.sock~", "torn-00000001-512", "check-0.tmp"],
            &["UNFROZEN", "00000001.jsonl.tmp", "../checkpoint/file.tmp"],
        ] {
            let planted: Vec<_> = names.iter().map(|name| world.plant(name, kind)).collect();
            for word in ["verify", "checkpoint", "check", "init"] {
                world.run(word);
                world.must_be_untouched(&format!("{word}: {names:?} is {kind}"));
            }
            // Of the other names it knows nothing.
            if names[0].ends_with(".jsonl") {
                let what = format!("read_store.py: {names:?} is {kind}");
                assert!(!world.read_store(&what), "{what}");
            }
            world.serve();
            world.must_be_untouched(&format!("serve: {names:?} is {kind}"));
            drop(planted);
            for left in fs::read_dir(&world.store).expect("listed") {
                let left = left.expect("a name").path();
                if left.file_name().is_some_and(|name| name != "00000001.jsonl") {
                    let _ = fs::remove_file(&left).or_else(|_| fs::remove_dir(&left));
                }
            }
        }
    }
    assert!(world.run("verify").success(), "the store is as good as it was");
    // Names that are nobody's segment are nobody's text either.
    for name in ["0\u{1b}[2J.jsonl", "000000010.jsonl", "00000000.jsonl", "0000000\u{661}.jsonl"] {
        fs::write(world.store.join(name), "x").expect("written");
    }
    assert!(world.run("verify").success() && world.read_store("names of others"));
}

/// A stop is never missed because two give it at once.
#[test]
fn any_number_may_freeze_at_once() {
    let scratch = Scratch::new();
    assert!(common::openexec(&scratch).arg("init").status().expect("ran").success());
    let mut children: Vec<Child> = (0..24)
        .map(|n| {
            let mut command = common::openexec(&scratch);
            command.args(["freeze", "--reason", &format!("reason {n}")]).stdout(Stdio::null());
            command.spawn().expect("started")
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().expect("waited").success());
    }
    let text = fs::read_to_string(scratch.join("store/FROZEN")).expect("a file");
    assert!(text.starts_with("reason ") && text.ends_with('\n'), "{text:?}");
    let left: Vec<_> = fs::read_dir(scratch.join("store")).expect("listed").collect();
    assert_eq!(left.len(), 3, "LOCK, FROZEN and a segment: {left:?}");
}
