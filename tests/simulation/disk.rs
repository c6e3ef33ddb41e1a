//! A disk that does everything a real one may do, by seed: see [`SimDisk`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openexec::core::time::Time;
use openexec::store::segment;
use openexec::sys::disk::Disk;

use crate::random::Random;

const SECTOR: usize = 512;

/// Two states of each file: what the kernel shows (`cache`) and what a power cut leaves
/// (`durable`). A write changes the first and marks its sectors dirty; a sync carries dirty sectors
/// over. At a power cut each dirty sector is kept or lost by itself, and so is each change of a name
/// since the last sync of the directory. A sync that fails marks sectors clean that it has not
/// carried over, and later syncs say nothing of them: such a disk lies.
///
/// Not modelled: a sync of the *directory* that fails and later lies. File systems journal names,
/// and a journal that cannot be written stays failed.
pub struct SimDisk(Mutex<Inner>);

struct Inner {
    random: Random,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of the directory.
    pending: Vec<NameChange>,
    /// Bytes of all files together; beyond it there is no space.
    capacity: u64,
    /// The process dies at the operation that brings this to 0.
    crash_in: Option<u64>,
    /// Nothing works until the next start.
    dead: bool,
    fault: Option<(Fault, u64)>,
    /// Several threads read, in no order that a seed could repeat: the fault strikes by name.
    is_opening: bool,
    meanwhile: Option<(&'static str, String)>,
    watch: Watch,
}

/// What the history wants to know of the disk since [`SimDisk::watch`].
#[derive(Default, Clone, Copy, Debug)]
pub struct Watch {
    /// A write or a sync of a segment has failed.
    pub segment_failed: bool,
    /// A segment's name is in doubt.
    pub directory_failed: bool,
    /// A segment was written after that.
    pub written_after_failure: bool,
    /// Some operation has failed, by whatever fault.
    pub any_failed: bool,
}

#[derive(Default, Clone)]
struct File {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<bool>,
}

enum NameChange {
    Set {
        name: String,
        file: usize,
    },
    /// A further name, of a segment.
    Linked {
        name: String,
        file: usize,
    },
    Moved {
        from: String,
        to: String,
        file: usize,
    },
    Removed {
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Write,
    /// The failed sync marks sectors clean that are not on the disk; the kernel goes on showing
    /// what was written (ext4, XFS) or what is on the disk (Btrfs).
    Sync {
        shows_old: bool,
    },
    Read,
    Name,
    SyncDirectory,
}

/// How the process ended.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// The kernel lives on.
    Kill,
    Power,
}

impl SimDisk {
    pub fn new(random: Random) -> Self {
        SimDisk(Mutex::new(Inner {
            random,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            capacity: u64::MAX,
            crash_in: None,
            dead: false,
            fault: None,
            is_opening: false,
            meanwhile: None,
            watch: Watch::default(),
        }))
    }

    pub fn crash_in(&self, operations: Option<u64>) {
        self.lock().crash_in = operations;
    }

    /// The process dies now, within a handler.
    pub fn crash_now(&self) {
        self.lock().dead = true;
    }

    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// The fault strikes once, at the `nth` operation of its kind from now, from 1.
    pub fn fault(&self, fault: Option<(Fault, u64)>) {
        self.lock().fault = fault;
    }

    pub fn set_opening(&self, is_opening: bool) {
        self.lock().is_opening = is_opening;
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    pub fn watch(&self) {
        self.lock().watch = Watch::default();
    }

    pub fn watched(&self) -> Watch {
        self.lock().watch
    }

    /// What another process does to the freeze file: at once and for good.
    pub fn set_file(&self, name: &str, text: Option<&str>) {
        self.lock().set_file(name, text);
    }

    /// Somebody else puts a file in place of another while the next sync is on its way.
    pub fn left_meanwhile(&self, name: &'static str, text: String) {
        self.lock().meanwhile = Some((name, text));
    }

    /// All files as the kernel shows them.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.lock();
        let content =
            |(name, file): (&String, &usize)| (name.clone(), inner.files[*file].cache.clone());
        inner.names.iter().map(content).collect()
    }

    /// After the process has ended, and before the next one: what is left.
    pub fn restart(&self, crash: Crash) {
        let mut inner = self.lock();
        inner.dead = false;
        inner.crash_in = None;
        inner.fault = None;
        inner.watch = Watch::default();
        if matches!(crash, Crash::Power) {
            inner.cut_power();
        }
    }

