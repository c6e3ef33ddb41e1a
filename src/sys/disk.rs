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
use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use crate::core::time::Time;
use crate::store::lock::{self, Lock};
use crate::sys::dir::{Dir, Identity, identity, parent};
use crate::sys::locked;

/// Files kept open of each kind: those read, and those written.
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
    /// When a file was made, renamed or written last, `None` if there is none.
    fn changed_at(&self, name: &str) -> io::Result<Option<Time>>;
    /// Makes a new, empty file; an error if the name exists.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written to the file is on the disk.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Gives the file `from` the further name `to`; an error if that exists.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Replaces `to`, if it exists, by `from`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once every name made, changed or removed is on the disk.
    fn sync_directory(&self) -> io::Result<()>;
    /// An error unless what was written can still be found: the directory by its path, the lock and
    /// the file `name`, if it was written, by their names, and none is another than it was, nor is
    /// that file longer or shorter.
    fn confirm(&self, name: &str) -> io::Result<()>;
}

/// A real directory, reached by its handle alone.
pub struct Directory {
    path: PathBuf,
    dir: Dir,
    identity: Identity,
    lock: OnceLock<Lock>,
    read: Files,
    /// The descriptors of writers are their own: the one that a write went to is the one that is
    /// synced, whatever is read meanwhile. Two names are written in turn, a segment and the next.
    written: Files,
}

/// The few files kept open of one kind, the one used last at the end.
#[derive(Default)]
struct Files(Mutex<VecDeque<Arc<OpenFile>>>);

struct OpenFile {
    name: String,
    file: File,
    identity: Identity,
    /// Where the handle led when it was opened.
    path: PathBuf,
    /// When it was opened: nothing written changes that of a file that is relied on.
    length: u64,
}

impl Directory {
    /// Opens an existing directory. Nothing is opened for writing before it is written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = Dir::root(path)?;
        Ok(Directory {
            path: path.to_owned(),
            identity: identity(&dir.handle().metadata()?),
            dir,
            lock: OnceLock::new(),
            read: Files::default(),
            written: Files::default(),
        })
    }

    /// Makes the directory, mode 0700, and its missing parents; syncs the entry of each part of the path in its parent.
    pub fn make(path: &Path) -> io::Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<_> = path.ancestors().skip(1).take_while(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for name in path.ancestors().filter(|name| !name.as_os_str().is_empty()) {
            let synced = File::open(parent(name)).and_then(|above| above.sync_all());
            // What a start made that was cut short is no longer missing. What others made may be closed to us, or of a
            // file system that syncs no directories.
            if name == path || missing.contains(&name) {
                synced?;
            }
        }
        Self::open(path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Takes the store for this process, for as long as this is held.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it.
    pub fn lock(&self, may_make: bool) -> Result<(), TryLockError> {
        if let Some(lock) = Lock::take(&self.dir, may_make)? {
            let _ = self.lock.set(lock);
        }
        Ok(())
    }

    /// Tells in `LOCK` who has the store, and where it listens.
    pub fn publish(&self, address: &str) -> io::Result<()> {
        self.lock.get().map_or(Ok(()), |lock| lock.publish(address))
    }

    fn forget(&self, name: &str) {
        for kept in [&self.read, &self.written] {
            locked(&kept.0).retain(|known| known.name != name);
        }
    }

    /// Whether that name is still this file's, of that length if it has one.
    fn must_be(&self, name: &str, is: Identity, length: Option<u64>) -> io::Result<()> {
        let found = self.dir.look(name)?.filter(|found| identity(found) == is);
        let found = found.filter(|found| length.is_none_or(|length| found.len() == length));
        let changed = "was removed or replaced by somebody else, or has another length";
        found.map(drop).ok_or_else(|| io::Error::other(format!("{name} {changed}")))
    }
}

impl OpenFile {
    /// Whether the handle leads where it did, to a file as long as it was. Nothing asks for the file's times: Linux
    /// gives a file whose times somebody saw new ones with its next write, and then a sync has its inode to write too.
    fn is_untouched(&self) -> bool {
        let ends = self.length.checked_sub(1).map(|last| self.file.read_at(&mut [0; 2], last));
        let is_there = self.path.ends_with(&self.name) && path_of(&self.file) == self.path;
        is_there && matches!(ends, Some(Ok(1)))
    }
}

/// By the kernel's word; nowhere where it says nothing.
fn path_of(file: &File) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

impl Files {
    fn find(&self, name: &str) -> Option<Arc<OpenFile>> {
        let mut open = locked(&self.0);
        let at = open.iter().position(|known| known.name == name)?;
        let found = open.remove(at)?;
        open.push_back(found.clone());
        Some(found)
    }

    fn of(&self, name: &str, open: impl FnOnce() -> io::Result<File>) -> io::Result<Arc<OpenFile>> {
        self.find(name).map_or_else(|| self.keep(name, open()?), Ok)
    }

    fn keep(&self, name: &str, file: File) -> io::Result<Arc<OpenFile>> {
        let metadata = file.metadata()?;
        let (identity, length) = (identity(&metadata), metadata.len());
        let path = path_of(&file);
        let file = Arc::new(OpenFile { name: name.to_owned(), file, identity, path, length });
        let mut open = locked(&self.0);
        if open.len() == OPEN_FILES_MAX {
            open.pop_front();
        }
        open.push_back(file.clone());
        Ok(file)
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        self.dir.names()
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.dir.look(name)?.ok_or(io::ErrorKind::NotFound)?.len())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.read.of(name, || self.dir.read(name)?.file())?;
        file.file.read_exact_at(buffer, offset)
    }

    fn read_small(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        // A link that leads nowhere is not nothing, and a FIFO is not waited for.
        self.dir.read(name)?.read(bytes_max)
    }

    fn changed_at(&self, name: &str) -> io::Result<Option<Time>> {
        let at = |found: Metadata| found.ctime() * 1_000_000 + found.ctime_nsec() / 1_000;
        Ok(self.dir.look(name)?.map(|found| Time::from_micros(at(found))))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.written.keep(name, self.dir.create(name, 0o600)?).map(drop)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.written.of(name, || self.dir.write(name)?.file())?;
        file.file.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        // Another descriptor might not tell of an error that this one has met: rather an error here.
        let file = self.written.find(name);
        let file = file.ok_or_else(|| io::Error::other(format!("{name} was never written")))?;
        file.file.sync_data()
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.link(from, to).map_err(|error| match error.kind() {
            // Of one's own file it is refused for no other reason.
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => io::Error::new(
                io::ErrorKind::Unsupported,
                "this file system has no hard links, which a store needs; use another",
            ),
            _ => error,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        self.dir.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        self.dir.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.dir.sync()
    }

    fn confirm(&self, name: &str) -> io::Result<()> {
        match self.path.metadata() {
            Ok(found) if identity(&found) == self.identity => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                let shown = self.path.display();
                return Err(io::Error::other(format!(
                    "{shown} is no longer the directory that was opened: it was renamed, removed or \
                     unmounted; put it back"
                )));
            }
        }
        if let Some(lock) = self.lock.get() {
            self.must_be(lock::NAME, lock.identity, None)?;
        }
        let touched = self.written.find(name).filter(|file| !file.is_untouched());
        touched.map_or(Ok(()), |file| self.must_be(name, file.identity, Some(file.length)))
    }
}
