//! Paths in the configuration: the store's, those of files of keys, and whether two are apart.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::dir::{Identity, identity, parent};

/// Links on the way of one path: the kernel follows no more.
const LINKS_MAX: usize = 40;
/// What is mounted where (proc_pid_mountinfo(5)); where the system has no such file nothing is.
const MOUNTS: &str = "/proc/self/mountinfo";

/// `file:rel`, `file:/abs`, `file:///abs`.
pub(super) fn store(url: &str) -> Result<PathBuf, String> {
    let refused =
        |why: &str| Err(format!("{why}; set it to file:/path/of/a/directory, or unset it"));
    if url.starts_with("postgresql:") || url.starts_with("postgres:") {
        return Err(
            "names a database, over which `openexec-postgres` serves; start that".to_owned()
        );
    }
    let Some(path) = url.strip_prefix("file:") else {
        return refused("names no directory (this build keeps its store in files only)");
    };
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return refused("names a host"),
        None => path,
    };
    if path.is_empty() || path.contains(['\0', '\n']) {
        return refused("names no directory");
    }
    if path.contains(['?', '#', '%']) {
        return refused("has a query, fragment or escape, which a path here cannot have");
    }
    Ok(PathBuf::from(path))
}

/// Whether a file can be made or replaced there. Replacing a link would leave a file on the storage of the link.
pub(super) fn is_replaceable(path: &Path) -> bool {
    let is_named = path.file_name().is_some_and(|name| name.to_str().is_some());
    is_named && parent(path).is_dir() && !path.is_dir() && !path.is_symlink()
}

/// Reads a file of public keys, of actions or of callers. One that others can write could name others tomorrow.
pub(super) fn read_public_file(path: &Path, bytes_max: u64) -> Result<String, String> {
    let shown = path.display();
    let failed = |error| format!("{shown}: {error}");
    // Before it is opened: that would wait for somebody to write into a FIFO.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("{shown} can be written by others; run chmod go-w {shown}"));
    }
    if metadata.len() > bytes_max {
        return Err(format!("{shown} is larger than {bytes_max} bytes"));
    }
    let mut text = String::new();
    file.take(bytes_max).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Where a setting's path leads, and every link on the way: who can write where a link is can change
/// where it leads.
pub(super) struct Places(Vec<PathBuf>);

impl Places {
    pub(super) fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut places = Vec::new();
        let mut at = PathBuf::new();
        let mut rest: Vec<PathBuf> = parts(&path);
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                at.pop();
                continue;
            }
            at.push(part);
            if let Ok(target) = at.read_link()
                && places.len() < LINKS_MAX
            {
                places.push(at.clone());
                at.pop();
                rest.extend(parts(&target));
            }
        }
        places.push(at);
        Places(places)
    }

    /// Where it leads.
    pub(super) fn end(&self) -> &Path {
        self.0.last().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Whether it leads to or through `other`: by name, or as the same directory or file mounted elsewhere, or as what
    /// is mounted inside `other`.
    pub(super) fn lie_within(&self, other: &Places, mounts: &[PathBuf]) -> bool {
        let end = other.end();
        let mounted = mounts.iter().map(PathBuf::as_path).filter(|mount| mount.starts_with(end));
        let inside: Vec<Identity> = mounted.chain([end]).filter_map(found).collect();
        self.0
            .iter()
            .flat_map(|place| place.ancestors())
            .any(|above| above == end || found(above).is_some_and(|found| inside.contains(&found)))
    }
}

fn found(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|metadata| identity(&metadata))
}

/// Every path at which something is mounted.
pub(super) fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read(MOUNTS).unwrap_or_default();
    let table = String::from_utf8_lossy(&table).into_owned();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// White space and backslashes stand there as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let text = text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    text.replace("\\134", "\\").into()
}

/// The last part first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, hard_link, remove_dir_all, write};

    /// A second name of a file stands for a mount of it: both are the same device and number.
    #[test]
    fn what_is_mounted_inside_lies_within() {
        let scratch = std::env::temp_dir().join(format!("openexec-mounts-{}", std::process::id()));
        let _ = remove_dir_all(&scratch);
        let path = |name: &str| scratch.join(name);
        for name in ["", "files", "files/deep", "beside"] {
            create_dir(path(name)).expect("made");
        }
        write(path("key"), "").expect("written");
        for name in ["files/deep/key", "beside/key"] {
            hard_link(path("key"), path(name)).expect("linked");
        }
        let (key, files) = (Places::of(&path("key")), Places::of(&path("files")));
        for (mounts, is_within) in [
            (vec![], false),
            (vec!["files/deep/key"], true),
            (vec!["files/deep"], false),
            (vec!["beside/key"], false),
            (vec!["beside/key", "files/deep/key"], true),
            (vec!["files/gone"], false),
        ] {
            let paths: Vec<PathBuf> = mounts.iter().map(|name| path(name)).collect();
            assert_eq!(key.lie_within(&files, &paths), is_within, "{mounts:?}");
            assert!(!files.lie_within(&key, &paths), "{mounts:?}");
        }
        remove_dir_all(scratch).expect("removed");
    }

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        assert_eq!(unescaped(r"/a\040b\134040\011"), Path::new("/a b\\040\t"));
        assert!(!cfg!(target_os = "linux") || mounts().contains(&PathBuf::from("/")));
    }
}
