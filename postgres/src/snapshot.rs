//! What a node that takes over need not read the log for: where the records are that still matter, and what others have
//! left of themselves that are over.
//!
//! ```text
//! 1 4711 200 12 1903 1780000000000000 0          form, records, executions, proposals, bytes, newest time, frozen
//! policy 17 9c1d…                                which record, and its digest
//! owed 4709 0                                    where the claim is; whether it was run again
//! pending 4698 11 3 0 4700 4702                  where; its number, its turn, whether it executes by itself; its approvals
//! turn 3 =agent-7                                the last turn of a caller, `-` of nobody by name
//! day 20601 1 350 =agent-7                       what a caller proposed that day: how many, and their bytes
//! refused 1780000000 1779999000                  as of which second the room of refusals is; of the newest counts
//! level 1536 4650                                bytes of whoever holds room, and a refusal of theirs, 0 of the counts
//! known 4b22… 9c1d… agent-7                      a refusal that is known, and whose it is; the newest last
//! ```
//!
//! Invariant: [`read`] gives what [`Applied::apply`] made of all records. Records that still matter are applied again,
//! by the function that applied them first.

use std::fmt::Write;

use openexec::core::clock::Clock;
use openexec::core::hash::{hex, unhex};
use openexec::core::limits::REFUSALS_INDEXED;
use openexec::core::record::{Claim, Record};
use openexec::core::stage::Step;
use openexec::core::time::Time;
use openexec::store::proposals::POSITION_BITS;
use openexec::store::refusals::{Holder, Refusals};
use openexec::store::state::{Change, InForce, Position};

use crate::applied::Applied;
use crate::link::Fault;

/// A snapshot is due after so many records, or bytes of them.
const RECORDS: u64 = 4096;
const BYTES: u64 = 16 * 1024 * 1024;
/// And after so many times its own length.
const TIMES_ITSELF: u64 = 16;
/// Records that are asked for at once: each may be as large as a request.
const AT_ONCE: usize = 16;

