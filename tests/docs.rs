//! The documents held to the program: what they name exists, and what exists is named. Their
//! commands are run by `tests/python/documents.py` and the scripts that the pages name.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Scratch, Server};
use openexec::core::clock::Fault;
use openexec::core::problem::Code;
use openexec::handlers::HANDLERS;
use openexec::serve::config::{self, Environment, Kind, Problems, SETTINGS, Setting};
use openexec::serve::route::ROUTES;
use openexec::sys::exit;

/// Those of both rooms.
mod limits {
    pub use openexec::core::limits::*;
    pub use openexec::sys::limits::*;
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that people read, by its path from the root.
fn pages() -> Vec<String> {
    fn add(directory: &Path, pages: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root()).expect("below").to_str().expect("UTF-8");
            let is_ours = !name.starts_with('.') && !matches!(name, "target" | "dist" | "tests");
            if path.is_dir() && is_ours {
                add(&path, pages);
            } else if is_ours && name.ends_with(".md") {
                pages.push(name.to_owned());
            }
        }
    }
    let mut pages = Vec::new();
    add(root(), &mut pages);
    assert!(pages.len() >= 20, "{pages:?}");
    pages
}

/// The text of a page less its fenced blocks, as lines.
fn prose(text: &str) -> Vec<&str> {
    let mut is_fenced = false;
    text.lines()
        .filter(|line| {
            let is_fence = line.starts_with("```");
            is_fenced ^= is_fence;
            !is_fence && !is_fenced
        })
        .collect()
}

/// The files that a page links to, each with the anchor in it or nothing.
fn links(page: &str) -> Vec<(PathBuf, String)> {
    let text = read(page);
    let directory = root().join(page).parent().map(PathBuf::from).unwrap_or_default();
    let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or(""));
    let images = text.split(['"', ' ']).filter(|word| word.ends_with(".svg"));
    let targets = targets.chain(images).filter(|target| !target.starts_with("https://"));
    let resolve = |target: &str| {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() { root().join(page) } else { directory.join(file) };
        (path, anchor.to_owned())
    };
    targets.map(resolve).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All of `src`, one text.
