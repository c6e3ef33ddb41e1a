//! What waits in a store: proposals that are pending, and claims that are owed a receipt. `pending` and `unfreeze` list
//! them.
//!
//! On a terminal they are a text for people; otherwise one canonical JSON object a line, of which
//! `openexec-approve sign` takes those of proposals. Those of claims have `"owed":true` and are no requests.

use super::approved::{self, Approved};
use super::existing::{Existing, say_tail};
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::line::LineWriter;
use crate::core::receipt;
use crate::core::record::{Claim, Proposal};
use crate::sys::clock;
use crate::sys::exit::{self, Failure};
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// Before such a claim.
pub const OWED: &str = "owed a receipt: claimed, and cut short by a crash, or running";

pub struct Waiting {
    /// Proposals that are pending, the oldest first.
    asked: Vec<Asked>,
    /// The lines of claims without a receipt, the oldest first.
    owed: Vec<String>,
    /// Proposals that have enough, where the configuration is known.
    approved: Option<Approved>,
}

/// A proposal that is pending, with the lines of the approvals that were recorded of it.
pub struct Asked {
    id: Hash,
    line: String,
    is_asynchronous: bool,
    pub approvals: Vec<String>,
}

impl Asked {
    pub fn record(&self) -> Option<Proposal<'_>> {
        let asked = Proposal::read(&self.line)?;
        Some(Proposal { asynchronous: self.is_asynchronous, ..asked })
    }
}

impl Waiting {
    /// What waits now: a proposal whose time is over is none, whether or not a record says so.
    pub fn of(store: &dyn Existing) -> Result<Self, Failure> {
        let (state, tail) = store.each(&mut |_| Ok(()))?;
        tail.into_iter().for_each(say_tail);
        let line = |at| store.line(at).map_err(Failure::while_doing("reading a record"));
        // What is shown is read again: it must be what was found.
        let changed = || exit::data("a record changed while it was read");
        let mut owed = Vec::new();
        for (at, (id, _)) in state.owed() {
            let line = line(at)?;
            Claim::read(&line).filter(|claim| claim.id == id).ok_or_else(changed)?;
            owed.push(line);
        }
        let (mut asked, now) = (Vec::new(), clock::now());
        for (id, pending) in state.proposals.oldest_first() {
            if pending.expires > now {
                let approvals = state.proposals.approvals(&id).iter().map(|at| line(*at));
                let (approvals, is_asynchronous) =
                    (approvals.collect::<Result<_, _>>()?, pending.asynchronous);
                let line = line(pending.position)?;
                Proposal::read(&line).filter(|asked| asked.id == id).ok_or_else(changed)?;
                asked.push(Asked { id, line, is_asynchronous, approvals });
            }
        }
        Ok(Waiting { asked, owed, approved: None })
    }

    /// The same, and which proposals have enough approvals, if our settings are the service's: as of now, or as if the
    /// stop were over.
    pub fn judged(store: &dyn Existing, is_frozen: bool) -> Result<Self, Failure> {
        let mut waiting = Self::of(store)?;
        // Demo mode's settings know of no approvals, and a store of clawshield mode may be seen with them.
        if let Ok(config) = store.config()
            && config.policy.approvals.is_some()
        {
            let frozen = is_frozen.then_some("");
            let judged = approved::judge(store, &config.policy, &waiting.asked, frozen)?;
            waiting.approved = Some(judged);
        }
        Ok(waiting)
    }

    /// The claims, then the proposals: the newest of these is the last line.
    pub fn print(&self) -> Result<(), Failure> {
        let is_terminal = page::stdout_is_terminal();
        self.page(is_terminal).print()?;
        if is_terminal && self.asked.is_empty() {
            return super::own("nothing waits for an approval");
        }
        Ok(())
    }

    /// Without what no end of a stop lets go: the claims stay, and the proposals that execute by themselves and are
    /// approved; all of these, where nobody can tell which are.
    pub fn released(mut self) -> Self {
        let approved = self.approved.take();
        let is_approved = |id: &Hash| approved.as_ref().is_none_or(|known| known.contains_key(id));
        self.asked.retain(|asked| asked.is_asynchronous && is_approved(&asked.id));
        self
    }

