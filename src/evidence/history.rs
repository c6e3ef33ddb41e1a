//! What happened, as a store's records tell it: a row for each execution, proposal and refusal, with every record of it
//! (design section 13).
//!
//! The log is read twice. First whole: so damage shows before any row does, and a completion, which may come long after
//! its receipt, is found by its id. Then each row leaves where it ended, and those that have not ended leave last. So
//! memory holds what is open, 16 bytes for each completion, and, in the first reading, 8 for each row.
//!
//! Form, order and roots are held as at an opening. Signatures and receipts are what an audit holds.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;

use super::approvers::fingerprint;
use super::bundle;
use crate::core::hash::{Hash, hex, sha256, unhex};
use crate::core::json::{Value, strict};
use crate::core::receipt::{Effect, Outcome, names_job};
use crate::core::record::{Policy, Record, RefusedPayload};
use crate::core::stage::Step;
use crate::core::time::Time;
use crate::store::replay::{Observer, Seen};
use crate::store::state::{Change, Position, State};
use crate::sys::exit::{self, Failure};

/// The states of a row, and three words more: a job of which nobody has said what became of it, one of which somebody
/// has, and what waits for somebody in any way.
pub const STATES: &str = "pending, executing, executed, failed, indeterminate, rejected, withdrawn, \
                          expired, refused, open, completed, stuck";

/// Which rows are wanted: those of which everything that is given holds.
#[derive(Default)]
pub struct Filter {
    /// A record of it was made from then on; with `key`, one that names the key.
    pub since: Option<Time>,
    /// Before this.
    pub until: Option<Time>,
    pub action: Option<String>,
    pub caller: Option<String>,
    /// A key's name, fingerprint or public key, or its person, by the policy in force.
    pub key: Option<String>,
    /// Any of [`STATES`]; none: all.
    pub states: Vec<String>,
}

/// What became of one execution or proposal, or one refusal.
#[derive(Default)]
pub struct Row<'a> {
    pub id: Hash,
    /// Another id of this store begins with the same eight digits.
    pub is_ambiguous: bool,
    pub action: &'a str,
    pub caller: Option<&'a str>,
    pub payload_hash: Hash,
    /// When it came to its state.
    pub at: Time,
    pub state: &'static str,
    /// It left a job of which nobody has said what became of it.
    pub is_open: bool,
    /// Somebody said it of that, or of an execution that is indeterminate.
    is_completed: bool,
    /// The names of the keys that said yes.
    pub keys: Vec<String>,
    /// From the claim to the receipt, where these were not written together.
    pub milliseconds: Option<u64>,
    /// In their order: at least one.
    pub records: &'a [Record<'a>],
    pub lines: &'a [String],
}

/// What else a reading tells.
pub struct Told {
    /// A policy of this store names the key that was asked for.
    pub is_key_known: bool,
    pub tail: Tail,
}

/// Where text stands behind the last batch: the segment's name, and the byte.
pub type Tail = Option<(String, u64)>;

/// A log that is read beside its service, wherever it is kept.
pub trait Readable {
    /// Gives each committed record, in order, and tells what all of them together mean.
    ///
    /// # Errors
    /// It cannot be read, or is not what its service wrote; or `observer`'s.
    fn each(&self, observer: Observer) -> Result<(State, Tail), Failure>;

    /// The record there.
    ///
    /// # Errors
    /// It cannot be read.
    fn line(&self, at: Position) -> io::Result<String>;
}

/// Takes each row that is wanted.
pub type Take<'a> = &'a mut dyn FnMut(&Row) -> Result<(), String>;

/// Gives the rows in the order in which they ended, then those that have not ended in the order in which they began.
///
/// # Errors
/// What is wrong with the store: told before any row, unless it changed meanwhile. Or those of `take`.
pub fn history(log: &dyn Readable, filter: &Filter, take: Take) -> Result<Told, Failure> {
    let mut known = Known::default();
    let (State { records: mut left, .. }, tail) = log.each(&mut |seen| known.see(seen, filter))?;
    known.settle();
    let told = Told { is_key_known: known.is_key_known, tail };
    let (names, open) = (HashSet::new(), HashMap::new());
    let mut rows = Rows { log, filter, known, names, open, take };
    log.each(&mut |seen| {
        // What a service has written since is not told.
        let is_known = left > 0;
        left -= u64::from(is_known);
        if is_known { rows.see(seen) } else { Ok(()) }
    })?;
    rows.end().map(|()| told)
}