fn sources() -> String {
    fn add(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).expect("src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(&path, text);
            } else {
                text.push_str(&std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut text = String::new();
    add(&root().join("src"), &mut text);
    text
}

/// The string literal that begins, after white space and one comma-separated word at most, behind
/// each `opening`; only words of lower case and underscores.
fn words_behind(text: &str, opening: &str) -> BTreeSet<String> {
    let words = text.split(opening).skip(1).filter_map(|rest| {
        let (before, rest) = rest.split_once('"')?;
        let is_close = before.len() < 40 && !before.contains([';', '}', ')']);
        let (word, _) = rest.split_once('"')?;
        let is_code = word.len() > 3 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_close && is_code).then(|| word.to_owned())
    });
    words.collect()
}

/// The text between a heading and the next of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &page[start + heading.len() + 2..];
    let level = heading.split(' ').next().unwrap_or("").len();
    let ends = (1..=level).filter_map(|n| rest.find(&format!("\n{} ", "#".repeat(n))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

fn assert_each(page: &str, where_: &str, wanted: impl IntoIterator<Item = String>) {
    let missing: Vec<String> = wanted.into_iter().filter(|text| !page.contains(text)).collect();
    assert!(missing.is_empty(), "{where_} lacks {missing:?}");
}

/// GitHub's name of a heading in a link.
fn anchor_of(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    heading.replace(' ', "-").replace([',', '.', '`', ':', '\''], "")
}

/// A stranger finds every page from the first one, and gets there in two steps.
#[test]
fn every_page_is_linked() {
    let readme = read("README.md");
    let reached: BTreeSet<PathBuf> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/decisions/README.md"]
            .iter()
            .flat_map(|page| links(page))
            .filter_map(|(target, _)| target.canonicalize().ok())
            .collect();
    for page in pages().iter().filter(|page| page.starts_with("docs/")) {
        assert!(reached.contains(&root().join(page)), "nothing leads to {page}");
    }
    assert!(readme.lines().count() <= 250, "README is for the first quarter of an hour");
    assert!(read("SECURITY.md").lines().count() < 60);
}

#[test]
fn every_setting_has_its_row_and_default() {
    let readme = read("docs/configuration.md");
    let settings = section(&readme, "## Settings");
    assert_each(
        settings,
        "Settings",
        SETTINGS.iter().map(|Setting { name, default, .. }| match *default {
            "" => format!("\n| `{name}` | none | "),
            default => format!("\n| `{name}` | `{default}` | "),
        }),
    );
    // What the table takes, as the help says it.
    for Setting { name, kind, .. } in SETTINGS {
        let row = settings.lines().find(|line| line.starts_with(&format!("| `{name}` | ")));
        let row = row.expect("found above");
        match kind {
            Kind::Word(words) => {
                assert!(words.iter().all(|word| row.contains(&format!("`{word}`"))), "{row}");
            }
            Kind::Number(least, most) => {
                assert!(row.contains(&format!("{least} to {most}")), "{row}");
            }
            _ => {}
        }
    }
    let rows = settings.matches("\n| `").count();
    assert_eq!(rows, SETTINGS.len(), "Settings has a row for what is no setting");
}

#[test]
fn the_proof_is_printed_as_it_is() {
    assert!(
        read("docs/http.md").contains(&format!("```text\n{}```\n", read("examples/prove.txt")))
    );
}

#[test]
fn every_exit_code_has_its_rows() {
    let codes = [
        0,
        exit::USAGE,
        exit::DATA,
        exit::BUG,
        exit::INPUT_OUTPUT,
        exit::IN_USE,
        exit::CONFIGURATION,
    ];
    let declared = read("src/sys/exit.rs").matches("pub const ").count();
    assert_eq!(codes.len(), declared + 1, "an exit code is missing in this test");
    let readme = read("docs/runbook.md");
    let rows = codes.iter().map(|code| format!("\n| {code} | "));
    assert_each(section(&readme, "## Every exit code"), "Every exit code", rows);
}

/// The page names each code behind its status, and names no word as a code that is none.
#[test]
fn every_code_is_in_the_decision_under_its_status() {
    let page = read("docs/http.md");
    let mut status = 0;
    let mut shown = BTreeSet::new();
    for word in section(&page, "## The decision").split([' ', '\n', ',', ';', ':', '.', '(']) {
        if let Ok(number) = word.parse()
            && (400..600).contains(&number)
        {
            status = number;
        }
        let code = word.strip_prefix('`').and_then(|word| word.strip_suffix('`'));
        let code = Code::ALL.iter().find(|known| Some(known.name()) == code);
        if let Some(code) = code {
            assert_eq!(code.status(), status, "{code:?}");
            shown.insert(code.name());
        }
    }
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!((all.len(), &shown), (Code::ALL.len(), &all));
}

/// For each code a test that makes the service answer it; most are made in two of them.
const PRODUCED: [(&str, &[Code]); 16] = [
    ("postgres/tests/nodes.rs::a_node_that_stands_by_says_so_and_takes_over", &[Code::Standby]),
    ("tests/proposals.rs::a_flood_of_proposals_has_its_end", &[Code::PendingFull]),
    (
        "tests/recovery/restart.rs::what_is_over_stays_over",
        &[Code::Rejected, Code::Withdrawn, Code::Expired, Code::Refused],
    ),
    (
        "tests/callers/head.rs::each_route_asks_each_caller_for_its_right",
        &[Code::Unauthenticated, Code::CallerNotAllowed],
    ),
    (
        "tests/callers/persons.rs::an_approval_by_the_proposers_own_key_is_refused_and_another_persons_counts",
        &[Code::ApproverIsProposer],
    ),
    (
        "tests/rejections.rs::whatever_differs_is_refused_with_its_code_and_records_nothing",
        &[
            Code::RejectionMalformed,
            Code::RejectionSignatureInvalid,
            Code::NothingPending,
            Code::NotPending,
        ],
    ),
    (
        "tests/approvals_door/codes.rs::what_says_something_else_is_refused_with_its_code_and_records_nothing",
        &[Code::ApprovalAmbiguous, Code::ApprovalIdConflict],
    ),
    ("tests/gate/bounds.rs::a_dribbled_head_gets_408_at_its_deadline", &[Code::Timeout]),
    ("tests/gate/bounds.rs::the_unfinished_request_that_holds_most_makes_room", &[Code::Busy]),
    (
        "tests/clock.rs::a_clock_behind_any_record_says_so_until_somebody_has_looked",
        &[Code::ClockBehind],
    ),
    ("tests/clock.rs::a_clock_that_jumps_is_seen_while_nobody_asks", &[Code::ClockJumped]),
    (
        "tests/handlers/outcomes.rs::while_the_store_is_opened_no_attempt_is_called_refused",
        &[Code::StoreUnavailable],
    ),
    (
        "tests/handlers/outcomes.rs::outcomes_are_stored_and_repeated",
        &[Code::HandlerFailed, Code::Indeterminate],
    ),
    (
        "tests/witness/service.rs::what_is_not_in_the_file_is_not_signed",
        &[Code::CheckpointUnwritable],
    ),
    (
        "tests/simulation/refusals.rs::an_equal_refusal_in_the_same_batch_waits_for_it",
        &[Code::OutcomeUnknown],
    ),
    ("tests/simulation/refusals.rs::what_a_full_store_refuses_adds_up_too", &[Code::StoreFull]),
];

#[test]
fn every_code_is_produced_by_a_test() {
    let test = |name: &str| {
        let (file, function) = name.split_once("::").expect("a function");
        let source = read(file);
        let start = source.find(&format!("#[test]\nfn {function}()"));
        let rest = &source[start.unwrap_or_else(|| panic!("{name} is no test")) + 1..];
        rest[..rest.find("\n}\n").expect("its end")].to_owned()
    };
    let mut produced = BTreeSet::new();
    for name in [
        "tests/http_api.rs::what_is_wrong_with_a_request_has_its_code",
        "tests/refusals.rs::of_every_code_an_equal_refusal_is_answered_alike_and_stored_once",
    ] {
        let text = test(name);
        produced.extend(
            Code::ALL
                .iter()
                .filter(|code| text.contains(&format!("Code::{code:?},")))
                .map(|c| c.name()),
        );
    }
    for (name, codes) in PRODUCED {
        let text = test(name);
        for code in codes {
            assert!(text.contains(code.name()), "{name} does not name {code:?}");
            assert!(produced.insert(code.name()), "{code:?} is produced by another test as well");
        }
    }
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(produced, all);
}

#[test]
fn every_reason_in_a_result_is_there() {
    let sources = sources();
    let openings =
        ["run::indeterminate(", "=> failed(", "unusable(", "indeterminate(", "interrupted("];
    let mut reasons: BTreeSet<String> =
        openings.iter().flat_map(|opening| words_behind(&sources, opening)).collect();
    reasons.extend(words_behind(&sources, "return Err(("));
    assert!(reasons.len() >= 7, "the scan found only {reasons:?}");
    let page = read("docs/http.md");
    let page = section(&page, "## Reasons in a result");
    assert_each(page, "Reasons in a result", reasons.iter().map(|reason| format!("`{reason}`")));
}

#[test]
fn every_route_has_its_row() {
    let readme = read("docs/http.md");
    let table = section(&readme, "## Routes");
    let rows = ROUTES.iter().map(|row| format!("\n| `{} {}` | ", row.method, row.path));
    assert_each(table, "Routes", rows);
    let methods = ["GET", "POST", "DELETE"].map(|method| format!("\n| `{method} /"));
    let shown: usize = methods.iter().map(|row| table.matches(row).count()).sum();
    assert_eq!(shown, ROUTES.len(), "Routes has a row for what is no route");
}

#[test]
fn every_metric_and_ready_reason_is_there() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let text = server.get("/metrics").text();
    let names: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() >= 27, "{names:?}");
    let readme = read("docs/operations.md");
    let operations = section(&readme, "## Metrics");
    assert_each(operations, "Operations", names.iter().map(|name| format!("`{name}`")));
    let known: BTreeSet<&str> = operations
        .split("`openexec_")
        .skip(1)
        .filter_map(|rest| rest.split(['`', '{']).next())
        .collect();
    for name in known {
        assert!(names.contains(&*format!("openexec_{name}")), "openexec_{name} is no metric");
    }

    let sources = sources();
    let mut reasons = BTreeSet::new();
    for opening in [
        "_ if !now.open => Err(",
        "is_busy(since)) => Err(",
        "Obstacle {\n    reason: ",
        "Obstacle { reason: ",
    ] {
        reasons.extend(words_behind(&sources, opening));
    }
    reasons.extend([Fault::Behind, Fault::Jumped].map(|fault| fault.code().name().to_owned()));
    assert_eq!(reasons.len(), 8, "{reasons:?}");
    let reasons = reasons.iter().map(|reason| format!("\n| `{reason}` | "));
    assert_each(
        section(&read("docs/runbook.md"), "## Every ready reason"),
        "ready reasons",
        reasons,
    );
}

#[test]
fn every_limit_has_its_number_and_its_test() {
    macro_rules! known {
        ($($name:ident)*) => { [$((stringify!($name), limits::$name as u64)),*] };
    }
    let known = known!(
        HEAD_BYTES_MAX HEADER_LINES_MAX METHOD_BYTES_MAX BODY_BYTES_MAX CHUNK_LINE_BYTES_MAX CHUNK_FRAMING_BYTES_MAX HEAD_DEADLINE_MS
        BODY_DEADLINE_MS ANSWER_DEADLINE_MS IDLE_DEADLINE_MS QUEUE_DEADLINE_MS CONNECTIONS_MAX CONNECTIONS_PER_RESERVED
        FILES_PER_CONNECTION FILES_PER_INNER FILES_RESERVED HELD_BYTES_MAX OWN_BYTES BUFFER_BYTES PIECE_BYTES LINGER_MS
        LINGER_BYTES_MAX RETRY_AFTER_SECONDS ACCEPT_PAUSE_MS_MIN
        ACCEPT_PAUSE_MS_MAX CONNECTION_STACK_BYTES THREADS_RESERVED INNER_ATTEMPTS_MAX
        INSIDE_BYTES_MAX PAYLOAD_KEPT_BYTES SMALL_REQUEST_BYTES ANSWERS_CARRIED_BYTES_MAX INNER_DEADLINE_MS CONNECT_MS HEALTHCHECK_MS JSON_DEPTH_MAX RECORD_DEPTH_MAX JSON_VALUES_MAX OWN_VALUES_MAX
        JSON_OBJECT_VALUES NUMBER_BYTES_MAX NUMBER_MAGNITUDE_MAX PAYLOAD_BYTES_MAX
        LEGACY_BYTES_MAX ACTION_BYTES_MAX NONCE_BYTES_MAX ARTIFACTS_MAX KEYS_MAX
        KEY_NAME_BYTES_MAX CLOCK_SKEW_SECONDS
        PROPOSALS_PENDING PROPOSAL_BYTES_PENDING PROPOSALS_A_DAY PROPOSAL_BYTES_A_DAY PAGE_ENTRIES_MAX PAGE_BYTES_MAX PAGE_PAYLOAD_BYTES_MAX JUSTIFICATION_CHARACTERS_MAX PENDING_TTL_SECONDS MCP_ID_BYTES_MAX APPROVALS_OF_A_KEY_MAX REJECTION_CHARACTERS_MAX DETAIL_CHARACTERS_MAX RESULT_BYTES_MAX SEGMENT_BYTES
        SECTOR_BYTES BATCH_BYTES_MAX POLICY_BYTES_MAX BATCH_REQUESTS_MAX SEAL_AFTER_MS EXECUTIONS_MAX SEGMENTS_MAX
        LEAVES_PER_BLOCK CHECKPOINT_EVERY_MS LOG_ORIGIN_BYTES_MAX NOTE_BYTES_MAX PROOF_BYTES_MAX EVIDENCE_BYTES_MAX
        OUTCOME_BYTES_MAX OUTCOMES_EVERY_MS OUTCOMES_AT_ONCE OUTCOMES_IGNORED_MAX
        QUEUES_TRIED_MAX WITNESS_REQUESTS_MAX REFUSAL_BYTES_HELD REFUSALS_DRAIN_SECONDS REFUSAL_BYTES_PER_DAY
        REFUSAL_PAYLOAD_BYTES_MAX REFUSALS_INDEXED ACTIONS_FILE_BYTES_MAX CALLERS_FILE_BYTES_MAX SMALL_FILE_BYTES_MAX REQUEST_BYTES_MAX
    );
    let source = read("src/core/limits.rs") + &read("src/sys/limits.rs");
    let declared: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    let known_names: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        known_names, declared,
        "the list in this test is not that of the two files of limits"
    );

    let (readme, security) = (read("docs/configuration.md"), read("docs/guarantees.md"));
    let rows =
        section(&readme, "## Limits").lines().chain(section(&readme, "## Inner limits").lines());
    let held = section(&security, "## Limits");
    let mut shown = Vec::new();
    for row in rows.filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[2].split(", ").map(|name| name.trim_matches('`'));
        // Numbers are separated by ", ", thousands by ",".
        shown.extend(names.zip(cells[3].split(", ")));
    }
    for (name, value) in known {
        let row = shown.iter().find(|(shown, _)| *shown == name);
        let (_, number) = row.unwrap_or_else(|| panic!("Limits: {name} is in no table"));
        assert_eq!(number.replace(',', ""), value.to_string(), "Limits: {name}");
        assert!(
            held.contains(&format!("`{name}`")),
            "docs/guarantees.md, Limits: {name} is missing"
        );
    }
}

