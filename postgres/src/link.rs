//! One connection to the database, and what an answer over it is worth.
//!
//! Invariant: a call has succeeded only where the server said that it is ready again, within the deadline, and gave no
//! warning since the call was sent. (A commit that was told not to wait for its standby any more is a success with a
//! warning.) A call that was refused did nothing. After any other end nobody knows what was done, and the connection
//! is given up: no statement is ever cancelled, and no other connection looks before it has fenced this one.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openexec::sys::locked;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{NoTls, TlsConnect};
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row};

use crate::address::{Address, Host, Tls};
use crate::password::Password;
use crate::tls;

/// Over a connection with its start-up, and over every call.
pub const DEADLINE: Duration = Duration::from_secs(4);

/// What a session is set to before anything else is asked of it, whatever its role, the database or the server's files say:
/// what we rest on is ours to set. Names are of the catalog, and a `role` that was set would have rights of its own.
/// Whether transactions may write is not set: an administrator says so. Of a session that waits for the rest of a message
/// no time-out is counted, so that the server must see by TCP that the host is gone.
const SETTINGS: &str = "
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    SET search_path = pg_catalog, pg_temp; SET ROLE NONE;
    SET client_min_messages = warning; SET standard_conforming_strings = on; SET DateStyle = ISO; SET row_security = on;
    SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off;
    SET idle_session_timeout = '5s';
    SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) <> '0'";

/// PostgreSQL, appendix A.
const INVALID_PASSWORD: &str = "28P01";

/// How a call ended that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server refused it, and did nothing.
    Refused { state: String, text: String },
    /// What was done is not known, and the connection is gone.
    Broken(String),
}

impl Fault {
    pub fn text(&self) -> &str {
        match self {
            Fault::Refused { text, .. } | Fault::Broken(text) => text,
        }
    }
}

/// How to reach the database.
pub struct Way {
    pub address: Address,
    pub password: Password,
    tls: Option<Arc<ClientConfig>>,
}

impl Way {
    /// # Errors
    /// The root certificates cannot be read.
    pub fn new(address: Address, password: Password) -> Result<Self, String> {
        let tls = match &address.tls {
            Tls::Off => None,
            Tls::Verified { roots } => Some(tls::config(roots)?),
        };
        Ok(Way { address, password, tls })
    }
}

pub struct Link {
    way: Way,
    runtime: Runtime,
    open: Option<Open>,
    /// When the server last answered.
    pub heard: Option<Instant>,
    /// The name under which the server shows the session.
    pub name: String,
    /// Which of the hosts is tried next.
    next: usize,
}

struct Open {
    client: Client,
    driver: JoinHandle<()>,
    warning: Arc<Mutex<Option<String>>>,
}

impl Link {
    /// # Errors
    /// The system gives no means to wait for a socket.
    pub fn new(way: Way) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Link { way, runtime, open: None, heard: None, name: "openexec".to_owned(), next: 0 })
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How many the address names.
    pub fn hosts(&self) -> usize {
        self.way.address.hosts.len()
    }

    /// Connects to the host whose turn it is.
    ///
    /// # Errors
    /// It cannot be reached, or does not let us in: then it is the next one's turn.
    pub fn connect(&mut self) -> Result<(), Fault> {
        self.give_up();
        let host = self.way.address.hosts[self.next].clone();
        let connected = self.runtime.block_on(async {
            let opening = timeout(DEADLINE, opened(&self.way, &host, &self.name));
            opening.await.unwrap_or_else(|_| Err(Fault::Broken("no answer in time".to_owned())))
        });
        let named = |text: String| format!("{}:{}: {text}", host.name, host.port);
        match connected {
            Ok(open) => {
                self.open = Some(open);
                self.heard = Some(Instant::now());
                Ok(())
            }
            Err(fault) => {
                self.move_on();
                Err(match fault {
                    Fault::Refused { state, text } => Fault::Refused { state, text: named(text) },
                    Fault::Broken(text) => Fault::Broken(named(text)),
                })
            }
        }
    }

    /// Gives the connection up, because this host is none to go on with.
    pub fn move_on(&mut self) {
        self.give_up();
        self.next = (self.next + 1) % self.hosts();
    }

    /// Asks one statement, in one message, whose parameters have these types; it is a transaction of its own.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn ask(
        &mut self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Fault> {
        self.call(async |client| client.query_typed(sql, parameters).await)
    }

    /// The one value that a statement has for answer.
    ///
    /// # Errors
    /// As of [`Link::ask`]; it has another.
    pub fn value<T: FromSqlOwned>(
        &mut self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<T, Fault> {
        let rows = self.ask(sql, parameters)?;
        let row =
            rows.first().ok_or_else(|| Fault::Broken("an answer without a row".to_owned()))?;
        row.try_get(0).map_err(malformed)
    }

    /// Runs a text of statements, all in one transaction.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn run(&mut self, sql: &str) -> Result<(), Fault> {
        self.call(async |client| client.batch_execute(sql).await)
    }

    fn call<T>(&mut self, ask: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Fault> {
        let Some(open) = &self.open else {
            return Err(Fault::Broken("there is no connection".to_owned()));
        };
        *locked(&open.warning) = None;
        let ended = self.runtime.block_on(async { timeout(DEADLINE, ask(&open.client)).await });
        let warning = locked(&open.warning).take();
        let fault = match (ended, warning) {
            (Ok(Ok(value)), None) => {
                self.heard = Some(Instant::now());
                return Ok(value);
            }
            (Ok(Ok(_)), Some(warning)) => Fault::Broken(format!("the server warned: {warning}")),
            (Ok(Err(error)), _) => fault(&error),
            (Err(_), _) => Fault::Broken("no answer in time".to_owned()),
        };
        match &fault {
            Fault::Refused { .. } => self.heard = Some(Instant::now()),
            Fault::Broken(_) => self.give_up(),
        }
        Err(fault)
    }

    /// Closes the connection, whatever is on its way.
    pub fn give_up(&mut self) {
        if let Some(open) = self.open.take() {
            open.driver.abort();
            // Until the task is gone its socket is open.
            let _ = self.runtime.block_on(open.driver);
        }
    }
}

