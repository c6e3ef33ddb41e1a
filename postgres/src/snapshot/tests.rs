//! Random logs: what a snapshot at any place and the records after it lead to is what all records lead to.

use openexec::core::line::Json;
use openexec::core::receipt::{Effect, Outcome};
use openexec::core::record::{
    Approval, Asynchronous, Closed, Completion, Freeze, Mode, Policy, Proposal, Receipt, Refusal,
    RefusedPayload, Rejection, Retry, Store, Suppressed, Unfreeze, Witness,
};
use openexec::core::stage::How;
use openexec::store::proposals::Share;

use super::*;

const CALLERS: [Option<&str>; 4] = [None, Some("agent 7"), Some("b"), Some("c")];
const RESULTS: [&str; 2] = ["{\"queued\":{\"job\":\"x\"}}", "{}"];

/// Makes records that may stand behind those it has made.
struct Driver {
    random: u64,
    micros: i64,
    serial: u64,
    lines: Vec<String>,
    policy: u64,
    is_frozen: bool,
    pending: Vec<([u8; 32], bool)>,
    owed: Vec<([u8; 32], bool, Effect)>,
    done: Vec<[u8; 32]>,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let at = Time::from_micros(1_780_000_000_000_000);
        let store = Store { at, mode: Mode::Demo, store: "00112233445566778899aabbccddeeff" };
        Driver {
            random: seed,
            micros: at.micros(),
            serial: 0,
            lines: vec![store.line()],
            policy: 0,
            is_frozen: false,
            pending: Vec::new(),
            owed: Vec::new(),
            done: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize % bound
    }

    fn at(&mut self) -> Time {
        // Mostly a little later; at times hours or a day, and at times the clock is set back.
        self.micros += match self.below(40) {
            0 => 40_000_000_000,
            1 => -100_000_000,
            n => n as i64 * 1_000_000,
        };
        Time::from_micros(self.micros)
    }

    fn id(&mut self) -> [u8; 32] {
        self.serial += 1;
        let mut id = [7; 32];
        id[..8].copy_from_slice(&self.serial.to_be_bytes());
        id
    }

    fn taken<T>(&mut self, of: impl Fn(&mut Self) -> &mut Vec<T>) -> Option<T> {
        let count = of(self).len();
        let at = if count == 0 { return None } else { self.below(count) };
        Some(of(self).swap_remove(at))
    }

