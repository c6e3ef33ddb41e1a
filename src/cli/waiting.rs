//! What waits in a store: proposals that are pending, and claims that are owed a receipt. `pending` and `unfreeze` list
//! them.
//!
//! On a terminal they are a text for people; otherwise one canonical JSON object a line, of which
//! `openexec-approve sign` takes those of proposals. Those of claims have `"owed":true` and are no requests.

use std::collections::HashMap;

use super::approved::{self, Approved, Recorded};
use super::existing::Existing;
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::limits::RECORD_DEPTH_MAX;
use crate::core::line::LineWriter;
use crate::core::receipt;
use crate::core::record::{Claim, Proposal, Record};
use crate::sys::clock;
use crate::sys::exit::Failure;
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// Before such a claim.
pub const OWED: &str = "owed a receipt: claimed, and cut short by a crash, or running";

#[derive(Default)]
pub struct Waiting {
    /// Proposals that are pending.
    asked: Lines,
    /// Claims without a receipt.
    owed: Lines,
    /// Approvals that were recorded of these proposals.
    recorded: Recorded,
    /// Proposals that have enough, where the configuration is known.
    approved: Option<Approved>,
}

/// Records, each once for its id.
#[derive(Default)]
struct Lines {
    count: u64,
    /// Each with its number, in the order of the store.
    by_id: HashMap<Hash, (u64, String)>,
}

impl Lines {
    fn put(&mut self, id: Hash, line: String) {
        self.count += 1;
        self.by_id.insert(id, (self.count, line));
    }

    /// In the order of the store.
    fn sorted(&self) -> Vec<(&Hash, &str)> {
        let mut all: Vec<_> = self.by_id.iter().collect();
        all.sort_unstable_by_key(|(_, (number, _))| *number);
        all.into_iter().map(|(id, (_, line))| (id, line.as_str())).collect()
    }

    fn page(&self, is_terminal: bool, approved: &Approved) -> Page {
        let blocked = |asked: &Proposal| approved.get(&asked.id).copied().flatten();
        self.sorted().into_iter().fold(Page::new(), |page, (_, line)| match Record::read(line) {
            Some(Record::Proposal(asked)) if is_terminal => {
                proposal_for_people(page, &asked, blocked(&asked))
            }
            Some(Record::Proposal(asked)) => {
                page.json(&proposal_for_programs(&asked, blocked(&asked)))
            }
            Some(Record::Claim(claim)) if is_terminal => claim_for_people(page.own(OWED), &claim),
            Some(Record::Claim(claim)) => page.json(&claim_for_programs(&claim)),
            _ => page,
        })
    }
}

impl Waiting {
    /// What waits now: a proposal whose time is over is none, whether or not a record says so.
    pub fn of(store: &dyn Existing) -> Result<Self, Failure> {
        let mut waiting = Waiting::default();
        store.each_record(&mut |record, line| waiting.take(record, line))?;
        let now = clock::now();
        waiting.asked.by_id.retain(|_, (_, line)| {
            !matches!(Record::read(line), Some(Record::Proposal(asked)) if asked.expires <= now)
        });
        Ok(waiting)
    }

    /// The same, and which proposals have enough approvals, if our settings are the service's: as of now, or as if the
    /// stop were over.
    pub fn judged(store: &dyn Existing, is_frozen: bool) -> Result<Self, Failure> {
        let mut waiting = Self::of(store)?;
        // Demo mode's settings know of no approvals, and a store of clawshield mode may be seen with them.
        if let Ok(config) = store.config()
            && config.policy.approvals.is_some()
        {
            let lines: Vec<_> = waiting.asked.sorted().into_iter().map(|(_, line)| line).collect();
            let frozen = is_frozen.then_some("");
            let judged = approved::judge(store, &config.policy, &lines, &waiting.recorded, frozen);
            waiting.approved = Some(judged?);
        }
        Ok(waiting)
    }

    fn take(&mut self, record: &Record, line: &str) {
        match record {
            Record::Proposal(asked) => self.asked.put(asked.id, line.to_owned()),
            Record::Asynchronous(record) => {
                if let Some((_, line)) = self.asked.by_id.get_mut(&record.id)
                    && let Some(Record::Proposal(asked)) = Record::read(line)
                {
                    *line = Proposal { asynchronous: true, ..asked }.line();
                }
            }
            Record::Approval(record) => {
                self.recorded.entry(record.id).or_default().push(line.to_owned());
            }
            Record::Rejection(record) => self.over(&record.id),
            Record::Closed(record) => self.over(&record.id),
            Record::Claim(claim) => {
                self.over(&claim.id);
                self.owed.put(claim.id, line.to_owned());
            }
            Record::Receipt(receipt) => drop(self.owed.by_id.remove(&receipt.id)),
            _ => {}
        }
    }

    fn over(&mut self, id: &Hash) {
        self.asked.by_id.remove(id);
        self.recorded.remove(id);
    }

    /// The proposals, then the claims.
    pub fn print(&self) -> Result<(), Failure> {
        let is_terminal = page::stdout_is_terminal();
        self.asked_page(is_terminal).and(self.owed.page(is_terminal, &Approved::new())).print()?;
        if is_terminal && self.asked.by_id.is_empty() {
            return super::own("nothing waits for an approval");
        }
        Ok(())
    }

    /// Without what no end of a stop lets go: the claims stay, and the proposals that execute by themselves and are
    /// approved; all of these, where nobody can tell which are.
    pub fn released(mut self) -> Self {
        let approved = self.approved.take();
        let goes = |line: &mut String| {
            matches!(Record::read(line), Some(Record::Proposal(asked))
            if asked.asynchronous && approved.as_ref().is_none_or(|known| known.contains_key(&asked.id)))
        };
        self.asked.by_id.retain(|_, (_, line)| goes(line));
        self
    }

    /// The proposals alone: of them all, or that of this id.
    pub fn proposals(mut self, only: Option<Hash>) -> Self {
        self.owed = Lines::default();
        self.asked.by_id.retain(|id, _| only.is_none_or(|only| only == *id));
        self
    }

    /// The ids of the proposals, the oldest first.
    pub fn ids(&self) -> Vec<Hash> {
        self.asked.sorted().into_iter().map(|(id, _)| *id).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.owed.by_id.is_empty() && self.asked.by_id.is_empty()
    }

    /// The claims, then the proposals.
    pub fn page(&self, is_terminal: bool) -> Page {
        self.owed.page(is_terminal, &Approved::new()).and(self.asked_page(is_terminal))
    }

    fn asked_page(&self, is_terminal: bool) -> Page {
        self.asked.page(is_terminal, self.approved.as_ref().unwrap_or(&Approved::new()))
    }
}

fn proposal_for_programs(asked: &Proposal, blocked: Option<&str>) -> String {
    LineWriter::start()
        .text("action", asked.action)
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
        .text("state", "pending")
        .end()
}

fn claim_for_programs(claim: &Claim) -> String {
    LineWriter::start()
        .text("action", claim.action)
        .text("at", &claim.at.to_string())
        .text("exec_id", &hex(&claim.id))
        .raw("keys", &claim.keys)
        .text("nonce", &claim.nonce)
        .raw("owed", "true")
        .raw("payload", &claim.payload)
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
    let value = strict::read(payload.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    page.own("payload").value(&value)
}
