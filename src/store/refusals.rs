//! Which refusals are known, and how much room there is for more (design section 10).
//!
//! One rule shares the room: **nobody holds more than is left free.** A holder is a caller with a code, and with the
//! action where the code says that it is a registered one. What each holds drains by itself, so one
//! that floods takes half of the room and keeps taking what drains; two take a third each, and
//! `n` of them `1/(n + 1)`. So much is always free for one that has held nothing. (Choudhury and
//! Hahne's dynamic thresholds, which share the memory of switches.)
//!
//! Opening and the live path count each record by the same function: a restart forgets nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::COMMIT_BYTES_MAX;
use super::state::Keys;
use crate::core::hash::Hash;
use crate::core::limits::{
    REFUSAL_BYTES_HELD, REFUSALS_DRAIN_SECONDS, REFUSALS_INDEXED, SECTOR_BYTES,
};
use crate::core::problem::Code;
use crate::core::record::Refusal;
use crate::core::time::Time;

/// Codes of refusals whose action nobody has found in the registry: callers choose it freely, and
/// would make themselves a holder with each name.
const OF_ANY_ACTION: [&str; 5] = [
    Code::NonceConflict.name(),
    Code::Frozen.name(),
    Code::ActionNotAllowed.name(),
    Code::CallerNotAllowed.name(),
    Code::UnknownAction.name(),
];
/// Levels are brought up to date in steps of so many seconds: in smaller ones, rounding would keep
/// small levels from draining at all.
const STEP_SECONDS: i64 = 60;

/// Who holds room, by keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder(u64);

impl Holder {
    pub fn of(keys: &Keys, code: &str, action: &str, caller: u64) -> Self {
        let action = if OF_ANY_ACTION.contains(&code) { "" } else { action };
        Holder(keys.of(format!("{code}\n{action}\n{caller}").as_bytes()))
    }

    /// The counts of what was not stored: they are always written.
    pub const COUNTS: Holder = Holder(0);
}

/// What a record of refusals takes at most: its line, alone in a batch padded to whole sectors, and
/// the seal behind it.
pub fn price(line_bytes: usize) -> u64 {
    let batch = (line_bytes + 1 + COMMIT_BYTES_MAX) as u64;
    batch.next_multiple_of(SECTOR_BYTES) + SECTOR_BYTES
}

/// An id, a receipt, and the key of the caller who got it.
pub type Known = (Hash, Hash, u64);

#[derive(Default)]
pub struct Refusals {
    /// The newest last.
    pub recent: VecDeque<Known>,
    known: BTreeSet<Known>,
    /// Bytes that each holds, as of `at`.
    pub levels: BTreeMap<Holder, u64>,
    /// A whole second.
    pub at: i64,
    /// The second of the newest counts of what was not stored.
    pub counted_at: i64,
}

/// What one stored refusal changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    known: Known,
    pub holder: Holder,
    bytes: u64,
}

impl Stored {
    pub fn of(keys: &Keys, refusal: &Refusal, line_bytes: usize) -> Self {
        let caller = keys.of_caller(refusal.caller.as_deref());
        Stored {
            known: (refusal.id, refusal.receipt, caller),
            holder: Holder::of(keys, refusal.code, refusal.action, caller),
            bytes: price(line_bytes),
        }
    }
}

impl Refusals {
    pub fn store(&mut self, stored: &Stored, at: Time) {
        self.charge(stored.holder, stored.bytes, at.seconds());
        self.know(stored.known);
    }

