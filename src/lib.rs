//! OpenExec: the boundary between an AI agent that proposes and the infrastructure that acts.
//!
//! The rooms, by how much rests on them: `core` decides and does no I/O; `store` keeps records; `executor` is the one
//! that runs anything; `serve` faces the network and `cli` the operator. Beside them: `handlers` are what can be run,
//! `evidence` is what proves it afterwards, `sys` is what is asked of the system. Dependencies point one way: `core`
//! <- `store` <- `executor` <- `serve`, `cli`.

#![forbid(unsafe_code)]
// `page` says what there is to say, and escapes it.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod cli;
pub mod core;
pub mod evidence;
pub mod executor;
pub mod handlers;
pub mod serve;
pub mod store;
pub mod sys;

use std::process::ExitCode;

/// The whole program over an array of handlers: what a binary's `main` calls.
///
/// Reads the process's arguments and environment; returns its exit code (see [`sys::exit`]).
pub fn main(handlers: &'static [handlers::Handler]) -> ExitCode {
    cli::main(handlers)
}
