//! What is asked of the system: the disk, files that are what they seem, chance, the journal, exit codes.

pub mod answer;
pub mod clock;
pub mod dir;
pub mod disk;
pub mod exit;
pub mod journal;
pub mod limits;
pub mod metrics;
pub mod page;
pub mod pem;
pub mod place;
pub mod random;
pub mod regular;
pub mod visible;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a mutex holds. A thread that panicked has left it whole: nowhere is a change of it done by halves.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
