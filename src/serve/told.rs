//! The journal's lines about what was recorded: one an execution and one a decision, once it is on the disk.
//!
//! ```text
//! {"action":"echo","at":"…","caller":"agent-7","id":"…","keys":["alice"],"level":"info","message":"executed","milliseconds":2}
//! ```
//!
//! Invariant: nothing of a payload, a result, a nonce or a signature. Of a short record the executor hands over the
//! line, which takes it no time, and the journal's thread reads it; a long one is read at once, so that no payload waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::core::hash::{Hash, hex};
use crate::core::json::{Value, strict};
use crate::core::receipt::Outcome;
use crate::core::record::Record;
use crate::core::time::Time;
use crate::store::Batch;
use crate::sys::journal::{self, Fields};
use crate::sys::locked;

/// A record that is handed over as it is.
const SHORT_BYTES_MAX: usize = 4 * 1024;
/// Claims whose receipts are awaited; where lines were dropped, some never come.
const CLAIMS_MAX: usize = 1_024;

/// Claims without a receipt, with what their lines will say.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<HashMap<Hash, (Time, Fields)>>>);

/// What a record says of which id; of an execution, in two halves.
enum Said {
    Claim(Hash, Time, Fields),
    Receipt(Hash, Time, Outcome),
    Decision(&'static str, Fields),
}

impl Told {
    /// Tells of a batch that was written.
    pub fn written(&self, batch: &Batch) {
        if !journal::is_informed() {
            return;
        }
        // To be read, or read already.
        let part = |(_, line): (usize, &[u8])| match line.len() {
            ..=SHORT_BYTES_MAX => Ok(line.to_vec()),
            _ => Err(said(line)),
        };
        let bytes = batch.lines().map(|(_, line)| line.len().min(SHORT_BYTES_MAX)).sum();
        let parts: Vec<_> = batch.lines().map(part).collect();
        let (own, lines) = (self.clone(), parts.len() as u64);
        journal::info_later(lines, bytes, move || {
            let said =
                parts.into_iter().filter_map(|part| part.map_or_else(|it| it, |it| said(&it)));
            said.filter_map(|said| own.line(said)).collect()
        });
    }

    fn line(&self, said: Said) -> Option<(&'static str, Fields)> {
        let mut claims = locked(&self.0);
        match said {
            Said::Decision(text, fields) => Some((text, fields)),
            Said::Claim(id, at, fields) => {
                if claims.len() == CLAIMS_MAX {
                    claims.clear();
                }
                claims.insert(id, (at, fields));
                None
            }
            Said::Receipt(id, at, outcome) => {
                // One that was claimed before the start, or whose line was dropped, has its id alone.
                let (since, mut fields) = claims.remove(&id).unwrap_or_else(|| (at, vec![of(&id)]));
                let milliseconds = (at.micros() - since.micros()).max(0) / 1_000;
                fields.push(("milliseconds", milliseconds.into()));
                Some((outcome.name(), fields))
            }
        }
    }
}

fn of(id: &Hash) -> (&'static str, Value) {
    ("id", hex(id).into())
}

fn said(line: &[u8]) -> Option<Said> {
    let action = |action: &str| ("action", Value::from(action));
    let caller = |caller: &Option<_>| ("caller", Value::from(caller.as_deref()));
    let key = |key: &str| ("key", Value::from(key));
    Some(match Record::read(std::str::from_utf8(line).ok()?)? {
        Record::Claim(claim) => {
            let keys = ("keys", strict::read_own(claim.keys.as_bytes()).ok()?);
            let fields = vec![of(&claim.id), action(claim.action), caller(&claim.caller), keys];
            Said::Claim(claim.id, claim.at, fields)
        }
        Record::Receipt(receipt) => Said::Receipt(receipt.id, receipt.at, receipt.outcome),
        Record::Proposal(asked) => {
            let fields = vec![of(&asked.id), action(asked.action), caller(&asked.caller)];
            Said::Decision("proposed", fields)
        }
        Record::Approval(yes) => Said::Decision("approved", vec![of(&yes.id), key(&yes.key)]),
        Record::Rejection(no) => Said::Decision("rejected", vec![of(&no.id), key(&no.key)]),
        Record::Closed(end) => {
            let (by, code) = (end.by.as_deref().into(), end.code.into());
            Said::Decision(end.how.name(), vec![of(&end.id), ("by", by), ("code", code)])
        }
        Record::Refusal(no) => {
            let code = ("code", no.code.into());
            let fields = vec![of(&no.id), action(no.action), caller(&no.caller), code];
            Said::Decision("refused", fields)
        }
        Record::Completion(said) => {
            let (by, outcome) = (said.by.name().into(), said.outcome.name().into());
            let fields = vec![of(&said.id), ("by", by), ("outcome", outcome)];
            Said::Decision("what became of a job is recorded", fields)
        }
        _ => return None,
    })
}