    /// One more record; `None` where that kind may not stand here.
    fn record(&mut self) -> Option<String> {
        let (at, kind, serial) = (self.at(), self.below(20), self.serial);
        let caller = CALLERS[self.below(4)].map(Into::into);
        Some(match kind {
            0 => {
                self.policy = self.lines.len() as u64;
                let version = format!("0.{serial}.{}", self.policy).into();
                let (null, actions, tenant, ttl_max) = (Json("null"), None, None, None);
                let (allowed, callers, keys, required) = (null, null, null, null);
                #[rustfmt::skip]
                let policy = Policy { actions, allowed, at, callers, keys, required, tenant, ttl_max, version };
                policy.line()
            }
            1 if self.is_frozen => {
                self.is_frozen = false;
                Unfreeze { at, reason: "".into() }.line()
            }
            1 if self.below(3) == 0 => {
                self.is_frozen = true;
                Freeze { at, reason: "".into() }.line()
            }
            2..=5 => {
                let (id, asynchronous) = (self.id(), self.below(2) == 0);
                let payload = format!("{{\"n\":{}}}", self.below(3));
                let expires = at.plus_seconds(1_000_000_000);
                self.pending.push((id, asynchronous));
                let (action, nonce, justification) = ("echo", format!("n{}", self.serial), None);
                let (nonce, payload) = (nonce.into(), Json(&payload));
                #[rustfmt::skip]
                let proposal = Proposal { action, asynchronous, at, caller, expires, id, justification, nonce, payload };
                proposal.line()
            }
            6 => {
                let (id, asynchronous) = self.taken(|own| &mut own.pending)?;
                self.pending.push((id, true));
                if asynchronous {
                    return None;
                }
                Asynchronous { at, id }.line()
            }
            7 | 8 => {
                let (id, asynchronous) = self.taken(|own| &mut own.pending)?;
                self.pending.push((id, asynchronous));
                self.serial += 1;
                let artifact = format!("{{\"approval_id\":\"a{}\"}}", self.serial);
                Approval { artifact: Json(&artifact), at, id, key: "ops".into() }.line()
            }
            9 => {
                let (id, _) = self.taken(|own| &mut own.pending)?;
                if self.below(2) == 0 {
                    Rejection { artifact: Json("{}"), at, id, key: "ops".into() }.line()
                } else {
                    Closed { at, by: None, code: None, how: How::Withdrawn, id }.line()
                }
            }
            10..=12 if !self.is_frozen && self.policy > 0 => {
                let id = match self.below(2) {
                    0 => self.taken(|own| &mut own.pending)?.0,
                    _ => self.id(),
                };
                let effect = [Effect::Once, Effect::Idempotent][self.below(2)];
                self.owed.push((id, false, effect));
                let nonce = format!("c{}", self.lines.len()).into();
                let (approval, keys, payload) = (Json("null"), Json("[]"), Json("{}"));
                let (action, legacy, place, policy) = ("echo", None, None, self.policy);
                #[rustfmt::skip]
                let claim = Claim { action, approval, at, caller, effect, id, keys, legacy, nonce, payload, place, policy };
                claim.line()
            }
            13 | 14 => {
                let (id, ..) = self.taken(|own| &mut own.owed)?;
                self.done.push(id);
                let result = Json(RESULTS[self.below(2)]);
                Receipt { at, id, outcome: Outcome::Executed, receipt: [1; 32], result }.line()
            }
            15 if !self.is_frozen => {
                let (id, retried, effect) = self.taken(|own| &mut own.owed)?;
                let may = !retried && effect != Effect::Once;
                self.owed.push((id, retried || may, effect));
                if !may {
                    return None;
                }
                Retry { at, id }.line()
            }
            16 => {
                let id = self.taken(|own| &mut own.done)?;
                let (by, outcome, result) = (Witness::Worker, Outcome::Executed, Json("{}"));
                Completion { at, by, id, outcome, receipt: [1; 32], result }.line()
            }
            17 | 18 => {
                let id = self.id();
                let action = ["echo", "other"][self.below(2)];
                let code = ["approval_missing", "frozen"][self.below(2)];
                let (nonce, detail, payload) = ("n".into(), "".into(), RefusedPayload::Text("{}"));
                let receipt = [2; 32];
                #[rustfmt::skip]
                let refusal = Refusal { action, at, caller, code, detail, id, nonce, payload, receipt };
                refusal.line()
            }
            19 => Suppressed { at, count: Json("{\"frozen\":2}") }.line(),
            _ => return None,
        })
    }
}

fn apply(applied: &mut Applied, line: &str, position: usize) {
    let lookup = |_: &[u8; 32]| Some(1);
    applied
        .apply(line, position as u64, lookup)
        .unwrap_or_else(|why| panic!("{position} {why}: {line}"));
}

/// What others see of it.
fn seen(applied: &mut Applied, now: Time) -> impl PartialEq + std::fmt::Debug + use<> {
    let text = write(applied);
    let state = &applied.state;
    let proposals = &state.proposals;
    let pending: Vec<_> = proposals
        .oldest_first()
        .into_iter()
        .map(|(id, pending)| {
            let same = proposals.sharing(&pending.action_hash).count();
            let key = state.keys.of(&id);
            let again = Change::Pending { step: Step::End, id, id_key: key };
            (
                id,
                pending.asked_at,
                pending.expires,
                same,
                proposals.approvals(&id).to_vec(),
                again != Change::Nothing,
            )
        })
        .collect();
    let admits: Vec<bool> = CALLERS
        .iter()
        .flat_map(|caller| {
            let share = Share::of(&state.keys, *caller, &"x".repeat(1_000_000));
            let own = state.keys.of_caller(*caller);
            let holder = Holder::of(&state.keys, "approval_missing", "echo", own);
            [
                proposals.admits(&share, vec![share; 30].iter(), now),
                state.refusals.admits(holder, 2_500_000, now),
                state.refusals.admits(holder, 1_240_000, now),
            ]
        })
        .collect();
    (
        (
            text,
            state
                .owed()
                .into_iter()
                .map(|(at, (id, owed))| (at, id, owed.at, owed.retried))
                .collect::<Vec<_>>(),
        ),
        (pending, proposals.in_turn(0).collect::<Vec<_>>(), proposals.count()),
        (state.debt(), state.entries(), state.clock.fault(now), state.frozen, state.policy),
        (proposals.due(now.plus_seconds(2_000_000_000)).collect::<Vec<_>>(), admits),
    )
}

