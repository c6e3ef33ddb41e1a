//! OpenExec: the boundary between an AI agent that proposes and the infrastructure that acts.
//!
//! Dependencies between modules point one way, downwards: `cli` -> `server` -> `gate`, `front` ->
//! `executor` -> `witness`, `approval`, `handlers`, `receipt`, `store` -> `json`, `limits`.

#![forbid(unsafe_code)]
// `page` says what there is to say, and escapes it.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod approval;
pub mod audit;
pub mod base64;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dir;
pub mod executor;
pub mod exit;
pub mod front;
pub mod gate;
pub mod handlers;
pub mod hash;
pub mod http;
pub mod json;
pub mod limits;
pub mod log;
pub mod metrics;
mod page;
mod pem;
mod pkcs8;
mod places;
pub mod random;
pub mod receipt;
pub mod regular;
pub mod server;
pub mod store;
pub mod time;
pub mod witness;

use std::process::ExitCode;

/// The whole program over an array of handlers: what a binary's `main` calls.
///
/// Reads the process's arguments and environment; returns its exit code (see [`exit`]).
pub fn main(handlers: &'static [handlers::Handler]) -> ExitCode {
    cli::main(handlers)
}
