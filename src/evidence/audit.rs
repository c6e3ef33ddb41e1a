//! The audit of a whole store: what `openexec verify` does (design section 13).
//!
//! Reads only. Framing, numbers and roots are judged by the same code that opens a store; on top of
//! that every record is held to what it claims: ids and receipts are computed again, a nonce and an
//! approval are spent once, and each stored approval is judged as of its claim's time by the policy
//! in force, by the same function that admitted it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::approval::keys::{Key, Keyring};
use crate::core::hash::Hash;
use crate::core::receipt::{Effect, Outcome};
use crate::core::record::{Claim, Completion, Identity, Mode, Proposal, Receipt, Record, is_code};
use crate::core::tree::Head;
use crate::evidence::approvers::fingerprint;
use crate::evidence::guard::{Relation, relation};
use crate::evidence::log::FileLog;
use crate::evidence::terms::{self, Approvals, Asked, Beside, Terms, payload};
use crate::store::Geometry;
use crate::store::fault::OpenError;
use crate::store::replay::{Progress, Replay, Seen, observe};
use crate::store::segment;
use crate::store::state::{Change, Position};
use crate::store::table::Table;
use crate::sys::disk::Disk;
use crate::sys::locked;

/// Records that a core judges at a time: so many, or of so many bytes and one more.
const CASES_MAX: usize = 32;
const CASES_BYTES_MAX: usize = 256 * 1024;

/// What an audit that found nothing wrong has seen.
#[derive(Debug, Clone)]
pub struct Summary {
    pub identity: Identity,
    pub records: u64,
    pub batches: u64,
    pub root: Hash,
    /// Witness outcome.
    pub executions: BTreeMap<&'static str, u64>,
    /// Claims that have no receipt yet.
    pub owed: u64,
    /// Of `proposals`, `approvals` and `rejections` of them, `closed` ones, `completions` and `refusals`, how many are
    /// recorded.
    pub counts: BTreeMap<&'static str, u64>,
    /// Proposals that are pending.
    pub pending: u64,
    /// Refusals that were only counted.
    pub suppressed: u64,
    /// Claims whose approvals were judged.
    pub approvals_judged: u64,
    /// The keys of all policies: fingerprint and name.
    pub keys: BTreeSet<(String, String)>,
    /// Text stands behind the last commit: a batch being written, or cut short.
    pub unfinished_tail: bool,
    /// How it stands to the checkpoint that was given.
    pub relation: Option<Relation>,
}

impl Summary {
    /// How many of these are recorded, as [`Summary::counts`] names them.
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

/// Audits the store on `disk`: by the policies in it, and by the keys of `keyring` too. `kept` is a checkpoint
/// from elsewhere.
///
/// # Errors
/// The first violation, with file and byte; or the disk's.
pub fn audit(
    disk: &dyn Disk,
    geometry: Geometry,
    keyring: Option<&Keyring>,
    kept: Option<&Head>,
    progress: Progress,
) -> Result<Summary, OpenError> {
    let (mut auditor, mut read) = pass(disk, geometry, keyring, None, progress);
    if auditor.must_read_again {
        // Among forty million hashes of 63 bits two that differ are equal in one store of ten thousand. And
        // a store without completions needs no memory of what they could be of.
        (auditor, read) = pass(disk, geometry, keyring, Some(Spent::default()), progress);
    }
    let replay = read?;
    let identity = replay.identity.clone().ok_or(OpenError::Absent)?;
    let relation = kept
        .map(|kept| relation(&FileLog::new(disk, geometry, replay.blocks.clone()), kept))
        .transpose();
    let relation = relation.map_err(|error| OpenError::Disk {
        doing: "reading a block of records".to_owned(),
        error,
    })?;
    Ok(Summary {
        identity,
        records: replay.tree.size(),
        batches: replay.batch,
        root: replay.tree.root(),
        executions: auditor.executions,
        owed: replay.state.owed().len() as u64,
        counts: auditor.counts,
        pending: auditor.asked.len() as u64,
        suppressed: auditor.suppressed,
        approvals_judged: auditor.approvals_judged,
        keys: auditor.keys,
        unfinished_tail: replay.tail().is_some(),
        relation,
    })
}

/// Reads the store once, on this thread, and judges its approvals on all cores meanwhile.
fn pass<'a>(
    disk: &dyn Disk,
    geometry: Geometry,
    trusted: Option<&'a Keyring>,
    ended: Option<Spent>,
    progress: Progress,
) -> (Auditor<'a>, Result<Replay, OpenError>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, cases) = sync_channel::<Vec<Case<'a>>>(cores);
    let (cases, finding) = (Mutex::new(cases), Mutex::new(None));
    let judge_all = || {
        loop {
            // The lock ends with the statement: one thread waits, and the others judge.
            let Ok(cases) = locked(&cases).recv() else { return };
            for case in cases {
                if let Err(reason) = case.judge() {
                    let mut first = locked(&finding);
                    *first = first.take().into_iter().chain([(case.position, reason)]).min();
                }
            }
        }
    };
    let (auditor, read) = std::thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(judge_all)));
        let by = Beside { trusted, ..Beside::default() };
        let mut auditor = Auditor { ended, by, ..Auditor::default() };
        let mut cases = Vec::new();
        let read = observe(disk, geometry, progress, &mut |seen| {
            cases.extend(auditor.see(seen)?);
            let bytes = || cases.iter().map(|case: &Case| case.line.len()).sum::<usize>();
            if cases.len() < CASES_MAX && bytes() < CASES_BYTES_MAX {
                return Ok(());
            }
            // All cases so far stand before the next record: what is found is the first in the log.
            if locked(&finding).is_some() {
                return Err("an earlier claim does not hold".to_owned());
            }
            sender.send(std::mem::take(&mut cases)).map_err(|lost| lost.to_string())
        });
        let _ = sender.send(cases);
        drop(sender);
        (auditor, read)
    });
    let finding = finding.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = finding.map(|(position, reason)| corrupt_at(position, geometry, reason));
    (auditor, found.map_or(read, Err))
}

