//! store
pub mod disk;
pub mod line;
pub mod tree;
