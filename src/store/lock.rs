//! `LOCK`: held for the life of the process that owns the store; says who that is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "LOCK";
/// A pid and an address: a socket's path is at most 107 bytes.
const BYTES_MAX: u64 = 256;

/// Dropping it gives the store free; so does the end of the process, however it comes.
pub struct Lock(File);

impl Lock {
    /// Takes the lock of the store in `directory`.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    pub fn take(directory: &Path) -> Result<Self, TryLockError> {
        Self::open(directory, true)
    }

    /// As [`Lock::take`], for who must leave nothing there: `None` where there is no file to lock.
    pub fn take_if_there(directory: &Path) -> Result<Option<Self>, TryLockError> {
        match Self::open(directory, false) {
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            taken => taken.map(Some),
        }
    }

    fn open(directory: &Path, create: bool) -> Result<Self, TryLockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).mode(0o600);
        let file = options.open(directory.join(NAME)).map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Lock(file))
    }

    /// Writes `<pid> <address>\n` for `healthcheck` and for people.
    pub fn publish(&mut self, address: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all_at(format!("{} {address}\n", std::process::id()).as_bytes(), 0)
    }
}

/// The address that the holder of the lock published.
pub fn address(directory: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(directory.join(NAME))?.take(BYTES_MAX).read_to_string(&mut text)?;
    match text.trim_end().split_once(' ') {
        Some((_, address)) => Ok(address.to_owned()),
        None => Err(io::Error::other("LOCK names no address: the server is not up")),
    }
}
