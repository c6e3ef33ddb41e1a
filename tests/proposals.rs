//! Proposals against the real binary: what is promised and kept, what never executes, and how it ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::path::PathBuf;
use std::sync::Barrier;

use common::approvals::{Minted, borrowed, settings, start};
use common::{
    Answer, Ended, Scratch, Server, canonical, cli, exec_id as id, hashed, in_files, no_attempt,
    problem, refusal, sha256, until, without_terminal,
};
use openexec::core::limits::PROPOSALS_PENDING;
use openexec::core::time::Time;
use openexec::sys::clock;
use serde_json::{Value, json};

/// A service with an approvals directory, and what it is set to.
struct Service {
    scratch: Scratch,
    settings: Vec<(String, String)>,
    server: Server,
    directory: PathBuf,
}

impl Service {
    fn new(more: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.join("approvals");
        std::fs::create_dir(&directory).expect("made");
        let mut settings = settings();
        let more = more.iter().chain(&[("OPENEXEC_OUTBOX_DIR", "outbox")]);
        settings.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
        std::fs::create_dir(scratch.join("outbox")).expect("made");
        settings.push(("OPENEXEC_APPROVALS_DIR".into(), directory.display().to_string()));
        let server = start(&scratch, &borrowed(&settings));
        Service { scratch, settings, server, directory }
    }

    fn restart(&mut self, more: &[(&str, &str)]) {
        self.server.kill();
        let all = [&borrowed(&self.settings)[..], more].concat();
        self.server = Server::start(&self.scratch, &all);
    }

    fn ask(&self, body: &Value) -> Answer {
        self.server.execute(&body.to_string())
    }

    fn ask_async(&self, body: &Value) -> Answer {
        prefer(&self.server.address, "respond-async", body)
    }

    fn follow(&self, id: &str) -> Value {
        self.server.get(&format!("/proposals/{id}")).json()
    }

    fn until_state(&self, id: &str, state: &str) -> Value {
        until(state, || self.follow(id)["state"] == state);
        self.follow(id)
    }

    /// An approval of this one alone, left in the directory.
    fn approve(&self, body: &Value) -> PathBuf {
        let (id, name) = (hashed(body), format!("{}.json", id(body)));
        let artifact = Minted::hashed(&id).sign().to_string();
        let unfinished = self.scratch.join("unfinished");
        std::fs::write(&unfinished, artifact).expect("written");
        std::fs::rename(&unfinished, self.directory.join(&name)).expect("renamed");
        self.directory.join(name)
    }

    fn records(&self, kind: &str) -> usize {
        let kind = format!("\"kind\":\"{kind}\"");
        let lines = common::evidence::records(&self.server.store);
        lines.iter().filter(|line| line.contains(&kind)).count()
    }
}

fn prefer(address: &str, preference: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let request = format!(
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Prefer: {preference}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    common::exchange(address, request.as_bytes())
}

fn echo(nonce: &str) -> Value {
    json!({"action": "echo", "nonce": nonce, "payload": {"msg": nonce}})
}

/// What was promised: where to follow it, no `approved`, no receipt.
fn promised(answer: &Answer, id: &str) {
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json(), json!({"id": id, "state": "pending"}));
    assert_eq!(answer.header("location"), Some(&*format!("/proposals/{id}")));
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u8>().is_ok()));
}