/// Each is refused by the configuration with a sentence that has a row of its own.
#[test]
fn every_start_up_refusal_has_its_row() {
    let scratch = Scratch::new();
    let write = |name: &str, text: &str, mode: u32| {
        let path = scratch.join(name);
        std::fs::write(&path, text).expect("written");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("changed");
        path.to_str().expect("UTF-8").to_owned()
    };
    let open = write("open.pem", "", 0o666);
    let large = write("large.pem", &" ".repeat(70_000), 0o600);
    let keys = write("keys.json", "{}", 0o600);
    let pem = common::approvals::public_pem(7);
    let misspelt = serde_json::json!({"keys": [{"name": "a", "public_key": pem}],
                                      "required": {"ecko": 1}});
    let misspelt = write("misspelt.json", &misspelt.to_string(), 0o600);
    let inside = scratch.path().to_str().expect("UTF-8").to_owned();
    let within = format!("file:{inside}/store");
    let checkpoint = format!("{inside}/checkpoint");
    let nowhere = format!("{inside}/nowhere/checkpoint");
    let signing = write("signing.pem", &common::approvals::private_pem(&[7; 32]), 0o600);
    let approver = common::approvals::public_pem(7);
    let (key, origin) = (("OPENEXEC_LOG_KEY_FILE", &*signing), ("OPENEXEC_LOG_ORIGIN", "a.b/log"));
    let file = ("OPENEXEC_CHECKPOINT_FILE", &*checkpoint);
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let shield = ("OPENEXEC_MODE", "clawshield");
    let nobody = write("callers.json", r#"{"callers":[]}"#, 0o600);
    let ecko = format!(
        r#"{{"callers":[{{"name":"a","token_sha256":"{}","may":["propose"],"actions":["ecko"]}}]}}"#,
        "ab".repeat(32)
    );
    let ecko = write("ecko.json", &ecko, 0o600);
    let crowd = write("crowd.json", &" ".repeat(1_100_000), 0o600);
    let many = "echo,".repeat(openexec::core::limits::POLICY_BYTES_MAX / 4);
    let cases: &[&[(&str, &str)]] = &[
        &[("OPENEXEC_MODE", "open")],
        &[("CLAWSHIELD_TENANT_ID", "t")],
        &[shield],
        &[shield, ("CLAWSHIELD_TENANT_ID", "t")],
        &[shield, ("CLAWSHIELD_PUBLIC_KEY", "x"), ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "x")],
        &[shield, ("CLAWSHIELD_PUBLIC_KEY", private)],
        &[shield, ("CLAWSHIELD_TENANT_ID", "a\nb")],
        &[shield, ("CLAWSHIELD_PUBLIC_KEY_FILE", &open)],
        &[shield, ("CLAWSHIELD_PUBLIC_KEY_FILE", &large)],
        &[shield, ("OPENEXEC_KEYS_FILE", &keys)],
        &[shield, ("CLAWSHIELD_TENANT_ID", "t"), ("OPENEXEC_KEYS_FILE", &misspelt)],
        &[("OPENEXEC_CALLERS_FILE", &nobody)],
        &[("OPENEXEC_CALLERS_FILE", &ecko)],
        &[("OPENEXEC_CALLERS_FILE", &crowd)],
        &[("OPENEXEC_ALLOWED_ACTIONS", ",")],
        &[("OPENEXEC_ALLOWED_ACTIONS", "nothing")],
        &[("OPENEXEC_ALLOWED_ACTIONS", &many)],
        &[("OPENEXEC_ALLOWED_ACTIONS", "enqueue")],
        &[("OPENEXEC_OUTBOX_DIR", &keys)],
        &[("OPENEXEC_FILES_DIR", "/nonexistent")],
        &[("OPENEXEC_FILES_DIR", &inside), ("OPENEXEC_DB_URL", &within)],
        &[("OPENEXEC_ACTIONS_FILE", &keys)],
        &[("OPENEXEC_ACTIONS_FILE", &open)],
        &[("OPENEXEC_DB_URL", "postgres://h/d")],
        &[("OPENEXEC_DB_URL", "file://h/d")],
        &[("OPENEXEC_DB_URL", "file:")],
        &[("OPENEXEC_DB_URL", "file:a?b")],
        &[("OPENEXEC_LISTEN", "localhost:1")],
        &[("OPENEXEC_LISTEN", "unix:x")],
        &[("OPENEXEC_LISTEN", "0.0.0.0:1")],
        &[("OPENEXEC_ALLOW_EXPOSED_DEMO", "no")],
        &[("OPENEXEC_ALLOWED_HOSTS", "http://x")],
        &[("OPENEXEC_MAX_CONNECTIONS", "0")],
        &[("OPENEXEC_LOG", "loud")],
        &[key, origin],
        &[key, file],
        &[origin, file],
        &[key, ("OPENEXEC_LOG_ORIGIN", "a log"), file],
        &[("OPENEXEC_LOG_KEY_FILE", &open), origin, file],
        &[("OPENEXEC_LOG_KEY_FILE", &keys), origin, file],
        &[("OPENEXEC_CHECKPOINT_FILE", &nowhere)],
        &[("OPENEXEC_CHECKPOINT_FILE", &inside)],
        &[shield, ("CLAWSHIELD_PUBLIC_KEY", &approver), key, origin, file],
    ];
    let mut refusals = Vec::new();
    for case in cases {
        let environment: Environment =
            case.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let Err(Problems(problems)) = config::read(&environment, HANDLERS) else {
            panic!("{case:?} is taken");
        };
        refusals.extend(problems);
    }
    let readme = read("docs/runbook.md");
    let rows: Vec<&str> = section(&readme, "## Every start-up refusal")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split("` | ").next())
        .collect();
    let unheld: Vec<&String> =
        refusals.iter().filter(|text| !rows.iter().any(|row| text.contains(row))).collect();
    assert!(unheld.is_empty(), "no row says what to do about {unheld:#?}");
    // And no row is of another program: its words are in a source, wherever a line breaks there.
    let sources = sources().replace("\\\n", "");
    let sources = sources.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in rows {
        let held = refusals.iter().any(|text| text.contains(row));
        let row = row.replace("openexec-data", "{}");
        assert!(held || sources.contains(&row), "nothing says {row:?}");
    }
    // A new refusal needs a case above and a row.
    let source = ["mod", "settings", "paths"]
        .map(|name| read(&format!("src/serve/config/{name}.rs")))
        .concat();
    let sites = ["problem(", "problems.push(", "return refused("];
    let sites: usize = sites.iter().map(|site| source.matches(site).count()).sum();
    assert_eq!(sites, 23, "src/serve/config refuses in another number of places");
}

