//! The gate: the only thing that meets the network.
//!
//! `tiny_http` has no limit on time, heads, threads or connections, and takes some malformed requests
//! for two. So the gate accepts, one small thread a connection, reads one whole request within the
//! bounds of [`crate::sys::limits`], holds it to RFC 9112, writes it anew to `tiny_http` over a Unix
//! socket, and takes the answer whole before it sends a byte of it on. Invariant: no thread but the
//! client's own ever waits on a client, and nothing a client sends makes the process hold more than
//! its bounds.
//!
//! [`request`] understands, [`roster`] decides who makes room, [`inner`] reaches the front,
//! [`connection`] puts them together.

mod admission;
mod answer;
pub mod chunked;
mod connection;
pub mod counters;
mod inner;
pub mod listen;
pub mod plan;
pub mod request;
mod roster;
mod stream;

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crate::core::problem::{Code, Problem};
use crate::serve::callers::Tokens;
use crate::sys::journal;
use crate::sys::limits;
use inner::Pool;
use plan::inner;
use roster::Roster;
use stream::Timed;

pub use counters::Counters;
pub use inner::Watch;
pub use listen::{ListenAddress, Listener};
pub use plan::{Plan, connections_allowed};

/// What an operator chose, and the bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names that `Host` may have beside `localhost` and IP literals.
    pub allowed_hosts: Vec<String>,
    /// `None` where nobody is asked who calls.
    pub tokens: Option<Tokens>,
    /// For `OpenExec-Mode`.
    pub mode: &'static str,
    pub body_bytes_max: usize,
    /// As [`connections_allowed`] answered.
    pub connections_max: usize,
    pub bounds: Bounds,
}

/// The bounds that tests make smaller; [`Default`] is what [`crate::sys::limits`] says.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub head: Duration,
    pub body: Duration,
    pub answer: Duration,
    pub idle: Duration,
    /// For a whole request, until its turn to go inside.
    pub queue: Duration,
    pub inner: Duration,
    pub held_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            head: Duration::from_millis(limits::HEAD_DEADLINE_MS),
            body: Duration::from_millis(limits::BODY_DEADLINE_MS),
            answer: Duration::from_millis(limits::ANSWER_DEADLINE_MS),
            idle: Duration::from_millis(limits::IDLE_DEADLINE_MS),
            queue: Duration::from_millis(limits::QUEUE_DEADLINE_MS),
            inner: Duration::from_millis(limits::INNER_DEADLINE_MS),
            held_bytes_max: limits::HELD_BYTES_MAX,
        }
    }
}

/// The gate, ready to accept where it listens: one of these for each address, over one table.
pub struct Gate {
    listener: Listener,
    shared: Arc<Shared>,
}

/// What every connection's thread needs.
struct Shared {
    settings: Settings,
    roster: Arc<Roster>,
    pool: Pool,
    counters: Arc<Counters>,
}

impl Gate {
    /// Opens the inner connections, one by one, each proved by a round trip: the front must be
    /// answering `GET /version` on `inner_socket`.
    pub fn open(
        listeners: Vec<Listener>,
        inner_socket: &Path,
        settings: Settings,
        counters: Arc<Counters>,
        watch: Watch,
    ) -> io::Result<Vec<Gate>> {
        let connections = settings.connections_max.max(2);
        let pool = Pool::open(inner_socket, inner(connections), settings.bounds.inner, watch)?;
        let roster =
            Roster::new(connections, settings.bounds.held_bytes_max, Arc::clone(&counters));
        let shared = Arc::new(Shared { settings, roster: Arc::new(roster), pool, counters });
        let each = listeners.into_iter();
        Ok(each.map(|listener| Gate { listener, shared: Arc::clone(&shared) }).collect())
    }

    /// Accepts for as long as the process lives. Running out of files, memory or threads is a pause,
    /// longer each time, never an end: so a lasting shortage costs nothing and a short one little.
    pub fn run(self) -> ! {
        let shortest = Duration::from_millis(limits::ACCEPT_PAUSE_MS_MIN);
        let mut pause = shortest;
        loop {
            let failed = match self.listener.accept() {
                Ok(stream) => self.welcome(Arc::new(stream)),
                // The client gave up first.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let Err(error) = failed else {
                pause = shortest;
                continue;
            };
            self.shared.counters.accept_errors.add(1);
            if pause == shortest {
                let error = error.to_string().into();
                journal::error("Cannot take a connection now; pausing", &[("error", error)]);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(limits::ACCEPT_PAUSE_MS_MAX));
        }
    }

    /// Gives a new connection its place and its thread; an error is that no thread could be had, and
    /// the connection is closed.
    fn welcome(&self, stream: Arc<TcpStream>) -> io::Result<()> {
        self.shared.counters.accepted.add(1);
        // Answers go out when they are written. It fails where the client has gone, or is no TCP's.
        let _ = stream.set_nodelay(true);
        let seat = self.shared.roster.seat(Arc::clone(&stream));
        let shared = Arc::clone(&self.shared);
        let client = Timed::new(stream);
        let thread =
            Builder::new().name("client".into()).stack_size(limits::CONNECTION_STACK_BYTES);
        thread.spawn(move || connection::serve(&shared, client, seat)).map(drop)
    }
}

fn busy(detail: &str) -> Problem {
    Problem::new(Code::Busy, detail)
}
