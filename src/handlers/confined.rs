//! What handlers do to the names in a directory that is held by handle ([`crate::sys::dir`]).
//!
//! Invariant: nothing below a [`Dir::root`] is reached through a symbolic link, whatever anybody
//! does to the directories meanwhile. A path is walked one component at a time, each a directory in
//! the one before it and no link; the last component is looked at, linked, renamed or unlinked, none
//! of which follows a link, and opened only where it is a regular file. (A directory that somebody
//! moves away while it is held open is written where it has gone: it was inside when it was walked.)
//!
//! This is the only file of the handlers that writes.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;

use super::{Call, Failure, place};
use crate::core::hash::hex;
use crate::sys::dir::{Identity, identity};
use crate::sys::random;
use crate::sys::regular::Opened;

pub use crate::sys::dir::{Dir, NAME_BYTES_MAX, is_name};

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
    identity: Identity,
    length: u64,
    /// Permission bits, without set-user-id and its like.
    pub mode: u32,
}

impl Dir {
    /// As [`Dir::child`]; a missing directory is made and its name synced.
    pub fn child_or_make(&self, name: &str) -> io::Result<Dir> {
        match self.child(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make(name, DIR_MODE)?;
                self.sync()?;
                self.child(name)
            }
            other => other,
        }
    }

    pub fn find(&self, name: &str) -> io::Result<Found<'_>> {
        Ok(match self.look(name)? {
            None => Found::Nothing,
            Some(metadata) if metadata.is_file() => Found::File(Regular {
                dir: self,
                name: name.to_owned(),
                identity: identity(&metadata),
                length: metadata.len(),
                mode: metadata.mode() & 0o777,
            }),
            Some(_) => Found::Other,
        })
    }

    /// Makes a new file, writes and syncs it; on an error nothing is left of it. An existing name
    /// is an error. `mode` is that of the file it will replace.
    pub fn create_with(&self, name: &str, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
        self.make_whole(name, bytes, FILE_MODE, mode)
    }

    /// Tries all that a handler does to names in it, with a file of so many bytes; leaves nothing.
    ///
    /// # Errors
    /// The first thing that cannot be done.
    pub fn try_out(&self, bytes: usize) -> io::Result<()> {
        let name = temporary(&format!("check-{}", hex(&random::bytes()?)));
        let other = format!("{name}~");
        let tried = self
            .create_with(&name, &vec![b'\n'; bytes], None)
            .and_then(|()| self.link(&name, &other))
            .and_then(|()| self.remove(&name))
            .and_then(|()| self.rename(&other, &name));
        let removed = self.remove(&name);
        match tried {
            Ok(()) => removed.and_then(|()| self.sync()),
            failed => {
                let _ = self.remove(&other);
                failed
            }
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
        match self.dir.read(&self.name)? {
            Opened::File(file) if identity(&file.metadata()?) == self.identity => Ok(file),
            _ => Err(io::Error::other("somebody has put something else in its place")),
        }
    }
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

/// Holds the directory that was opened for a call to the one that its claim names.
pub fn must_be(dir: &Dir, call: &Call) -> Result<(), Failure> {
    match place::of(dir) {
        Ok(Some(place)) if call.place == Some(&place) => Ok(()),
        Ok(_) => {
            let sentence = "the directory is not the one that the claim names by .openexec-place";
            Err(call.failure(sentence))
        }
        Err(error) => Err(call.failure(format!("{} cannot be read: {error}", place::MARKER))),
    }
}
