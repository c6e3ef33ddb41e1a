//! A store damaged while nobody holds it: opening refuses it with file and byte, or, only where a
//! power cut could have left it so, recovers. It never panics, never changes what it refuses, and
//! never loses a committed record in silence.

#![allow(clippy::disallowed_methods, reason = "a directory for the test that uses a real one")]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openexec::core::hash::{hex, sha256};
use openexec::core::line::Json;
use openexec::core::receipt::{self, Outcome};
use openexec::core::record::{Claim, Commit, Identity, Line, Mode, Receipt, Suppressed};
use openexec::core::time::Time;
use openexec::evidence::audit::audit;
use openexec::handlers::Effect;
use openexec::store::fault::OpenError;
use openexec::store::open::open;
use openexec::store::replay::observe;
use openexec::store::{Batch, Geometry, Store, make, segment};
use openexec::sys::disk::{Directory, Disk};

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 4096, batch_bytes_max: 1365, executions_max: 1_000 };
const SECTOR: usize = 512;
const CREATED: Time = Time::from_micros(1_767_225_600_000_000);

type Files = BTreeMap<String, Vec<u8>>;

/// Files in memory, and whether anything was changed; and what they are after each further read.
struct Memory(Mutex<(Files, bool)>, Mutex<VecDeque<Files>>);

impl Memory {
    fn new(files: Files) -> Arc<Self> {
        Self::growing(files, VecDeque::new())
    }

    fn growing(files: Files, next: VecDeque<Files>) -> Arc<Self> {
        Arc::new(Memory(Mutex::new((files, false)), Mutex::new(next)))
    }

