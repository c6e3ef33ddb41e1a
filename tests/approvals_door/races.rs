//! Two that decide at once.

use std::collections::VecDeque;

use crate::common::approvals::no;
use crate::common::http::{post, try_exchange};
use crate::*;

#[test]
fn one_approval_at_once_is_recorded_once() {
    let service = Service::new(&[]);
    let body = echo("n");
    let id = service.promised(&body);
    let all_at_once = |approvals: &[&Value]| {
        let barrier = Barrier::new(64);
        std::thread::scope(|scope| {
            for n in 0..64 {
                let (service, barrier) = (&service, &barrier);
                let approval = approvals[n % approvals.len()];
                scope.spawn(move || {
                    barrier.wait();
                    let answer = service.approve(approval);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                });
            }
        });
    };
    let (first, second) = (yes(OPS, &body), yes(BOB, &body));
    all_at_once(&[&first]);
    assert_eq!(service.records("approval").len(), 1);
    all_at_once(&[&first, &second]);
    until("executed", || service.follow(&id)["state"] == "executed");
    assert_eq!((service.records("approval").len(), service.records("claim").len()), (2, 1));
    assert_eq!(service.server.runs("echo"), 1);
    service.audit();
}

/// Of the last yes and a no at once one wins, for ever.
#[test]
fn a_no_against_the_second_yes() {
    let service = Service::new(&[]);
    let mut executed = 0;
    for n in 0..24 {
        let body = echo(&format!("race {n}"));
        let id = service.promised(&body);
        is_said(&service.approve(&yes(OPS, &body)), &id, "pending");
        let second = yes(BOB, &body);
        let no = no(&id);
        let barrier = Barrier::new(2);
        let (said, rejected) = std::thread::scope(|scope| {
            let said = scope.spawn(|| {
                barrier.wait();
                service.approve(&second)
            });
            barrier.wait();
            let rejected = service.server.post("/rejections", &no.to_string());
            (said.join().expect("answered"), rejected)
        });
        let state = match (said.status, rejected.status) {
            (200, 409) => "executed",
            (409, 200) => "rejected",
            both => panic!("{both:?}: {} {}", said.text(), rejected.text()),
        };
        executed += usize::from(state == "executed");
        until(state, || service.follow(&id)["state"] == state);
    }
    assert_eq!(service.records("claim").len(), executed);
    service.audit();
}

/// However close to the end of its time: it executes or it has expired, and every answer says the same. Each is approved
/// within some milliseconds of its end, while others are asked: the requests themselves take the time.
#[test]
fn a_yes_against_the_end_of_time() {
    let service = Service::new(&[]);
    let (mut asked, mut answered) = (VecDeque::new(), Vec::new());
    for n in 0i64.. {
        let decided = |state: &str| answered.iter().any(|(_, known)| *known == state);
        if decided("executed") && decided("expired") && answered.len() >= 32 {
            break;
        }
        // As many as may be pending at once would be too many on a fast machine.
        if asked.len() < 64 {
            let mut body = add(&format!("n{n}"));
            body["expires_at"] = clock::now().plus_seconds(1).to_string().into();
            service.promised(&body);
            asked.push_back(body);
        } else {
            service.follow(&id(&asked[0]));
        }
        let ends =
            |body: &Value| body["expires_at"].as_str().and_then(Time::parse).expect("a time");
        // The nearer the end, the more come too late: a little before and a little after it in turn.
        let early = n % 8 * 10_000;
        let is_near = |body: &Value| ends(body).micros() - clock::now().micros() < early;
        while asked.front().is_some_and(is_near) {
            let body = asked.pop_front().expect("one");
            let answer = service.approve(&yes(OPS, &body));
            // Its time may end between the record of the yes and what follows from it.
            let state = match (answer.status, answer.json()["state"].as_str()) {
                (200, Some("executing")) => "executed",
                (200 | 409, Some("expired")) => "expired",
                _ => panic!("{}", answer.text()),
            };
            until(state, || service.follow(&id(&body))["state"] == state);
            answered.push((body, state));
        }
    }
    let executed = answered.iter().filter(|(_, state)| *state == "executed").count();
    assert_eq!(service.records("claim").len(), executed);
    service.audit();
}

