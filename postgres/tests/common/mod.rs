//! A PostgreSQL of Debian's packages, started by the test on a socket of its own; services of ours over it; and a proxy
//! between the two that cuts.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each test uses a part of it"
)]

#[path = "../../../tests/common/http.rs"]
pub mod http;
pub mod jobs;
pub mod operator;
pub mod proxy;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::{Answer, get, post, try_exchange};

/// Long enough for a busy machine; nothing is asserted about it but that it ends.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Cluster {
    pub dir: PathBuf,
}

impl Cluster {
    /// With a database `d`, and a log in it for demo mode.
    pub fn new() -> Self {
        let cluster = Self::empty();
        cluster.init(&[]);
        cluster
    }

    /// Makes the log, with these settings.
    pub fn init(&self, settings: &[(&str, &str)]) {
        let words = "init --serve-role serve --operator-role op --worker-role work";
        let words: Vec<&str> = words.split(' ').collect();
        let made = self.command("owner", &words).envs(settings.iter().copied()).output();
        let made = made.expect("run");
        assert!(made.status.success(), "{made:?}");
    }

    /// With a database `d`.
    pub fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("oepg-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let cluster = Cluster { dir };
        cluster.script(&[]);
        cluster.sql("postgres", "postgres", "CREATE DATABASE d OWNER owner");
        cluster
    }

    fn script(&self, words: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");
        let done = Command::new(script).arg(&self.dir).args(words).status().expect("run");
        assert!(done.success(), "{words:?}");
    }

    pub fn stop(&self) {
        self.script(&["stop"]);
    }

    pub fn start(&self) {
        self.script(&["start"]);
    }

    /// A server that follows this one, in that new directory; `end` ends it.
    pub fn standby(&self, dir: &Path) {
        self.script(&["standby", dir.to_str().expect("UTF-8")]);
    }

    /// What the server in that directory answers to a superuser.
    pub fn asks(dir: &Path, sql: &str) -> String {
        let mut psql = Command::new("psql");
        let done =
            psql.args(["-qAtX", "-U", "postgres", "-c", sql, "-h"]).arg(dir).arg("d").output();
        String::from_utf8(done.expect("run").stdout).expect("UTF-8").trim_end().to_owned()
    }

    pub fn end(dir: &Path) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");
        let _ = Command::new(script).arg(dir).arg("stop").output();
    }

    /// SIGKILL to the postmaster, whose children end when they notice.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("its pid");
        let pid = pid.lines().next().expect("a line").to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().expect("run").success());
        until("nobody has the shared memory any more", || {
            // A start is refused while a child lives.
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");
            let started = Command::new(script).arg(&self.dir).arg("start").output().expect("run");
            started.status.success()
        });
    }

    /// What psql prints, as that role; panics where a statement fails.
    pub fn sql(&self, database: &str, role: &str, text: &str) -> String {
        let done = self.try_sql(database, role, text);
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8").trim_end().to_owned()
    }

    pub fn try_sql(&self, database: &str, role: &str, text: &str) -> Output {
        let mut psql = Command::new("psql");
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", role, "-c", text, "-h"])
            .arg(&self.dir)
            .arg(database);
        psql.output().expect("run")
    }

    /// Psql as that role, which does each thing when it is told it.
    pub fn session(&self, role: &str) -> Session {
        let mut psql = Command::new("psql");
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", role, "-h"]).arg(&self.dir).arg("d");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        Session(psql.spawn().expect("started"))
    }

    /// Waits until so many sessions of the server are so.
    pub fn until_sessions(&self, what: &str, number: usize, are: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {are}");
        until(what, || self.sql("d", "postgres", &sql) == number.to_string());
    }

    /// From now on commits wait for those standbys.
    pub fn set_standbys(&self, names: &str) {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        self.sql("d", "postgres", &set);
        self.sql("d", "postgres", "SELECT pg_reload_conf()");
        until("it is set", || self.sql("d", "postgres", "SHOW synchronous_standby_names") == names);
    }

    pub fn url(&self, role: &str, socket: &Path) -> String {
        format!("postgresql://{role}@/d?host={}", socket.display())
    }

    /// The binary with these words, a clean environment and that role.
    pub fn command(&self, role: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openexec-postgres"));
        command.env_clear().args(words).stdin(Stdio::null()).current_dir(&self.dir);
        command
            .env("OPENEXEC_DB_URL", self.url(role, &self.dir))
            .env("OPENEXEC_LISTEN", "127.0.0.1:0");
        command.env("OPENEXEC_ACCEPT_LOST_COMMITS", "yes");
        command
    }

    /// How many records of that kind have this text in them.
    pub fn count(&self, kind: &str, text: &str) -> usize {
        let sql = format!(
            "SELECT count(*) FROM openexec.rec WHERE line LIKE '%\"kind\":\"{kind}\"%' AND line LIKE '%{text}%'"
        );
        self.sql("d", "postgres", &sql).parse().expect("a number")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster.sh");
        let _ = Command::new(script).arg(&self.dir).arg("stop").output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub struct Session(Child);

impl Session {
    pub fn tell(&mut self, text: &str) {
        writeln!(self.0.stdin.as_mut().expect("piped"), "{text}").expect("sent");
    }

    /// Tells it the last; what it printed. Panics where a statement failed.
    pub fn end(mut self, text: &str) -> String {
        self.tell(text);
        let done = self.0.wait_with_output().expect("ended");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).expect("UTF-8").trim_end().to_owned()
    }
}

