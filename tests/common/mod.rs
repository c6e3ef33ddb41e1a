//! The real binary, started and asked over real sockets.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a busy machine; nothing is asserted about it but that it ends.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("oe-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with a clean environment, its store below `scratch`.
pub fn openexec(scratch: &Scratch) -> Command {
    command(env!("CARGO_BIN_EXE_openexec"), scratch)
}

/// Any binary built on the library, in the same way.
pub fn command(binary: &str, scratch: &Scratch) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().current_dir(scratch.path());
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
    pub fn spawn(mut command: Command, scratch: &Scratch) -> Self {
        let store = scratch.join("store");
        let _ = std::fs::write(store.join("LOCK"), "");
        let stderr = std::fs::File::create(scratch.join("stderr")).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut server = Server { child: child.expect("started"), address: String::new(), store };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().expect("waited") {
                let log = std::fs::read_to_string(scratch.join("stderr")).unwrap_or_default();
                panic!("the server ended with {status}:\n{log}");
            }
            let lock = std::fs::read_to_string(server.store.join("LOCK")).unwrap_or_default();
            if let Some((_, address)) = lock.trim_end().split_once(' ') {
                server.address = address.to_owned();
                if try_exchange(&server.address, &get("/ready")).is_ok_and(|a| a.status == 200) {
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("").to_owned()
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// One request on a connection of its own.
pub fn exchange(address: &str, request: &[u8]) -> Answer {
    try_exchange(address, request).expect("an answer")
}

pub fn try_exchange(address: &str, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    read_answer(&mut BufReader::new(stream))
}

/// Reads one answer with a `Content-Length`.
pub fn read_answer(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let broken = |what: &str| std::io::Error::other(what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| broken("no status line"))?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ").ok_or_else(|| broken("no header"))?;
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| broken("no length"))?];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, headers, body })
}
