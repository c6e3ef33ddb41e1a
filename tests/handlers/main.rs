//! Handlers: the built-in ones, what a service makes of one that fails or is slow, and arrays that are wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod budget;
mod checker;
mod declared;
mod files;
mod outbox;
mod outcomes;
mod registry;
mod schema;

/// The service that a test starts is this program again.
#[test]
fn serve() {
    registry::serve();
    common::handlers::serve();
}