/// The service records the ends of so many one after another: what is past its time is over all the same.
#[test]
fn what_is_past_its_time_is_over_before_a_record_says_so() {
    let service = Service::new(&[]);
    let end = clock::now().plus_seconds(15);
    let asked = (0..300).map(|n| {
        let mut body = add(&format!("n{n}"));
        body["expires_at"] = end.to_string().into();
        service.promised(&body);
        body
    });
    // The ends are recorded in the order of the ids.
    let last = asked.max_by_key(id).expect("one");
    let yes = yes(OPS, &last);
    until("its end", || clock::now() > end);
    let answer = service.approve(&yes);
    assert_eq!(
        (answer.status, &answer.json()["state"]),
        (409, &"expired".into()),
        "{}",
        answer.text()
    );
    let answer = service.ask(&last);
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (403, &"expired".into()),
        "{}",
        answer.text()
    );
    assert!(service.records("claim").is_empty());
    service.audit();
}

/// Approvals come while a restart revokes their key: what counted before stands, and nothing counts after.
#[test]
fn a_yes_against_the_revocation_of_its_key() {
    let mut service = Service::new(&[]);
    let bodies: Vec<_> = (0..48).map(|n| add(&format!("n{n}"))).collect();
    let ids: Vec<_> = bodies.iter().map(|body| service.promised(body)).collect();
    // By two keys: that of one is revoked.
    let signed: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| yes([OPS, BOB][n % 2], body)).collect();
    let (address, signed_too) = (service.server.address.clone(), signed.clone());
    let poster = std::thread::spawn(move || {
        let post = |yes: &Value| post("/approvals", yes.to_string().as_bytes());
        // Until the service is gone.
        let answers = signed_too.iter().map_while(|yes| try_exchange(&address, &post(yes)).ok());
        answers.map(|answer| answer.status).collect::<Vec<_>>()
    });
    until("some are executed", || service.follow(&ids[3])["state"] == "executed");
    service.server.kill();
    let statuses = poster.join().expect("posted");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let before = service.records("claim").len();
    let mut keys = keys_file();
    keys["keys"][0]["not_after"] = "2020-01-01T00:00:00Z".into();
    let path = service.scratch.join("keys.json");
    std::fs::remove_file(&path).expect("removed");
    private_file(&path, &keys.to_string());
    service.restart();
    let recorded = service.records("approval");
    for (n, yes) in signed.iter().enumerate() {
        let is_recorded = recorded.iter().any(|one| one["id"] == ids[n].as_str());
        let answer = service.approve(yes);
        let was_executed = service.follow(&ids[n])["state"] == "executed";
        match (is_recorded, n % 2) {
            // Recorded: it is told for ever what became of it, and counts no more by itself.
            (true, 0) if was_executed => is_said(&answer, &ids[n], "executed"),
            (true, 0) => is_said(&answer, &ids[n], "pending"),
            (false, 0) => drop(problem(&answer, 403, "approval_key_expired")),
            _ => assert_eq!(answer.status, 200, "{}", answer.text()),
        }
    }
    for id in ids.iter().skip(1).step_by(2) {
        until("the other key's execute", || service.follow(id)["state"] == "executed");
    }
    let by = |key: &str| {
        let claims = service.records("claim").into_iter();
        claims.filter(|claim| claim["keys"] == json!([key])).count()
    };
    assert_eq!(by("bob"), 24);
    assert!(by("ops") <= before && by("ops") >= 2, "{}", by("ops"));
    let pending = ids.iter().filter(|id| service.follow(id)["state"] == "pending").count();
    assert_eq!(by("ops") + pending, 24);
    service.audit();
}