/// What the first reading finds.
#[derive(Default)]
struct Known {
    hash: RandomState,
    /// The keyed hash of the id, and where the completion is.
    completions: Vec<(u64, Position)>,
    /// The first 32 bits of each id, and as many of its keyed hash: nobody can choose two that agree.
    ids: Vec<u64>,
    /// The first 32 bits that several ids have.
    shared: HashSet<u32>,
    is_key_known: bool,
}

impl Known {
    fn see(&mut self, seen: &Seen, filter: &Filter) -> Result<(), String> {
        match seen.change {
            Change::Completion { id, .. } => {
                self.completions.push((self.hash.hash_one(id), seen.position));
            }
            Change::Claim { id, .. } => self.add(id),
            Change::Proposal(asked) => self.add(&asked.id),
            Change::Refusal(_) | Change::Policy { .. } => match seen.record()? {
                (Record::Refusal(refusal), _) => self.add(&refusal.id),
                (Record::Policy(policy), _) => {
                    self.is_key_known |= !filter.names_in(&policy).is_empty();
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, id: &Hash) {
        let keyed = self.hash.hash_one(id) >> 32;
        self.ids.push(u64::from(first_digits(id)) << 32 | keyed);
    }

    fn settle(&mut self) {
        self.completions.sort_unstable();
        let mut ids = std::mem::take(&mut self.ids);
        ids.sort_unstable();
        ids.dedup();
        let pairs = ids.windows(2).map(|pair| (pair[0] >> 32, pair[1] >> 32));
        self.shared = pairs.filter(|(a, b)| a == b).map(|(digits, _)| digits as u32).collect();
    }

    /// Where completions of this id may be, the newest first.
    fn completions(&self, id: &Hash) -> impl Iterator<Item = Position> {
        let key = self.hash.hash_one(id);
        let end = self.completions.partition_point(|(known, _)| *known <= key);
        let before = self.completions[..end].iter().rev();
        before.take_while(move |(known, _)| *known == key).map(|(_, position)| *position)
    }
}

fn first_digits(id: &Hash) -> u32 {
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

/// The second reading.
struct Rows<'a> {
    log: &'a dyn Readable,
    filter: &'a Filter,
    known: Known,
    /// What the policy in force calls the key that was asked for.
    names: HashSet<String>,
    open: HashMap<Hash, Open>,
    take: Take<'a>,
}

/// A row that has not ended.
#[derive(Default)]
struct Open {
    /// Where its first record is.
    begun: Position,
    lines: Vec<String>,
    /// One of its records is of the time and the key that are wanted.
    happened: bool,
}

impl Rows<'_> {
    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        let ends = match seen.change {
            Change::Pending { step, .. } => *step == Step::End,
            Change::Receipt { .. } | Change::Refusal(_) | Change::Policy { .. } => true,
            Change::Completion { .. } => return Ok(()),
            change if bundle::id(change).is_none() => return Ok(()),
            _ => false,
        };
        // A refusal stands beside what else became of its id.
        let id = bundle::id(seen.change).copied().unwrap_or_default();
        let (record, line) = seen.record()?;
        if let Record::Policy(policy) = &record {
            self.names = self.filter.names_in(policy);
            return Ok(());
        }
        let new = Open { begun: seen.position, ..Open::default() };
        let mut open = self.open.remove(&id).unwrap_or(new);
        open.happened |= self.filter.happened(&record, &self.names);
        open.lines.push(line.to_owned());
        if !ends {
            self.open.insert(id, open);
            return Ok(());
        }
        if let Change::Receipt { id, .. } = seen.change {
            self.complete(id, &mut open)?;
        }
        self.give(open)
    }

    /// Adds what was said of its job, the newest.
    fn complete(&self, id: &Hash, open: &mut Open) -> Result<(), String> {
        for position in self.known.completions(id) {
            let said = self.log.line(position).map_err(|why| why.to_string())?;
            let Some(Record::Completion(record)) = Record::read(&said) else { continue };
            if record.id == *id {
                open.happened |= self.filter.is_in_time(record.at) && self.filter.key.is_none();
                open.lines.push(said);
                break;
            }
        }
        Ok(())
    }

    fn give(&mut self, open: Open) -> Result<(), String> {
        if !open.happened {
            return Ok(());
        }
        let records: Option<Vec<Record>> =
            open.lines.iter().map(|line| Record::read(line)).collect();
        let records = records.ok_or("a record changed while it was read")?;
        let mut row = Row::of(&records, &open.lines);
        if !self.filter.wants(&row) {
            return Ok(());
        }
        // An opening looks at no payload or result. What is shown is JSON.
        let is_json = |line: &String| strict::read_own(line.as_bytes()).is_ok();
        if !open.lines.iter().all(is_json) {
            return Err(format!("a record of {} is no strict JSON", hex(&row.id)));
        }
        row.is_ambiguous = self.known.shared.contains(&first_digits(&row.id));
        (self.take)(&row)
    }

    fn end(mut self) -> Result<(), Failure> {
        let mut left: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        left.sort_unstable_by_key(|open| open.begun);
        left.into_iter().try_for_each(|open| self.give(open).map_err(exit::data))
    }
}

impl Filter {
    fn wants(&self, row: &Row) -> bool {
        self.action.as_ref().is_none_or(|action| action == row.action)
            && self.caller.as_ref().is_none_or(|caller| Some(caller.as_str()) == row.caller)
            && (self.states.is_empty() || self.states.iter().any(|state| row.is(state)))
    }

