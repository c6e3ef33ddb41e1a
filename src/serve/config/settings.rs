//! The settings: one table, from which what is taken, the help, the documents and the warnings follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Problems, paths};
use crate::evidence::note::is_key_name;
use crate::serve::gate::listen::ListenAddress;
use crate::sys::exit::Failure;
use crate::sys::limits::BODY_BYTES_MAX;

pub(super) const DEFAULT_STORE: &str = "file:openexec-data";

pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// What stands where it is not set; empty where nothing does.
    pub default: &'static str,
    /// Set in demo mode it says that clawshield mode was meant: a lost environment file must not open everything.
    pub is_for_approvals: bool,
    /// For people; what the kind says of the value is added.
    pub meaning: &'static str,
}

/// What a value is.
pub enum Kind {
    /// One of these.
    Word(&'static [&'static str]),
    /// A whole number, from the one to the other.
    Number(u64, u64),
    /// Of one character or more, none of them a control character.
    Text,
    /// PEM blocks and OpenSSH lines.
    Pem,
    /// With commas; at least one.
    Actions,
    /// With commas.
    Hosts,
    /// `file:` and the path of a directory.
    Store,
    Addresses,
    /// It is there, and may be searched.
    Directory,
    /// It is read where it is used.
    File,
    /// Its directory is there, and the service replaces it.
    Replaced,
    /// The name of a log.
    LogName,
}

use self::Kind::*;

const TTL_SECONDS: Kind = Number(1, u32::MAX as u64);
const PENDING_TTL: &str = "when a proposal expires that nobody has decided";
const BODY_BYTES: Kind = Number(1024, BODY_BYTES_MAX as u64);

const fn both(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { name, kind, default, is_for_approvals: false, meaning }
}

const fn approvals(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, kind, default: "", is_for_approvals: true, meaning }
}

/// Every name that is read. The mode comes first: it says what the others mean.
pub const SETTINGS: &[Setting] = &[
    both("OPENEXEC_MODE", Word(&["demo", "clawshield"]), "demo", "whether approvals are checked"),
    approvals("CLAWSHIELD_PUBLIC_KEY", Pem, "PEM or OpenSSH public keys; newlines or \\n"),
    approvals("CLAWSHIELD_PUBLIC_KEY_FILE", File, "a file of them"),
    approvals("OPENEXEC_KEYS_FILE", File, "keys with names, and how many an action needs"),
    approvals("CLAWSHIELD_TENANT_ID", Text, "the tenant that approvals must be for"),
    approvals("OPENEXEC_APPROVALS_DIR", Directory, "where approvers leave approvals; only read"),
    approvals("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", TTL_SECONDS, "longest life of approvals"),
    Setting {
        default: "86400",
        ..approvals("OPENEXEC_PENDING_TTL_SECONDS", TTL_SECONDS, PENDING_TTL)
    },
    both("OPENEXEC_CALLERS_FILE", File, "", "who may call, by the hash of a token"),
    both("OPENEXEC_ALLOWED_ACTIONS", Actions, "", "comma-separated names; unset: all"),
    both("OPENEXEC_ACTIONS_FILE", File, "", "actions that leave jobs, declared in JSON"),
    both("OPENEXEC_DB_URL", Store, DEFAULT_STORE, "the store: file:relative or file:/absolute"),
    both("OPENEXEC_LISTEN", Addresses, "loopback:5000", "IP:PORT, unix:/path, loopback:PORT"),
    both("OPENEXEC_ALLOWED_HOSTS", Hosts, "", "comma-separated Host names beside addresses"),
    both("OPENEXEC_ALLOW_EXPOSED_DEMO", Word(&["yes"]), "", "lets demo mode leave loopback"),
    both("OPENEXEC_OUTBOX_DIR", Directory, "", "where jobs for an operator's workers are left"),
    both("OPENEXEC_FILES_DIR", Directory, "", "below which files may be written and deleted"),
    both("OPENEXEC_CHECKPOINT_FILE", Replaced, "", "how far the log has come, on other storage"),
    both("OPENEXEC_LOG_KEY_FILE", File, "", "the PEM private key that signs checkpoints alone"),
    both("OPENEXEC_LOG_ORIGIN", LogName, "", "the log's name in them, as example.com/log"),
    both("OPENEXEC_MAX_BODY_BYTES", BODY_BYTES, "1048576", "the largest request body"),
    both("OPENEXEC_MAX_CONNECTIONS", Number(2, 4096), "128", "open connections"),
    both("OPENEXEC_LOG", Word(&["off", "error", "info"]), "info", "what the journal has"),
];

/// What the client for Python, `openexec-postgres` and the quickstart read: known, and no settings of this program.
const OF_OTHERS: &str = "OPENEXEC_URL OPENEXEC_TOKEN OPENEXEC_TOKEN_FILE OPENEXEC_CA_FILE \
     OPENEXEC_DB_PASSWORD_FILE OPENEXEC_ACCEPT_LOST_COMMITS OPENEXEC_APPROVE";

impl Setting {
    /// Its line of help: what it means, what it takes and what stands where it is not set.
    pub fn help(&self) -> String {
        let takes = match self.kind {
            Word(words) => format!(": {}", words.join(" or ")),
            Number(least, most) => format!(", {least} to {most}"),
            _ => String::new(),
        };
        let default = match self.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        format!("{}{takes}{default}", self.meaning)
    }

    /// What it says in this environment: the default where it is not set.
    pub(super) fn text<'a>(&self, environment: &'a Environment) -> Option<&'a str> {
        let given = environment.get(self.name).map(String::as_str);
        given.or(Some(self.default).filter(|default| !default.is_empty()))
    }
}

