//! What approvers say of a proposal: it becomes a record of that one (design section 21).

use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;

use super::proposals::ends;
use super::{Executor, Said, Sees, Stop};
use crate::core::approval::artifact::Artifact;
use crate::core::approval::keys::Key;
use crate::core::approval::rejection::Rejection;
use crate::core::approval::verify::{
    Examined, examine_recorded, hold, malformed, signatures_hold, times_hold,
};
use crate::core::decision::{Facts, Nonce, context};
use crate::core::hash::{Hash, hex, sha256};
use crate::core::json::canonical;
use crate::core::limits::APPROVALS_OF_A_KEY_MAX;
use crate::core::line::Json;
use crate::core::problem::{Code, Problem};
use crate::core::proposal::{Given, Proposal};
use crate::core::record::{self, Approval, Closed, Record};
use crate::core::stage::How;
use crate::core::time::Time;
use crate::store::state::Position;
use crate::store::{By, changed_below_us, intact};

/// Recorded approvals whose keys are remembered: whoever repeats a call or looks at a proposal costs no signatures.
const EXAMINED_KEPT: usize = 1_000;
/// What an approval sets off has begun.
const EXECUTING: &str = "executing";

const PENDING: &str = "pending";

/// How a proposal stands, or an execution that needed none.
struct Standing {
    state: &'static str,
    action: String,
    /// What was signed, where it was rejected.
    rejection: Option<String>,
}

impl<T> Executor<T> {
    /// `POST /approvals`: all of them or none. Where they are the last that were missing, what was promised to execute
    /// by itself is claimed before the answer leaves.
    pub(super) fn approve(&mut self, examined: &Examined, sees: &Sees) -> Result<(), Stop> {
        // What no key signed, and what is recorded already, holds nobody up.
        let is_repeated = self.repeated(examined, sees)?.is_some();
        let hash = *examined.artifacts()[0].action_hash();
        // Where it is of none, there is no other name for it.
        self.is_about(self.pending_of(&hash, sees).unwrap_or(hash));
        if !is_repeated {
            self.commit_all()?;
        }
        let (id, lines) = self.approved(examined, sees)?;
        self.is_about(id);
        if !lines.is_empty() {
            lines.iter().for_each(|line| self.stage(line));
            // A claim is judged by what is recorded before it.
            self.commit()?;
            self.for_nobody(|own| own.judge(&id, Vec::new()))?;
            if self.flights.values().any(|flight| flight.id == id) {
                self.say_once_written((id, id, 0), Said::Stands(id, EXECUTING));
                return Ok(());
            }
        }
        let standing = self.standing(&id, sees)?.ok_or_else(|| nothing_pending(&id))?;
        self.say(Said::Stands(id, standing.state));
        Ok(())
    }

    /// What they approve, and the records to write: none where there are the same already.
    fn approved(
        &mut self,
        examined: &Examined,
        sees: &Sees,
    ) -> Result<(Hash, Vec<String>), Problem> {
        let (now, policy, artifacts) = (self.now(), self.policy.clone(), examined.artifacts());
        let required =
            policy.approvals.as_ref().ok_or_else(|| nothing_pending(&Hash::default()))?;
        if let Some(id) = self.repeated(examined, sees)? {
            return Ok((id, Vec::new()));
        }
        let known = self.known_approvals(examined)?;
        let signers = examined.signers();
        if (1..signers.len()).any(|at| signers[..at].contains(&signers[at])) {
            return Err(malformed("Two of the approvals are by the same key"));
        }
        let clock = self.store.state().clock.fault(now);
        times_hold(artifacts, &required.terms(now, self.store.identity().created, clock))?;
        let ids = artifacts.iter().map(|artifact| self.pending_of(artifact.action_hash(), sees));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let id = ids[0];
        if ids.iter().any(|other| *other != id) {
            return Err(malformed("The approvals are of different proposals"));
        }
        let fresh = examined.signed().zip(&known).filter(|(_, known)| known.is_none());
        let fresh: Vec<_> = fresh.map(|(signed, _)| signed).collect();
        self.may_be_recorded(&id, examined, &fresh, now)
            .map_err(|problem| problem.with("id", hex(&id)))?;
        if let Some((_, is_same)) = known.iter().flatten().find(|known| **known != (id, true)) {
            let other = "One of the approvals is recorded of another proposal; sign it anew";
            let changed = "Another approval with this approval_id was recorded";
            let detail = if *is_same { other } else { changed };
            return Err(Problem::new(Code::ApprovalIdConflict, detail).with("id", hex(&id)));
        }
        let lines: Vec<_> =
            fresh.into_iter().map(|(artifact, key)| line(&id, artifact, key, now)).collect();
        let bytes = lines.iter().map(|line| line.len() + 1).sum();
        self.fits(bytes, self.kept_bytes()).then_some((id, lines)).ok_or_else(|| self.full())
    }

