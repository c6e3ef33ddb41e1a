//! What the executor tells of itself, for metrics and the journal.

use crate::core::problem::Code;
use crate::core::receipt::Outcome;
use crate::core::record::Record;
use crate::core::time::Time;
use crate::store::{Batch, Store};

/// Who watches, for metrics and the journal. Nothing is decided by it.
pub type Watch = Box<dyn Fn(Event) + Send>;

/// What happens here.
pub enum Event<'a> {
    /// How it stands, after a look at both clocks; and whether the store has room for a refusal.
    Stands {
        now: Time,
        frozen: Option<&'a str>,
        store: &'a dyn Store,
        has_room: bool,
    },
    /// The store is asked to add a batch.
    Writes,
    /// It did, and so many answers are true now.
    Written {
        batch: &'a Batch,
        answers: usize,
    },
    /// A handler begins.
    Runs(&'static str),
    /// It is over.
    Ran(&'static str),
    Ended(Outcome),
    Replayed,
    Refused {
        code: Code,
        is_stored: bool,
    },
    /// What an operator asked for was written.
    Granted(&'a Record<'a>),
    /// An operator's request was none.
    NoRequest,
}