    /// Knows one from now on that takes no room of refusals.
    pub fn know(&mut self, known: Known) {
        if !self.known.insert(known) {
            return;
        }
        self.recent.push_back(known);
        if self.recent.len() > REFUSALS_INDEXED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub fn store_counts(&mut self, at: Time, line_bytes: usize) {
        self.charge(Holder::COUNTS, price(line_bytes), at.seconds());
        self.counted_at = at.seconds();
    }

    /// Whether the newest hold exactly this one: of the caller with this key, or of any.
    pub fn is_known(&self, id: &Hash, receipt: &Hash, caller: Option<u64>) -> bool {
        let (least, most) = caller.map_or((0, u64::MAX), |own| (own, own));
        self.known.range((*id, *receipt, least)..=(*id, *receipt, most)).next().is_some()
    }

    /// Whether the holder may store another, where `staged` bytes are about to be stored. However
    /// large it is: the small ones of a flood would take all that drains before a large one fits.
    pub fn admits(&self, holder: Holder, staged: u64, now: Time) -> bool {
        let elapsed = now.seconds() - self.at;
        let held: u64 = self.levels.values().map(|level| drained(*level, elapsed)).sum();
        let own = self.levels.get(&holder).map_or(0, |level| drained(*level, elapsed));
        own + staged < REFUSAL_BYTES_HELD.saturating_sub(held + staged)
    }

    fn charge(&mut self, holder: Holder, bytes: u64, second: i64) {
        let elapsed = second - self.at;
        // A clock that went back drains nothing and is taken as the new start.
        if !(0..STEP_SECONDS).contains(&elapsed) {
            self.levels.values_mut().for_each(|level| *level = drained(*level, elapsed));
            self.levels.retain(|_, level| *level > 0);
            self.at = second;
        }
        *self.levels.entry(holder).or_insert(0) += bytes;
    }
}

/// What is left of a level after so many seconds.
fn drained(level: u64, seconds: i64) -> u64 {
    let seconds = seconds.clamp(0, REFUSALS_DRAIN_SECONDS) as u64;
    level - level * seconds / REFUSALS_DRAIN_SECONDS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: u64 = 1_536;

    fn at(second: i64) -> Time {
        Time::from_micros(second * 1_000_000)
    }

    /// What a holder stores that asks for more than it gets, each second of a while.
    fn flood(refusals: &mut Refusals, holders: &[u64], seconds: std::ops::Range<i64>) -> u64 {
        let mut stored = 0;
        for second in seconds {
            for _ in 0..2_000 {
                let admitted: Vec<_> = (holders.iter().map(|holder| Holder(*holder)))
                    .filter(|holder| refusals.admits(*holder, 0, at(second)))
                    .collect();
                if admitted.is_empty() {
                    break;
                }
                for holder in admitted {
                    refusals.charge(holder, PRICE, second);
                    stored += PRICE;
                }
            }
        }
        stored
    }

    fn level(refusals: &Refusals, holder: u64) -> u64 {
        refusals.levels.get(&Holder(holder)).copied().unwrap_or(0)
    }

    #[test]
    fn one_that_floods_leaves_half_and_many_leave_as_much_as_each_of_them_has() {
        for flooding in [1u64, 2, 5, 20] {
            let holders: Vec<u64> = (1..=flooding).collect();
            let mut refusals = Refusals::default();
            flood(&mut refusals, &holders, 0..30_000);
            let share = REFUSAL_BYTES_HELD / (flooding + 1);
            for holder in holders {
                let level = level(&refusals, holder);
                assert!(level.abs_diff(share) < share / 10 + 2 * PRICE, "{flooding}: {level}");
            }
            // One that comes late has half of what each of the others has, at once.
            let late = flood(&mut refusals, &[99], 30_000..30_001);
            assert!(late > share * 4 / 10, "{flooding}: {late} of {share}");
        }
    }

    #[test]
    fn a_flood_keeps_getting_what_drains_and_nobody_waits_for_a_day_to_end() {
        let mut refusals = Refusals::default();
        flood(&mut refusals, &[1], 0..7_200);
        let more = flood(&mut refusals, &[1], 7_200..7_260);
        assert!((10 * PRICE..40 * PRICE).contains(&more), "{more} in a minute");
    }

    #[test]
    fn all_that_flood_together_store_no_more_than_a_day_has() {
        let holders: Vec<u64> = (1..=50).collect();
        let mut refusals = Refusals::default();
        let stored = flood(&mut refusals, &holders, 0..86_400);
        let day = crate::core::limits::REFUSAL_BYTES_PER_DAY;
        assert!((day / 2..=day).contains(&stored), "{stored}");
    }

    #[test]
    fn small_levels_drain_too_and_a_clock_that_goes_back_drains_nothing() {
        let mut refusals = Refusals::default();
        refusals.charge(Holder(1), 1_000, 10);
        for second in 10..20_000 {
            refusals.charge(Holder(2), 1, second);
        }
        assert!(level(&refusals, 1) < 60, "{}", level(&refusals, 1));
        refusals.charge(Holder(3), PRICE, 20_000);
        refusals.charge(Holder(3), PRICE, 0);
        assert!(refusals.admits(Holder(3), 0, at(0)));
        assert_eq!(level(&refusals, 3), 2 * PRICE);
    }

    #[test]
    fn callers_cannot_make_holders_by_inventing_actions() {
        let keys = Keys::default();
        let of = |code, action| Holder::of(&keys, code, action, 0);
        for code in OF_ANY_ACTION {
            assert_eq!(of(code, "a"), of(code, "b"), "{code}");
        }
        assert_ne!(of("approval_missing", "a"), of("approval_missing", "b"));
        assert_ne!(of("approval_missing", "a"), of("approval_expired", "a"));
        let by = |caller| Holder::of(&keys, "approval_missing", "a", caller);
        assert_ne!(by(1), by(2));
    }
}
