//! Places: the directory in which an action acts, known again by a marker file in it.
//!
//! ```text
//! <OPENEXEC_OUTBOX_DIR>/.openexec-place    c1a6f0d2b7e84c5f9a3d6b1e0f7c2a48 and a newline
//! ```
//!
//! A path may lead to another directory after a crash: another setting, a volume that is not mounted.
//! So a claim names the marker of the directory that it meant, and a second run acts only where it
//! finds the same. The marker is made at start where there is none. It is never followed where it is
//! a link, and never written again.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::core::hash::{hex, is_random};
use crate::sys::dir::Dir;
use crate::sys::random;

pub const MARKER: &str = ".openexec-place";
/// Anybody may see which directory it is.
const MARKER_MODE: u32 = 0o644;
/// Hexadecimal digits of a place.
const DIGITS: usize = 32;

/// The place that an open directory is; `None` where it has no marker.
///
/// # Errors
/// What has the marker's name is no regular file, cannot be read, or holds something else.
pub fn of(dir: &Dir) -> io::Result<Option<String>> {
    // One byte more than there may be.
    let Some(bytes) = dir.read(MARKER)?.read(DIGITS as u64 + 2)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    if !is_random(text) {
        return Err(io::Error::new(ErrorKind::InvalidData, "it does not hold 32 hex digits"));
    }
    Ok(Some(text.to_owned()))
}

/// The place that the directory at `path` is.
///
/// # Errors
/// As [`of`]; there is no such directory, or no marker in it.
pub fn at(path: &Path) -> io::Result<String> {
    of(&Dir::root(path)?)?.ok_or_else(|| ErrorKind::NotFound.into())
}

/// Makes the marker of the directory, where there is none.
///
/// # Errors
/// As [`of`]; it cannot be made.
pub fn establish(path: &Path) -> io::Result<String> {
    let dir = Dir::root(path)?;
    if let Some(place) = of(&dir)? {
        return Ok(place);
    }
    dir.put(MARKER, format!("{}\n", hex(&random::bytes()?)).as_bytes(), MARKER_MODE)?;
    // Another service may have been quicker, or later.
    of(&dir)?.ok_or_else(|| ErrorKind::NotFound.into())
}