/// What is wrong with the record there.
fn corrupt_at(position: Position, geometry: Geometry, reason: String) -> OpenError {
    let file = segment::name((position / geometry.segment_bytes) as u32 + 1);
    OpenError::Corrupt { file, byte: position % geometry.segment_bytes, reason }
}

/// A record of which all is judged but what it says of itself, and its approvals: the work of an audit.
struct Case<'a> {
    position: u64,
    line: String,
    terms: Option<Arc<Terms<'a>>>,
}

impl Case<'_> {
    fn judge(&self) -> Result<(), String> {
        match (Record::read(&self.line), &self.terms) {
            (Some(Record::Claim(claim)), Some(terms)) => terms.approved(&claim),
            (Some(Record::Receipt(receipt)), _) => terms::receipt(&receipt),
            (Some(Record::Refusal(refusal)), _) => terms::refusal(&refusal),
            _ => Err("not a record that is judged by itself".to_owned()),
        }
    }
}

#[derive(Default)]
struct Auditor<'a> {
    by: Beside<'a>,
    mode: Option<Mode>,
    /// Records so far.
    records: u64,
    /// What the policy record in force says.
    terms: Option<Arc<Terms<'a>>>,
    nonces: Spent,
    /// Proposals that are pending.
    asked: HashMap<Hash, Asked>,
    /// Ids that have a receipt, once there is a completion.
    ended: Option<Spent>,
    /// Ids of which a completion says for good what became of them.
    closed: Spent,
    /// Witness the keyed hash that reading has made.
    approvals: Table,
    /// Approvals that were recorded of what was pending.
    recorded: Spent,
    /// A nonce, an approval or a completion seems to come a second time, or a completion is the first.
    must_read_again: bool,
    /// Claims without a receipt: their effect and their batch.
    owed: HashMap<Hash, (Effect, u64)>,
    executions: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
    suppressed: u64,
    approvals_judged: u64,
    keys: BTreeSet<(String, String)>,
}

/// What was seen before, by keyed hash, in less memory than the index of a service that serves the store.
#[derive(Default)]
struct Spent {
    keys: RandomState,
    seen: Table,
}

impl Spent {
    /// Whether it was new.
    fn insert(&mut self, item: impl std::hash::Hash) -> bool {
        self.seen.insert_hash(self.keys.hash_one(item))
    }

    fn has(&self, item: impl std::hash::Hash) -> bool {
        self.seen.has_hash(self.keys.hash_one(item))
    }
}