/// Why a snapshot leads to nothing.
pub enum Unread {
    Fault(Fault),
    Damaged(&'static str),
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Self {
        Unread::Fault(fault)
    }
}

/// Whether a batch should bring one.
pub fn is_due(applied: &Applied) -> bool {
    let [size, bytes, length] = applied.saved;
    let more = applied.bytes - bytes;
    more >= length * TIMES_ITSELF && (applied.state.records - size >= RECORDS || more >= BYTES)
}

/// The text of what was applied.
pub fn write(applied: &mut Applied) -> String {
    let Applied { state, holders, names, .. } = applied;
    let held = |holder: &Holder| state.refusals.levels.contains_key(holder);
    holders.retain(|holder, _| held(holder));
    let newest = applied.newest.map_or(0, Time::micros);
    let (proposals, refusals) = (&state.proposals, &state.refusals);
    let mut lines = vec![format!(
        "1 {} {} {} {} {newest} {}",
        state.records,
        state.executions,
        proposals.recorded,
        applied.bytes,
        u8::from(state.frozen)
    )];
    if let Some(InForce { number, digest }) = state.policy {
        lines.push(format!("policy {number} {}", hex(&digest)));
    }
    for (position, (_, owed)) in state.owed() {
        lines.push(format!("owed {position} {}", u8::from(owed.retried)));
    }
    for (place, id) in proposals.in_turn(0) {
        let Some(pending) = proposals.get(&id) else { continue };
        let (turn, asynchronous) = (place >> POSITION_BITS, u8::from(pending.asynchronous));
        let mut line =
            format!("pending {} {} {turn} {asynchronous}", pending.position, pending.number);
        for approval in proposals.approvals(&id) {
            let _ = write!(line, " {approval}");
        }
        lines.push(line);
    }
    let name = |caller: &Option<u64>| match caller {
        Some(key) => format!("={}", names.get(key).map_or("", String::as_str)),
        None => "-".to_owned(),
    };
    let mut sorted: Vec<String> = (proposals.turns.iter())
        .map(|(caller, turn)| format!("turn {turn} {}", name(caller)))
        .collect();
    let (day, today) = &proposals.today;
    sorted.extend(
        today
            .iter()
            .map(|(caller, [count, bytes])| format!("day {day} {count} {bytes} {}", name(caller))),
    );
    sorted.sort_unstable();
    lines.append(&mut sorted);
    lines.push(format!("refused {} {}", refusals.at, refusals.counted_at));
    let mut levels: Vec<(Position, u64)> = (refusals.levels.iter())
        .map(|(holder, level)| (holders.get(holder).copied().unwrap_or(0), *level))
        .collect();
    levels.sort_unstable();
    lines.extend(levels.iter().map(|(position, level)| format!("level {level} {position}")));
    for (id, receipt, caller) in &refusals.recent {
        let name = names.get(caller).map_or("", String::as_str);
        lines.push(format!("known {} {} {name}", hex(id), hex(receipt)));
    }
    lines.join("\n")
}

/// What was applied when this was written. `lines` reads records again.
///
/// # Errors
/// It is of another form, or the records are not there or not those that it means.
pub fn read(
    text: &str,
    mut lines: impl FnMut(&[Position]) -> Result<Vec<String>, Fault>,
) -> Result<Applied, Unread> {
    let parsed = Parsed::of(text)?;
    let mut again = |positions: &[Position]| -> Result<Vec<(Position, String)>, Unread> {
        let read = lines(positions)?;
        match read.len() == positions.len() {
            true => Ok(positions.iter().copied().zip(read).collect()),
            false => Err(Unread::Damaged("the snapshot names a record that is missing")),
        }
    };
    let mut applied = Applied::default();
    for some in parsed.owed.chunks(AT_ONCE) {
        let positions: Vec<_> = some.iter().map(|(position, _)| *position).collect();
        for ((position, line), (_, retried)) in again(&positions)?.into_iter().zip(some) {
            applied.take_owed(&line, position, *retried).map_err(Unread::Damaged)?;
        }
    }
    for pending in &parsed.pending {
        let line = again(&[pending.position])?.pop().map(|(_, line)| line).unwrap_or_default();
        applied.take_pending(&line, &pending.rest, pending.position).map_err(Unread::Damaged)?;
        for (position, line) in again(&pending.approvals)? {
            applied.apply(&line, position, |_| None).map_err(Unread::Damaged)?;
        }
    }
    applied.take_counts(&parsed).ok_or(Unread::Damaged("the snapshot counts too many"))?;
    for some in parsed.levels.chunks(AT_ONCE) {
        let positions: Vec<_> = some.iter().map(|(_, at)| *at).filter(|at| *at != 0).collect();
        let mut read = again(&positions)?.into_iter();
        for (level, position) in some {
            let holder = match *position {
                0 => Holder::COUNTS,
                _ => holder(&applied, read.next())
                    .ok_or(Unread::Damaged("the snapshot means a refusal where there is none"))?,
            };
            if *position != 0 {
                applied.holders.insert(holder, *position);
            }
            applied.state.refusals.levels.insert(holder, *level);
        }
    }
    applied.saved = [applied.state.records, applied.bytes, text.len() as u64];
    Ok(applied)
}

fn holder(applied: &Applied, read: Option<(Position, String)>) -> Option<Holder> {
    let (_, line) = read?;
    match applied.state.keys.read(&line).ok()?.1 {
        Change::Refusal(stored) => Some(stored.holder),
        _ => None,
    }
}

impl Applied {
    /// A claim that is owed its receipt, whatever was in force when it was made.
    fn take_owed(
        &mut self,
        line: &str,
        position: Position,
        retried: bool,
    ) -> Result<(), &'static str> {
        let claim = Claim::read(line).ok_or("the snapshot means a claim where there is none")?;
        self.state.policy = Some(InForce { number: claim.policy, digest: [0; 32] });
        self.apply(line, position, |_| None)?;
        if retried {
            self.state.apply(claim.at, &Change::Retry { id: claim.id }, position)?;
        }
        Ok(())
    }

    /// A proposal that is pending, with its number, its turn, and whether it executes by itself.
    fn take_pending(
        &mut self,
        line: &str,
        [number, turn, asynchronous]: &[u64; 3],
        position: Position,
    ) -> Result<(), &'static str> {
        let Some(Record::Proposal(record)) = Record::read(line) else {
            return Err("the snapshot means a proposal where there is none");
        };
        let caller = record.caller.as_ref().map(|name| self.state.keys.of(name.as_bytes()));
        // They come in their turns, so none is before this one.
        let before = turn.checked_sub(1).ok_or("the snapshot has a turn that nobody had")?;
        self.state.proposals.turns.insert(caller, before);
        self.state.proposals.recorded = u32::try_from(*number).map_err(|_| "too many proposals")?;
        self.apply(line, position, |_| None)?;
        if *asynchronous == 1 && !record.asynchronous {
            let (id, id_key) = (record.id, self.state.keys.of(&record.id));
            let change = Change::Pending { step: Step::BecomeAsynchronous, id, id_key };
            self.state.apply(record.at, &change, position)?;
        }
        Ok(())
    }
}

