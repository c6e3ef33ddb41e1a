//! Approvals by themselves: keys, artifacts, signatures, and the decision over them. The clock and the state are
//! arguments.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod decision;
mod ed25519;
mod keys;
mod no_signer;
mod required;
mod ssh;
mod vectors;
mod verdict;
