//! The lock on a store, held for the life of the process that owns it; `LOCK` says who that is.
//!
//! It is on the directory itself, which nobody can put another in place of while it is held, and on
//! `LOCK`, by which hosts that share a file system know of one another. That `LOCK` still is the file
//! that was locked is asked with each batch ([`crate::sys::disk`]).

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::sys::dir::{Dir, Identity, identity};
use crate::sys::regular::Opened;

pub const NAME: &str = "LOCK";
/// A pid and an address: a socket's path is at most 107 bytes.
const BYTES_MAX: u64 = 256;

/// Dropping it gives the store free; so does the end of the process, however it comes.
pub struct Lock {
    file: File,
    pub identity: Identity,
}

impl Lock {
    /// Takes the lock of the store in `directory`; `None` where there is no `LOCK`, which is made
    /// only if it may be. The directory's own lock lasts as long as its handle.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    pub fn take(directory: &Dir, may_make: bool) -> Result<Option<Self>, TryLockError> {
        directory.handle().try_lock()?;
        let opened = directory.write(NAME).and_then(|found| match found {
            Opened::Nothing if !may_make => Ok(None),
            Opened::Nothing => directory.create(NAME, 0o600).map(Some),
            found => found.file().map(Some),
        });
        let Some(file) = opened.map_err(TryLockError::Error)? else { return Ok(None) };
        file.try_lock()?;
        let metadata = file.metadata().map_err(TryLockError::Error)?;
        // It will be written, and the other name may be a file of somebody else's.
        if metadata.nlink() > 1 {
            return Err(TryLockError::Error(io::Error::other("LOCK has another name; remove it")));
        }
        // It has its block before anything fills the disk: a full one stops no start.
        if may_make && metadata.len() == 0 {
            file.write_all_at(&[b'\n'; BYTES_MAX as usize], 0).map_err(TryLockError::Error)?;
        }
        Ok(Some(Lock { file, identity: identity(&metadata) }))
    }

    /// Writes `<pid> <address>\n` for `healthcheck` and for people.
    pub fn publish(&self, address: &str) -> io::Result<()> {
        // Shortened last: emptied first, it would give its block away, which a full disk has not again.
        let text = format!("{} {address}\n", std::process::id());
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// The address that the holder of the lock published.
pub fn address(directory: &Path) -> io::Result<String> {
    let text = Dir::root(directory)?.read(NAME)?.read(BYTES_MAX)?;
    let text = text.ok_or(io::ErrorKind::NotFound)?;
    match String::from_utf8_lossy(&text).trim_end().split_once(' ') {
        Some((_, address)) => Ok(address.to_owned()),
        None => Err(io::Error::other("LOCK names no address: the server is not up")),
    }
}
