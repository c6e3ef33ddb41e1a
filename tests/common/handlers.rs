//! A service with handlers that misbehave, as a user's own binary would be built on the library.
//!
//! It is the test's own executable, started again with the argument `serve`, which the test harness
//! takes for the name of the one test to run and the library for its command. So it can never be
//! older than the test. A test file that starts it has `#[test] fn serve() { handlers::serve() }`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::misbehaving::{COUNT_FILE, HANDLERS};
use super::service::stand_in;
use super::{Scratch, command};

const SERVES: &str = "TEST_SERVES";

/// The service's command, its store below `scratch`. What stands in for one over a database has these handlers too, and
/// serves with them where it finds the variable.
pub fn service(scratch: &Scratch) -> Command {
    let this = std::env::current_exe().expect("a path");
    let program = stand_in().unwrap_or_else(|| this.to_str().expect("UTF-8").to_owned());
    let mut command = started(&program, scratch, SERVES, "yes");
    command.env(COUNT_FILE, count_file(scratch));
    command
}

/// This program, started again to serve; the variable tells its test `serve` which handlers.
pub fn again(scratch: &Scratch, variable: &str, value: &str) -> Command {
    let this = std::env::current_exe().expect("a path");
    started(this.to_str().expect("UTF-8"), scratch, variable, value)
}

fn started(program: &str, scratch: &Scratch, variable: &str, value: &str) -> Command {
    let mut command = command(program, scratch);
    command.arg("serve").env(variable, value).env("RUST_TEST_NOCAPTURE", "1");
    command
}

/// Ends the process with the code that the library gave.
pub fn end(code: ExitCode) -> ! {
    // An exit code can be compared but not read.
    let number = (0..=u8::MAX).find(|&number| ExitCode::from(number) == code);
    std::process::exit(number.expect("a code").into());
}

/// Where `count` and `once` leave a line for each run.
pub fn count_file(scratch: &Scratch) -> PathBuf {
    scratch.join("count")
}

/// The lines that they left.
pub fn counted(scratch: &Scratch) -> Vec<String> {
    let text = std::fs::read_to_string(count_file(scratch)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The service, where this process was started to be it. Elsewhere it holds that the harness runs no
/// other test where it is told `serve`.
pub fn serve() {
    if std::env::var_os(SERVES).is_some() {
        end(openexec::main(HANDLERS));
    }
    let this = std::env::current_exe().expect("a path");
    let listed = Command::new(this).args(["serve", "--list"]).output().expect("listed");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let tests: Vec<&str> = listed.lines().filter(|line| line.ends_with(": test")).collect();
    assert_eq!(tests, ["serve: test"]);
}
