//! Claims that are owed a receipt, as `pending` and `unfreeze` list them; and every record, for
//! commands that read a store beside its service.

use std::collections::BTreeMap;
use std::path::Path;

use super::verify::beside_a_server;
use crate::core::hash::{Hash, hex};
use crate::core::json::strict;
use crate::core::limits::RECORD_DEPTH_MAX;
use crate::core::line::LineWriter;
use crate::core::record::{Claim, Record};
use crate::store::GEOMETRY;
use crate::store::replay::observe;
use crate::sys::exit::Failure;
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// Gives every record of the store to `take`, in their order.
pub fn each_record(store: &Path, take: &mut dyn FnMut(&Record, &str)) -> Result<(), Failure> {
    let replay = beside_a_server(store, |directory, progress| {
        observe(directory, GEOMETRY, progress, &mut |seen| {
            let (record, line) = seen.record()?;
            take(&record, line);
            Ok(())
        })
    })?;
    if let Some((name, byte)) = replay.tail() {
        say(&format!(
            "what stands in {name} from byte {byte} on is no whole batch: it is being written, or \
             was cut short, and the next start tells"
        ));
    }
    Ok(())
}

/// To people, beside a list. Nobody listening changes nothing.
pub fn say(sentence: &str) {
    Page::new().line("openexec: ", sentence).say();
}

/// The claims without a receipt, by their number in the store.
#[derive(Default)]
pub struct Owed {
    claims: BTreeMap<u64, (Hash, String)>,
    next: u64,
}

impl Owed {
    pub fn take(&mut self, record: &Record, line: &str) {
        match record {
            Record::Claim(claim) => {
                self.next += 1;
                self.claims.insert(self.next, (claim.id, line.to_owned()));
            }
            Record::Receipt(receipt) => self.claims.retain(|_, (id, _)| *id != receipt.id),
            _ => {}
        }
    }

    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// For people on a terminal, otherwise one JSON object a line.
    pub fn page(&self, is_terminal: bool) -> Page {
        let lines = self.claims.values().map(|(_, line)| line);
        lines.fold(Page::new(), |page, line| match Record::read(line) {
            Some(Record::Claim(claim)) if is_terminal => for_people(page, &claim),
            Some(Record::Claim(claim)) => page.json(&for_programs(&claim)),
            _ => page,
        })
    }

    pub fn print(&self) -> Result<(), Failure> {
        self.page(page::stdout_is_terminal()).print()
    }
}

fn for_programs(claim: &Claim) -> String {
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

fn for_people(page: Page, claim: &Claim) -> Page {
    let payload = strict::read(claim.payload.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    page.own("owed a receipt: claimed, and cut short by a crash, or running")
        .own(format_args!("time         {}", claim.at))
        .line("action       ", quoted(claim.action))
        .own("payload")
        .value(&payload)
        .line("nonce        ", quoted(&claim.nonce))
        .line("approved by  ", claim.keys.0)
        .own(format_args!("exec_id      {}", hex(&claim.id)))
        .own("")
}
