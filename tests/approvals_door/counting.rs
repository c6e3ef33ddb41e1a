//! What counts together, and what becomes of it.

use crate::*;

#[test]
fn two_people_say_yes_apart_and_what_was_promised_executes_at_once() {
    let mut service = Service::new(&[]);
    let (body, pulled) = (
        echo("both"),
        json!({"action": "enqueue", "nonce": "job", "payload": {"queue": "q", "job": {}}}),
    );
    let (id, job) = (service.promised(&body), service.promised(&pulled));
    let (first, second) = (yes(OPS, &body), yes_to_any(BOB, &body));
    is_said(&service.approve(&first), &id, "pending");
    let shown = service.follow(&id);
    let held = json!([{"key": "ops", "until": shown["approvals"]["have"][0]["until"]}]);
    assert!(held[0]["until"].is_string());
    assert_eq!(shown["approvals"], json!({"have": held, "missing": {"count": 1, "groups": {}}}));
    // The same again adds nothing, and the call itself says how many there are.
    is_said(&service.approve(&first), &id, "pending");
    is_said(&service.approve(&yes(OPS, &body)), &id, "pending");
    assert_eq!(service.follow(&id)["approvals"]["missing"]["count"], 1);
    service.restart();
    is_said(&service.approve(&first), &id, "pending");
    is_said(&service.approve(&second), &id, "executing");
    until("it ran", || service.follow(&id)["state"] == "executed");
    assert_eq!(service.server.runs("echo"), 1);
    for approval in [&first, &second, &json!([first, second])] {
        is_said(&service.approve(approval), &id, "executed");
    }
    // An array, and a job.
    is_said(&service.approve(&json!([yes(BOB, &pulled), yes(OPS, &pulled)])), &job, "executing");
    until("it ran", || service.follow(&job)["state"] == "executed");
    let claims = service.records("claim");
    assert_eq!(claims[0]["keys"], json!(["ops", "bob"]));
    assert_eq!(claims[0]["approval"][1], second);
    assert_eq!(service.records("approval").len(), 5);
    service.restart();
    is_said(&service.approve(&first), &id, "executed");
    service.audit();
}

/// What was not promised waits for its caller, and counts what was recorded, dropped and brought.
#[test]
fn every_door_counts_together_and_what_counted_is_spent() {
    let service = Service::new(&[]);
    let doors: [fn(&Service, &Value, Value) -> Value; 3] = [
        |service, body, approval| {
            is_said(&service.approve(&approval), &id(body), "pending");
            Value::Null
        },
        |service, body, approval| {
            service.drop_file(&id(body), &approval);
            Value::Null
        },
        |_, _, approval| approval,
    ];
    let mut number = 0;
    for first in doors {
        for second in doors {
            number += 1;
            let body = echo(&format!("n{number}"));
            service.asked(&body);
            let (one, two) = (yes(OPS, &body), yes_to_any(BOB, &body));
            let brought =
                [first(&service, &body, one.clone()), second(&service, &body, two.clone())];
            let brought: Vec<_> = brought.into_iter().filter(Value::is_object).collect();
            let file = service.directory.join(format!("{}.json", id(&body)));
            let mut call = body.clone();
            match brought.len() {
                0 => {}
                1 => call["approval_artifact"] = brought[0].clone(),
                _ => call["approval_artifact"] = brought.into(),
            }
            let answer = service.ask(&call);
            // One file replaces another; what the request brings is not joined with files.
            let both = service.records("approval").iter().filter(|r| r["id"] == id(&body)).count();
            let is_alone = call["approval_artifact"].is_object() && file.exists();
            if is_alone {
                refusal(&answer, 403, "approvals_insufficient");
                continue;
            }
            if both == 0 && file.exists() {
                refusal(&answer, 403, "approval_missing");
                service.drop_file(&id(&body), &json!([one, two]));
                assert_eq!(service.ask(&body).status, 200);
                continue;
            }
            assert_eq!(answer.status, 200, "{number}: {}", answer.text());
            let claim = service.records("claim").pop().expect("a claim");
            assert_eq!(claim["approval"].as_array().map(Vec::len), Some(2));
            // Under another nonce the one by the action's hash is spent.
            let mut again = body.clone();
            again["nonce"] = format!("again {number}").into();
            again["approval_artifact"] = two;
            refusal(&service.ask(&again), 403, "approval_already_used");
        }
    }
    service.audit();
}

