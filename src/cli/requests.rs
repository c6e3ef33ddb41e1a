//! Records that an operator asks for, `abandon`, `withdraw` and `complete`: each is shown, asked for, and written.
//!
//! The service writes it, asked by a file in the store's directory, whose names may be hostile to whoever
//! runs this; without a service this command takes the lock and writes the record itself.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::ask;
use super::existing::Existing;
use super::options::Options;
use super::waiting::{OWED, Waiting, claim_for_people};
use super::{one_line, usage};
use crate::core::hash::{Hash, hex, unhex};
use crate::core::json::canonical;
use crate::core::limits::SMALL_FILE_BYTES_MAX;
use crate::core::receipt::Outcome;
use crate::core::record::{Completion, Record, Witness};
use crate::core::stage::How;
use crate::executor::requests::{REQUEST_FILE, abandoned, grant, withdrawn};
use crate::serve::config::Config;
use crate::serve::opening::{lock_failure, mode_must_match, open_store};
use crate::store::open::identity;
use crate::store::{Batch, GEOMETRY, Store};
use crate::sys::clock;
use crate::sys::dir::Dir;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;
use crate::sys::random;
use crate::sys::visible::quoted;

/// How long the service has for it.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The service reads what an operator writes.
const REQUEST_MODE: u32 = 0o644;

/// A request file of so many records is a small file.
const LINES_A_REQUEST: usize = 100;

/// What the store has of an execution.
#[derive(Default)]
struct Found {
    /// The claim's line; `None` where it was never claimed.
    claim: Option<String>,
    receipt: Option<(Outcome, Hash)>,
    completion: Option<(Witness, Outcome, Hash)>,
}

pub fn abandon(options: &Options) -> Result<(), Failure> {
    let id = id_of(options)?;
    let store = Existing::open(&options.environment()?)?;
    let found = find(&store, &id)?;
    if let Some((outcome, _)) = found.receipt {
        let text = format!("it has its receipt already: {}", outcome.name());
        return Err(exit::data(text));
    }
    let page = shown(&found, Page::new().own(OWED))?
        .own("End it as indeterminate, never to be run again?");
    confirm(
        options,
        &page,
        "not abandoned: it is still owed a receipt",
        "not abandoned: there is no terminal to ask on; look with `openexec pending`, and run \
         `openexec abandon --yes`",
    )?;
    write(options, &store, &[abandoned(clock::now(), id).line])?;
    match find(&store, &id)?.receipt {
        Some((Outcome::Indeterminate, receipt)) => Page::new()
            .own(format_args!("abandoned: {} is indeterminate", hex(&id)))
            .own(format_args!("receipt    {}", hex(&receipt)))
            .print(),
        Some((outcome, _)) => {
            let text = format!("it was not abandoned: it has ended meanwhile, {}", outcome.name());
            Err(exit::data(text))
        }
        None => Err(Failure::new(
            exit::IN_USE,
            "the service has not ended it within 5 s: it is running it now, or starting, or hangs; look \
             with `openexec pending`, and ask again",
        )),
    }
}

pub fn withdraw(options: &Options) -> Result<(), Failure> {
    let only = match (options.word(), options.has("--all")) {
        (Some(_), false) => Some(id_of(options)?),
        (None, true) => None,
        _ => return Err(usage("withdraw takes the exec_id of a proposal, or --all")),
    };
    let store = Existing::open(&options.environment()?)?;
    let pending = Waiting::of(&store)?.proposals(only);
    let ids = pending.ids();
    if ids.is_empty() {
        return Err(exit::data(
            "no such proposal is pending; `openexec pending` lists those that are",
        ));
    }
    confirm(
        options,
        &pending.page(true).own("Withdraw what is shown, for ever?"),
        "not withdrawn",
        "not withdrawn: there is no terminal to ask on; look with `openexec pending`, and run \
         `openexec withdraw --yes`",
    )?;
    let lines: Vec<String> = ids.iter().map(|id| withdrawn(clock::now(), *id).line).collect();
    write(options, &store, &lines)?;
    let mut ended = HashSet::new();
    store.each_record(&mut |record, _| {
        if let Record::Closed(end) = record
            && end.how == How::Withdrawn
        {
            ended.insert(end.id);
        }
    })?;
    let page = ids
        .iter()
        .filter(|id| ended.contains(*id))
        .fold(Page::new(), |page, id| page.own(format_args!("withdrawn: {}", hex(id))));
    page.print()?;
    let left = Waiting::of(&store)?.proposals(only).ids().iter().any(|id| ids.contains(id));
    if left {
        return Err(Failure::new(
            exit::IN_USE,
            "the service has not withdrawn all within 5 s: it is starting, has no room, or hangs; ask again",
        ));
    }
    if ids.iter().all(|id| ended.contains(id)) {
        return Ok(());
    }
    Err(exit::data("what is not named above was decided meanwhile: look with `openexec pending`"))
}

