//! What the tests share: the tool as people and scripts use it, a terminal, keys, and the real service.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each test uses a part of it, and drives binaries from outside"
)]

pub mod page;
pub mod peer;
pub mod service;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use openexec::core::base64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

pub const TOOL: &str = env!("CARGO_BIN_EXE_openexec-approve");
pub const REQUEST: &str = r#"{"action":"echo","payload":{"msg":"hi"},"nonce":"n1"}"#;

/// A directory of the test's own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("openexec-approve-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("made");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::encode(der))
}

/// PKCS#8 of the private key whose seed is this byte 32 times.
pub fn private_der(seed: u8) -> Vec<u8> {
    let mut der = vec![48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    der.extend([seed; 32]);
    der
}

pub fn private_pem(seed: u8) -> String {
    pem("PRIVATE KEY", &private_der(seed))
}

pub fn public_key(seed: u8) -> Vec<u8> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
    pair.public_key().as_ref().to_vec()
}

/// Whether the first key made the signature of what was sent.
pub fn is_signed(message: &[u8], statement: &Value) -> bool {
    let signature = base64::decode(statement["signature"].as_str().expect("text"));
    let key = UnparsedPublicKey::new(&ED25519, public_key(1));
    key.verify(message, &signature.expect("base64")).is_ok()
}

pub fn public_pem(seed: u8) -> String {
    let prefix = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];
    pem("PUBLIC KEY", &[&prefix[..], &public_key(seed)].concat())
}

/// The private key of a seed in a file of this mode.
pub fn key_file(scratch: &Scratch, seed: u8, mode: u32) -> PathBuf {
    scratch.file(&format!("key-{seed}-{mode:o}.pem"), private_pem(seed), mode)
}

/// The tool without a terminal, this on standard input.
pub fn tool(scratch: &Scratch, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("setsid");
    command.args(["--wait", TOOL]).args(arguments).env_clear();
    command.env("PATH", "/usr/bin:/bin").current_dir(scratch.path());
    fed(command, input)
}

pub fn fed(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // It may have ended without reading: a pipe that broke is no failure of the test.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("ended")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub fn refused(output: &Output, code: i32, sentence: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(sentence), "{sentence}: {stderr}");
    assert!(output.stdout.is_empty(), "nothing is signed: {}", text(&output.stdout));
}

/// A command at a terminal of its own, which somebody watches.
pub struct Terminal {
    child: Child,
    master: File,
    shown: Vec<u8>,
    /// How far it was waited for.
    seen: usize,
}

impl Terminal {
    /// A shell's line at a terminal of so many columns.
    pub fn run(scratch: &Scratch, line: &str, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = text(ptsname(&master, Vec::new()).expect("a name").as_bytes());
        set_columns(&master, columns);
        let end = || File::options().read(true).write(true).open(&name).expect("its other end");
        let mut command = Command::new("setsid");
        command.args(["--wait", "--ctty", "sh", "-c", line]).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").current_dir(scratch.path());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("started");
        Terminal { child, master: File::from(master), shown: Vec::new(), seen: 0 }
    }

    /// Waits until this is shown, behind what was waited for before; gives what is between.
    pub fn until(&mut self, words: &str) -> String {
        loop {
            let shown = String::from_utf8_lossy(&self.shown[self.seen..]).into_owned();
            if let Some(at) = shown.find(words) {
                let upto = at + words.len();
                self.seen += upto;
                return shown[..upto].to_owned();
            }
            assert!(self.more(), "{words:?} is not shown: {shown}");
        }
    }

    /// Reads what has come; false at the end, or where nothing comes.
    fn more(&mut self) -> bool {
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        if poll(&mut ready, Some(&patience)).expect("polled") == 0 {
            let _ = self.child.kill();
            return false;
        }
        let mut piece = [0; 4096];
        let read = self.master.read(&mut piece).unwrap_or(0);
        self.shown.extend(&piece[..read]);
        read > 0
    }

    pub fn types(&mut self, answer: &str) {
        self.master.write_all(answer.as_bytes()).expect("typed");
    }

    pub fn set_columns(&self, columns: u16) {
        set_columns(&self.master, columns);
    }

    /// Its exit code, and all that was shown.
    pub fn ended(mut self) -> (Option<i32>, String) {
        // The last end that closes is an error here.
        while self.more() {}
        let code = self.child.wait().expect("ended").code();
        (code, String::from_utf8_lossy(&self.shown).into_owned())
    }
}

fn set_columns(terminal: impl AsFd, columns: u16) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}
