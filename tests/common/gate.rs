//! A gate with a stand-in front behind it, and a client that reads answers one at a time.
//!
//! The front is real `tiny_http`, so that what the gate writes is judged by what will read it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use openexec::serve::gate::{
    Bounds, Counters, Gate, ListenAddress, Listener, Settings, Watch, listen,
};

pub const JSON_POST: &str =
    "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

/// What the front does beside answering.
#[derive(Default)]
pub struct Front {
    /// Requests that reached it, the gate's proofs not counted.
    pub requests: AtomicU64,
    /// `GET /receipts/held` and `POST /receipts/verify` are answered when this is set.
    released: Mutex<bool>,
    changed: Condvar,
    /// Those of them that wait.
    pub waiting: AtomicU64,
    /// How long the bodies were that reached it, in their order.
    pub bodies: Mutex<Vec<usize>>,
    /// The gate gave up on it.
    pub fatal: AtomicBool,
}

impl Front {
    pub fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

pub struct World {
    pub front: Arc<Front>,
    pub counters: Arc<Counters>,
    pub tcp: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
    pub inner: PathBuf,
}

pub fn settings(connections_max: usize) -> Settings {
    Settings {
        allowed_hosts: Vec::new(),
        tokens: None,
        mode: "demo",
        body_bytes_max: 1024 * 1024,
        connections_max,
        bounds: Bounds::default(),
    }
}

/// A gate on a TCP port.
pub fn world(settings: Settings) -> World {
    let (listener, bound) =
        ListenAddress::parse("127.0.0.1:0").unwrap()[0].bind().unwrap().unwrap();
    let mut world = start(listener, settings);
    world.tcp = Some(bound.parse().unwrap());
    world
}

/// A gate on a Unix socket, whose buffers are small: an answer lies untaken soon.
pub fn unix_world(settings: Settings) -> World {
    let path = scratch_socket();
    let (listener, _) = ListenAddress::Unix(path.clone()).bind().unwrap().unwrap();
    let mut world = start(listener, settings);
    world.unix = Some(path);
    world
}

/// Changes how many files a running process may open (`prlimit(1)`).
pub fn set_file_limit(process: u32, files: usize) {
    let process = process.to_string();
    let limit = format!("--nofile={files}:");
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(status.unwrap().success());
}

/// A gate, its front and its clients are one process here, for which an ordinary shell's limit of 1,024 files is too few.
fn enough_files() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| set_file_limit(std::process::id(), 4096));
}

fn start(listener: Listener, settings: Settings) -> World {
    enough_files();
    let front = Arc::new(Front::default());
    let inner = scratch_socket();
    serve_front(&inner, Arc::clone(&front));
    let counters = Arc::new(Counters::default());
    let watch = Watch {
        is_idle: {
            let front = Arc::clone(&front);
            Box::new(move || front.waiting.load(Ordering::SeqCst) == 0)
        },
        fatal: {
            let front = Arc::clone(&front);
            Box::new(move |_| front.fatal.store(true, Ordering::SeqCst))
        },
    };
    let counted = Arc::clone(&counters);
    for gate in Gate::open(vec![listener], &inner, settings, counted, watch).unwrap() {
        std::thread::spawn(move || gate.run());
    }
    World { front, counters, tcp: None, unix: None, inner }
}

pub fn scratch_socket() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::SeqCst);
    let name = format!("openexec-gate-{}-{next}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

fn serve_front(path: &Path, front: Arc<Front>) {
    let listener = listen::bind_unix(path, 0o600).unwrap();
    let server = tiny_http::Server::from_listener(listener, None).unwrap();
    std::thread::spawn(move || {
        while let Ok(request) = server.recv() {
            answer(request, &front);
        }
    });
}

fn answer(mut request: tiny_http::Request, front: &Arc<Front>) {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).unwrap();
    let path = request.url().to_owned();
    if path != "/version" {
        front.requests.fetch_add(1, Ordering::SeqCst);
    }
    if !body.is_empty() {
        front.bodies.lock().unwrap().push(body.len());
    }
    match path.as_str() {
        "/version" => respond(request, 200, b"{}".to_vec()),
        // What the gate sent, as tiny_http understood it.
        "/health" => {
            let mut seen = format!("{} {}\n", request.method(), request.url());
            for header in request.headers() {
                seen.push_str(&format!("{}: {}\n", header.field, header.value));
            }
            respond(request, 200, seen.into_bytes());
        }
        // As an executor that works for a while.
        "/receipts/held" | "/receipts/verify" => {
            let front = Arc::clone(front);
            front.waiting.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let released = front.released.lock().unwrap();
                drop(front.changed.wait_while(released, |released| !*released).unwrap());
                respond(request, 200, b"{}".to_vec());
                front.waiting.fetch_sub(1, Ordering::SeqCst);
            });
        }
        "/actions" => respond(request, 200, vec![b'x'; 1024 * 1024]),
        // A handler that panics: tiny_http answers by itself.
        "/metrics" | "/proposals/lost" => drop(request),
        // A front that forgets a request.
        "/receipts/forgotten" => std::mem::forget(request),
        "/receipts/conflict" => respond(request, 409, b"{}".to_vec()),
        _ => respond(request, 200, body),
    }
}

