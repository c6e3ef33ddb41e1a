//! What is asked of the system: the disk, files that are what they seem, chance, the journal, exit codes.

pub mod clock;
pub mod dir;
pub mod disk;
pub mod exit;
pub mod journal;
pub mod metrics;
pub(crate) mod page;
pub mod place;
pub mod random;
pub mod regular;
pub mod visible;
