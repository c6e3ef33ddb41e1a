//! A start, as far as `check` goes with it: the store, the handlers, their places, the addresses, in that order.
//!
//! `serve` goes on where `check` stops. So both find the same, say it in the same words and end with the same code.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::core::hash::hex;
use crate::core::record::{Identity, Mode};
use crate::evidence::guard::{Guard, Saved};
use crate::evidence::log::FileLog;
use crate::serve::config::{Config, exposed_demo};
use crate::serve::gate::listen::{ListenAddress, Listener, try_bind_unix};
use crate::serve::places;
use crate::store::fault::{OTHER_FORMAT, OpenError};
use crate::store::open::{Torn, identity, take_over};
use crate::store::replay::{Progress, Replay, observe, replay_to_serve};
use crate::store::{Files, GEOMETRY, Geometry, Lost};
use crate::sys::disk::{Directory, Disk};
use crate::sys::exit::{self, Failure};
use crate::sys::{clock, page, random};

/// What is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is made and nothing is changed.
    Check,
    Serve,
}

/// Who has the store.
pub enum Held {
    /// This process, for as long as this is kept.
    Here(Arc<Directory>),
    /// The service that runs; only for [`Purpose::Check`].
    ByService(Identity),
    /// It is still to be made; only for [`Purpose::Check`].
    Nowhere,
}

impl Held {
    /// What this process holds.
    ///
    /// # Errors
    /// Another holds it, or there is none.
    pub fn here(self, path: &Path) -> Result<Arc<Directory>, Failure> {
        match self {
            Held::Here(directory) => Ok(directory),
            Held::ByService(_) => Err(lock_failure(path, &std::fs::TryLockError::WouldBlock)),
            Held::Nowhere => Err(missing_store(path)),
        }
    }
}

/// Is told what is found: a label of ours, and what may have been received.
pub type Say<'a> = &'a mut dyn FnMut(&'static str, String) -> Result<(), Failure>;

/// Holds the store, and tries what the handlers need. Before a claim that a crash left is run again: on a full disk
/// that would be its last run.
pub fn hold(config: &Config, purpose: Purpose, say: Say) -> Result<Held, Failure> {
    warn(config, say)?;
    let path = &config.store;
    let held = hold_store(config, purpose)?;
    let mode = path.metadata().map_or(0, |found| found.permissions().mode() & 0o7777);
    if mode & 0o077 != 0 {
        let shown = path.display();
        let text =
            format!("the store {shown} is open to others (mode {mode:o}); run chmod 700 {shown}");
        say("warning: ", text)?;
    }
    try_handlers(config, purpose, say)?;
    Ok(held)
}

/// Says what the configuration warns of.
pub fn warn(config: &Config, say: Say) -> Result<(), Failure> {
    config.warnings.iter().try_for_each(|warning| say("warning: ", warning.clone()))
}

/// Tries what the handlers need, and knows the places where they act.
pub fn try_handlers(config: &Config, purpose: Purpose, say: Say) -> Result<(), Failure> {
    places::ready(&config.policy)?;
    say("actions: ", "what their handlers need can be used".to_owned())?;
    places::known(&config.policy, purpose == Purpose::Serve, say)
}

/// Opens the store's directory and locks it. A store that is missing is made in demo mode; in clawshield mode that is
/// refused: an empty directory where a volume failed to mount would forget every nonce.
pub fn hold_store(config: &Config, purpose: Purpose) -> Result<Held, Failure> {
    let (path, mode) = (&config.store, config.policy.mode());
    let (is_there, serves) = (path.exists(), purpose == Purpose::Serve);
    let directory = match mode {
        Mode::Clawshield if !path.is_dir() => return Err(missing_store(path)),
        Mode::Demo if !is_there && serves => Directory::make(path),
        _ => Directory::open(path),
    };
    let directory = match directory {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Held::Nowhere),
        opened => {
            opened.map_err(Failure::while_doing(format_args!("opening {}", path.display())))?
        }
    };
    let is_held = match directory.lock(serves) {
        Err(std::fs::TryLockError::WouldBlock) if !serves => true,
        locked => locked.map(|()| false).map_err(|error| lock_failure(path, &error))?,
    };
    match identity(&directory, GEOMETRY) {
        Ok(identity) => {
            mode_must_match(path, &identity, mode)?;
            if is_held {
                return Ok(Held::ByService(identity));
            }
        }
        Err(OpenError::Absent) if mode == Mode::Demo && !is_held => match purpose {
            Purpose::Serve => make_store(&directory, mode, config.guard.as_ref())?,
            Purpose::Check => return Ok(Held::Nowhere),
        },
        // Reading it says it better.
        Err(OpenError::Corrupt { .. }) if !is_held => {}
        // A directory that cannot be listed is not known to be empty.
        Err(error) => return Err(open_failure(path, &error)),
    }
    Ok(Held::Here(Arc::new(directory)))
}