/// docs/operations.md, "Upgrading"; docs/upgrade.md.
#[test]
fn a_store_of_another_format_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch, &[]);
    server.execute(r#"{"action":"echo","payload":{},"nonce":"n"}"#);
    server.kill();
    let path = server.store.join("00000001.jsonl");
    let segment = std::fs::read(&path).expect("a segment");
    let format = format!("\"format\":{}", openexec::core::record::FORMAT);
    let at = segment.windows(format.len()).position(|window| window == format.as_bytes());
    let mut another = segment.clone();
    another[at.expect("a format") + format.len() - 1] += 1;
    // docs/upgrade.md: one that 0.1.0 has written, and found whole.
    let mut older = read("tests/vectors/store/of-0.1.0.jsonl").into_bytes();
    older.resize(segment.len(), b'\n');
    for (store, byte) in [(another, 0), (older, 0)] {
        std::fs::write(&path, &store).expect("written");
        for command in ["serve", "check", "verify"] {
            let refused = common::cli(&scratch, &[], &[command]);
            assert_eq!(refused.code, i32::from(exit::DATA), "{command}: {}", refused.stderr);
            let place = format!("00000001.jsonl, byte {byte}: ");
            assert!(refused.stderr.contains(&place), "{}", refused.stderr);
            assert!(refused.stderr.contains("format that this program does not"), "{command}");
            assert!(!refused.stderr.contains("restore"), "a copy would have forgotten nonces");
            assert_eq!(std::fs::read(&path).expect("a segment"), store, "{command}");
        }
    }
    // Nothing else kept it from opening.
    std::fs::write(&path, &segment).expect("written");
    Server::start(&scratch, &[]);
}

