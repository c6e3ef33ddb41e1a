//! The commands that ask the service about proposals: `show`, `approve`, `reject`.

use openexec::core::hash::{Hash, hex};
use openexec::core::json::strict;
use openexec::core::time::Time;
use openexec::sys::clock;
use openexec::sys::exit::Failure;

use crate::http::Service;
use crate::message::Unsigned;
use crate::offline::{APPROVAL_TTL_SECONDS, APPROVAL_TTL_SECONDS_MAX, confirm, life, matches, ttl};
use crate::options::Options;
use crate::outside::Signer;
use crate::proposal::{self, Proposal};
use crate::screen::Screen;
use crate::terminal::{self, Answer};
use crate::waiting::waiting;
use crate::{refused, usage};

/// The service refuses longer ones.
const JUSTIFICATION_CHARACTERS_MAX: usize = 500;

pub(crate) fn show(options: &Options) -> Result<(), Failure> {
    let id = one(options)?;
    let service = Service::of(options)?;
    let proposal = Proposal::fetch(&service, id)?;
    let schema = proposal::schema(&service, &proposal.action);
    proposal.screen(schema.as_ref())?.print()
}

fn one(options: &Options) -> Result<Hash, Failure> {
    proposal::id_of(options.word().ok_or_else(|| usage("give the ID of a proposal"))?)
}

pub(crate) fn approve(options: &Options) -> Result<(), Failure> {
    let ttl = ttl(options)?;
    match options.word() {
        Some(id) => {
            let (id, service) = (proposal::id_of(id)?, Service::of(options)?);
            let mut signer = Signer::of(options)?.ready()?;
            let proposal = pending(&service, id, options)?;
            let (screen, unsigned) = approval(&service, &proposal, &mut signer, ttl)?;
            confirm(options, screen, ("Approve ", &proposal.action))?;
            hand_in(&service, "/approvals", &signer, unsigned, &proposal)
        }
        None if options.has("--yes") => {
            Err(usage("--yes needs the ID of a proposal that you have looked at"))
        }
        None => each(options, ttl),
    }
}

