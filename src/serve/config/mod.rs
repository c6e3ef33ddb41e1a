//! The configuration, all of it from the environment (design section 12).
//!
//! Everything wrong is found at start and reported at once. Nothing here changes later.

mod names;
mod paths;

use std::path::{Path, PathBuf};

use self::names::nearest;
use self::paths::Places;
use crate::core::approval::keys::Keyring;
use crate::core::limits::{BODY_BYTES_MAX, CONNECTIONS_MAX};
use crate::core::proposal::{ApprovalPolicy, Policy};
use crate::evidence::guard::Guard;
use crate::evidence::key::LogKey;
use crate::evidence::note::is_key_name;
use crate::handlers::{Handler, Settings, check_registry, find};
use crate::serve::gate::listen::ListenAddress;
use crate::sys::exit;
use crate::sys::journal::Level;

pub use self::names::{Environment, NAMES, environment};
pub use self::paths::{read_public_file, store_path};

const DEFAULT_LISTEN: &str = "loopback:5000";
const BODY_BYTES_MIN: usize = 1024;
const CONNECTIONS_MIN: usize = 2;
const CONNECTIONS_CEILING: usize = 4096;

pub struct Config {
    pub policy: Policy,
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

/// Reads all of it. `listen` overrides `OPENEXEC_LISTEN`.
pub fn read(
    environment: &Environment,
    listen: Option<&str>,
    handlers: &'static [Handler],
) -> Result<Config, Problems> {
    let mut reader = Reader {
        environment,
        handlers,
        problems: Vec::new(),
        misspelt: Vec::new(),
        warnings: Vec::new(),
    };
    for error in check_registry(handlers) {
        reader.problems.push(error.to_string());
    }
    let settings = Settings {
        outbox_dir: reader.directory("OPENEXEC_OUTBOX_DIR"),
        files_dir: reader.directory("OPENEXEC_FILES_DIR"),
    };
    let approvals = reader.mode();
    let allowed_actions = reader.allowed_actions(&settings);
    let is_demo = reader.get("OPENEXEC_MODE").unwrap_or("demo") == "demo";
    let policy = Policy { handlers, settings, allowed_actions, approvals };
    let store = reader.store();
    let guard = reader.guard(policy.approvals.as_ref());
    let may_be_exposed = reader.exposed_demo() || !is_demo;
    let listen = reader.listen(listen, may_be_exposed);
    reader.paths_apart(&store, &policy.settings, listen.as_deref().unwrap_or_default());
    let allowed_hosts = reader.allowed_hosts();
    let body_bytes_max =
        reader.number("OPENEXEC_MAX_BODY_BYTES", BODY_BYTES_MIN, BODY_BYTES_MAX, BODY_BYTES_MAX);
    let connections_max = reader.number(
        "OPENEXEC_MAX_CONNECTIONS",
        CONNECTIONS_MIN,
        CONNECTIONS_CEILING,
        CONNECTIONS_MAX,
    );
    let log = reader.log();
    reader.unknown_names();
    reader.root();
    match listen {
        Some(listen) if reader.problems.is_empty() => Ok(Config {
            policy,
            store,
            guard,
            listen,
            may_be_exposed,
            allowed_hosts,
            body_bytes_max,
            connections_max,
            log,
            warnings: reader.warnings,
        }),
        // What is missing may be there under a name that is misspelt.
        _ => Err(Problems([reader.problems, reader.misspelt].concat())),
    }
}

struct Reader<'a> {
    environment: &'a Environment,
    handlers: &'static [Handler],
    problems: Vec<String>,
    /// Of the warnings, those about names that are no settings.
    misspelt: Vec<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// `None` for demo mode, or where something is wrong.
    fn mode(&mut self) -> Option<ApprovalPolicy> {
        match self.get("OPENEXEC_MODE").unwrap_or("demo") {
            "demo" => {
                self.demo_settings();
                None
            }
            "clawshield" => self.approvals(),
            other => {
                let text = format!("OPENEXEC_MODE is {other:?}; set it to demo or clawshield");
                self.problem(text);
                None
            }
        }
    }

