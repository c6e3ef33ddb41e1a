//! Handlers that misbehave: they fail, panic, hang, and say too much.

#[path = "plain.rs"]
pub mod plain;

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use openexec::core::json::{Object, Value};
use openexec::handlers::{Call, Effect, Failure, Handler, Payload, PayloadError, Settings};

use plain::PLAIN;

/// The variable with the file in which each run leaves a line.
pub const COUNT_FILE: &str = "COUNT_FILE";

pub static HANDLERS: &[Handler] = &[
    Handler { action: "sleep", run: &sleep, ..PLAIN },
    Handler { action: "hold", effect: Effect::Idempotent, run: &hold, ..PLAIN },
    Handler { action: "count", effect: Effect::Idempotent, run: &count, ..PLAIN },
    Handler {
        action: "placed",
        effect: Effect::Idempotent,
        offered: |settings| settings.outbox_dir.as_ref().map(drop).ok_or("set an outbox"),
        place: |settings| settings.outbox_dir.clone(),
        run: &count,
        ..PLAIN
    },
    Handler { action: "once", effect: Effect::Once, run: &count, ..PLAIN },
    Handler { action: "panic", run: &panics, ..PLAIN },
    Handler { action: "panic_effect", effect: Effect::Idempotent, run: &panics, ..PLAIN },
    Handler { action: "panic_once", effect: Effect::Once, run: &panics, ..PLAIN },
    Handler { action: "panic_check", check: &panics_early, ..PLAIN },
    Handler { action: "slow_check", check: &checks_slowly, run: &see, ..PLAIN },
    Handler { action: "fail", effect: Effect::Idempotent, run: &fail, ..PLAIN },
    Handler { action: "unknown", effect: Effect::Idempotent, run: &unknown, ..PLAIN },
    Handler { action: "unknown_pure", run: &unknown, ..PLAIN },
    Handler { action: "big", run: &big, ..PLAIN },
    Handler { action: "big_effect", effect: Effect::Idempotent, run: &big, ..PLAIN },
    Handler { action: "reserved", run: &reserved, ..PLAIN },
    Handler { action: "deep", run: &deep, ..PLAIN },
    Handler { action: "number", run: &number, ..PLAIN },
    Handler { action: "abort", effect: Effect::Idempotent, run: &aborts, ..PLAIN },
    Handler { action: "see", run: &see, ..PLAIN },
];

fn finish(_: &Call, _: &Settings) -> Result<Object, Failure> {
    Ok(Object::new())
}

fn integer(call: &Call, name: &str) -> u64 {
    call.payload.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// Sleeps `ms`.
fn sleep(call: &Call, _: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    std::thread::sleep(Duration::from_millis(integer(call, "ms")));
    finish(call, &Settings::default())
}

/// Runs until somebody opens the FIFO `path` for writing.
fn hold(call: &Call, settings: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    let path = call.payload.get("path").and_then(Value::as_str).expect("a path");
    std::fs::File::open(path).expect("opened");
    finish(call, settings)
}

/// Leaves a line, then sleeps `ms`, or `again_ms` when it is run again after a crash. Then it also
/// makes the file `freeze`, as somebody else would.
fn count(call: &Call, settings: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    if let Some(path) = call.payload.get("freeze").and_then(Value::as_str).filter(|_| call.again) {
        std::fs::write(path, "meanwhile").expect("written");
    }
    let name = if call.again { "again_ms" } else { "ms" };
    std::thread::sleep(Duration::from_millis(integer(call, name)));
    finish(call, settings)
}

fn leave_line(call: &Call) {
    let path = std::env::var_os(COUNT_FILE).expect("COUNT_FILE");
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opened");
    let line = format!("{}{}\n", call.nonce, if call.again { " again" } else { "" });
    file.write_all(line.as_bytes()).expect("written");
}

fn panics(call: &Call, _: &Settings) -> Result<Object, Failure> {
    panic!("{:?} {}", call.payload, call.nonce);
}

fn panics_early(payload: &Payload, _: &Settings) -> Result<(), PayloadError> {
    panic!("{payload:?}");
}

/// Thinks about the payload for `ms`.
fn checks_slowly(payload: &Payload, _: &Settings) -> Result<(), PayloadError> {
    let ms = payload.get("ms").and_then(Value::as_u64).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(ms));
    Ok(())
}

fn fail(call: &Call, _: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    Err(Failure::Failed("the far side said no".to_owned()))
}

fn unknown(call: &Call, _: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    Err(Failure::Unknown("the far side hung up".to_owned()))
}

/// A result of exactly `bytes`.
fn big(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let around = r#"{"x":""}"#.len() as u64;
    let text = "x".repeat(usize::try_from(integer(call, "bytes") - around).expect("a size"));
    Ok(object("x", text.into()))
}

fn reserved(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let key = call.payload.get("key").and_then(Value::as_str).unwrap_or("failed");
    Ok(object(key, 1.into()))
}

/// `depth` containers around a null, the result itself counted.
fn deep(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let arrays = integer(call, "depth") - 1;
    Ok(object("x", (0..arrays).fold(Value::Null, |inner, _| Value::Array(vec![inner]))))
}

fn number(_: &Call, _: &Settings) -> Result<Object, Failure> {
    Ok(object("x", 9_007_199_254_740_992_u64.into()))
}

fn aborts(call: &Call, _: &Settings) -> Result<Object, Failure> {
    leave_line(call);
    std::process::abort();
}

/// What a handler is shown.
fn see(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let mut seen = object("payload", Value::Object(call.payload.clone()));
    seen.insert("id".into(), call.id.into());
    seen.insert("action".into(), call.action.into());
    seen.insert("nonce".into(), call.nonce.into());
    seen.insert("again".into(), call.again.into());
    seen.insert("approval_ids".into(), call.approval_ids.into());
    let one = call.payload.get("n").is_some_and(Value::is_i64);
    seen.insert("n_is_integer".into(), one.into());
    Ok(seen)
}

fn object(key: &str, value: Value) -> Object {
    [(key.to_owned(), value)].into_iter().collect()
}
