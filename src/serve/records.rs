//! What the records say, for whoever asks: receipts, what became of a call, what is pending. Each is asked of the
//! executor between two records, and can only look. A caller sees its own, and others' by its rights.

use std::io;
use std::sync::Arc;

use serde_json::json;

use crate::core::approval::artifact::Artifact;
use crate::core::approval::keys::Key;
use crate::core::approval::verify::Examined;
use crate::core::caller::{APPROVE, Caller, READ, Who, name_of};
use crate::core::decision::{self, Facts, Nonce, context};
use crate::core::hash::Hash;
use crate::core::json::{Value, canonical};
use crate::core::problem::{Code, Problem};
use crate::core::record::{self, Proposal, Receipt};
use crate::core::time::Time;
use crate::executor::{Executor, Said, answer};
use crate::store::proposals::Pending;
use crate::store::state::{Position, State};
use crate::store::{By, Found, intact};
use crate::sys::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};

/// What was found, or why nothing.
type Looked = Result<String, Problem>;

/// `GET /receipts/{exec_id}`.
pub fn receipt_of<T>(executor: &Executor<T>, id: &Hash, who: &Who) -> Said {
    let found = find(executor, id, who).and_then(|found| executor.stored_answer(&found));
    found.map_or_else(Said::Problem, Said::Ended)
}

/// The records of an execution, for whoever shows them.
pub fn records_of<T>(executor: &Executor<T>, id: &Hash, who: &Who) -> Looked {
    let mut lines: Vec<String> = Vec::new();
    let proposal = visible(executor.store().find(By::ProposalId(id))?, who)?;
    let executed = match &proposal {
        // Pending or over: there is no execution.
        Some((found, _)) if found.receipt.is_some() => None,
        Some(_) if executor.store().state().proposals.get(id).is_some() => None,
        _ => Some(find(executor, id, who)?),
    };
    for (found, line) in [proposal, executed].into_iter().flatten() {
        lines.push(line);
        for position in [found.receipt, found.completion].into_iter().flatten() {
            lines.push(executor.store().line(position)?);
        }
    }
    lines.extend(pending_lines(executor, id));
    Ok(lines.join("\n"))
}

/// What is pending, callers in turn, for whoever shows it: of each its lines and an empty one; then, where there is
/// more, the place behind which that stands.
pub fn list<T>(executor: &Executor<T>, after: u64, who: &Who) -> Looked {
    let (mut text, mut count, mut last) = (String::new(), 0, after);
    let (state, now) = (executor.store().state(), executor.time());
    let pending = state.proposals.in_turn(after).filter(|(_, id)| state.pending(id, now).is_some());
    for (place, id) in pending {
        if count == PAGE_ENTRIES_MAX || text.len() >= PAGE_BYTES_MAX {
            text.push_str(&format!("{{\"next\":\"{last}\"}}"));
            break;
        }
        last = place;
        if let Some(one) = listed(executor, &id, who)? {
            text.push_str(&one);
            count += 1;
        }
    }
    Ok(text)
}

/// The same of all proposals that were recorded before the one of that number, the newest first: so many are looked
/// at as a page has entries.
pub fn list_all<T>(executor: &Executor<T>, before: u32, who: &Who) -> Looked {
    let mut text = String::new();
    let newest = before.min(executor.store().state().proposals.recorded);
    let oldest = newest.saturating_sub(PAGE_ENTRIES_MAX as u32);
    for number in (oldest..newest).rev() {
        let found = executor.store().find(By::ProposalNumber(number))?;
        let (at, line) = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let id = intact(Proposal::read(&line), at.claim)?.id;
        text.extend(listed(executor, &id, who)?);
        if number > 0 && (number == oldest || text.len() >= PAGE_BYTES_MAX) {
            text.push_str(&format!("{{\"next\":\"{number}\"}}"));
            break;
        }
    }
    Ok(text)
}

/// What there is about one, where it may be seen.
fn listed<T>(executor: &Executor<T>, id: &Hash, who: &Who) -> Result<Option<String>, Problem> {
    let lines = match records_of(executor, id, who) {
        Err(problem) if problem.code == Code::NotFound => return Ok(None),
        found => found?,
    };
    let (state, now) = (executor.store().state(), executor.time());
    let sharing = |pending: &Pending| state.sharing(&pending.action_hash, now).count();
    let same = state.pending(id, now).map_or(0, sharing);
    Ok(Some(format!("{lines}\n{{\"same_hash\":{same}}}\n\n")))
}

