//! From a proposal to its execution, with the real service and the real tool.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::service::{Server, binary, openexec, until};
use common::{REQUEST, Scratch, TOOL, Terminal, key_file, public_pem, refused, text, tool};
use openexec::core::hash::{hex, sha256};
use serde_json::{Value, json};

fn pending(scratch: &Scratch, environment: &[(&str, &str)]) -> Vec<String> {
    let output = openexec(scratch, environment).arg("pending").output().expect("run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// The agent proposes and is refused; the host lists it; the approver signs what the list says and leaves the file;
/// the agent repeats the same call.
#[test]
fn from_a_refusal_to_an_execution_without_the_agent_holding_an_approval() {
    let scratch = Scratch::new();
    let key = key_file(&scratch, 1, 0o600);
    let directory = scratch.path().join("approvals");
    std::fs::create_dir(&directory).expect("made");
    let public = public_pem(1);
    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t1"),
        ("CLAWSHIELD_PUBLIC_KEY", &*public),
        ("OPENEXEC_APPROVALS_DIR", "approvals"),
    ];
    let server = Server::start(&scratch, &environment);
    assert!(pending(&scratch, &[]).is_empty());
    let other = r#"{"action":"add","payload":{"a":1.0},"nonce":"n\u202e2"}"#;
    let large = json!({"action": "echo", "nonce": "n3", "payload": {"msg": "x".repeat(5000)}});
    let large = large.to_string();
    for request in [REQUEST, other, &large] {
        // Until the next segment is there, proposals are only refused.
        until("it is stored", || server.execute(request).1["recorded"] == true);
    }
    let lines = pending(&scratch, &[]);
    assert_eq!(lines.len(), 3);
    let sign = |line: &str, more: &[&str]| {
        let key = key.to_str().expect("UTF-8");
        let arguments = ["sign", "--yes", "--tenant", "t1", "--key", key];
        tool(&scratch, &[&arguments[..], more].concat(), line)
    };
    let bound = &["--bind-nonce"][..];
    for (line, request, more) in
        [(&lines[0], REQUEST, &[][..]), (&lines[1], other, bound), (&lines[2], &large, bound)]
    {
        let artifact = sign(line, more);
        assert!(artifact.status.success(), "{}", text(&artifact.stderr));
        let value: Value = serde_json::from_slice(&artifact.stdout).expect("JSON");
        // Its own hash is the name under which it is looked for.
        let name = format!("{}.json", value["action_hash"].as_str().expect("text"));
        std::fs::write(directory.join(name), &artifact.stdout).expect("written");
        // It has enough now, and waits for its caller: such a line is signed as any.
        let approved = pending(&scratch, &environment);
        let blocked =
            approved.iter().filter(|line| line.contains(r#""blocked":"awaiting_caller""#));
        assert_eq!(
            blocked.map(|line| sign(line, more).status.code()).collect::<Vec<_>>(),
            [Some(0)]
        );
        let (status, executed) = server.execute(request);
        assert_eq!(status, 200, "{executed}");
    }
    assert!(pending(&scratch, &[]).is_empty());
}

/// The documents' pipe from the host to the approver's machine. `ssh` hands its words to a shell there, which has
/// nothing of this environment.
#[test]
fn the_pipe_over_ssh_works_as_printed() {
    let scratch = Scratch::new();
    let page = include_str!("../../docs/approvals.md");
    let printed = page.split("\nssh ").nth(1).expect("the command").split("\n```").next();
    let link = |name: &str, to: &std::path::Path| {
        std::os::unix::fs::symlink(to, scratch.path().join(name)).expect("linked");
    };
    link("openexec", &binary());
    link("openexec-approve", std::path::Path::new(TOOL));
    let here = scratch.path().display();
    let script = format!("#!/bin/sh\nshift\nexec env -i PATH={here}:/bin sh -c \"$*\"\n");
    scratch.file("ssh", script, 0o755);
    std::fs::rename(key_file(&scratch, 1, 0o600), scratch.path().join("alice.pem"))
        .expect("renamed");
    std::fs::set_permissions(
        scratch.path().join("alice.pem"),
        std::fs::Permissions::from_mode(0o600),
    )
    .expect("chmod");

    let public = public_pem(1);
    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "acme"),
        ("CLAWSHIELD_PUBLIC_KEY", &*public),
    ];
    let server = Server::start(&scratch, &environment);
    until("it is stored", || server.execute(REQUEST).1["recorded"] == true);
    let store = scratch.path().join("store").display().to_string();
    let line = format!("ssh {}", printed.expect("a command"));
    let line = line.replace("/var/lib/openexec/store", &store);
    assert!(line.contains(&store), "{line}");
    scratch.file("pipe.sh", format!("PATH={here}:$PATH\n{line}\n"), 0o600);
    let mut terminal = Terminal::run(&scratch, "sh pipe.sh", 80);
    terminal.until("Type yes: ");
    terminal.types("yes\n");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");

    let artifact = std::fs::read_to_string(scratch.path().join("approval.json")).expect("one");
    let mut request: Value = serde_json::from_str(REQUEST).expect("JSON");
    request["approval_artifact"] = serde_json::from_str(&artifact).expect("JSON");
    assert_eq!(server.execute(&request.to_string()).0, 200);
}

/// Two people, each on their own machine, with callers: one looks and says yes to one and no to another, the second's yes
/// executes the first by itself.
#[test]
fn two_people_decide_through_the_service() {
    let scratch = Scratch::new();
    let keys =
        [1, 2].map(|seed| json!({"name": format!("key-{seed}"), "public_key": public_pem(seed)}));
    let keys = json!({"keys": keys, "required": {"*": 2}}).to_string();
    let hash = |text: &str| hex(&sha256(&[text.as_bytes()]));
    let callers = json!({"callers": [
        {"name": "agent", "token_sha256": hash("of-the-agent"), "may": ["propose"]},
        {"name": "people", "token_sha256": hash("of-people"), "may": ["approve"]},
    ]});
    scratch.file("keys.json", keys, 0o600);
    scratch.file("callers.json", callers.to_string(), 0o600);
    scratch.file("token", "of-people\n", 0o600);
    let environment = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t1"),
        ("OPENEXEC_KEYS_FILE", "keys.json"),
        ("OPENEXEC_CALLERS_FILE", "callers.json"),
    ];
    let server = Server::start(&scratch, &environment);
    let agent = "Authorization: Bearer of-the-agent\r\n";
    let propose = |nonce: &str| {
        let request = REQUEST.replace("n1", nonce);
        let headers = format!("{agent}Prefer: respond-async\r\n");
        let (status, body) = server.ask("POST", "/execute", &headers, &request);
        assert_eq!(status, 202, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    };
    let [first, second] = ["n1", "n2"].map(propose);
    let url = format!("http://{}", server.address);
    let run = |arguments: &[&str]| {
        tool(&scratch, &[arguments, &["--url", &url, "--token-file", "token"]].concat(), "")
    };
    let done = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let listed = done(&["list"]);
    let places = [&first, &second].map(|id| listed.find(&format!("proposal {id}\n")));
    assert!(places[0].is_some() && places[0] < places[1], "{listed}");
    let [one, two, stranger] = [1, 2, 3].map(|seed| key_file(&scratch, seed, 0o600));
    let [one, two, stranger] = [&one, &two, &stranger].map(|path| path.to_str().expect("UTF-8"));
    let yes = |id: &str, key: &str| run(&["approve", id, "--key", key, "--yes"]);
    let output = yes(&first, one);
    assert_eq!(
        text(&output.stdout),
        format!("proposal {first}\nstate    pending\nit needs 1 more\n")
    );
    let shown = done(&["show", &first]);
    assert!(shown.contains("\napproved {\"key\":\"key-1\",\"until\":\""), "{shown}");
    assert!(shown.contains("\nmissing  {\"count\":1,\"groups\":{}}\n"), "{shown}");
    refused(&yes(&first, stranger), 65, "403 approval_signature_invalid");
    done(&["reject", &second, "--key", one, "--yes", "--justification", "twice paid"]);
    refused(&yes(&second, two), 65, "no longer pending: it is rejected");
    let output = yes(&first, two);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("proposal {first}\nstate    executing\n"));
    let state = |id: &str| server.ask("GET", &format!("/proposals/{id}"), agent, "").1;
    until("it ran", || state(&first)["state"] == "executed");
    assert_eq!(state(&second)["rejection"]["justification"], "twice paid");
    assert_eq!(done(&["list"]), "nothing waits for an approval\n");
    let verified =
        openexec(&scratch, &environment).args(["verify", "store"]).output().expect("run");
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}
