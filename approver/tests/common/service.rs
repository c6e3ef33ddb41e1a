//! The real service: this package's example `service`, the library with its built-in handlers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Scratch, TOOL};

/// Long enough for a busy machine; nothing is asserted about it but that it ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the service's binary is: cargo builds examples before it runs tests.
pub fn binary() -> PathBuf {
    Path::new(TOOL).parent().expect("a directory").join("examples/service")
}

/// A command of the service's binary, its store below `scratch`.
pub fn openexec(scratch: &Scratch, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().envs(environment.iter().copied()).current_dir(scratch.path());
    command.env("OPENEXEC_DB_URL", "file:store").env("OPENEXEC_LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null());
    command
}

/// A server of ours, killed at the end.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Makes a store, serves it, and waits until `/ready` answers 200.
    pub fn start(scratch: &Scratch, environment: &[(&str, &str)]) -> Self {
        let made = openexec(scratch, environment).arg("init").output().expect("run");
        assert!(made.status.success(), "{}", super::text(&made.stderr));
        let log = File::create(scratch.path().join("stderr")).expect("a log");
        let child = openexec(scratch, environment).stdout(Stdio::null()).stderr(log).spawn();
        let mut server = Server { child: child.expect("started"), address: String::new() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().expect("waited") {
                let log = std::fs::read_to_string(scratch.path().join("stderr"));
                panic!("the server ended with {status}:\n{}", log.unwrap_or_default());
            }
            let lock = std::fs::read_to_string(scratch.path().join("store/LOCK"));
            if let Some((_, address)) = lock.unwrap_or_default().trim_end().split_once(' ') {
                server.address = address.to_owned();
                if server.try_ask("GET", "/ready", "", "").is_some_and(|(status, _)| status == 200)
                {
                    return server;
                }
            }
            assert!(Instant::now() < deadline, "the server did not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Status and body; `headers` whole lines.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        self.try_ask(method, path, headers, body).expect("an answer")
    }

    pub fn execute(&self, body: &str) -> (u16, Value) {
        self.ask("POST", "/execute", "", body)
    }

    fn try_ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let length = match method {
            "POST" => {
                format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
            }
            _ => String::new(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{headers}{length}\r\n{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
