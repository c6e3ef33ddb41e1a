//! A directory held by handle, and the names in it: what is done there stays there.
//!
//! Invariant: nothing in an open [`Dir`] is reached through a symbolic link, or by the directory's
//! path, whatever anybody does to either meanwhile; and nothing is opened that is no regular file
//! ([`crate::sys::regular`]). So a command of root's is safe in a directory of the service's user. Each
//! name is looked up relative to the handle. There is no `openat` in the standard library;
//! `/proc/self/fd/<handle>/<name>` is the same lookup, since the kernel resolves that first part to
//! the open directory itself, not to a path. (`O_PATH` would do without opening, but the standard
//! library on musl takes it for a part of the access mode, and drops it.) A directory that somebody
//! moves away while it is held open is worked on where it has gone.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::core::hash::hex;
use crate::sys::random;
use crate::sys::regular::{self, O_DIRECTORY, O_NOFOLLOW, Opened};

/// A name in a directory: the limit of every Linux file system.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether `name` is one component of a path, and neither `.` nor `..`.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|byte| matches!(byte, b'/' | 0))
}

/// The directory in which a path's last name stands.
pub fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Device and number, which tell a file from whatever may take its name.
pub type Identity = (u64, u64);

pub fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// An open directory.
pub struct Dir {
    handle: File,
    /// Leads to the handle.
    base: PathBuf,
}

impl Dir {
    /// The directory that the configuration names; links in that path are the operator's own.
    pub fn root(path: &Path) -> io::Result<Dir> {
        let dir = Self::open(path, O_DIRECTORY)?;
        // Without a true `/proc` the paths made from handles would lead anywhere.
        let (held, seen) = (dir.handle.metadata()?, std::fs::metadata(&dir.base));
        if seen.is_ok_and(|seen| identity(&seen) == identity(&held)) {
            return Ok(dir);
        }
        Err(io::Error::new(
            ErrorKind::Unsupported,
            "/proc is not mounted, and files are reached through /proc/self/fd only; mount it",
        ))
    }

    /// A directory in this one, if it is one itself and not a link to one.
    pub fn child(&self, name: &str) -> io::Result<Dir> {
        Self::open(&self.at(name)?, O_DIRECTORY | O_NOFOLLOW)
    }

    fn open(path: &Path, flags: i32) -> io::Result<Dir> {
        let handle = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        // `verify` works on macOS too, which has no such files.
        let base = match cfg!(target_os = "linux") {
            true => PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())),
            false => path.to_owned(),
        };
        Ok(Dir { handle, base })
    }

    /// Makes a directory, its mode less the umask; somebody else's being quicker is no error.
    pub fn make(&self, name: &str, mode: u32) -> io::Result<()> {
        match DirBuilder::new().mode(mode).create(self.at(name)?) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// All names in it.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.each_name()?.collect()
    }

    /// The same, one after another: there may be a million.
    pub fn each_name(&self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let name = |entry: io::Result<std::fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        Ok(std::fs::read_dir(&self.base)?.map(name))
    }

    /// What has that name, not followed; `None` if nothing has.
    pub fn look(&self, name: &str) -> io::Result<Option<Metadata>> {
        match self.at(name)?.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Opens a regular file for reading.
    pub fn read(&self, name: &str) -> io::Result<Opened> {
        regular::open(&self.at(name)?)
    }

    /// Opens a regular file for reading and writing.
    pub fn write(&self, name: &str) -> io::Result<Opened> {
        // Not `append`: Linux would then ignore the offset of every write.
        regular::open_as(&self.at(name)?, OpenOptions::new().read(true).write(true))
    }

    /// Makes a new file, its mode less the umask. An existing name, a link too, is an error.
    pub fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode).open(self.at(name)?)
    }

    /// Makes the file `name`, of exactly that mode, or replaces what has the name, and syncs both: a
    /// reader sees the old file or the new one, whole. Any number may do so at once: each works
    /// under a name of its own.
    pub fn put(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let unfinished = format!("{name}.{}.tmp", hex(&random::bytes()?));
        // Whatever the umask: the service has to read what root writes.
        self.make_whole(&unfinished, bytes, 0o600, Some(mode))?;
        self.rename(&unfinished, name).inspect_err(|_| drop(self.remove(&unfinished)))?;
        self.sync()
    }

    /// Makes a new file, writes and syncs it; on an error nothing is left of it. An existing name is an error. Its
    /// mode is the first less the umask, or exactly the second.
    pub fn make_whole(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        exactly: Option<u32>,
    ) -> io::Result<()> {
        let mut file = self.create(name, mode)?;
        let given = |mode| file.set_permissions(Permissions::from_mode(mode));
        let written = exactly
            .map_or(Ok(()), given)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(self.remove(name)))
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

    /// Renames it into another directory, in the same way.
    pub fn move_to(&self, name: &str, other: &Dir) -> io::Result<()> {
        std::fs::rename(self.at(name)?, other.at(name)?)
    }

    /// Removes a name that is no directory's.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name)?)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        std::fs::remove_dir(self.at(name)?)
    }

    /// Returns once every name made, changed or removed is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Leads to that name in this directory, for as long as the directory is held.
    pub fn at(&self, name: &str) -> io::Result<PathBuf> {
        if is_name(name) { Ok(self.base.join(name)) } else { Err(ErrorKind::InvalidInput.into()) }
    }
}
