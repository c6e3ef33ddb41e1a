//! `DELETE /proposals/{exec_id}`: a caller ends what it asked and nobody has decided; and what an approver sees whose
//! actions are limited.

use std::sync::Barrier;

use ed25519_compact::{KeyPair, Seed};
use openexec::core::base64;
use openexec::sys::clock;
use serde_json::{Value, json};

use crate::common::approvals::{self, Minted};
use crate::common::{
    Answer, Scratch, Server, canonical, exec_id, hashed, problem, refusal, sha256, until,
};
use crate::records::{lines, verified};
use crate::{bearer, entry, get_as, known, post_as, send, start_claw, token};

pub fn delete_as(server: &Server, name: &str, id: &str) -> Answer {
    send(server, "DELETE", &format!("/proposals/{id}"), &bearer(name), "")
}

pub fn body(action: &str, nonce: &str) -> Value {
    json!({"action": action, "nonce": nonce, "payload": {}})
}

/// Proposes it; gives its id.
pub fn ask(server: &Server, name: &str, action: &str, nonce: &str, prefer: &str) -> String {
    let headers = format!("{}Content-Type: application/json\r\n{prefer}", bearer(name));
    let body = body(action, nonce);
    let answer = send(server, "POST", "/execute", &headers, &body.to_string());
    let expected = if prefer.is_empty() { 403 } else { 202 };
    assert_eq!(answer.status, expected, "{}", answer.text());
    exec_id(&body)
}

const ASYNC: &str = "Prefer: respond-async\r\n";

fn state(server: &Server, id: &str) -> Value {
    get_as(server, "auditor", &format!("/proposals/{id}")).json()["state"].clone()
}

