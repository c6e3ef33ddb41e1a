//! The configuration, all of it from the environment (design section 12).
//!
//! Each value is judged by the table of settings; what follows is what one setting means for another. Everything wrong
//! is found at start and reported at once. Nothing here changes later.

mod paths;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::paths::{Places, mounts, read_public_file};
use self::settings::{DEFAULT_STORE, listed, nearest};
use crate::core::approval::keys::Keyring;
use crate::core::caller::Caller;
use crate::core::hash::{Hash, sha256};
use crate::core::json::strict;
use crate::core::limits::{
    JSON_VALUES_MAX, POLICY_BYTES_MAX, RECORD_DEPTH_MAX, SMALL_FILE_BYTES_MAX,
};
use crate::core::proposal::{ApprovalPolicy, Policy};
use crate::core::time::Time;
use crate::evidence::guard::Guard;
use crate::evidence::key::LogKey;
use crate::executor::lines::policy_line;
use crate::handlers::{Handler, Settings, check_registry, declared, find};
use crate::serve::callers::{self, Tokens};
use crate::serve::gate::listen::ListenAddress;
use crate::serve::keys;
use crate::sys::exit;
use crate::sys::journal::Level;
use crate::sys::limits::{ACTIONS_FILE_BYTES_MAX, CALLERS_FILE_BYTES_MAX};

pub use self::settings::{Environment, Kind, SETTINGS, Setting, environment};

/// Exactly one is the source of keys.
const KEYS: [&str; 3] =
    ["CLAWSHIELD_PUBLIC_KEY", "CLAWSHIELD_PUBLIC_KEY_FILE", "OPENEXEC_KEYS_FILE"];

pub struct Config {
    pub policy: Policy,
    /// Of the policy's callers.
    pub tokens: Option<Tokens>,
    pub store: PathBuf,
    /// The checkpoint file, and the log's key.
    pub guard: Option<Guard>,
    /// At least one.
    pub listen: Vec<ListenAddress>,
    /// Whether it may listen where other hosts can reach it.
    pub may_be_exposed: bool,
    pub allowed_hosts: Vec<String>,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub log: Level,
    /// Sentences for the operator that do not keep it from starting.
    pub warnings: Vec<String>,
}

/// What is wrong with the configuration: a sentence each, with what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

/// Only where the store is: for commands that need nothing else.
pub fn store_path(environment: &Environment) -> Result<PathBuf, Problems> {
    let url = environment.get("OPENEXEC_DB_URL").map_or(DEFAULT_STORE, String::as_str);
    paths::store(url).map_err(|why| Problems(vec![format!("OPENEXEC_DB_URL: {why}")]))
}

/// Reads all of it.
pub fn read(environment: &Environment, handlers: &'static [Handler]) -> Result<Config, Problems> {
    let mut reader = Reader::judged(environment, handlers);
    let actions_file = reader.declared();
    let settings = Settings {
        outbox_dir: reader.path("OPENEXEC_OUTBOX_DIR"),
        files_dir: reader.path("OPENEXEC_FILES_DIR"),
        actions: reader.handlers.iter().map(|handler| handler.action).collect(),
    };
    let approvals = reader.approvals();
    let allowed_actions = reader.allowed_actions(&settings);
    let (callers, tokens) = reader.callers(approvals.as_ref()).unzip();
    let guard = reader.guard(approvals.as_ref());
    let is_demo = reader.get("OPENEXEC_MODE") == Some("demo");
    let may_be_exposed = !is_demo || reader.get("OPENEXEC_ALLOW_EXPOSED_DEMO").is_some();
    let listen = reader.listen(may_be_exposed);
    reader.paths_apart();
    let log = match reader.get("OPENEXEC_LOG") {
        Some("off") => Level::Off,
        Some("error") => Level::Error,
        _ => Level::Info,
    };
    let policy = Policy {
        handlers: reader.handlers,
        actions_file,
        settings,
        allowed_actions,
        callers,
        approvals,
    };
    let line = policy_line(&policy, Time::default());
    let bytes = line.len();
    // What a start records an audit must read.
    if bytes > POLICY_BYTES_MAX || strict::read(line.as_bytes(), RECORD_DEPTH_MAX).is_err() {
        reader.problems.push(format!(
            "keys, callers and allowed actions take {bytes} bytes in a record, which may have \
             {POLICY_BYTES_MAX}, and {JSON_VALUES_MAX} values, an object as 16; configure fewer"
        ));
    }
    if !reader.problems.is_empty() {
        // What is missing may be there under a name that is misspelt.
        let warnings = reader.warnings.iter().map(|text| format!("warning: {text}"));
        return Err(Problems(reader.problems.into_iter().chain(warnings).collect()));
    }
    if runs_as_root() {
        reader.warnings.push("running as root; give the service a user of its own".to_owned());
    }
    Ok(Config {
        policy,
        tokens,
        store: paths::store(reader.get("OPENEXEC_DB_URL").unwrap_or_default()).unwrap_or_default(),
        guard,
        listen,
        may_be_exposed,
        allowed_hosts: reader.list("OPENEXEC_ALLOWED_HOSTS").unwrap_or_default(),
        body_bytes_max: reader.number("OPENEXEC_MAX_BODY_BYTES").unwrap_or_default(),
        connections_max: reader.number("OPENEXEC_MAX_CONNECTIONS").unwrap_or_default(),
        log,
        warnings: reader.warnings,
    })
}

