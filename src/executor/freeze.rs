//! The stop switch: a file in the store's directory, seen by the next batch.

use super::Executor;
use crate::core::record::freeze_line;
use crate::core::time::Time;
use crate::store::{Lost, Note};

/// The file that freezes execution while it is there; its text is the reason.
pub const FROZEN_FILE: &str = "FROZEN";
/// What `unfreeze` makes of it, until it is recorded: a stop may begin and end between two looks, or
/// while nothing runs, and is one all the same.
pub const UNFROZEN_FILE: &str = "UNFROZEN";
/// A `freeze` record of the longest reason that is kept.
const FREEZE_LINE_BYTES_MAX: usize = 1024;
/// Room for the end of a stop: of one that nobody saw there are two records.
const END_BYTES_MAX: usize = 3 * FREEZE_LINE_BYTES_MAX;
/// Characters of the reason that are kept.
const REASON_CHARACTERS_MAX: usize = 100;

impl<T> Executor<T> {
    /// Sees whether execution is frozen; a change becomes a record. Claims that waited are completed
    /// once it is not.
    pub(super) fn observe_freeze(&mut self) -> Result<(), Lost> {
        // Claims that waited are judged by the clock, so a jump has to be seen before them.
        self.look();
        self.record_freeze()?;
        self.take_request()?;
        self.expire()?;
        // What was abandoned waits no more, and the room that was kept for it is free.
        let owes = self.waiting_bytes > 0 || self.store.state().debt().0 > 0;
        // With nothing staged, no claim is on its way: those that are owed a receipt waited.
        if self.frozen.is_none() && self.batch.is_empty() && owes {
            self.complete()?;
        }
        Ok(())
    }

    pub(super) fn record_freeze(&mut self) -> Result<(), Lost> {
        // As nearly always. In this order: `unfreeze` makes the second of the first.
        let is_absent = |name| matches!(self.store.note(name), Ok(None));
        if is_absent(FROZEN_FILE) && is_absent(UNFROZEN_FILE) && !self.store.state().frozen {
            (self.frozen, self.past_freeze) = (None, None);
            return Ok(());
        }
        // Where nobody can look whether there is a stop, nothing runs, and there is none to record: its
        // end would be no person's, who vouches for the clock.
        if self.record_past_freeze()?
            && let Ok(stop) = self.store.note(FROZEN_FILE)
            && stop.is_some() != self.store.state().frozen
            // An `unfreeze` between the two looks has its turn when the next one begins.
            && (stop.is_some() || matches!(self.store.note(UNFROZEN_FILE), Ok(None)))
            && self.has_room_for_freezes(1, stop.is_some())
        {
            let at = if stop.is_some() { self.now() } else { self.wall() };
            let reason = stop.as_ref().map(as_reason).unwrap_or_default();
            self.stage_freeze(at, stop.is_some(), &reason);
            self.commit()?;
        }
        self.read_freeze();
        Ok(())
    }

    /// An end that is not recorded yet is none: otherwise a claim would stand inside the freeze.
    pub(super) fn read_freeze(&mut self) {
        let because = |why: &str| Some(why.to_owned());
        self.frozen = match (self.store.note(FROZEN_FILE), self.store.note(UNFROZEN_FILE)) {
            (Ok(Some(stop)), _) => Some(as_reason(&stop)),
            (Err(_), _) | (_, Err(_)) => because("whether it is frozen cannot be read"),
            // It would be recorded again and again; a person has to look.
            (_, Ok(Some(_))) if self.past_freeze.is_some() => because("UNFROZEN is there still"),
            _ if !self.store.state().frozen => None,
            _ if self.has_room_for_freezes(1, false) => because("its end is not recorded yet"),
            _ => because("there is no room to record that it ended"),
        };
    }

    /// A stop that is over becomes a pair of records, and its file goes, before anything else is
    /// written: a crash in between repeats the pair, and no claim can have come after the first one.
    /// `false` while it is there still.
    fn record_past_freeze(&mut self) -> Result<bool, Lost> {
        let past = match self.store.note(UNFROZEN_FILE) {
            Ok(None) => {
                self.past_freeze = None;
                return Ok(true);
            }
            Ok(Some(past)) => past,
            Err(_) => return Ok(false),
        };
        // Another stop may have ended since that one was recorded.
        if self.past_freeze != Some(past.left_at) {
            if !self.has_room_for_freezes(2, false) {
                return Ok(false);
            }
            let now = self.now();
            if !self.store.state().frozen {
                self.stage_freeze(now, true, &as_reason(&past));
            }
            // A person vouched for the clock as it was then, and not for one that was set back since.
            self.stage_freeze(self.wall().max(past.left_at), false, "");
            self.commit()?;
            self.past_freeze = Some(past.left_at);
        }
        let is_gone = self.store.remove_note(UNFROZEN_FILE, past.left_at)?;
        self.past_freeze = self.past_freeze.filter(|_| !is_gone);
        Ok(is_gone)
    }

    /// Of what waits nothing is taken; and a stop is recorded only where its end can be, too.
    fn has_room_for_freezes(&self, lines: usize, ends_frozen: bool) -> bool {
        let kept = self.waiting_bytes + if ends_frozen { END_BYTES_MAX } else { 0 };
        self.fits(lines * FREEZE_LINE_BYTES_MAX, kept)
    }

    /// What everybody else must leave room for: the receipts of claims that wait, and the record that
    /// they need not wait any more.
    pub(super) fn kept_bytes(&self) -> usize {
        self.waiting_bytes + if self.store.state().frozen { END_BYTES_MAX } else { 0 }
    }

    fn stage_freeze(&mut self, at: Time, frozen: bool, reason: &str) {
        let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
        self.stage(&freeze_line(at, frozen, &reason));
    }
}

fn as_reason(note: &Note) -> String {
    note.text.as_deref().unwrap_or("the file cannot be read").trim_end().to_owned()
}
