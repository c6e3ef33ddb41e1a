//! OpenExec over PostgreSQL: the same service, with its log in a database that survives its host.
//!
//! One process is active and any number stand by. [`link`] is the one connection, and what it may be trusted with;
//! [`store`] keeps the records behind it; [`source`] waits until this process is the one that may. The gate, the
//! decision, the executor and the handlers are those of the library.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod address;
mod applied;
mod backup;
mod cli;
mod desk;
mod import;
mod keys;
mod link;
mod load;
mod log;
mod look;
mod operator;
mod outbox;
mod password;
mod place;
mod rights;
mod schema;
mod settings;
mod snapshot;
mod source;
mod store;
mod tls;
mod turn;

pub use cli::main;
