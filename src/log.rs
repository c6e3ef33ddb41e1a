//! The log: one JSON object a line on stderr, plain text when stderr is a terminal.
//!
//! Written by its own thread from a bounded queue; when that is full a line is dropped and counted
//! rather than block whoever logs. Never holds a payload, a result, a nonce or a signature.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::json::{Object, Value, canonical};
use crate::time::Time;

/// Lines that wait for the writer.
const QUEUE_LINES: usize = 1024;
/// How long [`flush`] waits for what was said before it.
const FLUSH_MS: u64 = 500;

/// What is written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    Error,
    Info,
}

enum Message {
    Line { level: Level, text: &'static str, fields: Vec<(&'static str, Value)> },
    Flush(SyncSender<()>),
}

struct Logger {
    level: Level,
    queue: SyncSender<Message>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);

/// Starts the writer; before this, and with [`Level::Off`], nothing is written.
pub fn start(level: Level) {
    if level == Level::Off {
        return;
    }
    let (queue, lines) = sync_channel(QUEUE_LINES);
    let started = LOGGER.set(Logger { level, queue }).is_ok();
    if started {
        let spawned = std::thread::Builder::new().name("log".into()).spawn(move || write(&lines));
        drop(spawned);
    }
}

/// Something an operator should see now.
pub fn error(text: &'static str, fields: &[(&'static str, Value)]) {
    say(Level::Error, text, fields);
}

/// Something an operator may want to know later.
pub fn info(text: &'static str, fields: &[(&'static str, Value)]) {
    say(Level::Info, text, fields);
}

/// Waits, at most half a second, until what was said is written. For the last words of a process.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        let (done, wait) = sync_channel(1);
        if logger.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_millis(FLUSH_MS));
        }
    }
}

/// Lines dropped because the writer could not keep up.
pub fn dropped_lines() -> u64 {
    DROPPED_LINES.load(Ordering::Relaxed)
}

fn say(level: Level, text: &'static str, fields: &[(&'static str, Value)]) {
    let Some(logger) = LOGGER.get() else { return };
    if level > logger.level {
        return;
    }
    let line = Message::Line { level, text, fields: fields.to_vec() };
    if logger.queue.try_send(line).is_err() {
        DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(lines: &Receiver<Message>) {
    let plain = std::io::stderr().is_terminal();
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line { level, text, fields } => {
                let line =
                    if plain { plain_line(text, &fields) } else { json_line(level, text, &fields) };
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

fn json_line(level: Level, text: &str, fields: &[(&'static str, Value)]) -> String {
    let mut object = Object::new();
    object.insert("at".into(), Time::now().to_string().into());
    object.insert("level".into(), if level == Level::Error { "error" } else { "info" }.into());
    object.insert("message".into(), text.into());
    for (name, value) in fields {
        object.insert((*name).to_owned(), value.clone());
    }
    let mut line = canonical::to_string(&Value::Object(object));
    line.push('\n');
    line
}

/// Text for a terminal; control characters of a value are escaped by its JSON form. A value without a
/// name has a line of its own, to be copied.
fn plain_line(text: &str, fields: &[(&'static str, Value)]) -> String {
    let mut line = text.to_owned();
    for (name, value) in fields {
        let value = match value {
            Value::String(plain) if !plain.chars().any(char::is_control) => plain.clone(),
            other => canonical::to_string(other),
        };
        line.push_str(&match *name {
            "" => format!("\n  {value}"),
            name => format!("  {name}={value}"),
        });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_copied_has_a_line_of_its_own() {
        let fields = [("mode", "demo".into()), ("", "curl -s x".into()), ("bad", "a\nb".into())];
        let line = plain_line("Try:", &fields);
        assert_eq!(line, "Try:  mode=demo\n  curl -s x  bad=\"a\\nb\"\n");
    }
}