    fn lock(&self) -> MutexGuard<'_, (Files, bool)> {
        self.0.lock().expect("not poisoned")
    }

    fn is_changed(&self) -> bool {
        self.lock().1
    }

    fn files(&self) -> Files {
        self.lock().0.clone()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Files) -> io::Result<R>) -> io::Result<R> {
        let mut inner = self.lock();
        inner.1 = true;
        change(&mut inner.0)
    }
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().0.keys().cloned().collect())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.lock().0.get(name).map(|bytes| bytes.len() as u64).ok_or_else(absent)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let bytes = inner.0.get(name).ok_or_else(absent)?;
        let start = offset as usize;
        let part = bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        if let Some(next) = self.1.lock().expect("not poisoned").pop_front() {
            inner.0 = next;
        }
        Ok(())
    }

    fn read_small(&self, name: &str, _: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().0.get(name).cloned())
    }

    fn changed_at(&self, name: &str) -> io::Result<Option<Time>> {
        Ok(self.lock().0.contains_key(name).then(Time::default))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.change(|files| {
            files.insert(name.to_owned(), Vec::new());
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|files| {
            let file = files.get_mut(name).ok_or_else(absent)?;
            let end = offset as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|files| {
            let file = files.get(from).cloned().ok_or_else(absent)?;
            files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|files| {
            let file = files.remove(from).ok_or_else(absent)?;
            files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|files| files.remove(name).map(drop).ok_or_else(absent))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn confirm(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A store of two written segments and a prepared one.
struct Sample {
    files: Files,
    /// Records in it.
    size: u64,
}

fn sample(store: char, sealed: bool) -> Sample {
    let memory = Memory::new(Files::new());
    let identity =
        Identity { store: store.to_string().repeat(32), mode: Mode::Demo, created: CREATED };
    make(memory.as_ref(), GEOMETRY, &identity).expect("a store");
    let (mut store, _) = open(memory.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let mut number = 0;
    while store.room().used < GEOMETRY.segment_bytes + 1536 {
        let mut batch = Batch::default();
        if number == 0 {
            batch.push(POLICY);
        }
        for line in execution(number) {
            batch.push(&line);
        }
        if number == 1 {
            batch.push(&Suppressed { at: CREATED, count: Json(r#"{"a_code":1}"#) }.line());
        }
        store.preparation().step(memory.as_ref(), GEOMETRY.segment_bytes);
        store.append(&batch).expect("appended");
        number += 1;
    }
    store.preparation().step(memory.as_ref(), GEOMETRY.segment_bytes);
    if sealed {
        store.rest(0).expect("sealed");
    }
    let files = memory.files();
    assert_eq!(files.len(), 3, "two written segments and a prepared one");
    Sample { files, size: store.size() }
}

/// Of demo mode.
const POLICY: &str = r#"{"actions":null,"allowed":null,"at":"2026-03-01T00:00:00.000000Z","callers":null,"keys":null,"kind":"policy","required":null,"tenant":null,"ttl_max":null,"version":"0"}"#;

/// A claim and its receipt.
fn execution(number: u32) -> [String; 2] {
    let payload = format!("{{\"text\":\"{}\"}}", "ab".repeat(number as usize * 40 % 130));
    let nonce = format!("nonce {number}");
    let id = receipt::exec_id("echo", &nonce, &payload);
    let result = format!("{{\"echo\":{payload}}}");
    let claim = Claim {
        at: CREATED.plus_seconds(i64::from(number)),
        id,
        action: "echo",
        payload: Json(&payload),
        nonce: nonce.into(),
        caller: None,
        effect: Effect::Pure,
        approval: Json("null"),
        keys: Json("[]"),
        legacy: None,
        policy: 1,
        place: None,
    };
    let end = Receipt {
        at: claim.at,
        id,
        outcome: Outcome::Executed,
        result: Json(&result),
        receipt: receipt::receipt(&hex(&id), &result),
    };
    [claim.line(), end.line()]
}

/// What opening made of damaged files.
#[derive(Debug)]
enum Opened {
    /// With so many records.
    Good {
        size: u64,
        was_torn: bool,
    },
    Refused {
        file: String,
        byte: u64,
    },
}

static AUDITED: AtomicU32 = AtomicU32::new(0);

/// Opens `files`. Checks what holds whatever the damage is.
fn judge(files: Files, what: &dyn Fn() -> String) -> Opened {
    let lengths: BTreeMap<String, usize> =
        files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect();
    let memory = Memory::new(files);
    // Of the many, an audit of each would take too long.
    let is_audited = AUDITED.fetch_add(1, Ordering::Relaxed).is_multiple_of(16);
    let both = || {
        let audited = is_audited.then(|| {
            let audited = audit(memory.as_ref(), GEOMETRY, None, None, &mut |_, _| {});
            assert!(!memory.is_changed(), "an audit changes nothing");
            audited
        });
        let opened = open(memory.clone(), GEOMETRY, &mut |_, _| {});
        let Some(audited) = audited else { return opened };
        let has_tail = audited.as_ref().is_ok_and(|summary| summary.unfinished_tail);
        let was_torn = matches!(opened, Ok((_, Some(_))));
        assert_eq!(audited.is_ok(), opened.is_ok(), "{:?}", audited.err());
        assert_eq!(has_tail, was_torn, "an audit says what opening would remove");
        opened
    };
    match catch_unwind(AssertUnwindSafe(both)) {
        Err(_) => panic!("see above: {}", what()),
        Ok(Ok((store, torn))) => Opened::Good { size: store.size(), was_torn: torn.is_some() },
        Ok(Err(OpenError::Corrupt { file, byte, reason })) => {
            assert!(!memory.is_changed(), "changed what it refused: {}", what());
            assert!(!reason.is_empty(), "{}", what());
            // A segment that is missing is named at byte 0.
            let length = lengths.get(&file).copied().unwrap_or(0);
            assert!(byte <= length as u64, "{file}, byte {byte}: {}", what());
            Opened::Refused { file, byte }
        }
        Ok(Err(OpenError::Absent)) => {
            assert!(!memory.is_changed(), "changed what it refused: {}", what());
            assert!(!lengths.contains_key(&segment::name(1)), "{}", what());
            Opened::Refused { file: segment::name(1), byte: 0 }
        }
        Ok(Err(error)) => panic!("{error}: {}", what()),
    }
}

fn refused(files: Files, what: &dyn Fn() -> String) -> (String, u64) {
    match judge(files, what) {
        Opened::Refused { file, byte } => (file, byte),
        opened => panic!("accepted, {opened:?}: {}", what()),
    }
}

fn with(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(name).expect("a segment"));
    files
}

/// The batches of one segment: their lines, and where each begins.
fn batches(bytes: &[u8]) -> Vec<(usize, Vec<String>)> {
    let mut batches = Vec::new();
    let (mut start, mut lines) = (0, Vec::new());
    let mut at = 0;
    while bytes[at..].iter().any(|byte| *byte != b'\n') {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\n').expect("a line");
        let line = String::from_utf8(bytes[at..end].to_vec()).expect("text");
        let is_commit = Commit::read(&line).is_some();
        lines.push(line);
        at = end + 1;
        if is_commit {
            batches.push((start, std::mem::take(&mut lines)));
            at = at.next_multiple_of(SECTOR);
            start = at;
        }
    }
    batches
}

/// The segment that holds these batches, each at the next sector, as the store writes them.
fn laid_out(batches: &[Vec<String>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for lines in batches {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), b'\n');
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
    }
    let whole = GEOMETRY.segment_bytes as usize;
    (bytes.len() <= whole).then(|| {
        bytes.resize(whole, b'\n');
        bytes
    })
}

/// Where the last batch begins: segment 2, this byte.
fn last_batch(files: &Files) -> usize {
    batches(&files[&segment::name(2)]).last().expect("a batch").0
}

#[test]
fn every_flipped_bit() {
    let sample = sample('a', true);
    let seal = last_batch(&sample.files);
    for number in 1..=2 {
        let name = segment::name(number);
        let text = sample.files[&name].iter().rposition(|byte| *byte != b'\n').expect("text") + 1;
        for byte in 0..text {
            for bit in 0..8 {
                let what = || format!("{name}, byte {byte}, bit {bit}");
                let files = with(&sample.files, &name, |bytes| bytes[byte] ^= 1 << bit);
                match judge(files, &what) {
                    Opened::Refused { file, byte: place } => {
                        assert_eq!(file, name, "{}", what());
                        assert!(place <= byte as u64, "{place}: {}", what());
                    }
                    // Nothing is in the seal but itself.
                    Opened::Good { size, .. } if number == 2 && byte >= seal => {
                        assert_eq!(size, sample.size, "{}", what());
                    }
                    opened => panic!("accepted, {opened:?}: {}", what()),
                }
            }
        }
    }
}

/// Before it is sealed, damage to the last batch may look like a power cut; to no other batch.
#[test]
fn every_flipped_bit_of_a_last_batch_without_a_seal() {
    let sample = sample('a', false);
    let name = segment::name(2);
    let start = last_batch(&sample.files);
    let records = batches(&sample.files[&name]).last().expect("a batch").1.len() as u64 - 1;
    let text = sample.files[&name].iter().rposition(|byte| *byte != b'\n').expect("text") + 1;
    for byte in start..sample.files[&name].len() {
        for bit in if byte < text { 0..8 } else { 4..5 } {
            let what = || format!("byte {byte}, bit {bit}");
            let files = with(&sample.files, &name, |bytes| bytes[byte] ^= 1 << bit);
            if let Opened::Good { size, was_torn } = judge(files, &what) {
                assert!(was_torn, "{}", what());
                assert!([sample.size, sample.size - records].contains(&size), "{}", what());
            }
        }
    }
}

/// A sector that reads as NUL, as newlines or as an older one.
#[test]
fn every_lost_sector() {
    let sample = sample('a', true);
    let seal = last_batch(&sample.files);
    for number in 1..=2 {
        let name = segment::name(number);
        for sector in (0..sample.files[&name].len()).step_by(SECTOR) {
            for filling in [0, b'\n', b'x'] {
                let files = with(&sample.files, &name, |bytes| {
                    bytes[sector..sector + SECTOR].fill(filling);
                });
                let what = || format!("{name}, sector at {sector}, {filling:?}");
                let is_blank = sample.files[&name][sector..sector + SECTOR] == [b'\n'; SECTOR];
                match judge(files, &what) {
                    Opened::Refused { file, .. } => assert_eq!(file, name, "{}", what()),
                    Opened::Good { size, .. } => {
                        let harmless = is_blank || (number == 2 && sector >= seal);
                        assert!(harmless && size == sample.size, "{size}: {}", what());
                    }
                }
            }
        }
    }
}

#[test]
fn every_truncation() {
    let sample = sample('a', true);
    for name in sample.files.keys() {
        for length in (0..GEOMETRY.segment_bytes as usize).step_by(7) {
            let files = with(&sample.files, name, |bytes| bytes.truncate(length));
            let (file, byte) = refused(files, &|| format!("{name} cut to {length}"));
            assert_eq!((&file, byte), (name, length as u64));
        }
        let longer = with(&sample.files, name, |bytes| bytes.push(b'\n'));
        refused(longer, &|| format!("{name} with one byte more"));
    }
}

/// The text ends anywhere, and blanks follow to the end of the segment.
#[test]
fn every_end_of_the_text() {
    let sample = sample('a', true);
    let name = segment::name(2);
    let all = batches(&sample.files[&name]);
    let end = sample.files[&name].iter().rposition(|byte| *byte != b'\n').expect("text") + 1;
    for filling in [0, b'\n'] {
        for cut in 0..end {
            let files = with(&sample.files, &name, |bytes| bytes[cut..].fill(filling));
            let what = || format!("text ends at {cut}, then {filling}");
            let mut whole = all.iter().filter(|(start, lines)| {
                // The newline of a last line is a blank as well.
                start + lines.iter().map(|line| line.len() + 1).sum::<usize>() - 1 <= cut
            });
            let last_commit = whole.next_back().and_then(|(_, lines)| Commit::read(lines.last()?));
            match judge(files, &what) {
                Opened::Refused { file, .. } => assert_eq!(file, name, "{}", what()),
                Opened::Good { size, was_torn } => {
                    let first = Line::read(&all[0].1[0]);
                    let Some(Line::Segment(before)) = first else { panic!("no segment line") };
                    let kept = last_commit.map_or(before.first, |commit| commit.size);
                    assert_eq!(size, kept, "{}", what());
                    let in_a_batch = all.iter().all(|(start, lines)| {
                        let text: usize = lines.iter().map(|line| line.len() + 1).sum();
                        cut <= *start || cut >= start + text - 1
                    });
                    assert!(was_torn != in_a_batch, "{}", what());
                    assert!(!was_torn || (cut % SECTOR).max(1) == 1 || cut % SECTOR == SECTOR - 1);
                }
            }
        }
    }
}

#[test]
fn every_line_removed_repeated_or_swapped() {
    let sample = sample('a', true);
    for number in 1..=2 {
        let name = segment::name(number);
        let before: Vec<Vec<String>> =
            batches(&sample.files[&name]).into_iter().map(|(_, lines)| lines).collect();
        let places: Vec<(usize, usize)> = (0..before.len())
            .flat_map(|batch| (0..before[batch].len()).map(move |line| (batch, line)))
            .collect();
        let check = |after: &[Vec<String>], what: &dyn Fn() -> String| {
            let Some(bytes) = laid_out(after) else { return };
            refused(with(&sample.files, &name, |file| *file = bytes), what);
        };
        for &(batch, line) in &places {
            let is_seal = number == 2 && batch + 1 == before.len();
            let mut after = before.clone();
            after[batch].remove(line);
            if !is_seal {
                check(&after, &|| format!("{name}: line {line} of batch {batch} removed"));
            }
            let mut after = before.clone();
            let repeated = after[batch][line].clone();
            after[batch].insert(line, repeated);
            check(&after, &|| format!("{name}: line {line} of batch {batch} repeated"));
        }
        for (n, &(batch, line)) in places.iter().enumerate() {
            for &(other_batch, other_line) in &places[n + 1..] {
                let mut after = before.clone();
                let moved = after[batch][line].clone();
                after[batch][line] = std::mem::replace(&mut after[other_batch][other_line], moved);
                check(&after, &|| {
                    format!("{name}: {batch}.{line} and {other_batch}.{other_line} swapped")
                });
            }
        }
    }
}

#[test]
fn every_batch_removed_repeated_or_swapped() {
    let sample = sample('a', true);
    for number in 1..=2 {
        let name = segment::name(number);
        let before: Vec<Vec<String>> =
            batches(&sample.files[&name]).into_iter().map(|(_, lines)| lines).collect();
        let check = |after: &[Vec<String>], what: &dyn Fn() -> String| {
            let Some(bytes) = laid_out(after) else { return };
            refused(with(&sample.files, &name, |file| *file = bytes), what);
        };
        for batch in 0..before.len() {
            let mut after = before.clone();
            after.remove(batch);
            // At the very end only a checkpoint shows it.
            if number == 1 || batch + 1 < before.len() {
                check(&after, &|| format!("{name}: batch {batch} removed"));
            }
            for place in 0..=before.len() {
                let mut after = before.clone();
                after.insert(place, before[batch].clone());
                check(&after, &|| format!("{name}: batch {batch} again before {place}"));
            }
            for other in batch + 1..before.len() {
                let mut after = before.clone();
                after.swap(batch, other);
                check(&after, &|| format!("{name}: batches {batch} and {other} swapped"));
            }
        }
    }
}

#[test]
fn every_segment_removed_repeated_swapped_or_grafted() {
    let (ours, other) = (sample('a', true), sample('b', true));
    let name = segment::name;
    for number in 1..=2 {
        let mut files = ours.files.clone();
        files.remove(&name(number));
        refused(files, &|| format!("segment {number} removed"));
        let mut files = ours.files.clone();
        files.insert(name(number), other.files[&name(number)].clone());
        refused(files, &|| format!("segment {number} of another store"));
    }
    let mut files = ours.files.clone();
    files.remove(&name(3));
    let opened = judge(files, &|| "the prepared segment removed".to_owned());
    assert!(matches!(opened, Opened::Good { size, was_torn: false } if size == ours.size));
    for (from, to) in [(1, 3), (2, 3), (1, 4), (2, 4), (3, 4)] {
        let mut files = ours.files.clone();
        files.insert(name(to), ours.files[&name(from)].clone());
        refused(files, &|| format!("segment {from} again as {to}"));
    }
    for (one, two) in [(1, 2), (1, 3), (2, 3)] {
        let mut files = ours.files.clone();
        files.insert(name(one), ours.files[&name(two)].clone());
        files.insert(name(two), ours.files[&name(one)].clone());
        refused(files, &|| format!("segments {one} and {two} swapped"));
    }
    let mut files = ours.files.clone();
    files.insert(name(3), other.files[&name(2)].clone());
    refused(files, &|| "the end of another store as segment 3".to_owned());
    refused(with(&ours.files, &name(1), |bytes| bytes.fill(b'\n')), &|| "segment 1 blank".into());
    refused(with(&ours.files, &name(2), |bytes| bytes.fill(b'\n')), &|| "segment 2 blank".into());
}

/// The same on a real directory: not a byte nor a name changes.
#[test]
fn a_directory_that_is_refused_is_left_as_it_was() {
    let sample = sample('a', true);
    let path = std::env::temp_dir().join(format!("openexec-damage-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    let list = || -> BTreeMap<_, _> {
        let entries = std::fs::read_dir(&path).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.map(|path| (path.clone(), sha256(&[&std::fs::read(path).expect("read")]))).collect()
    };
    for byte in [0, 700, 1500, 4000] {
        let files = with(&sample.files, &segment::name(1), |bytes| bytes[byte] ^= 1);
        for (name, bytes) in &files {
            std::fs::write(path.join(name), bytes).expect("written");
        }
        std::fs::write(path.join("00000004.jsonl.tmp"), b"unfinished").expect("written");
        let before = list();
        let disk = Arc::new(Directory::open(&path).expect("a directory"));
        let opened = open(disk, GEOMETRY, &mut |_, _| {});
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "byte {byte}");
        assert_eq!(list(), before, "byte {byte}");
    }
    std::fs::remove_dir_all(&path).expect("removed");
}

/// Each count is a number; all of them together are not. They are a figure that nothing follows from.
#[test]
fn counts_beyond_a_number_are_no_finding() {
    let memory = Memory::new(Files::new());
    let identity = Identity { store: "c".repeat(32), mode: Mode::Demo, created: CREATED };
    let geometry = Geometry { segment_bytes: 256 * 1024, ..GEOMETRY };
    make(memory.as_ref(), geometry, &identity).expect("a store");
    let (mut store, _) = open(memory.clone(), geometry, &mut |_, _| {}).expect("it opens");
    let counts: Vec<String> = (1000..3100).map(|n| format!("\"{n}\":9007199254740991")).collect();
    let mut batch = Batch::default();
    batch.push(
        &Suppressed { at: CREATED, count: Json(&format!("{{{}}}", counts.join(","))) }.line(),
    );
    store.append(&batch).expect("appended");
    let audited = audit(memory.as_ref(), geometry, None, None, &mut |_, _| {}).expect("no finding");
    assert_eq!(audited.suppressed, u64::MAX);
}

/// What a reader may find there while a service writes: before and after each batch and each new segment,
/// and of each batch a part, cut at any byte.
fn growing() -> Vec<Files> {
    let memory = Memory::new(Files::new());
    let identity = Identity { store: "0".repeat(32), mode: Mode::Demo, created: CREATED };
    make(memory.as_ref(), GEOMETRY, &identity).expect("a store");
    let (mut store, _) = open(memory.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
    let mut states = vec![memory.files()];
    for number in 0..30 {
        if store.preparation().step(memory.as_ref(), GEOMETRY.segment_bytes) {
            states.push(memory.files());
        }
        let mut batch = Batch::default();
        if number == 0 {
            batch.push(POLICY);
        }
        execution(number).iter().for_each(|line| batch.push(line));
        store.append(&batch).expect("appended");
        let mut part = memory.files();
        let before = &states[states.len() - 1];
        for (name, bytes) in &mut part {
            let changed = |at: &usize| bytes[*at] != before[name][*at];
            if let Some(first) = (0..bytes.len()).find(changed) {
                let cut = first + (number as usize * 97) % 600;
                bytes[cut..].copy_from_slice(&before[name][cut..]);
            }
        }
        states.extend([part, memory.files()]);
    }
    states
}

/// Whenever it looks, and however much is written between two looks, it gives every record that was
/// committed when it began, in order, each once, and calls nothing damaged.
#[test]
fn what_a_service_writes_meanwhile_is_no_damage() {
    let states = growing();
    assert!(states[states.len() - 1].len() > 6, "several segments");
    let all = seen(&Memory::new(states[states.len() - 1].clone())).expect("whole");
    let mut records = Vec::new();
    for (start, files) in states.iter().enumerate() {
        // Half of a batch, and nobody writes the rest.
        if let Ok(committed) = seen(&Memory::new(files.clone())) {
            assert!(committed.len() >= records.len());
            records = committed;
        }
        for step in [1, 3, 7, 31] {
            let next = states.iter().skip(start + step).step_by(step).chain(states.last());
            let read = seen(&Memory::growing(files.clone(), next.cloned().collect()));
            let read = read.unwrap_or_else(|error| panic!("{error}: from {start} by {step}"));
            assert!(read.len() >= records.len(), "from {start} by {step}");
            assert_eq!(read, all[..read.len()], "from {start} by {step}");
        }
    }
}

fn seen(memory: &Memory) -> Result<Vec<String>, OpenError> {
    let mut lines = Vec::new();
    observe(memory, GEOMETRY, &mut |_, _| {}, &mut |seen| {
        lines.push(seen.record()?.1.to_owned());
        Ok(())
    })?;
    Ok(lines)
}

/// The same damage at each look is damage: it is looked at a few times, and not for ever.
#[test]
fn what_stays_wrong_is_damage() {
    let Sample { mut files, .. } = sample('0', false);
    let first = files.get_mut(&segment::name(1)).expect("a segment");
    let last = first.iter().rposition(|byte| *byte != b'\n').expect("text");
    first[last - 1] ^= 1;
    let after = VecDeque::from(vec![files.clone(); 100]);
    let memory = Memory::growing(files, after);
    assert!(matches!(seen(&memory), Err(OpenError::Corrupt { .. })));
    assert!(memory.1.lock().expect("not poisoned").len() > 80);
}