#[test]
fn only_what_was_promised_executes_by_itself() {
    let mut service = Service::new(&[]);
    let (kept, asked) = (echo("kept"), echo("asked"));
    let (kept_id, asked_id) = (id(&kept), id(&asked));
    let mut first = kept.clone();
    first["justification"] = "the customer \u{202e}asked".into();
    promised(&service.ask_async(&first), &kept_id);
    refusal(&service.ask(&asked), 403, "approval_missing");
    let shown = service.follow(&kept_id);
    assert_eq!(shown["state"], "pending");
    assert_eq!(shown["asynchronous"], true);
    assert_eq!(shown["approvals"], json!({"have": [], "missing": {"count": 1, "groups": {}}}));
    assert_eq!(shown["justification"], first["justification"]);
    assert_eq!(shown["payload"], kept["payload"]);
    assert!(shown["expires_at"].is_string() && shown["asked_at"].is_string(), "{shown}");
    // Whatever the repeat says beside what is hashed, and with the header or without.
    for (body, preference) in [(&kept, "respond-async"), (&first, "wait=5"), (&kept, "x")] {
        promised(&prefer(&service.server.address, preference, body), &kept_id);
    }
    for body in [&kept, &asked] {
        service.approve(body);
    }
    let done = service.until_state(&kept_id, "executed");
    until("the other is approved", || service.follow(&asked_id)["blocked"] == "awaiting_caller");
    assert_eq!(service.follow(&asked_id)["state"], "pending");
    assert_eq!((service.records("claim"), service.server.runs("echo")), (1, 1));
    assert_eq!(done["result"], json!({"echo": kept["payload"]}));
    assert_eq!(done["asynchronous"], true);
    assert_eq!(done["justification"], first["justification"]);
    // A restart changes nothing of that, and whoever asks again gets what was done.
    service.restart(&[]);
    let answer = service.ask_async(&kept);
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(answer.body, service.server.get(&format!("/receipts/{kept_id}")).body);
    until("it is looked at", || service.follow(&asked_id)["blocked"] == "awaiting_caller");
    assert_eq!(
        service.records("claim"),
        1,
        "what was refused never executes behind its caller's back"
    );
    assert_eq!(service.ask(&asked).status, 200);
    // What lacks nothing is answered as ever, and what is wrong with a call is wrong with it so too.
    let approved = Minted::of("echo", &json!({"msg": "at once"})).sign();
    let mut at_once = echo("at once");
    at_once["approval_artifact"] = approved;
    assert_eq!(service.ask_async(&at_once).status, 200);
    let nobodys = json!({"action": "none", "nonce": "n", "payload": {}});
    refusal(&service.ask_async(&nobodys), 400, "unknown_action");
    problem(&service.server.get(&format!("/proposals/{}", id(&nobodys))), 404, "not_found");
    let audited = cli(&service.scratch, &borrowed(&service.settings), &["verify"]);
    assert_eq!(audited.code, 0, "{}", audited.stderr);
}

/// Asked first without the header: from the 202 on it executes by itself. Until then it does not.
#[test]
fn a_proposal_becomes_asynchronous_and_keeps_it_over_a_kill() {
    let mut service = Service::new(&[]);
    let body = echo("later");
    refusal(&service.ask(&body), 403, "approval_missing");
    promised(&service.ask_async(&body), &id(&body));
    service.restart(&[]);
    promised(&service.ask(&body), &id(&body));
    assert_eq!((service.records("proposal"), service.records("asynchronous")), (1, 1));
    service.approve(&body);
    service.until_state(&id(&body), "executed");
}

#[test]
fn what_is_approved_waits_for_the_end_of_a_stop_and_of_a_service() {
    let mut service = Service::new(&[]);
    let body = echo("frozen");
    let (unapproved, waits) = (echo("unapproved"), echo("waits"));
    promised(&service.ask_async(&body), &id(&body));
    promised(&service.ask_async(&unapproved), &id(&unapproved));
    refusal(&service.ask(&waits), 403, "approval_missing");
    assert_eq!(cli(&service.scratch, &[], &["freeze", "--reason", "a look"]).code, 0);
    service.approve(&body);
    let yes = Minted::hashed(&hashed(&waits)).sign();
    assert_eq!(service.server.post("/approvals", &yes.to_string()).status, 200);
    until("it is blocked", || service.follow(&id(&body))["blocked"] == "frozen");
    // A promise is kept, frozen too; a new one is not given.
    promised(&service.ask(&body), &id(&body));
    refusal(&service.ask_async(&echo("new")), 503, "frozen");
    service.restart(&[]);
    until("it is blocked again", || service.follow(&id(&body))["blocked"] == "frozen");
    assert_eq!(service.records("claim"), 0);
    // It is listed as what will be released, and asked for; and with the settings nothing else is.
    let settings = borrowed(&service.settings);
    let by = |settings: &[(&str, &str)], command: &str| {
        let ended = cli(&service.scratch, settings, &[command]);
        let lines = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let said: Vec<(Value, Value)> =
            lines.map(|line: Value| (line["id"].clone(), line["blocked"].clone())).collect();
        (ended.code, said)
    };
    let [approved, lacks] = [&body, &unapproved].map(|body| json!(id(body)));
    assert_eq!(by(&settings, "unfreeze"), (64, vec![(approved.clone(), Value::Null)]));
    let both = vec![(approved.clone(), Value::Null), (lacks.clone(), Value::Null)];
    assert_eq!(by(&[], "unfreeze"), (64, both));
    let shown = vec![
        (approved, json!("frozen")),
        (lacks, Value::Null),
        (json!(id(&waits)), json!("awaiting_caller")),
    ];
    assert_eq!(by(&settings, "pending"), (0, shown));
    assert_eq!(service.follow(&id(&body))["blocked"], "frozen");
    assert_eq!(cli(&service.scratch, &[], &["unfreeze", "--yes"]).code, 0);
    service.until_state(&id(&body), "executed");
    assert_eq!(service.server.runs("echo"), 1);
}

