//! `openexec check`: what `serve` would find at start, without serving.
//!
//! Invariant: nothing is left behind or changed that the service needs, whoever runs it; an operator
//! checks as root what runs as another user. Beside a live service it judges the configuration, so that
//! it can gate a reload, and keeps away from what the service writes.

use std::fs::TryLockError;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::{own, print};
use crate::core::hash::hex;
use crate::core::limits::{NOTE_BYTES_MAX, SEGMENT_BYTES};
use crate::core::record::Mode;
use crate::core::time::Time;
use crate::executor::status::Obstacle;
use crate::serve::config::Config;
use crate::serve::gate::listen::{ListenAddress, can_bind_unix};
use crate::serve::places;
use crate::serve::server::{
    INNER_SOCKET, listen, lock_failure, missing_store, mode_must_match, no_inner_socket,
    open_failure, open_to_others,
};
use crate::store::GEOMETRY;
use crate::store::fault::OpenError;
use crate::store::lock::address;
use crate::store::open::identity;
use crate::store::replay::replay;
use crate::store::segment::{PROBE, TEMPORARY};
use crate::sys::dir::Dir;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::page;
use crate::sys::place;
use crate::sys::random;

/// A clock before this was never set: 2026-01-01.
const CLOCK_LEAST: Time = Time::from_micros(1_767_225_600_000_000);

