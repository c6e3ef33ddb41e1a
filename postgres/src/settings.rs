//! What this package adds to the settings, and the configuration and connection that come of them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use openexec::cli::refused;
use openexec::handlers::Handler;
use openexec::serve::config::{self, Config, Environment, Problems};
use openexec::sys::exit::{self, Failure};

use crate::address::{self, Address};
use crate::desk::Desk;
use crate::link::{Link, Way};
use crate::password::Password;
use crate::{outbox, place};

const URL: &str = "OPENEXEC_DB_URL";
const PASSWORD_FILE: &str = "OPENEXEC_DB_PASSWORD_FILE";
const OUTBOX: &str = "OPENEXEC_OUTBOX_DIR";
const LOST_COMMITS: &str = "OPENEXEC_ACCEPT_LOST_COMMITS";

/// What this package adds to the settings.
pub struct Own {
    address: Address,
    password: Password,
    pub may_lose: bool,
}

impl Own {
    /// Takes its settings out of the environment, so that the library reads the rest.
    fn take(environment: &mut Environment) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let url = environment.remove(URL).unwrap_or_default();
        let address = address::parse(&url);
        problems.extend(address.as_ref().err().map(|why| format!("{URL}: {why}")));
        let password = match (environment.remove(PASSWORD_FILE), std::env::var_os("PGPASSFILE")) {
            (Some(path), _) => Password::Alone(path.into()),
            (None, Some(path)) => Password::Table(path.into()),
            (None, None) => Password::None,
        };
        let may_lose = environment.remove(LOST_COMMITS);
        if may_lose.as_ref().is_some_and(|text| text != "yes") {
            problems.push(format!("{LOST_COMMITS}: must be yes"));
        }
        match address {
            Ok(address) if problems.is_empty() => {
                Ok(Own { address, password, may_lose: may_lose.is_some() })
            }
            _ => Err(Problems(problems)),
        }
    }

    pub fn read() -> Result<(Self, Environment), Failure> {
        let mut environment = config::environment().map_err(refused)?;
        let own = Own::take(&mut environment).map_err(refused)?;
        Ok((own, environment))
    }

    /// What leads to the database.
    ///
    /// # Errors
    /// The password or the certificates cannot be read.
    pub fn link(&self) -> Result<Link, Failure> {
        // Now, as every other setting; at a later connection it is waited for.
        for host in &self.address.hosts {
            let password = self.password.find(&self.address, host);
            password.map_err(|why| exit::configuration(format!("the password: {why}")))?;
        }
        let way = Way::new(self.address.clone(), self.password.clone());
        let way = way.map_err(|why| exit::configuration(format!("{URL}: sslrootcert: {why}")))?;
        Link::new(way).map_err(Failure::while_doing("waiting for sockets"))
    }

    /// Without anything secret.
    pub fn name(&self) -> String {
        let hosts: Vec<String> =
            self.address.hosts.iter().map(|host| format!("{}:{}", host.name, host.port)).collect();
        format!("postgresql {}@{}/{}", self.address.user, hosts.join(","), self.address.database)
    }
}

/// The whole configuration. For the library the store is the directory of what this process needs on its host.
pub fn configured(handlers: &'static [Handler]) -> Result<(Own, Config), Failure> {
    let (own, mut environment) = Own::read()?;
    let directory: PathBuf = place::fresh().map_err(Failure::while_doing("/dev/urandom"))?;
    environment.insert(URL.to_owned(), format!("file:{}", directory.display()));
    if environment.contains_key(OUTBOX) {
        return Err(exit::configuration(
            "OPENEXEC_OUTBOX_DIR: the outbox is a table of the database; unset it (docs/workers.md)",
        ));
    }
    // While the library reads, there is one: without it, it takes no action that leaves jobs.
    let empty =
        place::fresh().and_then(|path| DirBuilder::new().mode(0o700).create(&path).map(|()| path));
    let empty = empty.map_err(Failure::while_doing("making a directory for temporary files"))?;
    environment.insert(OUTBOX.to_owned(), empty.display().to_string());
    let config = config::read(&environment, handlers).map_err(refused);
    let _ = std::fs::remove_dir(&empty);
    let mut config = config?;
    config.policy.settings.outbox_dir = None;
    config.policy.handlers = outbox::of_database(handlers, config.policy.handlers);
    Ok((own, config))
}

/// A connection to a primary.
///
/// # Errors
/// No host leads to one.
pub fn connected(own: &Own) -> Result<Desk, Failure> {
    let mut desk = Desk::new(own.link()?, [0; 16], own.may_lose);
    let mut why = String::new();
    for _ in &own.address.hosts {
        // Whoever is asked may take time to answer, and whoever reads to read.
        let patient = "SET idle_session_timeout = 0";
        match desk.connect().and_then(|_| desk.link.run(patient)) {
            Ok(()) => return Ok(desk),
            Err(fault) => why = fault.text().to_owned(),
        }
    }
    Err(Failure::new(exit::INPUT_OUTPUT, format!("{}: {why}", own.name())))
}
