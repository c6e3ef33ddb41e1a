//! The disk, as the store needs it: the only file that writes and the only one that syncs.
//!
//! [`Disk`] is narrow so that a simulated one can stand in for it and fail in every way a real one
//! does. [`Directory`] is the real one: files of one directory, named without slashes.
//!
//! What a caller may rely on is what POSIX and the papers leave of it (Pillai et al., "All File
//! Systems Are Not Created Equal", OSDI 2014; Rebello et al., "Can Applications Recover from fsync
//! Failures?", ATC 2020):
//! - bytes written are on the disk only after `sync` of that file has returned success;
//! - a name made, changed or removed is there only after `sync_directory`;
//! - until then any subset of the 512-byte sectors written may be there after a power cut;
//! - after a failed `sync` nothing is known, and another `sync` that succeeds proves nothing.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::regular::{self, Opened};

/// Files kept open: the segment being written, and those just read.
const OPEN_FILES_MAX: usize = 4;

/// The operations of a directory of files. Every error is as the system gave it.
pub trait Disk: Send + Sync {
    /// All names in the directory.
    fn names(&self) -> io::Result<Vec<String>>;
    /// The file's length in bytes.
    fn length(&self, name: &str) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; an error if the file ends before.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// The whole of a small file of at most `bytes_max` bytes, `None` if there is none.
    fn read_small(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>>;
    /// Makes a new, empty file; an error if the name exists.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written to the file is on the disk.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Replaces `to`, if it exists, by `from`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once every name made, changed or removed is on the disk.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A real directory.
pub struct Directory {
    path: PathBuf,
    /// The directory itself, opened once: its syncs reach it even if the path is renamed.
    handle: File,
    /// Whether files are opened for writing too.
    is_written: bool,
    open: Mutex<VecDeque<(String, Arc<File>)>>,
}

impl Directory {
    /// Opens an existing directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_as(path, true)
    }

    /// Opens one that is only read: an auditor's copy, a snapshot, another user's.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        Self::open_as(path, false)
    }

    fn open_as(path: &Path, is_written: bool) -> io::Result<Self> {
        let handle = File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Directory { path: path.to_owned(), handle, is_written, open: Mutex::default() })
    }

    /// Makes the directory, mode 0700, and its missing parents; syncs the entry in its parent.
    pub fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Self::open(path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file, from the few kept open.
    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| known == name)
            && let Some(entry) = open.remove(at)
        {
            let file = entry.1.clone();
            open.push_back(entry);
            return Ok(file);
        }
        // Not `append`: Linux would then ignore the offset of every write.
        let mut options = OpenOptions::new();
        let file = options.read(true).write(self.is_written).open(self.path.join(name))?;
        let file = Arc::new(file);
        if open.len() == OPEN_FILES_MAX {
            open.pop_front();
        }
        open.push_back((name.to_owned(), file.clone()));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(known, _)| known != name);
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        let name = |entry: io::Result<std::fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.path.join(name).symlink_metadata()?.len())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(buffer, offset)
    }

    fn read_small(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        // A link that leads nowhere is not nothing, and a FIFO is not waited for.
        let file = match regular::open(&self.path.join(name))? {
            Opened::Nothing => return Ok(None),
            Opened::Other => return Err(io::Error::other("it is no regular file")),
            Opened::File(file) => file,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}
