//! The service over PostgreSQL with the handlers that misbehave, for `tests/suites.sh`.

#[path = "../../tests/common/misbehaving.rs"]
mod misbehaving;

use std::process::ExitCode;

fn main() -> ExitCode {
    openexec_postgres::main(misbehaving::HANDLERS)
}
