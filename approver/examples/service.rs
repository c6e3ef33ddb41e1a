//! The service itself, for the tests of this package.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    openexec::main(openexec::handlers::HANDLERS)
}
