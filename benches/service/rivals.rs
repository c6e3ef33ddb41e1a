//! What OpenExec is measured beside: the same HTTP path without its checks, `tiny_http` bare, and
//! the disk alone. The ones that sync write as many bytes a request as an execution's two records,
//! in the same groups, at the same alignment.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use openexec::core::limits::{BATCH_REQUESTS_MAX, SECTOR_BYTES, SEGMENT_BYTES};
use openexec::serve::gate::{self, Bounds, Counters, Gate, Watch};
use tiny_http::{Request, Response, Server};

/// A claim, its receipt and its share of a commit line, as the workloads make them.
const RECORD_BYTES: usize = 700;
const ANSWER: &str = r#"{"action":"echo","approved":true,"id":"0000000000000000000000000000000000000000000000000000000000000000","outcome":"executed","receipt":"0000000000000000000000000000000000000000000000000000000000000000","result":{"echo":{"amount":0,"note":"a payload of ordinary size"}}}"#;

/// What a sync takes at least where a slower disk is stood in for: about what a solid-state drive
/// without protection against power loss takes.
const SLOW_SYNC: Duration = Duration::from_millis(1);

/// Serves as `gate-` or `bare-`, and `nothing`, `sync` or `slow`.
pub fn serve(role: &str) -> ExitCode {
    let store = std::env::var("OPENEXEC_DB_URL").expect("a store");
    let store = PathBuf::from(store.trim_start_matches("file:"));
    std::fs::create_dir_all(&store).expect("a directory");
    let (queue, requests) = sync_channel::<Request>(256);
    let syncs = !role.ends_with("nothing");
    let takes = if role.ends_with("slow") { SLOW_SYNC } else { Duration::ZERO };
    let file = blank_file(&store.join("file"));
    std::thread::spawn(move || write(&file, &requests, syncs, takes));
    if role.starts_with("bare") {
        let server = Server::http("127.0.0.1:0").expect("a server");
        publish(&store, &server.server_addr().to_ip().expect("an address").to_string());
        front(&server, &queue);
    } else {
        let inner = store.join("inner.sock");
        let listener = gate::listen::bind_unix(&inner, 0o600).expect("a socket");
        let server = Server::from_listener(listener, None).expect("a server");
        std::thread::spawn(move || front(&server, &queue));
        let addresses = gate::ListenAddress::parse("127.0.0.1:0").expect("an address");
        let (listener, address) = addresses[0].bind().expect("bound").expect("there");
        let settings = gate::Settings {
            allowed_hosts: Vec::new(),
            tokens: None,
            mode: "demo",
            body_bytes_max: 1024 * 1024,
            connections_max: 128,
            bounds: Bounds::default(),
        };
        let watch = Watch { is_idle: Box::new(|| false), fatal: Box::new(|_| {}) };
        let counters = Arc::new(Counters::default());
        let gates = Gate::open(vec![listener], &inner, settings, counters, watch);
        publish(&store, &address);
        if let Some(gate) = gates.expect("a gate").pop() {
            gate.run();
        }
    }
    ExitCode::SUCCESS
}

fn publish(store: &Path, address: &str) {
    std::fs::write(store.join("LOCK"), format!("0 {address}\n")).expect("published");
}

fn front(server: &Server, queue: &SyncSender<Request>) {
    for mut request in server.incoming_requests() {
        let mut body = Vec::new();
        request.as_reader().read_to_end(&mut body).expect("a body");
        if request.url() == "/execute" {
            queue.send(request).expect("queued");
        } else {
            respond(request);
        }
    }
}

fn respond(request: Request) {
    let header = tiny_http::Header::from_bytes("Content-Type", "application/json");
    let response = Response::from_string(ANSWER).with_header(header.expect("a header"));
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}

fn write(file: &File, requests: &Receiver<Request>, syncs: bool, takes: Duration) {
    let mut offset = 0;
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < BATCH_REQUESTS_MAX
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        if syncs {
            let began = Instant::now();
            write_batch(file, &mut offset, group.len());
            std::thread::sleep(takes.saturating_sub(began.elapsed()));
        }
        group.into_iter().for_each(respond);
    }
}

fn write_batch(file: &File, offset: &mut u64, requests: usize) {
    let bytes = vec![b'x'; requests * RECORD_BYTES];
    if *offset + bytes.len() as u64 > SEGMENT_BYTES {
        *offset = 0;
    }
    file.write_all_at(&bytes, *offset).expect("written");
    file.sync_data().expect("synced");
    *offset = (*offset + bytes.len() as u64).next_multiple_of(SECTOR_BYTES);
}

fn blank_file(path: &Path) -> File {
    std::fs::write(path, vec![b'\n'; SEGMENT_BYTES as usize]).expect("written");
    let file = File::options().write(true).open(path).expect("opened");
    file.sync_all().expect("synced");
    file
}

/// Prints how often the disk alone takes such batches.
pub fn disk_alone(directory: &Path) {
    let path = directory.join(format!("openexec-bench-{}-disk", std::process::id()));
    let file = blank_file(&path);
    println!("| requests a batch | syncs/s | requests/s |\n| --- | --- | --- |");
    for requests in [1, 8, 32, 128] {
        let (began, mut syncs, mut offset) = (Instant::now(), 0u32, 0);
        while began.elapsed() < Duration::from_secs(2) {
            write_batch(&file, &mut offset, requests);
            syncs += 1;
        }
        let each_second = f64::from(syncs) / began.elapsed().as_secs_f64();
        println!("| {requests} | {each_second:.0} | {:.0} |", each_second * requests as f64);
    }
    let _ = std::fs::remove_file(path);
}
