//! Which proposals are pending, which are over, and whether another may be recorded (design section 17).
//!
//! One rule shares the room, of what is pending and of what a day takes, in number and in bytes: **no caller holds
//! more than is left free.** Where nobody is asked who calls, all of it may be taken. Opening and the live path count
//! each record by the same function: a restart forgets nothing. Payloads stay where the records are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::ops::Bound;

use super::refusals::Known;
use super::state::{Keys, Position};
use super::table::Table;
use crate::core::approval::verify::MISSING;
use crate::core::hash::Hash;
use crate::core::limits::{
    PROPOSAL_BYTES_A_DAY, PROPOSAL_BYTES_PENDING, PROPOSALS_A_DAY, PROPOSALS_PENDING,
};
use crate::core::problem::Code;
use crate::core::receipt::{action_hash, refusal};
use crate::core::record;
use crate::core::stage::{Stage, Step};
use crate::core::time::Time;

/// What there is room for: of what is pending, and of what a day records, the number and the bytes of payloads.
const ROOM: [u64; 4] =
    [PROPOSALS_PENDING, PROPOSAL_BYTES_PENDING, PROPOSALS_A_DAY, PROPOSAL_BYTES_A_DAY];
const DAY_SECONDS: i64 = 86_400;
/// A place in the list is a turn and, in its lower bits, a position.
pub const POSITION_BITS: u32 = 40;

/// What one proposal takes, and of whom: the caller's keyed hash; `None` where nobody was asked who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    caller: Option<u64>,
    /// Of its payload.
    bytes: u64,
}

impl Share {
    pub fn of(keys: &Keys, caller: Option<&str>, payload: &str) -> Self {
        let caller = caller.map(|name| keys.of(name.as_bytes()));
        Share { caller, bytes: payload.len() as u64 }
    }
}

/// What a proposal's record changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub id: Hash,
    pub id_key: u64,
    pub nonce_key: u64,
    share: Share,
    action_hash: Hash,
    expires: Time,
    pub asynchronous: bool,
    /// Of the refusal for want of an approval: the record stands for that one too.
    pub refusal: Known,
}

impl Asked {
    pub fn of(keys: &Keys, record: &record::Proposal) -> Self {
        Asked {
            id: record.id,
            id_key: keys.of(&record.id),
            nonce_key: keys.of(record.nonce.as_bytes()),
            share: Share::of(keys, record.caller.as_deref(), &record.payload),
            action_hash: action_hash(record.action, &record.payload),
            expires: record.expires,
            asynchronous: record.asynchronous,
            refusal: (
                record.id,
                refusal(&record.id, Code::ApprovalMissing.name(), MISSING),
                keys.of_caller(record.caller.as_deref()),
            ),
        }
    }
}

/// A proposal that is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Which of all proposals, from 0.
    pub number: u32,
    /// Of its record.
    pub position: Position,
    pub asked_at: Time,
    pub expires: Time,
    pub action_hash: Hash,
    pub asynchronous: bool,
    pub share: Share,
    /// In the list: callers in turn, each one's oldest first.
    place: u64,
}

#[derive(Default)]
pub struct Proposals {
    /// Proposals so far.
    pub recorded: u32,
    pending: HashMap<Hash, Pending>,
    deadlines: BTreeSet<(Time, Hash)>,
    /// By their places in the list.
    in_turn: BTreeMap<u64, Hash>,
    /// The last turn of each caller.
    pub turns: HashMap<Option<u64>, u64>,
    /// Where the approvals are that were recorded of those that are pending, the oldest first.
    approvals: HashMap<Hash, Vec<Position>>,
    /// The keyed hashes of the ids of those that were rejected or closed; a store that itself keeps these from coming
    /// back may forget them.
    pub over: Table,
    /// A day since 1970, and what each caller proposed in it: the number, and the bytes.
    pub today: (i64, HashMap<Option<u64>, [u64; 2]>),
    /// Grows with each change of what is pending.
    pub version: u64,
}

impl Proposals {
    /// How far one is that is not claimed.
    pub(super) fn stage(&self, id: &Hash, id_key: u64) -> Stage {
        match self.pending.get(id) {
            Some(pending) => Stage::Pending { asynchronous: pending.asynchronous },
            None if self.over.has_hash(id_key) => Stage::Over,
            None => Stage::New,
        }
    }

