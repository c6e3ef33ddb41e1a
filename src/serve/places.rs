//! The directories that actions act in, and their markers ([`place`]), at start and in `check`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::core::proposal::Policy;
use crate::handlers::{Handler, place};
use crate::sys::exit::{self, Failure};

/// Makes the markers of the directories that allowed actions act in, where they are missing.
pub fn mark(policy: &Policy) -> Result<(), Failure> {
    for (handler, path) in all(policy) {
        place::establish(&path).map_err(|error| fault(handler, &path, &error))?;
    }
    Ok(())
}

/// The directories that allowed actions act in.
pub fn all(policy: &Policy) -> impl Iterator<Item = (&'static Handler, PathBuf)> {
    let allowed = policy.handlers.iter().filter(|handler| policy.handler(handler.action).is_ok());
    allowed.filter_map(|handler| Some((handler, (handler.place)(&policy.settings)?)))
}

pub fn fault(handler: &Handler, path: &Path, error: &io::Error) -> Failure {
    let doing = format!(
        "{}, by which the directory that '{}' acts in is known",
        path.join(place::MARKER).display(),
        handler.action
    );
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::StorageFull => Failure::io(doing, error),
        _ => Failure::new(
            exit::CONFIGURATION,
            format!(
                "{doing}: {error}; if nothing is owed a receipt (`openexec pending`), remove it"
            ),
        ),
    }
}
