//! Whether the wall clock can be believed when approvals are judged by it.
//!
//! Two things speak against it. It is *behind*: more than 60 s before a time that this store has seen,
//! so that an approval refused as expired could come to life again. Or it *jumped*: between two looks it
//! went more than 60 s further than the monotonic clock, which nobody can set. After a jump its times
//! are recorded as they are and raise no mark here, so that one glitch forward does not block
//! executions for its length. A step back that is undone is none. One of 60 s or less stops nothing:
//! decisions keep the time of the newest until the wall has come up to it.
//!
//! A jump stays seen although the clock may be right again: a person decides that, and `unfreeze` says
//! it. A suspended machine looks the same, because the monotonic clock stood still. An idle service
//! looks each second; a restart forgets the jump, and the records of that time count from then on.
//!
//! Pure: both clocks come in as arguments.

use std::time::Duration;

use crate::core::limits::CLOCK_SKEW_SECONDS;
use crate::core::problem::Code;
use crate::core::time::Time;

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Behind,
    Jumped,
}

impl Fault {
    /// The code of the refusal; its name is also the reason that `/ready` gives.
    pub const fn code(self) -> Code {
        match self {
            Fault::Behind => Code::ClockBehind,
            Fault::Jumped => Code::ClockJumped,
        }
    }

    /// What happened, and what an operator does about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Fault::Behind => {
                "The clock is over 60 s behind the newest record; set it, then freeze and unfreeze"
            }
            Fault::Jumped => {
                "The clock went over 60 s ahead at once, or the machine was suspended; check it, \
                 then freeze and unfreeze"
            }
        }
    }
}

/// What was seen of both clocks since the last `unfreeze`.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// The high-water mark: the newest time of a record or a decision.
    newest: Option<Time>,
    /// The furthest that the wall was ahead of the monotonic clock: it stays the same while neither is
    /// set, and comes back to it when a step back is undone.
    ahead: Option<Time>,
    jumped: bool,
}

impl Clock {
    /// Compares both clocks since the last look. `monotonic` counts from any fixed moment.
    pub fn look(&mut self, wall: Time, monotonic: Duration) {
        let passed = i64::try_from(monotonic.as_micros()).unwrap_or(i64::MAX);
        let ahead = Time::from_micros(wall.micros().saturating_sub(passed));
        let is_further = |before: Time| ahead > before.plus_seconds(CLOCK_SKEW_SECONDS);
        self.jumped |= self.ahead.is_some_and(is_further);
        self.ahead = self.ahead.max(Some(ahead));
    }

    /// A record or a decision has this time.
    pub fn raise(&mut self, at: Time) {
        if !self.jumped {
            self.newest = self.newest.max(Some(at));
        }
    }

    /// The time by which to decide: the wall's, or the newest that was seen where the wall is behind it
    /// by no more than clocks are corrected by. So what was decided to be over stays so.
    pub fn time(&self, wall: Time) -> Time {
        match self.newest {
            Some(newest) if self.fault(wall) != Some(Fault::Behind) => wall.max(newest),
            _ => wall,
        }
    }

    /// A person has looked at the clock: what counts begins with this record.
    pub fn unfreeze(&mut self, at: Time) {
        *self = Clock { newest: Some(at), ..Clock::default() };
    }

