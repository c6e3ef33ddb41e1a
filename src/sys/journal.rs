//! The log: one JSON object a line on stderr, plain text when stderr is a terminal.
//!
//! Written by its own thread from a bounded queue; when that is full a line is dropped and counted
//! rather than block whoever logs. Never holds a payload, a result, a nonce or a signature.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::core::json::{Value, canonical};
use crate::sys::clock;
use crate::sys::page::{self, Page};

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

/// What the writer does next, told whether it writes for people.
type Message = Box<dyn FnOnce(bool) + Send>;

struct Logger {
    level: Level,
    queue: SyncSender<Message>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);

/// Starts the writer; before this, and with [`Level::Off`], nothing is written.
pub fn start(level: Level) {
    // A panic's message may hold a payload; its place does not.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error("a thread panicked", &[("place", place.into())]);
    }));
    if level == Level::Off {
        return;
    }
    let (queue, lines) = sync_channel(QUEUE_LINES);
    let started = LOGGER.set(Logger { level, queue }).is_ok();
    if started {
        let for_people = page::stderr_is_terminal();
        let write = move || lines.iter().for_each(|message: Message| message(for_people));
        drop(std::thread::Builder::new().name("log".into()).spawn(write));
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
        let tell = move |_| done.try_send(()).unwrap_or_default();
        if logger.queue.try_send(Box::new(tell)).is_ok() {
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
    let fields = fields.to_vec();
    let line = move |for_people| match for_people {
        true => plain_lines(text, &fields).say(),
        false => Page::new().json(&json_line(level, text, &fields)).say(),
    };
    if logger.queue.try_send(Box::new(line)).is_err() {
        DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
    }
}

fn json_line(level: Level, text: &str, fields: &[(&'static str, Value)]) -> String {
    let level = if level == Level::Error { "error" } else { "info" };
    let at = clock::now().to_string();
    let mut object = serde_json::json!({"at": at, "level": level, "message": text});
    for (name, value) in fields {
        object[name] = value.clone();
    }
    canonical::to_string(&object)
}

/// Text for a terminal: the sentence, which is ours and is never folded, then the fields. A value that could pass for another field is quoted; one without a name is
/// ours and has a line of its own, to be copied.
fn plain_lines(text: &'static str, fields: &[(&'static str, Value)]) -> Page {
    let mut rest = Vec::new();
    let mut copied = Page::new();
    for (name, value) in fields {
        let plain = value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        match (*name, plain, value.as_str()) {
            ("", _, Some(text)) => copied = copied.own(format_args!("  {text}")),
            (name, Some(plain), _) => rest.push(format!("{name}={plain}")),
            (name, ..) => rest.push(format!("{name}={}", canonical::to_string(value))),
        }
    }
    let page = Page::new().own(text);
    if rest.is_empty() { page.and(copied) } else { page.line("  ", rest.join(" ")).and(copied) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_copied_has_a_line_of_its_own() {
        let fields = [("mode", "demo".into()), ("bad", "a\n b=c".into()), ("", "curl -s x".into())];
        let lines = plain_lines("Try:", &fields).text(true);
        assert_eq!(lines, "Try:\n  mode=demo bad=\"a\\n b=c\"\n  curl -s x\n");
    }
}
