//! Row 7 of the decision: its order, who counts, and that nothing tampered with is ever approved.

use std::collections::BTreeSet;

use crate::common::approvals::{private_key, public_pem};
use crate::common::signer::mint;
use openexec::core::approval::artifact::{Artifact, parse};
use openexec::core::approval::keys::Keyring;
use openexec::core::approval::required::Required;
use openexec::core::approval::verify::{Approved, Context, Terms, examine, judge, missing};
use openexec::core::clock::Fault as ClockFault;
use openexec::core::json::Value;
use openexec::core::problem::{Code, Problem};
use openexec::core::time::Time;
use openexec::serve::keys::{from_keys_file, from_text};
use proptest::prelude::*;
use serde_json::json;

const OPS: u8 = 1;
const AUDIT: u8 = 2;
const LIMITED: u8 = 3;
const REVOKED: u8 = 4;
const LIMITED_AND_REVOKED: u8 = 5;
const STRANGER: u8 = 6;

const CANONICAL: [u8; 32] = [0xaa; 32];
const BOUND: [u8; 32] = [0xbb; 32];
const LEGACY: [u8; 32] = [0xcc; 32];

fn now() -> Time {
    Time::parse("2026-03-01T12:00:00Z").expect("a time")
}

fn keyring() -> Keyring {
    let key = |name: &str, seed: u8| json!({"name": name, "public_key": public_pem(seed)});
    let mut keys = [
        key("ops", OPS),
        key("audit", AUDIT),
        key("limited", LIMITED),
        key("revoked", REVOKED),
        key("both", LIMITED_AND_REVOKED),
    ];
    for limited in [2, 4] {
        keys[limited]["actions"] = json!(["another_action"]);
    }
    for revoked in [3, 4] {
        keys[revoked]["not_after"] = json!("2026-03-01T12:00:00Z");
    }
    from_keys_file(&json!({"keys": keys}).to_string()).expect("keys")
}

/// What is to be minted.
#[derive(Clone)]
struct Plan {
    seed: u8,
    id: u8,
    tenant: &'static str,
    hash: [u8; 32],
    issued_at: Time,
    expires_at: Time,
}

impl Plan {
    fn good(seed: u8, id: u8) -> Self {
        Plan {
            seed,
            id,
            tenant: "t1",
            hash: CANONICAL,
            issued_at: now().plus_seconds(-300),
            expires_at: now().plus_seconds(600),
        }
    }

    fn id(&self) -> String {
        format!("00000000-0000-4000-8000-0000000000{:02x}", self.id)
    }

    fn mint(&self) -> Artifact {
        let key = private_key(self.seed);
        mint(&key, self.tenant, &self.hash, self.issued_at, self.expires_at, &self.id())
            .expect("minted")
    }
}

/// What of the context a test changes.
#[derive(Clone)]
struct State {
    required: usize,
    ttl_max_seconds: Option<u64>,
    store_created: Time,
    clock: Option<ClockFault>,
    spent: BTreeSet<String>,
}

impl Default for State {
    fn default() -> Self {
        State {
            required: 1,
            ttl_max_seconds: None,
            store_created: Time::from_micros(0),
            clock: None,
            spent: BTreeSet::new(),
        }
    }
}

fn verdict_at(now: Time, artifacts: Vec<Artifact>, state: &State) -> Result<Approved, Problem> {
    judge(
        &examine(artifacts, &keyring()),
        &Context {
            terms: Terms {
                now,
                tenant: "t1",
                ttl_max_seconds: state.ttl_max_seconds,
                store_created: state.store_created,
                clock: state.clock,
            },
            action: "echo",
            exec_id: BOUND,
            action_hash: CANONICAL,
            legacy_hash: Some(LEGACY),
            required: &Required::read(&state.required.into()).expect("at least one"),
            proposer: None,
            is_spent: &|id| state.spent.contains(id),
        },
    )
}

fn refusal(plans: &[Plan], state: &State) -> Problem {
    match verdict_at(now(), plans.iter().map(Plan::mint).collect(), state) {
        Err(problem) => problem,
        Ok(_) => panic!("approved"),
    }
}

