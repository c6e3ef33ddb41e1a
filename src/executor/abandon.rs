//! Ending a claim that is owed a receipt, on an operator's word: its outcome is `indeterminate`.
//!
//! `openexec abandon` asks the service for it by a file in the store's directory, which the next batch
//! sees, as with `freeze`:
//!
//! ```text
//! abandon 4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a
//! ```

use super::run;
use super::{Answers, Event, Executor};
use crate::core::hash::{Hash, hex, unhex};
use crate::core::line::Json;
use crate::core::receipt::{Outcome, receipt};
use crate::core::record::Receipt;
use crate::core::time::Time;
use crate::store::Lost;

/// The file that holds a request until it is done or refused.
pub const REQUEST_FILE: &str = "REQUEST";
const ABANDON: &str = "abandon ";

/// The text of the file.
pub fn request(id: &Hash) -> String {
    format!("{ABANDON}{}\n", hex(id))
}

/// The receipt of a claim that was abandoned.
pub fn receipt_line(at: Time, id: &Hash) -> String {
    let ended = run::indeterminate("abandoned", "An operator ended it (`openexec abandon`)");
    let (outcome, result) = (ended.outcome, Json(&ended.result));
    Receipt { at, id: *id, outcome, result, receipt: receipt(&hex(id), &result) }.line()
}

impl<T> Executor<T> {
    /// Does what a request file asks for, if it can be done, and removes it. Room for the receipt was
    /// reserved with the claim.
    pub(super) fn take_request(&mut self, answers: Answers<T>) -> Result<(), Lost> {
        let Ok(Some(note)) = self.store.note(REQUEST_FILE) else { return Ok(()) };
        let named = |text: String| unhex(text.strip_prefix(ABANDON)?.strip_suffix('\n')?);
        let id = note.text.and_then(named);
        match id {
            // One that has run already has its receipt on the way.
            Some(id) if self.flights.values().any(|flight| flight.id == id) => {}
            Some(id) if self.store.state().owes_to(&id) => {
                let line = receipt_line(self.now(), &id);
                // No room was reserved for another policy: then it is looked at again.
                if self.policy_due() > 0
                    && !self.store.room().has(self.bytes_with(line.len() + 1), 0)
                {
                    return Ok(());
                }
                self.stage(&line);
                (self.watch)(Event::Ended(Outcome::Indeterminate));
                self.commit(answers)?;
                (self.watch)(Event::Abandoned(&id));
            }
            _ => {}
        }
        // What cannot be removed is looked at again, and does nothing a second time.
        if self.remove_note(REQUEST_FILE, answers)? && id.is_none() {
            (self.watch)(Event::NoRequest);
        }
        Ok(())
    }
}
