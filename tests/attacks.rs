//! Attacks on the real binary, with a well-behaved client beside each: all of its requests succeed,
//! and the process stays under 64 MiB resident throughout.
//!
//! `OPENEXEC_ATTACKED` names another binary to attack.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are clients, and start what they attack"
)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::gate::{Client, JSON_POST, request_of, set_file_limit, vectors};
use common::{Scratch, Server};
use socket2::SockRef;

const RESIDENT_KIB_MAX: u64 = 64 * 1024;
/// A body that is allowed, and near the limit.
const LARGE_BYTES: usize = 1_000_000;

/// A client that takes longer from connecting to the last byte of its request was not let run by the
/// machine: as many newcomers as there are places come in less.
const STALLED: Duration = Duration::from_millis(3);

/// A running service. One at a time: the machine is part of what is measured.
struct Service {
    server: Server,
    address: SocketAddr,
    _scratch: Scratch,
    _alone: MutexGuard<'static, ()>,
}

fn start() -> Service {
    start_with(|_| {})
}

fn start_with(change: impl Fn(&mut Command)) -> Service {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let scratch = Scratch::new();
    let mut command = match std::env::var("OPENEXEC_ATTACKED") {
        Ok(binary) => common::command(&binary, &scratch),
        Err(_) => common::openexec(&scratch),
    };
    // glibc keeps what each thread has freed for that thread; musl, which is shipped, does not.
    command.env("OPENEXEC_LOG", "error").env("MALLOC_ARENA_MAX", "2");
    change(&mut command);
    let server = Server::spawn(command, &scratch);
    let address = server.address.parse().unwrap();
    Service { server, address, _scratch: scratch, _alone: alone }
}

impl Service {
    fn client(&self) -> Client {
        Client::on(self.stream())
    }

    fn stream(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// The most that was ever resident (`VmHWM`).
    fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// A client that behaves, until it is told to stop.
    fn well_behaved(&self) -> WellBehaved {
        let stop = Arc::new(AtomicBool::new(false));
        let address = self.address;
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut done = Done::default();
                let mut kept = Client::on(TcpStream::connect(address).unwrap());
                // A short attack on a slow machine is over before it has been served.
                while !stop.load(Ordering::SeqCst) || done.requests < REQUESTS_MIN {
                    done.ask(address, &mut kept);
                    std::thread::sleep(Duration::from_millis(10));
                }
                done
            }
        });
        WellBehaved { stop, thread }
    }
}

/// What a well-behaved client asks at least.
const REQUESTS_MIN: u64 = 4;

struct WellBehaved {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Done>,
}

/// What the well-behaved client has seen.
#[derive(Default, Debug)]
struct Done {
    requests: u64,
    /// Kept connections that were closed between requests, and 503s with `Retry-After`.
    repeated: u64,
    /// New connections that were closed after the client itself had stalled.
    stalled: u64,
    /// Of those that count: whether it was new, and how long after its request began it was lost.
    lost: Vec<(bool, Duration)>,
    slowest: Duration,
}

