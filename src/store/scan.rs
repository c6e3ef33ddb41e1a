//! Reading a store without its lock, beside the server that writes it.
//!
//! Invariant: every line that is given stands in a batch that was whole when it was read: each of
//! its lines is formed as one of ours, and its commit line counts them. Roots and batch numbers are
//! for `openexec verify` to judge. Nothing is written, nothing is locked, one segment is held.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use super::segment::{self, BLANK};
use super::tail::is_blank;
use crate::core::limits::{SECTOR_BYTES, SEGMENT_BYTES};
use crate::core::record::Line;
use crate::sys::dir::Dir;

/// A line and where it stands.
pub struct Placed {
    pub segment: u32,
    /// In bytes from the segment's start.
    pub offset: u64,
    /// Without its newline.
    pub line: String,
}

/// All lines up to the last commit line, segment and commit lines too. An error ends it: of the
/// system, or `InvalidData` where a segment that is no longer written holds something else.
pub fn lines(directory: &Dir) -> Lines<'_> {
    Lines {
        directory,
        segment: 1,
        bytes: Vec::new(),
        base: 0,
        next: 0,
        size: 0,
        batch: VecDeque::new(),
        ended: false,
        unfinished: None,
    }
}

pub struct Lines<'a> {
    directory: &'a Dir,
    segment: u32,
    /// The segment from `base` on, as it was read.
    bytes: Vec<u8>,
    base: u64,
    /// Where the next batch begins.
    next: u64,
    /// Records so far.
    size: u64,
    batch: VecDeque<Placed>,
    ended: bool,
    unfinished: Option<(u32, u64)>,
}

impl Iterator for Lines<'_> {
    type Item = io::Result<Placed>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.batch.is_empty() && !self.ended {
            if let Err(error) = self.advance() {
                self.ended = true;
                return Some(Err(error));
            }
        }
        self.batch.pop_front().map(Ok)
    }
}

impl Lines<'_> {
    /// At the end: segment and byte of text that is no whole batch. It is being written just now,
    /// was cut short by a crash, or is damage.
    pub fn unfinished(&self) -> Option<(u32, u64)> {
        self.unfinished
    }

    fn advance(&mut self) -> io::Result<()> {
        if self.take_batch() {
            return Ok(());
        }
        // Asked before this one is read again: once the next has text, this one changes no more.
        let is_final = begins(self.directory, self.segment + 1)?;
        self.read_rest()?;
        if self.take_batch() {
            return Ok(());
        }
        let has_text = self.bytes.iter().any(|byte| !is_blank(*byte));
        if !is_final {
            self.ended = true;
            self.unfinished = has_text.then_some((self.segment, self.next));
        } else if has_text {
            let (name, byte) = (segment::name(self.segment), self.next);
            let text = format!("{name}, byte {byte}: not a whole batch, and a segment follows");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        } else {
            self.segment += 1;
            (self.base, self.next) = (0, 0);
            self.bytes.clear();
        }
        Ok(())
    }

    /// Reads the segment from where the next batch begins.
    fn read_rest(&mut self) -> io::Result<()> {
        let mut file = self.directory.read(&segment::name(self.segment))?.file()?;
        file.seek(SeekFrom::Start(self.next))?;
        self.bytes.clear();
        self.base = self.next;
        file.take(SEGMENT_BYTES - self.next).read_to_end(&mut self.bytes)?;
        Ok(())
    }

    /// Moves the next batch of what was read into `batch`. A read may run while the server writes
    /// and see some pages of a batch and not others: then a line is not formed, or the count is
    /// wrong, and it is no batch yet.
    fn take_batch(&mut self) -> bool {
        let mut at = (self.next - self.base) as usize;
        let mut records = 0;
        loop {
            let rest = self.bytes.get(at..).unwrap_or(&[]);
            let length = rest.iter().position(|byte| *byte == BLANK);
            let line = length.and_then(|length| std::str::from_utf8(&rest[..length]).ok());
            let Some((line, read)) = line.and_then(|line| Some((line, Line::read(line)?))) else {
                self.batch.clear();
                return false;
            };
            let offset = self.base + at as u64;
            at += line.len() + 1;
            self.batch.push_back(Placed { segment: self.segment, offset, line: line.to_owned() });
            match read {
                Line::Segment(_) => {}
                Line::Record(_) => records += 1,
                Line::Commit(commit) if commit.size == self.size + records => {
                    self.size = commit.size;
                    self.next = (self.base + at as u64).next_multiple_of(SECTOR_BYTES);
                    return true;
                }
                Line::Commit(_) => {
                    self.batch.clear();
                    return false;
                }
            }
        }
    }
}