/// docs/operations.md, "The store's size"; README, "What it costs".
#[test]
fn an_execution_takes_as_many_bytes_as_it_says() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let written = |bytes: u64| {
        let what = format!("{bytes} bytes are written");
        common::until(&what, || server.metric("openexec_store_bytes") == bytes);
    };
    // The store's first batch, and the seal after it.
    written(512 + 512);
    server.execute(r#"{"action":"echo","payload":{},"nonce":"n"}"#);
    let segment = std::fs::read(server.store.join("00000001.jsonl")).expect("a segment");
    let bytes = |kind: &str| {
        let kind = format!("\"kind\":\"{kind}\"");
        let lines = segment.split(|byte| *byte == b'\n');
        let line = lines.map(String::from_utf8_lossy).find(|line| line.contains(&kind));
        line.expect("a line").len() + 1
    };
    // Of the claim, less `{}` and `n`; of the receipt, less `{"echo":{}}`.
    let (claim, receipt) = (bytes("claim") - 3, bytes("receipt") - 11);
    assert_eq!(bytes("commit"), 111);
    assert!((245..=265).contains(&claim) && (225..=245).contains(&receipt), "{claim} {receipt}");
    // And the execution's, with the policy of this start and a seal.
    written(512 + 512 + 1024 + 512);
}

