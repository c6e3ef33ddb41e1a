//! What is told of a proposal is true at the time of the question: in the moment between its end and the record of that,
//! every door says what the record will say. Without a turn nothing is recorded, so that moment lasts as long as a test
//! wants.

use std::sync::Arc;

use openexec::core::approval::rejection::Rejection;
use openexec::core::base64;
use openexec::core::hash::{Hash, hex};
use openexec::core::problem::Problem;
use openexec::core::record::{Closed, Record, Witness};
use openexec::core::stage::How;
use openexec::core::time::Time;
use openexec::executor::requests::{grant, withdrawn};
use openexec::executor::{Job, Said};
use openexec::serve::front::proposals;
use openexec::serve::records;
use openexec::sys::answer::Answer;

use crate::refusals::{Flooded, promise};
use crate::requests::{CREATED, PENDING_TTL_SECONDS};

/// What `GET /proposals/{id}` answers, and the lists of these two states.
fn told(flooded: &Flooded, id: &Hash) -> [String; 3] {
    let (executor, policy) = (&flooded.executor, &flooded.policy);
    let answer = |found: Result<String, Problem>| Answer::from(Said::from(found));
    let shown = proposals::show(answer(records::records_of(executor, id, &None)), policy);
    let listed = |found, state| proposals::list(answer(found), state, policy).body;
    [
        shown.body,
        listed(records::list(executor, 0, &None), "pending"),
        listed(records::list_all(executor, u32::MAX, &None), "expired"),
    ]
}

fn is_withdrawn(flooded: &Flooded, id: Hash) -> bool {
    let line = withdrawn(Time::default(), id).line;
    let asked = Record::read(&line).expect("a record");
    let (store, now) = (flooded.executor.store(), flooded.executor.time());
    grant(store, &asked, Witness::Operator, now).expect("read").is_some()
}