#[test]
fn its_caller_ends_what_is_pending_and_nobody_else() {
    let scratch = Scratch::new();
    let mut callers = known();
    let mut both = entry("both", r#"["approve","propose","read"]"#);
    both["token_sha256"] = sha256(&token("both")).into();
    callers.push(both);
    let (mut server, settings) = start_claw(&scratch, &callers);
    let [sync, promised] = [("asked", ""), ("promised", ASYNC)]
        .map(|(nonce, prefer)| ask(&server, "agent-7", "echo", nonce, prefer));
    let unknown = "0".repeat(64);
    // What is another's is as if it were unknown; what cannot be an id is nothing.
    for name in ["agent-8", "adder", "both"] {
        let text = |id: &str| delete_as(&server, name, id).text().replace(id, "ID");
        assert_eq!(text(&sync), text(&unknown), "{name}");
        problem(&delete_as(&server, name, &sync), 404, "nothing_pending");
    }
    problem(&delete_as(&server, "ann", &sync), 403, "caller_not_allowed");
    problem(&delete_as(&server, "agent-7", "0"), 404, "not_found");
    problem(&delete_as(&server, "agent-7", &sync.to_uppercase()), 404, "not_found");
    let with_body = format!("{}Content-Length: 2\r\n", bearer("agent-7"));
    let target = format!("/proposals/{sync}");
    problem(&send(&server, "DELETE", &target, &with_body, "{}"), 400, "bad_request");
    assert_eq!(lines(&server.store, "closed").len(), 0);
    for id in [&sync, &promised] {
        let answer = delete_as(&server, "agent-7", id);
        assert_eq!(answer.text(), format!(r#"{{"id":"{id}","state":"withdrawn"}}"#));
    }
    for restarted in [false, true] {
        for (id, nonce) in [(&sync, "asked"), (&promised, "promised")] {
            let again = problem(&delete_as(&server, "agent-7", id), 409, "not_pending");
            assert_eq!((&again["state"], &again["id"]), (&json!("withdrawn"), &json!(id)));
            problem(&delete_as(&server, "both", id), 404, "nothing_pending");
            let mut call = body("echo", nonce);
            call["approval_artifact"] = Minted::of("echo", &json!({})).sign();
            let answer = post_as(&server, "agent-7", "/execute", &call.to_string());
            refusal(&answer, 403, "withdrawn");
            let yes = Minted::hashed(&hashed(&body("echo", nonce))).sign().to_string();
            problem(&post_as(&server, "ann", "/approvals", &yes), 409, "not_pending");
            assert_eq!(state(&server, id), "withdrawn");
        }
        if !restarted {
            server.kill();
            server = Server::start(&scratch, &approvals::borrowed(&settings));
        }
    }
    let closed = lines(&server.store, "closed");
    let said: Vec<_> = closed.iter().map(|end| (&end["by"], &end["how"], &end["code"])).collect();
    assert_eq!(said, vec![(&json!("caller"), &json!("withdrawn"), &Value::Null); 2]);
    // What is executed, and what was only refused.
    let mut call = body("echo", "done");
    call["approval_artifact"] = Minted::of("echo", &json!({})).sign();
    assert_eq!(post_as(&server, "agent-7", "/execute", &call.to_string()).status, 200);
    let done = exec_id(&body("echo", "done"));
    let over = problem(&delete_as(&server, "agent-7", &done), 409, "not_pending");
    assert_eq!(over["state"], "executed");
    let launch = body("launch", "n");
    refusal(&post_as(&server, "agent-7", "/execute", &launch.to_string()), 400, "unknown_action");
    problem(&delete_as(&server, "agent-7", &exec_id(&launch)), 404, "nothing_pending");
    verified(&server);
}

#[test]
fn the_method_is_there_where_it_is_asked_who_calls() {
    let scratch = Scratch::new();
    let (server, _) = start_claw(&scratch, &known());
    let target = format!("/proposals/{}", "0".repeat(64));
    let allow = |server: &Server, method: &str, target: &str| {
        let answer = send(server, method, target, "", "");
        problem(&answer, 405, "method_not_allowed");
        answer.header("allow").expect("Allow").to_owned()
    };
    assert_eq!(allow(&server, "PUT", &target), "GET, HEAD, DELETE");
    assert_eq!(allow(&server, "DELETE", "/proposals?state=pending"), "GET, HEAD");
    let alone = Scratch::new();
    let server = approvals::start(&alone, &approvals::borrowed(&approvals::settings()));
    assert_eq!(allow(&server, "DELETE", &target), "GET, HEAD");
    problem(&send(&server, "DELETE", "/proposals", "", ""), 404, "not_found");
}

/// Of the last yes and the withdrawal at once one wins, for ever.
#[test]
fn a_withdrawal_against_the_yes() {
    let scratch = Scratch::new();
    let (server, _) = start_claw(&scratch, &known());
    let mut executed = 0;
    for n in 0..24 {
        let nonce = format!("race {n}");
        let id = ask(&server, "agent-7", "echo", &nonce, ASYNC);
        let yes = Minted::hashed(&hashed(&body("echo", &nonce))).sign().to_string();
        let barrier = Barrier::new(2);
        let (said, ended) = std::thread::scope(|scope| {
            let said = scope.spawn(|| {
                barrier.wait();
                post_as(&server, "ann", "/approvals", &yes)
            });
            barrier.wait();
            let ended = delete_as(&server, "agent-7", &id);
            (said.join().expect("answered"), ended)
        });
        let expected = match (said.status, ended.status) {
            (200, 409) => "executed",
            (409, 200) => "withdrawn",
            both => panic!("{both:?}: {} {}", said.text(), ended.text()),
        };
        executed += usize::from(expected == "executed");
        until(expected, || state(&server, &id) == expected);
    }
    assert_eq!(lines(&server.store, "claim").len(), executed);
    verified(&server);
}

/// One to whom some actions are listed sees what others ask of these, singly and in the list, and nothing else.
#[test]
fn an_approver_with_actions_sees_those_alone() {
    let scratch = Scratch::new();
    let mut callers = known();
    for (name, may) in [("adds", r#"["approve"]"#), ("reads adds", r#"["read"]"#)] {
        let mut one = entry(name, may);
        one["actions"] = json!(["add"]);
        callers.push(one);
    }
    let (server, _) = start_claw(&scratch, &callers);
    let (echoed, added) = (body("echo", "done"), body("add", "done too"));
    for call in [&echoed, &added] {
        let mut call = call.clone();
        let action = call["action"].as_str().expect("text").to_owned();
        call["approval_artifact"] = Minted::of(&action, &json!({})).sign();
        let answer = post_as(&server, "agent-7", "/execute", &call.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let pending = ["echo", "add"].map(|action| ask(&server, "agent-7", action, action, ""));
    let unknown = "0".repeat(64);
    for name in ["adds", "reads adds"] {
        let list = get_as(&server, name, "/proposals?state=pending").json();
        let ids: Vec<_> = list["proposals"].as_array().expect("a list").iter().collect();
        assert_eq!((ids.len(), &ids[0]["id"]), (1, &json!(pending[1])), "{name}");
        for (of, hidden, seen) in [
            ("proposals", &pending[0], &pending[1]),
            ("proposals", &exec_id(&echoed), &exec_id(&added)),
            ("receipts", &exec_id(&echoed), &exec_id(&added)),
        ] {
            let text = |id: &str| get_as(&server, name, &format!("/{of}/{id}")).text();
            assert_eq!(text(hidden), text(&unknown), "{name}: {of}/{hidden}");
            assert_eq!(get_as(&server, name, &format!("/{of}/{seen}")).status, 200, "{name} {of}");
            assert_eq!(get_as(&server, "auditor", &format!("/{of}/{hidden}")).status, 200);
        }
        let receipt = |id: &str| get_as(&server, "auditor", &format!("/receipts/{id}")).json();
        for (call, is_seen) in [(&echoed, false), (&added, true)] {
            let said = receipt(&exec_id(call));
            let question = json!({"exec_id": said["id"], "result": said["result"], "receipt": said["receipt"]});
            let answer = post_as(&server, name, "/receipts/verify", &question.to_string()).json();
            assert_eq!(
                (&answer["valid"], &answer["recorded"]),
                (&json!(true), &json!(is_seen)),
                "{name}"
            );
        }
    }
    // What it guesses and signs is as if unknown, whatever became of it; and so is a signed no.
    let guesses = [
        (echoed.clone(), "executed"),
        (body("echo", "echo"), "pending"),
        (body("echo", "nobody asked"), "unknown"),
    ];
    for (call, what) in &guesses {
        let id = exec_id(call);
        let yes = Minted::hashed(&hashed(call)).sign();
        let said = post_as(&server, "adds", "/approvals", &yes.to_string());
        assert_eq!(problem(&said, 404, "nothing_pending").get("id"), None, "{what}");
        let no = rejection(&id).to_string();
        problem(&post_as(&server, "adds", "/rejections", &no), 404, "nothing_pending");
        if *what == "unknown" {
            continue;
        }
        // Whoever sees it is told, and what was recorded then is not told to the other one: by the same bytes either.
        let expected = if *what == "pending" { 200 } else { 409 };
        assert_eq!(post_as(&server, "ann", "/approvals", &yes.to_string()).status, expected);
        let said = post_as(&server, "adds", "/approvals", &yes.to_string());
        assert_eq!(problem(&said, 404, "nothing_pending").get("id"), None, "{what}");
        if *what == "pending" {
            assert_eq!(post_as(&server, "ann", "/rejections", &no).status, 200);
            problem(&post_as(&server, "adds", "/rejections", &no), 404, "nothing_pending");
        }
    }
    // By action and payload alone, of one and of several that share them.
    for nonce in ["one", "two"] {
        ask(&server, "agent-7", "echo", nonce, "");
        let yes = Minted::of("echo", &json!({})).sign().to_string();
        let said = post_as(&server, "adds", "/approvals", &yes);
        assert_eq!(problem(&said, 404, "nothing_pending").get("id"), None, "{nonce}");
    }
    // Its own action it decides.
    let yes = Minted::hashed(&hashed(&body("add", "add"))).sign().to_string();
    assert_eq!(post_as(&server, "adds", "/approvals", &yes).status, 200);
    let no = rejection(&pending[1]).to_string();
    assert_eq!(post_as(&server, "adds", "/rejections", &no).status, 200);
}

/// A no, signed by the key that approves.
fn rejection(id: &str) -> Value {
    let said = json!({"rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "tenant_id": approvals::TENANT,
        "exec_id": id, "issued_at": clock::now().to_string(), "justification": "no"});
    let message = format!("openexec-rejection-v1\n{}", canonical(&said));
    let pair = KeyPair::from_seed(Seed::new([approvals::OPS; 32]));
    let mut signed = said;
    signed["signature"] = base64::encode(&pair.sk.sign(message, None)[..]).into();
    signed
}
