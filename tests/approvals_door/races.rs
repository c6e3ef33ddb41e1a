//! Two that decide at once.

use crate::*;

#[test]
fn one_approval_at_once_is_recorded_once() {
    let service = Service::new(&[]);
    let body = echo("n");
    let id = service.promised(&body);
    let (first, second) = (yes(OPS, &body), yes(BOB, &body));
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (service, barrier, approval) =
                (&service, &barrier, if n % 2 == 0 { &first } else { &second });
            scope.spawn(move || {
                barrier.wait();
                let answer = service.approve(approval);
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
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
        let mut no = json!({"rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "tenant_id": TENANT,
            "exec_id": id, "issued_at": clock::now().to_string(), "justification": "no"});
        let message = format!("openexec-rejection-v1\n{}", canonical(&no));
        let pair = KeyPair::from_seed(Seed::new([OPS; 32]));
        no["signature"] = base64::encode(&pair.sk.sign(message, None)[..]).into();
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

/// However close to the end of its time: it executes or it has expired, and every answer says the same.
#[test]
fn a_yes_against_the_end_of_time() {
    let service = Service::new(&[("OPENEXEC_PENDING_TTL_SECONDS", "2")]);
    let bodies: Vec<_> = (0..8).map(|n| add(&format!("n{n}"))).collect();
    bodies.iter().for_each(|body| drop(service.promised(body)));
    let (mut yeses, mut late) = (0, 0);
    for body in &bodies {
        // Until one comes too late there is nothing to wait for: the clock decides between the two.
        std::thread::sleep(std::time::Duration::from_millis(350));
        let answer = service.approve(&yes(OPS, body));
        match answer.status {
            200 => yeses += 1,
            409 => late += 1,
            _ => panic!("{}", answer.text()),
        }
        let state = if answer.status == 200 { "executed" } else { "expired" };
        until(state, || service.follow(&id(body))["state"] == state);
    }
    assert_eq!((yeses + late, service.records("claim").len()), (8, yeses));
    service.audit();
}
