//! Opening a regular file, and nothing else, where somebody else may have put something.
//!
//! What is there is looked at before it is opened, because opening alone can have effects on a
//! device, and again once it is open, because it can be something else by then: neither a link nor a
//! FIFO may hold the thread that asks.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

// Linux, asm-generic/fcntl.h and what arch/arm64 puts in place of it.
#[cfg(not(target_arch = "aarch64"))]
pub const O_NOFOLLOW: i32 = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: i32 = 0o100_000;
const O_NONBLOCK: i32 = 0o4_000;

/// What a path stands for.
pub enum Opened {
    Nothing,
    File(File),
    /// A link, a directory, a device, a FIFO or a socket.
    Other,
}

/// Opens it for reading, if it is a regular file.
pub fn open(path: &Path) -> io::Result<Opened> {
    let opened = || {
        if !path.symlink_metadata()?.is_file() {
            return Ok(Opened::Other);
        }
        let flags = O_NOFOLLOW | O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(if file.metadata()?.is_file() { Opened::File(file) } else { Opened::Other })
    };
    match opened() {
        Err(error) if io::Error::kind(&error) == ErrorKind::NotFound => Ok(Opened::Nothing),
        other => other,
    }
}
