//! `openexec check`: what `serve` would find at start, without serving.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::options::Options;
use super::{environment, print, refused};
use crate::config;
use crate::exit::{self, Failure};
use crate::handlers::Handler;
use crate::limits::SEGMENT_BYTES;
use crate::server::{hold_store, open_failure};
use crate::store::GEOMETRY;
use crate::store::disk::Directory;
use crate::store::fault::OpenError;
use crate::store::record::Mode;
use crate::store::replay::replay;
use crate::time::Time;
use crate::witness::guard::Guard;

/// A clock before this was never set: 2026-01-01.
const CLOCK_LEAST: Time = Time::from_micros(1_767_225_600_000_000);
const PROBE: &str = "check.tmp";

/// Prints a line for each thing that is as it should be.
///
/// # Errors
/// The first thing that is not, with the code that `serve` would end with.
pub fn run(_: Options, handlers: &'static [Handler]) -> Result<(), Failure> {
    let config = config::read(&environment()?, None, handlers).map_err(refused)?;
    let mode = config.policy.mode();
    print(&format!("configuration: ok ({} mode)\n", mode.name()))?;
    for warning in &config.warnings {
        print(&format!("warning: {warning}\n"))?;
    }
    if let Some(approvals) = &config.policy.approvals {
        let now = Time::now();
        for key in approvals.keyring.keys() {
            let state = if key.is_expired(now) { "expired" } else { "ok" };
            print(&format!("key {}: {state}\n", key.name()))?;
        }
    }
    if Time::now() < CLOCK_LEAST {
        return Err(Failure::new(
            exit::CONFIGURATION,
            format!("the clock says {}; set it, or approvals cannot be judged", Time::now()),
        ));
    }
    print(&format!("clock: {}\n", Time::now()))?;
    let path = &config.store;
    let absent = !path.join(crate::store::segment::name(1)).is_file();
    if absent && mode == Mode::Demo {
        if let Some(guard) = &config.guard {
            guard.must_be_absent()?;
        }
        print(&format!("store: none yet in {}; serve will make it\n", path.display()))?;
        return writable(path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new(".")));
    }
    let (lock, directory) = hold_store(path, mode, config.guard.as_ref())?;
    let identity = crate::store::open::identity(directory.as_ref(), GEOMETRY)
        .map_err(|error| open_failure(path, &error))?;
    print(&format!(
        "store: {} ({}, made {}); `openexec verify` reads all of it\n",
        path.display(),
        identity.store,
        identity.created
    ))?;
    writable(path)?;
    if let Some(guard) = &config.guard {
        checkpoint(guard, path, directory.as_ref())?;
    }
    drop(lock);
    config.listen.bind().map(drop).map_err(|error| {
        Failure::new(exit::IN_USE, format!("cannot listen on {:?}: {error}", config.listen))
    })?;
    print("address: free\n")
}

/// The rollback guard: reads the whole store, as `serve` does.
fn checkpoint(guard: &Guard, path: &Path, directory: &Directory) -> Result<(), Failure> {
    let failed = |error| open_failure(path, &error);
    let text = guard.read()?;
    let replay = replay(directory, GEOMETRY, &mut |_, _| {}, None).map_err(failed)?;
    let identity = replay.identity().ok_or(OpenError::Absent).map_err(failed)?;
    let saved = guard.hold(text, identity, &replay.source(directory, GEOMETRY))?;
    // Replacing it by itself is what the service will do, and changes nothing.
    let replaced = guard.file()?.replace(&saved.text);
    let shown = guard.path.display();
    replaced
        .map_err(|error| Failure::io(format!("writing the checkpoint file {shown}"), &error))?;
    print(&format!("checkpoint file: {shown}, {} records, extended\n", saved.head.size))?;
    let Some(key) = &guard.key else { return Ok(()) };
    print(&format!("log key: {}\n", key.verifier()))
}

/// Writes, syncs and removes a segment's worth of bytes.
fn writable(directory: &Path) -> Result<(), Failure> {
    let path = directory.join(PROBE);
    let written = File::create(&path).and_then(|mut file| {
        let blank = vec![b'\n'; 1024 * 1024];
        for _ in 0..SEGMENT_BYTES / blank.len() as u64 {
            file.write_all(&blank)?;
        }
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written
        .and(removed)
        .map_err(|error| Failure::io(format!("writing 16 MiB to {}", path.display()), &error))?;
    print(&format!("space: room for one segment in {}\n", directory.display()))
}