/// What a call brings and is not enough counts with what comes later, by whichever door.
#[test]
fn what_a_call_brings_and_is_not_enough_is_recorded_with_it() {
    let mut service = Service::new(&[]);
    let with = |body: &Value, approvals: Value| {
        let mut call = body.clone();
        call["approval_artifact"] = approvals;
        call
    };
    let (promised, asked) = (echo("promised"), echo("asked"));
    let first = yes_to_any(OPS, &promised);
    let id_promised = service.promised(&with(&promised, first.clone()));
    let once = with(&asked, yes(OPS, &asked));
    refusal(&service.ask(&once), 403, "approvals_insufficient");
    // The same again, and after a restart, records nothing more.
    for _ in 0..2 {
        refusal(&service.ask(&once), 403, "approvals_insufficient");
        service.promised(&with(&promised, first.clone()));
        assert_eq!(service.records("approval").len(), 2);
        service.restart();
    }
    assert_eq!(service.follow(&id_promised)["approvals"]["have"][0]["key"], "ops");
    is_said(&service.approve(&first), &id_promised, "pending");
    is_said(&service.approve(&yes(BOB, &promised)), &id_promised, "executing");
    // The call alone, with the other one.
    let answer = service.ask(&with(&asked, yes(BOB, &asked)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(service.records("approval").len(), 3, "what was enough is in the claim");
    // One that another proposal has, one that no record could say again, one that does not hold, one too many.
    let other = json!({"action": "echo", "nonce": "é", "payload": {"msg": "é"}});
    let unbound = yes_to_any(OPS, &other);
    let twin = json!({"action": "echo", "nonce": "twin", "payload": {"msg": "é"}});
    refusal(&service.ask(&with(&other, unbound.clone())), 403, "approvals_insufficient");
    refusal(&service.ask(&with(&twin, unbound)), 403, "approvals_insufficient");
    let legacy = r#"{"action":"echo","payload":{"msg":"\u00e9"}}"#;
    let legacy = Minted { key: BOB, ..Minted::hashed(legacy) }.sign();
    refusal(&service.ask(&with(&twin, legacy)), 403, "approvals_insufficient");
    let mixed = json!([yes(BOB, &twin), yes_to_any(3, &echo("else"))]);
    refusal(&service.ask(&with(&twin, mixed)), 403, "approval_hash_mismatch");
    let of = |service: &Service, body: &Value| {
        let all = service.records("approval");
        all.iter().filter(|record| record["id"] == id(body)).count()
    };
    assert_eq!((of(&service, &other), of(&service, &twin)), (1, 0));
    for _ in 0..APPROVALS_OF_A_KEY_MAX + 1 {
        refusal(&service.ask(&with(&twin, yes(BOB, &twin))), 403, "approvals_insufficient");
    }
    assert_eq!(of(&service, &twin), APPROVALS_OF_A_KEY_MAX);
    service.audit();
}

/// One that fails is passed over, where a request's refuses.
#[test]
fn a_recorded_one_that_fails_by_then_is_passed_over() {
    let service = Service::new(&[]);
    let body = echo("n");
    let id = service.asked(&body);
    let short = Minted { expires_seconds: 1, ..Minted::hashed(&hashed(&body)) }.sign();
    is_said(&service.approve(&short), &id, "pending");
    is_said(&service.approve(&yes(BOB, &body)), &id, "pending");
    // Both counted, until one did not any more.
    until("it has expired", || {
        service.follow(&id)["approvals"]["have"].as_array().map(Vec::len) == Some(1)
    });
    let said = refusal(&service.ask(&body), 403, "approval_missing");
    assert!(said["detail"].as_str().expect("text").contains("has 1 of the 2"), "{said}");
    is_said(&service.approve(&yes(3, &body)), &id, "pending");
    assert_eq!(service.ask(&body).status, 200);
    assert_eq!(service.records("claim")[0]["keys"], json!(["bob", "eve"]));
    service.audit();
}

/// Of a key's several approvals the one counts that holds for longest, whichever was posted last; and where that one does
/// not hold, another.
#[test]
fn a_shorter_approval_replaces_no_longer_one() {
    let mut service = Service::new(&[]);
    let lasts = |key: u8, seconds: i64, body: &Value| {
        Minted { key, expires_seconds: seconds, ..Minted::hashed(&hashed(body)) }.sign()
    };
    let shown = |service: &Service, id: &str| service.follow(id)["approvals"]["have"].clone();
    for (first, second) in [(600, 2), (2, 600)] {
        let body = echo(&format!("{first} {second}"));
        let id = service.promised(&body);
        let both = [first, second].map(|seconds| lasts(OPS, seconds, &body));
        both.iter().for_each(|one| is_said(&service.approve(one), &id, "pending"));
        let longer = &both[usize::from(second == 600)];
        let have = json!([{"key": "ops", "until": shown(&service, &id)[0]["until"]}]);
        assert_eq!(shown(&service, &id), have, "{first} {second}");
        let end = Time::parse(have[0]["until"].as_str().expect("a time")).expect("a time");
        assert_eq!(Some(end), longer["expires_at"].as_str().and_then(Time::parse));
        // The shorter one is over, and the other counts still; a start counts them alike.
        let shorter = both[usize::from(second != 600)]["expires_at"].as_str().and_then(Time::parse);
        until("its end", || Some(clock::now()) > shorter);
        assert_eq!(shown(&service, &id), have);
        service.restart();
        assert_eq!(shown(&service, &id), have);
        let listed = cli(&service.scratch, &borrowed(&service.settings), &["pending"]);
        assert_eq!(listed.code, 0, "{}", listed.stderr);
        is_said(&service.approve(&yes(BOB, &body)), &id, "executing");
        until("it ran", || service.follow(&id)["state"] == "executed");
        let claim = service.records("claim").pop().expect("a claim");
        assert!(claim["approval"].as_array().expect("some").contains(longer), "{claim}");
    }
    // The longest is spent by another execution: the shorter one counts.
    let [spent, body] =
        ["a", "b"].map(|nonce| json!({"action": "add", "nonce": nonce, "payload": {"a": 9}}));
    let any = yes_to_any(OPS, &body);
    let id = service.asked(&body);
    is_said(&service.approve(&any), &id, "pending");
    is_said(&service.approve(&lasts(OPS, 300, &body)), &id, "pending");
    let mut call = spent.clone();
    call["approval_artifact"] = any.clone();
    assert_eq!(service.ask(&call).status, 200);
    assert_eq!(shown(&service, &id).as_array().map(Vec::len), Some(1));
    assert_eq!(service.ask(&body).status, 200);
    service.audit();
}

/// A stop keeps nobody from saying yes, and nothing executes in it.
#[test]
fn what_is_approved_in_a_stop_executes_after_it() {
    let mut service = Service::new(&[]);
    let body = echo("n");
    let id = service.promised(&body);
    assert_eq!(cli(&service.scratch, &[], &["freeze", "--reason", "look"]).code, 0);
    is_said(&service.approve(&json!([yes(OPS, &body), yes(BOB, &body)])), &id, "pending");
    assert_eq!(service.follow(&id)["blocked"], "frozen");
    // A start looks at what was recorded, too.
    service.restart();
    until("it is looked at", || service.follow(&id)["blocked"] == "frozen");
    assert!(service.records("claim").is_empty());
    assert_eq!(cli(&service.scratch, &[], &["unfreeze", "--yes"]).code, 0);
    until("executed", || service.follow(&id)["state"] == "executed");
    service.audit();
}

/// A file for any of them counts for none while several that are pending share its hash: with the call, too.
#[test]
fn a_file_that_two_proposals_share_counts_for_neither() {
    let service = Service::new(&[]);
    let [one, two] =
        ["a", "b"].map(|nonce| json!({"action": "add", "nonce": nonce, "payload": {"a": 7}}));
    service.asked(&one);
    service.asked(&two);
    service.drop_file(&action_hash(&one), &yes_to_any(OPS, &one));
    let said = refusal(&service.ask(&one), 403, "approval_missing");
    assert!(said["detail"].as_str().expect("text").contains("share it"), "{said}");
    is_said(&service.approve(&yes(BOB, &two)), &id(&two), "pending");
    assert_eq!(service.ask(&two).status, 200);
    assert_eq!(service.ask(&one).status, 200);
    service.audit();
}

/// What was recorded counts by the keys as they are now.
#[test]
fn an_approval_of_a_key_that_was_revoked_since_counts_no_more() {
    let mut service = Service::new(&[]);
    let (body, other) = (echo("n"), echo("other"));
    let (id, other_id) = (service.promised(&body), service.promised(&other));
    for body in [&body, &other] {
        service.approve(&yes(OPS, body));
    }
    let mut keys = keys_file();
    keys["keys"][0]["not_after"] = "2020-01-01T00:00:00Z".into();
    private_file(&service.scratch.join("keys.json"), &keys.to_string());
    service.restart();
    assert_eq!(service.follow(&id)["approvals"]["have"], json!([]));
    is_said(&service.approve(&yes(BOB, &body)), &id, "pending");
    is_said(&service.approve(&yes(3, &body)), &id, "executing");
    assert_eq!(service.records("claim")[0]["keys"], json!(["bob", "eve"]));
    // Given back under another name, it is the same key.
    keys["keys"][0] = json!({"name": "renamed", "public_key": public_pem(OPS)});
    private_file(&service.scratch.join("keys.json"), &keys.to_string());
    service.restart();
    assert_eq!(service.follow(&other_id)["approvals"]["have"][0]["key"], "renamed");
    is_said(&service.approve(&yes(BOB, &other)), &other_id, "executing");
    service.audit();
}

/// Sixteen of one key with the call and one recorded: those that count are spent, and a claim never has more than it may.
#[test]
fn what_does_not_count_is_not_spent() {
    let service = Service::new(&[]);
    let (body, next) =
        (echo("n"), json!({"action": "echo", "nonce": "m", "payload": {"msg": "n"}}));
    let id = service.asked(&body);
    is_said(&service.approve(&yes(BOB, &body)), &id, "pending");
    let brought: Vec<_> = (0..16).map(|_| yes_to_any(OPS, &body)).collect();
    let mut call = body.clone();
    call["approval_artifact"] = brought.clone().into();
    assert_eq!(service.ask(&call).status, 200);
    let claim = &service.records("claim")[0];
    assert_eq!(claim["keys"], json!(["ops", "bob"]));
    assert_eq!(claim["approval"][0], brought[0]);
    assert_eq!(claim["approval"].as_array().map(Vec::len), Some(2));
    // Where the call's own are enough, what was recorded stays.
    let next_id = service.asked(&next);
    is_said(&service.approve(&yes(3, &next)), &next_id, "pending");
    let mut call = next.clone();
    call["approval_artifact"] = json!([brought[1], yes(BOB, &next)]);
    assert_eq!(service.ask(&call).status, 200);
    assert_eq!(service.records("claim")[1]["keys"], json!(["ops", "bob"]));
    service.audit();
}
