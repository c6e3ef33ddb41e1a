//! A worker's word: `<queue>/outcome/<id>.json`.

use std::fs;

use serde_json::{Value, json};

use crate::common::owed::{Owed, place};
use crate::common::{Server, cli, until};
use crate::{
    OUTBOX, assert_audited, ignored, is_taken, queued, receipt, report, said, shown, started, take,
};

#[test]
fn a_report_is_recorded_once_and_beside_the_receipt() {
    let (scratch, mut server) = started();
    let (answer, id) = queued(&server, "n");
    let (_, other) = queued(&server, "other");
    until("both are open", || server.metric("openexec_open_jobs") == 2);
    until("they grow older", || server.metric("openexec_open_jobs_oldest_seconds") >= 1);
    let result = json!({"charge": "ch_1", "é": [1.5, null]});
    take(
        &scratch,
        "q",
        &id,
        &format!("\n{{ \"result\": {result},\n\"outcome\": \"executed\" }}\n"),
    );
    let mut completion = shown(&server, &id)["completion"].take();
    assert!(completion["at"].take().is_string());
    let hash = receipt(&id, "executed", &result);
    let expected = json!({"at": null, "by": "worker", "outcome": "executed", "receipt": hash,
                          "result": result});
    assert_eq!(completion, expected);
    assert_eq!(server.get(&format!("/receipts/{id}")).body, answer.body);
    until("one is open", || server.metric("openexec_open_jobs") == 1);
    assert_eq!(server.metric("openexec_completions_total{outcome=\"executed\"}"), 1);
    let told = "what became of a job is recorded";
    until("the journal says so", || server.log().contains(told));
    let log = server.log();
    let told = log.lines().filter(|line| line.contains(told));
    assert_eq!(told.filter(|line| line.contains(&id) && line.contains("worker")).count(), 1);
    assert!(!log.contains("ch_1"), "{log}");

    // The same again, as a crash between record and removal leaves it, before and after a restart.
    take(&scratch, "q", &id, &said("executed", &result));
    server.kill();
    report(&scratch, "q", &id, &said("executed", &result));
    let server = Server::start(&scratch, &OUTBOX);
    until("it is taken away", || is_taken(&scratch, "q", &id));
    assert_eq!(ignored(&scratch, "q"), [""; 0]);
    assert_eq!(shown(&server, &id)["completion"]["receipt"], *hash);
    // A restart knows how many are open.
    until("one is open", || server.metric("openexec_open_jobs") == 1);
    take(&scratch, "q", &other, &said("failed", &json!({})));
    until("none is open", || server.metric("openexec_open_jobs") == 0);
    assert_eq!(server.metric("openexec_open_jobs_oldest_seconds"), 0);
    drop(server);
    assert_audited(&scratch, 2);
}

