//! What a bundle shows: each statement of one table is proven, attested by the log's key, or not shown.
//!
//! Proven is what follows from the records, their paths and signatures, relative to the checkpoint. Attested is what
//! nobody can see in a part of a log: whoever has the log's key says it by signing the root, and `openexec verify` over
//! the whole log to that checkpoint proves it. A bundle that contradicts itself shows nothing at all.

use std::collections::BTreeSet;

use super::bundle::{Bundle, Included, id};
use super::checkpoint::Checkpoint;
use super::guard::unsigned;
use super::note::{VerifierKey, split};
use super::path::includes;
use super::terms::{self, Asked, Beside, Terms};
use crate::core::approval::keys::Keyring;
use crate::core::hash::Hash;
use crate::core::line::words;
use crate::core::receipt::{Effect, Outcome};
use crate::core::record::{Mode, Record, Store};
use crate::core::stage::{Stage, Step};
use crate::core::tree::leaf_hash;
use crate::store::state::{Change, Keys};

words! {
    /// What is said of a statement.
    Verdict {
        Proven = "proven",
        Attested = "attested",
        NotShown = "not_shown",
    }
}

use Verdict::{Attested, NotShown, Proven};

/// A statement: its name, what is said of it, and what it says.
type Statement = (&'static str, fn(&Shown) -> Verdict, &'static str);

pub const STATEMENTS: &[Statement] = &[
    ("included", |_| Proven, "each record here is in the log of this root, in this order"),
    ("log", |s| proven(s.is_signed), "the root is of the log whose key was given"),
    ("request", |_| Proven, "the id is the hash of this action, nonce and payload"),
    (
        "approvals",
        |s| proven(s.is_approved),
        "keys of the policy here approved it, enough and in time by the record's own time",
    ),
    ("rejection", |s| proven(s.is_rejected), "a key of the policy here signed the rejection"),
    ("keys", |s| proven(s.is_trusted), "the keys that signed are among those given, and enough"),
    (
        "outcome",
        |s| proven(s.outcome.is_some()),
        "it ended so, and the receipt is the hash of that",
    ),
    ("completion", |s| proven(s.completed.is_some()), "this word about the job was recorded"),
    ("policy", |s| s.attested(true), "no other policy was in force"),
    ("service", |s| s.attested(true), "who asked, when, and what else the service recorded is so"),
    (
        "once",
        |s| s.attested(s.effect.is_some()),
        "it was executed once at most, by its own approvals",
    ),
    ("unexecuted", |s| s.attested(s.stage == Stage::Over), "nothing was executed under this id"),
    ("nothing_else", |_| NotShown, "the log has nothing else about this id"),
];

/// The records of a bundle that hold, one after another, and by which keys they were judged.
#[derive(Default)]
pub struct Shown<'a> {
    pub store: &'a str,
    pub is_clawshield: bool,
    pub is_signed: bool,
    by: Beside<'a>,
    pub id: Hash,
    stage: Stage,
    /// What the last policy record says, and whether nothing was decided by it yet.
    terms: Option<Terms<'a>>,
    is_idle: bool,
    asked: Option<Asked>,
    /// Approvals.
    recorded: BTreeSet<Option<String>>,
    /// Of the claim.
    effect: Option<Effect>,
    is_retried: bool,
    pub outcome: Option<Outcome>,
    /// Of the last completion.
    completed: Option<Outcome>,
    is_approved: bool,
    is_rejected: bool,
    /// Something was signed, and all by keys that are trusted.
    is_trusted: bool,
}

fn proven(is_shown: bool) -> Verdict {
    if is_shown { Proven } else { NotShown }
}

/// Whether it is decided by the policy in force, which then belongs to a bundle.
pub fn is_decided(record: &Record) -> bool {
    use Record::{Approval, Claim, Proposal, Rejection};
    matches!(record, Proposal(_) | Approval(_) | Rejection(_) | Claim(_))
}

