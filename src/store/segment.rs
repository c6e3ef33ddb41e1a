//! Segment files: their names, how one is made, and the helper that makes them ahead of need.
//!
//! A segment is whole from birth: filled with newlines under a temporary name, synced, linked to its
//! own name, the directory synced, the temporary name removed. A link replaces nothing: what somebody
//! else may have put there stays as it is. So no write on the hot path changes a file's size, and a
//! full disk shows before a claim, never after it. (`set_len` would reserve nothing.)

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::Next;
use crate::core::limits::SEGMENTS_MAX;
use crate::sys::disk::Disk;
use crate::sys::locked;

/// What unwritten space holds; a file system that lost it may show NUL instead.
pub const BLANK: u8 = b'\n';
/// Ends the name of a file that is not finished.
pub const TEMPORARY: &str = ".tmp";
/// Begins the name of a file by which `openexec check` finds out whether there is room.
pub const PROBE: &str = "check-";
/// Bytes of one write while a segment is filled.
const FILL_BYTES: u64 = 1024 * 1024;
/// Between two attempts to make a segment that found no room.
const RETRY_MS: u64 = 1_000;

/// `00000001.jsonl` for 1.
pub fn name(number: u32) -> String {
    format!("{number:08}.jsonl")
}

/// The number in a segment's name; `None` for any other name.
pub fn number(file_name: &str) -> Option<u32> {
    let parsed = file_name.strip_suffix(".jsonl")?.parse().ok()?;
    (parsed > 0 && name(parsed) == file_name).then_some(parsed)
}

/// Makes segment `number` of `bytes` bytes, beginning with `text`, the rest blank. On an error the
/// temporary file is removed, as far as that works, and no segment is there, unless the last step
/// failed: then its name is in doubt.
pub fn make(disk: &dyn Disk, number: u32, bytes: u64, text: &[u8]) -> Result<(), NotMade> {
    let target = name(number);
    let temporary = format!("{target}{TEMPORARY}");
    let not_made = |is_unsure| move |error| NotMade { error, is_unsure };
    let filled = fill(disk, &temporary, bytes, text).map_err(not_made(false));
    let made = filled.and_then(|()| match disk.link(&temporary, &target) {
        // A directory that could not grow was not changed.
        Err(full) if full.kind() == io::ErrorKind::StorageFull => Err(not_made(false)(full)),
        linked => linked.and_then(|()| disk.sync_directory()).map_err(not_made(true)),
    });
    // Where it stays, the next opening removes it.
    let _ = disk.remove(&temporary);
    made
}

/// Why a segment was not made.
#[derive(Debug)]
pub struct NotMade {
    pub error: io::Error,
    /// Its name may be on the disk; otherwise it is not there, and another attempt starts afresh.
    pub is_unsure: bool,
}

fn fill(disk: &dyn Disk, temporary: &str, bytes: u64, text: &[u8]) -> io::Result<()> {
    match disk.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => disk.create(temporary)?,
    }
    let blank = vec![BLANK; FILL_BYTES.min(bytes) as usize];
    let mut at = 0;
    while at < bytes {
        let part = (bytes - at).min(FILL_BYTES);
        disk.write_at(temporary, at, &blank[..part as usize])?;
        at += part;
    }
    if !text.is_empty() {
        disk.write_at(temporary, 0, text)?;
    }
    disk.sync(temporary)
}

/// What the store and its helper say to one another.
pub struct Preparation {
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// The segment that should exist.
    wanted: u32,
    /// The last segment that exists.
    ready: u32,
    /// Why the wanted one does not. Where its name is in doubt nothing may be written any more.
    failure: Option<NotMade>,
}

impl Progress {
    fn is_unsure(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.is_unsure)
    }

    fn is_idle(&self) -> bool {
        self.is_unsure() || self.ready >= self.wanted
    }
}

impl Preparation {
    /// Segments up to `ready` exist, and `wanted` should.
    pub(super) fn new(ready: u32, wanted: u32) -> Self {
        let progress = Progress { wanted: wanted.min(SEGMENTS_MAX), ready, failure: None };
        Preparation { progress: Mutex::new(progress), changed: Condvar::new() }
    }

    pub fn want(&self, wanted: u32) {
        let wanted = wanted.min(SEGMENTS_MAX);
        // With each batch: the thread is woken only for news.
        if std::mem::replace(&mut self.lock().wanted, wanted) != wanted {
            self.changed.notify_all();
        }
    }

    pub fn ready(&self) -> u32 {
        self.lock().ready
    }

    /// How the one behind `segment` stands.
    pub(super) fn next(&self, segment: u32) -> Next {
        let progress = self.lock();
        match progress.failure {
            _ if progress.ready > segment => Next::Ready,
            None => Next::Coming,
            Some(_) => Next::Failing,
        }
    }

    /// Why the wanted segment is not there, once an attempt has failed.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.as_ref().map(|failure| failure.error.to_string())
    }

    /// Whether the name of the segment after the last is in doubt.
    pub(super) fn is_unsure(&self) -> bool {
        self.lock().is_unsure()
    }

    /// Makes the wanted segment if it is not there; says whether there was anything to do.
    pub fn step(&self, disk: &dyn Disk, bytes: u64) -> bool {
        if self.lock().is_idle() {
            return false;
        }
        let made = make(disk, self.ready() + 1, bytes, b"");
        let mut progress = self.lock();
        progress.ready += u32::from(made.is_ok());
        progress.failure = made.err();
        true
    }

    /// The helper thread: makes what is wanted, and after a failure tries again each second.
    pub fn run(&self, disk: &dyn Disk, bytes: u64) {
        loop {
            while self.step(disk, bytes) {
                if self.failure().is_some() {
                    std::thread::sleep(Duration::from_millis(RETRY_MS));
                }
            }
            let is_idle = |progress: &mut Progress| progress.is_idle();
            drop(self.changed.wait_while(self.lock(), is_idle));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        locked(&self.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(name(1), "00000001.jsonl");
        assert_eq!(number("00000001.jsonl"), Some(1));
        assert_eq!(number("123456789.jsonl"), Some(123_456_789));
        for other in [
            "1.jsonl",
            "00000000.jsonl",
            "00000001.jsonl.tmp",
            "LOCK",
            "000000001.jsonl",
            "+0000001.jsonl",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
