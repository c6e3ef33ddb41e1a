//! Deadlines, eviction and the byte budget, with small bounds.

use std::time::Duration;

use crate::common::gate::{Client, JSON_POST, World, settings, unix_world, world};
use crate::common::{sha256, until};
use openexec::serve::callers;
use openexec::serve::gate::counters::CutBy;

const HELD: &str = "GET /receipts/held HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LARGE: &str = "GET /actions HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends single bytes until the other side answers or closes; how many it took.
fn dribble(client: &mut Client, bytes: &[u8], every: Duration) -> usize {
    client.wire.set_timeout(every);
    let mut sent = 0;
    for byte in bytes {
        if std::io::Write::write_all(&mut client.wire, &[*byte]).is_err() {
            break;
        }
        sent += 1;
        let mut one = [0; 1];
        // Not read for good: only whether something came.
        match std::io::Read::read(&mut client.wire, &mut one) {
            Ok(_) => break,
            Err(_) => continue,
        }
    }
    client.wire.set_timeout(crate::common::PATIENCE);
    sent
}

#[test]
fn a_dribbled_head_gets_408_at_its_deadline() {
    let mut settings = settings(4);
    settings.bounds.head = Duration::from_millis(200);
    let world = world(settings);
    let mut client = world.client();
    let endless = format!("GET /health HTTP/1.1\r\nX: {}", "a".repeat(1_000));
    let sent = dribble(&mut client, endless.as_bytes(), Duration::from_millis(10));
    assert!(sent < 500, "{sent}");
    assert_eq!(world.counters.cut.by(CutBy::Head).get(), 1);
    // The same with an answer that is read whole.
    let mut client = world.client();
    client.send("GET /health HTT");
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "timeout"));
    assert!(client.is_closed());
}

#[test]
fn a_dribbled_body_gets_408_at_its_deadline() {
    let mut settings = settings(4);
    settings.bounds.body = Duration::from_millis(200);
    let world = world(settings);
    let mut client = world.client();
    client.send(format!("{JSON_POST}Content-Length: 10000\r\n\r\n"));
    let sent = dribble(&mut client, &[b'x'; 10_000], Duration::from_millis(10));
    assert!(sent < 500, "{sent}");
    assert_eq!(world.counters.cut.by(CutBy::Body).get(), 1);
    assert_eq!(world.front.requests(), 0);
    let mut client = world.client();
    client.send(format!("{JSON_POST}Content-Length: 10000\r\n\r\n"));
    assert_eq!(client.answer(false).unwrap().code(), "timeout");
    assert!(client.is_closed());
    // Neither chunks nor what frames them extend it.
    for endless in ["1\r\nx\r\n".repeat(1_000), "2;".to_owned() + &"a".repeat(5_000)] {
        let mut client = world.client();
        client.send(format!("{JSON_POST}Transfer-Encoding: chunked\r\n\r\n"));
        let sent = dribble(&mut client, endless.as_bytes(), Duration::from_millis(10));
        assert!(sent < 500, "{sent}");
    }
    assert_eq!(world.front.requests(), 0);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let mut settings = settings(4);
    settings.bounds.idle = Duration::from_secs(1);
    let world = world(settings);
    assert!(world.client().is_closed());
    let mut client = world.client();
    assert_eq!(client.get("/health").status, 200);
    assert!(client.is_closed());
    assert_eq!(world.counters.cut.by(CutBy::Idle).get(), 2);
}