    /// A lost environment file must not open everything: what only clawshield mode reads says that
    /// clawshield mode was meant.
    fn demo_settings(&mut self) {
        let meant: Vec<String> = self
            .environment
            .keys()
            .filter(|name| {
                name.starts_with("CLAWSHIELD_")
                    || matches!(
                        name.as_str(),
                        "OPENEXEC_APPROVALS_DIR"
                            | "OPENEXEC_KEYS_FILE"
                            | "OPENEXEC_MAX_APPROVAL_TTL_SECONDS"
                    )
            })
            .cloned()
            .collect();
        for name in meant {
            self.problem(format!(
                "{name} is set in demo mode, where nothing is checked; \
                 set OPENEXEC_MODE=clawshield, or unset it"
            ));
        }
    }

    fn approvals(&mut self) -> Option<ApprovalPolicy> {
        let tenant = self.get("CLAWSHIELD_TENANT_ID").unwrap_or("").to_owned();
        if tenant.is_empty() || tenant.chars().any(char::is_control) {
            self.problem("CLAWSHIELD_TENANT_ID is required in clawshield mode; set it");
        }
        let ttl_max_seconds = match self.get("OPENEXEC_MAX_APPROVAL_TTL_SECONDS") {
            None => None,
            Some(text) => match text.parse::<u64>() {
                Ok(seconds) if seconds > 0 && seconds <= u64::from(u32::MAX) => Some(seconds),
                _ => {
                    self.problem(
                        "OPENEXEC_MAX_APPROVAL_TTL_SECONDS must be whole seconds, 1 or more",
                    );
                    None
                }
            },
        };
        let directory = self.directory("OPENEXEC_APPROVALS_DIR");
        let keyring = self.keyring()?;
        Some(ApprovalPolicy { tenant, keyring, ttl_max_seconds, directory })
    }

