//! The callers' file, and `openexec token`.

use std::os::unix::fs::PermissionsExt;

use openexec::cli::COMMANDS;
use serde_json::{Value, json};

use crate::common::{Scratch, cli, private_file, problem, sha256};
use crate::{entry, execute_as, file, known, start, token};

/// What `check` says of a file with this text, and its code.
fn checked(text: &str) -> (i32, String) {
    let scratch = Scratch::new();
    let path = scratch.join("callers.json");
    private_file(&path, text);
    let ended =
        cli(&scratch, &[("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))], &["check"]);
    (ended.code, ended.stdout + &ended.stderr)
}

fn with(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut callers = known();
    change(&mut callers);
    json!({ "callers": callers }).to_string()
}

#[test]
fn every_fault_is_named_with_its_place() {
    let set = |index: usize, field: &'static str, value: Value| {
        with(move |callers| callers[index][field] = value)
    };
    let without = |field: &'static str| {
        with(move |callers| drop(callers[2].as_object_mut().expect("an object").remove(field)))
    };
    let name = "name is 1 to 64 printable ASCII characters";
    let right = "may must be an array of propose, approve, read, each once";
    let hash = "token_sha256 must be 64 lower-case hex digits";
    let long = "x".repeat(65);
    let twice = r#"{"callers":[],"callers":[]}"#.to_owned();
    for (text, said) in [
        (String::new(), "not strict JSON".to_owned()),
        ("{".into(), "not strict JSON".into()),
        (twice, "not strict JSON".into()),
        ("[]".into(), "is no object".into()),
        ("{}".into(), "at least one".into()),
        (r#"{"callers":[]}"#.into(), "at least one".into()),
        (r#"{"callers":{}}"#.into(), "at least one".into()),
        (r#"{"callers":[],"keys":[]}"#.into(), "unknown field \"keys\"".into()),
        (with(|callers| callers[3] = json!("ann")), "callers[3] is no object".into()),
        (without("name"), format!("callers[2].name: a {name}")),
        (set(1, "name", json!("")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!(7)), format!("callers[1].name: a {name}")),
        (set(1, "name", json!(" a")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!("a\nb")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!("é")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!("a\"b")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!("a\\b")), format!("callers[1].name: a {name}")),
        (set(1, "name", json!(long)), format!("callers[1].name: a {name}")),
        (set(1, "name", json!("agent-7")), "callers[1].name is there twice: \"agent-7\"".into()),
        (without("token_sha256"), format!("callers[2].{hash}")),
        (set(0, "token_sha256", json!("ab")), format!("callers[0].{hash}")),
        (set(0, "token_sha256", json!("AB".repeat(32))), format!("callers[0].{hash}")),
        (set(0, "token_sha256", json!(token("x"))), format!("callers[0].{hash}")),
        (
            set(4, "token_sha256", json!(sha256(&token("agent-8")))),
            "callers[4].token_sha256 is that of \"agent-8\" too".into(),
        ),
        (without("may"), format!("callers[2].{right}")),
        (set(0, "may", json!([])), format!("callers[0].{right}")),
        (set(0, "may", json!("propose")), format!("callers[0].{right}")),
        (set(0, "may", json!(["propose", "propose"])), format!("callers[0].{right}")),
        (set(0, "may", json!(["Propose"])), format!("callers[0].{right}")),
        (set(0, "may", json!(["execute"])), format!("callers[0].{right}")),
        (set(0, "may", json!(["propose", 1])), format!("callers[0].{right}")),
        (set(0, "may", Value::Null), format!("callers[0].{right}")),
        (set(0, "actions", json!([])), "callers[0].actions must be an array of actions".into()),
        (set(0, "actions", json!("echo")), "callers[0].actions must be an array of actions".into()),
        (
            set(0, "actions", json!(["a b"])),
            "callers[0].actions must be an array of actions".into(),
        ),
        (set(0, "actions", json!(["add", "add"])), "callers[0].actions must be an array".into()),
        (set(0, "actions", Value::Null), "callers[0].actions must be an array".into()),
        (set(0, "actions", json!(["ecko"])), "\"actions\" of \"agent-7\" names \"ecko\"".into()),
        (set(0, "actions", json!(["Echo"])), "\"actions\" of \"agent-7\" names \"Echo\"".into()),
        (set(0, "person", json!("")), format!("callers[0].person: a {name}")),
        (set(0, "person", Value::Null), format!("callers[0].person: a {name}")),
        (set(0, "token", json!("x")), "callers[0] has the unknown field \"token\"".into()),
    ] {
        let (code, text_said) = checked(&text);
        assert_eq!(code, 78, "{text}");
        let joined = text_said.replace("\\\"", "\"");
        assert!(
            joined.contains("OPENEXEC_CALLERS_FILE: ") && joined.contains(&said),
            "{text}\n{joined}\n{said}"
        );
        assert!(!joined.contains(&token("x")), "{joined}");
    }
    let (code, said) = checked(&with(|callers| {
        callers[0]["person"] = json!("ann");
        callers[0]["actions"] = json!(["echo", "add"]);
        callers[1]["name"] = json!("Agent-7");
    }));
    assert!(code == 0 && said.contains("callers: 5\n"), "{said}");
}

#[test]
fn the_file_is_its_owners() {
    let scratch = Scratch::new();
    let path = file(&scratch, &known());
    let shown = path.to_str().expect("UTF-8").to_owned();
    let check = || cli(&scratch, &[("OPENEXEC_CALLERS_FILE", &shown)], &["check"]);
    for (mode, code) in [(0o600, 0), (0o644, 0), (0o440, 0), (0o620, 78), (0o602, 78), (0o666, 78)]
    {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let ended = check();
        assert_eq!(ended.code, code, "{mode:o}: {}", ended.stderr);
        assert_eq!(ended.stderr.contains("chmod go-w"), code == 78, "{}", ended.stderr);
    }
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(check().code, 78);
    std::fs::create_dir(&path).expect("made");
    assert!(check().stderr.contains("is not a regular file"));
    // Within the store's directory it would be the store's.
    std::fs::remove_dir(&path).expect("removed");
    std::fs::create_dir(scratch.join("store")).expect("made");
    let inside = scratch.join("store/callers.json");
    private_file(&inside, &json!({ "callers": known() }).to_string());
    let inside = inside.to_str().expect("UTF-8").to_owned();
    let ended = cli(&scratch, &[("OPENEXEC_CALLERS_FILE", &inside)], &["check"]);
    assert!(
        ended.code == 78 && ended.stderr.contains("lies within OPENEXEC_DB_URL"),
        "{}",
        ended.stderr
    );
}

#[test]
fn two_thousand_callers_work_and_what_no_record_can_hold_is_refused() {
    let scratch = Scratch::new();
    let many = |count: usize| -> Vec<Value> {
        let names = (0..count).map(|n| format!("agent-{n:04}"));
        names.map(|name| entry(&name, r#"["propose"]"#)).collect()
    };
    let path = file(&scratch, &many(2_000));
    let setting = [("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))];
    let server = crate::common::Server::start(&scratch, &setting);
    for name in ["agent-0000", "agent-0999", "agent-1999"] {
        assert_eq!(execute_as(&server, name, "echo", name).status, 200, "{name}");
    }
    problem(&execute_as(&server, "agent-2000", "echo", "x"), 401, "unauthenticated");
    drop(server);
    let wide = |count: usize| {
        let callers = many(count).into_iter().map(|mut caller| {
            caller["actions"] =
                json!(["echo", "add", "enqueue", "send_email", "charge_card", "write_file"]);
            caller["person"] = json!("p".repeat(64));
            caller
        });
        json!({ "callers": callers.collect::<Value>() }).to_string()
    };
    assert_eq!(checked(&wide(1_500)).0, 0);
    let (code, said) = checked(&wide(2_800));
    assert!(code == 78 && said.contains("which may have"), "{said}");
    // Of the values that the file may have, a record of it has more: two of each caller that it leaves out.
    let (code, said) = checked(&json!({ "callers": many(6_550) }).to_string());
    assert!(code == 78 && said.contains("131072 values"), "{said}");
    assert_eq!(checked(&json!({ "callers": many(6_200) }).to_string()).0, 0);
    let (code, said) = checked(&wide(6_000));
    assert!(code == 78 && said.contains("is larger than 1048576 bytes"), "{said}");
}

/// The token and its line, as they are printed, work.
#[test]
fn a_token_that_was_made_is_a_callers() {
    let scratch = Scratch::new();
    let made = |name: &str| {
        let ended = cli(&scratch, &[], &["token", name]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        let (token, line) = ended.stdout.trim_end().split_once('\n').expect("two lines");
        assert!(token.starts_with("openexec_") && token.len() == 73, "{token}");
        assert!(!line.contains(&token[9..]), "{line}");
        (token.to_owned(), serde_json::from_str::<Value>(line).expect("JSON"))
    };
    let (token, line) = made("agent 7");
    assert_ne!(made("agent 7").0, token, "it is random");
    let expected = json!({"name": "agent 7", "token_sha256": sha256(&token), "may": ["propose"]});
    assert_eq!(line, expected);
    let path = file(&scratch, &[line]);
    let setting = [("OPENEXEC_CALLERS_FILE", path.to_str().expect("UTF-8"))];
    let server = crate::common::Server::start(&scratch, &setting);
    let headers = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(crate::send(&server, "GET", "/actions", &headers, "").status, 200);
    for wrong in
        [&["token"][..], &["token", ""], &["token", "é"], &["token", "a\"b"], &["token", "a", "b"]]
    {
        let ended = cli(&scratch, &[], wrong);
        assert_eq!((ended.code, ended.stdout.as_str()), (64, ""), "{wrong:?}");
    }
    assert!(COMMANDS.iter().any(|command| command.name() == "token"));
}

/// A core dump would hold what memory holds.
#[test]
#[cfg(target_os = "linux")]
fn no_memory_goes_into_a_core_dump() {
    let scratch = Scratch::new();
    let server = start(&scratch);
    let filter = format!("/proc/{}/coredump_filter", server.child.id());
    let filter = std::fs::read_to_string(filter).expect("read");
    assert_eq!(filter.trim(), "00000000");
}
