//! Whether there is a store where a command looks for one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::{Environment, store_path};
use crate::exit::Failure;
use crate::server::missing_store;
use crate::store::segment;

/// Whether a store begins in that directory.
///
/// # Errors
/// It cannot be told: a directory that this user may not enter is no directory without a store.
pub fn is_store(path: &Path) -> Result<bool, Failure> {
    match path.join(segment::name(1)).metadata() {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::io(format!("looking into {}", path.display()), &error)),
    }
}

/// The configured store, which must be there.
pub fn store(environment: &Environment) -> Result<PathBuf, Failure> {
    let store = store_path(environment).map_err(super::refused)?;
    if is_store(&store)? { Ok(store) } else { Err(missing_store(&store)) }
}