/// Judges a bundle: by the log's key, if there is one, and by keys that approvers are known by, if there are any.
///
/// # Errors
/// A sentence: the first thing that does not hold.
pub fn judge<'a>(
    bundle: &'a Bundle,
    log_key: Option<&VerifierKey>,
    trusted: Option<&'a Keyring>,
) -> Result<(Checkpoint, Shown<'a>), String> {
    let checkpoint = Checkpoint::open(&bundle.note, log_key);
    let checkpoint = checkpoint.map_err(|why| format!("the checkpoint: {why}"))?;
    let mut next = 0;
    for Included { index, path, line } in &bundle.records {
        let leaf = leaf_hash(line.as_bytes());
        if *index < next || !includes(&checkpoint.head, *index, &leaf, path) {
            return Err(format!("record {index} is not where it says in the log of this root"));
        }
        next = index + 1;
    }
    let mut records = bundle.records.iter();
    let first = records.next().filter(|first| first.index == 0);
    let store = first.and_then(|first| Store::read(&first.line).filter(|s| s.line() == first.line));
    let store = store.ok_or("it does not begin with the store record")?;
    if split(&bundle.note).is_err() && bundle.note != unsigned(store.store, checkpoint.head) {
        return Err("the checkpoint has no signature, and is not one of this store".to_owned());
    }
    let (is_clawshield, is_signed) = (store.mode == Mode::Clawshield, log_key.is_some());
    if trusted.is_some() && !is_clawshield {
        return Err("it is of demo mode, where nobody approves; leave out the keys".to_owned());
    }
    let (by, store) = (Beside { created: store.at, trusted }, store.store);
    let mut shown = Shown { store, is_clawshield, is_signed, by, ..Shown::default() };
    for Included { index, line, .. } in records {
        let record = Record::read(line).filter(|read| read.line() == *line);
        let record = record.ok_or_else(|| format!("record {index} is of no known form"))?;
        shown.take(*index, &record).map_err(|why| format!("record {index}: {why}"))?;
    }
    match (shown.stage, shown.is_idle) {
        (Stage::New, _) => Err("it has neither a proposal nor an execution".to_owned()),
        (_, true) => Err("nothing here was decided by its last policy record".to_owned()),
        _ => Ok((checkpoint, shown)),
    }
}

impl Shown<'_> {
    /// Of each of [`STATEMENTS`]: its name, what is said of it, and its sentence.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, Verdict, &'static str)> {
        STATEMENTS.iter().map(|(name, verdict, sentence)| (*name, verdict(self), *sentence))
    }

    fn attested(&self, is_said: bool) -> Verdict {
        if is_said && self.is_signed { Attested } else { NotShown }
    }

    fn take(&mut self, index: u64, record: &Record) -> Result<(), String> {
        if let Record::Policy(policy) = record {
            let terms = Terms::of(policy, index, 0, self.by)?;
            if terms.approvals.is_some() != self.is_clawshield || self.is_idle {
                return Err(
                    "it is of the other mode, or nothing was decided by the one before".into()
                );
            }
            (self.terms, self.is_idle) = (Some(terms), true);
            return Ok(());
        }
        let change = Keys::default().change(record, 0).ok_or("its approvals cannot be read")?;
        let id = id(&change).ok_or("a record of its kind has no place here")?;
        if self.stage != Stage::New && self.id != *id {
            return Err("it is about another id".to_owned());
        }
        self.id = *id;
        self.is_idle &= !is_decided(record);
        let step = match &change {
            Change::Proposal(asked) => Step::Propose { asynchronous: asked.asynchronous },
            Change::Approval { .. } => Step::Approve,
            Change::Pending { step, .. } => *step,
            Change::Claim { .. } => Step::Claim,
            Change::Receipt { .. } => Step::Receipt,
            _ => return self.judge(record),
        };
        self.stage = self.stage.after(step)?;
        self.judge(record)
    }

    fn judge(&mut self, record: &Record) -> Result<(), String> {
        let asked = self.asked.as_ref();
        let terms = self.terms.as_ref().ok_or("no policy record stands before it")?;
        let approvals = terms.approvals.as_ref();
        let signed = || approvals.zip(asked).ok_or("nothing was asked for that it could be of");
        let is_trusted = self.by.trusted.is_some();
        match record {
            Record::Proposal(proposal) => self.asked = Some(terms.proposal(proposal)?),
            Record::Approval(approval) => {
                let (approvals, asked) = signed()?;
                approvals.record(approval, asked)?;
                if !self.recorded.insert(approval.approval_id()) {
                    return Err("an approval that is recorded already".to_owned());
                }
            }
            Record::Rejection(rejection) => {
                let (approvals, asked) = signed()?;
                approvals.rejection(rejection, asked)?;
                (self.is_rejected, self.is_trusted) = (true, is_trusted);
            }
            Record::Closed(closed) => terms::closed(closed)?,
            Record::Claim(claim) => {
                terms.claim(claim, asked)?;
                terms.approved(claim)?;
                (self.is_approved, self.is_trusted) = (self.is_clawshield, is_trusted);
                self.effect = Some(claim.effect);
            }
            Record::Retry(_) => {
                let may_be = self.stage == Stage::Executing && self.effect != Some(Effect::Once);
                if !may_be || std::mem::replace(&mut self.is_retried, true) {
                    return Err("it could not be run again".to_owned());
                }
            }
            Record::Receipt(receipt) => {
                terms::receipt(receipt)?;
                self.outcome = Some(receipt.outcome);
            }
            Record::Completion(said) => {
                let is_open = self.completed.is_none_or(|known| known == Outcome::Indeterminate);
                if self.stage != Stage::Executed || !is_open || !said.holds() {
                    return Err("it does not hold, or is of what has no open job".to_owned());
                }
                self.completed = Some(said.outcome);
            }
            _ => {}
        }
        Ok(())
    }
}
