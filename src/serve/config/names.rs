//! The names of the settings, and what the environment has of them.

use std::collections::BTreeMap;

use super::Problems;

/// Every name that is read, with its default as shown to people, and its meaning.
pub const NAMES: &[(&str, &str, &str)] = &[
    ("OPENEXEC_MODE", "demo", "demo or clawshield"),
    ("CLAWSHIELD_PUBLIC_KEY", "", "PEM public keys that may approve; real newlines or \\n"),
    ("CLAWSHIELD_PUBLIC_KEY_FILE", "", "a file of them"),
    ("OPENEXEC_KEYS_FILE", "", "keys with names, actions and periods; how many an action needs"),
    ("CLAWSHIELD_TENANT_ID", "", "the tenant that approvals must be for"),
    ("OPENEXEC_APPROVALS_DIR", "", "where approvers leave approvals; only read"),
    ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "", "refuse approvals that live longer"),
    ("OPENEXEC_ALLOWED_ACTIONS", "all", "comma-separated names"),
    ("OPENEXEC_DB_URL", "file:openexec-data", "the store: file:relative or file:/absolute"),
    (
        "OPENEXEC_LISTEN",
        "loopback:5000",
        "IP:PORT, unix:/path, loopback:PORT, with commas; or stdin",
    ),
    ("OPENEXEC_ALLOWED_HOSTS", "", "comma-separated Host names beside localhost and addresses"),
    ("OPENEXEC_ALLOW_EXPOSED_DEMO", "", "yes lets demo mode listen beyond loopback"),
    ("OPENEXEC_OUTBOX_DIR", "", "where jobs for an operator's workers are left"),
    ("OPENEXEC_FILES_DIR", "", "below which files may be written and deleted"),
    ("OPENEXEC_CHECKPOINT_FILE", "", "how far the log has come; a store behind it is refused"),
    ("OPENEXEC_LOG_KEY_FILE", "", "the PEM private key that signs checkpoints; approves nothing"),
    ("OPENEXEC_LOG_ORIGIN", "", "the log's name in its checkpoints, as example.com/log"),
    ("OPENEXEC_MAX_BODY_BYTES", "1048576", "the largest request body, 1024 to 1048576"),
    ("OPENEXEC_MAX_CONNECTIONS", "128", "open connections, 2 to 4096"),
    ("OPENEXEC_LOG", "info", "off, error or info"),
];

/// The environment, as far as it is read. A parameter so that tests need not change their own.
pub type Environment = BTreeMap<String, String>;

/// The names of ours in the process's environment. A value that is not UTF-8 is a problem.
pub fn environment() -> Result<Environment, Problems> {
    let mut environment = Environment::new();
    let mut problems = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
        match value.into_string() {
            Ok(value) => drop(environment.insert(name.to_owned(), value)),
            Err(_) => problems.push(format!("{name} is not UTF-8; write it anew")),
        }
    }
    if problems.is_empty() { Ok(environment) } else { Err(Problems(problems)) }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("OPENEXEC_") || name.starts_with("CLAWSHIELD_")
}

/// The setting that was perhaps meant.
pub(super) fn nearest(name: &str) -> &'static str {
    let known = NAMES.iter().map(|(known, _, _)| *known);
    known.min_by_key(|known| distance(known, name)).unwrap_or("")
}

/// Levenshtein's distance, for names that are nearly ours.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