impl Kind {
    /// Why this is no such value, and what to do.
    pub(super) fn judge(&self, text: &str) -> Result<(), String> {
        let is_one = match self {
            Pem | File => true,
            Word(words) => words.contains(&text),
            Number(least, most) => {
                text.parse().is_ok_and(|number| (*least..=*most).contains(&number))
            }
            Text => !text.is_empty() && !text.chars().any(char::is_control),
            Actions => listed(text).next().is_some(),
            Hosts => listed(text).all(is_host),
            LogName => is_key_name(text),
            Replaced => paths::is_replaceable(Path::new(text)),
            Store => return paths::store(text).map(drop),
            Addresses => return ListenAddress::parse(text).map(drop),
            Directory if text.is_empty() => false,
            // Through it: a directory that may not be searched is no better than none.
            Directory => {
                let unusable = |error| Failure::unusable(Path::new(text), &error).to_string();
                return Path::new(text).join(".").metadata().map(drop).map_err(unusable);
            }
        };
        if is_one { Ok(()) } else { Err(self.wanted()) }
    }

    fn wanted(&self) -> String {
        let wanted = match self {
            Word(words) => return format!("must be {}", words.join(" or ")),
            Number(least, most) => return format!("must be a whole number from {least} to {most}"),
            Actions => "names no action; name some, or unset it to allow all",
            Hosts => "must be host names with commas, without scheme and port",
            LogName => "must be 1 to 256 bytes without white space and plus, as example.com/log",
            Replaced => "is no file in a directory that is there; mount its volume, or make it",
            _ => "must be text, not empty, without control characters",
        };
        wanted.to_owned()
    }

    /// The paths that are the service's own by such a value.
    pub(super) fn paths(&self, text: &str) -> Vec<PathBuf> {
        match self {
            Store => paths::store(text).into_iter().collect(),
            Directory | File => vec![text.into()],
            Replaced => {
                vec![text.into(), format!("{text}{}", crate::store::segment::TEMPORARY).into()]
            }
            Addresses => {
                let addresses = ListenAddress::parse(text).unwrap_or_default();
                let socket = |address| match address {
                    ListenAddress::Unix(path) => Some(path),
                    _ => None,
                };
                addresses.into_iter().filter_map(socket).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The names of a comma-separated list.
pub(super) fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn is_host(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

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

/// The name that was perhaps meant; itself where it is known.
pub(super) fn nearest(name: &str) -> &'static str {
    let known = SETTINGS.iter().map(|setting| setting.name).chain(OF_OTHERS.split(' '));
    known.min_by_key(|known| distance(known, name)).unwrap_or("")
}

/// How many letters to add and to take away; so `OPENEXEC_LOG_LEVEL` is nearer to `OPENEXEC_LOG` than to a name with
/// as many other letters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cheapest = if x == y { diagonal } else { 1 + row[j].min(row[j + 1]) };
            diagonal = row[j + 1];
            row[j + 1] = cheapest;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::limits::{CONNECTIONS_MAX, PENDING_TTL_SECONDS};

    #[test]
    fn defaults_are_values_of_their_kind_and_those_of_the_limits() {
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            assert_eq!(setting.kind.judge(setting.default), Ok(()), "{}", setting.name);
        }
        let default =
            |name| SETTINGS.iter().find(|setting| setting.name == name).map(|s| s.default);
        assert_eq!(default("OPENEXEC_MAX_BODY_BYTES"), Some(&*BODY_BYTES_MAX.to_string()));
        assert_eq!(
            default("OPENEXEC_PENDING_TTL_SECONDS"),
            Some(&*PENDING_TTL_SECONDS.to_string())
        );
        assert_eq!(default("OPENEXEC_MAX_CONNECTIONS"), Some(&*CONNECTIONS_MAX.to_string()));
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        for (given, meant) in [
            ("OPENEXEC_LOG_LEVEL", "OPENEXEC_LOG"),
            ("OPENEXEC_ALLOWED_ACTION", "OPENEXEC_ALLOWED_ACTIONS"),
            ("OPENEXEC_KEY_FILE", "OPENEXEC_KEYS_FILE"),
            ("OPENEXEC_LOGKEY_FILE", "OPENEXEC_LOG_KEY_FILE"),
            ("CLAWSHIELD_TENANT", "CLAWSHIELD_TENANT_ID"),
            ("OPENEXEC_DATABASE_URL", "OPENEXEC_DB_URL"),
        ] {
            assert_eq!(nearest(given), meant, "{given}");
        }
    }

    #[test]
    fn every_kind_refuses_something_and_says_what_it_wants() {
        let long = "x".repeat(300);
        for (kind, wrong) in [
            (Word(&["a", "b"]), ["", "A", "a ", "a,b"]),
            (Number(2, 10), ["", "1", "11", "-3"]),
            (Number(2, 10), ["2.0", " 3", "99999999999999999999", "x"]),
            (Text, ["", "a\nb", "\0", "a\u{7f}"]),
            (Actions, ["", ",", " ", " , ,"]),
            (Hosts, ["http://x", "x:1", "a b", "x,é"]),
            (LogName, ["", "a b", "a+b", &long]),
            (Replaced, ["/", "", "/nowhere/at/all", "/proc/.."]),
            (Store, ["", "x", "file:", "file://h/x"]),
            (Addresses, ["", "x", "localhost:1", "unix:x"]),
            (Directory, ["/nowhere", "", "/proc/version", "/nowhere/.."]),
        ] {
            for text in wrong {
                let why = kind.judge(text).expect_err(text);
                assert!(!why.is_empty(), "{text}");
            }
        }
    }
}