#[test]
fn the_page_of_tests_names_every_directory() {
    let page = read("tests/README.md");
    let named: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("/` | "))
        .map(|row| row.0)
        .collect();
    let below = |directory: &str| {
        let entries = std::fs::read_dir(root().join(directory)).expect("listed");
        let entries = entries.map(|entry| entry.expect("an entry"));
        let directories = entries.filter(|entry| entry.path().is_dir());
        let names = directories.map(|entry| entry.file_name().into_string().expect("UTF-8"));
        names.filter(|name| !name.starts_with(['.', '_'])).collect::<Vec<_>>()
    };
    let mut found: BTreeSet<String> = below("tests").into_iter().collect();
    for tests in ["approver/tests", "clients/python/tests", "postgres/tests"] {
        found.insert(tests.to_owned());
        found.extend(below(tests).into_iter().map(|name| format!("{tests}/{name}")));
    }
    assert_eq!(named, found.iter().map(String::as_str).collect());
}

#[test]
fn every_test_named_exists() {
    let security = read("docs/guarantees.md");
    let mut named = 0;
    for name in security.split('`').filter(|text| text.contains(".rs::")) {
        let (file, function) = name.split_once("::").expect("a function");
        let source = read(file);
        let is_test = source.split("#[test]").skip(1).any(|rest| {
            rest.split("fn ").nth(1).is_some_and(|rest| rest.starts_with(&format!("{function}(")))
        });
        assert!(is_test, "docs/guarantees.md names {name}, which is no test");
        named += 1;
    }
    assert!(named > 60, "{named}");
    for page in pages() {
        let text = read(&page);
        for name in text.split('`').filter(|text| text.starts_with("tests/")) {
            let file = name.split("::").next().unwrap_or(name);
            assert!(root().join(file).exists(), "{page} names {file}, which is not there");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for page in pages() {
        for (path, anchor) in links(&page) {
            let shown = format!("{page} links to {}#{anchor}", path.display());
            assert!(path.exists(), "{shown}");
            if !anchor.is_empty() {
                let linked = std::fs::read_to_string(&path).expect("a page");
                let mut headings = prose(&linked).into_iter().filter(|line| line.starts_with('#'));
                assert!(headings.any(|heading| anchor_of(heading) == anchor), "{shown}");
            }
            followed += 1;
        }
    }
    assert!(followed > 80, "{followed}");
}

/// The program, its units and its tests send a reader to a page and a section by
/// `docs/PAGE.md, "Section"`.
#[test]
fn every_section_that_is_named_exists() {
    fn add(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(&path, text);
            } else if let Ok(content) = std::fs::read_to_string(&path) {
                text.push_str(&content);
            }
        }
    }
    let mut text = String::new();
    for directory in ["src", "deploy", "examples", "tests/release", "tests/container"] {
        add(&root().join(directory), &mut text);
    }
    text.push_str(&read("deny.toml"));
    let text = text.replace("\\\n", " ").replace("\n", " ").replace('\\', "");
    let text = text.split_whitespace().filter(|word| !matches!(*word, "#" | "//" | "///"));
    let text = text.collect::<Vec<_>>().join(" ");
    let mut named = 0;
    for (at, _) in text.match_indices(".md, \"") {
        let page = text[..at].rsplit([' ', '(', '"', '`']).next().unwrap_or("");
        let heading = text[at + 6..].split('"').next().unwrap_or("");
        let page = read(&format!("{page}.md"));
        let found = page
            .lines()
            .any(|line| line.starts_with('#') && line.trim_start_matches(['#', ' ']).eq(heading));
        assert!(found, "no section {heading:?} in a page that is named with it");
        named += 1;
    }
    assert!(named >= 6, "{named}");
    assert!(!text.contains("README, \""), "README has no sections to look up");
}

