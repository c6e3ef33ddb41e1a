//! The checkpoint file: one small text, replaced whole, best on other storage than the store.
//!
//! The order of system calls is that of every replaced file here: a temporary file beside it is made,
//! written and synced, renamed over it, and the directory synced. So whenever the power goes, the old
//! text is there or the new one.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::store::segment::TEMPORARY;
use crate::sys::dir::parent;
use crate::sys::disk::{Directory, Disk};
use crate::sys::limits::NOTE_BYTES_MAX;
use crate::sys::regular::Opened;

pub struct CheckpointFile {
    open: Box<dyn Fn() -> io::Result<Opening> + Send>,
    name: String,
}

/// Where it is, and, where files can be locked, the same as a directory.
type Opening = (Arc<dyn Disk>, Option<Arc<Directory>>);

impl CheckpointFile {
    /// The file at `path`, whose directory must be there.
    pub fn at(path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("it names no file"))?;
        let parent = parent(path).to_owned();
        // Anew each time: its volume may have been mounted again.
        let open = move || -> io::Result<Opening> {
            let directory = Arc::new(Directory::open(&parent)?);
            Ok((directory.clone(), Some(directory)))
        };
        Ok(CheckpointFile { open: Box::new(open), name: name.to_owned() })
    }

    /// The file of this name on any disk.
    pub fn on(disk: Arc<dyn Disk>, name: &str) -> Self {
        CheckpointFile { open: Box::new(move || Ok((disk.clone(), None))), name: name.to_owned() }
    }

    /// What it says; `None` if it is not there.
    pub fn read(&self) -> io::Result<Option<String>> {
        self.read_in((self.open)()?.0.as_ref())
    }

    /// Replaces it by the text that `next` gives for what it says. On an error the old text or the new
    /// one is there.
    ///
    /// # Errors
    /// `next` has one; another process is replacing it; the disk.
    pub fn replace(
        &self,
        next: impl FnOnce(Option<String>) -> io::Result<String>,
    ) -> io::Result<()> {
        let (disk, _held) = self.hold()?;
        let text = next(self.read_in(disk.as_ref())?)?;
        let temporary = format!("{}{TEMPORARY}", self.name);
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => disk.create(&temporary)?,
        }
        disk.write_at(&temporary, 0, text.as_bytes())?;
        disk.sync(&temporary)?;
        disk.rename(&temporary, &self.name)?;
        disk.sync_directory()
    }

    /// Keeps others from replacing it, while the second is held. The lock is on the file that is there
    /// now; who gets it after a replacement reads the new text, by name, and sees.
    pub fn hold(&self) -> io::Result<(Arc<dyn Disk>, Option<File>)> {
        let (disk, directory) = (self.open)()?;
        let lock = match directory.map(|directory| directory.dir().write(&self.name)).transpose()? {
            // Reading it says so better.
            None | Some(Opened::Nothing) => None,
            Some(found) => Some(found.file()?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => Ok((disk, lock)),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another process is replacing it"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read_in(&self, disk: &dyn Disk) -> io::Result<Option<String>> {
        let bytes = disk.read_small(&self.name, NOTE_BYTES_MAX as u64 + 1)?;
        let Some(bytes) = bytes else { return Ok(None) };
        if bytes.len() > NOTE_BYTES_MAX {
            let why = "it is larger than any checkpoint";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let text = String::from_utf8(bytes).map(Some);
        text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}
