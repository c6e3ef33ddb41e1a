//! Which proposals have enough approvals, and what keeps each from executing: judged as the service judges them, from the
//! store and the approvals directory, with the configuration of whoever runs the command.
//!
//! What the service alone knows (a clock that jumped, a full store) is not seen here.

use std::collections::{HashMap, HashSet};

use super::existing::Existing;
use super::waiting::Asked;
use crate::core::approval::verify::{Examined, examine_recorded};
use crate::core::decision::{Facts, Nonce, judge_pending};
use crate::core::hash::Hash;
use crate::core::proposal::{ApprovalPolicy, Dropped, Policy, Proposal};
use crate::core::receipt::action_hash;
use crate::core::record::{self, Approval, Record};
use crate::core::time::Time;
use crate::executor::AWAITING_CALLER;
use crate::serve::front::dropped;
use crate::sys::clock;
use crate::sys::exit::Failure;

/// Those that have enough: each with what is in its way, `None` where nothing is.
pub type Approved = HashMap<Hash, Option<&'static str>>;

/// What is judged: a proposal, and its recorded approvals.
struct Case<'a> {
    asked: record::Proposal<'a>,
    action_hash: Hash,
    files: Vec<Dropped>,
    recorded: Vec<Examined>,
}

/// Judges these proposals. `frozen` stands for the reason of a stop.
pub fn judge(
    store: &dyn Existing,
    policy: &Policy,
    asked: &[Asked],
    frozen: Option<&str>,
) -> Result<Approved, Failure> {
    let Some(required) = &policy.approvals else { return Ok(Approved::new()) };
    let cases: Vec<_> = asked.iter().filter_map(|asked| Case::of(asked, required)).collect();
    let given = cases.iter().flat_map(Case::given).collect::<HashSet<_>>();
    // What none has given is not looked for among the claims.
    let (mut spent, mut created) = (HashSet::new(), Time::default());
    if !given.is_empty() {
        store.each_record(&mut |record, _| match record {
            Record::Store(made) => created = made.at,
            Record::Claim(claim) => {
                let ids = claim.approval_ids().unwrap_or_default().into_iter();
                spent.extend(ids.filter(|id| given.contains(id.as_str())));
            }
            _ => {}
        })?;
    }
    let mut hashes = HashMap::new();
    cases.iter().for_each(|case| *hashes.entry(case.action_hash).or_insert(0) += 1);
    let judged = |case: &Case| {
        let (asked, files) = (&case.asked, case.files.clone());
        let facts = Facts {
            now: clock::now(),
            nonce: Nonce::Unknown,
            frozen,
            store_created: created,
            clock: None,
            is_spent: &|id| spent.contains(id),
            recorded: &case.recorded,
            is_shared: hashes[&case.action_hash] > 1,
        };
        let judged = judge_pending(&Proposal::recorded(asked, policy, files), policy, &facts)?;
        let way = match judged {
            _ if !asked.asynchronous => Some(AWAITING_CALLER),
            Ok(_) => None,
            Err(problem) => Some(problem.code.name()),
        };
        Some((asked.id, way))
    };
    Ok(cases.iter().filter_map(judged).collect())
}

impl<'a> Case<'a> {
    fn of(pending: &'a Asked, required: &ApprovalPolicy) -> Option<Self> {
        let asked = pending.record()?;
        let action_hash = action_hash(asked.action, &asked.payload);
        let found = dropped::read(required, &asked.id, &action_hash);
        let files = dropped::examined(found, &required.keyring);
        let approvals = pending.approvals.iter().filter_map(|line| Approval::read(line));
        let recorded =
            approvals.filter_map(|approval| examine_recorded(&approval, &required.keyring));
        Some(Case { asked, action_hash, files, recorded: recorded.collect() })
    }

    /// The ids of all approvals that there are for it.
    fn given(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().filter_map(|file| file.examined.as_ref().ok());
        let all = files.chain(&self.recorded).flat_map(Examined::artifacts);
        all.map(|artifact| artifact.approval_id())
    }
}