    fn keyring(&mut self) -> Option<Keyring> {
        let sources = ["CLAWSHIELD_PUBLIC_KEY", "CLAWSHIELD_PUBLIC_KEY_FILE", "OPENEXEC_KEYS_FILE"];
        let given: Vec<(&str, String)> = sources
            .into_iter()
            .filter_map(|name| self.get(name).map(|value| (name, value.to_owned())))
            .collect();
        let [(name, value)] = &given[..] else {
            self.problem(format!(
                "clawshield mode needs exactly one of {}; {} are set",
                sources.join(", "),
                given.len()
            ));
            return None;
        };
        let text = if *name == "CLAWSHIELD_PUBLIC_KEY" {
            Ok(value.clone())
        } else {
            read_public_file(Path::new(value))
        };
        let keyring = text.and_then(|text| {
            let parsed = if *name == "OPENEXEC_KEYS_FILE" {
                Keyring::from_keys_file(&text)
            } else {
                Keyring::from_pem(&text)
            };
            parsed.map_err(|error| error.to_string())
        });
        let keyring = match keyring {
            Ok(keyring) => keyring,
            Err(error) => {
                self.problem(format!("{name}: {error}"));
                return None;
            }
        };
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

    fn unregistered(&self, action: &str) -> String {
        let known: Vec<&str> = self.handlers.iter().map(|handler| handler.action).collect();
        format!("{action:?}, which is not registered; the actions are {}", known.join(", "))
    }

    fn allowed_actions(&mut self, settings: &Settings) -> Option<Vec<String>> {
        let names = listed(self.get("OPENEXEC_ALLOWED_ACTIONS")?);
        if names.is_empty() {
            self.problem(
                "OPENEXEC_ALLOWED_ACTIONS is set but names no action; name some, or unset it to \
                 allow all",
            );
        }
        for name in &names {
            match find(self.handlers, name).map(|handler| (handler.offered)(settings)) {
                None => {
                    let what = self.unregistered(name);
                    self.problem(format!("OPENEXEC_ALLOWED_ACTIONS names {what}"));
                }
                Some(Err(missing)) => self.problem(format!(
                    "OPENEXEC_ALLOWED_ACTIONS names {name:?}, which is not configured: {missing}"
                )),
                Some(Ok(())) => {}
            }
        }
        Some(names)
    }

    fn store(&mut self) -> PathBuf {
        store_path(self.environment).unwrap_or_else(|Problems(problems)| {
            self.problems.extend(problems);
            PathBuf::new()
        })
    }

    fn guard(&mut self, approvals: Option<&ApprovalPolicy>) -> Option<Guard> {
        let key = self.log_key(approvals);
        let Some(path) = self.get("OPENEXEC_CHECKPOINT_FILE").map(PathBuf::from) else {
            if self.get("OPENEXEC_LOG_KEY_FILE").is_some() {
                self.problem(
                    "OPENEXEC_CHECKPOINT_FILE is required with OPENEXEC_LOG_KEY_FILE: a key must \
                     never sign two histories; set it, best to a file on other storage",
                );
            }
            return None;
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Replacing a link would leave a file on the storage of the link.
        let is_free = !path.is_dir() && !path.is_symlink();
        let has_place = parent.is_none_or(Path::is_dir) && is_free;
        if !has_place || path.file_name().is_none_or(|name| name.to_str().is_none()) {
            self.problem(format!(
                "OPENEXEC_CHECKPOINT_FILE: {} is no file in a directory that is there; mount its \
                 volume, or make the directory",
                path.display()
            ));
        }
        Some(Guard { path, key })
    }

    /// The log's key and name: both or neither.
    fn log_key(&mut self, approvals: Option<&ApprovalPolicy>) -> Option<LogKey> {
        let origin = self.get("OPENEXEC_LOG_ORIGIN").map(str::to_owned);
        let file = self.get("OPENEXEC_LOG_KEY_FILE").map(PathBuf::from);
        let (Some(origin), Some(file)) = (&origin, &file) else {
            if origin.is_some() != file.is_some() {
                self.problem("OPENEXEC_LOG_KEY_FILE and OPENEXEC_LOG_ORIGIN need one another");
            }
            return None;
        };
        if !is_key_name(origin) {
            self.problem(
                "OPENEXEC_LOG_ORIGIN must be 1 to 256 bytes without spaces, control characters \
                 and plus, such as example.com/log",
            );
            return None;
        }
        match LogKey::read(file, origin) {
            Ok(key) if approvals.is_some_and(|a| a.keyring.has(key.verifier().key())) => {
                self.problem(
                    "OPENEXEC_LOG_KEY_FILE is the private key of an approver, which this host must \
                     not have; remove it from here and make another",
                );
                None
            }
            Ok(key) => Some(key),
            Err(error) => {
                self.problem(format!("OPENEXEC_LOG_KEY_FILE: {error}"));
                None
            }
        }
    }

    fn directory(&mut self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        // Through it: a directory that may not be searched is no better than none.
        if let Err(error) = path.join(".").metadata() {
            let failure = exit::Failure::unusable(&path, &error);
            self.problem(format!("{name}: {failure}"));
        }
        Some(path)
    }

    /// No one of the paths may lie within another: a handler that writes files must not reach the
    /// store.
    fn paths_apart(&mut self, store: &Path, settings: &Settings, listen: &[ListenAddress]) {
        let sockets = listen.iter().filter_map(|address| match address {
            ListenAddress::Unix(path) => Some(("OPENEXEC_LISTEN", Some(path.as_path()))),
            _ => None,
        });
        let mut paths = Vec::new();
        for (name, path) in [
            // Empty where it could not be read, which has been said.
            ("OPENEXEC_DB_URL", Some(store).filter(|store| !store.as_os_str().is_empty())),
            ("OPENEXEC_OUTBOX_DIR", settings.outbox_dir.as_deref()),
            ("OPENEXEC_FILES_DIR", settings.files_dir.as_deref()),
            ("OPENEXEC_APPROVALS_DIR", self.get("OPENEXEC_APPROVALS_DIR").map(Path::new)),
            ("OPENEXEC_KEYS_FILE", self.get("OPENEXEC_KEYS_FILE").map(Path::new)),
            ("CLAWSHIELD_PUBLIC_KEY_FILE", self.get("CLAWSHIELD_PUBLIC_KEY_FILE").map(Path::new)),
            ("OPENEXEC_CHECKPOINT_FILE", self.get("OPENEXEC_CHECKPOINT_FILE").map(Path::new)),
            ("OPENEXEC_LOG_KEY_FILE", self.get("OPENEXEC_LOG_KEY_FILE").map(Path::new)),
        ]
        .into_iter()
        .chain(sockets)
        {
            paths.extend(path.map(|path| (name, Places::of(path))));
        }
        for (n, (name, path)) in paths.iter().enumerate() {
            for (other, above) in paths.iter().take(n).chain(&paths[n + 1..]) {
                if path.lie_within(above) && (name < other || !above.lie_within(path)) {
                    self.problems.push(format!(
                        "{name} lies within {other} ({}); keep them apart",
                        above.end().display()
                    ));
                }
            }
        }
    }

    /// Whether demo mode may be reached from other hosts.
    fn exposed_demo(&mut self) -> bool {
        match self.get("OPENEXEC_ALLOW_EXPOSED_DEMO") {
            None => false,
            Some("yes") => true,
            Some(_) => {
                self.problem("OPENEXEC_ALLOW_EXPOSED_DEMO can only be yes; or unset it");
                false
            }
        }
    }

    fn listen(
        &mut self,
        argument: Option<&str>,
        may_be_exposed: bool,
    ) -> Option<Vec<ListenAddress>> {
        let text = argument.or(self.get("OPENEXEC_LISTEN")).unwrap_or(DEFAULT_LISTEN);
        let addresses = match ListenAddress::parse(text) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.problem(format!("OPENEXEC_LISTEN: {error}"));
                return None;
            }
        };
        for address in addresses.iter().filter(|address| address.is_exposed() && !may_be_exposed) {
            self.problem(exposed_demo(&address.to_string()));
        }
        Some(addresses)
    }