    /// The proposals alone: of them all, or that of this id.
    pub fn proposals(mut self, only: Option<Hash>) -> Self {
        self.owed.clear();
        self.asked.retain(|asked| only.is_none_or(|only| only == asked.id));
        self
    }

    /// The ids of the proposals, the oldest first.
    pub fn ids(&self) -> Vec<Hash> {
        self.asked.iter().map(|asked| asked.id).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.asked.is_empty()
    }

    /// The claims, then the proposals.
    pub fn page(&self, is_terminal: bool) -> Page {
        self.owed_page(is_terminal).and(self.asked_page(is_terminal))
    }

    fn owed_page(&self, is_terminal: bool) -> Page {
        let claims = self.owed.iter().filter_map(|line| Claim::read(line));
        claims.fold(Page::new(), |page, claim| match is_terminal {
            true => claim_for_people(page.own(OWED), &claim),
            false => page.json(&claim_for_programs(&claim)),
        })
    }

    fn asked_page(&self, is_terminal: bool) -> Page {
        let proposals = self.asked.iter().filter_map(Asked::record);
        proposals.fold(Page::new(), |page, asked| {
            let blocked = self.approved.as_ref().and_then(|known| *known.get(&asked.id)?);
            match is_terminal {
                true => proposal_for_people(page, &asked, blocked),
                false => page.json(&proposal_for_programs(&asked, blocked)),
            }
        })
    }
}

fn proposal_for_programs(asked: &Proposal, blocked: Option<&str>) -> String {
    LineWriter::start()
        .with("action", &asked.action)
        .with("action_hash", &receipt::action_hash(asked.action, &asked.payload))
        .with("asked_at", &asked.at)
        .with("asynchronous", &asked.asynchronous)
        .given("blocked", blocked)
        .with("caller", &asked.caller)
        .with("expires_at", &asked.expires)
        .with("id", &asked.id)
        .with("justification", &asked.justification)
        .with("nonce", &asked.nonce)
        .with("payload", &asked.payload)
        .with("state", &"pending")
        .end()
}

fn claim_for_programs(claim: &Claim) -> String {
    LineWriter::start()
        .with("action", &claim.action)
        .with("at", &claim.at)
        .with("id", &claim.id)
        .with("keys", &claim.keys)
        .with("nonce", &claim.nonce)
        .with("owed", &true)
        .with("payload", &claim.payload)
        .end()
}

fn proposal_for_people(page: Page, asked: &Proposal, blocked: Option<&str>) -> Page {
    let hash = hex(&receipt::action_hash(asked.action, &asked.payload));
    let page = page
        .own(format_args!("time         {}", asked.at))
        .own(format_args!("expires      {}", asked.expires))
        .line("action       ", quoted(asked.action));
    let page = payload_of(page, &asked.payload)
        .own(format_args!("action_hash  {hash}"))
        .line("nonce        ", quoted(&asked.nonce));
    let said = [("caller       ", &asked.caller), ("it says      ", &asked.justification)];
    let said = said.into_iter().filter_map(|(label, text)| Some((label, text.as_deref()?)));
    let page = said.fold(page, |page, (label, text)| page.line(label, quoted(text)));
    let approved = blocked.map(|blocked| format!("approved, and blocked by {blocked}"));
    approved
        .into_iter()
        .fold(page, |page, text| page.own(text))
        .own(format_args!("exec_id      {}\n", hex(&asked.id)))
}

pub fn claim_for_people(page: Page, claim: &Claim) -> Page {
    let page = page
        .own(format_args!("time         {}", claim.at))
        .line("action       ", quoted(claim.action));
    payload_of(page, &claim.payload)
        .line("nonce        ", quoted(&claim.nonce))
        .line("approved by  ", claim.keys.0)
        .own(format_args!("exec_id      {}\n", hex(&claim.id)))
}

fn payload_of(page: Page, payload: &str) -> Page {
    let value = strict::read_own(payload.as_bytes()).unwrap_or_default();
    page.own("payload").value(&value)
}
