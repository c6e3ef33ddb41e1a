//! The real binary, started and asked over real sockets.
#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../approval_support/mod.rs"]
pub mod approval_support;
pub mod clawshield;
pub mod evidence;
pub mod extends;
pub mod handlers;
pub mod owed;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a busy machine; nothing is asserted about it but that it ends.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("waited").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it should have ended by itself: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("waited");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs `openexec` with these arguments and settings.
pub fn cli(scratch: &Scratch, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = openexec(scratch);
    command.envs(environment.iter().copied()).args(arguments);
    run(command, "")
}

/// Waits until something that another process does has happened.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection kept for many requests.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client(BufReader::new(stream))
    }

    pub fn exchange(&mut self, request: &[u8]) -> Answer {
        self.0.get_mut().write_all(request).expect("sent");
        read_answer(&mut self.0).expect("an answer")
    }
}

/// SHA-256 in hexadecimal, not by the product's own code.
pub fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 8785, not by the product's own code.
pub fn canonical(value: &Value) -> String {
    serde_json_canonicalizer::to_string(value).expect("canonical")
}

/// Holds the answer to the form of every problem, and gives its body.
pub fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{text}");
    assert_eq!(answer.header("server"), Some("openexec"));
    let body = answer.json();
    assert_eq!(body["code"], code, "{text}");
    assert_eq!(body["status"], status, "{text}");
    assert_eq!(body["type"], "about:blank", "{text}");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{text}");
    assert_eq!(text, canonical(&body), "every answer is canonical");
    body
}

/// As [`problem`], of a refused attempt: it has a receipt, which holds.
pub fn refusal(answer: &Answer, status: u16, code: &str) -> Value {
    let body = problem(answer, status, code);
    assert_eq!(body["approved"], false, "{body}");
    assert!(body["recorded"].is_boolean(), "{body}");
    assert_eq!(body["result"]["denied"]["code"], code, "{body}");
    assert_eq!(body["result"]["denied"]["detail"], body["detail"], "{body}");
    assert_receipt(&body);
    body
}

/// As [`problem`], of what was no attempt: it has no receipt.
pub fn no_attempt(answer: &Answer, status: u16, code: &str) -> Value {
    let body = problem(answer, status, code);
    for member in ["approved", "id", "result", "receipt", "recorded", "outcome"] {
        assert!(body.get(member).is_none(), "{member} in {body}");
    }
    body
}

/// Holds a 200 of `/execute` to its request, by independent code, and gives its body.
pub fn executed(answer: &Answer, action: &str, nonce: &str, payload: &Value) -> Value {
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(text, canonical(&body), "every answer is canonical");
    let names: Vec<&str> = body.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(names, ["action", "approved", "id", "outcome", "receipt", "result"]);
    assert_eq!(body["action"], action);
    assert_eq!(body["approved"], true);
    assert_eq!(body["outcome"], "executed");
    let request = serde_json::json!({"action": action, "nonce": nonce, "payload": payload});
    assert_eq!(body["id"], sha256(&canonical(&request)), "{text}");
    assert_receipt(&body);
    body
}

/// `receipt` = SHA-256 of `id:canonical(result)`.
pub fn assert_receipt(body: &Value) {
    let id = body["id"].as_str().expect("an id");
    assert_eq!(body["receipt"], sha256(&format!("{id}:{}", canonical(&body["result"]))), "{body}");
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