    fn is_in_time(&self, at: Time) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Whether that is of the time and of the key, of which these are the names.
    fn happened(&self, record: &Record, names: &HashSet<String>) -> bool {
        let names_key = || match record {
            Record::Claim(claim) => strings(&claim.keys).iter().any(|key| names.contains(key)),
            Record::Approval(approval) => names.contains(&*approval.key),
            Record::Rejection(rejection) => names.contains(&*rejection.key),
            _ => false,
        };
        self.is_in_time(record.at()) && (self.key.is_none() || names_key())
    }

    /// What this policy calls the key.
    fn names_in(&self, policy: &Policy) -> HashSet<String> {
        let Some(wanted) = self.key.as_deref() else { return HashSet::new() };
        let keys = strict::read_own(policy.keys.as_bytes()).unwrap_or_default();
        let is_it = |key: &&Value| {
            let bytes = key["public_key"].as_str().and_then(unhex);
            ["name", "person", "public_key"].iter().any(|name| key[*name] == wanted)
                || bytes.is_some_and(|bytes| fingerprint(&bytes) == wanted)
        };
        let named = keys.as_array().into_iter().flatten().filter(is_it);
        named.filter_map(|key| key["name"].as_str().map(str::to_owned)).collect()
    }
}

impl<'a> Row<'a> {
    fn of(records: &'a [Record<'a>], lines: &'a [String]) -> Self {
        let mut row = Row { records, lines, ..Row::default() };
        let mut claimed = None;
        for record in records {
            row.state = match record {
                Record::Proposal(asked) => {
                    row.ask(&asked.id, asked.action, asked.caller.as_deref(), &asked.payload);
                    "pending"
                }
                Record::Claim(claim) => {
                    row.ask(&claim.id, claim.action, claim.caller.as_deref(), &claim.payload);
                    claimed = Some(claim.at).filter(|_| claim.effect != Effect::Pure);
                    row.keys = strings(&claim.keys);
                    "executing"
                }
                Record::Refusal(refused) => {
                    row.ask(&refused.id, refused.action, refused.caller.as_deref(), "");
                    row.payload_hash = match refused.payload {
                        RefusedPayload::Text(text) => sha256(&[text.as_bytes()]),
                        RefusedPayload::Hash(hash) => hash,
                    };
                    "refused"
                }
                Record::Rejection(_) => "rejected",
                Record::Closed(closed) => closed.how.name(),
                Record::Receipt(receipt) => {
                    let micros = claimed.map(|at| receipt.at.micros() - at.micros());
                    row.milliseconds = micros.map(|micros| micros.max(0) as u64 / 1000);
                    let is_executed = receipt.outcome == Outcome::Executed;
                    row.is_open = is_executed && names_job(&receipt.result);
                    receipt.outcome.name()
                }
                Record::Completion(said) => {
                    row.is_completed = said.outcome != Outcome::Indeterminate;
                    row.is_open &= !row.is_completed;
                    continue;
                }
                Record::Approval(approval) => {
                    if !row.keys.iter().any(|key| *key == approval.key) {
                        row.keys.push(approval.key.to_string());
                    }
                    continue;
                }
                _ => continue,
            };
            row.at = record.at();
        }
        row
    }

    fn ask(&mut self, id: &Hash, action: &'a str, caller: Option<&'a str>, payload: &str) {
        (self.id, self.action, self.caller) = (*id, action, caller);
        self.payload_hash = sha256(&[payload.as_bytes()]);
    }

    /// Whether it is in this of [`STATES`].
    fn is(&self, state: &str) -> bool {
        match (state, self.state) {
            ("open", _) => self.is_open,
            ("completed", _) => self.is_completed,
            ("stuck", "pending" | "executing") => true,
            ("stuck", "indeterminate") => !self.is_completed,
            ("stuck", _) => self.is_open,
            (state, is) => state == is,
        }
    }
}

/// The texts of an array of them.
fn strings(json: &str) -> Vec<String> {
    let value = strict::read_own(json.as_bytes()).unwrap_or_default();
    let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
