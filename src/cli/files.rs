//! A store in files, as commands see it beside its service, or without one.
//!
//! What they leave for the service stands in the store's directory, whose names may be hostile to whoever runs
//! this; without a service they take the lock and write a record themselves.

use std::fs::{Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::existing::{Existing, say, say_torn};
use super::options::Options;
use super::verify::beside_a_server;
use crate::core::hash::hex;
use crate::core::limits::REQUEST_BYTES_MAX;
use crate::core::record::{Record, Witness};
use crate::evidence::history::{Readable, Tail};
use crate::executor::requests::{REQUEST_FILE, grant};
use crate::executor::{FROZEN_FILE, UNFROZEN_FILE};
use crate::serve::config::Config;
use crate::serve::opening::{lock_failure, missing_store, mode_must_match, open_store};
use crate::store::open::identity;
use crate::store::replay::{Observer, observe};
use crate::store::state::{Position, State};
use crate::store::{Batch, GEOMETRY, Store, files, segment};
use crate::sys::dir::Dir;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::{clock, random};

/// How long the service has for a request.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The service reads what an operator writes.
const MODE: u32 = 0o644;

pub struct Files<'a> {
    options: &'a Options,
    pub path: PathBuf,
    pub dir: Dir,
}

impl<'a> Files<'a> {
    /// The store in `directory`, or the configured one.
    ///
    /// # Errors
    /// There is none; or it cannot be told, since a directory that this user may not enter is no
    /// directory without a store.
    pub fn find(options: &'a Options, directory: Option<&str>) -> Result<Self, Failure> {
        let path = options.store(directory)?;
        let shown = path.display();
        let found = Dir::root(&path).and_then(|dir| {
            let first = dir.look(&segment::name(1))?;
            let is_there = directory.is_some() || first.is_some_and(|first| first.is_file());
            Ok(is_there.then_some(dir))
        });
        match found {
            Ok(Some(dir)) => Ok(Files { options, path, dir }),
            Err(error) if directory.is_some() || error.kind() != ErrorKind::NotFound => {
                Err(Failure::io(format!("opening {shown}"), &error))
            }
            _ => Err(missing_store(&path)),
        }
    }

    /// Says which store it is: in another directory there may be another.
    fn say_which(&self) {
        say(&format!("the store is {}", self.path.canonicalize().unwrap_or_default().display()));
    }

    /// What failed with a file of the store.
    fn failed(&self, doing: &str, file: &str) -> impl FnOnce(io::Error) -> Failure {
        Failure::while_doing(format!("{doing} {}", self.path.join(file).display()))
    }

    /// Leaves the request, and waits until the service has taken it away.
    fn ask_service(&self, lines: &[String]) -> Result<(), Failure> {
        let (dir, text) = (&self.dir, lines.join("\n") + "\n");
        let deadline = Instant::now() + PATIENCE;
        // Somebody else's request is waited for, never replaced.
        let is_placed = in_time(deadline, || match place(dir, &text) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            placed => placed.map(|()| true),
        });
        if !is_placed.map_err(self.failed("writing", REQUEST_FILE))? {
            let shown = self.path.join(REQUEST_FILE);
            let text = format!(
                "the service has not taken {} away; if it is no request of another `openexec`, remove it",
                shown.display()
            );
            return Err(Failure::new(exit::IN_USE, text));
        }
        let is_taken = in_time(deadline, || Ok(dir.look(REQUEST_FILE)?.is_none()));
        if !is_taken.map_err(self.failed("writing", REQUEST_FILE))? {
            // Nothing is to happen later that was said not to have happened.
            let left = dir.read(REQUEST_FILE).and_then(|found| found.read(REQUEST_BYTES_MAX));
            if left.is_ok_and(|left| left.as_deref() == Some(text.as_bytes())) {
                let _ = dir.remove(REQUEST_FILE);
            }
        }
        Ok(())
    }
}

impl Readable for Files<'_> {
    fn each(&self, observer: Observer) -> Result<(State, Tail), Failure> {
        let replay = beside_a_server(&self.path, |directory, progress| {
            observe(directory, GEOMETRY, progress, observer)
        })?;
        let tail = replay.tail();
        Ok((replay.state, tail))
    }

    fn line(&self, at: Position) -> io::Result<String> {
        files::line(&Directory::open(&self.path)?, GEOMETRY, at)
    }
}

