//! What waits in a store: requests that were refused for want of an approval and have not been executed since, and
//! claims that are owed a receipt. `pending` and `unfreeze` list them.
//!
//! On a terminal they are a text for people; otherwise one canonical JSON object a line, of which `openexec approve`
//! takes those of requests. Those of claims have `"owed":true` and are no requests.

use std::collections::{BTreeMap, HashMap};

use super::existing::{Existing, say};
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::limits::{PENDING_MAX, RECORD_DEPTH_MAX};
use crate::core::line::LineWriter;
use crate::core::problem::Code;
use crate::core::receipt;
use crate::core::record::{Claim, Record, Refusal, RefusedPayload};
use crate::sys::exit::Failure;
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// What an approval would mend.
const CODES: [&str; 2] = [Code::ApprovalMissing.name(), Code::ApprovalsInsufficient.name()];

#[derive(Default)]
pub struct Waiting {
    /// The newest refusal of each.
    asked: Lines,
    /// Claims without a receipt.
    owed: Lines,
    left_out: u64,
}

/// Records, each once for its execution, in the order of the store.
#[derive(Default)]
struct Lines {
    numbers: HashMap<Hash, u64>,
    by_number: BTreeMap<u64, (Hash, String)>,
    next: u64,
}

impl Lines {
    fn put(&mut self, id: Hash, line: &str) {
        self.remove(&id);
        self.next += 1;
        self.numbers.insert(id, self.next);
        self.by_number.insert(self.next, (id, line.to_owned()));
    }

    fn remove(&mut self, id: &Hash) {
        if let Some(number) = self.numbers.remove(id) {
            self.by_number.remove(&number);
        }
    }

    fn page(&self, is_terminal: bool) -> Page {
        self.by_number.values().fold(Page::new(), |page, (_, line)| match Record::read(line) {
            Some(Record::Refusal(refusal)) if is_terminal => request_for_people(page, &refusal),
            Some(Record::Refusal(refusal)) => page.json(&request_for_programs(&refusal)),
            Some(Record::Claim(claim)) if is_terminal => claim_for_people(page, &claim),
            Some(Record::Claim(claim)) => page.json(&claim_for_programs(&claim)),
            _ => page,
        })
    }
}

impl Waiting {
    pub fn of(store: &Existing) -> Result<Self, Failure> {
        let mut waiting = Waiting::default();
        store.each_record(&mut |record, line| waiting.take(record, line))?;
        Ok(waiting)
    }

    fn take(&mut self, record: &Record, line: &str) {
        match record {
            Record::Refusal(refusal) if CODES.contains(&refusal.code) => {
                self.asked.put(refusal.id, line);
                if self.asked.by_number.len() > PENDING_MAX
                    && let Some((_, (oldest, _))) = self.asked.by_number.pop_first()
                {
                    self.asked.numbers.remove(&oldest);
                    self.left_out += 1;
                }
            }
            Record::Claim(claim) => {
                self.asked.remove(&claim.id);
                self.owed.put(claim.id, line);
            }
            Record::Receipt(receipt) => self.owed.remove(&receipt.id),
            _ => {}
        }
    }

    /// The requests, then the claims.
    pub fn print(&self) -> Result<(), Failure> {
        let is_terminal = page::stdout_is_terminal();
        self.asked.page(is_terminal).print()?;
        if self.left_out > 0 {
            say(&format!("{} older ones are left out", self.left_out));
        }
        self.owed.page(is_terminal).print()?;
        if is_terminal && self.asked.by_number.is_empty() {
            return super::own("nothing waits for an approval");
        }
        Ok(())
    }

    pub fn owes_nothing(&self) -> bool {
        self.owed.by_number.is_empty()
    }

    /// The claims alone.
    pub fn owed(&self, is_terminal: bool) -> Page {
        self.owed.page(is_terminal)
    }
}

fn request_for_programs(refusal: &Refusal) -> String {
    let hash = |payload: &str| hex(&receipt::action_hash(refusal.action, payload));
    let line = LineWriter::start().text("action", refusal.action);
    let line = match &refusal.payload {
        RefusedPayload::Text(payload) => line.text("action_hash", &hash(payload)),
        // It cannot be told from the payload's hash.
        RefusedPayload::Hash(_) => line.raw("action_hash", "null"),
    };
    let line = line.text("at", &refusal.at.to_string()).text("exec_id", &hex(&refusal.id));
    let line = line.text("nonce", &refusal.nonce);
    match &refusal.payload {
        RefusedPayload::Text(payload) => line.raw("payload", payload),
        RefusedPayload::Hash(hash) => line.text("payload_hash", &hex(hash)),
    }
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

fn request_for_people(page: Page, refusal: &Refusal) -> Page {
    let page = page.own(format_args!("time         {}", refusal.at));
    let page = page.line("action       ", quoted(refusal.action));
    let page = match &refusal.payload {
        RefusedPayload::Text(payload) => {
            let hash = hex(&receipt::action_hash(refusal.action, payload));
            payload_of(page, payload).own(format_args!("action_hash  {hash}"))
        }
        RefusedPayload::Hash(hash) => page
            .own("payload      over 4 KiB, so only its SHA-256 is stored:")
            .own(format_args!("             {}", hex(hash)))
            .own("action_hash  not known here: `openexec hash` tells it from the request itself"),
    };
    page.line("nonce        ", quoted(&refusal.nonce))
        .own(format_args!("exec_id      {}\n", hex(&refusal.id)))
}

pub fn claim_for_people(page: Page, claim: &Claim) -> Page {
    let page = page
        .own("owed a receipt: claimed, and cut short by a crash, or running")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Time;

    #[test]
    fn only_the_newest_are_kept() {
        let id = |n: usize| crate::core::hash::sha256(&[&n.to_le_bytes()]);
        let refusal = |n: usize| Refusal {
            at: Time::from_micros(0),
            id: id(n),
            action: "echo",
            nonce: n.to_string().into(),
            caller: None,
            payload: RefusedPayload::Text("{}"),
            code: "approval_missing",
            detail: "".into(),
            receipt: id(n),
        };
        let mut waiting = Waiting::default();
        for n in 0..PENDING_MAX + 2 {
            let line = refusal(n).line();
            waiting.take(&Record::read(&line).expect("a record"), &line);
        }
        let asked = &waiting.asked;
        assert_eq!((asked.by_number.len(), asked.numbers.len()), (PENDING_MAX, PENDING_MAX));
        assert_eq!(waiting.left_out, 2);
        let oldest = asked.by_number.values().next().map(|(oldest, _)| *oldest);
        assert_eq!(oldest, Some(id(2)));
    }
}