/// The picture is one, in two sets of colours.
#[test]
fn the_picture_is_the_same_in_light_and_dark() {
    let shape = |name: &str| -> String {
        let text = read(name);
        text.split('#')
            .map(|part| part.get(6..).filter(|_| is_colour(part)).unwrap_or(part))
            .collect()
    };
    fn is_colour(part: &str) -> bool {
        part.get(..6).is_some_and(|word| word.bytes().all(|b| b.is_ascii_hexdigit()))
    }
    let (light, dark) = ("docs/flow-light.svg", "docs/flow-dark.svg");
    assert_eq!(shape(light), shape(dark));
    assert_ne!(read(light), read(dark));
}

/// README repeats figures; benches/README.md, or a test, is where they are from.
#[test]
fn every_figure_of_the_readme_has_its_source() {
    let (readme, benches) = (read("README.md"), read("benches/README.md"));
    let mut figures = 0;
    for row in section(&readme, "## What it costs")
        .split("\n### ")
        .next()
        .unwrap_or("")
        .lines()
        .filter(|l| l.starts_with("| "))
        .skip(2)
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells[3].starts_with('`'), "{row}: no source");
        if let Some(bench) = cells[3].strip_prefix("`cargo bench --bench ") {
            let bench = bench.trim_end_matches('`');
            assert!(read("Cargo.toml").contains(&format!("name = \"{bench}\"")), "{bench}");
            for figure in cells[2].split(' ').map(|word| word.trim_end_matches(',')) {
                if figure.len() > 2 && figure.starts_with(|c: char| c.is_ascii_digit()) {
                    assert!(benches.contains(figure), "benches/README.md lacks {figure}");
                    figures += 1;
                }
            }
        } else {
            let named = cells[3].trim_matches('`');
            let (file, function) = named.split_once("::").unwrap_or((named, ""));
            assert!(read(file).contains(function), "{named}");
        }
    }
    assert!(figures >= 8, "{figures}");
}