    /// The records of what a call brings that is not enough: each holds. Not of what a record could not say again: an
    /// approval of the legacy hash counts with its call alone; nor of what is recorded, and what a key may not add.
    pub(super) fn brought(&self, proposal: &Proposal, at: Time) -> Result<Vec<String>, Problem> {
        let Some((Given::Artifacts(examined), action_hash)) =
            proposal.approval.as_ref().map(|approval| (&approval.given, approval.action_hash))
        else {
            return Ok(Vec::new());
        };
        let recorded = self.recorded_for(&proposal.id)?;
        let mut signers: Vec<_> = recorded.iter().flat_map(Examined::signers).collect();
        let mut lines = Vec::new();
        for (artifact, key) in examined.signed() {
            let is_canonical = [action_hash, proposal.id].contains(artifact.action_hash());
            let known = self.known_approval(artifact)?;
            let count = signers.iter().filter(|other| **other == key).count();
            if is_canonical && known.is_none() && count < APPROVALS_OF_A_KEY_MAX {
                signers.push(key);
                lines.push(line(&proposal.id, artifact, key, at));
            }
        }
        Ok(lines)
    }

    /// The key's right, and how often it has said so.
    fn may_be_recorded(
        &self,
        id: &Hash,
        examined: &Examined,
        fresh: &[(&Artifact, &Arc<Key>)],
        now: Time,
    ) -> Result<(), Problem> {
        let state = self.store.state();
        let pending = *state.proposals.get(id).ok_or_else(|| nothing_pending(id))?;
        let proposal = self.again(&pending, Vec::new())?;
        let judge = |facts: &Facts<'_>| {
            context(&proposal, &self.policy, facts).map(|context| hold(examined, &context))
        };
        let judged = self.with_facts(now, Nonce::Unknown, &proposal, judge)?;
        judged.ok_or_else(|| nothing_pending(id))??;
        let recorded = self.recorded_for(id)?;
        let is_full = |(_, key): &&(&Artifact, &Arc<Key>)| {
            let own = recorded.iter().flat_map(Examined::signers).filter(|other| other == key);
            own.count() >= APPROVALS_OF_A_KEY_MAX
        };
        let Some((_, key)) = fresh.iter().find(is_full) else { return Ok(()) };
        let detail = format!("Key '{}' has approved this as often as it may", key.name());
        Err(Problem::new(Code::PendingFull, detail))
    }

    /// The pending proposal that an approval of this hash means.
    fn pending_of(&self, hash: &Hash, sees: &Sees) -> Result<Hash, Problem> {
        let (now, state) = (self.time(), self.store.state());
        let mut sharing = state.sharing(hash, now);
        let (one, other) = match state.pending(hash, now) {
            Some(_) => (Some(hash), None),
            None => (sharing.next(), sharing.next()),
        };
        let id = one.unwrap_or(hash);
        // Those that share it are of one action.
        match self.standing(id, sees)? {
            None => Err(nothing_pending(hash)),
            Some(_) if other.is_some() => {
                let detail = "Several proposals that are pending have this action and payload; approve the exec_id of one";
                Err(Problem::new(Code::ApprovalAmbiguous, detail))
            }
            Some(standing) if one.is_none() => Err(not_pending(standing.state).with("id", hex(id))),
            Some(_) => Ok(*id),
        }
    }

    /// The proposal of which the same approvals are recorded already. Others have a signature that holds.
    fn repeated(&self, examined: &Examined, sees: &Sees) -> Result<Option<Hash>, Problem> {
        let known = self.known_approvals(examined)?;
        if let Some((id, true)) = known[0]
            && known.iter().all(|other| *other == known[0])
            && self.standing(&id, sees)?.is_some()
        {
            return Ok(Some(id));
        }
        signatures_hold(examined).map(|()| None)
    }

    /// Of each, as [`Executor::known_approval`] has it.
    fn known_approvals(&self, examined: &Examined) -> io::Result<Vec<Option<(Hash, bool)>>> {
        examined.artifacts().iter().map(|artifact| self.known_approval(artifact)).collect()
    }

    /// Of which proposal an approval of this id was recorded, and whether it is the same.
    fn known_approval(&self, artifact: &Artifact) -> io::Result<Option<(Hash, bool)>> {
        let found = self.store.find(By::ApprovalId(artifact.approval_id()))?;
        let Some(record) = found.as_ref().and_then(|(_, line)| Approval::read(line)) else {
            return Ok(None);
        };
        let is_same = *record.artifact == *canonical::to_string(&artifact.to_value());
        Ok(Some((record.id, is_same)))
    }

    /// The approvals that were recorded of a pending proposal, by the keys as they are now.
    pub(super) fn recorded_for(&self, id: &Hash) -> io::Result<Vec<Examined>> {
        let mut known = self.examined.borrow_mut();
        if known.len() > EXAMINED_KEPT {
            known.clear();
        }
        let positions = self.store.state().proposals.approvals(id).iter();
        let examined = positions.map(|position| match known.entry(*position) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(new) => self.examine_at(*position).map(|one| new.insert(one).clone()),
        });
        examined.collect()
    }

    /// The approval that was recorded there, and the key that made it.
    fn examine_at(&self, position: Position) -> io::Result<Examined> {
        let line = self.store.line(position)?;
        let record = intact(Approval::read(&line), position)?;
        let required = self.policy.approvals.as_ref();
        let examined = required.and_then(|known| examine_recorded(&record, &known.keyring));
        examined.ok_or_else(|| changed_below_us(position))
    }

    /// `POST /rejections`: final for that proposal, and the same again is answered alike.
    pub(super) fn reject(&mut self, rejection: &Rejection, sees: &Sees) -> Result<(), Stop> {
        let said = (rejection.exec_id, sha256(&[rejection.text.as_bytes()]));
        let judge = |own: &mut Self| own.rejected(rejection, sees);
        self.end(said, Code::Rejected.name(), judge)
    }

    /// `DELETE /proposals/{exec_id}`: its caller ends what is pending. What others asked is as if it were unknown.
    pub(super) fn withdraw(&mut self, id: &Hash, sees: &Sees) -> Result<(), Stop> {
        let judge = |own: &mut Self| {
            let standing = own.standing(id, sees)?.ok_or_else(|| nothing_pending(id))?;
            if standing.state != PENDING {
                return Err(not_pending(standing.state));
            }
            let end = ends(own.now(), How::Withdrawn);
            own.that_fits(Closed { by: Some("caller".into()), id: *id, ..end }.line()).map(Some)
        };
        self.end((*id, *id), How::Withdrawn.name(), judge)
    }

    /// Writes by what a proposal is over, of this id and receipt, so that what comes behind is judged by it. `judge`
    /// gives the record, or none where there is the same already.
    fn end(
        &mut self,
        (id, receipt): (Hash, Hash),
        to: &'static str,
        judge: impl Fn(&mut Self) -> Result<Option<String>, Problem>,
    ) -> Result<(), Stop> {
        self.is_about(id);
        let judge = |own: &mut Self| judge(own).map_err(|problem| problem.with("id", hex(&id)));
        // A claim may be on its way to the disk. What would be refused, and what is recorded already, holds nobody up.
        if judge(self)?.is_some() {
            self.commit_all()?;
        }
        let Some(line) = judge(self)? else {
            self.say(Said::Stands(id, to));
            return Ok(());
        };
        self.unblock(&id);
        self.stage(&line);
        self.say_once_written((id, receipt, 0), Said::Stands(id, to));
        Ok(self.commit()?)
    }

    /// The record to write; `None` where there is the same already.
    fn rejected(&mut self, rejection: &Rejection, sees: &Sees) -> Result<Option<String>, Problem> {
        let (now, id, policy) = (self.now(), rejection.exec_id, self.policy.clone());
        let required = policy.approvals.as_ref().ok_or_else(|| nothing_pending(&id))?;
        let signer = rejection.judge(&required.tenant, self.store.identity().created, now)?;
        let standing = self.standing(&id, sees)?.ok_or_else(|| nothing_pending(&id))?;
        if standing.rejection.as_ref() == Some(&rejection.text) {
            return Ok(None);
        }
        if standing.state != PENDING {
            return Err(not_pending(standing.state));
        }
        Rejection::may(signer, &standing.action, now)?;
        let (artifact, key) = (Json(&rejection.text), signer.name().into());
        let line = record::Rejection { artifact, at: now, id, key }.line();
        self.that_fits(line).map(Some)
    }

    /// What approvers say goes before refusals, and after what executions were promised.
    fn that_fits(&self, line: String) -> Result<String, Problem> {
        let bytes = self.bytes_with(line.len() + 1);
        self.store.room().has(bytes, self.kept_bytes()).then_some(line).ok_or_else(|| self.full())
    }

    /// `None` of what was never proposed here, and of what whoever asks may not see.
    fn standing(&self, id: &Hash, sees: &Sees) -> io::Result<Option<Standing>> {
        let asked = self.store.find(By::ProposalId(id))?;
        let executed = self.store.find(By::ClaimId(id))?;
        let Some((found, line)) = asked.as_ref().or(executed.as_ref()) else { return Ok(None) };
        let (action, caller) = intact(record::asked(line), found.claim)?;
        if !sees(caller.as_deref(), action) {
            return Ok(None);
        }
        let end = executed.as_ref().or(asked.as_ref()).and_then(|(found, _)| found.receipt);
        let (mut state, mut rejection) = (EXECUTING, None);
        if self.store.state().proposals.get(id).is_some() {
            state = self.expired(id, self.time()).map_or(PENDING, |end| end.how.name());
        } else if let Some(at) = end {
            let line = self.store.line(at)?;
            state = match Record::read(&line) {
                Some(Record::Receipt(receipt)) => receipt.outcome.name(),
                Some(Record::Closed(closed)) => closed.how.name(),
                Some(Record::Rejection(said)) => {
                    rejection = Some(said.artifact.to_string());
                    Code::Rejected.name()
                }
                _ => return Err(changed_below_us(at)),
            };
        }
        Ok(Some(Standing { state, action: action.to_owned(), rejection }))
    }
}

fn nothing_pending(id: &Hash) -> Problem {
    Problem::new(Code::NothingPending, format!("No proposal {} is known here", hex(id)))
}

fn not_pending(state: &str) -> Problem {
    Problem::new(Code::NotPending, format!("This proposal is {state}")).with("state", state)
}

fn line(id: &Hash, artifact: &Artifact, key: &Key, at: Time) -> String {
    let artifact = canonical::to_string(&artifact.to_value());
    Approval { artifact: Json(&artifact), at, id: *id, key: key.name().into() }.line()
}