fn respond(request: tiny_http::Request, status: u16, body: Vec<u8>) {
    let header = |name: &str, value: &str| tiny_http::Header::from_bytes(name, value).unwrap();
    let response = tiny_http::Response::from_data(body)
        .with_status_code(status)
        .with_header(header("Content-Type", "application/json"))
        .with_header(header("Idempotent-Replayed", "true"))
        .with_header(header("X-Inside", "secret"))
        .with_chunked_threshold(usize::MAX);
    request.respond(response).unwrap();
}

/// Either kind of stream.
pub trait Wire: Read + Write + Send {
    fn finish(&self);
    fn set_timeout(&self, timeout: Duration);
}

impl Wire for TcpStream {
    fn finish(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
        self.set_write_timeout(Some(timeout)).unwrap();
    }
}

impl Wire for UnixStream {
    fn finish(&self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
        self.set_write_timeout(Some(timeout)).unwrap();
    }
}

pub struct Client {
    pub wire: Box<dyn Wire>,
    received: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for socket in self.unix.iter().chain([&self.inner]) {
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl World {
    pub fn client(&self) -> Client {
        let wire: Box<dyn Wire> = match (&self.tcp, &self.unix) {
            (Some(address), _) => Box::new(TcpStream::connect(address).unwrap()),
            (None, Some(path)) => Box::new(UnixStream::connect(path).unwrap()),
            (None, None) => unreachable!(),
        };
        wire.set_timeout(super::PATIENCE);
        Client { wire, received: Vec::new() }
    }

    /// Waits until the condition holds: things that happen in other threads.
    pub fn until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < super::PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn open(&self) -> u64 {
        self.counters.open.get()
    }
}

impl Client {
    pub fn on(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_timeout(super::PATIENCE);
        Client { wire: Box::new(stream), received: Vec::new() }
    }

    /// Whether the request was sent, and the connection not found closed.
    pub fn try_send_post(&mut self, body: &[u8]) -> bool {
        let head = format!("{JSON_POST}Content-Length: {}\r\n\r\n", body.len());
        let request = [head.as_bytes(), body].concat();
        self.wire.write_all(&request).is_ok()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.write_all(bytes.as_ref()).unwrap();
        self
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.answer(false).expect("an answer")
    }

    pub fn post(&mut self, body: &[u8]) -> Answer {
        let mut request = format!("{JSON_POST}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        self.send(request).answer(false).expect("an answer")
    }

    /// The next answer; `None` at the end. After HEAD there is no body.
    pub fn answer(&mut self, after_head: bool) -> Option<Answer> {
        let head_bytes = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.read() == 0 {
                let left = String::from_utf8_lossy(&self.received).into_owned();
                assert!(left.is_empty(), "half an answer: {left}");
                return None;
            }
        };
        let head = String::from_utf8(self.received.drain(..head_bytes).collect()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if status >= 200 && !after_head {
            let length: usize = answer.header("content-length").unwrap().parse().unwrap();
            while self.received.len() < length {
                assert_ne!(self.read(), 0, "half a body");
            }
            answer.body = self.received.drain(..length).collect();
        }
        Some(answer)
    }

    /// Whether the other side has closed, with nothing more to read. A reset is a close too.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && self.read() == 0
    }

    fn read(&mut self) -> usize {
        let mut piece = [0; 16 * 1024];
        let came = match self.wire.read(&mut piece) {
            Ok(came) => came,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        self.received.extend_from_slice(&piece[..came]);
        came
    }
}

/// The bytes that a vector's text stands for: one for each character.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c as u32).unwrap()).collect()
}

/// The vectors of one file.
pub fn vectors(name: &str) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/http").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A vector's request.
pub fn request_of(vector: &serde_json::Value) -> Vec<u8> {
    let mut request = latin1(vector["request"].as_str().unwrap());
    if let Some(repeated) = vector["repeat"].as_str() {
        let times = usize::try_from(vector["times"].as_u64().unwrap()).unwrap();
        request.extend(latin1(repeated).repeat(times));
        request.extend(latin1(vector["tail"].as_str().unwrap()));
    }
    request
}
