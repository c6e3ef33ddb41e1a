//! Records that an operator asks for, `abandon`, `withdraw` and `complete`: each is shown, asked for, and written.
//!
//! The log's service writes it, asked through [`Existing::write`].

use std::collections::HashSet;

use super::ask::ask;
use super::existing::Existing;
use super::options::Options;
use super::waiting::{OWED, Waiting, claim_for_people};
use super::{one_line, own, usage};
use crate::core::hash::{Hash, hex, unhex};
use crate::core::json::canonical;
use crate::core::receipt::{Outcome, names_job};
use crate::core::record::{Completion, Record, Witness};
use crate::core::stage::How;
use crate::executor::requests::{abandoned, withdrawn};
use crate::sys::clock;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;
use crate::sys::visible::quoted;

/// What the store has of an execution.
#[derive(Default)]
struct Found {
    /// The claim's line; `None` where it was never claimed.
    claim: Option<String>,
    receipt: Option<(Outcome, Hash)>,
    left_job: bool,
    completion: Option<(Witness, Outcome, Hash)>,
}

pub fn abandon(options: &Options) -> Result<(), Failure> {
    let id = id_of(options)?;
    let store = &*options.existing(None)?;
    let found = find(store, &id)?;
    if let Some((outcome, _)) = found.receipt {
        let text = format!("it has its receipt already: {}", outcome.name());
        return Err(exit::data(text));
    }
    let page = shown(&found, Page::new().own(OWED))?
        .own("End it as indeterminate, never to be run again?");
    confirm(options, &page, "not abandoned", "look with `pending`, and run `abandon ID --yes`")?;
    store.write(&[abandoned(clock::now(), id).line])?;
    match find(store, &id)?.receipt {
        Some((Outcome::Indeterminate, receipt)) => Page::new()
            .own(format_args!("abandoned: {} is indeterminate", hex(&id)))
            .own(format_args!("receipt    {}", hex(&receipt)))
            .own("A job that it may have left in an outbox directory stays for a worker: to stop that, move it to done/")
            .print(),
        Some((outcome, _)) => {
            let text = format!("it was not abandoned: it has ended meanwhile, {}", outcome.name());
            Err(exit::data(text))
        }
        None => Err(late()),
    }
}

pub fn withdraw(options: &Options) -> Result<(), Failure> {
    let only = match (options.word(), options.has("--all")) {
        (Some(_), false) => Some(id_of(options)?),
        (None, true) => None,
        _ => return Err(usage("withdraw takes the exec_id of a proposal, or --all")),
    };
    let store = &*options.existing(None)?;
    let pending = Waiting::of(store)?.proposals(only);
    let ids = pending.ids();
    if ids.is_empty() {
        return Err(exit::data("no such proposal is pending; `pending` lists those that are"));
    }
    confirm(
        options,
        &pending.page(true).own("Withdraw what is shown, for ever?"),
        "not withdrawn",
        "look with `pending`, and run `withdraw ID --yes`",
    )?;
    let lines: Vec<String> = ids.iter().map(|id| withdrawn(clock::now(), *id).line).collect();
    let written = store.write(&lines);
    let mut ended = HashSet::new();
    store.each_record(&mut |record, _| {
        if let Record::Closed(end) = record
            && end.how == How::Withdrawn
        {
            ended.insert(end.id);
        }
    })?;
    for id in ids.iter().filter(|id| ended.contains(*id)) {
        own(format_args!("withdrawn: {}", hex(id)))?;
    }
    written?;
    let left = Waiting::of(store)?.proposals(only).ids();
    match ids.iter().find(|id| !ended.contains(*id)) {
        None => Ok(()),
        Some(_) if left.iter().any(|id| ids.contains(id)) => Err(late()),
        Some(_) => {
            Err(exit::data("what is not named above was decided meanwhile: look with `pending`"))
        }
    }
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
    let store = &*options.existing(None)?;
    let found = find(store, &id)?;
    let stands = |found: &Found| match (found.receipt, found.completion) {
        (None, _) => {
            Some("it has no receipt yet: it is running, or waits (`abandon` ends it)".to_owned())
        }
        (Some((Outcome::Failed, _)), _) => {
            Some("it has failed: nothing happened, and there is no job".to_owned())
        }
        (Some((Outcome::Executed, _)), _) if !found.left_job => {
            Some("it was executed, and left no job: nothing more can become of it".to_owned())
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
        "look with `history --state open,indeterminate`, and run `complete ID --yes`",
    )?;
    store.write(&[asked.line()])?;
    let found = find(store, &id)?;
    match found.completion {
        Some((.., receipt)) if receipt == asked.receipt => Page::new()
            .own(format_args!("recorded: {} has {}", hex(&id), said(outcome)))
            .own(format_args!("receipt   {}", hex(&receipt)))
            .print(),
        _ => match stands(&found) {
            Some(why) => Err(exit::data(format!("not recorded: {why}"))),
            None => Err(late()),
        },
    }
}

fn late() -> Failure {
    let text = "the service has not done it, or not all of it, within 5 s: it is running it now, is starting, has no \
                room, or hangs; look with `pending`, and ask again";
    Failure::new(exit::IN_USE, text)
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
            "no claim in this store has this exec_id; `pending` lists those that are owed a \
             receipt, and `history --state open,indeterminate` jobs",
        )),
    }
}

fn find(store: &dyn Existing, id: &Hash) -> Result<Found, Failure> {
    let mut found = Found::default();
    store.each_record(&mut |record, line| match record {
        Record::Claim(claim) if claim.id == *id => found.claim = Some(line.to_owned()),
        Record::Receipt(receipt) if receipt.id == *id => {
            found.receipt = Some((receipt.outcome, receipt.receipt));
            found.left_job = names_job(&receipt.result);
        }
        Record::Completion(said) if said.id == *id => {
            found.completion = Some((said.by, said.outcome, said.receipt));
        }
        _ => {}
    })?;
    Ok(found)
}

/// Asks, where the caller does not answer for it.
fn confirm(options: &Options, page: &Page, no: &'static str, instead: &str) -> Result<(), Failure> {
    if options.has("--yes") { Ok(()) } else { ask(page, no, instead) }
}
