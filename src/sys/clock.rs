//! The two clocks: the wall's, which somebody may set, and the monotonic one, which nobody can.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Time;

/// Both are read one after the other; this is no time to anybody who judges by them.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The wall's time. A clock before 1970 reads as 1970.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The wall's time, and the time since this was called.
pub fn clocks() -> Box<dyn Fn() -> (Time, Duration) + Send> {
    let start = Instant::now();
    Box::new(move || {
        loop {
            let before = start.elapsed();
            let wall = now();
            let after = start.elapsed();
            // Otherwise the process was stopped in between, and the two are no pair.
            if after - before < READ_WITHIN {
                return (wall, after);
            }
        }
    })
}
