//! Where a service has its records: in files here, and in another package wherever that keeps them.
//!
//! A source is asked twice. First, before anything is served, for the directory that is this process's alone; then,
//! while others are told to wait, for the store in it.

use std::sync::Arc;
use std::thread::Builder;

use crate::core::proposal::Policy;
use crate::evidence::guard::{Guard, Saved};
use crate::evidence::log::{FileLog, Log};
use crate::serve::config::Config;
use crate::serve::opening::{self, Purpose, Say, TORN, open_store};
use crate::serve::outcomes::{Judge, Outcomes};
use crate::serve::status::Status;
use crate::store::{GEOMETRY, Store};
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::journal;

/// A store that a service is started over.
pub trait Source: Send {
    /// What it is, in the journal.
    fn name(&self) -> String;

    /// Holds the directory `config.store`, in which the inner socket and `LOCK` are, and tries what the handlers need.
    ///
    /// # Errors
    /// This process cannot be started so.
    fn hold(&mut self, config: &Config, say: Say) -> Result<Arc<Directory>, Failure>;

    /// What looks, for as long as the process lives, for what workers report; `None` where there is no outbox.
    fn outcomes(&self, policy: &Policy, judge: Judge) -> Option<Looks> {
        let outbox = policy.settings.outbox_dir.clone()?;
        Some(Box::new(move || Outcomes { outbox, judge }.watch()))
    }

    /// Opens it, once it is this process's alone; until then it says in `status` why it waits. It is held to its
    /// checkpoint file before anything is written.
    ///
    /// # Errors
    /// There is no store, or it is not one to go on with.
    fn open(
        self: Box<Self>,
        guard: Option<&Guard>,
        status: &Arc<Status>,
    ) -> Result<Opened, Failure>;
}

/// A thread that ends with the process.
pub type Looks = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

/// A store that is this process's.
pub struct Opened {
    pub store: Box<dyn Store>,
    pub log: Arc<dyn Log>,
    /// What the checkpoint file says, where there is one.
    pub saved: Option<Saved>,
}

/// The store of this program.
#[derive(Default)]
pub struct InFiles(Option<Arc<Directory>>);

impl Source for InFiles {
    fn name(&self) -> String {
        self.0.as_ref().map(|directory| directory.path().display().to_string()).unwrap_or_default()
    }

    fn hold(&mut self, config: &Config, say: Say) -> Result<Arc<Directory>, Failure> {
        let directory = opening::hold(config, Purpose::Serve, say)?.here(&config.store)?;
        self.0 = Some(directory.clone());
        Ok(directory)
    }

    fn open(self: Box<Self>, guard: Option<&Guard>, _: &Arc<Status>) -> Result<Opened, Failure> {
        let unheld = || Failure::new(exit::BUG, "the store is opened before it is held");
        let disk = self.0.ok_or_else(unheld)?;
        let (store, torn, saved) = open_store(disk.clone(), guard)?;
        if let Some(torn) = torn {
            journal::error(
                TORN,
                &[
                    ("segment", torn.segment.into()),
                    ("byte", torn.offset.into()),
                    ("bytes", torn.bytes.into()),
                    ("copy", torn.copy.into()),
                ],
            );
        }
        let log = Arc::new(FileLog::new(disk.clone(), GEOMETRY, store.blocks()));
        let preparation = store.preparation();
        let helper = Builder::new()
            .name("segments".into())
            .spawn(move || preparation.run(disk.as_ref(), GEOMETRY.segment_bytes));
        helper.map_err(Failure::while_doing("starting a thread"))?;
        Ok(Opened { store: Box::new(store), log, saved })
    }
}
