//! Opening a regular file, and nothing else, where somebody else may have put something.
//!
//! The name is looked at before it is opened, because opening alone can have effects on a device,
//! and again once it is open, because it can be something else by then: neither a link, nor a FIFO,
//! nor another process's lease on the file may hold the thread that asks.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub const O_NOFOLLOW: i32 = flag(0o400_000, 0o100_000, 0x100);
pub const O_DIRECTORY: i32 = flag(0o200_000, 0o40_000, 0x10_0000);
const O_NONBLOCK: i32 = flag(0o4_000, 0o4_000, 0x4);

/// Of Linux (asm-generic/fcntl.h; what arch/arm64 puts in place of it) and of macOS (sys/fcntl.h).
const fn flag(linux: i32, linux_on_arm: i32, macos: i32) -> i32 {
    match cfg!(target_os = "macos") {
        true => macos,
        false if cfg!(target_arch = "aarch64") => linux_on_arm,
        false => linux,
    }
}

/// What a path stands for.
pub enum Opened {
    Nothing,
    File(File),
    /// A link, a directory, a device, a FIFO or a socket.
    Other,
}

/// Opens it for reading, if it is a regular file.
pub fn open(path: &Path) -> io::Result<Opened> {
    open_as(path, OpenOptions::new().read(true))
}

/// Opens it so, if it is a regular file.
pub fn open_as(path: &Path, options: &mut OpenOptions) -> io::Result<Opened> {
    let mut opened = || {
        if !path.symlink_metadata()?.is_file() {
            return Ok(Opened::Other);
        }
        let file = options.custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
        Ok(if file.metadata()?.is_file() { Opened::File(file) } else { Opened::Other })
    };
    match opened() {
        Err(error) if io::Error::kind(&error) == ErrorKind::NotFound => Ok(Opened::Nothing),
        other => other,
    }
}

impl Opened {
    /// The file; an error where there is none, or something else.
    pub fn file(self) -> io::Result<File> {
        match self {
            Opened::File(file) => Ok(file),
            Opened::Nothing => Err(ErrorKind::NotFound.into()),
            Opened::Other => Err(io::Error::other("it is no regular file")),
        }
    }

    /// At most so many bytes of the file; `None` where there is nothing.
    pub fn read(self, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        if let Opened::Nothing = self {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.file()?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}