#[test]
fn what_is_not_allowed_any_more_when_it_is_approved_ends_as_refused() {
    let mut service = Service::new(&[]);
    let body = echo("gone");
    promised(&service.ask_async(&body), &id(&body));
    service.restart(&[("OPENEXEC_ALLOWED_ACTIONS", "add")]);
    // Of what nobody has approved nothing ends.
    promised(&service.ask(&body), &id(&body));
    service.approve(&body);
    service.until_state(&id(&body), "refused");
    let answer = service.ask_async(&body);
    let problem = refusal(&answer, 403, "refused");
    assert!(problem["detail"].as_str().expect("text").contains("action_not_allowed"), "{problem}");
    service.restart(&[]);
    refusal(&service.ask(&body), 403, "refused");
    assert_eq!(service.records("claim"), 0);
}

/// Whoever decides last, and however close: it executes or it has expired, for ever.
#[test]
fn an_approval_against_the_end_of_time() {
    let service = Service::new(&[("OPENEXEC_PENDING_TTL_SECONDS", "2")]);
    let bodies: Vec<Value> = (0..8).map(|n| echo(&format!("n{n}"))).collect();
    for body in &bodies {
        promised(&service.ask_async(body), &id(body));
    }
    // From well before its end, by when the directory is looked at, to a little after it.
    for (body, before) in bodies.iter().zip([1_700, 1_400, 1_100, 800, 500, 200, 0, -200]) {
        let end = service.follow(&id(body))["expires_at"].as_str().and_then(Time::parse);
        let end = end.expect("a time").micros() - before * 1_000;
        until("its moment", || clock::now().micros() >= end);
        service.approve(body);
    }
    let state = |body: &Value| service.follow(&id(body))["state"].as_str().map(str::to_owned);
    let is_final = |body: &Value| state(body).as_deref() != Some("pending");
    until("all are decided", || bodies.iter().all(is_final));
    let mut executed = 0;
    for body in &bodies {
        let (was, answer) = (state(body), service.ask_async(body));
        match was.as_deref() {
            Some("executed") => executed += i32::from(answer.status == 200),
            Some("expired") => drop(refusal(&answer, 403, "expired")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(service.records("claim") as i32, executed);
    assert_eq!(service.records("closed") as i32, 8 - executed);
}

/// Where no service is there to record its end, its time ends it for the commands all the same.
#[test]
fn what_is_past_its_time_waits_for_nobody_without_a_service() {
    let mut service = Service::new(&[("OPENEXEC_PENDING_TTL_SECONDS", "5")]);
    let body = echo("n");
    refusal(&service.ask(&body), 403, "approval_missing");
    let end = service.follow(&id(&body))["expires_at"].as_str().and_then(Time::parse);
    service.server.kill();
    until("its end", || Some(clock::now()) > end);
    assert_eq!(service.records("closed"), 0, "nobody has recorded it");
    let run = |words: &[&str]| cli(&service.scratch, &borrowed(&service.settings), words);
    let listed = run(&["pending"]);
    assert_eq!((listed.code, listed.stdout.as_str()), (0, ""), "{}", listed.stderr);
    for which in [&id(&body), "--all"] {
        assert_eq!(run(&["withdraw", which, "--yes"]).code, 65, "{which}");
    }
    assert_eq!(service.records("closed"), 0);
}

#[test]
fn of_64_callers_that_repeat_one_proposal_each_has_the_same_and_it_executes_once() {
    let service = Service::new(&[]);
    let body = json!({"action": "enqueue", "nonce": "once", "payload": {"queue": "q", "job": {}}});
    let start = Barrier::new(64);
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (service, body, start) = (&service, &body, &start);
            scope.spawn(move || {
                start.wait();
                if n % 2 == 0 {
                    let answer = service.ask_async(body);
                    promised(&answer, &id(body));
                } else {
                    let answer = service.ask(body);
                    assert!(matches!(answer.status, 202 | 403), "{}", answer.text());
                }
            });
        }
    });
    assert_eq!(service.records("proposal"), 1);
    assert!(service.records("asynchronous") <= 1);
    service.approve(&body);
    service.until_state(&id(&body), "executed");
    let first = service.ask(&body);
    for _ in 0..8 {
        assert_eq!(service.ask_async(&body).body, first.body);
    }
    assert_eq!(service.records("claim"), 1);
    until("one job is counted", || service.server.metric("openexec_open_jobs") == 1);
}