#[test]
fn between_the_end_and_its_record_every_door_says_that_it_is_over() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    let (id, pending) = flooded.executor.store().state().proposals.oldest_first()[0];
    let [shown, list, expired] = told(&flooded, &id);
    assert!(shown.contains(r#""state":"pending""#) && list.contains(r#""same_hash":1"#), "{list}");
    assert_eq!(expired, r#"{"next":null,"proposals":[]}"#);
    assert!(is_withdrawn(&flooded, id));
    assert_eq!(flooded.metrics.pending.get(), 1);
    assert!(flooded.metrics.pending_since.0.get() > 0);

    // One microsecond before its end it waits.
    flooded.pass(i64::from(PENDING_TTL_SECONDS));
    let now = flooded.executor.time();
    assert_eq!(pending.expires, now);
    let state = flooded.executor.store().state();
    assert!(state.pending(&id, Time::from_micros(now.micros() - 1)).is_some());
    assert!(state.proposals.get(&id).is_some(), "no record says so yet");
    assert_eq!(state.sharing(&pending.action_hash, now).count(), 0);
    let [shown, list, expired] = told(&flooded, &id);
    assert!(shown.contains(r#""state":"expired""#), "{shown}");
    assert_eq!(list, r#"{"next":null,"proposals":[]}"#);
    assert!(expired.contains(r#""state":"expired""#), "{expired}");
    assert!(!is_withdrawn(&flooded, id));

    // The record changes no byte of any of them: what had an ETag keeps it.
    let before = told(&flooded, &id);
    flooded.idle();
    let state = flooded.executor.store().state();
    assert!(state.proposals.get(&id).is_none(), "it is recorded");
    assert_eq!(told(&flooded, &id), before);
    assert_eq!((flooded.metrics.pending.get(), flooded.metrics.pending_since.0.get()), (0, 0));
}

/// More end at once than a turn records: the metrics do not wait for the rest.
#[test]
fn what_is_measured_leaves_out_what_is_past_its_time() {
    let mut flooded = Flooded::new();
    flooded.ask("pure", 0, 300);
    assert_eq!(flooded.metrics.pending.get(), 300);
    flooded.pass(i64::from(PENDING_TTL_SECONDS));
    flooded.turn(Vec::new());
    let left = flooded.executor.store().state().proposals.count();
    assert!((1..300).contains(&left), "{left}");
    assert_eq!((flooded.metrics.pending.get(), flooded.metrics.pending_since.0.get()), (0, 0));
}

/// By a clock that is not believed nothing is over.
#[test]
fn a_clock_that_jumped_ends_nothing() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    let (id, _) = flooded.executor.store().state().proposals.oldest_first()[0];
    flooded.jump(10_000);
    flooded.idle();
    let [shown, list, expired] = told(&flooded, &id);
    assert!(shown.contains(r#""state":"pending""#), "{shown}");
    assert!(list.contains(r#""state":"pending""#), "{list}");
    assert_eq!(expired, r#"{"next":null,"proposals":[]}"#);
    assert_eq!(flooded.metrics.pending.get(), 1);
    let end = flooded.executor.expired(&id, flooded.executor.time());
    assert_eq!(end.map(|Closed { how, .. }| how == How::Expired), None);
}

/// What nobody with a right says, and what is recorded already, makes no batch of its own: what waits is written as if it
/// had not come.
#[test]
fn what_would_be_refused_holds_nobody_up() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    let (id, _) = flooded.executor.store().state().proposals.oldest_first()[0];
    let unsigned = || {
        let said = serde_json::json!({"exec_id": hex(&id), "issued_at": CREATED.to_string(), "justification": "no",
            "rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "signature": base64::encode(&[0; 64]),
            "tenant_id": "simulated"});
        let required = flooded.policy.approvals.as_ref().expect("clawshield");
        let said = said.as_object().expect("an object").clone();
        Box::new(Rejection::read(said, &required.keyring).expect("in form"))
    };
    let unsigned = unsigned();
    let alone = batches(&mut flooded, "alone", None);
    for (what, job) in [
        ("a no without a signature", Job::Reject(unsigned, Arc::new(|_, _| true))),
        ("the end of what nobody knows", Job::Withdraw([7; 32], Arc::new(|_, _| true))),
    ] {
        assert_eq!(batches(&mut flooded, what, Some(job)), alone, "{what}");
    }
    // The end of one's own is written behind what waits.
    let own = batches(&mut flooded, "own", Some(Job::Withdraw(id, Arc::new(|_, _| true))));
    assert_eq!(own, alone + 2);
}

/// However full the batch is of what others ask, it refuses nobody who ends a proposal.
#[test]
fn an_end_has_its_place_behind_a_full_batch() {
    let ends: Vec<bool> =
        (0..1_000).step_by(50).map(|left| ends_behind(64 * 1024 - left)).collect();
    assert!(ends.contains(&true) && ends.contains(&false), "both sides of the bound: {ends:?}");
}

/// Whether a payload of so many bytes found its place in the batch in which a proposal is withdrawn.
fn ends_behind(bytes: usize) -> bool {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    let (id, _) = flooded.executor.store().state().proposals.oldest_first()[0];
    let mut large = flooded.asked_for("pure", "large");
    large.payload = format!("{{\"do\":\"ok\",\"n\":0,\"pad\":\"{}\"}}", "x".repeat(bytes));
    let large = Job::Execute(flooded.catalogue.proposal(&large, &flooded.policy));
    let withdrawn = Job::Withdraw(id, Arc::new(|_, _| true));
    let answers = flooded.turn(vec![large, withdrawn]);
    assert!(answers.iter().any(|answer| answer.status == 200), "{bytes}: {answers:?}");
    answers.iter().any(|answer| answer.body.contains("\"recorded\":true"))
}

/// How many batches a turn with a new proposal and this takes.
fn batches(flooded: &mut Flooded, nonce: &str, job: Option<Job<()>>) -> u64 {
    let ask = flooded.asked_for("pure", nonce);
    let proposal = Job::Execute(flooded.catalogue.proposal(&ask, &flooded.policy));
    let jobs = [proposal].into_iter().chain(job).chain([Job::Execute(
        flooded
            .catalogue
            .proposal(&flooded.asked_for("pure", &format!("{nonce} too")), &flooded.policy),
    )]);
    let jobs = jobs.collect();
    let before = flooded.metrics.batches.get();
    flooded.turn(jobs);
    flooded.metrics.batches.get() - before
}
