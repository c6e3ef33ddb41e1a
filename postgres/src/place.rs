//! The directory for what a process of ours needs on its host: the inner socket, and `LOCK`. It is fresh, for nothing of
//! the last process counts, and below `RUNTIME_DIRECTORY` (systemd.exec(5)) or the directory for temporary files.

use std::fs::{Metadata, remove_dir_all};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openexec::core::hash::{hex, is_random};
use openexec::store::lock;
use openexec::sys::disk::Directory;
use openexec::sys::exit::{self, Failure};
use openexec::sys::random;

const PREFIX: &str = "openexec-";
/// One that is younger may be another process's that has not locked it yet.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

fn below() -> PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// The directory of the node that runs here.
///
/// # Errors
/// None does, or more than one.
pub fn held() -> Result<PathBuf, Failure> {
    let (below, mut found) = (below(), Vec::new());
    for (path, _) in ours(&below) {
        // Only once its address is there: before, its process may be about to lock it.
        let is_up = lock::address(&path).is_ok();
        if is_up && Directory::open(&path).is_ok_and(|directory| directory.lock(false).is_err()) {
            found.push(path);
        }
    }
    let shown = below.display();
    let why = match (found.pop(), found.is_empty()) {
        (Some(path), true) => return Ok(path),
        (Some(_), false) => {
            format!("several nodes run in {shown}: give each its RUNTIME_DIRECTORY")
        }
        (None, _) => {
            format!("no node of this user listens in {shown}; set RUNTIME_DIRECTORY as it has it")
        }
    };
    Err(Failure::new(exit::INPUT_OUTPUT, why))
}

/// Where a fresh one is; what earlier processes left there goes.
pub fn fresh() -> io::Result<PathBuf> {
    let below = below();
    sweep(&below);
    Ok(below.join(format!("{PREFIX}{}", hex(&random::bytes()?))))
}

/// The directories that processes of ours made for this user.
fn ours(below: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let names = std::fs::read_dir(below).into_iter().flatten().flatten();
    names.filter_map(|entry| {
        let name = entry.file_name();
        let is_ours = name.to_str()?.strip_prefix(PREFIX).is_some_and(is_random);
        let metadata = entry.metadata().ok()?;
        let is_mine = metadata.is_dir() && i64::from(metadata.uid()) == exit::user_id();
        (is_ours && is_mine).then(|| (entry.path(), metadata))
    })
}

/// Removes the directories of ours that nobody holds. Whatever keeps one from going is its reader's to find.
fn sweep(below: &Path) {
    for (path, metadata) in ours(below) {
        let is_old =
            metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_BEHIND));
        if is_old && Directory::open(&path).is_ok_and(|directory| directory.lock(false).is_ok()) {
            let _ = remove_dir_all(path);
        }
    }
}
