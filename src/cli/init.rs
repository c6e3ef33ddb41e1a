//! `openexec init`: makes the store, on purpose.

use super::options::Options;
use super::print;
use crate::serve::opening::{lock_failure, make_store};
use crate::store::segment;
use crate::sys::disk::{Directory, Disk};
use crate::sys::exit::{self, Failure};

/// Makes a store for the configured mode.
///
/// # Errors
/// There is one already, whole or damaged: it is left as it is.
pub fn run(options: &Options) -> Result<(), Failure> {
    let config = options.config()?;
    let path = &config.store;
    let shown = path.display();
    let directory = Directory::make(path)
        .map_err(Failure::while_doing(format_args!("making the directory {shown}")))?;
    let locked = directory.lock(true);
    // Said of a store in use as well: nobody need stop it to learn that it is there.
    let names = directory.names().map_err(Failure::while_doing(format_args!("listing {shown}")))?;
    if names.iter().any(|name| segment::number(name).is_some()) {
        return Err(exit::configuration(format!(
            "there is a store in {shown} already; it was left as it is"
        )));
    }
    locked.map_err(|error| lock_failure(path, &error))?;
    let mode = config.policy.mode();
    make_store(&directory, mode, config.guard.as_ref())?;
    print("made a store ", format_args!("for {} mode in {shown}", mode.name()))
}