/// A command on a page is run, or the page says why it is not.
#[test]
fn every_command_is_run_or_says_why_not() {
    let mut run = 0;
    for page in pages() {
        let text = read(&page);
        let mut is_inside = false;
        let mut marker = "";
        for line in text.lines() {
            if line.starts_with("<!-- ") {
                is_inside |= ["session: ", "walk-through", "auditors"]
                    .iter()
                    .any(|begins| line[5..].starts_with(begins));
                is_inside &= !line.starts_with("<!-- end of ");
                marker = line;
            } else if line.starts_with("```sh") {
                let says = ["<!-- not run: ", "<!-- run by tests/"];
                let says = says.iter().any(|says| marker.starts_with(says));
                assert!(is_inside || says, "{page}: nothing runs the block below {marker:?}");
                run += usize::from(is_inside);
                marker = "";
            } else if line.starts_with("```") || line.starts_with('#') {
                assert!(!line.starts_with("```console"), "{page}: prompts cannot be pasted");
                marker = "";
            }
        }
        assert!(!is_inside, "{page}: a region without an end");
    }
    assert!(run >= 40, "{run}");
}

/// Lines and counts of crates in docs/threat-model.md are of the versions that the lock file holds.
#[test]
fn the_dependencies_are_those_of_the_lock_file() {
    let security = read("docs/threat-model.md");
    let lock = read("Cargo.lock");
    let tree = section(&security, "## Dependencies");
    let tree = tree.split("```").nth(1).expect("a tree");
    let mut seen = BTreeSet::new();
    for line in tree.lines().skip(2).filter(|line| !line.is_empty()) {
        let (name, version) =
            line.trim_start_matches(['│', '├', '└', '─', ' ']).split_once(" v").expect("a crate");
        let version = version.trim_end_matches(" (*)");
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(
            lock.contains(&locked),
            "docs/threat-model.md has {name} {version}, the lock file does not"
        );
        assert!(
            security.contains(&format!("`{name}`")),
            "docs/threat-model.md does not say what {name} is for"
        );
        seen.insert(name);
    }
    let direct = read("Cargo.toml");
    let direct = direct.split("\n[dependencies]\n").nth(1).and_then(|r| r.split("\n\n").next());
    for line in direct.expect("dependencies").lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(" =").next().unwrap_or("");
        assert!(seen.contains(name), "docs/threat-model.md's tree lacks {name}");
    }
}
