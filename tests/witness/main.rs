//! Checkpoints, proofs and the checkpoint file. Beside these: the same, read by software that is not ours (`log/`,
//! `audit/`, `auditors.sh`, `pymerkle_check.py`), and cosigned by such (`cosign/`, `witnesses.sh`).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod cosigned;
mod proofs;
mod service;

/// The service that a test starts is this program again.
#[test]
fn serve() {
    common::handlers::serve();
}