#[test]
fn what_a_caller_says_beside_the_request_has_a_form() {
    let service = Service::new(&[]);
    let with = |name: &str, value: Value| {
        let mut body = echo(&sha256(&format!("{name} {value}")));
        body[name] = value;
        body
    };
    for wrong in [
        with("justification", json!(1)),
        with("justification", json!("x".repeat(501))),
        with("expires_at", json!("tomorrow")),
        with("expires_at", json!(1_900_000_000)),
        with("expires_at", json!("2020-01-01T00:00:00Z")),
        with("expires_at", json!("2199-01-01T00:00:00Z")),
    ] {
        no_attempt(&service.ask_async(&wrong), 422, "invalid_request");
    }
    assert_eq!(service.records("proposal"), 0);
    let soon = openexec::sys::clock::now().plus_seconds(3_600).to_string();
    for right in [
        with("justification", Value::Null),
        with("justification", json!("\u{1f600}".repeat(500))),
        with("expires_at", Value::Null),
        with("expires_at", json!(soon)),
    ] {
        promised(&service.ask_async(&right), &id(&right));
    }
    assert_eq!(service.follow(&id(&with("expires_at", json!(soon))))["expires_at"], soon);
}

/// Preferences stand in any number of lines, with parameters, in any case.
#[test]
fn the_preference_is_read_as_rfc_7240_has_it() {
    let service = Service::new(&[]);
    let address = &service.server.address;
    for (n, preference) in [
        "respond-async",
        "Respond-Async",
        "wait=100, respond-async",
        "respond-async; x=\"y\"",
        "handling=lenient\r\nPrefer: respond-async",
    ]
    .into_iter()
    .enumerate()
    {
        let body = echo(&format!("yes {n}"));
        promised(&prefer(address, preference, &body), &id(&body));
    }
    for (n, preference) in
        ["wait=100", "respond-asynchronously", "x=respond-async", "return=minimal", ""]
            .into_iter()
            .enumerate()
    {
        let body = echo(&format!("no {n}"));
        refusal(&prefer(address, preference, &body), 403, "approval_missing");
    }
}

/// One file for two that are alike: nobody could say which was meant, so it counts for neither.
#[test]
fn an_approval_that_two_proposals_share_executes_neither_by_itself() {
    let service = Service::new(&[]);
    let alike = |nonce: &str| json!({"action": "echo", "nonce": nonce, "payload": {}});
    for nonce in ["a", "b"] {
        promised(&service.ask_async(&alike(nonce)), &id(&alike(nonce)));
    }
    let hash = canonical(&json!({"action": "echo", "payload": {}}));
    let artifact = Minted::hashed(&hash).sign().to_string();
    std::fs::write(service.directory.join(format!("{}.json", sha256(&hash))), artifact)
        .expect("written");
    // Whoever follows them sees why.
    for nonce in ["a", "b"] {
        let one = id(&alike(nonce));
        until("it is looked at", || service.follow(&one)["blocked"] == "approval_ambiguous");
    }
    assert_eq!(service.records("claim"), 0);
    service.approve(&alike("a"));
    service.until_state(&id(&alike("a")), "executed");
    // Then it is one proposal's again.
    service.until_state(&id(&alike("b")), "executed");
}