/// All that wait, one after another. What is wrong with one costs that one alone, and is the exit code at the end.
fn each(options: &Options, ttl: Option<u32>) -> Result<(), Failure> {
    let service = Service::of(options)?;
    let mut signer = Signer::of(options)?.ready()?;
    if !matches!(signer, Signer::Key(_)) {
        return Err(usage("with --print-message or --signature give the ID of a proposal"));
    }
    let waiting = waiting(&service)?;
    let (count, mut failed) = (waiting.len(), None);
    let mut left = 0;
    for (index, id) in waiting.iter().map(|listed| listed.id).enumerate() {
        let proposal = Proposal::fetch_one(&service, id)?;
        let shown = proposal.and_then(|proposal| {
            // Somebody else was quicker.
            if proposal.state() != "pending" {
                return Ok(None);
            }
            of_tenant(&proposal, options)?;
            let (screen, unsigned) = approval(&service, &proposal, &mut signer, ttl)?;
            Ok(Some((proposal, screen, unsigned)))
        });
        let decided = match shown {
            Ok(None) => continue,
            Ok(Some((proposal, screen, unsigned))) => {
                let question = format!("{}? ({} of {count})", proposal.action, index + 1);
                let screen = screen.line("", "").line("Approve ", question);
                match terminal::ask(&screen, "Type yes, no or stop: ")? {
                    Answer::Yes => hand_in(&service, "/approvals", &signer, unsigned, &proposal),
                    Answer::No => {
                        left += 1;
                        terminal::print(
                            "not signed: it still waits; only `reject` says no for good\n",
                        )
                    }
                    Answer::Stop => {
                        terminal::print("stopped: this one and those behind it still wait\n")?;
                        return failed.map_or(Ok(()), Err);
                    }
                }
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = decided {
            let said = format!("proposal {}: {}", hex(&id), failure.text);
            Screen::new().line("openexec-approve: ", said).say();
            // It is said already.
            failed.get_or_insert(Failure::new(failure.code, ""));
        }
    }
    terminal::print(&match (count, left) {
        (0, _) => "nothing waits for an approval\n".to_owned(),
        (_, 0) => "that was all\n".to_owned(),
        (_, left) => format!("that was all; not signed: {left}\n"),
    })?;
    failed.map_or(Ok(()), Err)
}

pub(crate) fn reject(options: &Options) -> Result<(), Failure> {
    let why = options.required("--justification")?;
    if !is_justification(why) {
        return Err(usage(format!(
            "--justification takes 1 to {JUSTIFICATION_CHARACTERS_MAX} characters"
        )));
    }
    let (id, service) = (one(options)?, Service::of(options)?);
    let mut signer = Signer::of(options)?.ready()?;
    let proposal = pending(&service, id, options)?;
    let unsigned = signer
        .message(|| Unsigned::rejection(proposal.tenant()?, &proposal.id, clock::now(), why))?;
    matches(&unsigned, proposal.tenant()?, "exec_id", &hex(&proposal.id))?;
    let schema = proposal::schema(&service, &proposal.action);
    let screen = proposal
        .screen(schema.as_ref())?
        .text("tenant   ", proposal.tenant()?)
        .text("because  ", unsigned.field("justification"))
        .line("key      ", signer.key().fingerprint());
    confirm(options, screen, ("Reject for ever ", &proposal.action))?;
    hand_in(&service, "/rejections", &signer, unsigned, &proposal)
}

pub(crate) fn is_justification(why: &str) -> bool {
    !why.is_empty() && why.chars().count() <= JUSTIFICATION_CHARACTERS_MAX
}

/// A proposal that can still be decided.
fn pending(service: &Service, id: Hash, options: &Options) -> Result<Proposal, Failure> {
    let proposal = Proposal::fetch(service, id)?;
    of_tenant(&proposal, options)?;
    match proposal.state() {
        "pending" => Ok(proposal),
        state => Err(refused(format!("the proposal is no longer pending: it is {state}"))),
    }
}

fn of_tenant(proposal: &Proposal, options: &Options) -> Result<(), Failure> {
    match options.get("--tenant") {
        Some(tenant) if tenant != proposal.tenant()? => {
            Err(refused(format!("the proposal is of another tenant: {:?}", proposal.tenant()?)))
        }
        _ => Ok(()),
    }
}

/// What is shown of a proposal, and the approval of it: of its exec_id, so that it holds for nothing else.
fn approval(
    service: &Service,
    proposal: &Proposal,
    signer: &mut Signer,
    ttl: Option<u32>,
) -> Result<(Screen, Unsigned), Failure> {
    let now = clock::now();
    let expires = expiry(proposal, ttl, now);
    let unsigned =
        signer.message(|| Unsigned::approval(proposal.tenant()?, &proposal.id, now, expires))?;
    matches(&unsigned, proposal.tenant()?, "action_hash", &hex(&proposal.id))?;
    let schema = proposal::schema(service, &proposal.action);
    let screen = proposal
        .screen(schema.as_ref())?
        .text("tenant   ", proposal.tenant()?)
        .line("expires  ", life(&unsigned))
        .line("signs    ", hex(&proposal.id))
        .line("key      ", signer.key().fingerprint());
    Ok((screen, unsigned))
}

/// Until when an approval of it holds that is made now.
pub(crate) fn expiry(proposal: &Proposal, ttl: Option<u32>, now: Time) -> Time {
    let longest = proposal.ttl_max().unwrap_or(u64::MAX).min(APPROVAL_TTL_SECONDS_MAX.into());
    let longest = now.plus_seconds(i64::try_from(longest).unwrap_or(i64::MAX));
    match (ttl, proposal.expires_at()) {
        (Some(seconds), _) => now.plus_seconds(seconds.into()),
        (None, Some(expires)) => expires.min(longest),
        (None, None) => now.plus_seconds(APPROVAL_TTL_SECONDS.into()).min(longest),
    }
}

/// Signs it and gives it to the service; says what became of the proposal.
fn hand_in(
    service: &Service,
    path: &str,
    signer: &Signer,
    unsigned: Unsigned,
    proposal: &Proposal,
) -> Result<(), Failure> {
    let Some(statement) = signer.sign(unsigned)? else { return Ok(()) };
    let state = deliver(service, path, statement, &proposal.id)?;
    let is_pending = state == "pending";
    Screen::new().line("proposal ", hex(&proposal.id)).line("state    ", state).print()?;
    // What it still waits for only helps, and may take its time: it was handed in.
    if is_pending && let Ok(now) = Proposal::fetch(service, proposal.id) {
        now.waits_for().print()?;
    }
    Ok(())
}

/// Gives a signed statement to the service: the state that its proposal has then.
pub(crate) fn deliver(
    service: &Service,
    path: &str,
    statement: String,
    id: &Hash,
) -> Result<String, Failure> {
    let answer = service.post(path, statement)?;
    if !(200..300).contains(&answer.status) {
        return Err(answer.refusal());
    }
    let said = strict::read_own(&answer.body).unwrap_or_default();
    match (said["id"].as_str(), proposal::word(&said["state"])) {
        (Some(of), state) if of == hex(id) && !state.is_empty() => Ok(state.to_owned()),
        _ => Err(refused("the service took it, and answers with something else than its state")),
    }
}
