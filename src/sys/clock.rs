//! The two clocks: the wall's, which somebody may set, and the monotonic one, which nobody can.

use std::time::{Duration, Instant};

use crate::core::time::Time;

/// Both are read one after the other; this is no time to anybody who judges by them.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The wall's time, and the time since this was called.
pub fn clocks() -> Box<dyn Fn() -> (Time, Duration) + Send> {
    let start = Instant::now();
    Box::new(move || {
        loop {
            let before = start.elapsed();
            let wall = Time::now();
            let after = start.elapsed();
            // Otherwise the process was stopped in between, and the two are no pair.
            if after - before < READ_WITHIN {
                return (wall, after);
            }
        }
    })
}