    /// Applies a step that was found to be right. Gives the number of a proposal that becomes asynchronous or is over.
    pub(super) fn take(&mut self, id: &Hash, id_key: u64, step: Step) -> Option<u32> {
        let pending = self.pending.get_mut(id)?;
        self.version += 1;
        pending.asynchronous |= step == Step::BecomeAsynchronous;
        if step == Step::BecomeAsynchronous {
            return Some(pending.number);
        }
        let pending = self.pending.remove(id)?;
        self.approvals.remove(id);
        self.deadlines.remove(&(pending.expires, *id));
        self.in_turn.remove(&pending.place);
        (step == Step::End).then(|| {
            self.over.insert_hash(id_key);
            pending.number
        })
    }

    /// Adds an approval of one that is pending.
    pub(super) fn approve(&mut self, id: Hash, position: Position) {
        self.version += 1;
        self.approvals.entry(id).or_default().push(position);
    }

    /// Where those are that were recorded of it.
    pub fn approvals(&self, id: &Hash) -> &[Position] {
        self.approvals.get(id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn begin(&mut self, asked: &Asked, at: Time, position: Position) -> Option<u32> {
        let number = self.recorded;
        self.recorded = number.checked_add(1)?;
        self.version += 1;
        let Asked { id, share, action_hash, expires, asynchronous, .. } = *asked;
        let asked_at = at;
        // Whoever had nothing pending is not behind those who have much, nor before those who come next.
        let now = self.in_turn.first_key_value().map_or(0, |(place, _)| place >> POSITION_BITS);
        let turn = self.turns.entry(share.caller).or_default();
        *turn = now.max(*turn + 1);
        let place = *turn << POSITION_BITS | position;
        self.in_turn.insert(place, id);
        #[rustfmt::skip]
        let pending = Pending { number, position, asked_at, expires, action_hash, asynchronous, share, place };
        self.pending.insert(id, pending);
        self.deadlines.insert((expires, id));
        let day = at.seconds().div_euclid(DAY_SECONDS);
        if self.today.0 != day {
            self.today = (day, HashMap::new());
        }
        let [count, bytes] = self.today.1.entry(share.caller).or_default();
        (*count, *bytes) = (*count + 1, *bytes + share.bytes);
        Some(number)
    }

    pub fn get(&self, id: &Hash) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// Those that are pending, the oldest first.
    pub fn oldest_first(&self) -> Vec<(Hash, Pending)> {
        let mut all: Vec<_> = self.pending.iter().map(|(id, pending)| (*id, *pending)).collect();
        all.sort_unstable_by_key(|(_, pending)| pending.position);
        all
    }

    /// Those that are pending, callers in turn, behind that place in the list; each with its own.
    pub fn in_turn(&self, after: u64) -> impl Iterator<Item = (u64, Hash)> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.in_turn.range(behind).map(|(place, id)| (*place, *id))
    }

    pub fn count(&self) -> usize {
        self.pending.len()
    }

    /// Those that are pending and have this hash of action and payload.
    pub fn sharing(&self, action_hash: &Hash) -> impl Iterator<Item = &Hash> {
        let all =
            self.pending.iter().filter(move |(_, pending)| pending.action_hash == *action_hash);
        all.map(|(id, _)| id)
    }

    /// Those whose time is over, the first to expire first.
    pub fn due(&self, now: Time) -> impl Iterator<Item = Hash> {
        self.deadlines.iter().take_while(move |(expires, _)| *expires <= now).map(|(_, id)| *id)
    }

    /// Whether one that takes this may be recorded beside those that are about to be.
    pub fn admits<'a>(
        &self,
        wanted: &'a Share,
        staged: impl Iterator<Item = &'a Share>,
        now: Time,
    ) -> bool {
        let (mut held, mut own) = ([0; 4], [0; 4]);
        let mut add = |caller: Option<u64>, takes: [u64; 4]| {
            for (n, amount) in takes.into_iter().enumerate() {
                held[n] += amount;
                own[n] += if caller == wanted.caller { amount } else { 0 };
            }
        };
        let pending = self.pending.values().map(|pending| &pending.share);
        pending.for_each(|share| add(share.caller, [1, share.bytes, 0, 0]));
        staged.chain([wanted]).for_each(|s| add(s.caller, [1, s.bytes, 1, s.bytes]));
        if self.today.0 == now.seconds().div_euclid(DAY_SECONDS) {
            self.today.1.iter().for_each(|(caller, [n, bytes])| add(*caller, [0, 0, *n, *bytes]));
        }
        (0..4).all(|n| {
            let left = ROOM[n].checked_sub(held[n]);
            left.is_some_and(|left| wanted.caller.is_none() || own[n] <= left)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_780_000_000 / DAY_SECONDS * DAY_SECONDS + DAY_SECONDS / 2;

    fn at(second: i64) -> Time {
        Time::from_micros(second * 1_000_000)
    }

    fn asked(n: u64, caller: Option<u64>, bytes: u64) -> Asked {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        Asked {
            id,
            id_key: n,
            nonce_key: n,
            share: Share { caller, bytes },
            action_hash: [0; 32],
            expires: at(NOON + 60),
            asynchronous: false,
            refusal: ([0; 32], [0; 32], 0),
        }
    }

    /// Proposes until it is told to stop; gives how often it was not. `ends`: each is closed at once.
    fn flood(
        proposals: &mut Proposals,
        caller: Option<u64>,
        bytes: u64,
        ends: bool,
        now: i64,
    ) -> u64 {
        for n in 0.. {
            let asked = asked(u64::from(proposals.recorded) + 1, caller, bytes);
            if !proposals.admits(&asked.share, [].iter(), at(now)) {
                return n;
            }
            proposals.begin(&asked, at(now), n).expect("a number");
            if ends {
                proposals.take(&asked.id, asked.id_key, Step::End).expect("it was pending");
            }
        }
        unreachable!("a flood without end")
    }

    #[test]
    fn no_caller_holds_more_than_is_left_free_of_any_of_the_four() {
        const MIB: u64 = 1024 * 1024;
        for (what, bytes, ends, room) in [
            ("many", 2, false, PROPOSALS_PENDING),
            ("large", MIB, false, PROPOSAL_BYTES_PENDING / MIB),
            ("many that end", 2, true, PROPOSALS_A_DAY),
            ("large that end", MIB, true, PROPOSAL_BYTES_A_DAY / MIB),
        ] {
            let mut proposals = Proposals::default();
            // The first takes half, the second half of what is left, and so on: always as much stays free.
            let mut free = room;
            for caller in 1..5 {
                let got = flood(&mut proposals, Some(caller), bytes, ends, NOON);
                assert_eq!(got, free / 2, "{what}: caller {caller}");
                free -= got;
            }
            // Where nobody is asked who calls, one may take all.
            let mut proposals = Proposals::default();
            assert_eq!(flood(&mut proposals, None, bytes, ends, NOON), room, "{what}");
            assert_eq!(flood(&mut proposals, None, bytes, ends, NOON), 0, "{what}");
            // What ended is free the next day, and what is pending is not.
            let next = flood(&mut proposals, None, bytes, ends, NOON + DAY_SECONDS);
            assert_eq!(next, if ends { room } else { 0 }, "{what}");
        }
    }

    #[test]
    fn what_is_about_to_be_recorded_counts() {
        let proposals = Proposals::default();
        let share = |caller| Share { caller, bytes: 2 };
        let staged = vec![share(Some(1)); PROPOSALS_PENDING as usize / 2];
        assert!(!proposals.admits(&share(Some(1)), staged.iter(), at(NOON)));
        assert!(proposals.admits(&share(Some(2)), staged.iter(), at(NOON)));
    }

    #[test]
    fn what_expires_first_is_due_first_and_what_ended_is_not_due() {
        let mut proposals = Proposals::default();
        let ids: Vec<Hash> = (0..3)
            .map(|n| {
                let asked = Asked { expires: at(NOON + 3 - n as i64), ..asked(n, None, 2) };
                proposals.begin(&asked, at(NOON), n).expect("a number");
                asked.id
            })
            .collect();
        assert_eq!(proposals.due(at(NOON)).count(), 0);
        assert_eq!(proposals.due(at(NOON + 2)).collect::<Vec<_>>(), [ids[2], ids[1]]);
        proposals.take(&ids[1], 1, Step::End);
        proposals.take(&ids[2], 2, Step::Claim);
        assert_eq!(proposals.due(at(NOON + 9)).collect::<Vec<_>>(), [ids[0]]);
        let stages = [0, 1, 2].map(|n| proposals.stage(&ids[n as usize], n));
        assert_eq!(stages, [Stage::Pending { asynchronous: false }, Stage::Over, Stage::New]);
    }
}
