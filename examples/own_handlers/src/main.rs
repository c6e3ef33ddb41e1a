//! An OpenExec binary that can do exactly what this array names, and nothing else.
//!
//! `cargo build --release`, and the binary is the whole service, command line and all.

mod print_label;

use openexec::handlers::Handler;

static HANDLERS: &[Handler] = &[print_label::PRINT_LABEL];

fn main() -> std::process::ExitCode {
    openexec::main(HANDLERS)
}

#[cfg(test)]
mod tests {
    /// `serve` refuses to start with a mistake in the array; a test finds it earlier.
    #[test]
    fn the_array_has_no_mistake() {
        assert_eq!(openexec::handlers::check_registry(super::HANDLERS), []);
    }
}