impl Done {
    /// One request on the kept connection and one on a new one. Where it is told to come again, or
    /// finds its connection closed, it repeats the request with the same nonce, a few times.
    fn ask(&mut self, address: SocketAddr, kept: &mut Client) {
        let begun = Instant::now();
        for fresh in [false, true] {
            self.requests += 1;
            let nonce = format!("well-behaved-{}", self.requests);
            let body = format!(r#"{{"action":"echo","payload":{{"a":1}},"nonce":"{nonce}"}}"#);
            let mut attempts = 0;
            loop {
                let connecting = Instant::now();
                let is_new = fresh || attempts > 0;
                if is_new {
                    let stream = TcpStream::connect(address).unwrap();
                    let new = Client::on(stream);
                    if !fresh {
                        *kept = new;
                    } else {
                        drop(std::mem::replace(kept, new));
                    }
                }
                let sent = kept.try_send_post(body.as_bytes());
                let took = connecting.elapsed();
                let answer = if sent { kept.answer(false) } else { None };
                attempts += 1;
                match answer {
                    Some(answer) if answer.status == 200 => break,
                    Some(answer) => {
                        assert!(answer.header("retry-after").is_some(), "{answer:?}");
                        self.repeated += 1;
                    }
                    // For that time it was one of those that say nothing.
                    None if is_new && took > STALLED => self.stalled += 1,
                    None => {
                        self.repeated += 1;
                        self.lost.push((is_new, connecting.elapsed()));
                    }
                }
                assert!(attempts < 10, "refused for good: {nonce}");
                std::thread::sleep(Duration::from_millis(100 * attempts));
            }
        }
        self.slowest = self.slowest.max(begun.elapsed());
    }
}

/// Ends an attack: the well-behaved client was served, the memory bounded, the service still there.
fn survived(service: &Service, well_behaved: WellBehaved, repeated_max: u64) {
    well_behaved.stop.store(true, Ordering::SeqCst);
    let done = well_behaved.thread.join().expect("the well-behaved client failed");
    let resident = service.resident_kib();
    println!("{done:?}, {resident} KiB resident at most");
    assert!(done.requests >= REQUESTS_MIN);
    assert!(done.repeated <= repeated_max, "{done:?}");
    assert!(resident <= RESIDENT_KIB_MAX, "{resident} KiB");
    assert_eq!(service.client().get("/health").status, 200);
}

/// Many connections that each send a byte a second (or nothing) after what they begin with; who is
/// cut comes again.
fn crowd(service: &Service, connections: usize, begin: &str, byte: Option<u8>, time: Duration) {
    let begun = Instant::now();
    let connect = || {
        let mut stream = service.stream();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(begin.as_bytes());
        stream
    };
    let mut crowd: Vec<TcpStream> = (0..connections).map(|_| connect()).collect();
    while begun.elapsed() < time {
        for stream in &mut crowd {
            let mut answer = [0; 1024];
            let gone = match stream.read(&mut answer) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            let sent = byte.is_none_or(|byte| stream.write(&[byte]).is_ok());
            if gone || !sent {
                *stream = connect();
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_thousand_dribbled_heads() {
    let service = start();
    let well_behaved = service.well_behaved();
    let time = Duration::from_secs(7);
    crowd(&service, 1_000, "GET /health HTTP/1.1\r\nX: ", Some(b'a'), time);
    survived(&service, well_behaved, 0);
}

#[test]
fn a_thousand_dribbled_bodies() {
    let service = start();
    let well_behaved = service.well_behaved();
    let begin = format!("{JSON_POST}Content-Length: 1000000\r\n\r\n");
    crowd(&service, 1_000, &begin, Some(b' '), Duration::from_secs(7));
    survived(&service, well_behaved, 0);
}

#[test]
fn a_thousand_that_say_nothing() {
    let service = start();
    let well_behaved = service.well_behaved();
    crowd(&service, 1_000, "", None, Duration::from_secs(4));
    survived(&service, well_behaved, 0);
}

#[test]
fn heads_and_bodies_without_measure() {
    let service = start();
    let well_behaved = service.well_behaved();
    let expect = |request: Vec<u8>, status: u16| {
        for _ in 0..20 {
            let mut client = service.client();
            // It may be answered before it has said all.
            let _ = client.wire.write_all(&request);
            assert_eq!(client.answer(false).unwrap().status, status);
            assert!(client.is_closed());
        }
    };
    let head = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
    expect(format!("{head}X: {}", "a".repeat(2_000_000)).into_bytes(), 431);
    expect(format!("{head}{}\r\n", "X: y\r\n".repeat(10_000)).into_bytes(), 431);
    let fill = 16 * 1024 - head.len() - "X: \r\n\r\n".len();
    let exact = |fill: usize| format!("{head}X: {}\r\n\r\n", "a".repeat(fill)).into_bytes();
    expect(exact(fill + 1), 431);
    assert_eq!(service.client().send(exact(fill)).answer(false).unwrap().status, 200);
    let over = 1024 * 1024 + 1;
    let mut body = format!("{JSON_POST}Content-Length: {over}\r\n\r\n").into_bytes();
    // Not a byte of it is needed for the answer.
    expect(body.clone(), 413);
    body.resize(body.len() + over, b' ');
    expect(body, 413);
    survived(&service, well_behaved, 0);
}

#[test]
fn clients_that_leave() {
    let service = start();
    let well_behaved = service.well_behaved();
    let half = format!("{JSON_POST}Content-Length: 50000\r\n\r\n{}", "x".repeat(25_000));
    for round in 0..5_000 {
        let mut stream = service.stream();
        match round % 4 {
            0 => {}
            1 => drop(stream.write_all(half.as_bytes())),
            2 => drop(stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")),
            _ => drop(stream.write_all(&half.as_bytes()[..100])),
        }
        // The next one resets, and the one after closes.
        if round % 3 > 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    survived(&service, well_behaved, 0);
}

#[test]
fn bodies_that_lack_their_last_byte() {
    let service = start();
    let well_behaved = service.well_behaved();
    let length = 1024 * 1024;
    let mut request = format!("{JSON_POST}Content-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length - 1, b' ');
    let hold = |_| {
        let mut stream = service.stream();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(&request);
        stream
    };
    let held: Vec<TcpStream> = (0..128).map(hold).collect();
    std::thread::sleep(Duration::from_secs(3));
    drop(held);
    survived(&service, well_behaved, 0);
}

/// A path whose answer is about a mebibyte: what a large request led to.
fn large_answer(service: &Service) -> String {
    let filler = "x".repeat(LARGE_BYTES);
    let body = format!(r#"{{"action":"echo","payload":{{"a":"{filler}"}},"nonce":"large"}}"#);
    let answer = service.client().post(body.as_bytes());
    assert_eq!(answer.status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    format!("/receipts/{}", answer["id"].as_str().unwrap())
}

#[test]
fn answers_that_nobody_reads() {
    let service = start();
    let path = large_answer(&service);
    assert!(service.client().get(&path).body.len() > LARGE_BYTES);
    let well_behaved = service.well_behaved();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let pipelined = request.repeat(30);
    let ask = |_| {
        let mut stream = service.stream();
        SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(pipelined.as_bytes());
        stream
    };
    let mut held: Vec<TcpStream> = (0..128).map(ask).collect();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(2));
        for (at, stream) in held.iter_mut().enumerate() {
            if stream.write(request.as_bytes()).is_err() {
                *stream = ask(at);
            }
        }
    }
    drop(held);
    // For a second after 128 large answers have begun nobody can be displaced.
    survived(&service, well_behaved, 50);
}

#[test]
fn large_requests_for_large_answers() {
    let service = start();
    let path = large_answer(&service);
    let well_behaved = service.well_behaved();
    let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n");
    for _ in 0..50 {
        let mut client = service.client();
        client.send(&get);
        let _ = client.wire.write_all(&[b' '; 1024 * 1024]);
        assert_eq!(client.answer(false).unwrap().status, 400);
        assert!(client.is_closed());
    }
    survived(&service, well_behaved, 0);
}

#[test]
fn payloads_of_as_many_values_as_fit() {
    let service = start();
    let well_behaved = service.well_behaved();
    let filler = "x".repeat(700_000);
    // Just within the bound on values, as numbers and as objects; then far beyond it.
    let zeros = format!(r#"{{"a":[{}0],"s":"{filler}"}}"#, "0,".repeat(130_000));
    let objects = format!(r#"{{"a":[{}0],"s":"{filler}"}}"#, r#"{"":0},"#.repeat(7_600));
    let too_many_zeros = format!(r#"{{"a":[{}0]}}"#, "0,".repeat(510_000));
    let too_many_objects = format!(r#"{{"a":[{}0]}}"#, r#"{"":0},"#.repeat(140_000));
    let payloads = [(zeros, 200), (objects, 200), (too_many_zeros, 400), (too_many_objects, 400)];
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (service, (payload, status)) = (&service, &payloads[thread % payloads.len()]);
            scope.spawn(move || {
                for round in 0..3 {
                    let nonce = format!("values-{thread}-{round}");
                    let body =
                        format!(r#"{{"action":"echo","payload":{payload},"nonce":"{nonce}"}}"#);
                    assert_eq!(service.client().post(body.as_bytes()).status, *status);
                }
            });
        }
    });
    // The same through MCP, where an answer holds the result twice.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (service, (payload, status)) = (&service, &payloads[thread % payloads.len()]);
            scope.spawn(move || {
                for round in 0..3 {
                    let body = format!(
                        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{payload},"_meta":{{"openexec/nonce":"mcp-{thread}-{round}"}}}}}}"#
                    );
                    let mut client = service.client();
                    client.send(format!(
                        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                         MCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                    // A call that is refused does not end the session: its error is in a 200.
                    let answer = client.answer(false).unwrap();
                    assert_eq!(answer.status, 200);
                    let refused = String::from_utf8_lossy(&answer.body).contains("too_many_values");
                    assert_eq!(refused, *status == 400);
                }
            });
        }
    });
    // As a result to be verified.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (service, (payload, status)) = (&service, &payloads[thread % payloads.len()]);
            scope.spawn(move || {
                for _ in 0..3 {
                    let body = format!(r#"{{"exec_id":"a","receipt":"b","result":{payload}}}"#);
                    let mut client = service.client();
                    client.send(format!(
                        "POST /receipts/verify HTTP/1.1\r\nHost: localhost\r\n\
                         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                    assert_eq!(client.answer(false).unwrap().status, *status);
                }
            });
        }
    });
    // A million are more than a body may be.
    let mut client = service.client();
    client.send(format!("{JSON_POST}Content-Length: 2000000\r\n\r\n"));
    let _ = client.wire.write_all(&b"0,".repeat(1_000_000));
    assert_eq!(client.answer(false).unwrap().status, 413);
    survived(&service, well_behaved, 0);
}

#[test]
fn connections_kept_from_one_moment_on() {
    let service = start();
    // One place is left for what the test asks at its end.
    let mut clients: Vec<Client> = (0..127).map(|_| service.client()).collect();
    for _ in 0..100 {
        for client in &mut clients {
            assert_eq!(client.get("/version").status, 200);
        }
    }
    assert!(service.resident_kib() <= RESIDENT_KIB_MAX);
}

#[test]
fn a_file_limit_of_64() {
    let service = start_with(|command| {
        let binary = command.get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("ulimit -n 64; exec \"$0\"").arg(binary);
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(command.get_current_dir().unwrap());
        *command = shell;
    });
    let well_behaved = service.well_behaved();
    crowd(&service, 500, "GET /hea", None, Duration::from_secs(3));
    // Eight places for five hundred: on a slow machine even a good client may lose its place before
    // its first request is whole, and comes again. It may not be kept out.
    survived(&service, well_behaved, 5);
    for _ in 0..100 {
        assert_eq!(service.client().get("/health").status, 200);
    }
}

#[test]
fn running_out_of_files_in_spite_of_all() {
    let service = start();
    let process = service.server.child.id();
    let mut kept = service.client();
    assert_eq!(kept.get("/health").status, 200);
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    set_file_limit(process, open);
    let before = processor_ticks(process);
    let crowd: Vec<TcpStream> = (0..50).map(|_| service.stream()).collect();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(kept.get("/health").status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Hundredths of a second: far from spinning.
    assert!(processor_ticks(process) - before < 50);
    set_file_limit(process, 4096);
    drop(crowd);
    for _ in 0..100 {
        assert_eq!(service.client().get("/health").status, 200);
    }
}

/// Time on a processor, user and system (proc_pid_stat(5), fields 14 and 15).
fn processor_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn requests_that_cannot_be_understood() {
    let service = start();
    let well_behaved = service.well_behaved();
    for vector in vectors("refused.json") {
        let name = vector["name"].as_str().unwrap();
        let mut client = service.client();
        let mut request = request_of(&vector);
        request.extend_from_slice(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let _ = client.wire.write_all(&request);
        let answer = client.answer(vector["head"] == true).expect(name);
        assert_eq!(u64::from(answer.status), vector["status"], "{name}");
        assert!(client.is_closed(), "{name}: more than one answer");
    }
    survived(&service, well_behaved, 0);
}

#[test]
fn the_listening_socket_may_be_standard_input() {
    let service = start_with(|command| {
        let wanted = command
            .get_envs()
            .find(|(name, _)| *name == "OPENEXEC_LISTEN")
            .and_then(|(_, value)| value)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let listener = TcpListener::bind(wanted).unwrap();
        command.env("OPENEXEC_LISTEN", "stdin");
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    });
    assert_eq!(service.client().get("/health").status, 200);
}

/// The inodes of sockets that a process has open.
fn sockets_of(process: u32) -> Vec<String> {
    let directory = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = directory.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter_map(|target| {
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

#[test]
fn nothing_but_the_gate_reaches_tiny_http() {
    use std::os::unix::fs::PermissionsExt;
    let service = start();
    let own = sockets_of(service.server.child.id());
    // proc_pid_net(5): TCP state 0A is LISTEN, the tenth field the inode.
    let mut tcp = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" && own.iter().any(|inode| inode == fields[9]) {
                tcp.push(fields[1].to_owned());
            }
        }
    }
    let port = format!(":{:04X}", service.address.port());
    assert!(tcp.len() == 1 && tcp[0].ends_with(&port), "{tcp:?}");
    // Flag 00010000 is a listening socket, the seventh field the inode, the eighth the path where it
    // was bound: a private directory that is gone by now. It was moved to the store.
    let mut unix = Vec::new();
    for line in std::fs::read_to_string("/proc/net/unix").unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[3] == "00010000" && own.iter().any(|inode| inode == fields[6]) {
            unix.push(fields[7].to_owned());
        }
    }
    assert_eq!(unix.len(), 1, "{unix:?}");
    // The only one there is answers here, so this is where it can be reached.
    let inside = service.server.store.join("inner.sock");
    UnixStream::connect(&inside).expect("somebody listens");
    assert_eq!(std::fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o600);
    let mode = std::fs::metadata(&service.server.store).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others could connect");
}
