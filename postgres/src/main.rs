//! The binary: the service with the built-in handlers, over PostgreSQL.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    openexec_postgres::main(openexec::handlers::HANDLERS)
}