pub fn complete(options: &Options) -> Result<(), Failure> {
    let id = id_of(options)?;
    let outcome = match options.get("--outcome") {
        Some("executed") => Outcome::Executed,
        Some("failed") => Outcome::Failed,
        _ => return Err(usage("--outcome takes executed or failed: one of them is needed")),
    };
    let note = one_line(options, "--note")?;
    if note.is_empty() {
        return Err(usage("--note is needed: how it is known"));
    }
    let result = canonical::to_string(&serde_json::json!({ "note": note }));
    let asked = Completion::of(clock::now(), id, Witness::Operator, outcome, &result);
    let store = Existing::open(&options.environment()?)?;
    let found = find(&store, &id)?;
    let stands = |found: &Found| match (found.receipt, found.completion) {
        (None, _) => Some(
            "it has no receipt yet: it is running, or waits (`openexec abandon` ends it)"
                .to_owned(),
        ),
        (Some((Outcome::Failed, _)), _) => {
            Some("it has failed: nothing happened, and there is no job".to_owned())
        }
        (_, Some((by, outcome @ (Outcome::Executed | Outcome::Failed), _))) => {
            Some(format!("what became of it is recorded: {}, by the {}", outcome.name(), by.name()))
        }
        _ => None,
    };
    let page = shown(&found, Page::new())?;
    if let Some(why) = stands(&found) {
        return Err(exit::data(why));
    }
    let page = page
        .line("your note    ", quoted(note))
        .own(format_args!("Record, on your word and for ever, that it has {}?", said(outcome)));
    confirm(
        options,
        &page,
        "not recorded",
        "not recorded: there is no terminal to ask on; look with `openexec history --state \
         open,indeterminate`, and run `openexec complete --yes`",
    )?;
    write(options, &store, &[asked.line()])?;
    let found = find(&store, &id)?;
    match found.completion {
        Some((.., receipt)) if receipt == asked.receipt => Page::new()
            .own(format_args!("recorded: {} has {}", hex(&id), said(outcome)))
            .own(format_args!("receipt   {}", hex(&receipt)))
            .print(),
        _ => match stands(&found) {
            Some(why) => Err(exit::data(format!("not recorded: {why}"))),
            None => Err(Failure::new(
                exit::IN_USE,
                "the service has not recorded it within 5 s: it is starting, has no room, or hangs; ask again",
            )),
        },
    }
}

fn said(outcome: Outcome) -> &'static str {
    if outcome == Outcome::Executed { "been executed" } else { "failed" }
}

fn id_of(options: &Options) -> Result<Hash, Failure> {
    let id = options.word().and_then(unhex);
    id.ok_or_else(|| usage("it takes the exec_id, 64 hexadecimal digits"))
}

fn shown(found: &Found, page: Page) -> Result<Page, Failure> {
    match found.claim.as_deref().and_then(Record::read) {
        Some(Record::Claim(claim)) => Ok(claim_for_people(page, &claim)),
        _ => Err(exit::data(
            "no claim in this store has this exec_id; `openexec pending` lists those that are owed a \
             receipt",
        )),
    }
}

