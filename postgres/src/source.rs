//! From a process that stands by to the one that is active.
//!
//! The server's list of sessions says who may try ([`crate::turn`]); it is no promise. The promise is the fence ([`Desk`]):
//! whoever takes over raises the log's session, and what the one before still sends writes nothing and ends it.

use std::sync::{Arc, Mutex};
use std::thread::{Builder, sleep};
use std::time::Duration;

use openexec::core::proposal::Policy;
use openexec::evidence::guard::Guard;
use openexec::evidence::log::Log;
use openexec::serve::config::Config;
use openexec::serve::opening::{self, Purpose, Say};
use openexec::serve::outcomes::Judge;
use openexec::serve::source::{Looks, Opened, Source};
use openexec::serve::status::Status;
use openexec::store::Store;
use openexec::sys::disk::Directory;
use openexec::sys::exit::{self, Failure};
use openexec::sys::{journal, locked, random};

use crate::desk::Desk;
use crate::link::{Fault, Link};
use crate::load::Unopened;
use crate::look::About;
use crate::store::Postgres;
use crate::{outbox, schema};

/// How often whoever stands by asks for its turn.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How often whoever is active makes sure of its connection.
const PULSE: Duration = Duration::from_millis(500);

pub struct Database {
    /// What it is, without anything secret.
    pub name: String,
    /// Until it is opened.
    pub link: Option<Link>,
    pub may_lose: bool,
    pub mode: openexec::core::record::Mode,
    /// The actions of which jobs are left in the table.
    pub leave_jobs: Vec<&'static str>,
    /// For who looks for what workers report.
    pub opened: outbox::Opened,
}

impl Source for Database {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn hold(&mut self, config: &Config, say: Say) -> Result<Arc<Directory>, Failure> {
        opening::warn(config, say)?;
        let shown = config.store.display();
        let directory = Directory::make(&config.store);
        let directory = directory.map_err(Failure::while_doing(format_args!("making {shown}")))?;
        directory.lock(true).map_err(|error| opening::lock_failure(&config.store, &error))?;
        opening::try_handlers(config, Purpose::Serve, say)?;
        Ok(Arc::new(directory))
    }

    fn outcomes(&self, _: &Policy, judge: Judge) -> Option<Looks> {
        let opened = self.opened.clone();
        Some(Box::new(move || outbox::watch(&opened, &judge)))
    }

    fn open(
        mut self: Box<Self>,
        guard: Option<&Guard>,
        status: &Arc<Status>,
    ) -> Result<Opened, Failure> {
        status.lock().standby = true;
        let unheld = || Failure::new(exit::BUG, "the database is opened twice");
        let link = self.link.take().ok_or_else(unheld)?;
        let holder = random::bytes().map_err(Failure::while_doing("/dev/urandom"))?;
        let text = guard.map(Guard::read).transpose()?;
        let mut desk = Desk::new(link, holder, self.may_lose);
        let mut told = String::new();
        loop {
            let turn = take_over(&mut desk, status);
            if turn.is_err() {
                // Whatever it was, this connection has not been found good.
                desk.link.give_up();
            }
            let waits = match turn {
                Ok(Turn::Taken) => break,
                Ok(Turn::Waits) => "another node is active".to_owned(),
                Err(Unready::Never(failure)) => return Err(failure),
                Err(Unready::NotYet(why)) => why,
            };
            if waits != told {
                journal::info("stands by", &[("reason", waits.as_str().into())]);
                told = waits;
            }
            sleep(ASK_EVERY);
        }
        let opened = Postgres::open(desk, status.clone(), self.leave_jobs);
        let store = opened.map_err(|unopened| match unopened {
            Unopened::Fault(fault) => {
                Failure::new(exit::INPUT_OUTPUT, format!("reading the log: {}", fault.text()))
            }
            Unopened::Damaged(why) => exit::data(format!(
                "the log in the database is damaged: {why}. Nothing was changed"
            )),
        })?;
        let identity = store.identity().clone();
        opening::mode_must_match(self.name.as_ref(), &identity, self.mode)?;
        let log: Arc<dyn Log> = Arc::new(store.log());
        let saved = guard
            .zip(text)
            .map(|(guard, text)| guard.hold(text, &identity, log.as_ref()))
            .transpose()?;
        keep_alive(store.desk(), status.clone())?;
        let _ = self.opened.set(store.desk());
        status.lock().standby = false;
        journal::info("is active", &[]);
        Ok(Opened { store: Box::new(store), log, saved })
    }
}

enum Turn {
    Taken,
    Waits,
}

enum Unready {
    /// Somebody has to change something first.
    Never(Failure),
    NotYet(String),
}