/// Whether there is a segment that is written.
fn begins(directory: &Dir, number: u32) -> io::Result<bool> {
    let first = directory.read(&segment::name(number))?.read(1)?;
    Ok(first.is_some_and(|first| first.iter().any(|byte| !is_blank(*byte))))
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Files, GEOMETRY, Store, make, open::open};
    use super::*;
    use crate::core::line::Json;
    use crate::core::record::{Identity, Mode, Suppressed};
    use crate::core::time::Time;
    use crate::sys::disk::Directory;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn store(name: &str) -> (PathBuf, Files) {
        let path = std::env::temp_dir().join(format!("oe-scan-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let disk = Directory::make(&path).expect("a directory");
        let identity =
            Identity { store: "0".repeat(32), mode: Mode::Demo, created: Time::from_micros(0) };
        make(&disk, GEOMETRY, &identity).expect("a store");
        let (store, _) = open(Arc::new(disk), GEOMETRY, &mut |_, _| {}).expect("open");
        (path, store)
    }

    fn reasons(lines: &mut Lines) -> Vec<String> {
        let text = |placed: Placed| {
            let (_, rest) = placed.line.split_once("\"count\":{\"")?;
            rest.split_once("\":1}").map(|(code, _)| code.to_owned())
        };
        lines.filter_map(|placed| text(placed.expect("a line"))).collect()
    }

    fn append(store: &mut Files, reason: &str) {
        let mut batch = Batch::default();
        batch.push(
            &Suppressed { at: Time::from_micros(0), count: Json(&format!("{{\"{reason}\":1}}")) }
                .line(),
        );
        store.append(&batch).expect("appended");
    }

    #[test]
    fn what_is_committed_while_it_reads_is_read_and_what_is_torn_is_not() {
        let (path, mut store) = store("live");
        append(&mut store, "a");
        let dir = Dir::root(&path).expect("a directory");
        let mut lines = lines(&dir);
        assert!(lines.by_ref().take(3).all(|placed| placed.is_ok()));
        append(&mut store, "b");
        assert_eq!(reasons(&mut lines), ["a", "b"]);
        assert_eq!(lines.unfinished(), None);

        // A batch of which the first sector is not there yet, then one without its commit line.
        let file = path.join(segment::name(1));
        let mut bytes = std::fs::read(&file).expect("read");
        let end = store.room().used as usize;
        append(&mut store, &"c".repeat(900));
        let whole = std::fs::read(&file).expect("read");
        bytes[end + 512..].copy_from_slice(&whole[end + 512..]);
        for torn in
            [bytes, [&whole[..end + 512], &vec![BLANK; whole.len() - end - 512][..]].concat()]
        {
            std::fs::write(&file, torn).expect("written");
            let mut lines = super::lines(&dir);
            assert_eq!(reasons(&mut lines), ["a", "b"]);
            assert_eq!(lines.unfinished(), Some((1, end as u64)));
        }
        std::fs::remove_dir_all(path).expect("removed");
    }

    #[test]
    fn a_segment_that_others_follow_must_be_whole() {
        let (path, mut store) = store("final");
        append(&mut store, "a");
        let (first, second) = (path.join(segment::name(1)), path.join(segment::name(2)));
        std::fs::write(&second, "{").expect("written");
        let dir = Dir::root(&path).expect("a directory");
        let last = lines(&dir).last().expect("an item");
        // The second segment holds no batch; the first ends well.
        assert!(last.is_ok());
        let mut bytes = std::fs::read(&first).expect("read");
        bytes[store.room().used as usize] = b'x';
        std::fs::write(&first, bytes).expect("written");
        let error = lines(&dir).last().expect("an item").err().expect("an error");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        std::fs::remove_dir_all(path).expect("removed");
    }
}
