//! Which refusals are stored (design section 10): enough that none hides, not so many that a flood
//! fills the disk. What is not stored is counted, and the counts are.

use std::collections::BTreeMap;

use super::lines::denial_line;
use super::proposal::Proposal;
use super::{Answers, Executor, Staged, answer};
use crate::http::problem::Problem;
use crate::json::{Object, Value, canonical};
use crate::limits::{
    DENIAL_BURST, DENIAL_BYTES_PER_CODE_PER_DAY, DENIAL_BYTES_PER_DAY, DENIALS_PER_SECOND,
};
use crate::store::record::suppressed_line;
use crate::time::Time;

/// Counts of what was not stored are written at most this often while requests keep coming.
const SUPPRESSED_EVERY_SECONDS: i64 = 10;
const SECONDS_PER_DAY: i64 = 86_400;
/// A `suppressed` record: every code there is, each with a count.
const SUPPRESSED_LINE_BYTES_MAX: usize = 2048;

#[derive(Default)]
pub struct Denials {
    /// One bucket a code, so that a rare refusal is not lost in a flood of another.
    buckets: BTreeMap<&'static str, Bucket>,
    day: i64,
    bytes_of_day: u64,
    suppressed: BTreeMap<&'static str, u64>,
    suppressed_at: i64,
}

struct Bucket {
    tokens: u32,
    bytes_of_day: u64,
    /// The second at which it was last refilled.
    at: i64,
}

impl Denials {
    /// Counts a denial that is not stored.
    pub fn suppress(&mut self, code: &'static str) {
        *self.suppressed.entry(code).or_insert(0) += 1;
    }

    /// Whether a denial of `bytes` is to be stored.
    pub fn admit(&mut self, code: &'static str, bytes: usize, now: Time) -> bool {
        let second = now.seconds();
        let day = second.div_euclid(SECONDS_PER_DAY);
        if day != self.day {
            self.day = day;
            self.bytes_of_day = 0;
            self.buckets.values_mut().for_each(|bucket| bucket.bytes_of_day = 0);
        }
        let bytes = bytes as u64;
        let new = Bucket { tokens: DENIAL_BURST, bytes_of_day: 0, at: second };
        let bucket = self.buckets.entry(code).or_insert(new);
        bucket.refill(second);
        let within_day = self.bytes_of_day + bytes <= DENIAL_BYTES_PER_DAY
            && bucket.bytes_of_day + bytes <= DENIAL_BYTES_PER_CODE_PER_DAY;
        if !within_day || bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        bucket.bytes_of_day += bytes;
        self.bytes_of_day += bytes;
        true
    }

    /// Whether counts are due to be written although requests keep coming.
    pub fn suppressed_is_due(&self, now: Time) -> bool {
        let since = now.seconds() - self.suppressed_at;
        self.any_suppressed() && !(0..SUPPRESSED_EVERY_SECONDS).contains(&since)
    }

    pub fn any_suppressed(&self) -> bool {
        !self.suppressed.is_empty()
    }

    /// The counts since the last time, by code, as canonical text.
    pub fn take_suppressed(&mut self, now: Time) -> String {
        self.suppressed_at = now.seconds();
        let counts = std::mem::take(&mut self.suppressed);
        let object: Object =
            counts.into_iter().map(|(code, count)| (code.to_owned(), count.into())).collect();
        canonical::to_string(&Value::Object(object))
    }
}

impl Bucket {
    fn refill(&mut self, second: i64) {
        // A clock that went back refills nothing and is taken as the new start.
        let elapsed = u32::try_from(second - self.at).unwrap_or(0);
        let more = elapsed.saturating_mul(DENIALS_PER_SECOND);
        self.tokens = self.tokens.saturating_add(more).min(DENIAL_BURST);
        self.at = second;
    }
}

impl<T> Executor<T> {
    /// Answers with a refusal, stored if it is to be.
    pub(super) fn refuse(
        &mut self,
        ticket: T,
        proposal: &Proposal,
        problem: &Problem,
        answers: Answers<T>,
    ) {
        let now = self.now();
        let line = denial_line(proposal, problem, now);
        let room = self.store.is_prepared()
            && self.batch.bytes_with(line.len() + 1) <= self.store.geometry().batch_bytes_max;
        if !room || !self.denials.admit(problem.code, line.len() + 1, now) {
            self.count_refusal(problem.code);
            answers(ticket, answer::refused(problem, &proposal.id, false));
            return;
        }
        self.metrics.denials.add(problem.code, 1);
        self.batch.push(&line);
        let answer = answer::refused(problem, &proposal.id, true);
        self.staged.push(Staged::Refused { ticket, id: proposal.id, answer });
    }

    /// A refusal that is not stored.
    pub(super) fn count_refusal(&mut self, code: &'static str) {
        self.metrics.denials.add(code, 1);
        self.metrics.denials_not_stored.add(code, 1);
        self.denials.suppress(code);
    }

    /// The counts of what was not stored, as a record, where there is room for one.
    pub(super) fn stage_suppressed(&mut self, now: Time) {
        let bytes = self.batch.bytes_with(SUPPRESSED_LINE_BYTES_MAX);
        if self.store.is_prepared() && bytes <= self.store.geometry().batch_bytes_max {
            let counts = self.denials.take_suppressed(now);
            self.batch.push(&suppressed_line(now, &counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_micros(second * 1_000_000)
    }

    #[test]
    fn a_burst_then_one_a_second_for_each_code() {
        let mut denials = Denials::default();
        let stored = (0..1000).filter(|_| denials.admit("a", 100, at(5))).count();
        assert_eq!(stored, DENIAL_BURST as usize);
        assert!(denials.admit("rare", 100, at(5)), "another code has its own bucket");
        assert!(denials.admit("a", 100, at(6)));
        assert!(!denials.admit("a", 100, at(6)));
        assert!(!denials.admit("a", 100, at(3)), "a clock that goes back gives nothing");
    }

    #[test]
    fn a_day_has_its_bytes_and_so_has_each_code() {
        let mut denials = Denials::default();
        let share = DENIAL_BYTES_PER_CODE_PER_DAY as usize;
        assert!(denials.admit("a", share, at(0)));
        assert!(!denials.admit("a", 1, at(86_399)), "one code leaves room for others");
        for code in ["b", "c", "d", "e", "f", "g", "h"] {
            assert!(denials.admit(code, share, at(0)));
        }
        assert!(!denials.admit("i", 1, at(86_399)));
        assert!(denials.admit("i", 1, at(86_400)));
        assert!(denials.admit("a", 1, at(86_400)));
    }

    #[test]
    fn what_is_not_stored_is_counted_and_the_counts_are_due() {
        let mut denials = Denials::default();
        assert!(!denials.any_suppressed());
        for code in ["a", "b", "a"] {
            denials.suppress(code);
        }
        assert!(denials.suppressed_is_due(at(10)));
        assert_eq!(denials.take_suppressed(at(10)), r#"{"a":2,"b":1}"#);
        assert!(!denials.suppressed_is_due(at(11)));
        denials.suppress("a");
        assert!(!denials.suppressed_is_due(at(19)) && denials.suppressed_is_due(at(20)));
    }
}
