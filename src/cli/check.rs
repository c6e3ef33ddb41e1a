//! `openexec check`: what `serve` would find at start, without serving.
//!
//! Invariant: nothing is left behind or changed that the service needs, whoever runs it; an operator
//! checks as root what runs as another user. Beside a live service it judges the configuration, so that
//! it can gate a reload, and keeps away from what the service writes.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::existing::say_tail;
use super::options::Options;
use super::print;
use crate::core::hash::hex;
use crate::core::limits::SEGMENT_BYTES;
use crate::core::time::Time;
use crate::evidence::guard::Guard;
use crate::serve::config::Config;
use crate::serve::gate::listen::{ListenAddress, can_bind_unix};
use crate::serve::opening::{
    Held, INNER_SOCKET, Purpose, hold, no_inner_socket, read_store, replay, try_listen_at,
};
use crate::serve::status::Obstacle;
use crate::store::lock::{self, address};
use crate::store::segment::{PROBE, TEMPORARY};
use crate::sys::clock;
use crate::sys::dir::{Dir, parent};
use crate::sys::disk::{Directory, Disk};
use crate::sys::exit::{self, Failure, IN_USE};
use crate::sys::limits::NOTE_BYTES_MAX;
use crate::sys::random;

/// A clock before this was never set: 2026-01-01.
const CLOCK_LEAST: Time = Time::from_micros(1_767_225_600_000_000);

/// Prints a line for each thing that is as it should be.
///
/// # Errors
/// The first thing that is not, with the code that `serve` would end with.
pub fn run(options: &Options) -> Result<(), Failure> {
    let config = &options.config()?;
    configuration(config)?;
    let held = hold(config, Purpose::Check, &mut |label, text| print(label, text))?;
    let store = config.store.display();
    match &held {
        Held::Nowhere => to_be_made(config)?,
        Held::Here(directory) => read(config, directory)?,
        Held::ByService(found) => {
            config.guard.as_ref().map(Guard::read).transpose()?;
            let (id, created) = (&found.store, found.created);
            let text = "in use (LOCK names the process); not read";
            print("store: ", format_args!("{store} ({id}, made {created}), {text}"))?;
        }
    }
    let is_beside = matches!(held, Held::ByService(_));
    let is_as_before = is_beside && has_one_of_the_service(config);
    // While they are open nobody else takes the place; left behind they would be this user's.
    let mut held_meanwhile = Vec::new();
    for address in &config.listen {
        // They will be free when that service has ended. LOCK names only the first of them.
        let may_be_its = is_as_before || is_beside && matches!(address, ListenAddress::Unix(_));
        match try_listen_at(address, config.may_be_exposed) {
            Ok(found) => held_meanwhile.extend(found),
            Err(error)
                if may_be_its && (error.code == IN_USE || *address == ListenAddress::Stdin) =>
            {
                print("address: ", format_args!("{address} is in use beside that service"))?;
            }
            Err(failure) => return Err(failure),
        }
    }
    if !is_beside {
        inner_socket(&config.store).map_err(|error| no_inner_socket(&config.store, &error))?;
    }
    let is_any_free = !held_meanwhile.is_empty();
    drop((held_meanwhile, held));
    if is_any_free { print("address: ", "free") } else { Ok(()) }
}

/// What the settings come to, wherever the store is.
///
/// # Errors
/// The clock was never set.
pub fn configuration(config: &Config) -> Result<(), Failure> {
    print("configuration: ", format_args!("ok ({} mode)", config.policy.mode().name()))?;
    let now = clock::now();
    for key in config.policy.approvals.iter().flat_map(|approvals| approvals.keyring.keys()) {
        let state = if key.is_expired(now) { "expired" } else { "ok" };
        print("key ", format_args!("{}: {state}", key.name()))?;
    }
    if let Some(callers) = &config.policy.callers {
        print("callers: ", callers.len())?;
    }
    if now < CLOCK_LEAST {
        return Err(exit::configuration(format!(
            "the clock says {now}; set it, or approvals cannot be judged"
        )));
    }
    print("clock: ", now)
}

