//! A store that is there, as commands read it beside its service: without its lock, and changing nothing.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::verify::beside_a_server;
use crate::core::record::Record;
use crate::serve::config::{Environment, store_path};
use crate::serve::opening::missing_store;
use crate::store::replay::observe;
use crate::store::{GEOMETRY, segment};
use crate::sys::dir::Dir;
use crate::sys::exit::Failure;
use crate::sys::page::Page;

pub struct Existing {
    pub path: PathBuf,
    pub dir: Dir,
}

impl Existing {
    /// The configured store.
    ///
    /// # Errors
    /// There is none; or it cannot be told, since a directory that this user may not enter is no
    /// directory without a store.
    pub fn open(environment: &Environment) -> Result<Self, Failure> {
        let path = store_path(environment).map_err(super::refused)?;
        let found = || -> io::Result<Option<Dir>> {
            let dir = Dir::root(&path)?;
            let first = dir.look(&segment::name(1))?;
            Ok(first.is_some_and(|first| first.is_file()).then_some(dir))
        };
        match found() {
            Ok(Some(dir)) => Ok(Existing { path, dir }),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::io(format!("looking into {}", path.display()), &error))
            }
            _ => Err(missing_store(&path)),
        }
    }

    /// Gives every record to `take`, in their order.
    pub fn each_record(&self, take: &mut dyn FnMut(&Record, &str)) -> Result<(), Failure> {
        let replay = beside_a_server(&self.path, |directory, progress| {
            observe(directory, GEOMETRY, progress, &mut |seen| {
                let (record, line) = seen.record()?;
                take(&record, line);
                Ok(())
            })
        })?;
        replay.tail().into_iter().for_each(say_tail);
        Ok(())
    }

    /// What failed with a file of the store.
    pub fn failed(&self, doing: &str, file: &str, error: &io::Error) -> Failure {
        Failure::io(format!("{doing} {}", self.path.join(file).display()), error)
    }
}

/// What stands behind the last batch.
pub fn say_tail((name, byte): (String, u64)) {
    say(&format!(
        "what stands in {name} from byte {byte} on is no whole batch: it is being written, or was cut \
         short, and the next start tells"
    ));
}

/// To people, beside a list. Nobody listening changes nothing.
pub fn say(sentence: &str) {
    Page::new().line("openexec: ", sentence).say();
}
