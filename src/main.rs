//! The prebuilt binary: the library with the built-in handlers.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    openexec::main(openexec::handlers::HANDLERS)
}