impl<'a> Auditor<'a> {
    /// Judges a record, but for what is left to the other threads.
    fn see(&mut self, seen: &Seen) -> Result<Option<Case<'a>>, String> {
        let number = self.records;
        self.records += 1;
        let (record, line) = seen.record()?;
        match &record {
            Record::Store(store) => (self.mode, self.by.created) = (Some(store.mode), store.at),
            Record::Policy(policy) => {
                let terms = Terms::of(policy, number, seen.batch, self.by)?;
                if terms.approvals.is_some() != (self.mode == Some(Mode::Clawshield)) {
                    return Err("a policy record of the other mode".to_owned());
                }
                let keys = terms.approvals.iter().flat_map(|approvals| approvals.keyring.keys());
                let named = |key: &Arc<Key>| (fingerprint(key.public_key()), key.name().to_owned());
                self.keys.extend(keys.map(named));
                self.terms = Some(Arc::new(terms));
            }
            Record::Claim(claim) => self.claim(claim, seen)?,
            Record::Receipt(receipt) => self.receipt(receipt, seen.batch)?,
            Record::Refusal(_) => self.count("refusals"),
            Record::Suppressed(suppressed) => self.suppressed(&suppressed.count)?,
            Record::Proposal(proposal) => self.proposal(proposal)?,
            Record::Approval(approval) => {
                let asked = self.asked.get(&approval.id).ok_or("no such proposal is pending")?;
                self.approvals_in_force()?.record(approval, asked)?;
                if !self.recorded.insert(approval.approval_id()) {
                    self.must_read_again = true;
                    return Err("an approval is recorded a second time".to_owned());
                }
                self.count("approvals");
            }
            Record::Rejection(rejection) => {
                let asked = self.asked.remove(&rejection.id);
                let asked = asked.ok_or("no such proposal is pending")?;
                self.approvals_in_force()?.rejection(rejection, &asked)?;
                self.count("rejections");
            }
            Record::Closed(closed) => {
                terms::closed(closed)?;
                self.count("closed");
                self.asked.remove(&closed.id).ok_or("no such proposal is pending")?;
            }
            Record::Completion(completion) => {
                self.completion(completion)?;
                self.count("completions");
            }
            Record::Asynchronous(_)
            | Record::Retry(_)
            | Record::Freeze(_)
            | Record::Unfreeze(_) => {}
        }
        let is_case = matches!(record, Record::Claim(_) | Record::Receipt(_) | Record::Refusal(_));
        let case =
            || Case { position: seen.position, line: line.to_owned(), terms: self.terms.clone() };
        Ok(is_case.then(case))
    }

    fn approvals_in_force(&self) -> Result<&Approvals<'a>, String> {
        let terms = self.terms.as_ref().ok_or("no policy is in force")?;
        terms.approvals.as_ref().ok_or_else(|| "a record that demo mode does not have".to_owned())
    }

    fn proposal(&mut self, proposal: &Proposal) -> Result<(), String> {
        let terms = self.terms.as_ref().ok_or("no policy is in force")?;
        let asked = terms.proposal(proposal)?;
        if !self.nonces.insert(&*proposal.nonce) {
            self.must_read_again = true;
            return Err("a nonce is proposed a second time".to_owned());
        }
        self.asked.insert(proposal.id, asked);
        self.count("proposals");
        Ok(())
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    fn completion(&mut self, record: &Completion) -> Result<(), String> {
        if !record.holds() {
            let why =
                "what a completion says may not be said so, or its receipt is not the hash of it";
            return Err(why.to_owned());
        }
        let Some(ended) = &self.ended else {
            self.must_read_again = true;
            return Err("a completion".to_owned());
        };
        if !ended.has(record.id) {
            return Err("a completion of what has no receipt".to_owned());
        }
        let is_open = match record.outcome {
            Outcome::Indeterminate => !self.closed.has(record.id),
            Outcome::Executed | Outcome::Failed => self.closed.insert(record.id),
        };
        if !is_open {
            self.must_read_again = true;
            return Err("a completion of what was completed".to_owned());
        }
        Ok(())
    }

    fn claim(&mut self, claim: &Claim, seen: &Seen) -> Result<(), String> {
        let terms = self.terms.as_ref().ok_or("no policy is in force")?;
        let asked = self.asked.remove(&claim.id);
        terms.claim(claim, asked.as_ref())?;
        let others = seen.among - usize::from(terms.batch == seen.batch);
        if claim.effect == Effect::Once && others != 1 {
            return Err("a claim of effect once is not alone in its batch".to_owned());
        }
        if asked.is_none() && !self.nonces.insert(&*claim.nonce) {
            self.must_read_again = true;
            return Err("a nonce is claimed a second time".to_owned());
        }
        let Change::Claim { approval_keys, .. } = seen.change else {
            return Err("not a claim".to_owned());
        };
        let again = approval_keys.iter().position(|key| !self.approvals.insert_hash(*key));
        if let Some(again) = again {
            self.must_read_again = true;
            let id = claim.approval_ids().and_then(|ids| ids.into_iter().nth(again));
            let id = id.unwrap_or_default();
            return Err(format!("approval {id} is spent a second time"));
        }
        self.owed.insert(claim.id, (claim.effect, seen.batch));
        self.approvals_judged += u64::from(terms.approvals.is_some());
        Ok(())
    }

    fn receipt(&mut self, record: &Receipt, batch: u64) -> Result<(), String> {
        let (effect, claimed) = self.owed.remove(&record.id).ok_or("a receipt has no claim")?;
        if let Some(ended) = &mut self.ended {
            ended.insert(record.id);
        }
        if (effect == Effect::Pure) != (claimed == batch) {
            return Err("only a pure claim has its receipt in its own batch".to_owned());
        }
        *self.executions.entry(record.outcome.name()).or_insert(0) += 1;
        Ok(())
    }

    fn suppressed(&mut self, count: &str) -> Result<(), String> {
        let count = payload(count)?;
        for (code, number) in &count {
            let number = number.as_u64().filter(|number| *number > 0 && is_code(code));
            let number = number.ok_or("a suppressed count is not one of a code")?;
            self.suppressed = self.suppressed.saturating_add(number);
        }
        if count.is_empty() { Err("a suppressed record counts nothing".to_owned()) } else { Ok(()) }
    }
}
