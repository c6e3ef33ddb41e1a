//! What decides and what is hashed, signed and recorded: pure functions of their arguments. Nothing in this room does
//! I/O or reads a clock; time is an argument.

pub mod approval;
pub mod base64;
pub mod caller;
pub mod clock;
pub mod decision;
pub mod handler;
pub mod hash;
pub mod json;
pub mod limits;
pub mod line;
pub mod problem;
pub mod proposal;
pub mod receipt;
pub mod record;
pub mod ssh;
pub mod stage;
pub mod time;
pub mod tree;
