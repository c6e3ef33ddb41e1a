//! `openexec backup`: a copy of a store, made beside its service, which neither waits for it nor knows of it.
//!
//! Invariant: what is not a whole copy does not pass for a store. A segment's committed part never changes again, so
//! the copy is of all that was committed when it began: the segments, the last one blank behind its last whole
//! batch, and a blank one behind that, as a service would have made it. The first segment comes last: without it
//! neither a service nor `verify` takes the others for a store. A directory has its name only once all of it is synced.
//!
//! The copy is frozen. It knows nothing of what was executed after it, and would do that again.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, IsTerminal, StdoutLock, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use super::files::Files;
use super::options::Options;
use super::usage;
use super::verify::beside_a_server;
use crate::core::hash::hex;
use crate::core::limits::{SEGMENT_BYTES, SEGMENTS_MAX};
use crate::executor::FROZEN_FILE;
use crate::serve::opening::replay;
use crate::store::GEOMETRY;
use crate::store::replay::Place;
use crate::store::segment::{self, BLANK, TEMPORARY};
use crate::sys::dir::{Dir, identity, parent};
use crate::sys::disk::{Directory, Disk};
use crate::sys::exit::{self, Failure};
use crate::sys::page::{self, Page};
use crate::sys::{clock, random};

/// The user and the group of a store.
type Owner = (u32, u32);

/// Bytes of one read.
const PART_BYTES: usize = 1024 * 1024;
/// A tar's header, and what each file in it is padded to.
const BLOCK_BYTES: usize = 512;
/// The largest user id that a tar's header has room for; another is left to who extracts it.
const TAR_ID_MAX: u32 = 0o7_777_777;

pub fn run(options: &Options) -> Result<(), Failure> {
    let target = options.word().ok_or_else(|| usage("backup needs DIR, or - for a tar"))?;
    let store = Files::find(options, None)?;
    let failed = || Failure::while_doing(format!("copying {} to {target}", store.path.display()));
    let owner = store.dir.handle().metadata().map_err(failed())?;
    let owner = (owner.uid(), owner.gid());
    let mut copy: Box<dyn Copy> = match target {
        "-" => Box::new(Tar { out: standard_output()?, owner }),
        _ => Box::new(Named::begin(Path::new(target), &store.dir, owner)?),
    };
    let records = beside_a_server(&store.path, |directory, progress| {
        let replay = replay(directory, GEOMETRY, progress)?;
        Ok(all(directory, replay.end, copy.as_mut()).map(|()| replay.tree.size()))
    });
    let records = records.and_then(|copied| copied.map_err(failed()));
    let records = records
        .and_then(|records| copy.end().map(|()| records).map_err(failed()))
        .inspect_err(|_| copy.abandon())?;
    if target == "-" {
        Page::new().own(format_args!("openexec: copied {records} records")).say();
        return Ok(());
    }
    Page::new().line("made ", format_args!("{target}: {records} records")).print()
}

/// Copies a store whose committed part ends in segment `last` at `end`.
fn all(store: &Directory, place: Place, copy: &mut dyn Copy) -> io::Result<()> {
    let Place { segment: last, offset: end } = place;
    let behind = last.saturating_add(1).min(SEGMENTS_MAX);
    let segment = |number: u32, copy: &mut dyn Copy| {
        let name = segment::name(number);
        let committed = if number < last { SEGMENT_BYTES } else { end * u64::from(number == last) };
        copy.file(&name, SEGMENT_BYTES, &mut |out| {
            for at in (0..SEGMENT_BYTES).step_by(PART_BYTES) {
                let mut part = vec![BLANK; PART_BYTES];
                let known = committed.saturating_sub(at).min(PART_BYTES as u64) as usize;
                // Behind what is committed there may be no file yet.
                if known > 0 {
                    store.read_at(&name, at, &mut part[..known])?;
                }
                out.write_all(&part)?;
            }
            Ok(())
        })?;
        page::progress(u64::from(number) * SEGMENT_BYTES, u64::from(behind) * SEGMENT_BYTES);
        Ok(())
    };
    (2..=behind).try_for_each(|number| segment(number, copy))?;
    let reason = format!("a backup of {}: docs/runbook.md, \"Restored backup\"\n", clock::now());
    copy.file(FROZEN_FILE, reason.len() as u64, &mut |out| out.write_all(reason.as_bytes()))?;
    segment(1, copy)
}

/// Writes what a file holds.
type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// What a copy is made of.
trait Copy {
    /// Adds a file, which is whole before the next one begins.
    fn file(&mut self, name: &str, bytes: u64, fill: Fill) -> io::Result<()>;
    /// All files are there.
    fn end(&mut self) -> io::Result<()>;
    /// Removes what was made.
    fn abandon(&self) {}
}

