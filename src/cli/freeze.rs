//! `openexec freeze` and `unfreeze`, and what the end of a stop lets go on.

use super::ask::{ask, can_ask};
use super::options::Options;
use super::waiting::Waiting;
use super::{one_line, own};
use crate::sys::exit::Failure;
use crate::sys::page;

pub fn freeze(options: &Options) -> Result<(), Failure> {
    let reason = one_line(options, "--reason")?;
    own(options.existing(None)?.freeze(reason)?)
}

pub fn unfreeze(options: &Options) -> Result<(), Failure> {
    let store = options.existing(None)?;
    if store.is_frozen()? {
        // As if the stop were over.
        release(&Waiting::judged(store.as_ref(), false)?.released(), options.has("--yes"))?;
    }
    own(if store.unfreeze()? { "unfrozen: executions go on" } else { "it was not frozen" })
}

/// Shows the claims that will be run again and the proposals that may execute, and asks.
fn release(waiting: &Waiting, yes: bool) -> Result<(), Failure> {
    if waiting.is_empty() {
        return Ok(());
    }
    if yes || !can_ask() {
        waiting.page(page::stdout_is_terminal()).print()?;
    }
    if yes {
        // The caller answers for it.
        return Ok(());
    }
    ask(
        &waiting.page(true).own("Complete these claims and execute these proposals now?"),
        "still frozen: nothing was released",
        "run `unfreeze --yes`, `abandon` for a claim that must not be completed, or `withdraw` for a proposal that \
         must not execute",
    )
}
