//! Whether there is a store where a command looks for one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::serve::config::{Environment, store_path};
use crate::serve::opening::missing_store;
use crate::store::segment;
use crate::sys::dir::Dir;
use crate::sys::exit::Failure;

/// The store's directory, if a store begins in it.
///
/// # Errors
/// It cannot be told: a directory that this user may not enter is no directory without a store.
pub fn find(path: &Path) -> Result<Option<Dir>, Failure> {
    let found = || -> io::Result<Option<Dir>> {
        let dir = Dir::root(path)?;
        let first = dir.look(&segment::name(1))?;
        Ok(first.is_some_and(|first| first.is_file()).then_some(dir))
    };
    match found() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => {
            found.map_err(|error| Failure::io(format!("looking into {}", path.display()), &error))
        }
    }
}

/// The configured store, which must be there.
pub fn store(environment: &Environment) -> Result<(PathBuf, Dir), Failure> {
    let store = store_path(environment).map_err(super::refused)?;
    match find(&store)? {
        Some(dir) => Ok((store, dir)),
        None => Err(missing_store(&store)),
    }
}