struct Reader<'a> {
    environment: &'a Environment,
    handlers: &'static [Handler],
    /// What the settings say, less what is wrong.
    values: BTreeMap<&'static str, &'a str>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Takes each setting for itself.
    fn judged(environment: &'a Environment, handlers: &'static [Handler]) -> Self {
        let mut reader = Reader {
            environment,
            handlers,
            values: BTreeMap::new(),
            problems: check_registry(handlers).iter().map(ToString::to_string).collect(),
            warnings: Vec::new(),
        };
        for setting in SETTINGS {
            reader.judge(setting);
        }
        for name in environment.keys().filter(|name| nearest(name) != **name) {
            reader.unknown(name);
        }
        reader
    }

    fn judge(&mut self, setting: &Setting) {
        let (name, Some(text)) = (setting.name, setting.text(self.environment)) else { return };
        match (setting.is_for_approvals, self.get("OPENEXEC_MODE")) {
            (true, Some("demo")) if self.environment.contains_key(name) => self.not_in_demo(name),
            // Where the mode is wrong, nobody knows what else is.
            (true, Some("demo") | None) => {}
            _ => match setting.kind.judge(text) {
                Ok(()) => drop(self.values.insert(name, text)),
                Err(why) => self.problem(format!("{name}: {why}")),
            },
        }
    }

    fn unknown(&mut self, name: &str) {
        if name.starts_with("CLAWSHIELD_") && self.get("OPENEXEC_MODE") == Some("demo") {
            self.not_in_demo(name);
        }
        let nearest = nearest(name);
        let text = format!("{name} is not a setting and is ignored; the nearest is {nearest}");
        self.warnings.push(text);
    }

    fn not_in_demo(&mut self, name: &str) {
        self.problem(format!(
            "{name} is set in demo mode, where nothing is checked; set OPENEXEC_MODE=clawshield, or unset it"
        ));
    }

    /// What the setting says; `None` where nothing does, and where it is wrong, which has been said.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    fn list(&self, name: &str) -> Option<Vec<String>> {
        Some(listed(self.get(name)?).map(str::to_owned).collect())
    }

    /// Right or wrong.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.environment.get(name).map(PathBuf::from)
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// `None` for demo mode, or where something is wrong.
    fn approvals(&mut self) -> Option<ApprovalPolicy> {
        if self.get("OPENEXEC_MODE") != Some("clawshield") {
            return None;
        }
        if self.path("CLAWSHIELD_TENANT_ID").is_none() {
            self.problem("CLAWSHIELD_TENANT_ID is required in clawshield mode; set it");
        }
        Some(ApprovalPolicy {
            tenant: self.get("CLAWSHIELD_TENANT_ID").unwrap_or_default().to_owned(),
            keyring: self.keyring()?,
            ttl_max_seconds: self.number("OPENEXEC_MAX_APPROVAL_TTL_SECONDS"),
            pending_ttl_seconds: self.number("OPENEXEC_PENDING_TTL_SECONDS").unwrap_or_default(),
            directory: self.path("OPENEXEC_APPROVALS_DIR"),
        })
    }

    fn keyring(&mut self) -> Option<Keyring> {
        let given: Vec<&str> = KEYS.into_iter().filter(|name| self.get(name).is_some()).collect();
        let [name] = given[..] else {
            let (names, count) = (KEYS.join(", "), given.len());
            self.problem(format!("clawshield mode needs exactly one of {names}; {count} are set"));
            return None;
        };
        let value = self.get(name)?;
        let keyring = match name {
            "CLAWSHIELD_PUBLIC_KEY" => keys::from_text(value),
            _ => read_keys(Path::new(value), |_| name == "OPENEXEC_KEYS_FILE"),
        };
        let keyring = keyring.map_err(|error| self.problem(format!("{name}: {error}"))).ok()?;
        let handlers = self.handlers;
        let is_unregistered = |action: &&str| find(handlers, action).is_none();
        // A misspelt name leaves the action it was meant for with a lower threshold.
        for action in keyring.actions_with_thresholds().filter(is_unregistered) {
            self.problem(format!("{name}: \"required\" names {}", self.unregistered(action)));
        }
        // Here it takes a right away, and the file may serve other hosts too.
        for action in keyring.actions_of_keys().filter(is_unregistered) {
            let text = format!("{name}: \"actions\" names {}", self.unregistered(action));
            self.warnings.push(text);
        }
        Some(keyring)
    }

    /// Adds the actions of the file, of which it returns the hash.
    fn declared(&mut self) -> Option<Hash> {
        const NAME: &str = "OPENEXEC_ACTIONS_FILE";
        let file = self.get(NAME)?;
        let text = read_public_file(Path::new(file), ACTIONS_FILE_BYTES_MAX);
        let text = text.map_err(|error| self.problem(format!("{NAME}: {error}"))).ok()?;
        match declared::with(self.handlers, &text) {
            Ok(handlers) => self.handlers = handlers,
            Err(faults) => {
                let faults = faults.iter().map(|fault| format!("{NAME}: {file}: {fault}"));
                self.problems.extend(faults);
            }
        }
        Some(sha256(&[text.as_bytes()]))
    }

    fn unregistered(&self, action: &str) -> String {
        let known: Vec<&str> = self.handlers.iter().map(|handler| handler.action).collect();
        format!("{action:?}, which is not registered; the actions are {}", known.join(", "))
    }

    fn allowed_actions(&mut self, settings: &Settings) -> Option<Vec<String>> {
        let names = self.list("OPENEXEC_ALLOWED_ACTIONS")?;
        for name in &names {
            let why = match find(self.handlers, name).map(|handler| (handler.offered)(settings)) {
                Some(Ok(())) => continue,
                None => self.unregistered(name),
                Some(Err(missing)) => format!("{name:?}, which is not configured: {missing}"),
            };
            self.problem(format!("OPENEXEC_ALLOWED_ACTIONS names {why}"));
        }
        Some(names)
    }

    /// `None` where nobody is asked who calls, or where something is wrong.
    fn callers(
        &mut self,
        approvals: Option<&ApprovalPolicy>,
    ) -> Option<(Vec<Arc<Caller>>, Tokens)> {
        const NAME: &str = "OPENEXEC_CALLERS_FILE";
        let text = read_public_file(Path::new(self.get(NAME)?), CALLERS_FILE_BYTES_MAX);
        let read = text.and_then(|text| callers::read(&text));
        let (callers, tokens) = read.map_err(|why| self.problem(format!("{NAME}: {why}"))).ok()?;
        // A misspelt name would take a right away.
        for caller in &callers {
            for action in caller.actions.iter().flatten() {
                if find(self.handlers, action).is_none() {
                    let (name, unknown) = (&caller.name, self.unregistered(action));
                    self.problem(format!("{NAME}: \"actions\" of {name:?} names {unknown}"));
                }
            }
        }
        let with_persons = approvals.is_some_and(|a| a.keyring.keys()[0].person().is_some());
        if with_persons && let Some(caller) = callers.iter().find(|c| c.person.is_none()) {
            let name = &caller.name;
            self.problem(format!(
                "{NAME}: keys have a \"person\" and {name:?} has none; give it one"
            ));
        }
        Some((callers, tokens))
    }

    fn guard(&mut self, approvals: Option<&ApprovalPolicy>) -> Option<Guard> {
        let key = self.log_key(approvals);
        let path = self.path("OPENEXEC_CHECKPOINT_FILE");
        if path.is_none() && self.get("OPENEXEC_LOG_KEY_FILE").is_some() {
            self.problem(
                "OPENEXEC_CHECKPOINT_FILE is required with OPENEXEC_LOG_KEY_FILE: a key must never sign two \
                 histories; set it, best to a file on other storage",
            );
        }
        Some(Guard { path: path?, key })
    }

    /// The log's key and name: both or neither.
    fn log_key(&mut self, approvals: Option<&ApprovalPolicy>) -> Option<LogKey> {
        let names = ["OPENEXEC_LOG_KEY_FILE", "OPENEXEC_LOG_ORIGIN"];
        let [file, origin] = names.map(|name| self.environment.contains_key(name));
        if file != origin {
            self.problem(format!("{} and {} need one another", names[0], names[1]));
        }
        let [Some(file), Some(origin)] = names.map(|name| self.get(name)) else { return None };
        let mut approvers = approvals.iter().flat_map(|approvals| approvals.keyring.keys());
        let wrong = match LogKey::read(Path::new(file), origin) {
            Ok(key) if !approvers.any(|own| own.public_key() == key.verifier().key()) => {
                return Some(key);
            }
            Ok(_) => {
                "it is the private key of an approver, which this host must not have; remove it from here \
                 and make another"
                    .to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.problem(format!("{}: {wrong}", names[0]));
        None
    }

    fn listen(&mut self, may_be_exposed: bool) -> Vec<ListenAddress> {
        let text = self.get("OPENEXEC_LISTEN").unwrap_or_default();
        let addresses = ListenAddress::parse(text).unwrap_or_default();
        for address in addresses.iter().filter(|address| address.is_exposed() && !may_be_exposed) {
            self.problem(exposed_demo(&address.to_string()));
        }
        addresses
    }

    /// No one of the paths may lie within another: a handler that writes files must not reach the
    /// store.
    fn paths_apart(&mut self) {
        let mut paths = Vec::new();
        for setting in SETTINGS {
            let text = setting.text(self.environment).filter(|text| !text.is_empty());
            let own = text.map(|text| setting.kind.paths(text)).unwrap_or_default();
            paths.extend(own.iter().map(|path| (setting.name, Places::of(path))));
        }
        let mounts = mounts();
        // Of a setting with several paths it is said once.
        let mut said = BTreeSet::new();
        for (name, path) in &paths {
            for (other, above) in paths.iter().filter(|(other, _)| other != name) {
                let within = |path: &Places, above: &Places| path.lie_within(above, &mounts);
                if within(path, above) && (name < other || !within(above, path)) {
                    let above = above.end().display();
                    said.insert(format!("{name} lies within {other} ({above}); keep them apart"));
                }
            }
        }
        self.problems.extend(said);
    }
}

/// A file of keys: with names and thresholds, or public keys alone.
pub fn read_keys(path: &Path, has_names: impl Fn(&str) -> bool) -> Result<Keyring, String> {
    let text = read_public_file(path, SMALL_FILE_BYTES_MAX)?;
    if has_names(&text) { keys::from_keys_file(&text) } else { keys::from_text(&text) }
}

/// Whether the process's user is root.
pub fn runs_as_root() -> bool {
    exit::user_id() == 0
}

/// Why demo mode does not listen at `address`.
pub fn exposed_demo(address: &str) -> String {
    format!(
        "demo mode checks no approvals and may listen only on loopback, not on {address}; set \
         OPENEXEC_MODE=clawshield, or OPENEXEC_ALLOW_EXPOSED_DEMO=yes if whoever can reach that \
         address may execute anything"
    )
}