/// Prints a line for each thing that is as it should be.
///
/// # Errors
/// The first thing that is not, with the code that `serve` would end with.
pub fn run(config: &Config) -> Result<(), Failure> {
    let mode = config.policy.mode();
    print("configuration: ", format_args!("ok ({} mode)", mode.name()))?;
    config.warnings.iter().try_for_each(|warning| warn(warning))?;
    if let Some(approvals) = &config.policy.approvals {
        let now = Time::now();
        for key in approvals.keyring.keys() {
            let state = if key.is_expired(now) { "expired" } else { "ok" };
            print("key ", format_args!("{}: {state}", key.name()))?;
        }
    }
    if Time::now() < CLOCK_LEAST {
        return Err(Failure::new(
            exit::CONFIGURATION,
            format!("the clock says {}; set it, or approvals cannot be judged", Time::now()),
        ));
    }
    print("clock: ", Time::now())?;
    places::ready(&config.policy)?;
    own("actions: what their handlers need can be used")?;
    for (handler, path) in places::all(&config.policy) {
        let found = Dir::root(&path).and_then(|dir| place::of(&dir));
        let found = found.map_err(|error| places::fault(handler, &path, &error))?;
        let shown = found.as_deref().unwrap_or("not marked yet; serve will do it");
        print("place: ", format!("{} of {} ({shown})", path.display(), handler.action))?;
    }
    let is_to_be_made = mode == Mode::Demo && is_absent(&config.store);
    let held = if is_to_be_made { to_be_made(config)? } else { store(config)? };
    if matches!(held, Held::ByService) && is_of_the_service(config) {
        return print("address: ", "in use by that service");
    }
    let (listeners, _) = listen(config)?;
    let judged = match Dir::root(&config.store) {
        Ok(_) if matches!(held, Held::ByService) => Ok(()),
        Ok(store) => store.at(INNER_SOCKET).and_then(|inner| can_bind_unix(&inner)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    let judged = judged.map_err(|error| no_inner_socket(&config.store, &error));
    for address in &config.listen {
        // The service's own would be left behind as well, but as its user's. While this one is open
        // nobody else takes the place.
        if let ListenAddress::Unix(path) = address {
            std::fs::remove_file(path)
                .map_err(|error| Failure::io(format!("removing {}", path.display()), &error))?;
        }
    }
    judged?;
    drop((listeners, held));
    print("address: ", "free")
}

/// Who has the store.
enum Held {
    Nobody,
    /// This process, for as long as this is kept.
    Here(#[expect(dead_code, reason = "dropping it unlocks")] Directory),
    ByService,
}

/// Whether one of the addresses, or the port of it, is the first of those at which the service that
/// has the store can be reached: they will be free when that one has ended.
fn is_of_the_service(config: &Config) -> bool {
    let published = address(&config.store).ok().and_then(|text| ListenAddress::parse(&text).ok());
    let Some(published) = published.as_ref().and_then(|addresses| addresses.first()) else {
        return false;
    };
    config.listen.iter().any(|wanted| match (published, wanted) {
        (ListenAddress::Ip(published), ListenAddress::Ip(wanted)) => {
            published.port() == wanted.port()
        }
        // The socket is whoever's that starts the service, and not here.
        (_, ListenAddress::Stdin) => true,
        (published, wanted) => published == wanted,
    })
}

/// Whether `serve` would make a store there.
fn is_absent(path: &Path) -> bool {
    match Directory::open(path) {
        Ok(directory) => matches!(identity(&directory, GEOMETRY), Err(OpenError::Absent)),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Demo mode makes its store by itself: there is none to lock.
fn to_be_made(config: &Config) -> Result<Held, Failure> {
    let path = &config.store;
    if let Some(guard) = &config.guard {
        guard.must_be_absent()?;
    }
    print("store: ", format_args!("none yet in {}; serve will make it", path.display()))?;
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|error| Failure::io(path.display().to_string(), &error))?;
    let above = absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    probe(above, SEGMENT_BYTES).map_err(|error| no_room(above, &error))?;
    room(above)?;
    Ok(Held::Nobody)
}

/// The store that is there, locked if `serve` has ever run; all of it is read, as `serve` does. Of one in
/// use only what it says of itself.
fn store(config: &Config) -> Result<Held, Failure> {
    let path = &config.store;
    let failed = |error| open_failure(path, &error);
    if config.policy.mode() == Mode::Clawshield && !path.is_dir() {
        return Err(missing_store(path));
    }
    let directory = Directory::open(path)
        .map_err(|error| Failure::io(format!("opening {}", path.display()), &error))?;
    let held_by_other = match directory.lock(false) {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(error) => return Err(lock_failure(path, &error)),
    };
    open_to_others(path).iter().try_for_each(|warning| warn(warning))?;
    let text = config.guard.as_ref().map(|guard| guard.read()).transpose()?;
    if held_by_other {
        let found = identity(&directory, GEOMETRY).map_err(failed)?;
        mode_must_match(path, &found, config.policy.mode())?;
        let shown = path.display();
        let said = format!(
            "{shown} ({}, made {}), in use (LOCK names the process); not read",
            found.store, found.created
        );
        print("store: ", said)?;
        return Ok(Held::ByService);
    }
    let replay = replay(&directory, GEOMETRY, &mut page::progress, None).map_err(failed)?;
    let identity = replay.identity().ok_or(OpenError::Absent).map_err(failed)?;
    mode_must_match(path, identity, config.policy.mode())?;
    let (store, created) = (&identity.store, identity.created);
    let said =
        format!("{} ({store}, made {created}), {} records", path.display(), replay.tree.size());
    print("store: ", said)?;
    let obstacle =
        Obstacle::to_approvals(&config.policy, identity.created, &replay.state.clock, Time::now());
    if let Some(obstacle) = obstacle {
        warn(&format!("nothing can be executed ({}): {}", obstacle.reason(), obstacle.advice()))?;
    }
    match probe(path, SEGMENT_BYTES) {
        Ok(()) => room(path)?,
        // Replays and reads go on without room.
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            warn(&format!("{}; until then executions get 507", no_room(path, &error)))?;
        }
        Err(error) => return Err(no_room(path, &error)),
    }
    if let Some((guard, text)) = config.guard.as_ref().zip(text) {
        let saved = guard.hold(text, identity, &replay.source(&directory, GEOMETRY))?;
        let shown = guard.path.display();
        // What replacing it needs; replaced it would be this user's, and not the service's.
        let parent = guard.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let replaceable = guard.file()?.hold().map(drop);
        replaceable
            .and_then(|()| probe(parent.unwrap_or(Path::new(".")), NOTE_BYTES_MAX as u64))
            .map_err(|error| Failure::io(format!("writing the checkpoint file {shown}"), &error))?;
        let size = saved.head.size;
        print("checkpoint file: ", format_args!("{shown}, {size} records, extended"))?;
        if let Some(key) = &guard.key {
            print("log key: ", key.verifier())?;
        }
    }
    Ok(Held::Here(directory))
}

/// Writes, syncs and removes so many bytes, in a file that nobody else has.
fn probe(directory: &Path, bytes: u64) -> io::Result<()> {
    let directory = Dir::root(directory)?;
    let name = format!("{PROBE}{}{TEMPORARY}", hex(&random::bytes()?));
    let written = directory.create(&name, 0o600).and_then(|mut file| {
        io::copy(&mut io::Read::take(io::repeat(b'\n'), bytes), &mut file)?;
        file.flush()?;
        file.sync_all()
    });
    match directory.remove(&name) {
        // It could not be made, which is the error to tell.
        Err(error) if error.kind() == ErrorKind::NotFound => written,
        removed => written.and(removed),
    }
}

fn room(directory: &Path) -> Result<(), Failure> {
    print("space: ", format_args!("room for one segment in {}", directory.display()))
}

fn no_room(directory: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("writing 16 MiB in {}", directory.display()), error)
}

fn warn(warning: &str) -> Result<(), Failure> {
    print("warning: ", warning)
}