/// One fault for each code, in the order of the contract.
type Fault = (&'static str, fn(&mut Plan, &mut State));
const FAULTS: [Fault; 12] = [
    ("approval_signature_invalid", |plan, _| plan.seed = STRANGER),
    ("approval_key_not_authorized", |plan, _| {
        plan.seed = match plan.seed {
            OPS | AUDIT => LIMITED,
            REVOKED => LIMITED_AND_REVOKED,
            seed => seed,
        }
    }),
    ("approval_key_expired", |plan, _| {
        plan.seed = match plan.seed {
            OPS | AUDIT => REVOKED,
            LIMITED => LIMITED_AND_REVOKED,
            seed => seed,
        }
    }),
    ("tenant_mismatch", |plan, _| plan.tenant = "t2"),
    ("approval_expired", |plan, _| plan.expires_at = now()),
    ("approval_not_yet_valid", |plan, _| plan.issued_at = now().plus_seconds(61)),
    ("approval_ttl_too_long", |_, state| state.ttl_max_seconds = Some(500)),
    ("approval_before_store", |_, state| state.store_created = now().plus_seconds(100)),
    ("clock_behind", |_, state| state.clock = Some(ClockFault::Behind)),
    ("approval_hash_mismatch", |plan, _| plan.hash = [0; 32]),
    ("approval_already_used", |plan, state| {
        state.spent.insert(plan.id());
    }),
    ("approvals_insufficient", |_, state| state.required = 16),
];

#[test]
fn each_fault_alone_is_refused_with_its_code() {
    for (code, fault) in FAULTS {
        let (mut plan, mut state) = (Plan::good(OPS, 1), State::default());
        fault(&mut plan, &mut state);
        let problem = refusal(&[plan], &state);
        assert_eq!(problem.code.name(), code);
        assert_eq!(problem.code.status(), if code == "clock_behind" { 503 } else { 403 });
    }
}

#[test]
fn of_two_faults_in_one_artifact_the_earlier_row_answers() {
    for (earlier, (code, first)) in FAULTS.iter().enumerate() {
        for (_, second) in &FAULTS[earlier + 1..] {
            let (mut plan, mut state) = (Plan::good(OPS, 1), State::default());
            second(&mut plan, &mut state);
            first(&mut plan, &mut state);
            assert_eq!(refusal(&[plan], &state).code.name(), *code);
        }
    }
}

#[test]
fn of_two_faults_in_two_artifacts_the_earlier_row_answers_wherever_it_is() {
    for (earlier, (code, first)) in FAULTS.iter().enumerate() {
        for (_, second) in &FAULTS[earlier + 1..] {
            let (mut plans, mut state) =
                ([Plan::good(OPS, 1), Plan::good(AUDIT, 2)], State::default());
            second(&mut plans[0], &mut state);
            first(&mut plans[1], &mut state);
            assert_eq!(refusal(&plans, &state).code.name(), *code);
            plans.reverse();
            assert_eq!(refusal(&plans, &state).code.name(), *code);
        }
    }
}

#[test]
fn the_seeds_phrases_are_kept() {
    for (code, phrase) in [
        ("approval_signature_invalid", "Invalid signature: "),
        ("tenant_mismatch", "Tenant mismatch: "),
        ("approval_expired", "Approval artifact expired "),
        ("approval_hash_mismatch", "Action hash mismatch: "),
    ] {
        let (mut plan, mut state) = (Plan::good(OPS, 1), State::default());
        let fault = FAULTS.iter().find(|fault| fault.0 == code).expect("a fault");
        fault.1(&mut plan, &mut state);
        let detail = refusal(&[plan], &state).detail;
        assert!(detail.starts_with(phrase), "{detail}");
    }
    let problem = missing(&CANONICAL, &BOUND, &[]);
    assert_eq!(problem.code, Code::ApprovalMissing);
    assert_eq!(problem.detail, "ClawShield mode requires an approval artifact");
    assert_eq!(problem.members["action_hash"], json!("aa".repeat(32)));
    assert_eq!(problem.members["exec_id"], json!("bb".repeat(32)));
}

#[test]
fn the_artifact_that_fails_is_the_one_that_is_named() {
    for position in 0..3 {
        let mut plans = [(OPS, 1), (AUDIT, 2), (OPS, 3)].map(|(seed, id)| Plan::good(seed, id));
        plans[position].seed = STRANGER;
        let detail = refusal(&plans, &State::default()).detail;
        assert!(detail.contains(&plans[position].id()), "{detail}");
    }
}

#[test]
fn a_hash_mismatch_gives_the_hash_that_was_expected() {
    let mut plan = Plan::good(OPS, 1);
    plan.hash = [0; 32];
    let problem = refusal(&[plan], &State::default());
    assert!(problem.detail.contains(&"aa".repeat(32)), "{}", problem.detail);
    assert_eq!(problem.members["action_hash"], json!("aa".repeat(32)));
}

#[test]
fn a_detail_does_not_change_with_the_time_of_asking() {
    let mut expired = Plan::good(OPS, 1);
    expired.expires_at = now().plus_seconds(-1);
    let mut inverted = Plan::good(OPS, 1);
    (inverted.issued_at, inverted.expires_at) = (now().plus_seconds(20), now().plus_seconds(10));
    for plan in [expired, inverted] {
        let at = |seconds| match verdict_at(
            now().plus_seconds(seconds),
            vec![plan.mint()],
            &State::default(),
        ) {
            Err(problem) => problem,
            Ok(_) => panic!("approved"),
        };
        assert!([1, 10, 11, 20, 1000].iter().all(|seconds| at(*seconds) == at(0)));
    }
}

#[test]
fn the_edges_of_each_period_are_where_the_contract_has_them() {
    let micro = |time: Time, micros| Time::from_micros(time.micros() + micros);
    let approves = |plan: &Plan, state: &State| verdict_at(now(), vec![plan.mint()], state).is_ok();
    let (plan, state) = (Plan::good(OPS, 1), State::default());
    assert!(approves(&plan, &state));
    let expires = |time| Plan { expires_at: time, ..plan.clone() };
    assert!(!approves(&expires(now()), &state));
    assert!(approves(&expires(micro(now(), 1)), &state));
    let issued = |time| Plan { issued_at: time, ..plan.clone() };
    assert!(approves(&issued(now().plus_seconds(60)), &state));
    assert!(!approves(&issued(micro(now().plus_seconds(60), 1)), &state));
    let lives = |seconds| State { ttl_max_seconds: Some(seconds), ..state.clone() };
    assert!(approves(&plan, &lives(900)) && !approves(&plan, &lives(899)));
    assert!(approves(&plan, &lives(u64::MAX)) && !approves(&plan, &lives(0)));
    // Whole seconds: a store made within the second of the approval takes it.
    let made = |time| State { store_created: time, ..state.clone() };
    assert!(approves(&plan, &made(micro(plan.issued_at, 999_999))));
    assert!(!approves(&plan, &made(micro(plan.issued_at, 1_000_000))));
}

#[test]
fn every_way_to_hash_is_known_and_each_may_stand_beside_another() {
    for (hash, legacy) in [(CANONICAL, false), (BOUND, false), (LEGACY, true)] {
        let plans = [(OPS, 1), (AUDIT, 2)].map(|(seed, id)| Plan { hash, ..Plan::good(seed, id) });
        let state = State { required: 2, ..State::default() };
        match verdict_at(now(), plans.iter().map(Plan::mint).collect(), &state) {
            Ok(approved) => assert_eq!(approved.is_legacy(), legacy),
            Err(problem) => panic!("{problem:?}"),
        }
        let other = Plan { hash: if legacy { BOUND } else { LEGACY }, ..plans[1].clone() };
        let mixed = [plans[0].mint(), other.mint()].to_vec();
        assert!(verdict_at(now(), mixed, &state).is_ok_and(|approved| approved.is_legacy()));
    }
}

#[test]
fn no_artifact_at_all_approves_nothing() {
    let verdict = verdict_at(now(), Vec::new(), &State::default());
    assert!(matches!(verdict, Err(problem) if problem.code == Code::ApprovalsInsufficient));
}

#[test]
fn two_artifacts_of_one_key_are_one_approver_and_both_are_spent() {
    let plans = [Plan::good(OPS, 1), Plan::good(OPS, 2), Plan::good(AUDIT, 3)];
    let mint = |plans: &[Plan]| plans.iter().map(Plan::mint).collect();
    let two = State { required: 2, ..State::default() };
    let problem = refusal(&plans[..2], &two);
    assert_eq!(problem.code, Code::ApprovalsInsufficient);
    assert!(problem.detail.contains("1 of the 2"), "{}", problem.detail);
    let Ok(approved) = verdict_at(now(), mint(&plans), &two) else {
        panic!("refused");
    };
    assert_eq!(approved.key_names(), ["ops", "audit"]);
    assert_eq!(approved.approval_ids().count(), 3);
}

fn object(artifact: &Artifact) -> serde_json::Map<String, Value> {
    artifact.to_value().as_object().expect("an object").clone()
}

#[test]
fn a_field_it_does_not_have_is_named_but_not_whatever_it_is_called() {
    let good = object(&Plan::good(OPS, 1).mint());
    let fault = |name: &str| {
        let mut object = good.clone();
        object.insert(name.to_owned(), json!(""));
        parse(&json!([good, object])).expect_err("malformed").to_string()
    };
    assert_eq!(fault("note"), "approval_artifact[1] has the unknown field 'note'");
    let signature = good["signature"].as_str().expect("text");
    for name in [signature, "\u{202e}eton", "a\nb", ""] {
        assert!(name.is_empty() || !fault(name).contains(name), "{}", fault(name));
    }
}

#[test]
fn a_malformed_field_is_named_with_its_index() {
    let good = object(&Plan::good(OPS, 1).mint());
    let fault = |edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut object = good.clone();
        edit(&mut object);
        let single = parse(&Value::Object(object.clone())).expect_err("malformed").to_string();
        let in_array = parse(&json!([good, object])).expect_err("malformed").to_string();
        assert_eq!(in_array, single.replacen("approval_artifact", "approval_artifact[1]", 1));
        single
    };
    for field in ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at", "signature"]
    {
        let missing = fault(&|object| drop(object.remove(field)));
        assert_eq!(missing, format!("approval_artifact.{field} is missing"));
        let number = fault(&|object| drop(object.insert(field.to_owned(), json!(1))));
        assert_eq!(number, format!("approval_artifact.{field} is not a string"));
        if field != "tenant_id" {
            let wrong = fault(&|object| drop(object.insert(field.to_owned(), json!("x"))));
            assert!(wrong.starts_with(&format!("approval_artifact.{field} is not ")), "{wrong}");
        }
    }
    // The first field in the contract's order answers.
    let both = fault(&|object| {
        object.remove("issued_at");
        object.insert("tenant_id".to_owned(), json!(null));
    });
    assert!(both.contains("tenant_id"), "{both}");
    let twice = parse(&json!([good, good])).expect_err("malformed").to_string();
    assert_eq!(twice, "approval_artifact[1].approval_id occurs earlier in the array");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One character replaced, inserted or removed anywhere in any field.
    #[test]
    fn nothing_tampered_with_is_approved(
        field in 0usize..6, at in 0usize..100, edit in 0u8..3, character in "[0-9a-fA-Z:.+/= T-]",
    ) {
        let good = object(&Plan::good(OPS, 1).mint());
        let mut object = good.clone();
        let text = object.values_mut().nth(field).expect("a field");
        let mut characters: Vec<char> = text.as_str().expect("text").chars().collect();
        let at = at % characters.len();
        let character = character.chars().next().expect("a character");
        match edit {
            0 => characters[at] = character,
            1 => characters.insert(at, character),
            _ => drop(characters.remove(at)),
        }
        *text = characters.into_iter().collect::<String>().into();
        if object != good && let Ok(artifacts) = parse(&Value::Object(object)) {
            let verdict = verdict_at(now(), artifacts, &State::default());
            prop_assert!(verdict.is_err(), "{verdict:?}");
        }
    }

    /// Whatever stands where an artifact should: refused, and never a panic.
    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,60}") {
        prop_assert!(parse(&Value::String(text.clone())).is_err());
        let fields = object(&Plan::good(OPS, 1).mint());
        for name in fields.keys().filter(|name| *name != "tenant_id") {
            let mut object = fields.clone();
            object.insert(name.clone(), text.clone().into());
            prop_assert!(parse(&Value::Object(object)).is_err());
        }
    }

    /// The threshold is reached exactly when that many different keys signed.
    #[test]
    fn different_keys_are_what_counts(
        seeds in prop::collection::vec(10u8..14, 1..=16), required in 1usize..6,
    ) {
        let pem: String = (10..14).map(public_pem).collect();
        let keyring = from_text(&pem).expect("keys");
        let plans = seeds.iter().zip(0..).map(|(seed, id)| Plan::good(*seed, id).mint());
        let verdict = judge(&examine(plans.collect(), &keyring), &Context {
terms: Terms { now: now(), tenant: "t1", ttl_max_seconds: None, store_created: Time::from_micros(0), clock: None },
            action: "echo",
            exec_id: BOUND,
            action_hash: CANONICAL,
            legacy_hash: None,
            required: &Required::read(&required.into()).expect("at least one"),
            proposer: None,
            is_spent: &|_| false,
        });
        let different = seeds.iter().collect::<BTreeSet<_>>().len();
        match verdict {
            Ok(approved) => {
                prop_assert!(different >= required);
                prop_assert_eq!(approved.key_names().len(), different);
                prop_assert_eq!(approved.artifacts().len(), seeds.len());
            }
            Err(problem) => {
                prop_assert!(different < required);
                prop_assert_eq!(problem.code, Code::ApprovalsInsufficient);
            }
        }
    }
}