/// Whether it has a place. Where the store is still to be made it has.
fn inner_socket(store: &Path) -> io::Result<()> {
    match Dir::root(store) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        store => can_bind_unix(&store?.at(INNER_SOCKET)?).map(drop),
    }
}

/// Whether one of the addresses, or the port of it, is the first of those at which the service that
/// has the store can be reached.
fn has_one_of_the_service(config: &Config) -> bool {
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

/// Demo mode makes its store by itself: there is none to read.
fn to_be_made(config: &Config) -> Result<(), Failure> {
    let path = &config.store;
    config.guard.as_ref().map_or(Ok(()), Guard::must_be_absent)?;
    print("store: ", format_args!("none yet in {}; serve will make it", path.display()))?;
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(Failure::while_doing(path.display()))?;
    let above = absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    probe(above, SEGMENT_BYTES).map_err(|error| no_room(above, &error))?;
    room(above)
}

/// The store that is there: all of it is read, as `serve` does.
fn read(config: &Config, directory: &Directory) -> Result<(), Failure> {
    let path = &config.store;
    let (replay, (), saved) =
        read_store(directory, config.guard.as_ref(), |disk, geometry, progress| {
            Ok((replay(disk, geometry, progress)?, ()))
        })?;
    if let Some(identity) = &replay.identity {
        let (store, created, records) = (&identity.store, identity.created, replay.tree.size());
        let text = format!("{} ({store}, made {created}), {records} records", path.display());
        print("store: ", text)?;
        replay.tail().into_iter().for_each(say_tail);
        let seen = &replay.state.clock;
        let obstacle = Obstacle::to_approvals(&config.policy, created, seen, clock::now());
        if let Some(Obstacle { reason, advice }) = obstacle {
            print("warning: ", format_args!("nothing can be executed ({reason}): {advice}"))?;
        }
    }
    match probe(path, SEGMENT_BYTES) {
        Ok(()) => room(path)?,
        // Replays and reads go on without room; a first start needs some for its LOCK.
        Err(error) if error.kind() == ErrorKind::StorageFull && has_lock(directory) => {
            let why = no_room(path, &error);
            print("warning: ", format_args!("{why}; until then executions get 507"))?;
        }
        Err(error) => return Err(no_room(path, &error)),
    }
    let Some((guard, saved)) = config.guard.as_ref().zip(saved) else { return Ok(()) };
    let shown = guard.path.display();
    // What replacing it needs; replaced it would be this user's, and not the service's.
    let replaceable = guard.file()?.hold().map(drop);
    replaceable
        .and_then(|()| probe(parent(&guard.path), NOTE_BYTES_MAX as u64))
        .map_err(Failure::while_doing(format_args!("writing the checkpoint file {shown}")))?;
    print("checkpoint file: ", format_args!("{shown}, {} records, extended", saved.head.size))?;
    guard.key.as_ref().map_or(Ok(()), |key| print("log key: ", key.verifier()))
}

fn has_lock(directory: &Directory) -> bool {
    directory.length(lock::NAME).is_ok_and(|length| length > 0)
}

/// Writes, syncs and removes so many bytes, in a file that nobody else has.
fn probe(directory: &Path, bytes: u64) -> io::Result<()> {
    let directory = Dir::root(directory)?;
    let name = format!("{PROBE}{}{TEMPORARY}", hex(&random::bytes()?));
    directory.make_whole(&name, &vec![b'\n'; bytes as usize], 0o600, None)?;
    directory.remove(&name)
}

fn room(directory: &Path) -> Result<(), Failure> {
    print("space: ", format_args!("room for one segment in {}", directory.display()))
}

fn no_room(directory: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("writing 16 MiB in {}", directory.display()), error)
}
