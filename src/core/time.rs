//! Time as the contract writes it: UTC, microseconds, `YYYY-MM-DDTHH:MM:SS.ffffffZ`.

use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Nanoseconds.
const FRACTION_DIGITS_MAX: usize = 9;

/// A moment: microseconds since 1970-01-01T00:00:00Z, no leap seconds (POSIX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(i64);

impl Time {
    pub const fn from_micros(micros: i64) -> Self {
        Time(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// This moment and `seconds` more, held within what the type can say.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Time(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// Reads `YYYY-MM-DDTHH:MM:SS`, optionally `.` and one to nine digits, optionally `Z` or
    /// `+00:00`; without an offset it is UTC. A real date, 00:00:00 to 23:59:59; nothing else of
    /// ISO 8601 (no week dates, no leap second, no lower-case letters).
    ///
    /// Digits behind the sixth are cut off, never rounded: what expires does not last a moment
    /// longer than it says, the order of two times stays, and a time stays in its second.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (date_time, rest) = bytes.split_at_checked(19)?;
        for (at, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            if date_time[at] != separator {
                return None;
            }
        }
        let two = |at: usize| number(&date_time[at..at + 2]);
        let (year, month, day) = (number(&date_time[..4])?, two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        let is_date = year > 0
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day);
        if !is_date || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (micros, offset) = match rest.strip_prefix(b".") {
            Some(fraction) => {
                let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if !(1..=FRACTION_DIGITS_MAX).contains(&length) {
                    return None;
                }
                let (digits, offset) = fraction.split_at(length);
                let micros = digits.iter().chain(b"000000").take(6);
                (micros.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')), offset)
            }
            None => (0, rest),
        };
        if !matches!(offset, b"" | b"Z" | b"+00:00") {
            return None;
        }
        let of_day = hour * 3600 + minute * 60 + second;
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + of_day;
        Some(Time(seconds * MICROS_PER_SECOND + micros))
    }
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`, the form of every record.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.seconds().div_euclid(SECONDS_PER_DAY));
        let of_day = self.seconds().rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (H. Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms": a year begins in March, an era has 146,097 days).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 0001-01-01T00:00:00Z and the end of 9999: what [`Time::parse`] can give.
    const FIRST: i64 = -62_135_596_800_000_000;
    const LAST: i64 = 253_402_300_799_999_999;

    #[test]
    fn every_allowed_form_reads_as_the_same_moment() {
        for (text, micros) in [
            ("1970-01-01T00:00:00", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01T00:00:00.000001", 1),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("1970-01-01T00:00:00.000001+00:00", 1),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2000-02-29T12:34:56.789012Z", 951_827_696_789_012),
            // As JavaScript writes them, Go, .NET, and whoever leaves zeros out; what is beyond a
            // microsecond is cut off.
            ("1970-01-01T00:00:00.123Z", 123_000),
            ("1970-01-01T00:00:00.1+00:00", 100_000),
            ("1970-01-01T00:00:00.01", 10_000),
            ("1970-01-01T00:00:00.1234567Z", 123_456),
            ("1970-01-01T00:00:00.999999999", 999_999),
            ("1970-01-01T00:00:00.000000999+00:00", 0),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("2026-03-01T00:00:00Z", 1_772_323_200_000_000),
            ("0001-01-01T00:00:00Z", FIRST),
            ("9999-12-31T23:59:59.999999Z", LAST),
        ] {
            assert_eq!(Time::parse(text).map(Time::micros), Some(micros), "{text}");
        }
    }

    #[test]
    fn the_rest_of_iso_8601_and_what_only_looks_like_it_is_refused() {
        for text in [
            // Other calendars and precisions.
            "2026-W01-1T00:00:00Z",
            "2026W011T000000Z",
            "2026-001T00:00:00Z",
            "2026-01-01",
            "20260101T000000Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00Z",
            "2026-01-01T000000Z",
            "2026-01T00:00:00Z",
            "26-01-01T00:00:00Z",
            "--01-01T00:00:00Z",
            // Years of another length or sign, and the year 0.
            "12026-01-01T00:00:00Z",
            "+2026-01-01T00:00:00Z",
            "+12026-01-01T00:00:00Z",
            "-2026-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            // No such moment.
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2000-02-30T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-06-31T00:00:00Z",
            "2026-09-31T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2026-01-01T00:00:61Z",
            // Separators and letters.
            "2026-01-01t00:00:00Z",
            "2026-01-01T00:00:00z",
            "2026-01-01 00:00:00Z",
            "2026/01/01T00:00:00Z",
            "2026-01-01T00.00.00Z",
            "2026-01-01T00:00:00,000000Z",
            "2026:01:01T00:00:00Z",
            "2026-01-01T00-00-00Z",
            "2026-01-01_00:00:00Z",
            "2026\u{2212}01\u{2212}01T00:00:00Z",
            // Fractions of no digit, of ten, and what only begins as one.
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00:00.0000000000Z",
            "2026-01-01T00:00:00.1234567890",
            "2026-01-01T00:00:00.0.0Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00.5ZZ",
            "2026-01-01T00:00:00.00000xZ",
            "2026-01-01T00:00:00.+00000Z",
            "2026-01-01T00:00.5Z",
            "2026-01-01T00:00:00.-00001Z",
            // Offsets, even those that mean UTC.
            "2026-01-01T00:00:00-00:00",
            "2026-01-01T00:00:00+0000",
            "2026-01-01T00:00:00+00",
            "2026-01-01T00:00:00+01:00",
            "2026-01-01T00:00:00-08:00",
            "2026-01-01T00:00:00 Z",
            "2026-01-01T00:00:00UTC",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01T00:00:00Z+00:00",
            "2026-01-01T00:00:00+00:00Z",
            "2026-01-01T00:00:00+00:00:00",
            "2026-01-01T00:00:00Z[UTC]",
            "2026-01-01T00:00:00\u{2212}00:00",
            // Signs, spaces and digits of other scripts where digits stand.
            "2026-01-01T+0:00:00Z",
            "2026-01-01T 0:00:00Z",
            "2026- 1-01T00:00:00Z",
            "2026-1-1T0:0:0Z",
            "２０２６-01-01T00:00:00Z",
            "2026-01-01T00:00:0\u{661}Z",
            "2026-01-01T0x:00:00Z",
            "2026-01-01T1e:00:00Z",
            // Around it.
            "",
            " ",
            "Z",
            " 2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z ",
            "2026-01-01T00:00:00Z\n",
            "2026-01-01T00:00:00\0",
            "2026-01-01T00:00:00Z\0",
            "\u{feff}2026-01-01T00:00:00Z",
            "\"2026-01-01T00:00:00Z\"",
            "1767225600",
            "now",
            "2026-01-01T00:00:0é",
        ] {
            assert_eq!(Time::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut days = days_from_civil(1900, 1, 1);
        for year in 1900..2300 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_from_civil(year, month, day), days);
                    assert_eq!(civil_from_days(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }

    #[test]
    fn seconds_round_down_and_sums_stay_in_range() {
        assert_eq!(Time::from_micros(-1).seconds(), -1);
        assert_eq!(Time::from_micros(999_999).seconds(), 0);
        assert_eq!(Time::from_micros(5).plus_seconds(2).micros(), 2_000_005);
        assert_eq!(Time::from_micros(5).plus_seconds(i64::MAX).micros(), i64::MAX);
        assert_eq!(Time::from_micros(-5).plus_seconds(i64::MIN).micros(), i64::MIN);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_itself(micros in FIRST..=LAST) {
            let time = Time::from_micros(micros);
            prop_assert_eq!(Time::parse(&time.to_string()), Some(time));
        }

        #[test]
        fn what_reads_is_written_alike(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|\\+00:00)?"
        ) {
            if let Some(time) = Time::parse(&text) {
                prop_assert_eq!(&time.to_string()[..19], &text[..19]);
            }
        }

        #[test]
        fn texts_order_as_times_do(first in FIRST..=LAST, second in FIRST..=LAST) {
            let (first, second) = (Time::from_micros(first), Time::from_micros(second));
            prop_assert_eq!(first.cmp(&second), first.to_string().cmp(&second.to_string()));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,40}") {
            let _ = Time::parse(&text);
        }
    }
}