impl Existing for Files<'_> {
    fn config(&self) -> Result<Config, Failure> {
        self.options.config()
    }

    fn write(&self, lines: &[String]) -> Result<(), Failure> {
        let directory = Directory::open(&self.path)
            .map_err(Failure::while_doing(format_args!("opening {}", self.path.display())))?;
        match directory.lock(false) {
            Ok(()) => write_here(directory, &self.config()?, lines),
            Err(TryLockError::WouldBlock) => self.ask_service(lines),
            Err(error) => Err(lock_failure(&self.path, &error)),
        }
    }

    fn is_frozen(&self) -> Result<bool, Failure> {
        let found = self.dir.look(FROZEN_FILE).map(|found| found.is_some());
        found.map_err(self.failed("looking at", FROZEN_FILE))
    }

    /// By a file, which the next batch sees.
    fn freeze(&self, reason: &str) -> Result<&'static str, Failure> {
        self.say_which();
        match self.dir.put(FROZEN_FILE, format!("{reason}\n").as_bytes(), MODE) {
            // A directory of that name cannot be replaced, and freezes as well.
            Err(error) if error.kind() == ErrorKind::IsADirectory => {}
            // The service has its room, and goes on on a full disk. A name alone takes none.
            Err(error)
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                without_reason(&self.dir).map_err(self.failed("writing", FROZEN_FILE))?;
                return Ok(
                    "frozen: new executions get 503 until `openexec unfreeze`; there was no room for the reason",
                );
            }
            made => made.map_err(self.failed("writing", FROZEN_FILE))?,
        }
        Ok("frozen: new executions get 503 until `openexec unfreeze`")
    }

    fn unfreeze(&self) -> Result<bool, Failure> {
        self.say_which();
        let dir = &self.dir;
        let ended = dir.look(FROZEN_FILE).and_then(|found| match found {
            None => Err(ErrorKind::NotFound.into()),
            // The service makes a record of it and removes it, when it next looks.
            Some(found) if found.is_file() => dir.rename(FROZEN_FILE, UNFROZEN_FILE),
            // Somebody made it by hand.
            Some(found) if found.is_dir() => dir.remove_dir(FROZEN_FILE),
            Some(_) => dir.remove(FROZEN_FILE),
        });
        match ended.and_then(|()| dir.sync()) {
            // Another `unfreeze` may have been quicker.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            ended => ended.map(|()| true).map_err(self.failed("ending", FROZEN_FILE)),
        }
    }
}

fn without_reason(dir: &Dir) -> io::Result<()> {
    match dir.create(FROZEN_FILE, MODE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made?.set_permissions(Permissions::from_mode(MODE)),
    }?;
    dir.sync()
}

/// Without a service, and as it would: by its settings, so that nothing is written to a store that is of
/// another mode or behind its checkpoint file. No file is made that the service could not open later.
fn write_here(directory: Directory, config: &Config, lines: &[String]) -> Result<(), Failure> {
    let shown = directory.path().display().to_string();
    if let Ok(identity) = identity(&directory, GEOMETRY) {
        mode_must_match(&config.store, &identity, config.policy.mode())?;
    }
    let (mut store, torn, _) = open_store(Arc::new(directory), config.guard.as_ref())?;
    torn.iter().for_each(say_torn);
    let mut batch = Batch::default();
    for asked in lines.iter().filter_map(|line| Record::read(line)) {
        let granted = grant(&store, &asked, Witness::Operator, clock::now())
            .map_err(Failure::while_doing(format_args!("reading {shown}")))?;
        granted.iter().for_each(|granted| batch.push(&granted.line));
    }
    if batch.is_empty() {
        return Ok(());
    }
    if !store.room().has(batch.bytes_with(0), 0) {
        let text = format!("the store {shown} has no room for it; its service may make some");
        return Err(Failure::new(exit::INPUT_OUTPUT, text));
    }
    store.append(&batch).map_err(|poisoned| {
        Failure::new(exit::INPUT_OUTPUT, format!("the store {shown} failed: {poisoned}"))
    })
}

/// Looks until it is done; false where the time is over.
fn in_time(deadline: Instant, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    while !look()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(true)
}

/// Makes the request whole under a name of its own, then gives it the name that the service knows.
fn place(dir: &Dir, text: &str) -> io::Result<()> {
    let unfinished = format!("{REQUEST_FILE}.{}.tmp", hex(&random::bytes()?));
    dir.make_whole(&unfinished, text.as_bytes(), 0o600, Some(MODE))?;
    let placed = dir.link(&unfinished, REQUEST_FILE);
    let _ = dir.remove(&unfinished);
    placed
}
