//! The stop switch: a file in the store's directory, seen by the next batch.

use super::{Answers, Executor};
use crate::limits::SMALL_FILE_BYTES_MAX;
use crate::store::Poisoned;
use crate::store::record::freeze_line;

/// The file that freezes execution while it is there; its text is the reason.
pub const FROZEN_FILE: &str = "FROZEN";
/// A `freeze` record of the longest reason that is kept.
const FREEZE_LINE_BYTES_MAX: usize = 1024;

impl<T> Executor<T> {
    /// Sees whether execution is frozen; a change becomes a record. Claims that waited are completed
    /// once it is not, whether or not there was room for a record of the freeze.
    pub(super) fn observe_freeze(&mut self, answers: Answers<T>) -> Result<(), Poisoned> {
        self.read_freeze();
        let frozen = self.frozen.is_some();
        let record_bytes = self.batch.bytes_with(FREEZE_LINE_BYTES_MAX);
        if frozen != self.store.state().frozen && self.store.has_room(record_bytes, 0) {
            let reason: String =
                self.frozen.iter().flat_map(|reason| reason.chars().take(100)).collect();
            self.batch.push(&freeze_line((self.clock)(), frozen, &reason));
            self.commit(answers)?;
        }
        // With nothing staged, no claim is on its way: those that are owed a receipt waited.
        if !frozen && self.batch.is_empty() && self.store.state().owes() {
            self.recover(answers)?;
        }
        Ok(())
    }

    pub(super) fn read_freeze(&mut self) {
        self.frozen = match self.store.disk().read_small(FROZEN_FILE, SMALL_FILE_BYTES_MAX) {
            Ok(None) => None,
            Ok(Some(reason)) => Some(String::from_utf8_lossy(&reason).trim_end().to_owned()),
            Err(_) => Some("the freeze file cannot be read".to_owned()),
        };
    }
}