/// A record or an answer has some values around those of a call.
#[test]
fn a_job_of_as_many_values_as_fit_is_shown_like_any_other() {
    let (scratch, server) = started();
    // Three objects, an array and three texts are around them.
    let zeros = vec![0; 131_072 - 3 * 16 - 4];
    let ask = |zeros: &[u8]| {
        let payload = json!({"queue": "q", "job": {"zeros": zeros}});
        let request = json!({"action": "enqueue", "payload": payload, "nonce": "most"});
        server.execute(&request.to_string())
    };
    assert_eq!(ask(&[&zeros[..], &[0]].concat()).code(), "too_many_values");
    let most = ask(&zeros).json()["id"].as_str().expect("an id").to_owned();
    let (_, other) = queued(&server, "other");
    // What became of it is as large.
    take(&scratch, "q", &most, &said("failed", &json!({"zeros": vec![0; 131_072 - 2 * 16 - 2]})));
    let params = json!({"name": "openexec_proposal", "arguments": {"id": most}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let told = server.post("/mcp", &call.to_string()).json();
    assert_eq!(told["result"]["isError"], true, "{:.300}", told.to_string());
    let history = cli(&scratch, &[], &["history"]);
    assert_eq!(history.code, 0, "{}", history.stderr);
    for id in [most, other] {
        assert!(history.stdout.contains(&id[..8]), "{}", history.stdout);
    }
}

/// The whole of who may follow whom, by what the first said and what the second says.
#[test]
fn the_first_that_knows_stands() {
    let (scratch, server) = started();
    let mut recorded = 0;
    let words = ["executed", "failed", "indeterminate"];
    for first in words {
        for second in words {
            let (_, id) = queued(&server, &format!("{first} {second}"));
            let (one, two) = (said(first, &json!({"n": 1})), said(second, &json!({"n": 2})));
            take(&scratch, "q", &id, &one);
            take(&scratch, "q", &id, &two);
            let replaces = first == "indeterminate" && second != "indeterminate";
            recorded += if replaces { 2 } else { 1 };
            let stands = &shown(&server, &id)["completion"];
            let (word, n) = if replaces { (second, 2) } else { (first, 1) };
            assert_eq!((&stands["outcome"], &stands["result"]["n"]), (&json!(word), &json!(n)));
            let is_ignored = ignored(&scratch, "q").contains(&format!("{id}.json"));
            assert_eq!(is_ignored, !replaces, "{first} {second}");
        }
    }
    // An operator and a worker contradict each other.
    let complete = |id: &str, outcome: &str| {
        let arguments = ["complete", id, "--outcome", outcome, "--note", "n", "--yes"];
        cli(&scratch, &[], &arguments).code
    };
    let by = |id: &str| {
        let stands = shown(&server, id)["completion"].take();
        [stands["by"].clone(), stands["outcome"].clone()]
            .map(|word| word.as_str().unwrap().to_owned())
    };
    let (_, id) = queued(&server, "operator first");
    assert_eq!(complete(&id, "failed"), 0);
    take(&scratch, "q", &id, &said("executed", &json!({})));
    // The same word from another is another completion.
    take(&scratch, "q", &id, &said("failed", &json!({"note": "n"})));
    assert_eq!(by(&id), ["operator", "failed"]);
    let (_, id) = queued(&server, "worker first");
    take(&scratch, "q", &id, &said("executed", &json!({})));
    assert_eq!(complete(&id, "failed"), 65);
    assert_eq!(by(&id), ["worker", "executed"]);
    let (_, id) = queued(&server, "worker unsure");
    take(&scratch, "q", &id, &said("indeterminate", &json!({})));
    assert_eq!(complete(&id, "failed"), 0);
    take(&scratch, "q", &id, &said("executed", &json!({})));
    assert_eq!(by(&id), ["operator", "failed"]);
    drop(server);
    assert_audited(&scratch, recorded + 4);
}

#[test]
fn it_counts_only_in_the_queue_that_the_claim_named() {
    let (scratch, server) = started();
    let (_, id) = queued(&server, "n");
    let email = json!({"action": "send_email", "nonce": "m",
                       "payload": {"to": ["a@example.org"], "subject": "s", "text": "t"}});
    let email = server.execute(&email.to_string());
    assert_eq!(email.status, 200, "{}", email.text());
    let email = email.json()["id"].as_str().expect("an id").to_owned();
    let echo = server.execute(r#"{"action":"echo","nonce":"e"}"#).json();
    let echo = echo["id"].as_str().expect("an id").to_owned();
    let other =
        json!({"action": "enqueue", "payload": {"queue": "other", "job": {}}, "nonce": "o"});
    assert_eq!(server.execute(&other.to_string()).status, 200);
    for (queue, id) in [("other", &id), ("send_email", &id), ("q", &email), ("q", &echo)] {
        take(&scratch, queue, id, &said("failed", &json!({"by": queue})));
        assert_eq!(shown(&server, id).get("completion"), None, "{queue}");
        assert!(ignored(&scratch, queue).contains(&format!("{id}.json")), "{queue}");
    }
    for (queue, id) in [("q", &id), ("send_email", &email)] {
        take(&scratch, queue, id, &said("executed", &json!({"by": queue})));
        assert_eq!(shown(&server, id)["completion"]["result"]["by"], queue);
    }
    drop(server);
    assert_audited(&scratch, 2);
}

/// A worker may be quicker than the receipt; and what never happened has no job.
#[test]
fn a_report_waits_for_the_receipt() {
    let (scratch, mut server) = started();
    let (_, first) = queued(&server, "first");
    server.kill();
    let owed = Owed {
        action: "enqueue",
        payload: json!({"queue": "q", "job": {}}),
        nonce: "n",
        place: Some(place(&scratch.join("outbox"))),
        approvals: Vec::new(),
        legacy: None,
    };
    owed.append(&scratch.join("store"));
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    let id = owed.id();
    report(&scratch, "q", &id, &said("executed", &json!({})));
    report(&scratch, "q", &first, &said("executed", &json!({})));
    let server = Server::start(&scratch, &OUTBOX);
    // The other one, of the same look, is recorded.
    until("it is taken away", || is_taken(&scratch, "q", &first));
    assert!(!is_taken(&scratch, "q", &id));
    assert_eq!(shown(&server, &id)["state"], "executing");
    assert_eq!(cli(&scratch, &[], &["unfreeze", "--yes"]).code, 0);
    until("it is recorded", || shown(&server, &id)["completion"]["outcome"] == "executed");
    until("it is taken away", || is_taken(&scratch, "q", &id));
    assert_eq!(ignored(&scratch, "q"), [""; 0]);

    let failed = json!({"action": "enqueue", "payload": {"queue": "q", "job": {}}, "nonce": "f"});
    let id = crate::sha256(&crate::canonical(&failed));
    fs::create_dir(scratch.join(&format!("outbox/q/{id}.json"))).expect("made");
    assert_eq!(server.execute(&failed.to_string()).code(), "handler_failed");
    take(&scratch, "q", &id, &said("executed", &json!({})));
    assert_eq!(ignored(&scratch, "q"), [format!("{id}.json")]);
    drop(server);
    assert_audited(&scratch, 2);
}

/// Killed again and again while reports come: each is recorded once, none is lost.
#[test]
fn kills_lose_and_repeat_nothing() {
    let (scratch, mut server) = started();
    let ids: Vec<String> = (0..60).map(|n| queued(&server, &n.to_string()).1).collect();
    for third in ids.chunks(20) {
        for id in third {
            report(&scratch, "q", id, &said("executed", &json!({"of": id})));
        }
        until("the first of them is taken", || third.iter().any(|id| is_taken(&scratch, "q", id)));
        server.kill();
        server = Server::start(&scratch, &OUTBOX);
    }
    for id in &ids {
        until("it is taken away", || is_taken(&scratch, "q", id));
        assert_eq!(shown(&server, id)["completion"]["result"]["of"], Value::from(id.as_str()));
    }
    assert_eq!(ignored(&scratch, "q"), [""; 0]);
    drop(server);
    assert_audited(&scratch, 60);
}