impl Applied {
    /// What the records that still matter do not tell: turns, days, refusals, counters.
    fn take_counts(&mut self, parsed: &Parsed) -> Option<()> {
        let Applied { state, names, .. } = self;
        let keys = &state.keys;
        let mut key = |name: &str| {
            let key = keys.of(name.as_bytes());
            names.insert(key, name.to_owned());
            key
        };
        let turns = parsed.turns.iter().map(|(name, turn)| (name.map(&mut key), *turn));
        state.proposals.turns = turns.collect();
        let today = parsed.today.iter().map(|(name, taken)| (name.map(&mut key), *taken));
        state.proposals.today = (parsed.day, today.collect());
        // Those of what is pending are among the known ones, in their order.
        state.refusals = Refusals::default();
        [state.refusals.at, state.refusals.counted_at] = parsed.refused;
        for (id, receipt, name) in &parsed.known {
            state.refusals.know((*id, *receipt, key(name)));
        }
        let [records, executions, proposals, bytes, newest, frozen] = parsed.counts;
        (state.records, self.bytes) = (records, bytes);
        state.executions = u32::try_from(executions).ok()?;
        state.proposals.recorded = u32::try_from(proposals).ok()?;
        (state.policy, state.frozen) = (parsed.policy, frozen == 1);
        self.newest = (newest != 0).then(|| Time::from_micros(newest as i64));
        state.clock = Clock::default();
        self.newest.into_iter().for_each(|newest| state.clock.raise(newest));
        Some(())
    }
}

struct Pending {
    position: Position,
    rest: [u64; 3],
    approvals: Vec<Position>,
}

/// The lines of a snapshot.
#[derive(Default)]
struct Parsed<'a> {
    counts: [u64; 6],
    policy: Option<InForce>,
    owed: Vec<(Position, bool)>,
    pending: Vec<Pending>,
    turns: Vec<(Option<&'a str>, u64)>,
    day: i64,
    today: Vec<(Option<&'a str>, [u64; 2])>,
    refused: [i64; 2],
    levels: Vec<(u64, Position)>,
    known: Vec<([u8; 32], [u8; 32], &'a str)>,
}

impl<'a> Parsed<'a> {
    fn of(text: &'a str) -> Result<Self, Unread> {
        let mut lines = text.lines();
        let mut parsed = Parsed::default();
        let counts =
            lines.next().and_then(|line| numbers(line.strip_prefix("1 ")?)?.try_into().ok());
        parsed.counts = counts.ok_or(Unread::Damaged("the snapshot is of no known form"))?;
        for line in lines {
            parsed.take(line).ok_or(Unread::Damaged("the snapshot has a line of no known form"))?;
        }
        Ok(parsed)
    }

    fn take(&mut self, line: &'a str) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "policy" => {
                let (number, digest) = rest.split_once(' ')?;
                let digest = unhex(digest)?;
                self.policy = Some(InForce { number: number.parse().ok()?, digest });
            }
            "owed" => {
                let [position, retried] = numbers(rest)?.try_into().ok()?;
                self.owed.push((position, retried == 1));
            }
            "pending" => {
                let mut all = numbers(rest)?;
                let approvals = (all.len() >= 4).then(|| all.split_off(4))?;
                let [position, rest @ ..]: [u64; 4] = all.try_into().ok()?;
                self.pending.push(Pending { position, rest, approvals });
            }
            "turn" => {
                let (turn, name) = rest.split_once(' ')?;
                self.turns.push((caller(name)?, turn.parse().ok()?));
            }
            "day" => {
                let mut parts = rest.splitn(4, ' ');
                let mut part = || parts.next();
                self.day = part()?.parse().ok()?;
                let taken = [part()?.parse().ok()?, part()?.parse().ok()?];
                self.today.push((caller(part()?)?, taken));
            }
            "refused" => {
                let (at, counted_at) = rest.split_once(' ')?;
                self.refused = [at.parse().ok()?, counted_at.parse().ok()?];
            }
            "level" => {
                let [level, position] = numbers(rest)?.try_into().ok()?;
                self.levels.push((level, position));
            }
            "known" if self.known.len() < REFUSALS_INDEXED => {
                let mut parts = rest.splitn(3, ' ');
                let (id, receipt) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
                self.known.push((id, receipt, parts.next()?));
            }
            _ => return None,
        }
        Some(())
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(' ').map(|number| number.parse().ok()).collect()
}

/// `=name`, or `-` of nobody by name.
fn caller(text: &str) -> Option<Option<&str>> {
    match text {
        "-" => Some(None),
        named => Some(Some(named.strip_prefix('=')?)),
    }
}

#[cfg(test)]
mod tests;