    pub fn strike(&self) -> Strike {
        let mut inner = self.lock();
        match inner.fate(|fault| matches!(fault, Fault::Write | Fault::Sync { .. })) {
            Ok(Fate::Done) => Strike::Done,
            Ok(Fate::Dies { .. }) => Strike::Unknown,
            Ok(Fate::Fails) => {
                inner.watch.segment_failed = true;
                Strike::Unknown
            }
            Err(_) => Strike::Dead,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an operation elsewhere ends, such as one of a database.
pub enum Strike {
    Done,
    /// Nobody knows whether it was carried out, and perhaps nobody lives who would ask.
    Unknown,
    /// The process was dead before.
    Dead,
}

/// Whether an operation is carried out, and whether the process survives it.
enum Fate {
    Done,
    /// The process dies; if so, after it was carried out.
    Dies {
        after: bool,
    },
    Fails,
}

impl Inner {
    /// The fate of one operation that changes something.
    fn fate(&mut self, is_hit: impl Fn(Fault) -> bool) -> io::Result<Fate> {
        if self.dead {
            return Err(gone());
        }
        if let Some(left) = &mut self.crash_in {
            *left -= 1;
            if *left == 0 {
                self.dead = true;
                return Ok(Fate::Dies { after: self.random.chance(50) });
            }
        }
        Ok(if self.is_struck(is_hit) { Fate::Fails } else { Fate::Done })
    }

    fn is_struck(&mut self, is_hit: impl Fn(Fault) -> bool) -> bool {
        let Some((fault, left)) = &mut self.fault else { return false };
        if !is_hit(*fault) {
            return false;
        }
        *left -= 1;
        if *left == 0 {
            self.fault = None;
            self.watch.any_failed = true;
            return true;
        }
        false
    }

    fn read_fate(&mut self, name: &str) -> io::Result<()> {
        if self.dead {
            return Err(gone());
        }
        if self.is_opening {
            let Some((Fault::Read, nth)) = self.fault else { return Ok(()) };
            if name != segment::name(nth as u32) {
                return Ok(());
            }
            self.fault = None;
            self.watch.any_failed = true;
            return Err(broken());
        }
        if self.is_struck(|fault| fault == Fault::Read) {
            return Err(broken());
        }
        Ok(())
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let files: BTreeSet<usize> = self.names.values().copied().collect();
        files.iter().map(|file| self.files[*file].cache.len() as u64).sum()
    }

    fn write(&mut self, file: usize, offset: usize, bytes: &[u8]) {
        let file = &mut self.files[file];
        let end = offset + bytes.len();
        if end > file.cache.len() {
            file.cache.resize(end, 0);
        }
        file.cache[offset..end].copy_from_slice(bytes);
        let sectors = file.cache.len().div_ceil(SECTOR);
        file.dirty.resize(sectors, false);
        if !bytes.is_empty() {
            file.dirty[offset / SECTOR..=(end - 1) / SECTOR].fill(true);
        }
    }

    /// Whole sectors of a write from its start, as when a signal ends it.
    fn write_part(&mut self, file: usize, offset: usize, bytes: &[u8]) {
        let sectors = self.random.below(bytes.len() as u64 / SECTOR as u64 + 1) as usize;
        self.write(file, offset, &bytes[..sectors * SECTOR]);
    }

    fn sync(&mut self, file: usize) {
        let file = &mut self.files[file];
        if file.durable.len() < file.cache.len() {
            file.durable.resize(file.cache.len(), 0);
        }
        for sector in 0..file.dirty.len() {
            if file.dirty[sector] {
                file.carry(sector);
            }
        }
    }

    fn fail_sync(&mut self, file: usize, shows_old: bool) {
        let kept = self.random.pick(&[0, 50, 90]);
        for sector in 0..self.files[file].dirty.len() {
            if !self.files[file].dirty[sector] {
                continue;
            }
            if self.random.chance(kept) {
                self.files[file].carry(sector);
            } else {
                self.files[file].dirty[sector] = false;
                if shows_old {
                    self.files[file].show_durable(sector);
                }
            }
        }
    }

    fn set_file(&mut self, name: &str, text: Option<&str>) {
        self.names.remove(name);
        self.durable_names.remove(name);
        if let Some(text) = text {
            let bytes = text.as_bytes().to_vec();
            let file = self.files.len();
            self.files.push(File { cache: bytes.clone(), durable: bytes, dirty: Vec::new() });
            self.names.insert(name.to_owned(), file);
            self.durable_names.insert(name.to_owned(), file);
        }
    }

    fn cut_power(&mut self) {
        let kept = self.random.pick(&[0, 10, 50, 50, 90, 100]);
        for file in 0..self.files.len() {
            for sector in 0..self.files[file].dirty.len() {
                if self.files[file].dirty[sector] && self.random.chance(kept) {
                    self.files[file].carry(sector);
                }
            }
            let file = &mut self.files[file];
            file.cache.clone_from(&file.durable);
            file.dirty.clear();
            file.dirty.resize(file.cache.len().div_ceil(SECTOR), false);
        }
        let kept = self.random.pick(&[0, 50, 100]);
        for change in std::mem::take(&mut self.pending) {
            if self.random.chance(kept) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        match self.fate(|fault| fault == Fault::Name)? {
            Fate::Done => {
                change.apply(&mut self.names);
                self.pending.push(change);
                Ok(())
            }
            Fate::Dies { after } => {
                if after {
                    change.apply(&mut self.names);
                    self.pending.push(change);
                }
                Err(gone())
            }
            Fate::Fails => {
                let linked = matches!(change, NameChange::Linked { .. });
                self.watch.directory_failed |= linked;
                Err(broken())
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Set { name, file } | NameChange::Linked { name, file } => {
                names.insert(name.clone(), *file);
            }
            NameChange::Moved { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            NameChange::Removed { name } => {
                names.remove(name);
            }
        }
    }
}

impl File {
    /// Makes one dirty sector durable. What lies before it and was never written reads as NUL.
    fn carry(&mut self, sector: usize) {
        let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.cache.len()));
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cache[start..end]);
        self.dirty[sector] = false;
    }

    fn show_durable(&mut self, sector: usize) {
        let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.cache.len()));
        for at in start..end {
            self.cache[at] = self.durable.get(at).copied().unwrap_or(0);
        }
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut inner = self.lock();
        inner.read_fate("")?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let mut inner = self.lock();
        inner.read_fate(name)?;
        let file = inner.file(name)?;
        Ok(inner.files[file].cache.len() as u64)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.read_fate(name)?;
        let file = inner.file(name)?;
        let start = offset as usize;
        let bytes = inner.files[file].cache.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_small(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut inner = self.lock();
        inner.read_fate(name)?;
        let Ok(file) = inner.file(name) else { return Ok(None) };
        let mut bytes = inner.files[file].cache.clone();
        bytes.truncate(bytes_max as usize);
        Ok(Some(bytes))
    }

    fn changed_at(&self, name: &str) -> io::Result<Option<Time>> {
        let mut inner = self.lock();
        inner.read_fate(name)?;
        // Another file of that name came later.
        Ok(inner.file(name).ok().map(|file| Time::from_micros(file as i64)))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = inner.files.len();
        inner.files.push(File::default());
        inner.change_name(NameChange::Set { name: name.to_owned(), file })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let fate = inner.fate(|fault| fault == Fault::Write)?;
        let file = inner.file(name)?;
        let (offset, is_segment) = (offset as usize, name.ends_with(".jsonl"));
        let watch = &mut inner.watch;
        if is_segment && (watch.segment_failed || watch.directory_failed) {
            watch.written_after_failure = true;
        }
        let more = (offset + bytes.len()).saturating_sub(inner.files[file].cache.len()) as u64;
        if more > 0 && inner.used() + more > inner.capacity {
            // Not a fault: whoever needs space must see that before it matters.
            return Err(io::ErrorKind::StorageFull.into());
        }
        match fate {
            Fate::Done => {
                inner.write(file, offset, bytes);
                Ok(())
            }
            Fate::Dies { after: true } => {
                inner.write(file, offset, bytes);
                Err(gone())
            }
            Fate::Dies { after: false } => {
                inner.write_part(file, offset, bytes);
                Err(gone())
            }
            Fate::Fails => {
                inner.write_part(file, offset, bytes);
                inner.watch.segment_failed |= is_segment;
                Err(broken())
            }
        }
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let sync_fault = inner.fault.map(|(fault, _)| fault);
        let fate = inner.fate(|fault| matches!(fault, Fault::Sync { .. }))?;
        let file = inner.file(name)?;
        if let Some((name, text)) = inner.meanwhile.take() {
            inner.set_file(name, Some(&text));
        }
        match fate {
            Fate::Done => {
                inner.sync(file);
                Ok(())
            }
            Fate::Dies { after } => {
                if after {
                    inner.sync(file);
                }
                Err(gone())
            }
            Fate::Fails => {
                let shows_old = sync_fault == Some(Fault::Sync { shows_old: true });
                inner.fail_sync(file, shows_old);
                inner.watch.segment_failed |= name.ends_with(".jsonl");
                Err(broken())
            }
        }
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let file = inner.file(from)?;
        if inner.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.change_name(NameChange::Linked { name: to.to_owned(), file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let file = inner.file(from)?;
        inner.change_name(NameChange::Moved { from: from.to_owned(), to: to.to_owned(), file })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.file(name)?;
        inner.change_name(NameChange::Removed { name: name.to_owned() })
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.fate(|fault| fault == Fault::SyncDirectory)? {
            Fate::Dies { after: false } => return Err(gone()),
            Fate::Fails => {
                inner.watch.directory_failed = true;
                return Err(broken());
            }
            Fate::Done | Fate::Dies { after: true } => {}
        }
        inner.pending.clear();
        inner.durable_names = inner.names.clone();
        if inner.dead { Err(gone()) } else { Ok(()) }
    }

    /// Nobody else is here.
    fn confirm(&self, _: &str) -> io::Result<()> {
        if self.lock().dead { Err(gone()) } else { Ok(()) }
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// What a dead process would never see.
fn gone() -> io::Error {
    io::Error::other("the process has ended")
}
