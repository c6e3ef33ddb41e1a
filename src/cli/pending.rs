//! `openexec pending`: what was refused for want of an approval and has not been executed since; and
//! the claims that are owed a receipt, which have `"owed":true` and are no requests.
//!
//! Reads the store's segments beside a live server, without its lock, and changes nothing. On a
//! terminal it is a text for people; otherwise one canonical JSON object a line, which
//! `openexec approve` takes as its request.

use std::collections::{BTreeMap, HashMap};

use super::owed::{Owed, each_record, say};
use super::{existing, own};
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::limits::{PENDING_MAX, RECORD_DEPTH_MAX};
use crate::core::line::LineWriter;
use crate::core::problem::Code;
use crate::core::receipt;
use crate::core::record::{Record, Refusal, RefusedPayload};
use crate::serve::config::Environment;
use crate::sys::exit::Failure;
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// What an approval would mend.
const CODES: [&str; 2] = [Code::ApprovalMissing.name(), Code::ApprovalsInsufficient.name()];

pub fn run(environment: &Environment) -> Result<(), Failure> {
    let (store, _) = existing::store(environment)?;
    let (mut pending, mut owed) = (Pending::default(), Owed::default());
    each_record(&store, &mut |record, line| {
        pending.take(record, line);
        owed.take(record, line);
    })?;
    let is_terminal = page::stdout_is_terminal();
    for (_, line) in pending.by_number.values() {
        let Some(Record::Refusal(refusal)) = Record::read(line) else { continue };
        let page = Page::new();
        if is_terminal {
            for_people(page, &refusal).print()?;
        } else {
            page.json(&for_programs(&refusal)).print()?;
        }
    }
    if pending.left_out > 0 {
        say(&format!("{} older ones are left out", pending.left_out));
    }
    owed.print()?;
    if is_terminal && pending.by_number.is_empty() {
        own("nothing waits for an approval")?;
    }
    Ok(())
}

/// The newest refusal of each request, in the order of the store.
#[derive(Default)]
struct Pending {
    numbers: HashMap<Hash, u64>,
    by_number: BTreeMap<u64, (Hash, String)>,
    next: u64,
    left_out: u64,
}

impl Pending {
    fn take(&mut self, record: &Record, line: &str) {
        match record {
            Record::Refusal(refusal) if CODES.contains(&refusal.code) => {
                self.remove(&refusal.id);
                self.next += 1;
                self.numbers.insert(refusal.id, self.next);
                self.by_number.insert(self.next, (refusal.id, line.to_owned()));
                if self.by_number.len() > PENDING_MAX
                    && let Some((_, (oldest, _))) = self.by_number.pop_first()
                {
                    self.numbers.remove(&oldest);
                    self.left_out += 1;
                }
            }
            Record::Claim(claim) => self.remove(&claim.id),
            _ => {}
        }
    }

    fn remove(&mut self, id: &Hash) {
        if let Some(number) = self.numbers.remove(id) {
            self.by_number.remove(&number);
        }
    }
}

fn for_programs(refusal: &Refusal) -> String {
    let line = LineWriter::start().text("action", refusal.action);
    let at = refusal.at.to_string();
    let line = match &refusal.payload {
        RefusedPayload::Text(payload) => {
            line.text("action_hash", &hex(&receipt::action_hash(refusal.action, payload)))
        }
        // It cannot be told from the payload's hash.
        RefusedPayload::Hash(_) => line.raw("action_hash", "null"),
    };
    let line =
        line.text("at", &at).text("exec_id", &hex(&refusal.id)).text("nonce", &refusal.nonce);
    let line = match &refusal.payload {
        RefusedPayload::Text(payload) => line.raw("payload", payload),
        RefusedPayload::Hash(hash) => line.text("payload_hash", &hex(hash)),
    };
    line.end()
}

fn for_people(page: Page, refusal: &Refusal) -> Page {
    let page = page
        .own(format_args!("time         {}", refusal.at))
        .line("action       ", quoted(refusal.action));
    let page = match &refusal.payload {
        RefusedPayload::Text(payload) => {
            let value = strict::read(payload.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
            let hash = hex(&receipt::action_hash(refusal.action, payload));
            page.own("payload").value(&value).own(format_args!("action_hash  {hash}"))
        }
        RefusedPayload::Hash(hash) => page
            .own("payload      over 4 KiB, so only its SHA-256 is stored:")
            .own(format_args!("             {}", hex(hash)))
            .own("action_hash  not known here: `openexec hash` tells it from the request itself"),
    };
    page.line("nonce        ", quoted(&refusal.nonce))
        .own(format_args!("exec_id      {}", hex(&refusal.id)))
        .own("")
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
        let mut pending = Pending::default();
        for n in 0..PENDING_MAX + 2 {
            let line = refusal(n).line();
            pending.take(&Record::read(&line).expect("a record"), &line);
        }
        assert_eq!((pending.by_number.len(), pending.numbers.len()), (PENDING_MAX, PENDING_MAX));
        assert_eq!(pending.left_out, 2);
        let oldest = pending.by_number.values().next().map(|(oldest, _)| *oldest);
        assert_eq!(oldest, Some(id(2)));
    }
}
