//! The service that the fault tests break: its handlers leave a line for each of their runs in
//! `COUNT_FILE`, which lies outside the file system that fails, and so says what really happened.

#[path = "../common/plain.rs"]
mod plain;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use openexec::core::json::{Object, Value};
use openexec::handlers::{Call, Effect, Failure, Handler};

use plain::PLAIN;

static HANDLERS: &[Handler] = &[
    Handler {
        action: "echo",
        result_bytes_max: 1024 * 1024,
        run: &|call, _| Ok(echo(call)),
        ..PLAIN
    },
    Handler { action: "count", effect: Effect::Idempotent, run: &|call, _| count(call), ..PLAIN },
    Handler { action: "once", effect: Effect::Once, run: &|call, _| count(call), ..PLAIN },
];

fn main() -> ExitCode {
    openexec::main(HANDLERS)
}

fn echo(call: &Call) -> Object {
    [("echo".to_owned(), Value::Object(call.payload.clone()))].into_iter().collect()
}

/// Leaves `<id>`, or `<id> again` in a run after a crash, with one write; then sleeps `ms`, but
/// not again.
fn count(call: &Call) -> Result<Object, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let path = std::env::var_os("COUNT_FILE").unwrap_or_default();
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    let line = format!("{}{}\n", call.id, if call.again { " again" } else { "" });
    file.write_all(line.as_bytes()).map_err(failed)?;
    let ms = call.payload.get("ms").and_then(Value::as_u64).unwrap_or(0);
    if !call.again {
        std::thread::sleep(Duration::from_millis(ms));
    }
    Ok([("counted".to_owned(), Value::from(call.nonce))].into_iter().collect())
}
