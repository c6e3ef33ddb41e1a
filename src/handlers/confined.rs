//! Directories held by handle, and what is done to the names in them.
//!
//! Invariant: nothing below a [`Dir::root`] is reached through a symbolic link, whatever anybody
//! does to the directories meanwhile. A path is walked one component at a time, and each step is
//! `openat` relative to the handle before it, with `O_DIRECTORY | O_NOFOLLOW`; the last component
//! is looked at, linked, renamed or unlinked, none of which follows a link, and opened only where it
//! is a regular file ([`crate::regular`]). (`O_PATH` would do without opening, but the standard
//! library on musl takes it for a part of the access mode, and drops it.) There is no `openat` in
//! the standard library either; `/proc/self/fd/<handle>/<name>` is the same lookup, since the kernel
//! resolves that first part to the open directory itself, not to a path. (A directory that somebody
//! moves away while it is held open is written where it has gone: it was inside when it was walked.)
//!
//! This is the only file of the handlers that writes and the only one that syncs.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Call, Failure};
use crate::regular::{self, O_NOFOLLOW, Opened};

// Linux, asm-generic/fcntl.h and what arch/arm64 puts in place of it.
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: i32 = 0o200_000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: i32 = 0o40_000;

/// A name in a directory: the limit of every Linux file system.
pub const NAME_BYTES_MAX: usize = 255;
/// A file that is read to compare it.
pub const COMPARED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// New files: readable by the group, in which the operator's worker is. Less the umask.
const FILE_MODE: u32 = 0o640;
/// New directories: the worker renames in them. Less the umask.
const DIR_MODE: u32 = 0o770;

/// What the names of unfinished files begin with. The execution's id follows, so that the second
/// run of an execution finds what the first left behind.
pub const TEMPORARY: &str = ".openexec-";

/// The name of the unfinished file of the execution `id`.
pub fn temporary(id: &str) -> String {
    format!("{TEMPORARY}{id}")
}

/// Whether `name` is one component of a path, and neither `.` nor `..`.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|byte| matches!(byte, b'/' | 0))
}

/// An open directory.
pub struct Dir(File);

/// What a name stands for.
pub enum Found<'a> {
    Nothing,
    File(Regular<'a>),
    /// A link, a directory, a device, a FIFO or a socket.
    Other,
}

/// A regular file, as it was seen. Whether it can be read is found when it is.
pub struct Regular<'a> {
    dir: &'a Dir,
    name: String,
    /// Device and number, which tell it from whatever may take its name.
    identity: (u64, u64),
    length: u64,
    /// Permission bits, without set-user-id and its like.
    pub mode: u32,
}

impl Dir {
    /// The directory that the configuration names; links in that path are the operator's own.
    pub fn root(path: &Path) -> io::Result<Dir> {
        let dir = Dir(open(path, O_DIRECTORY)?);
        // Without a true `/proc` the paths made from handles would lead anywhere.
        let (held, seen) = (dir.0.metadata()?, std::fs::metadata(handle_path(&dir.0)));
        if seen.is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino())) {
            return Ok(dir);
        }
        Err(io::Error::new(
            ErrorKind::Unsupported,
            "/proc is not mounted, and files are reached through /proc/self/fd only; mount it",
        ))
    }

    /// A directory in this one, if it is one itself and not a link to one.
    pub fn child(&self, name: &str) -> io::Result<Dir> {
        open(&self.at(name)?, O_DIRECTORY | O_NOFOLLOW).map(Dir)
    }

    /// As [`Dir::child`]; a missing directory is made and its name synced.
    pub fn child_or_make(&self, name: &str) -> io::Result<Dir> {
        match self.child(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&self.at(name)?)?;
                self.sync()?;
                self.child(name)
            }
            other => other,
        }
    }

    pub fn find(&self, name: &str) -> io::Result<Found<'_>> {
        let metadata = match self.at(name)?.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            return Ok(Found::Other);
        }
        Ok(Found::File(Regular {
            dir: self,
            name: name.to_owned(),
            identity: identity(&metadata),
            length: metadata.len(),
            mode: metadata.mode() & 0o777,
        }))
    }

    /// Makes a new file, writes and syncs it; on an error nothing is left of it. An existing name
    /// is an error. `mode` is that of the file it will replace.
    pub fn create(&self, name: &str, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(self.at(name)?)?;
        let written = mode
            .map_or(Ok(()), |mode| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = self.remove(name);
        }
        written
    }

    /// Gives the file `from` the further name `to`, which must not exist: the kernel itself
    /// refuses to replace, which a rename does not.
    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.at(from)?, self.at(to)?)
    }

    /// Renames, replacing `to`; if that is a link or has other names, these stay as they are.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from)?, self.at(to)?)
    }

    /// Removes a name that is no directory's.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name)?)
    }

    /// Returns once every name made, changed or removed is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn at(&self, name: &str) -> io::Result<PathBuf> {
        if is_name(name) {
            Ok(handle_path(&self.0).join(name))
        } else {
            Err(ErrorKind::InvalidInput.into())
        }
    }
}

impl Regular<'_> {
    /// The whole content; `FileTooLarge` beyond [`COMPARED_BYTES_MAX`].
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(COMPARED_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > COMPARED_BYTES_MAX {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// Whether the content is exactly `bytes`; one that cannot be read is not known to be.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64 && self.read().is_ok_and(|content| content == bytes)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.open()?.sync_all()
    }

    /// The very file that was found; an error if its name stands for another by now.
    fn open(&self) -> io::Result<File> {
        match regular::open(&self.dir.at(&self.name)?)? {
            Opened::File(file) if identity(&file.metadata()?) == self.identity => Ok(file),
            _ => Err(io::Error::other("somebody has put something else in its place")),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What a failed link, rename or unlink means. What the kernel answers before it begins is sure to
/// have changed nothing; of any other error (EIO, a server that went away) nothing is known.
pub fn not_changed(call: &Call, error: &io::Error, what: &str) -> Failure {
    let sentence = format!("{what}: {error}");
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::StorageFull
        | ErrorKind::AlreadyExists
        | ErrorKind::IsADirectory => call.failure(sentence),
        _ => Failure::Unknown(sentence),
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn handle_path(handle: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Makes a directory; somebody else's being quicker is no error.
fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
