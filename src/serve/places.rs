//! The directories that actions act in, and their markers ([`place`]), at start and in `check`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::core::handler::Handler;
use crate::core::proposal::Policy;
use crate::sys::exit::{self, Failure};
use crate::sys::place;

/// Tries what the handlers need that may be called, each thing once.
///
/// # Errors
/// The first that is missing. Approvers' time would be spent in vain.
pub fn ready(policy: &Policy) -> Result<(), Failure> {
    let mut tried: Vec<&Handler> = Vec::new();
    for handler in policy.handlers.iter().filter(|h| policy.handler(h.action).is_ok()) {
        if tried.iter().any(|earlier| std::ptr::fn_addr_eq(earlier.ready, handler.ready)) {
            continue;
        }
        tried.push(handler);
        (handler.ready)(&policy.settings).map_err(|unusable| {
            let failure = Failure::unusable(&unusable.path, &unusable.error);
            let text = format!("what '{}' needs cannot be used: {failure}", handler.action);
            Failure::new(failure.code, text)
        })?;
    }
    Ok(())
}

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
