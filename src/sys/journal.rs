//! The log: one JSON object a line on stderr, plain text when stderr is a terminal.
//!
//! Written by its own thread from a bounded queue; when that is full a line is dropped and counted
//! rather than block whoever logs. Never holds a payload, a result, a nonce or a signature.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::time::Duration;

use crate::core::json::{Value, canonical};
use crate::sys::clock;
use crate::sys::page::{self, Page};

/// Messages that wait for the writer.
const QUEUE_MESSAGES: usize = 1024;
/// Bytes of which the writer is still to make lines.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long [`last`] waits until its words are written.
const LAST_MS: u64 = 500;

/// What is written at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    Error,
    Info,
}

/// What a line says beside its sentence.
pub type Fields = Vec<(&'static str, Value)>;

/// What the writer does next, told whether it writes for people.
type Message = Box<dyn FnOnce(bool) + Send>;

struct Logger {
    level: Level,
    queue: SyncSender<Message>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);

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
    let (queue, lines) = sync_channel(QUEUE_MESSAGES);
    if LOGGER.set(Logger { level, queue }).is_ok() {
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

/// The last words of a process, behind what was said before. Whoever reads them has half a second: nobody may keep a
/// process that must end.
pub fn last(words: Page) {
    let Some(logger) = LOGGER.get() else { return words.say() };
    let (done, wait) = sync_channel(1);
    let tell = move |_| {
        words.say();
        done.try_send(()).unwrap_or_default();
    };
    // A full queue takes them once there is room, which may be never: only this thread waits for it.
    let send = || logger.queue.send(Box::new(tell)).map_err(|SendError(tell)| tell(false));
    drop(std::thread::Builder::new().name("last".into()).spawn(send));
    let _ = wait.recv_timeout(Duration::from_millis(LAST_MS));
}

/// Lines dropped because the writer could not keep up.
pub fn dropped_lines() -> u64 {
    DROPPED_LINES.load(Ordering::Relaxed)
}

/// Whether [`info`] writes anything.
pub fn is_informed() -> bool {
    LOGGER.get().is_some_and(|logger| logger.level >= Level::Info)
}

/// So many lines at most, which the writer makes itself, of `bytes` bytes that wait until then: whoever says it spends
/// no time on them.
pub fn info_later(
    lines: u64,
    bytes: usize,
    make: impl FnOnce() -> Vec<(&'static str, Fields)> + Send + 'static,
) {
    let waiting = WAITING_BYTES.fetch_add(bytes, Ordering::Relaxed);
    let write = move |for_people| {
        WAITING_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        let shown = |(text, fields): (_, Fields)| shown(for_people, Level::Info, text, &fields);
        make().into_iter().map(shown).fold(Page::new(), Page::and).say();
    };
    let has_room = waiting + bytes <= WAITING_BYTES_MAX;
    if !(has_room && LOGGER.get().is_some_and(|to| to.queue.try_send(Box::new(write)).is_ok())) {
        WAITING_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        DROPPED_LINES.fetch_add(lines, Ordering::Relaxed);
    }
}

fn say(level: Level, text: &'static str, fields: &[(&'static str, Value)]) {
    let Some(logger) = LOGGER.get().filter(|logger| level <= logger.level) else { return };
    let fields = fields.to_vec();
    let line = move |for_people| shown(for_people, level, text, &fields).say();
    if logger.queue.try_send(Box::new(line)).is_err() {
        DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
    }
}

fn shown(for_people: bool, level: Level, text: &'static str, fields: &Fields) -> Page {
    match for_people {
        true => plain_lines(text, fields),
        false => Page::new().json(&json_line(level, text, fields)),
    }
}

fn json_line(level: Level, text: &'static str, fields: &Fields) -> String {
    let level = if level == Level::Error { "error" } else { "info" };
    let own = [
        ("at", clock::now().to_string().into()),
        ("level", level.into()),
        ("message", text.into()),
    ];
    let mut all: Vec<&(&str, Value)> = own.iter().chain(fields).collect();
    all.sort_by_key(|(name, _)| *name);
    let mut line = String::with_capacity(256);
    for (name, value) in all {
        line.push(if line.is_empty() { '{' } else { ',' });
        canonical::write_string(name, &mut line);
        line.push(':');
        canonical::write(value, &mut line);
    }
    line + "}"
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