#[test]
fn a_snapshot_anywhere_and_what_follows_mean_what_all_records_mean() {
    let (mut pending, mut owed, mut levels) = (0, 0, 0);
    for seed in 0..60 {
        let mut driver = Driver::new(seed);
        let (mut whole, mut resumed) = (Applied::default(), Applied::default());
        for applied in [&mut whole, &mut resumed] {
            apply(applied, &driver.lines[0], 0);
        }
        while driver.lines.len() < 300 {
            let Some(line) = driver.record() else { continue };
            let position = driver.lines.len();
            driver.lines.push(line.clone());
            for applied in [&mut whole, &mut resumed] {
                apply(applied, &line, position);
            }
            if driver.below(20) == 0 {
                let text = write(&mut resumed);
                let mut asked = 0;
                let again = |positions: &[Position]| {
                    asked += positions.len();
                    Ok(positions.iter().map(|at| driver.lines[*at as usize].clone()).collect())
                };
                resumed = read(&text, again).unwrap_or_else(|_| panic!("seed {seed}: {text}"));
                resumed.state.proposals.over = Default::default();
                let state = &resumed.state;
                // No record is asked for that does not matter any more.
                let approvals = state.proposals.oldest_first();
                let approvals = approvals.iter().map(|(id, _)| state.proposals.approvals(id).len());
                let least = state.owed().len() + state.proposals.count() + approvals.sum::<usize>();
                assert!((least..=least + state.refusals.levels.len()).contains(&asked), "{asked}");
                pending += state.proposals.count();
                owed += state.owed().len();
                levels += state.refusals.levels.len();
                let now = Time::from_micros(driver.micros + 1_000_000 * driver.below(90) as i64);
                assert_eq!(seen(&mut resumed, now), seen(&mut whole, now), "seed {seed}");
            }
        }
    }
    assert!(pending > 1000 && owed > 1000 && levels > 1000, "{pending} {owed} {levels}");
}

#[test]
fn a_text_that_is_none_of_ours_is_refused() {
    let good = "1 3 1 1 900 1780000000000000 0";
    let lines = ["{}".to_owned()];
    let read = |text: &str| {
        let again = |positions: &[Position]| {
            Ok(positions.iter().filter_map(|at| lines.get(*at as usize).cloned()).collect())
        };
        super::read(text, again).err().map(|unread| matches!(unread, Unread::Damaged(_)))
    };
    assert_eq!(read(good), None);
    let known = format!("known {} {} a", "0".repeat(64), "0".repeat(64));
    assert_eq!(read(&format!("{good}\n{known}")), None);
    for wrong in [
        "policy 1 00",
        "owed 0",
        "owed 0 0",
        "owed 7 0",
        "pending 0 0 1",
        "pending 0 0 1 0",
        "pending 9 0 1 0",
        "turn 1 a",
        "turn =a",
        "day 1 1 =a",
        "refused 1",
        "level 1",
        "level 1 0 0",
        "level 5 9",
        "known 00 00 a",
        "other",
        "pending 0 0 0 0",
    ] {
        assert_eq!(read(&format!("{good}\n{wrong}")), Some(true), "{wrong}");
    }
    for wrong in [
        "",
        "1",
        "2 3 1 1 900 1780000000000000 0",
        "1 3 1 1 900 0",
        "1 3 1 1 900 0 0 0",
        "1 3 4294967296 1 900 0 0",
    ] {
        assert_eq!(read(wrong), Some(true), "{wrong}");
    }
    let many = vec![known; REFUSALS_INDEXED + 1].join("\n");
    assert_eq!(read(&format!("{good}\n{many}")), Some(true));
}
