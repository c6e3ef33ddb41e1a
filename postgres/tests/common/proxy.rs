//! Between a service and its database, on a socket of its own: it knows where a message ends, and cuts or holds there.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection ends, for both sides, and the message is lost.
    Cut,
    /// Nothing of this side passes any more on this connection, and nobody is told.
    Hold,
    /// It passes, and nothing of the other side does any more.
    HoldAnswers,
    /// From this message on the proxy takes nothing from either side, on any connection, and nobody is told.
    Stop,
    /// The same, but the first half of the message still passes.
    StopWithin,
}

/// Which message meets it, once the service has sent one with that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The one that the service sends so many messages later.
    Messages(usize),
    /// The server's next one.
    Answer,
}

#[derive(Default)]
struct Plan {
    /// Messages since it was armed, of both sides and all connections.
    seen: usize,
    /// Which of them, from 1, meets what.
    at: Option<(usize, Then)>,
    /// Of the one side alone: such a message of the service that holds this text.
    on: Option<(&'static [u8], Then)>,
    /// How long after that.
    after: Option<After>,
    is_found: bool,
    /// It came about.
    is_done: bool,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    /// That the server sent.
    bytes: AtomicU64,
    /// While it is set nothing passes; what is on its way then passes later.
    is_parted: AtomicBool,
    /// The same, at whatever message, as [`Then::Stop`] sets it.
    is_stopped: AtomicBool,
}

pub struct Proxy {
    pub dir: PathBuf,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn new(to: &Path) -> Self {
        Self::named(to, "proxy")
    }

    pub fn named(to: &Path, name: &str) -> Self {
        let dir = to.join(name);
        std::fs::create_dir(&dir).expect("made");
        let listener = UnixListener::bind(dir.join(".s.PGSQL.5432")).expect("bound");
        let (to, shared) = (to.join(".s.PGSQL.5432"), Arc::<Shared>::default());
        let proxy = Proxy { dir, shared: shared.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&to) else { continue };
                let both = |stream: &UnixStream| stream.try_clone().expect("cloned");
                let (up, down) = (both(&client), both(&server));
                let (shared, other) = (shared.clone(), shared.clone());
                let held: Arc<[AtomicBool; 2]> = Arc::default();
                let also_held = held.clone();
                thread::spawn(move || pass(up, server, 0, &shared, &held));
                thread::spawn(move || pass(down, client, 1, &other, &also_held));
            }
        });
        proxy
    }

    /// From now on messages count; the one with that number meets this.
    pub fn arm(&self, at: usize, then: Then) {
        *self.shared.plan.lock().unwrap() = Plan { at: Some((at, then)), ..Plan::default() };
    }

    /// The next message of the service that holds this text meets this.
    pub fn arm_on(&self, text: &'static [u8], then: Then) {
        self.arm_after(text, After::Messages(0), then);
    }

    /// The message that comes so long after one of the service that holds this text.
    pub fn arm_after(&self, text: &'static [u8], after: After, then: Then) {
        *self.shared.plan.lock().unwrap() =
            Plan { on: Some((text, then)), after: Some(after), ..Plan::default() };
    }

    /// Nothing passes from now on, on no connection, until it may again.
    pub fn part(&self, is_parted: bool) {
        self.shared.is_parted.store(is_parted, SeqCst);
    }

    /// After [`Then::Stop`]: all that was on its way passes.
    pub fn go_on(&self) {
        self.shared.is_stopped.store(false, SeqCst);
    }

    pub fn disarm(&self) {
        *self.shared.plan.lock().unwrap() = Plan::default();
    }

    /// Bytes that the server has sent so far.
    pub fn answered(&self) -> u64 {
        self.shared.bytes.load(SeqCst)
    }

    pub fn is_done(&self) -> bool {
        self.shared.plan.lock().unwrap().is_done
    }
}

/// Passes messages on until one side ends; side 0 is the service's.
fn pass(
    mut from: UnixStream,
    mut to: UnixStream,
    side: usize,
    shared: &Shared,
    held: &[AtomicBool; 2],
) {
    let mut is_first = side == 0;
    // Of one statement, which is sent at once: a part of it would leave the server waiting for the rest of it.
    let mut is_within = false;
    while let Ok(message) = message(&mut from, is_first) {
        is_first = false;
        while shared.is_parted.load(SeqCst) && !is_within {
            thread::sleep(Duration::from_millis(5));
        }
        is_within = side == 0 && b"PBDE".contains(&message[0]);
        if side == 1 {
            shared.bytes.fetch_add(message.len() as u64, SeqCst);
        }
        let fate = fate(&message, side == 0, &mut shared.plan.lock().unwrap());
        match fate {
            _ if held[side].load(SeqCst) => continue,
            Some(Then::Cut) => break,
            Some(Then::Hold) => {
                held[side].store(true, SeqCst);
                continue;
            }
            Some(Then::HoldAnswers) => held[1 - side].store(true, SeqCst),
            Some(Then::Stop | Then::StopWithin) => shared.is_stopped.store(true, SeqCst),
            None => {}
        }
        let passes = if fate == Some(Then::StopWithin) { message.len() / 2 } else { 0 };
        if to.write_all(&message[..passes]).is_err() {
            break;
        }
        while shared.is_stopped.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&message[passes..]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn fate(message: &[u8], is_service: bool, plan: &mut Plan) -> Option<Then> {
    if plan.is_done {
        return None;
    }
    plan.seen += 1;
    let at = plan.at.filter(|(at, _)| *at == plan.seen).map(|(_, then)| then);
    let holds = |text: &[u8]| message.windows(text.len()).any(|window| window == text);
    if let Some((text, _)) = plan.on {
        plan.is_found |= is_service && holds(text);
    }
    let on = plan.on.filter(|_| {
        plan.is_found
            && match &mut plan.after {
                Some(After::Messages(0)) => is_service,
                Some(After::Messages(left)) => {
                    *left -= usize::from(is_service);
                    false
                }
                _ => !is_service,
            }
    });
    let fate = at.or(on.map(|(_, then)| then));
    plan.is_done = fate.is_some();
    fate
}

/// One message with its type and length (PostgreSQL, 55.7); the first of a connection has no type.
fn message(from: &mut UnixStream, is_first: bool) -> io::Result<Vec<u8>> {
    let head = if is_first { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().expect("four")) as usize;
    let from_body = message.len();
    message.resize(from_body + length - 4, 0);
    from.read_exact(&mut message[from_body..])?;
    Ok(message)
}
