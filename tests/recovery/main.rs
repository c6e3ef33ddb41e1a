//! What a crash leaves, and what the next start makes of it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod owed;
mod restart;
mod second_run;
mod settings;

/// The service that a test starts is this program again.
#[test]
fn serve() {
    common::handlers::serve();
}
