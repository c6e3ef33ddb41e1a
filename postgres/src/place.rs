//! The directory for what a process of ours needs on its host: the inner socket, and `LOCK`. It is fresh, for nothing of
//! the last process counts, and below `RUNTIME_DIRECTORY` (systemd.exec(5)) or the directory for temporary files.

use std::fs::remove_dir_all;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openexec::core::hash::{hex, is_random};
use openexec::sys::disk::Directory;
use openexec::sys::{exit, random};

const PREFIX: &str = "openexec-";
/// One that is younger may be another process's that has not locked it yet.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Where a fresh one is; what earlier processes left there goes.
pub fn fresh() -> io::Result<PathBuf> {
    let below =
        std::env::var_os("RUNTIME_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    sweep(&below);
    Ok(below.join(format!("{PREFIX}{}", hex(&random::bytes()?))))
}

/// Removes the directories of ours that nobody holds. Whatever keeps one from going is its reader's to find.
fn sweep(below: &Path) {
    let names = std::fs::read_dir(below).into_iter().flatten().flatten();
    for entry in names {
        let is_ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.strip_prefix(PREFIX).is_some_and(is_random));
        let Ok(metadata) = entry.metadata() else { continue };
        let is_old =
            metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_BEHIND));
        if is_ours
            && is_old
            && metadata.is_dir()
            && i64::from(metadata.uid()) == exit::user_id()
            && Directory::open(&entry.path()).is_ok_and(|directory| directory.lock(false).is_ok())
        {
            let _ = remove_dir_all(entry.path());
        }
    }
}