/// A service, killed at the end.
pub struct Node {
    pub child: Child,
    pub address: String,
    run: PathBuf,
}

impl Node {
    /// Starts it and waits until it listens.
    pub fn start(cluster: &Cluster, name: &str, settings: &[(&str, &str)]) -> Self {
        let run = cluster.dir.join(format!("run-{name}"));
        let _ = fs::remove_dir_all(&run);
        fs::create_dir(&run).expect("made");
        let mut command = cluster.command("serve", &[]);
        command.env("RUNTIME_DIRECTORY", &run);
        for (name, value) in settings {
            // An empty one takes away.
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let stderr = File::create(run.join("stderr")).expect("a log");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().expect("started");
        let mut node = Node { child, address: String::new(), run };
        until("it listens", || {
            if let Some(status) = node.child.try_wait().expect("waited") {
                panic!("it ended with {status}: {}", node.log());
            }
            let directories = fs::read_dir(&node.run).expect("listed").flatten();
            let mut locks =
                directories.filter_map(|entry| fs::read_to_string(entry.path().join("LOCK")).ok());
            let found = locks.find_map(|lock| Some(lock.trim_end().split_once(' ')?.1.to_owned()));
            node.address = found.unwrap_or_default();
            !node.address.is_empty()
        });
        node
    }

    pub fn start_ready(cluster: &Cluster, name: &str, settings: &[(&str, &str)]) -> Self {
        let node = Self::start(cluster, name, settings);
        until("it is ready", || node.is_ready());
        node
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.run.join("stderr")).unwrap_or_default()
    }

    pub fn is_ready(&self) -> bool {
        self.try_get("/ready").is_some_and(|answer| answer.status == 200)
    }

    pub fn try_get(&self, path: &str) -> Option<Answer> {
        try_exchange(&self.address, &get(path)).ok()
    }

    /// Of an `echo` with that nonce; `None` where no answer came.
    pub fn echo(&self, nonce: &str) -> Option<Answer> {
        self.execute(&format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{}}}}"))
    }

    pub fn execute(&self, body: &str) -> Option<Answer> {
        try_exchange(&self.address, &post("/execute", body.as_bytes())).ok()
    }

    /// Asks with the same body until it is executed; every answer before that said that this may be done.
    pub fn insist(&self, body: &str) -> Answer {
        let mut last = None;
        until("it is executed", || {
            let Some(answer) = self.execute(body) else { return false };
            let may_ask_again = ["outcome_unknown", "store_unavailable", "standby", "frozen"]
                .contains(&answer.code().as_str());
            assert!(answer.status == 200 || may_ask_again, "{}", answer.text());
            let done = answer.status == 200;
            last = Some(answer);
            done
        });
        last.expect("an answer")
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("run").success());
    }

    /// Its exit code, once it has ended by itself.
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        until("it ends", || {
            code = self.child.try_wait().expect("waited");
            code.is_some()
        });
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The answer without what a replay adds.
pub fn said(answer: &Answer) -> Value {
    answer.json()
}

/// Waits until something that another process does has happened.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
