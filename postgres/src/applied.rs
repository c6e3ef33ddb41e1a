//! What the records mean to whoever appends more, and under which keys each is to be found.

use std::collections::{BTreeMap, HashMap};

use openexec::core::hash::Hash;
use openexec::core::record::{self, Record};
use openexec::core::time::Time;
use openexec::core::tree::Tree;
use openexec::store::refusals::Holder;
use openexec::store::state::{Change, Position, State};

use crate::keys::{Key, of_record};
use crate::outbox::Job;

/// What the records so far mean. Of what is over nothing is kept here: the database has it.
#[derive(Default)]
pub struct Applied {
    pub state: State,
    pub tree: Tree,
    /// Of all lines.
    pub bytes: u64,
    /// The claims that are owed a receipt, by id.
    claims: HashMap<Hash, Position>,
    /// The newest time of a record since the last `unfreeze`.
    pub newest: Option<Time>,
    /// Callers by their keyed hashes, and a refusal of each who holds room of them: so they can be written down.
    pub names: HashMap<u64, String>,
    pub holders: BTreeMap<Holder, Position>,
    /// Size and bytes of the log at the newest snapshot, and the length of its text.
    pub saved: [u64; 3],
}

/// What a record brings beside its line.
#[derive(Default)]
pub struct Brings {
    pub keys: Vec<Key>,
    /// The claim that left a job, and the one of whose job somebody says what became of it.
    pub opens: Option<Position>,
    pub closes: Option<Position>,
}

/// What one append adds.
#[derive(Default)]
pub struct Adds<'a> {
    pub lines: Vec<&'a str>,
    /// Each with the number of its line.
    pub keys: Vec<(Key, i32)>,
    /// As [`Brings`] has them.
    pub opens: Vec<i64>,
    pub closes: Vec<i64>,
    pub snapshot: Option<String>,
    pub jobs: Vec<Job>,
}

impl Applied {
    /// Applies a record. `lookup` tells the claim of what has been executed.
    ///
    /// # Errors
    /// The sentence says which promise of the format it breaks.
    pub fn apply(
        &mut self,
        line: &str,
        position: Position,
        lookup: impl FnOnce(&Hash) -> Option<Position>,
    ) -> Result<Brings, &'static str> {
        let record = Record::read(line).ok_or("it is of no known form")?;
        let State { keys, proposals, .. } = &self.state;
        let change = keys.change(&record, line.len()).ok_or("its approvals cannot be read")?;
        let claim = match &change {
            Change::Receipt { id, .. } => self.claims.get(id).copied(),
            Change::Completion { id, .. } => lookup(id),
            _ => None,
        };
        let proposal = |id: &Hash| proposals.get(id).map(|pending| pending.position);
        let mut brings = Brings {
            keys: of_record(&record, claim, proposal, proposals.recorded)?,
            ..Brings::default()
        };
        let at = record.at();
        self.state.apply(at, &change, position)?;
        match &change {
            Change::Claim { id, .. } => drop(self.claims.insert(*id, position)),
            Change::Receipt { id, job } => {
                self.claims.remove(id);
                brings.opens = claim.filter(|_| *job);
            }
            Change::Completion { closes: true, .. } => brings.closes = claim,
            Change::Refusal(stored) => drop(self.holders.insert(stored.holder, position)),
            Change::Frozen(false) => self.newest = None,
            _ => {}
        }
        if let Record::Proposal(record::Proposal { caller: Some(name), .. })
        | Record::Refusal(record::Refusal { caller: Some(name), .. }) = &record
        {
            self.names.insert(self.state.keys.of_caller(Some(name)), name.to_string());
        }
        self.newest = self.newest.max(Some(at));
        self.bytes += line.len() as u64 + 1;
        Ok(brings)
    }
}