/// `GET /receipts/{exec_id}/proof`: where the receipt is, of which somebody else makes the proof.
pub fn receipt_at<T>(executor: &Executor<T>, id: &Hash, who: &Who) -> Result<Position, Problem> {
    find(executor, id, who).and_then(|(execution, _)| executor.receipt_at(&execution))
}

/// `POST /receipts/verify` of a receipt whose hash holds: whether this store has exactly it.
pub fn recorded<T>(executor: &Executor<T>, id: &Hash, receipt: &Hash, who: &Who) -> Looked {
    let (store, mut outcome) = (executor.store(), None);
    let execution = visible(store.find(By::ClaimId(id))?, who)?;
    if let Some(position) = execution.and_then(|(execution, _)| execution.receipt) {
        let line = store.line(position)?;
        let record = intact(Receipt::read(&line), position)?;
        outcome = (record.receipt == *receipt).then_some(record.outcome.name());
    }
    let State { keys, refusals, .. } = store.state();
    let limited = |caller: &&Arc<Caller>| caller.actions.is_some() || !sees(who, None, "");
    let own = who.as_ref().filter(limited).map(|own| keys.of_caller(Some(&own.name)));
    let is_refused = refusals.is_known(id, receipt, own);
    Ok(match outcome.or(is_refused.then_some("denied")) {
        Some(outcome) => {
            format!("{{\"outcome\":\"{outcome}\",\"recorded\":true,\"valid\":true}}")
        }
        None => "{\"recorded\":false,\"valid\":true}".to_owned(),
    })
}

/// Whether it may see a record of that caller and action. What nobody by name recorded is for those alone who see what
/// others recorded of the action.
pub fn sees(who: &Who, owner: Option<&str>, action: &str) -> bool {
    let has_right = |caller: &Caller| caller.may.contains(APPROVE) || caller.may.contains(READ);
    who.as_ref().is_none_or(|caller| {
        owner == Some(&caller.name) || has_right(caller) && caller.knows(action)
    })
}

/// What others recorded is as if it were unknown.
fn find<T>(executor: &Executor<T>, id: &Hash, who: &Who) -> Result<Found, Problem> {
    let found = visible(executor.store().find(By::ClaimId(id))?, who)?;
    let is_seen = |(owner, action): (&Who, &str)| sees(who, name_of(owner), action);
    found.ok_or_else(|| match executor.in_flight(id).is_some_and(is_seen) {
        true => answer::incomplete(),
        false => Problem::new(Code::NotFound, "No execution with this id is stored here"),
    })
}

fn visible(found: Option<Found>, who: &Who) -> io::Result<Option<Found>> {
    let Some((found, line)) = found else { return Ok(None) };
    let (action, caller) = intact(record::asked(&line), found.claim)?;
    let is_seen = sees(who, caller.as_deref(), action);
    Ok(is_seen.then_some((found, line)))
}

/// What a pending proposal's records do not say of it: what keeps it from executing, and which approvals count; or that
/// its time is over.
fn pending_lines<T>(executor: &Executor<T>, id: &Hash) -> Vec<String> {
    let now = executor.time();
    let Some(pending) = executor.store().state().pending(id, now) else {
        return executor.expired(id, now).map(|end| end.line()).into_iter().collect();
    };
    let blocked = executor.blocked(id).map(|code| format!("{{\"blocked\":\"{code}\"}}"));
    let have = have(executor, id, pending).ok().flatten().map(|counted| {
        let until = |until: Time| until.to_string();
        let one = |(artifact, key): (&Artifact, &Arc<Key>)| json!({"key": key.name(), "until": until(artifact.expires_at())});
        let have: Value = counted.signed().map(one).collect();
        canonical::to_string(&json!({ "have": have }))
    });
    blocked.into_iter().chain(have).collect()
}

/// Those of the recorded approvals of a pending proposal that would count now.
fn have<T>(executor: &Executor<T>, id: &Hash, pending: &Pending) -> io::Result<Option<Examined>> {
    if executor.store().state().proposals.approvals(id).is_empty() {
        return Ok(None);
    }
    let (proposal, mut all) = (executor.again(pending, Vec::new())?, Examined::default());
    let count = |facts: &Facts<'_>| {
        let context = context(&proposal, &executor.policy, facts)?;
        decision::recorded(&context, facts).into_iter().flatten().for_each(|one| all.add(one));
        all.reduce(context.required);
        Some(all)
    };
    executor.with_facts(executor.time(), Nonce::Unknown, &proposal, count)
}