/// A directory, which has another name until it is whole.
struct Named<'a> {
    parent: Dir,
    name: &'a str,
    unfinished: String,
    dir: Dir,
    owner: Owner,
}

impl<'a> Named<'a> {
    fn begin(target: &'a Path, store: &Dir, owner: Owner) -> Result<Self, Failure> {
        let shown = target.display();
        let name = target.file_name().and_then(OsStr::to_str);
        let name = name.ok_or_else(|| usage(format!("{shown} names no new directory")))?;
        let made = || -> io::Result<Self> {
            let parent = parent(target).canonicalize()?;
            let store = identity(&store.handle().metadata()?);
            for above in parent.ancestors() {
                if identity(&above.metadata()?) == store {
                    return Err(io::Error::other("it lies within the store"));
                }
            }
            let parent = Dir::root(&parent)?;
            // An empty directory gives way once the copy is whole, and nothing else does.
            let place = parent.handle().metadata()?;
            let found = parent.child(name).and_then(|dir| {
                if dir.handle().metadata()?.dev() != place.dev() {
                    return Err(io::Error::other("it is mounted; name a directory in it"));
                }
                Ok(dir.each_name()?.next())
            });
            match found {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(None) => {}
                found => return Err(found.err().unwrap_or(ErrorKind::DirectoryNotEmpty.into())),
            }
            let unfinished = format!(".{name}.{}{TEMPORARY}", hex(&random::bytes()?));
            parent.make(&unfinished, 0o700)?;
            let dir = parent.child(&unfinished);
            let dir = dir.inspect_err(|_| parent.remove_dir(&unfinished).unwrap_or_default())?;
            Ok(Named { parent, name, unfinished, dir, owner })
        };
        made().map_err(Failure::while_doing(format_args!(
            "making {shown}, which must be new or empty"
        )))
    }
}

impl Copy for Named<'_> {
    fn file(&mut self, name: &str, _: u64, fill: Fill) -> io::Result<()> {
        let unfinished = format!("{name}{TEMPORARY}");
        let mut file = self.dir.create(&unfinished, 0o600)?;
        fill(&mut file)?;
        give(&file, self.owner);
        file.sync_all()?;
        self.dir.rename(&unfinished, name)?;
        self.dir.sync()
    }

    fn end(&mut self) -> io::Result<()> {
        give(self.dir.handle(), self.owner);
        // The kernel replaces an empty directory, and nothing else.
        self.parent.rename(&self.unfinished, self.name)?;
        self.parent.sync()
    }

    fn abandon(&self) {
        let _ = self.parent.at(&self.unfinished).and_then(fs::remove_dir_all);
    }
}

/// What root makes belongs to whom the store belongs, where the file system can tell.
fn give(file: &fs::File, (user, group): Owner) {
    if exit::user_id() == 0 {
        let _ = fchown(file, Some(user), Some(group));
    }
}

/// A tar (POSIX `ustar`) on standard output.
struct Tar {
    out: StdoutLock<'static>,
    owner: Owner,
}

fn standard_output() -> Result<StdoutLock<'static>, Failure> {
    #[allow(clippy::disallowed_methods, reason = "a tar goes to a program, never to a terminal")]
    let out = io::stdout();
    match out.is_terminal() {
        true => {
            Err(usage("a tar is not for a terminal; send it to a file: openexec backup - > FILE"))
        }
        false => Ok(out.lock()),
    }
}

impl Copy for Tar {
    fn file(&mut self, name: &str, bytes: u64, fill: Fill) -> io::Result<()> {
        let id = |id: u32| if id > TAR_ID_MAX { 0 } else { id };
        let (user, group, at) = (id(self.owner.0), id(self.owner.1), clock::now().seconds());
        // Name, mode, owner, size and time; the sum counts its own place as spaces; the kind of a file, and the format.
        let before =
            format!("{name:\0<100}0000600\0{user:07o}\0{group:07o}\0{bytes:011o}\0{at:011o}\0");
        let after = format!("0{:\0<100}ustar\x0000", "");
        let sum: u32 = before.bytes().chain([b' '; 8]).chain(after.bytes()).map(u32::from).sum();
        let header = format!("{before}{sum:06o}\0 {after}");
        self.out.write_all(format!("{header:\0<BLOCK_BYTES$}").as_bytes())?;
        fill(&mut self.out)?;
        let blocks = (bytes as usize).next_multiple_of(BLOCK_BYTES);
        self.out.write_all(&vec![0; blocks - bytes as usize])
    }

    /// Two empty blocks.
    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()
    }
}
