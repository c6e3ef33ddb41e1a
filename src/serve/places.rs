//! The directories that actions act in, and their markers ([`place`]), at start and in `check`.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::core::handler::Handler;
use crate::core::proposal::Policy;
use crate::serve::opening::Say;
use crate::sys::dir::Dir;
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

/// The places in which allowed actions act; those without a marker get one where that is wanted.
pub fn known(policy: &Policy, makes: bool, say: Say) -> Result<(), Failure> {
    let allowed = policy.handlers.iter().filter(|handler| policy.handler(handler.action).is_ok());
    let mut seen = BTreeSet::new();
    for handler in allowed {
        let Some(path) = (handler.place)(&policy.settings) else { continue };
        if !seen.insert(path.clone()) {
            continue;
        }
        let found = match makes {
            true => place::establish(&path).map(Some),
            false => Dir::root(&path).and_then(|dir| place::of(&dir)),
        };
        let found = found.map_err(|error| fault(handler, &path, &error))?;
        let shown = found.as_deref().unwrap_or("not marked yet; serve will do it");
        say("place: ", format!("{} of {} ({shown})", path.display(), handler.action))?;
    }
    Ok(())
}

fn fault(handler: &Handler, path: &Path, error: &io::Error) -> Failure {
    let doing = format!(
        "{}, by which the directory that '{}' acts in is known",
        path.join(place::MARKER).display(),
        handler.action
    );
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::StorageFull => Failure::io(doing, error),
        _ => exit::configuration(format!(
            "{doing}: {error}; if nothing is owed a receipt (`openexec pending`), remove it"
        )),
    }
}