/// An answer of another form than ours: it is not our schema.
pub fn malformed(error: Error) -> Fault {
    Fault::Broken(error.to_string())
}

/// What an error is worth: only an ordinary error is the end of a statement that did nothing. One that ends the
/// session may have come after the commit.
fn fault(error: &Error) -> Fault {
    match error.as_db_error() {
        Some(db) if db.parsed_severity() == Some(Severity::Error) => {
            Fault::Refused { state: db.code().code().to_owned(), text: db.message().to_owned() }
        }
        Some(db) => Fault::Broken(format!("{} {}", db.severity(), db.message())),
        None => {
            use std::error::Error as _;
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Fault::Broken(format!("{error}{cause}"))
        }
    }
}

async fn opened(way: &Way, host: &Host, name: &str) -> Result<Open, Fault> {
    let password = way.password.find(&way.address, host);
    let password = password.map_err(Fault::Broken)?;
    let has_none = password.is_none();
    let mut config = Config::new();
    config.user(&way.address.user).dbname(&way.address.database).application_name(name);
    // Where there is none the server's own refusal says so, if it asks for one.
    config.password(password.unwrap_or_default());
    let opened = reached(way, host, &mut config).await;
    opened.map_err(|fault| match fault {
        Fault::Refused { state, text } if has_none && state == INVALID_PASSWORD => {
            let text = format!("{text}; there is none, set OPENEXEC_DB_PASSWORD_FILE");
            Fault::Refused { state, text }
        }
        fault => fault,
    })
}

async fn reached(way: &Way, host: &Host, config: &mut Config) -> Result<Open, Fault> {
    let failed = |error: std::io::Error| Fault::Broken(error.to_string());
    if host.name.starts_with('/') {
        let path = Path::new(&host.name).join(format!(".s.PGSQL.{}", host.port));
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        return started(config.ssl_mode(SslMode::Disable), stream, NoTls).await;
    }
    let stream = TcpStream::connect((host.name.as_str(), host.port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    match &way.tls {
        None => started(config.ssl_mode(SslMode::Disable), stream, NoTls).await,
        Some(verifying) => {
            let name = ServerName::try_from(host.name.clone());
            let name = name.map_err(|error| Fault::Broken(error.to_string()))?;
            let tls = tls::Verified { config: verifying.clone(), name };
            started(config.ssl_mode(SslMode::Require), stream, tls).await
        }
    }
}

async fn started<S, T>(config: &Config, stream: S, tls: T) -> Result<Open, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let connected = config.connect_raw(stream, tls).await;
    let (client, mut connection) = connected.map_err(|error| match error.as_db_error() {
        // Whoever is not let in has done nothing, though the session ends.
        Some(db) => {
            Fault::Refused { state: db.code().code().to_owned(), text: db.message().to_owned() }
        }
        None => fault(&error),
    })?;
    let warning = Arc::new(Mutex::new(None));
    let seen = warning.clone();
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            // What is of another severity, or of one that is not known, is no promise either.
            if let AsyncMessage::Notice(notice) = message
                && !matches!(
                    notice.parsed_severity(),
                    Some(Severity::Notice | Severity::Debug | Severity::Info | Severity::Log)
                )
            {
                *locked(&seen) = Some(notice.message().to_owned());
            }
        }
    });
    client.batch_execute(SETTINGS).await.map_err(|error| fault(&error))?;
    // What the server warned of so far were settings that it could not use, and no commit of ours.
    *locked(&warning) = None;
    Ok(Open { client, driver, warning })
}