fn find(store: &Existing, id: &Hash) -> Result<Found, Failure> {
    let mut found = Found::default();
    store.each_record(&mut |record, line| match record {
        Record::Claim(claim) if claim.id == *id => found.claim = Some(line.to_owned()),
        Record::Receipt(receipt) if receipt.id == *id => {
            found.receipt = Some((receipt.outcome, receipt.receipt));
        }
        Record::Completion(said) if said.id == *id => {
            found.completion = Some((said.by, said.outcome, said.receipt));
        }
        _ => {}
    })?;
    Ok(found)
}

fn confirm(
    options: &Options,
    page: &Page,
    no: &'static str,
    nobody: &'static str,
) -> Result<(), Failure> {
    if options.has("--yes") { Ok(()) } else { ask(page, no, nobody) }
}

/// Has the records written, if they may be: who asked looks afterwards.
fn write(options: &Options, store: &Existing, lines: &[String]) -> Result<(), Failure> {
    let directory = Directory::open(&store.path)
        .map_err(|error| Failure::io(format!("opening {}", store.path.display()), &error))?;
    match directory.lock(false) {
        Ok(()) => write_here(directory, &options.config()?, lines),
        Err(TryLockError::WouldBlock) => {
            lines.chunks(LINES_A_REQUEST).try_for_each(|some| ask_service(store, &some.join("\n")))
        }
        Err(error) => Err(lock_failure(&store.path, &error)),
    }
}

/// Without a service, and as it would: by its settings, so that nothing is written to a store that is of
/// another mode or behind its checkpoint file. No file is made that the service could not open later.
fn write_here(directory: Directory, config: &Config, lines: &[String]) -> Result<(), Failure> {
    let shown = directory.path().display().to_string();
    if let Ok(identity) = identity(&directory, GEOMETRY) {
        mode_must_match(&config.store, &identity, config.policy.mode())?;
    }
    let (mut store, ..) = open_store(Arc::new(directory), config.guard.as_ref())?;
    let mut batch = Batch::default();
    for asked in lines.iter().filter_map(|line| Record::read(line)) {
        let granted = grant(&store, &asked, Witness::Operator, clock::now())
            .map_err(|error| Failure::io(format!("reading {shown}"), &error))?;
        granted.iter().for_each(|granted| batch.push(&granted.line));
    }
    if batch.is_empty() {
        return Ok(());
    }
    store.append(&batch).map_err(|poisoned| {
        Failure::new(exit::INPUT_OUTPUT, format!("the store {shown} failed: {poisoned}"))
    })
}

/// Leaves the request, and waits until the service has taken it away.
fn ask_service(store: &Existing, line: &str) -> Result<(), Failure> {
    let (dir, text) = (&store.dir, format!("{line}\n"));
    let failed = |error: io::Error| store.failed("writing", REQUEST_FILE, &error);
    let deadline = Instant::now() + PATIENCE;
    // Somebody else's request is waited for, never replaced.
    let is_placed = in_time(deadline, || match place(dir, &text) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        placed => placed.map(|()| true),
    });
    if !is_placed.map_err(failed)? {
        let shown = store.path.join(REQUEST_FILE);
        let text = format!(
            "the service has not taken {} away; if it is no request of another `openexec`, remove it",
            shown.display()
        );
        return Err(Failure::new(exit::IN_USE, text));
    }
    if !in_time(deadline, || Ok(dir.look(REQUEST_FILE)?.is_none())).map_err(failed)? {
        // Nothing is to happen later that was said not to have happened.
        let left = dir.read(REQUEST_FILE).and_then(|found| found.read(SMALL_FILE_BYTES_MAX));
        if left.is_ok_and(|left| left.as_deref() == Some(text.as_bytes())) {
            let _ = dir.remove(REQUEST_FILE);
        }
    }
    Ok(())
}

/// Looks until it is done; false where the time is over.
fn in_time(deadline: Instant, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    while !look()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(true)
}

/// Makes the request whole under a name of its own, then gives it the name that the service knows.
fn place(dir: &Dir, text: &str) -> io::Result<()> {
    let unfinished = format!("{REQUEST_FILE}.{}.tmp", hex(&random::bytes()?));
    dir.make_whole(&unfinished, text.as_bytes(), 0o600, Some(REQUEST_MODE))?;
    let placed = dir.link(&unfinished, REQUEST_FILE);
    let _ = dir.remove(&unfinished);
    placed
}
