//! Approvals: their form, the keys they are checked against, and the verdict.
//!
//! Owns row 7 of the decision. Pure: nothing here reads a file or a clock; texts, state and the time
//! are arguments. The order of use is [`artifact::parse`] and [`verify::examine`] where a request
//! is prepared, then [`verify::judge`] where the state is known.
//!
//! The other side, what an approver's own machine does, is in another package, `openexec-approve`: nothing
//! here could sign an approval.

pub mod artifact;
pub mod keys;
pub mod public;
pub mod rejection;
pub mod required;
pub mod signature;
pub mod stored;
pub mod verify;
