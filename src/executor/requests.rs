//! Records that somebody else asks for: an operator, by a file in the store's directory that the next batch
//! sees, as with `freeze`; a worker, through a thread of the edge. The file holds the records themselves, one a line:
//!
//! ```text
//! {"at":"2026-01-01T00:00:00.000000Z","by":"operator","id":"4b22…","kind":"completion","outcome":"executed",
//!  "receipt":"9c1d…","result":{"note":"the bank says so"}}
//! ```
//!
//! Invariant: such a record ends a proposal, or ends or adds to what was executed; none of them leads to an execution.

use std::collections::HashMap;
use std::io;

use super::run;
use super::{Event, Executor, Said, Staged, Stop, answer};
use crate::core::hash::{Hash, hex};
use crate::core::line::Json;
use crate::core::receipt::{Outcome, receipt};
use crate::core::record::{Closed, Completion, Receipt, Record, Witness};
use crate::core::stage::How;
use crate::core::time::Time;
use crate::store::{By, Lost, Store, intact};

/// The file that holds a request until it is done or refused.
pub const REQUEST_FILE: &str = "REQUEST";

/// A record that may be written now.
pub struct Granted {
    pub line: String,
    id: Hash,
    receipt: Hash,
}

/// What becomes of `asked` at that time, by the word of `by`; `None` where it may not be written, or not yet.
pub fn grant(
    store: &dyn Store,
    asked: &Record,
    by: Witness,
    at: Time,
) -> io::Result<Option<Granted>> {
    Ok(match asked {
        // Whatever else it says.
        Record::Receipt(owed) if by == Witness::Operator && store.state().owes_to(&owed.id) => {
            Some(abandoned(at, owed.id))
        }
        Record::Completion(said) if said.by == by && said.holds() && is_news(store, said)? => {
            let line = Completion { at, ..said.clone() }.line();
            Some(Granted { line, id: said.id, receipt: said.receipt })
        }
        Record::Closed(end)
            if by == Witness::Operator
                && end.how == How::Withdrawn
                && store.state().pending(&end.id, at).is_some() =>
        {
            Some(withdrawn(at, end.id))
        }
        _ => None,
    })
}

/// An operator withdraws what is pending. What it withdraws, it says: it needs no receipt.
pub fn withdrawn(at: Time, id: Hash) -> Granted {
    let by = Some(Witness::Operator.name().into());
    let line = Closed { at, by, code: None, how: How::Withdrawn, id }.line();
    Granted { line, id, receipt: id }
}

/// The receipt of a claim that an operator gives up.
pub fn abandoned(at: Time, id: Hash) -> Granted {
    let ended = run::indeterminate("abandoned", "An operator ended it (`openexec abandon`)");
    let (outcome, result) = (ended.outcome, Json(&ended.result));
    let receipt = receipt(&hex(&id), &result);
    Granted { line: Receipt { at, id, outcome, result, receipt }.line(), id, receipt }
}

/// There is a receipt, of what may have happened, and the first completion stands: one that knows more
/// replaces one that knows nothing.
fn is_news(store: &dyn Store, said: &Completion) -> io::Result<bool> {
    let Some((execution, _)) = store.find(By::ClaimId(&said.id))? else { return Ok(false) };
    let Some(position) = execution.receipt else { return Ok(false) };
    if intact(Receipt::read(&store.line(position)?), position)?.outcome == Outcome::Failed {
        return Ok(false);
    }
    let Some(position) = execution.completion else { return Ok(true) };
    let known = intact(Completion::read(&store.line(position)?), position)?.outcome;
    Ok(known == Outcome::Indeterminate && said.outcome != Outcome::Indeterminate)
}

impl<T> Executor<T> {
    /// Writes what a request file asks for, if that may be, and removes it.
    pub(super) fn take_request(&mut self) -> Result<(), Lost> {
        let Ok(Some(note)) = self.store.note(REQUEST_FILE) else { return Ok(()) };
        let (text, left_at) = (note.text.unwrap_or_default(), note.left_at);
        let asked: Option<Vec<Record>> = text.lines().map(Record::read).collect();
        let asked = asked.unwrap_or_default();
        // What is granted, each id once; what cannot be read or has no room now is looked at again.
        let (mut granted, mut is_whole) = (HashMap::new(), true);
        for asked in &asked {
            let at = self.now();
            let Ok(grant) = grant(self.store.as_ref(), asked, Witness::Operator, at) else {
                is_whole = false;
                break;
            };
            // One that has run already has its receipt on the way.
            let Some(Granted { line, id, .. }) = grant.filter(|granted_now| {
                !self.is_on_its_way(&granted_now.id) && !granted.contains_key(&granted_now.id)
            }) else {
                continue;
            };
            // For the receipt of a claim room was reserved with it, but none for another policy.
            let is_receipt = matches!(asked, Record::Receipt(_));
            let kept = if is_receipt { 0 } else { self.kept_bytes() };
            if !self.fits(line.len() + 1, kept) {
                is_whole = false;
                break;
            }
            self.unblock(&id);
            self.stage(&line);
            granted.insert(id, asked);
        }
        if !granted.is_empty() {
            self.commit()?;
            granted.values().for_each(|asked| (self.watch)(Event::Granted(asked)));
        }
        if !is_whole {
            return Ok(());
        }
        // What cannot be removed is looked at again, and does nothing a second time; another that has come is new.
        if self.store.remove_note(REQUEST_FILE, left_at)? && asked.is_empty() {
            (self.watch)(Event::NoRequest);
        }
        Ok(())
    }

    fn is_on_its_way(&self, id: &Hash) -> bool {
        self.flights.values().any(|flight| flight.id == *id)
            || self
                .staged
                .iter()
                .any(|staged| matches!(staged, Staged::Recorded { known: (i, ..), .. } if i == id))
    }

    /// Writes the record that a worker asks for: answered with its line once it is on the disk, and with a
    /// problem where it may not be written, or not now.
    pub(super) fn record(&mut self, asked: &str) -> Result<(), Stop> {
        let at = self.now();
        let grant = |asked| grant(self.store.as_ref(), &asked, Witness::Worker, at);
        let granted = Record::read(asked).map(grant).transpose()?.flatten();
        let Granted { line, id, receipt } = granted
            .filter(|now| !self.is_on_its_way(&now.id) && self.has_room_to_add(now.line.len() + 1))
            .ok_or_else(answer::incomplete)?;
        self.stage(&line);
        self.say_once_written((id, receipt, 0), Said::Text(line));
        Ok(())
    }
}
