//! A crash between claim and receipt, then one setting changes, then the restart: what each change
//! leads to. A second run is judged by the configuration as it is now.
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::approvals::{Minted, TENANT, public_pem};
use crate::common::handlers::{counted, service};
use crate::common::{Scratch, Server, post, private_file, problem, run, until};
use openexec::serve::config::SETTINGS;
use serde_json::{Value, json};

/// What a restart does with the claim.
enum Then {
    RunsAgain,
    /// `indeterminate`, and its detail says so.
    Ends(&'static str),
    DoesNotStart,
}
use Then::{DoesNotStart, Ends, RunsAgain};

/// A setting, its new value (`None`: unset), and what more has to change with it.
struct Row {
    name: &'static str,
    value: Option<String>,
    more: &'static [(&'static str, Option<&'static str>)],
    then: Then,
}

fn row(name: &'static str, value: impl Into<String>, then: Then) -> Row {
    Row { name, value: Some(value.into()), more: &[], then }
}

/// Instead of the keys file.
fn keys(name: &'static str, value: impl Into<String>, then: Then) -> Row {
    Row { more: &[("OPENEXEC_KEYS_FILE", None)], ..row(name, value, then) }
}

fn key(name: &str, seed: u8, more: &Value) -> Value {
    let mut key = json!({"name": name, "public_key": public_pem(seed)});
    key.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    key
}

fn keys_file(keys: &[Value], required: &Value) -> String {
    json!({"keys": keys, "required": required}).to_string()
}

/// The settings before the crash.
fn before(scratch: &Scratch) -> Command {
    let mut command = service(scratch);
    command.env("OPENEXEC_MODE", "clawshield").env("CLAWSHIELD_TENANT_ID", TENANT);
    command.env("OPENEXEC_KEYS_FILE", scratch.join("keys.json"));
    command.env("OPENEXEC_OUTBOX_DIR", scratch.join("outbox"));
    command.env("OPENEXEC_FILES_DIR", scratch.join("files"));
    command
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("listed").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

fn rows() -> Vec<Row> {
    let (none, two) = (json!({}), json!({"placed": 2}));
    let both = [key("one", 1, &none), key("two", 2, &none)];
    let of_keys = |keys: &[Value], required: &Value, then| {
        row("OPENEXEC_KEYS_FILE", keys_file(keys, required), then)
    };
    let with = |more: Value| [key("one", 1, &more), key("two", 2, &none), key("three", 3, &none)];
    let invalid = "approval_signature_invalid";
    let pems = public_pem(1) + &public_pem(2);
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let declares = |action| {
        json!({"actions": [{"action": action, "summary": "Does it.", "payload_schema": schema}]})
            .to_string()
    };
    let token = crate::common::sha256("token");
    let callers =
        json!({"callers": [{"name": "agent", "token_sha256": token, "may": ["propose"]}]});
    let callers = callers.to_string();
    vec![
        row("OPENEXEC_MODE", "demo", DoesNotStart),
        row("CLAWSHIELD_TENANT_ID", "tenant-2", Ends("tenant_mismatch")),
        of_keys(&both, &two, RunsAgain),
        // Revoked: one of the two that approved is past its `not_after`, long ago or just now.
        of_keys(
            &with(json!({"not_after": "2020-01-01T00:00:00"})),
            &two,
            Ends("approval_key_expired"),
        ),
        of_keys(&with(json!({"not_after": "NOW"})), &two, Ends("approval_key_expired")),
        of_keys(&with(json!({"not_after": "2099-01-01T00:00:00"})), &two, RunsAgain),
        of_keys(&with(json!({"actions": ["see"]})), &two, Ends("approval_key_not_authorized")),
        of_keys(&with(json!({"actions": ["placed"]})), &two, RunsAgain),
        of_keys(&with(json!({})), &json!({"placed": 3}), Ends("approvals_insufficient")),
        of_keys(&with(json!({})), &json!({"placed": 1}), RunsAgain),
        of_keys(&with(json!({})), &json!({"*": 3, "placed": 2}), RunsAgain),
        of_keys(&with(json!({})), &json!({"*": 3}), Ends("approvals_insufficient")),
        of_keys(&[key("new", 2, &none), key("names", 1, &none)], &two, RunsAgain),
        // Taken away: also where the others would be enough.
        of_keys(&[key("two", 2, &none)], &none, Ends(invalid)),
        of_keys(&[key("one", 3, &none), key("two", 4, &none)], &two, Ends(invalid)),
        keys("CLAWSHIELD_PUBLIC_KEY", pems.clone(), RunsAgain),
        keys("CLAWSHIELD_PUBLIC_KEY", public_pem(1), Ends(invalid)),
        keys("CLAWSHIELD_PUBLIC_KEY_FILE", pems, RunsAgain),
        keys("CLAWSHIELD_PUBLIC_KEY_FILE", public_pem(3), Ends(invalid)),
        // What is in it is for new calls.
        row("OPENEXEC_APPROVALS_DIR", "approvals", RunsAgain),
        Row {
            more: &[("CLAWSHIELD_TENANT_ID", Some("tenant-2"))],
            ..row("OPENEXEC_APPROVALS_DIR", "approvals", Ends("tenant_mismatch"))
        },
        row("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "599", Ends("approval_ttl_too_long")),
        row("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "601", RunsAgain),
        row("OPENEXEC_PENDING_TTL_SECONDS", "1", RunsAgain),
        row("OPENEXEC_ALLOWED_ACTIONS", "see", Ends("action_not_allowed")),
        row("OPENEXEC_ALLOWED_ACTIONS", "see,placed", RunsAgain),
        row("OPENEXEC_ACTIONS_FILE", declares("refund"), RunsAgain),
        row("OPENEXEC_ACTIONS_FILE", declares("placed"), DoesNotStart),
        // Nobody was asked who called.
        row("OPENEXEC_CALLERS_FILE", callers, RunsAgain),
        row("OPENEXEC_OUTBOX_DIR", "other", Ends("the directory that it meant")),
        row("OPENEXEC_OUTBOX_DIR", "outbox/../outbox", RunsAgain),
        Row { value: None, ..row("OPENEXEC_OUTBOX_DIR", "", Ends("action_not_configured")) },
        // The action does not act there.
        row("OPENEXEC_FILES_DIR", "other", RunsAgain),
        Row { value: None, ..row("OPENEXEC_FILES_DIR", "", RunsAgain) },
        row("OPENEXEC_DB_URL", "file:elsewhere", DoesNotStart),
        row("OPENEXEC_CHECKPOINT_FILE", "checkpoint", DoesNotStart),
        row("OPENEXEC_LOG_KEY_FILE", "log.pem", DoesNotStart),
        row("OPENEXEC_LOG_ORIGIN", "example.org/log", DoesNotStart),
        row("OPENEXEC_LISTEN", "127.0.0.2:0", RunsAgain),
        row("OPENEXEC_ALLOWED_HOSTS", "example.org", RunsAgain),
        row("OPENEXEC_ALLOW_EXPOSED_DEMO", "yes", RunsAgain),
        // These bound requests, and this was one before.
        row("OPENEXEC_MAX_BODY_BYTES", "1024", RunsAgain),
        row("OPENEXEC_MAX_CONNECTIONS", "2", RunsAgain),
        row("OPENEXEC_LOG", "off", RunsAgain),
    ]
}

#[test]
fn every_setting_changed_between_crash_and_restart() {
    let crashed = Scratch::new();
    for directory in ["outbox", "other", "files", "approvals"] {
        std::fs::create_dir(crashed.join(directory)).expect("made");
    }
    let none = json!({});
    let both = [key("one", 1, &none), key("two", 2, &none)];
    private_file(&crashed.join("keys.json"), &keys_file(&both, &json!({"placed": 2})));
    // The test's own binary has one command; the product's makes the store.
    let mut init = crate::common::openexec(&crashed);
    init.args(["init"]).env("OPENEXEC_MODE", "clawshield").env("CLAWSHIELD_TENANT_ID", TENANT);
    init.env("CLAWSHIELD_PUBLIC_KEY", public_pem(1));
    let made = run(init, "");
    assert_eq!(made.code, 0, "{}", made.stderr);

    // Longer than the smallest body that a later setting allows.
    let payload = json!({"ms": 3_600_000, "x": "x".repeat(2048)});
    let approval = |key, tenant| Minted { key, tenant, ..Minted::of("placed", &payload) }.sign();
    let body = json!({"action": "placed", "nonce": "n", "payload": payload,
                      "approval_artifact": [approval(1, TENANT), approval(2, TENANT)]});
    let mut server = Server::spawn(before(&crashed), &crashed);
    let (address, request) =
        (server.address.clone(), post("/execute", body.to_string().as_bytes()));
    let client = std::thread::spawn(move || crate::common::try_exchange(&address, &request));
    until("the handler runs", || !counted(&crashed).is_empty());
    server.kill();
    assert!(client.join().expect("joined").is_err(), "nothing was acknowledged");
    // Fresh ones, good under whatever is configured later.
    let dropped = json!([approval(1, "tenant-2"), approval(2, "tenant-2")]).to_string();
    for text in [
        json!({"action": "placed", "payload": payload}),
        json!({"action": "placed", "nonce": "n", "payload": payload}),
    ] {
        let name = crate::common::sha256(&crate::common::canonical(&text));
        std::fs::write(crashed.join(&format!("approvals/{name}.json")), &dropped).expect("written");
    }

    let rows = rows();
    let tried: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(
        tried,
        SETTINGS.iter().map(|setting| setting.name).collect(),
        "every setting there is"
    );
    for Row { name, value, more, then } in rows {
        let scratch = Scratch::new();
        copy(crashed.path(), scratch.path());
        let mut command = before(&scratch);
        let about = format!("{name}={value:?} {more:?}");
        match (name, value) {
            (_, None) => drop(command.env_remove(name)),
            (name, Some(text)) if name.ends_with("_FILE") && text.contains([' ', '{']) => {
                let now = openexec::sys::clock::now().to_string();
                private_file(&scratch.join("changed"), &text.replace("NOW", &now));
                command.env(name, scratch.join("changed"));
            }
            (_, Some(value)) => drop(command.env(name, value)),
        }
        for (name, value) in more {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let DoesNotStart = then {
            let ended = run(command, "");
            assert_ne!(ended.code, 0, "{about}");
            assert_eq!(counted(&scratch), ["n"], "{about}: {}", ended.stderr);
            continue;
        }
        let server = Server::spawn(command, &scratch);
        if name == "OPENEXEC_CALLERS_FILE" {
            // It is asked who calls now.
            problem(&server.get("/metrics"), 401, "unauthenticated");
            until("it has run again", || counted(&scratch) == ["n", "n again"]);
            continue;
        }
        let asked = json!({"action": "placed", "nonce": "n", "payload": {"ms": 1}}).to_string();
        assert_eq!(server.execute(&asked).status, 409, "{about}: the nonce is spent");
        let id = crate::common::sha256(&crate::common::canonical(
            &json!({"action": "placed", "nonce": "n", "payload": payload}),
        ));
        let answer = server.get(&format!("/receipts/{id}"));
        match then {
            RunsAgain => {
                assert_eq!(answer.status, 200, "{about}: {}", answer.text());
                assert_eq!(counted(&scratch), ["n", "n again"], "{about}");
            }
            Ends(why) => {
                let body = problem(&answer, 500, "indeterminate");
                let detail = body["detail"].as_str().expect("text");
                assert!(detail.contains(why), "{about}: {detail}");
                assert_eq!(counted(&scratch), ["n"], "{about}");
            }
            DoesNotStart => {}
        }
    }
}
