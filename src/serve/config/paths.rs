//! Paths in the configuration: the store's, those of files of keys, and whether two are apart.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::{Environment, Problems};
use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::sys::dir::identity;

/// Links on the way of one path: the kernel follows no more.
const LINKS_MAX: usize = 40;
/// Where the store is, unless `OPENEXEC_DB_URL` says otherwise.
const DEFAULT_STORE: &str = "file:openexec-data";

/// Only where the store is: for commands that need nothing else.
pub fn store_path(environment: &Environment) -> Result<PathBuf, Problems> {
    let url = environment.get("OPENEXEC_DB_URL").map_or(DEFAULT_STORE, String::as_str);
    parse_store(url).map_err(|problem| Problems(vec![problem]))
}

/// `file:rel`, `file:/abs`, `file:///abs`.
fn parse_store(url: &str) -> Result<PathBuf, String> {
    let refused = |why: &str| {
        Err(format!("OPENEXEC_DB_URL {why}; set it to file:/path/of/a/directory, or unset it"))
    };
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

/// Reads a file of public keys. One that others can write could name other keys tomorrow.
pub fn read_public_file(path: &Path) -> Result<String, String> {
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
    if metadata.len() > SMALL_FILE_BYTES_MAX {
        return Err(format!("{shown} is larger than {SMALL_FILE_BYTES_MAX} bytes"));
    }
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
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

    /// Whether it leads to or through `other`, by name, or as the same directory mounted elsewhere.
    pub(super) fn lie_within(&self, other: &Places) -> bool {
        let same =
            |path: &Path| path.metadata().ok().filter(Metadata::is_dir).map(|m| identity(&m));
        let end = other.end();
        let known = same(end);
        self.0
            .iter()
            .flat_map(|place| place.ancestors())
            .any(|above| above == end || known.is_some_and(|known| same(above) == Some(known)))
    }
}

/// The last part first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}