    fn allowed_hosts(&mut self) -> Vec<String> {
        let names = listed(self.get("OPENEXEC_ALLOWED_HOSTS").unwrap_or(""));
        for name in &names {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            if !is_name {
                self.problem(format!(
                    "OPENEXEC_ALLOWED_HOSTS: {name:?} is not a host name; give names without \
                     scheme and port"
                ));
            }
        }
        names
    }

    fn number(&mut self, name: &str, least: usize, most: usize, default: usize) -> usize {
        let Some(text) = self.get(name) else { return default };
        match text.parse::<usize>() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.problem(format!("{name} must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn log(&mut self) -> Level {
        match self.get("OPENEXEC_LOG").unwrap_or("info") {
            "off" => Level::Off,
            "error" => Level::Error,
            "info" => Level::Info,
            _ => {
                self.problem("OPENEXEC_LOG must be off, error or info");
                Level::Info
            }
        }
    }

    fn unknown_names(&mut self) {
        for name in self.environment.keys() {
            if NAMES.iter().any(|(known, _, _)| known == name) {
                continue;
            }
            self.misspelt.push(format!(
                "{name} is not a setting and is ignored; the nearest is {}",
                nearest(name)
            ));
        }
        self.warnings.extend_from_slice(&self.misspelt);
    }

    fn root(&mut self) {
        if runs_as_root() {
            self.warnings.push("running as root; give the service a user of its own".to_owned());
        }
    }
}

/// Whether the process's user is root.
pub fn runs_as_root() -> bool {
    exit::user_id() == 0
}

/// The names of a comma-separated list.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Why demo mode does not listen at `address`.
pub fn exposed_demo(address: &str) -> String {
    format!(
        "demo mode checks no approvals and may listen only on loopback, not on {address}; set \
         OPENEXEC_MODE=clawshield, or OPENEXEC_ALLOW_EXPOSED_DEMO=yes if whoever can reach that \
         address may execute anything"
    )
}
