//! What the tests share: the real binary and how it is asked, approvals, stores, handlers, a gate.
#![allow(
    dead_code,
    unused_imports,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each test uses a part of it, and drives the binary from outside"
)]

pub mod approvals;
pub mod calls;
pub mod evidence;
pub mod extends;
pub mod files;
pub mod forms;
pub mod gate;
pub mod handlers;
pub mod http;
pub mod misbehaving;
pub mod owed;
pub mod service;
pub mod signer;
pub mod ssh;

use std::time::Duration;

pub use files::{Scratch, fifo, private_file};
pub use forms::{
    assert_receipt, canonical, exec_id, executed, hashed, is_said, no_attempt, problem, refusal,
    sha256,
};
pub use http::{Answer, Client, exchange, get, post, read_answer, try_exchange};
pub use service::{
    Ended, Server, cli, command, in_files, on_terminal, openexec, run, until, without_terminal,
};

/// Long enough for a busy machine; nothing is asserted about it but that it ends.
pub const PATIENCE: Duration = Duration::from_secs(300);
