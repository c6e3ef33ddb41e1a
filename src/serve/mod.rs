//! The service: what it is set to, the gate that faces the network, the front that reads requests, and its start.

mod approvals;
pub mod callers;
pub mod config;
pub mod front;
pub mod gate;
pub mod keys;
pub mod opening;
pub mod outcomes;
mod places;
pub mod queue;
pub mod records;
pub mod route;
pub mod said;
pub mod server;
pub mod source;
pub mod status;
mod told;
