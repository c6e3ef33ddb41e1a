//! The gate before a stand-in front: how it reads, what it refuses, its bounds.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod connections;
mod framing;
mod reader;
