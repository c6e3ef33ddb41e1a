//! The checkpoint file: one small text, replaced whole, best on other storage than the store.
//!
//! The order of system calls is that of every replaced file here: a temporary file beside it is made,
//! written and synced, renamed over it, and the directory synced. So whenever the power goes, the old
//! text is there or the new one.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::limits::NOTE_BYTES_MAX;
use crate::store::segment::TEMPORARY;
use crate::sys::disk::{Directory, Disk};
use crate::sys::regular::Opened;

pub struct CheckpointFile {
    place: Place,
    name: String,
}

enum Place {
    /// The directory, opened anew each time: its volume may have been mounted again.
    Path(PathBuf),
    Disk(Arc<dyn Disk>),
}

/// The file in its directory, as it is now.
pub struct OpenedCheckpoint {
    disk: Arc<dyn Disk>,
    name: String,
    /// While it is held, no other process that asks for it replaces the file.
    #[expect(dead_code, reason = "dropping it unlocks")]
    lock: Option<File>,
}

impl CheckpointFile {
    /// The file at `path`, whose directory must be there.
    pub fn at(path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("it names no file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let place = Place::Path(parent.unwrap_or(Path::new(".")).to_owned());
        Ok(CheckpointFile { place, name: name.to_owned() })
    }

    /// The file of this name on any disk.
    pub fn on(disk: Arc<dyn Disk>, name: &str) -> Self {
        CheckpointFile { place: Place::Disk(disk), name: name.to_owned() }
    }

    /// Keeps others from replacing it between a look and a replacement. The lock is on the file that
    /// is there now; who gets it after a replacement reads the new text, by name, and sees.
    pub fn hold(&self) -> io::Result<OpenedCheckpoint> {
        let name = self.name.clone();
        let parent = match &self.place {
            Place::Path(parent) => parent,
            Place::Disk(disk) => {
                return Ok(OpenedCheckpoint { disk: disk.clone(), name, lock: None });
            }
        };
        let directory = Directory::open(parent)?;
        let lock = match directory.dir().write(&name)? {
            // Reading it says so better.
            Opened::Nothing => None,
            found => Some(found.file()?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => Ok(OpenedCheckpoint { disk: Arc::new(directory), name, lock }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another process is replacing it"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What it says; `None` if it is not there.
    pub fn read(&self) -> io::Result<Option<String>> {
        match &self.place {
            Place::Path(parent) => read(&Directory::open(parent)?, &self.name),
            Place::Disk(disk) => read(disk.as_ref(), &self.name),
        }
    }
}

impl OpenedCheckpoint {
    /// What it says; `None` if it is not there.
    pub fn read(&self) -> io::Result<Option<String>> {
        read(self.disk.as_ref(), &self.name)
    }

    /// Replaces it. On an error the old text or the new one is there.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        let temporary = format!("{}{TEMPORARY}", self.name);
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.disk.create(&temporary)?,
        }
        self.disk.write_at(&temporary, 0, text.as_bytes())?;
        self.disk.sync(&temporary)?;
        self.disk.rename(&temporary, &self.name)?;
        self.disk.sync_directory()
    }
}

fn read(disk: &dyn Disk, name: &str) -> io::Result<Option<String>> {
    let bytes = disk.read_small(name, NOTE_BYTES_MAX as u64 + 1)?;
    let Some(bytes) = bytes else { return Ok(None) };
    if bytes.len() > NOTE_BYTES_MAX {
        return Err(io::Error::other("it is larger than any checkpoint"));
    }
    String::from_utf8(bytes).map(Some).map_err(io::Error::other)
}
