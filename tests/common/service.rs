//! The real binary: started and asked over real sockets, or run to its end as a command.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Answer, exchange, get, post, try_exchange};
use super::{PATIENCE, Scratch};

/// The binary with a clean environment, its store below `scratch`.
pub fn openexec(scratch: &Scratch) -> Command {
    command(&binary(), scratch)
}

/// Ours, or the one that `OPENEXEC_TEST_BINARY` names, which takes the same words.
fn binary() -> String {
    let other = std::env::var("OPENEXEC_TEST_BINARY");
    other.unwrap_or_else(|_| env!("CARGO_BIN_EXE_openexec").to_owned())
}

/// The program that stands in for the service over a database, where `postgres/tests/suites.sh` has these tests ask it.
pub fn stand_in() -> Option<String> {
    std::env::var("OPENEXEC_TEST_STAND_IN").ok()
}

/// What the program that stands in answers to a word about the database of that store; nothing over files.
pub fn of_database(word: &str, store: &Path) -> Option<String> {
    let mut asked = Command::new(stand_in()?);
    asked.arg(word).env("OPENEXEC_DB_URL", format!("file:{}", store.display()));
    let done = asked.output().expect("run");
    assert!(done.status.success(), "{word}: {}", String::from_utf8_lossy(&done.stderr));
    Some(String::from_utf8(done.stdout).expect("UTF-8"))
}

/// The store, in files. Where it is a database, all that it has by now is written there first.
pub fn in_files(store: &Path) -> &Path {
    of_database("mirror", store);
    store
}

/// What the service says in `LOCK`, in its store; or, where that is elsewhere, in its one directory below `run`.
fn published(store: &Path) -> String {
    let run = std::fs::read_dir(store.with_file_name("run"));
    let directories = run.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut locks = directories.chain([store.to_owned()]).map(|directory| directory.join("LOCK"));
    locks.find_map(|lock| std::fs::read_to_string(lock).ok()).unwrap_or_default()
}

/// Any binary built on the library, in the same way.
pub fn command(binary: &str, scratch: &Scratch) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().current_dir(scratch.path()).stdin(Stdio::null());
    command.env("OPENEXEC_DB_URL", format!("file:{}", scratch.join("store").display()));
    command.env("OPENEXEC_LISTEN", "127.0.0.1:0");
    command
}

/// A server of ours, killed at the end.
pub struct Server {
    pub child: Child,
    pub address: String,
    pub store: PathBuf,
}

impl Server {
    /// Starts it and waits until `/ready` answers 200.
    pub fn start(scratch: &Scratch, environment: &[(&str, &str)]) -> Self {
        let mut command = openexec(scratch);
        command.envs(environment.iter().copied());
        Self::spawn(command, scratch)
    }

    /// As [`Server::start`], of a command made with [`command`].
    pub fn spawn(command: Command, scratch: &Scratch) -> Self {
        Self::spawn_until(command, scratch, |server| {
            try_exchange(&server.address, &get("/ready")).is_ok_and(|a| a.status == 200)
        })
    }

    /// As [`Server::spawn`]; waits for something else.
    pub fn spawn_until(
        mut command: Command,
        scratch: &Scratch,
        is_far_enough: impl Fn(&Server) -> bool,
    ) -> Self {
        let store = scratch.join("store");
        let _ = std::fs::write(store.join("LOCK"), "");
        let _ = std::fs::remove_dir_all(scratch.join("run"));
        let stderr = std::fs::File::create(scratch.join("stderr")).expect("a log");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        let mut server = Server { child: child.expect("started"), address: String::new(), store };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().expect("waited") {
                let log = std::fs::read_to_string(scratch.join("stderr")).unwrap_or_default();
                panic!("the server ended with {status}:\n{log}");
            }
            let lock = published(&server.store);
            if let Some((_, address)) = lock.trim_end().split_once(' ') {
                server.address = address.to_owned();
                if is_far_enough(&server) {
                    return server;
                }
            }
            assert!(Instant::now() < deadline, "the server did not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        exchange(&self.address, &get(path))
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        exchange(&self.address, &post(path, body.as_bytes()))
    }

    pub fn execute(&self, body: &str) -> Answer {
        self.post("/execute", body)
    }

    /// The value of one metric line.
    pub fn metric(&self, line: &str) -> u64 {
        let text = self.get("/metrics").text();
        let value =
            text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let path = self.store.with_file_name("stderr");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// How often the action's handler has run in this process.
    pub fn runs(&self, action: &str) -> u64 {
        self.metric(&format!("openexec_handler_runs_total{{action=\"{action}\"}}"))
    }

    /// SIGKILL, the tested way to stop.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end with that text on its standard input.
pub fn run(mut command: Command, stdin: &str) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // A command that reads no input may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    // Read while it runs: what says more than a pipe holds would wait for ever.
    let said = [heard(child.stdout.take()), heard(child.stderr.take())];
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("waited") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.is_none() {
        let _ = child.kill();
    }
    let [stdout, stderr] = said.map(|reader| reader.join().expect("read"));
    let Some(status) = status else {
        panic!("it should have ended by itself: {stdout}{stderr}");
    };
    Ended { code: status.code().unwrap_or(-1), stdout, stderr }
}

fn heard(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.expect("piped").read_to_string(&mut text).expect("UTF-8");
        text
    })
}

/// Runs `openexec` with these arguments and settings.
pub fn cli(scratch: &Scratch, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = openexec(scratch);
    command.envs(environment.iter().copied()).args(arguments);
    run(command, "")
}

/// A command without a terminal, wherever this test runs.
pub fn without_terminal(scratch: &Scratch, arguments: &[&str], stdin: &str) -> Ended {
    let mut command = command("setsid", scratch);
    command.env("PATH", "/usr/bin:/bin").arg("--wait").arg(binary());
    command.args(arguments);
    run(command, stdin)
}

/// The command with a terminal that answers, and a pipe that says yes.
pub fn on_terminal(scratch: &Scratch, arguments: &str, answer: &str) -> Ended {
    let mut command = command("script", scratch);
    let inner = format!("echo yes | {} {arguments}", binary());
    command.env("PATH", "/usr/bin:/bin").args(["-qec", &inner, "/dev/null"]);
    run(command, &format!("{answer}\n"))
}

/// Waits until something that another process does has happened.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