#[test]
fn an_answer_not_taken_in_time_is_cut() {
    let mut settings = settings(4);
    settings.bounds.answer = Duration::from_millis(200);
    let world = unix_world(settings);
    let mut client = world.client();
    client.send(LARGE);
    world.until("the answer is cut", |world| world.counters.cut.by(CutBy::Answer).get() == 1);
    world.until("it is gone", |world| world.open() == 0);
    // Taking a little all the time extends nothing.
    let mut client = world.client();
    client.send(LARGE);
    let mut one = [0; 64];
    let mut taken = 0;
    while let Ok(came @ 1..) = std::io::Read::read(&mut client.wire, &mut one) {
        taken += came;
        if world.counters.cut.by(CutBy::Answer).get() == 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert!(taken < 1024 * 1024, "{taken}");
    assert_eq!(world.counters.cut.by(CutBy::Answer).get(), 2);
}

#[test]
fn a_refused_client_reads_its_answer_though_it_had_more_to_say() {
    let world = world(settings(4));
    for length in [1024 * 1024 + 1, 3_000_000] {
        let mut client = world.client();
        client.send(format!("{JSON_POST}Content-Length: {length}\r\n\r\n"));
        client.send(vec![b'x'; length]);
        let answer = client.answer(false).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    }
    assert_eq!(world.front.requests(), 0);
}

/// A world of one place for each of the named states, the oldest first.
fn connected(world: &World, send: &str) -> Client {
    let open = world.open();
    let mut client = world.client();
    client.send(send);
    world.until("it is seated", |world| world.open() == open + 1);
    client
}

/// Sends this, and waits until it has been read.
fn sent(world: &World, client: &mut Client, bytes: impl AsRef<[u8]>) {
    let read = || world.counters.bytes_in.get();
    let before = read();
    client.send(bytes.as_ref());
    world.until("it is read", |_| read() == before + bytes.as_ref().len() as u64);
}

/// A newcomer that asks and is answered.
fn newcomer(world: &World) -> Client {
    let mut client = world.client();
    assert_eq!(client.get("/health").status, 200);
    client
}

/// A request of the executor's, which does not answer it until it is released.
fn held(world: &World) -> Client {
    let waiting = world.front.waiting();
    let mut client = world.client();
    client.send(HELD);
    world.until("it is inside", |world| world.front.waiting() == waiting + 1);
    client
}

fn is_busy(answer: &crate::common::gate::Answer) -> bool {
    (answer.status, answer.code().as_str(), answer.header("retry-after"))
        == (503, "busy", Some("1"))
}

#[test]
fn the_order_of_eviction() {
    let world = unix_world(settings(5));
    // Its request is inside, and it has no place: there are five beside it.
    let mut served = held(&world);
    let mut untaken = connected(&world, LARGE);
    // The answer has come as far as it can, and lies there.
    world.until("the answer has begun", |world| world.counters.bytes_out.get() > 64 * 1024);
    let mut idle = newcomer(&world);
    let mut half = connected(&world, "GET /hea");
    let mut silent = connected(&world, "");
    let mut late = connected(&world, "");
    assert_eq!(world.counters.evicted.get(), 0);
    let evicted = |count: u64| {
        world.until("one more is evicted", |world| world.counters.evicted.get() == count);
    };
    // First those that never completed a request, the oldest first.
    let mut first = newcomer(&world);
    evicted(1);
    assert!(half.is_closed());
    let mut second = newcomer(&world);
    evicted(2);
    assert!(silent.is_closed());
    let mut third = newcomer(&world);
    evicted(3);
    assert!(late.is_closed());
    // Then the one that its client has kept waiting for longest, whatever for.
    let _fourth = newcomer(&world);
    evicted(4);
    let mut sink = Vec::new();
    let _ = std::io::Read::read_to_end(&mut untaken.wire, &mut sink);
    assert!(sink.len() < 1024 * 1024);
    newcomer(&world);
    evicted(5);
    assert!(idle.is_closed());
    // Never one whose request is inside: these four are, and five may be so.
    for (count, client) in [&mut first, &mut second, &mut third].into_iter().enumerate() {
        client.send(HELD);
        world.until("it is served", |world| world.front.waiting() == 2 + count as u64);
    }
    let mut fifth = held(&world);
    let mut others: Vec<Client> = (0..10).map(|_| newcomer(&world)).collect();
    assert!(is_busy(&others[9].send(HELD).answer(false).unwrap()));
    assert!(world.open() <= 5);
    world.front.release();
    for client in [&mut served, &mut first, &mut second, &mut third, &mut fifth] {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
}

/// Whoever asked the executor has a place again when it has answered, though others took them all.
#[test]
fn an_answer_finds_a_place_again() {
    let world = world(settings(4));
    let mut served: Vec<Client> = (0..3).map(|_| held(&world)).collect();
    let _silent: Vec<Client> = (0..4).map(|_| connected(&world, "")).collect();
    assert_eq!(world.counters.evicted.get(), 0);
    world.front.release();
    for client in &mut served {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
    // And keeps it.
    for client in &mut served {
        assert_eq!(client.get("/health").status, 200);
    }
    assert_eq!(world.counters.evicted.get(), 3);
}

/// Eight connections, and eight requests that the executor does not get to.
#[test]
fn what_is_answered_at_once_always_finds_a_place() {
    let world = world(settings(8));
    let mut waiting: Vec<Client> = (0..8).map(|_| held(&world)).collect();
    // One more is told, keeps its connection, and has not come in.
    let mut client = world.client();
    for request in [
        HELD,
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                           application/json\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        assert!(is_busy(&client.send(request).answer(false).unwrap()));
    }
    assert_eq!(client.get("/health").status, 200);
    assert_eq!((world.front.waiting(), world.counters.refused.get()), (8, 2));
    for _ in 0..50 {
        assert_eq!(world.client().get("/health").status, 200);
    }
    world.front.release();
    for client in &mut waiting {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
    assert_eq!(world.client().send(HELD).answer(false).unwrap().status, 200);
}

#[test]
fn who_has_gone_has_no_place_and_the_request_goes_on() {
    let settings = settings(8);
    for world in [world(settings.clone()), unix_world(settings.clone())] {
        let mut gone: Vec<Client> = (0..8).map(|_| held(&world)).collect();
        // This one has only said all: it cannot be told from the others.
        let mut patient = gone.pop().unwrap();
        patient.wire.finish();
        drop(gone);
        assert_eq!((world.open(), world.front.waiting()), (0, 8), "inside they go on");
        let mut others: Vec<Client> = (0..8).map(|_| newcomer(&world)).collect();
        for client in &mut others {
            assert_eq!(client.get("/health").status, 200);
        }
        // They hold their turns: what waits is bounded, whoever waits for it.
        assert!(is_busy(&others[0].send(HELD).answer(false).unwrap()));
        world.front.release();
        assert_eq!(patient.answer(false).unwrap().status, 200);
        world.until("the others are gone", |world| world.counters.waiting.get() == 0);
        for client in &mut others {
            assert_eq!(client.send(HELD).answer(false).unwrap().status, 200);
        }
        assert_eq!(world.counters.evicted.get(), 0, "they displaced nobody");
    }
}

fn large(bytes: usize) -> Vec<u8> {
    let head = JSON_POST.replace("/execute", "/receipts/verify");
    [format!("{head}Content-Length: {bytes}\r\n\r\n").as_bytes(), &vec![b'x'; bytes]].concat()
}

#[test]
fn large_requests_go_in_in_their_order_and_small_ones_beside_them() {
    let world = world(settings(16));
    let mut clients: Vec<Client> = Vec::new();
    let mut send = |bytes: usize| {
        let waiting = world.counters.waiting.get();
        clients.push(world.client());
        clients.last_mut().unwrap().send(large(bytes));
        world.until("it waits", |world| world.counters.waiting.get() == waiting + 1);
    };
    send(900_000);
    send(900_000);
    world.until("two are inside", |world| world.front.waiting() == 2);
    // This one waits for one of them. The smaller ones behind it would fit, but do not overtake it.
    send(1_000_000);
    send(100_000);
    send(5_000);
    // What counts for nothing waits for nobody.
    send(1_000);
    world.until("the small one is inside", |world| world.front.waiting() == 3);
    assert_eq!(*world.front.bodies.lock().unwrap(), [900_000, 900_000, 1_000]);
    world.front.release();
    for client in &mut clients {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
}

#[test]
fn a_request_waits_for_its_turn_no_longer_than_its_deadline() {
    let mut settings = settings(8);
    settings.bounds.queue = Duration::from_millis(300);
    let world = world(settings);
    let mut inside: Vec<Client> = (0..2).map(|_| world.client()).collect();
    for client in &mut inside {
        client.send(large(1_000_000));
    }
    world.until("two are inside", |world| world.front.waiting() == 2);
    let mut client = world.client();
    assert!(is_busy(&client.send(large(500_000)).answer(false).unwrap()));
    assert_eq!(world.front.bodies.lock().unwrap().len(), 2);
    world.front.release();
    assert_eq!(client.send(large(500_000)).answer(false).unwrap().status, 200);
}

#[test]
fn large_requests_that_wait_give_their_bytes_to_an_answer() {
    let mut settings = settings(16);
    settings.bounds.held_bytes_max = 5 * 512 * 1024;
    let world = world(settings);
    let mut inside: Vec<Client> = (0..2).map(|_| world.client()).collect();
    for client in &mut inside {
        client.send(large(1_000_000));
    }
    world.until("two are inside", |world| world.front.waiting() == 2);
    let mut queued: Vec<Client> = (0..2).map(|_| world.client()).collect();
    for client in &mut queued {
        client.send(large(1_000_000));
    }
    world.until("two more wait", |world| world.counters.waiting.get() == 4);
    for _ in 0..5 {
        let mut client = world.client();
        client.send(LARGE);
        client.send(LARGE);
        for _ in 0..2 {
            assert_eq!(client.answer(false).unwrap().body.len(), 1024 * 1024);
        }
    }
    world.front.release();
    for client in &mut inside {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
    for client in &mut queued {
        let answer = client.answer(false).unwrap();
        let body = String::from_utf8_lossy(&answer.body);
        let has_reason = body.contains("Too many bytes are held");
        assert!(answer.status == 200 || is_busy(&answer) && has_reason, "{answer:?}");
    }
    assert!(world.counters.cut.by(CutBy::HeldBytes).get() > 0, "one gave its bytes");
}

#[test]
fn slow_readers_keep_nobody_out() {
    let mut settings = settings(16);
    // So that no newcomer is served only because the answers' time is up.
    settings.bounds.answer = Duration::from_secs(600);
    let world = unix_world(settings);
    // Each takes a little all the time, as a client on a slow line would.
    let mut slow: Vec<Client> = (0..16).map(|_| connected(&world, LARGE)).collect();
    for round in 0..40 {
        for client in &mut slow {
            let mut little = [0; 512];
            let _ = std::io::Read::read(&mut client.wire, &mut little);
        }
        assert_eq!(world.client().get("/health").status, 200, "{round}");
        assert_eq!(world.client().post(b"{}").status, 200, "{round}");
    }
    assert_eq!(world.counters.refused.get(), 0);
}

#[test]
fn one_completed_request_does_not_buy_a_place_for_good() {
    let world = unix_world(settings(2));
    let mut held: Vec<Client> = (0..2).map(|_| newcomer(&world)).collect();
    for client in &mut held {
        // So that one of them is the older.
        sent(&world, client, "GET /hea");
    }
    newcomer(&world);
    assert!(held[0].is_closed());
}

#[test]
fn a_well_behaved_client_among_a_thousand_silent_ones() {
    let world = world(settings(16));
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.extend((0..10).map(|_| world.client()));
        assert_eq!(world.client().get("/health").status, 200);
    }
    assert!(world.open() <= 16);
    assert_eq!(world.counters.refused.get(), 0);
}

#[test]
fn the_unfinished_request_that_holds_most_makes_room() {
    let mut settings = settings(8);
    settings.bounds.held_bytes_max = 560 * 1024;
    let world = world(settings);
    let half = |bytes: usize| {
        let mut client = world.client();
        sent(&world, &mut client, format!("{JSON_POST}Content-Length: 500000\r\n\r\n"));
        sent(&world, &mut client, vec![b'x'; bytes]);
        client
    };
    let mut small = half(50_000);
    let mut large = half(150_000);
    assert_eq!(world.counters.cut.by(CutBy::HeldBytes).get(), 0);
    // A request finds room: the largest is cut, and is told.
    let mut client = world.client();
    assert_eq!(client.post(&[b'y'; 300_000]).status, 200);
    assert!(is_busy(&large.answer(false).unwrap()));
    assert!(large.is_closed());
    assert_eq!(world.counters.cut.by(CutBy::HeldBytes).get(), 1);
    // The smaller one goes on.
    sent(&world, &mut small, vec![b'x'; 150_000]);
    assert_eq!(client.post(&[b'y'; 1_000]).status, 200);
    // One that is itself the largest, or has been as large for longest, is the one that is cut.
    let mut younger = half(200_000);
    assert_eq!(world.counters.cut.by(CutBy::HeldBytes).get(), 1);
    small.send(vec![b'x'; 250_000]);
    assert!(is_busy(&small.answer(false).unwrap()));
    assert!(small.is_closed());
    younger.send(vec![b'x'; 300_000]);
    assert_eq!(younger.answer(false).unwrap().status, 200);
    assert_eq!(world.counters.cut.by(CutBy::HeldBytes).get(), 2);
    assert_eq!(client.post(&[b'z'; 500_000]).status, 200);
}

#[test]
fn untaken_answers_make_room() {
    let mut settings = settings(16);
    settings.bounds.held_bytes_max = 3 * 1024 * 1024;
    let world = unix_world(settings);
    let mut hoarders: Vec<Client> = (0..8).map(|_| world.client()).collect();
    for hoarder in &mut hoarders {
        hoarder.send(LARGE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    }
    world.until("some were cut", |world| world.counters.cut.by(CutBy::HeldBytes).get() >= 4);
    for _ in 0..20 {
        let mut client = world.client();
        assert_eq!(client.get("/actions").body.len(), 1024 * 1024);
        assert_eq!(client.post(&[b'y'; 100_000]).status, 200);
    }
    let mut whole = 0;
    for hoarder in &mut hoarders {
        let mut sink = Vec::new();
        let _ = std::io::Read::read_to_end(&mut hoarder.wire, &mut sink);
        whole += usize::from(sink.len() > 1024 * 1024);
    }
    assert!(whole <= 3, "{whole}");
}

#[test]
fn pieces_of_every_size_and_abrupt_ends_leave_nothing_behind() {
    let world = world(settings(8));
    for round in 0..300 {
        let mut client = world.client();
        let request = format!("{JSON_POST}Content-Length: 3000\r\n\r\n{}", "x".repeat(3_000));
        client.send(&request[..(round * 37) % request.len()]);
    }
    world.until("all are gone", |world| world.open() == 0);
    assert_eq!(world.client().get("/health").status, 200);
}

/// Where it is known who calls, one that floods leaves half, and always room for another's first.
#[test]
fn no_caller_has_more_waiting_than_is_left_free() {
    let entry = |name: &str| {
        let hash = sha256(&format!("token of {name}"));
        format!(r#"{{"name":"{name}","token_sha256":"{hash}","may":["propose"]}}"#)
    };
    let file = format!(r#"{{"callers":[{},{},{}]}}"#, entry("a"), entry("b"), entry("c"));
    let mut settings = settings(8);
    settings.tokens = Some(callers::read(&file).expect("a file").1);
    let world = world(settings);
    let ask = |name: &str| {
        let mut client = world.client();
        let head = HELD.trim_end();
        client.send(format!("{head}\r\nAuthorization: Bearer token of {name}\r\n\r\n"));
        client
    };
    let mut waiting = Vec::new();
    let mut fill = |name: &str, most: u64| {
        for n in 0..most {
            let before = world.front.waiting();
            waiting.push(ask(name));
            until(&format!("request {n} of {name} waits"), || world.front.waiting() == before + 1);
        }
        let refused = ask(name).answer(false).expect("an answer");
        assert_eq!((refused.status, refused.code().as_str()), (503, "busy"), "{name}");
    };
    // Of eight the first has four, the next two, and the last one: one is left.
    fill("a", 4);
    fill("b", 2);
    fill("c", 1);
    // What is answered at once is no caller's share.
    let mut health = world.client();
    health.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(health.answer(false).expect("an answer").status, 200);
    world.front.release();
    for client in &mut waiting {
        assert_eq!(client.answer(false).expect("an answer").status, 200);
    }
    assert_eq!(world.counters.refused.get(), 3);
}
