//! Why a store does not open.

use std::fmt;
use std::io;

use super::segment;

/// Why a store does not open.
#[derive(Debug)]
pub enum OpenError {
    /// There is no segment in the directory.
    Absent,
    /// The files are not what this program wrote. Nothing was changed.
    Corrupt { file: String, byte: u64, reason: String },
    /// The disk failed.
    Disk { doing: String, error: io::Error },
}

/// The reason where a segment begins as one does, and with another number than this program's: another
/// release wrote it, or that digit is damaged.
pub const OTHER_FORMAT: &str = "it is of a format that this program does not know";

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no store here"),
            Self::Corrupt { file, byte, reason } => write!(f, "{file}, byte {byte}: {reason}"),
            Self::Disk { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

pub(super) fn corrupt(number: u32, byte: u64, reason: &str) -> OpenError {
    OpenError::Corrupt { file: segment::name(number), byte, reason: reason.to_owned() }
}

/// What the disk's error was met at: doing what, to which file.
pub(super) fn failed(doing: &str, file: &str) -> impl FnOnce(io::Error) -> OpenError {
    let doing = format!("{doing} {file}");
    |error| OpenError::Disk { doing, error }
}
