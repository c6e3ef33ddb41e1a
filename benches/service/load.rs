//! The clients: so many kept-alive connections, each sending its next request when it has the answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openexec::core::hash::sha256;
use openexec::core::receipt::action_hash;
use openexec::sys::clock;

use crate::signer::{PrivateKey, approval_id, mint};

/// How long one side is measured in one round.
const ROUND: Duration = Duration::from_millis(700);
const TENANT: &str = "bench";
/// A throwaway PKCS#8 key, and its public half.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

/// A server in a process of its own.
pub struct Running {
    child: Child,
    address: String,
    directory: PathBuf,
}

impl Running {
    pub fn start(role: &str, workload: &str, directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("a directory");
        let store = directory.join("store");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env_clear().current_dir(directory);
        command.env("OPENEXEC_LOG", "error").env("OPENEXEC_LISTEN", "127.0.0.1:0");
        command.env("OPENEXEC_DB_URL", format!("file:{}", store.display()));
        command.env("OPENEXEC_BENCH_ROLE", role);
        if workload == "approved" {
            command.env("OPENEXEC_MODE", "clawshield").env("CLAWSHIELD_TENANT_ID", TENANT);
            command.env("CLAWSHIELD_PUBLIC_KEY", PUBLIC_KEY);
            let made = Command::new(env!("CARGO_BIN_EXE_openexec"))
                .arg("init")
                .env("OPENEXEC_MODE", "clawshield")
                .env("CLAWSHIELD_TENANT_ID", TENANT)
                .env("CLAWSHIELD_PUBLIC_KEY", PUBLIC_KEY)
                .env("OPENEXEC_DB_URL", format!("file:{}", store.display()))
                .stdout(Stdio::null())
                .status();
            assert!(made.expect("started").success());
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let mut running =
            Running { child, address: String::new(), directory: directory.to_owned() };
        while running.address.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
            let text = std::fs::read_to_string(store.join("LOCK")).unwrap_or_default();
            if let Some((_, address)) = text.trim_end().split_once(' ')
                && TcpStream::connect(address).is_ok()
            {
                running.address = address.to_owned();
            }
        }
        // The store opens beside the listener.
        std::thread::sleep(Duration::from_millis(1_500));
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub struct Load<'a> {
    workload: &'a str,
    connections: usize,
    round: usize,
}

impl<'a> Load<'a> {
    pub fn new(workload: &'a str, connections: usize, round: usize) -> Self {
        Load { workload, connections, round }
    }

    pub fn run(&self, server: &Running) -> Measured {
        let mut latencies = Vec::new();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections)
                .map(|client| scope.spawn(move || self.client(server, client, began + ROUND)))
                .collect();
            for client in clients {
                latencies.extend(client.join().expect("a client"));
            }
        });
        Measured::of(latencies, began.elapsed())
    }

    fn client(&self, server: &Running, client: usize, until: Instant) -> Vec<Duration> {
        let mut stream = TcpStream::connect(&server.address).expect("connected");
        stream.set_nodelay(true).expect("set");
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut latencies = Vec::new();
        while Instant::now() < until {
            // Minted outside of what is measured, as an approver would.
            let request = self.request(client);
            let sent = Instant::now();
            stream.write_all(&request).expect("sent");
            let (status, body) = answer(&mut reader);
            latencies.push(sent.elapsed());
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        }
        latencies
    }

    fn request(&self, client: usize) -> Vec<u8> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = match self.workload {
            "replay" => client as u64,
            _ => NUMBER.fetch_add(1, Ordering::Relaxed),
        };
        let action = if self.workload == "touch" { "touch" } else { "echo" };
        let payload = format!("{{\"amount\":{number},\"note\":\"a payload of ordinary size\"}}");
        let artifact = match self.workload {
            "approved" => artifact(action, &payload, number),
            _ => "null".to_owned(),
        };
        let kind = if self.workload == "replay" { "replay" } else { "fresh" };
        let nonce =
            format!("{kind}-{number:024}-{}", if kind == "replay" { 0 } else { self.round });
        let body = format!(
            "{{\"action\":\"{action}\",\"payload\":{payload},\"nonce\":\"{nonce}\",\
             \"approval_artifact\":{artifact}}}"
        );
        format!(
            "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

fn artifact(action: &str, payload: &str, number: u64) -> String {
    let key = PrivateKey::from_pem(PRIVATE_KEY).expect("a key");
    let now = clock::now();
    let mut random = [0; 16];
    random.copy_from_slice(&sha256(&[&number.to_le_bytes(), &now.micros().to_le_bytes()])[..16]);
    let hash = action_hash(action, payload);
    let id = approval_id(random);
    let minted = mint(&key, TENANT, &hash, now, now.plus_seconds(600), &id);
    openexec::core::json::canonical::to_string(&minted.expect("minted").to_value())
}

fn answer(reader: &mut BufReader<TcpStream>) -> (u16, Vec<u8>) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (status, body)
}

/// One side of one round.
#[derive(Clone, Copy)]
pub struct Measured {
    pub each_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Measured {
    fn of(mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1000.0
        };
        let each_second = latencies.len() as f64 / took.as_secs_f64();
        Measured { each_second, p50_ms: at(0.5), p99_ms: at(0.99) }
    }

    /// Each figure's own median.
    pub fn median(rounds: Vec<Measured>) -> Measured {
        let middle = |figure: fn(&Measured) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Measured {
            each_second: middle(|m| m.each_second),
            p50_ms: middle(|m| m.p50_ms),
            p99_ms: middle(|m| m.p99_ms),
        }
    }
}