#[test]
fn a_flood_of_proposals_has_its_end() {
    let service = Service::new(&[]);
    for n in 0..PROPOSALS_PENDING {
        let answer = service.ask(&echo(&format!("n{n}")));
        assert_eq!(refusal(&answer, 403, "approval_missing")["recorded"], true, "{n}");
    }
    let more = echo("more");
    let answer = service.ask(&more);
    assert_eq!(refusal(&answer, 403, "approval_missing")["recorded"], false);
    refusal(&service.ask_async(&more), 429, "pending_full");
    problem(&service.server.get(&format!("/proposals/{}", id(&more))), 404, "not_found");
    // It stands in nobody's way who is approved, and keeps no promise back.
    promised(&service.ask_async(&echo("n0")), &id(&echo("n0")));
    service.approve(&echo("n0"));
    service.until_state(&id(&echo("n0")), "executed");
    promised(&service.ask_async(&more), &id(&more));
    // And the host ends all of it in one batch.
    let withdraw =
        || cli(&service.scratch, &borrowed(&service.settings), &["withdraw", "--all", "--yes"]);
    // Over a database: a node that is busy for longer than a command waits has done nothing.
    let ended =
        (0..10).map(|_| withdraw()).find(|ended| ended.code != 75).expect("not busy for ever");
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 1_000), "{}", ended.stderr);
    let first = in_files(&service.server.store).join("00000001.jsonl");
    let text = std::fs::read_to_string(first).expect("read");
    let batches: Vec<_> = text.split(r#""kind":"commit""#).collect();
    let ends = |batch: &&str| batch.matches(r#""how":"withdrawn""#).count();
    assert_eq!(batches.iter().map(ends).filter(|ends| *ends > 0).collect::<Vec<_>>(), [1_000]);
}

/// A worker says what became of a job; of a proposal there is none, and what is said before counts for nothing later.
#[test]
fn a_report_of_what_is_only_proposed_is_ignored() {
    let service = Service::new(&[]);
    let job = json!({"action": "enqueue", "nonce": "n", "payload": {"queue": "q", "job": {}}});
    promised(&service.ask_async(&job), &id(&job));
    let outcome = service.scratch.join("outbox/q/outcome");
    // A job before this one made the queue.
    for made in [&service.scratch.join("outbox/q/done"), &outcome] {
        std::fs::create_dir_all(made).expect("made");
    }
    let name = format!("{}.json", id(&job));
    std::fs::write(service.scratch.join("report"), r#"{"outcome":"executed","result":{}}"#)
        .expect("written");
    std::fs::rename(service.scratch.join("report"), outcome.join(&name)).expect("renamed");
    until("it is set aside", || outcome.join("ignored").join(&name).exists());
    service.approve(&job);
    let executed = service.until_state(&id(&job), "executed");
    assert_eq!((executed.get("completion"), service.records("completion")), (None, 0));
}

/// `openexec withdraw` with the settings of the service.
fn withdraw(service: &Service, words: &[&str]) -> Ended {
    let words: Vec<&str> = ["withdraw"].iter().chain(words).copied().collect();
    cli(&service.scratch, &borrowed(&service.settings), &words)
}

/// The host says no to what is pending, beside the service, frozen or not; to nothing else.
#[test]
fn an_operator_withdraws_what_is_pending_and_nothing_else() {
    let mut service = Service::new(&[]);
    let [one, three, four, done] = ["one", "three", "four", "done"].map(echo);
    service.approve(&done);
    assert_eq!(service.ask(&done).status, 200);
    promised(&service.ask_async(&one), &id(&one));
    for pending in [&three, &four] {
        refusal(&service.ask(pending), 403, "approval_missing");
    }
    let (first, zeros) = (id(&one), "0".repeat(64));
    for (words, code) in [
        (&[][..], 64),
        (&["--yes"][..], 64),
        (&[&first, "--all", "--yes"][..], 64),
        (&["no-id", "--yes"][..], 64),
        (&[&zeros, "--yes"][..], 65),
        (&[&id(&done), "--yes"][..], 65),
    ] {
        let ended = withdraw(&service, words);
        assert_eq!(ended.code, code, "{words:?}: {}", ended.stderr);
    }
    for words in [&["withdraw", "--all"][..], &["withdraw", &first]] {
        assert_eq!(without_terminal(&service.scratch, words, "yes\n").code, 64);
    }
    assert_eq!(service.records("closed"), 0);

    // Beside the service. From then on no approval makes it execute, neither by itself nor with a call.
    let ended = withdraw(&service, &[&first, "--yes"]);
    assert_eq!(
        (ended.code, ended.stdout),
        (0, format!("withdrawn: {first}\n")),
        "{}",
        ended.stderr
    );
    assert_eq!(service.follow(&first)["state"], "withdrawn");
    service.approve(&one);
    refusal(&service.ask(&one), 403, "withdrawn");
    assert_eq!(withdraw(&service, &[&first, "--yes"]).code, 65);

    service.restart(&[]);
    refusal(&service.ask(&one), 403, "withdrawn");

    // All that is left, while frozen, in the order in which they came.
    assert_eq!(cli(&service.scratch, &[], &["freeze"]).code, 0);
    let ended = withdraw(&service, &["--all", "--yes"]);
    let both = format!("withdrawn: {}\nwithdrawn: {}\n", id(&three), id(&four));
    assert_eq!((ended.code, ended.stdout), (0, both), "{}", ended.stderr);
    assert_eq!(withdraw(&service, &["--all", "--yes"]).code, 65);
    assert_eq!((service.records("closed"), service.records("claim")), (3, 1));
    service.server.kill();
    assert_eq!(cli(&service.scratch, &[], &["verify"]).code, 0);
}

/// Whoever may see all sees all that waits, once each; whoever may not, and a service that asks nobody, shows nothing.
#[test]
fn the_list_has_all_that_are_pending_page_after_page() {
    let token = |name: &str| format!("openexec_{}", sha256(name));
    let caller = |name: &str, may: &str, actions: Value| {
        let mut caller = json!({"name": name, "token_sha256": sha256(&token(name)), "may": [may]});
        if !actions.is_null() {
            caller["actions"] = actions;
        }
        caller
    };
    let callers = json!({"callers": [
        caller("agent", "propose", Value::Null),
        caller("boss", "approve", Value::Null),
        caller("adder", "read", json!(["add"])),
    ]});
    let mut service = Service::new(&[]);
    problem(&service.server.get("/proposals?state=pending"), 404, "not_found");
    let file = service.scratch.join("callers.json");
    common::private_file(&file, &callers.to_string());
    let file = file.display().to_string();
    service.restart(&[("OPENEXEC_CALLERS_FILE", &file)]);
    let send = |method: &str, target: &str, who: &str, body: &str| {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\n{}\r\n{body}",
            token(who),
            if method == "POST" {
                format!("Content-Length: {}\r\n", body.len())
            } else {
                String::new()
            },
        );
        common::exchange(&service.server.address, request.as_bytes())
    };
    let large = json!({"action": "echo", "nonce": "large", "payload": {"x": "y".repeat(5_000)}});
    let add = json!({"action": "add", "nonce": "add", "payload": {"a": 1}});
    let alike = |n: usize| json!({"action": "echo", "nonce": format!("n{n}"), "payload": {}});
    let all: Vec<Value> = [large, add.clone()].into_iter().chain((0..203).map(alike)).collect();
    for body in &all {
        refusal(&send("POST", "/execute", "agent", &body.to_string()), 403, "approval_missing");
    }
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let target = format!("/proposals?state=pending{after}");
        let answer = send("GET", &target, "boss", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        found.extend(page["proposals"].as_array().expect("an array").clone());
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(pages, 3);
    let ids: Vec<String> =
        found.iter().map(|entry| entry["id"].as_str().expect("id").into()).collect();
    assert_eq!(ids, all.iter().map(id).collect::<Vec<_>>(), "each once, the oldest first");
    assert_eq!((&found[0]["payload_bytes"], &found[0]["payload"]), (&json!(5_008), &Value::Null));
    assert_eq!((&found[0]["same_hash"], &found[9]["same_hash"]), (&json!(1), &json!(203)));
    assert_eq!((&found[1]["payload"], &found[1]["caller"]), (&add["payload"], &json!("agent")));
    let adders = send("GET", "/proposals?state=pending", "adder", "").json();
    let entries = adders["proposals"].as_array().expect("an array");
    assert_eq!((entries.len(), &entries[0]["action"]), (1, &json!("add")));
    problem(&send("GET", "/proposals?state=pending", "agent", ""), 403, "caller_not_allowed");
    for wrong in ["", "?", "?state=pending&after=x", "?state=pending&after=1&x", "?after=1"] {
        problem(&send("GET", &format!("/proposals{wrong}"), "boss", ""), 422, "invalid_request");
    }
}

/// Without a service too, and there it stays so.
#[test]
fn without_a_service_an_operator_withdraws_what_is_pending() {
    let mut service = Service::new(&[]);
    let body = echo("n");
    promised(&service.ask_async(&body), &id(&body));
    service.server.kill();
    let ended = withdraw(&service, &[&id(&body), "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    service.restart(&[]);
    assert_eq!(service.follow(&id(&body))["state"], "withdrawn");
    refusal(&service.ask(&body), 403, "withdrawn");
}