    /// In the order of the decision's row 7.
    pub fn fault(&self, now: Time) -> Option<Fault> {
        let is_behind = |newest| now.plus_seconds(CLOCK_SKEW_SECONDS) < newest;
        if self.newest.is_some_and(is_behind) {
            return Some(Fault::Behind);
        }
        self.jumped.then_some(Fault::Jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::Fault::{Behind, Jumped};
    use super::*;

    /// What happens to the clocks, in seconds.
    enum Step {
        /// So much passes on the wall, and so much on the monotonic clock; then a look.
        Pass(i64, u64),
        /// The wall's time goes into a record.
        Record,
        Unfreeze,
        /// The process starts again: what was recorded since the last `unfreeze` counts.
        Restart,
    }
    use Step::{Pass, Record, Restart, Unfreeze};

    /// Each step, and the fault after it.
    type Case = (&'static str, &'static [(Step, Option<Fault>)]);

    const HOUR: i64 = 3_600;

    const CASES: &[Case] = &[
        ("together", &[(Pass(HOUR, 3_600), None), (Record, None), (Pass(1, 1), None)]),
        ("back by 60 s", &[(Record, None), (Pass(-60, 0), None)]),
        ("back by 61 s", &[(Record, None), (Pass(-61, 0), Some(Behind))]),
        ("back by 61 s, nothing recorded", &[(Pass(1, 1), None), (Pass(-61, 0), None)]),
        (
            "it catches up by itself",
            &[(Record, None), (Pass(-90, 0), Some(Behind)), (Pass(30, 30), None)],
        ),
        (
            "back in small steps",
            &[
                (Record, None),
                (Pass(-30, 1), None),
                (Record, None),
                (Pass(-30, 1), None),
                (Pass(-1, 1), Some(Behind)),
            ],
        ),
        ("ahead by 60 s", &[(Pass(61, 1), None), (Record, None)]),
        ("ahead by 61 s", &[(Pass(62, 1), Some(Jumped))]),
        ("a busy look between", &[(Pass(0, 0), None), (Pass(61, 0), Some(Jumped))]),
        (
            "slow drift is no step",
            &[
                (Pass(HOUR + 59, 3_600), None),
                (Record, None),
                (Pass(HOUR + 59, 3_600), None),
                (Record, None),
                (Pass(HOUR + 59, 3_600), None),
            ],
        ),
        (
            "a jump and back: no block for its length, but until a person looked",
            &[
                (Record, None),
                (Pass(30 * 24 * HOUR, 1), Some(Jumped)),
                (Record, Some(Jumped)),
                (Pass(-30 * 24 * HOUR, 1), Some(Jumped)),
                (Record, Some(Jumped)),
                (Unfreeze, None),
                (Record, None),
            ],
        ),
        (
            "behind comes before jumped",
            &[
                (Record, None),
                (Pass(HOUR, 1), Some(Jumped)),
                (Pass(-2 * HOUR, 1), Some(Behind)),
                (Pass(2 * HOUR, 1), Some(Jumped)),
            ],
        ),
        (
            "unfrozen while it is wrong, corrected later",
            &[
                (Pass(HOUR, 1), Some(Jumped)),
                (Unfreeze, None),
                (Pass(-HOUR, 1), Some(Behind)),
                (Unfreeze, None),
            ],
        ),
        ("the unfreeze itself counts", &[(Unfreeze, None), (Pass(-61, 0), Some(Behind))]),
        (
            "back and right again",
            &[(Record, None), (Pass(-3 * HOUR, 1), Some(Behind)), (Pass(3 * HOUR, 1), None)],
        ),
        (
            "back and further ahead than before",
            &[(Record, None), (Pass(-HOUR, 1), Some(Behind)), (Pass(HOUR + 70, 1), Some(Jumped))],
        ),
        (
            "the same glitch twice",
            &[
                (Pass(HOUR, 1), Some(Jumped)),
                (Pass(-HOUR, 1), Some(Jumped)),
                (Unfreeze, None),
                (Pass(1, 1), None),
                (Pass(HOUR, 1), Some(Jumped)),
            ],
        ),
        ("a suspended machine looks like a jump", &[(Pass(8 * HOUR, 2), Some(Jumped))]),
        ("a process that was stopped does not", &[(Pass(8 * HOUR, 8 * 3_600), None)]),
        (
            "a restart forgets the jump and keeps its records",
            &[
                (Pass(HOUR, 1), Some(Jumped)),
                (Record, Some(Jumped)),
                (Restart, None),
                (Pass(-HOUR, 1), Some(Behind)),
                (Unfreeze, None),
                (Restart, None),
            ],
        ),
        (
            "a restart does not forget a step back",
            &[
                (Record, None),
                (Pass(-HOUR, 1), Some(Behind)),
                (Record, Some(Behind)),
                (Restart, Some(Behind)),
            ],
        ),
    ];

    #[test]
    fn every_sequence_of_both_clocks() {
        for (name, steps) in CASES {
            let mut clock = Clock::default();
            let (mut wall, mut monotonic) = (Time::from_micros(1_800_000_000_000_000), 7);
            let mut records = Vec::new();
            clock.look(wall, Duration::from_secs(monotonic));
            for (number, (step, expected)) in steps.iter().enumerate() {
                match step {
                    Pass(on_the_wall, truly) => {
                        wall = wall.plus_seconds(*on_the_wall);
                        monotonic += truly;
                        clock.look(wall, Duration::from_secs(monotonic));
                    }
                    Record => {
                        records.push(wall);
                        clock.raise(wall);
                    }
                    Unfreeze => {
                        records = vec![wall];
                        clock.unfreeze(wall);
                    }
                    Restart => {
                        clock = Clock::default();
                        records.iter().for_each(|at| clock.raise(*at));
                        clock.look(wall, Duration::ZERO);
                    }
                }
                assert_eq!(clock.fault(wall), *expected, "{name}: after step {number}");
            }
        }
    }

    #[test]
    fn the_time_of_decisions_does_not_go_back_with_a_clock_that_is_corrected() {
        let second = |seconds: i64| Time::from_micros(1_800_000_000_000_000 + seconds * 1_000_000);
        let mut clock = Clock::default();
        for (wall, expected, why) in [
            (0, 0, "the first"),
            (10, 10, "it goes on"),
            (5, 10, "a step back"),
            (-50, 10, "as far as nothing stops"),
            (-51, -51, "behind: nothing new executes, and what is recorded says so"),
            (9, 10, "that raised nothing"),
            (11, 11, "the wall has come up to it"),
        ] {
            let time = clock.time(second(wall));
            assert_eq!(time, second(expected), "{why}");
            clock.raise(time);
        }
        clock.unfreeze(second(-100));
        assert_eq!(clock.time(second(-99)), second(-99), "a person vouched for it");
    }

    #[test]
    fn no_time_overflows() {
        let mut clock = Clock::default();
        for wall in [i64::MIN, i64::MAX, 0, i64::MIN, i64::MAX] {
            for monotonic in [Duration::MAX, Duration::ZERO] {
                clock.look(Time::from_micros(wall), monotonic);
                clock.raise(Time::from_micros(wall));
                let _ = clock.fault(Time::from_micros(wall));
            }
        }
        assert_eq!(clock.fault(Time::from_micros(i64::MAX)), Some(Jumped));
    }
}
