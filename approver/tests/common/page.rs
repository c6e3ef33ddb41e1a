//! The page's process, asked as a browser asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Scratch, TOOL, key_file, text};

/// `openexec-approve page`, ended at the end.
pub struct Page {
    child: Option<Child>,
    /// `127.0.0.1:PORT`.
    pub host: String,
    pub token: String,
}

impl Page {
    pub fn start(scratch: &Scratch, url: &str, more: &[&str]) -> Self {
        let key = key_file(scratch, 1, 0o600).display().to_string();
        Self::of(url, &key, more)
    }

    pub fn of(url: &str, key: &str, more: &[&str]) -> Self {
        let mut command = Command::new(TOOL);
        command.args(["page", "--url", url, "--key", key]).args(more).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let mut page = Self::at(line.trim_end());
        page.child = Some(child);
        page
    }

    /// One that somebody else ends.
    pub fn at(address: &str) -> Self {
        let address = address.strip_prefix("http://").expect("an address");
        let (host, token) = address.split_once('/').expect("a token");
        Page { child: None, host: host.to_owned(), token: token.to_owned() }
    }

    /// Whole bytes there, whole bytes back.
    pub fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.host).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("set");
        // It may have answered before it read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn get(&self, path: &str) -> (u16, String, String) {
        let head = format!("GET /{}/{path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.token, self.host);
        parts(&self.raw(head.as_bytes()))
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST /{}/{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len(),
            host = self.host
        );
        let (status, _, body) = parts(&self.raw(request.as_bytes()));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Decides about a view once it is old enough.
    pub fn decide(&self, path: &str, body: &Value) -> Value {
        let mut said = Value::Null;
        let mut ask = || {
            said = self.post(path, body);
            !refusal(&said).contains("sooner than anybody could look")
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !ask() {
            assert!(Instant::now() < deadline, "it is never old enough");
        }
        said
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn parts(answer: &[u8]) -> (u16, String, String) {
    let answer = text(answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, head.to_owned(), body.to_owned())
}

pub fn refusal(said: &Value) -> &str {
    said["refused"].as_str().unwrap_or_default()
}
