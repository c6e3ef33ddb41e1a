//! The commands, their exit codes, and the configuration.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use common::approvals::public_pem;
use common::{Ended, Scratch, Server, cli, openexec, private_file, run, until};
use openexec::serve::config::SETTINGS;
use serde_json::{Value, json};

const CONFIGURATION: i32 = 78;

/// Runs `check`, which must refuse the configuration, and gives its problems, a line each.
fn problems(scratch: &Scratch, environment: &[(&str, &str)]) -> Vec<String> {
    let ended = cli(scratch, environment, &["check"]);
    assert_eq!(ended.code, CONFIGURATION, "{environment:?}: {}", ended.stderr);
    let served = cli(scratch, environment, &["serve"]);
    assert_eq!((served.code, &served.stderr), (ended.code, &ended.stderr), "serve says the same");
    ended.stderr.lines().filter_map(|l| l.strip_prefix("  - ")).map(str::to_owned).collect()
}

fn only_problem(environment: &[(&str, &str)]) -> String {
    let scratch = Scratch::new();
    let mut found = problems(&scratch, environment);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn help_names_every_command_and_setting_on_one_screen() {
    let scratch = Scratch::new();
    let help = cli(&scratch, &[], &["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert_eq!(cli(&scratch, &[], &["-h"]).stdout, help.stdout);
    assert!(help.stdout.lines().count() <= 48, "{} lines", help.stdout.lines().count());
    assert!(help.stdout.lines().all(|line| line.len() <= 110), "{}", help.stdout);
    for setting in openexec::serve::config::SETTINGS {
        let line = format!("  {:<34}{}", setting.name, setting.help());
        assert!(help.stdout.lines().any(|shown| shown == line), "{line}");
    }
    for command in openexec::cli::COMMANDS {
        let mut lines = help.stdout.lines();
        let name = format!("  {} ", command.name());
        assert!(
            lines.any(|line| line.starts_with(&name) && line.ends_with(command.summary)),
            "{name}"
        );
    }
    let version = format!("openexec {}\n", env!("CARGO_PKG_VERSION"));
    for argument in ["--version", "-V"] {
        let ended = cli(&scratch, &[], &[argument]);
        assert_eq!((ended.code, ended.stdout), (0, version.clone()));
    }
}

/// What the help of a command says is what the command takes: both follow from one table.
#[test]
fn every_command_explains_itself() {
    let scratch = Scratch::new();
    for command in openexec::cli::COMMANDS {
        let help = cli(&scratch, &[], &[command.name(), "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{}", command.name());
        let usage = format!("usage: openexec {}", command.name());
        assert!(help.stdout.starts_with(&usage) && help.stdout.contains(command.summary));
        for (name, value, meaning) in command.options {
            let line = format!("  {:<22}{meaning}\n", format!("{name} {value}"));
            assert!(help.stdout.contains(&line), "{name}: {}", help.stdout);
            if value.is_empty() {
                let ended = cli(&scratch, &[], &[command.name(), &format!("{name}=x")]);
                assert_eq!(ended.code, 64, "{name}");
                assert!(ended.stderr.contains("takes no value"), "{}", ended.stderr);
            } else {
                let ended = cli(&scratch, &[], &[command.name(), name]);
                assert_eq!(ended.code, 64, "{name}");
                assert!(ended.stderr.contains("needs a value"), "{}", ended.stderr);
            }
        }
        let ended = cli(&scratch, &[], &[command.name(), "--no-such-option"]);
        assert_eq!(ended.code, 64);
        let words = &["a", "b", "c"][..=command.words()];
        let ended = cli(&scratch, &[], &[&[command.name()], words].concat());
        assert_eq!(ended.code, 64, "{}", command.name());
    }
}

/// The pages name what there is to set and to run.
#[test]
fn the_pages_name_every_command_and_setting() {
    let pages =
        ["README", "docs/configuration", "docs/operations", "docs/audit", "docs/deploy/container"];
    let read = |page| std::fs::read_to_string(format!("{}/{page}.md", env!("CARGO_MANIFEST_DIR")));
    let readme = pages.map(|page| read(page).expect("a page")).concat();
    for openexec::serve::config::Setting { name, .. } in openexec::serve::config::SETTINGS {
        assert!(readme.contains(&format!("`{name}")), "{name}");
    }
    for name in openexec::cli::COMMANDS.iter().map(openexec::cli::Command::name) {
        let named =
            readme.contains(&format!("openexec {name}")) || readme.contains(&format!("`{name}"));
        assert!(named, "{name}");
    }
    // And nothing that there is not.
    let words = readme.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    for word in
        words.filter(|word| word.starts_with("OPENEXEC_") || word.starts_with("CLAWSHIELD_"))
    {
        let known = openexec::serve::config::SETTINGS.iter().any(|known| known.name == word);
        assert!(known || word.ends_with('_'), "{word}");
    }
}

#[test]
fn it_names_the_program_that_approves_and_does_not_do_it() {
    let scratch = Scratch::new();
    let ended = cli(&scratch, &[], &["approve", "--key", "key.pem", "--tenant", "t"]);
    assert_eq!(ended.code, 64, "{}", ended.stderr);
    assert!(ended.stderr.contains("`openexec-approve sign` does"), "{}", ended.stderr);
}

#[test]
fn what_is_no_command_line_is_usage() {
    let scratch = Scratch::new();
    for arguments in [
        &["dance"][..],
        &["Serve"],
        &["--dance"],
        &["-x"],
        &["serve", "--dance"],
        &["serve", "now"],
        &["serve", "--listen"],
        &["serve", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        &["serve", "--listen", "127.0.0.1:0", "--port", "0"],
        &["init", "here"],
        &["init", "--force"],
        &["check", "x"],
        &["actions", "x"],
        &["hash", "a", "b"],
        &["hash", "--nonce", "x"],
        &["hash"],
        &["freeze", "now"],
        &["freeze", "--reason"],
        &["freeze", "--reason", "two\nlines"],
        &["unfreeze", "--reason", "x"],
        &["healthcheck", "x"],
    ] {
        let ended = cli(&scratch, &[], arguments);
        assert_eq!(ended.code, 64, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("openexec: "), "{arguments:?}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
        let hint = ended.stderr.lines().nth(1);
        assert_eq!(hint, Some("`openexec --help` lists the commands"), "{arguments:?}");
        assert_eq!(ended.stderr.lines().count(), 2, "{arguments:?}: {}", ended.stderr);
    }
    let long = "x".repeat(401);
    assert_eq!(cli(&scratch, &[], &["freeze", "--reason", &long]).code, 64);
    assert!(!scratch.join("store").exists(), "none of these made anything");
}

#[test]
fn all_problems_are_reported_at_once() {
    let scratch = Scratch::new();
    let found = problems(
        &scratch,
        &[
            ("OPENEXEC_MODE", "clawshield"),
            ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "0"),
            ("OPENEXEC_ALLOWED_ACTIONS", "echo,dance,sing"),
            ("OPENEXEC_DB_URL", "postgres://host/db"),
            ("OPENEXEC_LISTEN", "localhost"),
            ("OPENEXEC_ALLOWED_HOSTS", "https://x"),
            ("OPENEXEC_OUTBOX_DIR", "/nowhere/at/all"),
            ("OPENEXEC_MAX_BODY_BYTES", "1"),
            ("OPENEXEC_MAX_CONNECTIONS", "many"),
            ("OPENEXEC_LOG", "loud"),
        ],
    );
    for name in [
        "CLAWSHIELD_TENANT_ID",
        "CLAWSHIELD_PUBLIC_KEY",
        "OPENEXEC_MAX_APPROVAL_TTL_SECONDS",
        "\"dance\"",
        "\"sing\"",
        "OPENEXEC_DB_URL",
        "OPENEXEC_LISTEN",
        "OPENEXEC_ALLOWED_HOSTS",
        "OPENEXEC_OUTBOX_DIR",
        "OPENEXEC_MAX_BODY_BYTES",
        "OPENEXEC_MAX_CONNECTIONS",
        "OPENEXEC_LOG",
    ] {
        let about = found.iter().filter(|problem| problem.contains(name)).count();
        assert!(about == 1 || (name == "CLAWSHIELD_PUBLIC_KEY" && about > 0), "{name}: {found:?}");
    }
    assert_eq!(found.len(), 12, "{found:?}");
}

#[test]
fn a_lost_environment_file_does_not_open_everything() {
    let pem = public_pem(1);
    for (name, value) in [
        ("CLAWSHIELD_TENANT_ID", "t"),
        ("CLAWSHIELD_PUBLIC_KEY", pem.as_str()),
        ("CLAWSHIELD_PUBLIC_KEY_FILE", "/nowhere"),
        ("CLAWSHIELD_ANYTHING", ""),
        ("OPENEXEC_KEYS_FILE", "/nowhere"),
        ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "60"),
    ] {
        let found = problems(&Scratch::new(), &[(name, value)]);
        // Of one that is no setting it also says that.
        assert_eq!(found.len(), 1 + usize::from(name == "CLAWSHIELD_ANYTHING"), "{found:?}");
        let problem = &found[0];
        assert!(problem.starts_with(name), "{problem}");
        assert!(problem.contains("OPENEXEC_MODE=clawshield"), "{problem}");
    }
    for mode in ["", "Demo", "production", "clawshield "] {
        assert!(only_problem(&[("OPENEXEC_MODE", mode)]).contains("OPENEXEC_MODE"));
    }
}

#[test]
fn an_exposed_demo_is_refused() {
    let exposed =
        ["0.0.0.0:0", "[::]:0", "192.0.2.1:5000", "127.0.0.1:0,0.0.0.0:0", "unix:/x,[::]:0"];
    for address in exposed {
        let problem = only_problem(&[("OPENEXEC_LISTEN", address)]);
        assert!(problem.contains("OPENEXEC_ALLOW_EXPOSED_DEMO=yes"), "{problem}");
        for argument in ["1", "true", "", "YES"] {
            let scratch = Scratch::new();
            let environment =
                [("OPENEXEC_LISTEN", address), ("OPENEXEC_ALLOW_EXPOSED_DEMO", argument)];
            assert_eq!(problems(&scratch, &environment).len(), 2);
        }
    }
    // The command line overrides the environment, in this as well.
    let scratch = Scratch::new();
    for arguments in [&["serve", "--host", "0.0.0.0", "--port", "0"][..], &["--listen=[::]:0"]] {
        let ended = cli(&scratch, &[], arguments);
        assert_eq!(ended.code, CONFIGURATION, "{}", ended.stderr);
    }
    let server = Server::start(
        &scratch,
        &[("OPENEXEC_LISTEN", "0.0.0.0:0"), ("OPENEXEC_ALLOW_EXPOSED_DEMO", "yes")],
    );
    assert_eq!(cli(&scratch, &[], &["healthcheck"]).code, 0);
    drop(server);
    drop(Server::start(&scratch, &[("OPENEXEC_LISTEN", "127.0.0.2:0")]));
}

/// Asks a service at an address that is not the one in `LOCK`.
fn health_at(stream: &mut (impl Read + Write)) -> u16 {
    stream.write_all(&common::get("/health")).expect("sent");
    common::read_answer(&mut BufReader::new(stream)).expect("an answer").status
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("[::1]:0").expect("an address");
    listener.local_addr().expect("an address").port()
}

#[test]
fn it_listens_at_several_addresses() {
    let scratch = Scratch::new();
    let (port, socket) = (free_port(), scratch.join("socket"));
    let listen = format!("127.0.0.1:{port},[::1]:{port}, unix:{}", socket.display());
    let server = Server::start(&scratch, &[("OPENEXEC_LISTEN", &listen)]);
    assert_eq!(server.address, format!("127.0.0.1:{port}"), "LOCK has the first");
    assert_eq!(cli(&scratch, &[], &["healthcheck"]).code, 0);
    for ip in ["127.0.0.1", "::1"] {
        assert_eq!(health_at(&mut TcpStream::connect((ip, port)).expect("connected")), 200);
    }
    assert_eq!(health_at(&mut UnixStream::connect(&socket).expect("connected")), 200);
    // One table for all: the connections are counted together.
    let kept: Vec<_> = ["127.0.0.1", "::1"]
        .map(|ip| TcpStream::connect((ip, port)).expect("connected"))
        .into_iter()
        .collect();
    until("all are counted", || server.metric("openexec_connections_open") == 3);
    drop(kept);
}

#[test]
fn by_default_both_loopbacks_are_served() {
    let scratch = Scratch::new();
    let port = free_port();
    let mut command = openexec(&scratch);
    command.env_remove("OPENEXEC_LISTEN").args(["serve", "--port", &port.to_string()]);
    let server = Server::spawn(command, &scratch);
    assert_eq!(server.address, format!("127.0.0.1:{port}"));
    assert_eq!(health_at(&mut TcpStream::connect(("::1", port)).expect("connected")), 200);
    drop(server);
    let mut command = openexec(&scratch);
    let port = free_port().to_string();
    command.env_remove("OPENEXEC_LISTEN").args(["serve", "--host", "127.0.0.1", "--port", &port]);
    let _server = Server::spawn(command, &scratch);
    let port: u16 = port.parse().expect("a port");
    assert!(TcpStream::connect(("::1", port)).is_err(), "one was asked for");
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_is_left_behind() {
    let taken = TcpListener::bind("[::1]:0").expect("an address");
    let address = taken.local_addr().expect("an address");
    let scratch = Scratch::new();
    let socket = scratch.join("socket");
    for listen in [
        format!("127.0.0.1:0,{address}"),
        format!("unix:{},{address}", socket.display()),
        format!("loopback:{}", address.port()),
    ] {
        for command in ["serve", "check"] {
            let ended = cli(&scratch, &[("OPENEXEC_LISTEN", &listen)], &[command]);
            assert_eq!(ended.code, 75, "{command} {listen}: {}", ended.stderr);
            assert!(ended.stderr.contains(&format!(" {address}: ")), "{}", ended.stderr);
            assert!(!socket.exists(), "{command} {listen}");
        }
    }
}

#[test]
fn clawshield_mode_needs_a_tenant_and_one_source_of_keys() {
    let scratch = Scratch::new();
    let pem = public_pem(1);
    let keys = scratch.join("keys");
    private_file(&keys, &pem);
    let keys = keys.to_str().expect("UTF-8");
    let mode = ("OPENEXEC_MODE", "clawshield");
    let tenant = ("CLAWSHIELD_TENANT_ID", "t");
    let key = ("CLAWSHIELD_PUBLIC_KEY", pem.as_str());
    let file = ("CLAWSHIELD_PUBLIC_KEY_FILE", keys);
    for (environment, name) in [
        (&[mode, key][..], "CLAWSHIELD_TENANT_ID"),
        (&[mode, key, ("CLAWSHIELD_TENANT_ID", "")], "CLAWSHIELD_TENANT_ID"),
        (&[mode, key, ("CLAWSHIELD_TENANT_ID", "a\nb")], "CLAWSHIELD_TENANT_ID"),
        (&[mode, tenant], "exactly one of"),
        (&[mode, tenant, key, file], "exactly one of"),
        (&[mode, tenant, ("CLAWSHIELD_PUBLIC_KEY", "")], "CLAWSHIELD_PUBLIC_KEY: "),
        (&[mode, tenant, ("CLAWSHIELD_PUBLIC_KEY", "ssh-ed25519 AAAA")], "CLAWSHIELD_PUBLIC_KEY: "),
        (&[mode, tenant, ("CLAWSHIELD_PUBLIC_KEY_FILE", "/nowhere")], "/nowhere"),
        (&[mode, tenant, ("OPENEXEC_KEYS_FILE", keys)], "OPENEXEC_KEYS_FILE: "),
    ] {
        let found = problems(&scratch, environment);
        assert!(found.len() == 1 && found[0].contains(name), "{name}: {found:?}");
    }
    use std::os::unix::fs::PermissionsExt;
    for mode_bits in [0o620, 0o602, 0o666] {
        let permissions = std::fs::Permissions::from_mode(mode_bits);
        std::fs::set_permissions(keys, permissions).expect("changed");
        let found = problems(&scratch, &[mode, tenant, file]);
        assert!(found.len() == 1 && found[0].contains("chmod"), "{found:?}");
    }
}

#[test]
fn paths_are_kept_apart() {
    let scratch = Scratch::new();
    let inside = scratch.join("files");
    std::fs::create_dir_all(inside.join("outbox")).expect("made");
    std::os::unix::fs::symlink(&inside, scratch.join("link")).expect("linked");
    let path = |name: &str| scratch.join(name).display().to_string();
    let (files, outbox, link) = (path("files"), path("files/outbox"), path("link"));
    let within = format!("file:{files}/store");
    for environment in [
        &[("OPENEXEC_FILES_DIR", files.as_str()), ("OPENEXEC_DB_URL", within.as_str())][..],
        &[("OPENEXEC_FILES_DIR", &link), ("OPENEXEC_DB_URL", &within)],
        &[("OPENEXEC_FILES_DIR", &files), ("OPENEXEC_OUTBOX_DIR", &outbox)],
        &[("OPENEXEC_FILES_DIR", &files), ("OPENEXEC_OUTBOX_DIR", &link)],
        &[("OPENEXEC_FILES_DIR", scratch.path().to_str().expect("UTF-8"))],
    ] {
        let found = problems(&scratch, environment);
        assert!(found.len() == 1 && found[0].contains("keep them apart"), "{found:?}");
    }
}

#[test]
fn stores_are_named_by_file_urls() {
    for bad in [
        "",
        "openexec-data",
        "/abs",
        "postgres://u:p@h/db",
        "sqlite:///x.db",
        "file:",
        "file://host/x",
        "file://",
        "file:x?y",
        "file:x#y",
        "file:x%20y",
        "FILE:x",
    ] {
        let problem = only_problem(&[("OPENEXEC_DB_URL", bad)]);
        assert!(problem.starts_with("OPENEXEC_DB_URL: "), "{problem}");
        assert!(!problem.contains("u:p@"), "no password in {problem}");
    }
    // Relative to the working directory, absolute, and absolute in the long form.
    let scratch = Scratch::new();
    let absolute = scratch.join("b");
    let (short, long) =
        (format!("file:{}", absolute.display()), format!("file://{}", absolute.display()));
    assert_eq!(cli(&scratch, &[("OPENEXEC_DB_URL", "file:a")], &["init"]).code, 0);
    assert!(scratch.join("a").join("00000001.jsonl").is_file());
    assert_eq!(cli(&scratch, &[("OPENEXEC_DB_URL", &short)], &["init"]).code, 0);
    assert_eq!(cli(&scratch, &[("OPENEXEC_DB_URL", &long)], &["init"]).code, CONFIGURATION);
}

#[test]
fn allow_lists_name_what_there_is() {
    for (list, name) in [
        ("", "names no action"),
        (" , ", "names no action"),
        ("Echo", "\"Echo\""),
        ("echo,nope", "\"nope\""),
        ("echo;add", "\"echo;add\""),
    ] {
        let problem = only_problem(&[("OPENEXEC_ALLOWED_ACTIONS", list)]);
        assert!(problem.contains(name), "{problem}");
    }
}

/// The names of ours in the sources of the other programs, less those that are settings of this one.
fn names_of_others() -> std::collections::BTreeSet<String> {
    fn add(path: &std::path::Path, text: &mut String) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("a directory") {
                add(&entry.expect("an entry").path(), text);
            }
        } else if let Ok(more) = std::fs::read_to_string(path) {
            text.push_str(&more);
        }
    }
    let mut text = String::new();
    for place in [
        "clients/python/src",
        "approver/src",
        "postgres/src",
        "examples/workers",
        "examples/agents",
        "examples/auto_approver",
        "quickstart.sh",
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
        assert!(path.exists(), "{place}");
        add(&path, &mut text);
    }
    let names = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    let names = names.filter(|name| name.starts_with("OPENEXEC_") && !name.ends_with('_'));
    let is_setting = |name: &str| SETTINGS.iter().any(|setting| setting.name == name);
    names.filter(|name| !is_setting(name)).map(str::to_owned).collect()
}

#[test]
fn settings_that_are_none_are_warned_about() {
    let scratch = Scratch::new();
    let near = [
        ("OPENEXEC_ALLOWED_ACTION", "echo"),
        ("OPENEXEC_LOG_LEVEL", "debug"),
        ("OPENEXEC_PORT", "1"),
        ("PATH", "/bin"),
    ];
    let ended = cli(&scratch, &near, &["check"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let warnings: Vec<&str> =
        ended.stdout.lines().filter(|l| l.contains("is not a setting")).collect();
    assert_eq!(warnings.len(), 3, "{}", ended.stdout);
    assert!(warnings[0].contains("the nearest is OPENEXEC_ALLOWED_ACTIONS"), "{}", warnings[0]);
    assert!(warnings[1].ends_with("the nearest is OPENEXEC_LOG"), "{}", warnings[1]);
    assert!(warnings[2].contains("OPENEXEC_PORT"), "{}", warnings[2]);
    // Each name that another program of ours reads is known, and no misspelling of one.
    let others = names_of_others();
    assert!(others.len() >= 6, "{others:?}");
    for name in &others {
        let ended = cli(&scratch, &[(name, "yes")], &["check"]);
        assert!(!ended.stdout.contains(&format!("{name} is not")), "{}", ended.stdout);
        let misspelt = format!("{name}S");
        let ended = cli(&scratch, &[(&misspelt, "yes")], &["check"]);
        let warning = format!("{misspelt} is not a setting and is ignored; the nearest is {name}");
        assert!(ended.stdout.contains(&warning), "{}", ended.stdout);
    }
    // What is missing may be there under another name.
    let without_key = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t"),
        ("OPENEXEC_KEY_FILE", "keys.json"),
    ];
    let found = problems(&scratch, &without_key);
    assert!(found.len() == 2 && found[1].contains("nearest is OPENEXEC_KEYS_FILE"), "{found:?}");
    assert!(found[1].contains("warning: OPENEXEC_KEY_FILE is not"), "{found:?}");
    let server = Server::start(&scratch, &near);
    until("the warning is logged", || server.log().contains("the nearest is"));
}

#[test]
fn hash_prints_the_hashes_of_a_request() {
    let scratch = Scratch::new();
    let hash = |arguments: &[&str], stdin: &str| -> Ended {
        let mut command = openexec(&scratch);
        command.arg("hash").args(arguments);
        run(command, stdin)
    };
    let request = r#"{"payload":{"b":1.0,"a":"é"},"action":"echo","nonce":"n"}"#;
    let expected = format!(
        "{{\"action_hash\":\"{}\",\"exec_id\":\"{}\",\"legacy_action_hash\":\"{}\"}}\n",
        common::sha256(r#"{"action":"echo","payload":{"a":"é","b":1}}"#),
        common::sha256(r#"{"action":"echo","nonce":"n","payload":{"a":"é","b":1}}"#),
        common::sha256(r#"{"action":"echo","payload":{"a":"\u00e9","b":1.0}}"#),
    );
    std::fs::write(scratch.join("request.json"), request).expect("written");
    for (arguments, stdin) in [(&["request.json"][..], ""), (&[], request), (&["-"], request)] {
        let ended = hash(arguments, stdin);
        assert_eq!((ended.code, &ended.stdout, ended.stderr.as_str()), (0, &expected, ""));
    }
    let without = hash(&[], r#"{"action":"echo"}"#);
    let hashes: Value = serde_json::from_str(&without.stdout).expect("JSON");
    assert_eq!(hashes["exec_id"], Value::Null);
    assert_eq!(hashes["action_hash"], common::sha256(r#"{"action":"echo","payload":{}}"#));
    for bad in [
        "{",
        "[]",
        "{}",
        r#"{"action":"a b"}"#,
        r#"{"action":"echo","action":"echo"}"#,
        r#"{"action":"echo","nonce":""}"#,
        r#"{"action":"echo","payload":1}"#,
        r#"{"action":"echo","more":1}"#,
        r#"{"action":"echo","payload":{"a":1e400}}"#,
    ] {
        let ended = hash(&[], bad);
        assert_eq!((ended.code, ended.stdout.as_str()), (65, ""), "{bad}: {}", ended.stderr);
    }
    let large = json!({"action": "echo", "payload": {"x": "x".repeat(1024 * 1024)}}).to_string();
    assert_eq!(hash(&[], &large).code, 65);
    let absent = hash(&["absent.json"], "");
    assert_eq!(absent.code, 74, "{}", absent.stderr);
    assert!(absent.stderr.contains("absent.json"), "{}", absent.stderr);
}

#[test]
fn commands_that_need_a_store_say_which() {
    let scratch = Scratch::new();
    for (command, code) in [("freeze", 78), ("unfreeze", 78), ("healthcheck", 74)] {
        let ended = cli(&scratch, &[], &[command]);
        assert_eq!(ended.code, code, "{command}: {}", ended.stderr);
        let store = scratch.join("store").display().to_string();
        assert!(ended.stderr.contains(&store), "{command}: {}", ended.stderr);
        let bad = cli(&scratch, &[("OPENEXEC_DB_URL", "x")], &[command]);
        assert_eq!(bad.code, CONFIGURATION, "{command}");
    }
}

#[test]
fn what_cannot_be_looked_into_is_not_called_empty() {
    let scratch = Scratch::new();
    std::fs::write(scratch.join("store"), "no directory").expect("written");
    for command in ["freeze", "unfreeze", "pending"] {
        let ended = cli(&scratch, &[], &[command]);
        assert_eq!(ended.code, 74, "{command}: {}", ended.stderr);
        assert!(!ended.stderr.contains("there is no store"), "{command}: {}", ended.stderr);
    }
}

/// A log collector that died must not turn a refusal, which ends the restarts, into a crash.
#[test]
fn who_reads_the_errors_does_not_change_the_exit_code() {
    let scratch = Scratch::new();
    for (arguments, code) in [
        (&["nothing"][..], 64),
        (&["verify", "/nonexistent"], 74),
        (&["serve"], 78),
        (&["check"], 78),
    ] {
        let mut command = openexec(&scratch);
        command.env("OPENEXEC_MODE", "none").args(arguments).stdin(Stdio::null());
        let full = std::fs::File::options().write(true).open("/dev/full").expect("opened");
        let ended = command.stdout(Stdio::null()).stderr(full).status().expect("run");
        assert_eq!(ended.code(), Some(code), "{arguments:?}, with a full disk");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = command.stderr(writer).status().expect("run");
        assert_eq!(ended.code(), Some(code), "{arguments:?}, with nobody reading");
    }
}

#[test]
fn demo_mode_is_not_exposed_by_a_socket_that_is_handed_over() {
    let scratch = Scratch::new();
    let serve = |address: &str, more: &[(&str, &str)]| {
        let given = std::net::TcpListener::bind(address).expect("bound");
        let mut command = openexec(&scratch);
        command.env("OPENEXEC_LISTEN", "stdin").envs(more.iter().copied()).args(["check"]);
        let given = Stdio::from(std::os::fd::OwnedFd::from(given));
        command.stdin(given).output().expect("run")
    };
    let refused = serve("0.0.0.0:0", &[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(CONFIGURATION), "{text}");
    assert!(text.contains("OPENEXEC_ALLOW_EXPOSED_DEMO=yes"), "{text}");
    assert_eq!(serve("127.0.0.1:0", &[]).status.code(), Some(0));
    let allowed = serve("0.0.0.0:0", &[("OPENEXEC_ALLOW_EXPOSED_DEMO", "yes")]);
    assert_eq!(allowed.status.code(), Some(0));
}

/// To follow that advice would be to open everything.
#[test]
fn an_unreadable_key_is_not_taken_for_demo_mode() {
    let listen = ("OPENEXEC_LISTEN", "0.0.0.0:0");
    for wrong in [
        vec![
            ("OPENEXEC_MODE", "clawshield"),
            ("CLAWSHIELD_PUBLIC_KEY", "x"),
            ("CLAWSHIELD_TENANT_ID", "t"),
        ],
        vec![("OPENEXEC_MODE", "clawshild")],
    ] {
        let problem = only_problem(&[wrong, vec![listen]].concat());
        assert!(!problem.contains("EXPOSED_DEMO"), "{problem}");
    }
}

#[test]
fn a_keys_file_that_is_no_file_is_refused_and_not_waited_for() {
    let scratch = Scratch::new();
    let fifo = scratch.join("keys.json");
    common::fifo(&fifo);
    let fifo = fifo.display().to_string();
    let settings = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", "t"),
        ("OPENEXEC_KEYS_FILE", &fifo),
    ];
    let found = problems(&scratch, &settings);
    assert!(found.len() == 1 && found[0].contains("is not a regular file"), "{found:?}");
}

#[test]
fn actions_lists_the_handlers() {
    let scratch = Scratch::new();
    let all = cli(&scratch, &[], &["actions"]);
    assert_eq!((all.code, all.stderr.as_str()), (0, ""));
    for handler in openexec::handlers::HANDLERS {
        let line = all.stdout.lines().find(|line| line.starts_with(handler.action));
        assert!(line.is_some_and(|line| line.contains(handler.effect.name())), "{}", all.stdout);
        assert!(all.stdout.contains(handler.summary));
    }
    let one = cli(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "add")], &["actions"]);
    assert!(one.stdout.contains("Action 'echo' is not in the execution allow-list"));
    assert!(!scratch.join("store").exists());
}