/// Makes a store for `mode` in an empty, locked directory, and its checkpoint file.
pub fn make_store(directory: &Directory, mode: Mode, guard: Option<&Guard>) -> Result<(), Failure> {
    guard.map_or(Ok(()), Guard::must_be_absent)?;
    let failed =
        |error| Failure::io(format!("making a store in {}", directory.path().display()), &error);
    let random = random::bytes().map_err(failed)?;
    let identity = Identity { store: hex(&random), mode, created: clock::now() };
    let head = crate::store::make(directory, GEOMETRY, &identity).map_err(failed)?;
    guard.map_or(Ok(()), |guard| guard.create(&identity, head))
}

/// Reads all segments, for who looks nothing up.
pub fn replay(
    disk: &dyn Disk,
    geometry: Geometry,
    progress: Progress,
) -> Result<Replay, OpenError> {
    observe(disk, geometry, progress, &mut |_| Ok(()))
}

/// Reads all of the store in a locked directory by `read`, and holds it to its checkpoint file. Nothing is
/// changed.
pub fn read_store<T>(
    disk: &Directory,
    guard: Option<&Guard>,
    read: impl FnOnce(&dyn Disk, Geometry, Progress) -> Result<(Replay, T), OpenError>,
) -> Result<(Replay, T, Option<Saved>), Failure> {
    let text = guard.map(Guard::read).transpose()?;
    let failed = |error| open_failure(disk.path(), &error);
    let (replay, more) = read(disk, GEOMETRY, &mut page::progress).map_err(failed)?;
    let identity = replay.identity.as_ref().ok_or(OpenError::Absent).map_err(failed)?;
    let log = FileLog::new(disk, GEOMETRY, replay.blocks.clone());
    let saved = guard.zip(text).map(|(guard, text)| guard.hold(text, identity, &log));
    let saved = saved.transpose()?;
    Ok((replay, more, saved))
}

/// What is said of a batch that a power cut left, whoever opened the store.
pub const TORN: &str =
    "the last batch was cut short by a crash and was removed; none of it was acknowledged";

/// Opens the store in a locked directory. It is held to its checkpoint file before anything is
/// written.
pub fn open_store(
    disk: Arc<Directory>,
    guard: Option<&Guard>,
) -> Result<(Files, Option<Torn>, Option<Saved>), Failure> {
    let (replay, index, saved) = read_store(&disk, guard, replay_to_serve)?;
    let path = disk.path().to_owned();
    let (store, torn) =
        take_over(disk, GEOMETRY, replay, index).map_err(|error| open_failure(&path, &error))?;
    Ok((store, torn, saved))
}

/// Listens wherever the configuration says, and says where, at least one. Standard input only tells
/// its address here. Where one address fails no socket of another is left behind.
pub fn listen(config: &Config) -> Result<(Vec<Listener>, Vec<String>), Failure> {
    let mut all: Vec<(Listener, String)> = Vec::new();
    for (index, address) in config.listen.iter().enumerate() {
        let bound = listen_at(address, config.may_be_exposed);
        all.extend(bound.inspect_err(|_| remove_sockets(&config.listen[..index]))?);
    }
    Ok(all.into_iter().unzip())
}