impl From<Fault> for Unready {
    fn from(fault: Fault) -> Self {
        match fault {
            // Of class 28 and 3D: this user is not let in, or there is no such database.
            Fault::Refused { state, text }
                if state.starts_with("28") || state.starts_with("3D") =>
            {
                Unready::Never(exit::configuration(format!(
                    "the database refuses this node: {text}"
                )))
            }
            fault => Unready::NotYet(fault.text().to_owned()),
        }
    }
}

/// One attempt.
fn take_over(desk: &mut Desk, status: &Status) -> Result<Turn, Unready> {
    let about = if desk.link.is_open() {
        None
    } else {
        let about = desk.connect()?;
        is_fit(desk, &about)?;
        Some(about)
    };
    status.lock().heard = desk.link.heard;
    let about = match about {
        Some(about) => about,
        None => desk.about()?,
    };
    let seat = desk.seat()?;
    let is_mine = seat.is_free && desk.take_over(&seat, &about)?;
    Ok(if is_mine { Turn::Taken } else { Turn::Waits })
}

/// For `check`: what a start would find, at the first host that takes writes.
pub fn fit(desk: &mut Desk) -> Result<(), Failure> {
    let mut about = desk.connect();
    for _ in 1..desk.link.hosts() {
        about = about.or_else(|_| desk.connect());
    }
    let fit = about.map_err(Unready::from).and_then(|about| is_fit(desk, &about));
    fit.map_err(|unready| match unready {
        Unready::Never(failure) => failure,
        // Whoever serves waits for it; whoever sets it up must know.
        Unready::NotYet(why) if desk.is_any_standby() => exit::configuration(why),
        Unready::NotYet(why) => Failure::new(exit::INPUT_OUTPUT, why),
    })
}

/// What no waiting would change.
fn is_fit(desk: &mut Desk, about: &About) -> Result<(), Unready> {
    let never = |text: String| Err(Unready::Never(exit::configuration(text)));
    if about.version < schema::VERSION_LEAST {
        return never("the database is older than PostgreSQL 14; use a newer one".to_owned());
    }
    if !about.has_fsync {
        return never(
            "the database has fsync=off: a power cut would forget what was executed; set it"
                .to_owned(),
        );
    }
    if !schema::is_there(&mut desk.link)? {
        return never(
            "there is no log in this database; if none was ever made, run `openexec-postgres init`; otherwise correct \
             OPENEXEC_DB_URL (a new one would forget every nonce)"
                .to_owned(),
        );
    }
    let faults = schema::faults(&mut desk.link)?;
    if !faults.is_empty() {
        let problems = faults;
        let refused = exit::configuration("this role or this schema is none to serve with:");
        return Err(Unready::Never(Failure { problems, ..refused }));
    }
    desk.look()?;
    match desk.obstacle() {
        Some(why) if desk.is_asynchronous() && !desk.is_any_standby() => never(why.to_owned()),
        Some(why) => Err(Unready::NotYet(why.to_owned())),
        None => Ok(()),
    }
}

/// A thread that asks the database while nobody else does: the session stays, the clocks are compared, and others learn
/// when it was last heard of. It reconnects too, so that a service without requests is ready again by itself.
fn keep_alive(desk: Arc<Mutex<Desk>>, status: Arc<Status>) -> Result<(), Failure> {
    let started = Builder::new().name("pulse".into()).spawn(move || {
        let mut told = None;
        loop {
            let mut at_it = locked(&desk);
            let (pulse, heard) = (pulse(&mut at_it), at_it.link.heard);
            drop(at_it);
            // Of a host that takes no writes nothing was heard that counts.
            if let Ok(obstacle) = pulse {
                let mut now = status.lock();
                (now.heard, now.standby) = (heard, obstacle.is_some());
            }
            // Once, until it is another. Nobody asks meanwhile, perhaps.
            let trouble = pulse.map_or_else(Some, |obstacle| obstacle.map(str::to_owned));
            if trouble != told {
                match &trouble {
                    Some(why) => {
                        journal::error(
                            "is active and cannot serve",
                            &[("reason", why.as_str().into())],
                        );
                    }
                    None => journal::info("is active and serves again", &[]),
                }
                told = trouble;
            }
            sleep(PULSE);
        }
    });
    started.map(drop).map_err(Failure::while_doing("starting a thread"))
}

/// What stands in the way though the database answers.
///
/// # Errors
/// It does not: why.
fn pulse(desk: &mut Desk) -> Result<Option<&'static str>, String> {
    desk.ready().map_err(|lost| lost.to_string())?;
    desk.look().map_err(|fault| fault.text().to_owned())?;
    // By that look it may know that it was overtaken.
    desk.ready().map_err(|lost| lost.to_string())?;
    desk.hold_place().map_err(|fault| fault.text().to_owned())?;
    Ok(desk.obstacle())
}