/// Takes away the sockets that were made at these addresses.
fn remove_sockets(addresses: &[ListenAddress]) {
    for address in addresses {
        if let ListenAddress::Unix(path) = address {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One of them; `None` where the machine lacks what may be missing.
fn listen_at(
    address: &ListenAddress,
    may_be_exposed: bool,
) -> Result<Option<(Listener, String)>, Failure> {
    let bound = address.bind().map_err(|error| cannot_listen(address, &error))?;
    if let Some((_, text)) = &bound
        && ListenAddress::parse(text).is_ok_and(|bound| bound[0].is_exposed())
        && !may_be_exposed
    {
        return Err(exit::configuration(exposed_demo(text)));
    }
    Ok(bound)
}

/// Whether [`listen_at`] would do it, with what holds the address meanwhile. Nothing is put in the place of a socket.
pub fn try_listen_at(
    address: &ListenAddress,
    may_be_exposed: bool,
) -> Result<Option<Option<Listener>>, Failure> {
    match address {
        ListenAddress::Unix(path) => {
            try_bind_unix(path).map(|()| Some(None)).map_err(|error| cannot_listen(address, &error))
        }
        _ => Ok(listen_at(address, may_be_exposed)?.map(|(listener, _)| Some(listener))),
    }
}

fn cannot_listen(address: &ListenAddress, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::AddrInUse => exit::IN_USE,
        _ => exit::INPUT_OUTPUT,
    };
    Failure::new(code, format!("cannot listen on {address}: {error}"))
}

/// The socket on which `tiny_http` listens, inside the store's directory.
pub const INNER_SOCKET: &str = "inner.sock";

pub fn no_inner_socket(store: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("making {INNER_SOCKET} in {}", store.display()), error)
}

/// Why a store that was open takes nothing more.
pub fn store_lost(lost: Lost) -> Failure {
    let code = match lost {
        Lost::Fenced(_) => exit::IN_USE,
        Lost::Refused(_) => exit::BUG,
        Lost::Behind(_) => exit::DATA,
        Lost::Unknown(_) | Lost::Unreadable(_) => exit::INPUT_OUTPUT,
    };
    Failure::new(code, format!("the store failed: {lost}"))
}

pub fn open_failure(path: &Path, error: &OpenError) -> Failure {
    let shown = path.display();
    match error {
        OpenError::Absent => missing_store(path),
        // To restore a copy would be to forget what was executed since.
        OpenError::Corrupt { reason, .. } if reason == OTHER_FORMAT => exit::data(format!(
            "the store {shown} cannot be read: {error}. Nothing was changed. Start the release \
             that wrote it; docs/operations.md, \"Upgrading\""
        )),
        OpenError::Corrupt { .. } => exit::data(format!(
            "the store {shown} is damaged: {error}. Nothing was changed. Keep it as evidence, \
             and restore the newest copy; docs/runbook.md, \"Corrupt store\""
        )),
        OpenError::Disk { doing, error } => Failure::io(format!("{doing} in {shown}"), error),
    }
}

pub fn mode_must_match(path: &Path, identity: &Identity, mode: Mode) -> Result<(), Failure> {
    if identity.mode == mode {
        return Ok(());
    }
    let (made, mode) = (identity.mode.name(), mode.name());
    Err(exit::configuration(format!(
        "the store {} was made for {made} mode, and the configuration says {mode}; set \
         OPENEXEC_MODE={made}, or OPENEXEC_DB_URL to another store",
        path.display()
    )))
}

pub fn missing_store(path: &Path) -> Failure {
    exit::configuration(format!(
        "there is no store in {}; if none was ever made, run `openexec init`; otherwise mount \
         its volume or set OPENEXEC_DB_URL (a new store would forget every nonce)",
        path.display()
    ))
}

pub fn lock_failure(path: &Path, error: &std::fs::TryLockError) -> Failure {
    match error {
        std::fs::TryLockError::WouldBlock => Failure::new(
            exit::IN_USE,
            format!(
                "the store {} is in use by another process (LOCK names it); stop that one first",
                path.display()
            ),
        ),
        std::fs::TryLockError::Error(error) => {
            Failure::io(format!("locking {}", path.display()), error)
        }
    }
}
