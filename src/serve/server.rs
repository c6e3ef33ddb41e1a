//! `openexec serve`: puts the parts together and waits for the first reason to end.
//!
//! Crash-only: there is no shutdown path. What is acknowledged is on the disk, so the process may be
//! killed at any moment; it ends itself only when going on would be a lie, with an exit code that
//! says why.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::core::answer::Reply;
use crate::core::limits::WITNESS_REQUESTS_MAX;
use crate::core::proposal::Policy;
use crate::core::record::{Identity, Mode};
use crate::core::time::Time;
use crate::evidence::guard::{Guard, Saved};
use crate::evidence::service::{Task, Witness};
use crate::executor::service::{self, Carrier, Request};
use crate::executor::status::Status;
use crate::executor::{Clocks, Executor, recover::nobody};
use crate::serve::config::{Config, exposed_demo};
use crate::serve::front::{self, Front};
use crate::serve::gate::listen::{ListenAddress, Listener};
use crate::serve::gate::{self, Counters, Gate, Watch, connections_allowed};
use crate::serve::places;
use crate::store::fault::{OTHER_FORMAT, OpenError};
use crate::store::open::take_over;
use crate::store::repair::Torn;
use crate::store::replay::replay_to_serve;
use crate::store::{Files, GEOMETRY, Lost, Store};
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::journal;
use crate::sys::metrics::Metrics;
use crate::sys::page;

/// The socket on which `tiny_http` listens, inside the store's directory.
pub const INNER_SOCKET: &str = "inner.sock";
/// Given to the answers that are on their way when the process must end.
const LAST_ANSWERS_MS: u64 = 250;
/// Both clocks are read one after the other; this is no time to anybody who judges by them.
const CLOCKS_READ_WITHIN: Duration = Duration::from_secs(1);

/// Serves until something ends it.
pub fn serve(config: Config) -> Failure {
    match start(config) {
        Ok(ended) => ended,
        Err(failure) => failure,
    }
}

fn start(config: Config) -> Result<Failure, Failure> {
    journal::start(config.log);
    for warning in &config.warnings {
        journal::error("warning", &[("warning", warning.as_str().into())]);
    }
    quiet_panics();
    let mode = config.policy.mode();
    let disk = hold_store(&config.store, mode, config.guard.as_ref())?;
    // Before a claim that a crash left is run again: on a full disk that would be its last run.
    places::ready(&config.policy)?;
    if let Some(warning) = open_to_others(&config.store) {
        journal::error("warning", &[("warning", warning.into())]);
    }
    let (listeners, addresses) = listen(&config)?;
    disk.publish(&addresses[0]).map_err(|error| {
        Failure::io(format!("writing LOCK in {}", config.store.display()), &error)
    })?;

    places::mark(&config.policy)?;
    let policy = Arc::new(config.policy);
    let metrics = Arc::new(Metrics::default());
    let status = Arc::new(Status::default());
    let counters = Arc::new(Counters::default());
    let (end, ended) = channel();
    let plan = connections_allowed(config.connections_max);
    let (queue, requests) = sync_channel::<Request>(plan.connections + 1);
    let (carrier, answers) = service::carrier();
    spawn("answers", &end, move || {
        answers.carry();
        Failure::new(exit::BUG, "the answers' thread ended")
    })?;
    // By the directory's handle: of any length, and where the store is.
    let no_inner = |error| no_inner_socket(&config.store, &error);
    let inner_path = disk.dir().at(INNER_SOCKET).map_err(no_inner)?;
    // The gate uses it for the life of the process, whatever else has ended.
    std::mem::forget(disk.clone());
    let inner = gate::listen::bind_unix(&inner_path, 0o600).map_err(no_inner)?;
    let inner = tiny_http::Server::from_listener(inner, None)
        .map_err(|error| Failure::new(exit::BUG, format!("starting tiny_http: {error}")))?;
    let gate_counters = counters.clone();
    let (tasks, witness_tasks) = sync_channel(WITNESS_REQUESTS_MAX);
    let has_log_key = config.guard.as_ref().is_some_and(|guard| guard.key.is_some());
    let front = Front {
        openapi: front::document(&policy),
        policy: policy.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        queue,
        witness: has_log_key.then(|| tasks.clone()),
        gate_metrics: Box::new(move |text| gate_counters.render(text)),
    };
    spawn("front", &end, move || {
        front.serve(&inner);
        Failure::new(exit::BUG, "tiny_http gives no more requests")
    })?;
    let witness = config.guard.map(|guard| (guard, tasks, witness_tasks));
    let status_of_all = status.clone();
    let executor =
        Starting { disk, policy, metrics, status: status_of_all, witness, end: end.clone() };
    // A sender stays here: the answers' thread must not end, and give a reason of its own, in the
    // moment between the executor's end and its saying why.
    let executors = carrier.clone();
    spawn("executor", &end, move || executor.run(&requests, &executors))?;

    let settings = gate::Settings {
        allowed_hosts: config.allowed_hosts,
        mode: mode.name(),
        body_bytes_max: config.body_bytes_max,
        connections_max: plan.connections,
        bounds: gate::Bounds::default(),
    };
    let fatal = end.clone();
    let watch = Watch {
        executor_idle: Box::new(move || status.is_idle()),
        fatal: Box::new(move |why| {
            let _ = fatal.send(Failure::new(exit::BUG, why.to_owned()));
        }),
    };
    let gates = Gate::open(listeners, &inner_path, settings, counters, watch)
        .map_err(|error| Failure::io("opening the gate".to_owned(), &error))?;
    announce(mode, &addresses, &config.store, plan, config.connections_max);
    for gate in gates {
        spawn("gate", &end, move || gate.run())?;
    }

    let failure = ended.recv().unwrap_or_else(|_| Failure::new(exit::BUG, "every thread ended"));
    std::thread::sleep(Duration::from_millis(LAST_ANSWERS_MS));
    journal::flush();
    drop(carrier);
    Ok(failure)
}

/// Listens wherever the configuration says, and says where, at least one. Standard input only tells
/// its address here. Where one address fails no socket of another is left behind.
pub fn listen(config: &Config) -> Result<(Vec<Listener>, Vec<String>), Failure> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for address in &config.listen {
        match listen_at(address, config.may_be_exposed) {
            Ok(None) => {}
            Ok(Some((listener, bound))) => {
                listeners.push(listener);
                addresses.push(bound);
            }
            Err(failure) => {
                let sockets = addresses.iter().filter_map(|bound| bound.strip_prefix("unix:"));
                for socket in sockets {
                    let _ = std::fs::remove_file(socket);
                }
                return Err(failure);
            }
        }
    }
    Ok((listeners, addresses))
}

fn listen_at(
    address: &ListenAddress,
    may_be_exposed: bool,
) -> Result<Option<(Listener, String)>, Failure> {
    let bound = address.bind().map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::AddrInUse => exit::IN_USE,
            _ => exit::INPUT_OUTPUT,
        };
        Failure::new(code, format!("cannot listen on {address}: {error}"))
    })?;
    if let Some((_, text)) = &bound
        && ListenAddress::parse(text).is_ok_and(|bound| bound[0].is_exposed())
        && !may_be_exposed
    {
        return Err(Failure::new(exit::CONFIGURATION, exposed_demo(text)));
    }
    Ok(bound)
}

pub fn no_inner_socket(store: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("making {INNER_SOCKET} in {}", store.display()), error)
}

/// What the executor's thread needs before there is an executor.
struct Starting {
    disk: Arc<Directory>,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    /// With a checkpoint file: the queue of the witness, both ends.
    witness: Option<(Guard, SyncSender<WitnessRequest>, Receiver<WitnessRequest>)>,
    end: Sender<Failure>,
}

/// What waits for the witness.
type WitnessRequest = (Reply, Task);

impl Starting {
    /// Opens the store, completes what a crash left, then serves.
    fn run(self, requests: &Receiver<Request>, carrier: &Carrier) -> Failure {
        self.try_run(requests, carrier).unwrap_or_else(|failure| failure)
    }

    fn try_run(self, requests: &Receiver<Request>, carrier: &Carrier) -> Result<Failure, Failure> {
        let guard = self.witness.as_ref().map(|(guard, ..)| guard);
        let (store, torn, saved) = open_store(self.disk.clone(), guard)?;
        if let Some(torn) = torn {
            report_torn(&torn);
        }
        let preparation = store.preparation();
        let disk = self.disk.clone();
        let helper = Builder::new()
            .name("segments".into())
            .spawn(move || preparation.run(disk.as_ref(), GEOMETRY.segment_bytes));
        helper.map_err(|error| Failure::io("starting a thread".to_owned(), &error))?;
        let (executions, records) = (store.state().executions.into(), store.size());
        let (log, name) = (store.log(), store.identity().store.clone());
        let status = self.status;
        let metrics = self.metrics.clone();
        let mut executor =
            Executor::new(Box::new(store), self.policy, self.metrics, status.clone(), clocks());
        if let Some(((guard, queue, tasks), saved)) = self.witness.zip(saved) {
            let file = guard.file()?;
            let mut witness = Witness::new(guard, name, log, file, saved, metrics);
            executor.prove_with(Box::new(move |reply, position| {
                front::ask_witness(Some(&queue), reply, Task::Proof(position));
            }));
            let status = status.clone();
            spawn("witness", &self.end, move || {
                witness.serve(&tasks, &|working| status.set_witnessing(working));
                Failure::new(exit::BUG, "the witness's queue was closed")
            })?;
        }
        let recovered = executor.recover(&mut nobody);
        recovered.or_else(|lost| executor.settle(lost, &mut nobody)).map_err(store_failed)?;
        status.set_open();
        journal::info(
            "the store is open",
            &[("executions", executions), ("records", records.into())],
        );
        service::serve(&mut executor, requests, carrier).map_err(store_failed)?;
        Ok(Failure::new(exit::BUG, "the executor's queue was closed"))
    }
}

/// Opens the store's directory and locks it for as long as it is held. A store that is missing is made in demo
/// mode; in clawshield mode that is refused: an empty directory where a volume failed to mount would
/// forget every nonce.
pub fn hold_store(
    path: &Path,
    mode: Mode,
    guard: Option<&Guard>,
) -> Result<Arc<Directory>, Failure> {
    let shown = path.display();
    let exists = path.is_dir();
    if !exists && mode == Mode::Clawshield {
        return Err(missing_store(path));
    }
    let directory = if exists { Directory::open(path) } else { Directory::make(path) };
    let directory = directory.map_err(|error| Failure::io(format!("opening {shown}"), &error))?;
    directory.lock(true).map_err(|error| lock_failure(path, &error))?;
    match crate::store::open::identity(&directory, GEOMETRY) {
        Ok(identity) => mode_must_match(path, &identity, mode)?,
        Err(OpenError::Absent) if mode == Mode::Demo => make_store(&directory, mode, guard)?,
        Err(OpenError::Absent) => return Err(missing_store(path)),
        // Opening reads everything and says it better.
        Err(OpenError::Corrupt { .. }) => {}
        // A directory that cannot be listed is not known to be empty.
        Err(error @ OpenError::Disk { .. }) => return Err(open_failure(path, &error)),
    }
    Ok(Arc::new(directory))
}

/// Makes a store for `mode` in an empty, locked directory, and its checkpoint file.
pub fn make_store(directory: &Directory, mode: Mode, guard: Option<&Guard>) -> Result<(), Failure> {
    if let Some(guard) = guard {
        guard.must_be_absent()?;
    }
    let doing = || format!("making a store in {}", directory.path().display());
    let random = crate::sys::random::bytes().map_err(|error| Failure::io(doing(), &error))?;
    let identity = Identity { store: crate::core::hash::hex(&random), mode, created: Time::now() };
    let head = crate::store::make(directory, GEOMETRY, &identity)
        .map_err(|error| Failure::io(doing(), &error))?;
    guard.map_or(Ok(()), |guard| guard.create(&identity, head))
}

/// Opens the store in a locked directory. It is held to its checkpoint file before anything is
/// written.
pub fn open_store(
    disk: Arc<Directory>,
    guard: Option<&Guard>,
) -> Result<(Files, Option<Torn>, Option<Saved>), Failure> {
    let text = guard.map(Guard::read).transpose()?;
    let path = disk.path().to_owned();
    let failed = |error| open_failure(&path, &error);
    let replay = replay_to_serve(disk.as_ref(), GEOMETRY, &mut page::progress).map_err(failed)?;
    let identity = replay.identity().ok_or(OpenError::Absent).map_err(failed)?;
    let source = replay.source(disk.as_ref(), GEOMETRY);
    let held = guard.zip(text).map(|(guard, text)| guard.hold(text, identity, &source));
    let saved = held.transpose()?;
    let (store, torn) = take_over(disk, GEOMETRY, replay).map_err(failed)?;
    Ok((store, torn, saved))
}

fn store_failed(lost: Lost) -> Failure {
    let code = if matches!(lost, Lost::Fenced(_)) { exit::IN_USE } else { exit::INPUT_OUTPUT };
    Failure::new(code, format!("the store failed: {lost}"))
}

pub fn open_failure(path: &Path, error: &OpenError) -> Failure {
    let shown = path.display();
    match error {
        OpenError::Absent => missing_store(path),
        // To restore a copy would be to forget what was executed since.
        OpenError::Corrupt { reason, .. } if reason == OTHER_FORMAT => Failure::new(
            exit::DATA,
            format!(
                "the store {shown} cannot be read: {error}. Nothing was changed. Start the release \
                 that wrote it; docs/operations.md, \"Upgrading\""
            ),
        ),
        OpenError::Corrupt { .. } => Failure::new(
            exit::DATA,
            format!(
                "the store {shown} is damaged: {error}. Nothing was changed. Keep it as evidence, \
                 and restore the newest copy; docs/runbook.md, \"Corrupt store\""
            ),
        ),
        OpenError::Disk { doing, error } => Failure::io(format!("{doing} in {shown}"), error),
    }
}

/// What to say of a store's directory that others than its owner may enter (Kubernetes adds its
/// `fsGroup` to a volume).
pub fn open_to_others(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    let sentence = || {
        format!(
            "the store {0} is open to others (mode {mode:o}); run chmod 700 {0}",
            path.display()
        )
    };
    (mode & 0o077 != 0).then(sentence)
}

pub fn mode_must_match(path: &Path, identity: &Identity, mode: Mode) -> Result<(), Failure> {
    if identity.mode == mode {
        return Ok(());
    }
    Err(Failure::new(
        exit::CONFIGURATION,
        format!(
            "the store {} was made for {} mode, and the configuration says {}; set \
             OPENEXEC_MODE={}, or OPENEXEC_DB_URL to another store",
            path.display(),
            identity.mode.name(),
            mode.name(),
            identity.mode.name()
        ),
    ))
}

pub fn missing_store(path: &Path) -> Failure {
    Failure::new(
        exit::CONFIGURATION,
        format!(
            "there is no store in {}; if none was ever made, run `openexec init`; otherwise mount \
             its volume or set OPENEXEC_DB_URL (a new store would forget every nonce)",
            path.display()
        ),
    )
}

pub fn lock_failure(path: &Path, error: &std::fs::TryLockError) -> Failure {
    match error {
        std::fs::TryLockError::WouldBlock => Failure::new(
            exit::IN_USE,
            format!(
                "the store {} is in use by another process (LOCK names it); stop that one first",
                path.display()
            ),
        ),
        std::fs::TryLockError::Error(error) => {
            Failure::io(format!("locking {}", path.display()), error)
        }
    }
}

/// The wall's time, and that of the clock which nobody can set.
fn clocks() -> Clocks {
    let start = Instant::now();
    Box::new(move || {
        loop {
            let before = start.elapsed();
            let wall = Time::now();
            let after = start.elapsed();
            // Otherwise the process was stopped in between, and the two are no pair.
            if after - before < CLOCKS_READ_WITHIN {
                return (wall, after);
            }
        }
    })
}

/// Starts a thread whose end ends the process.
fn spawn(
    name: &str,
    end: &Sender<Failure>,
    body: impl FnOnce() -> Failure + Send + 'static,
) -> Result<(), Failure> {
    let end = EndsTheProcess { end: end.clone(), failure: None };
    let named = name.to_owned();
    let started = Builder::new().name(name.to_owned()).spawn(move || {
        let mut end = end;
        end.failure = Some(Failure::new(exit::BUG, format!("the thread {named} panicked")));
        end.failure = Some(body());
    });
    started.map(drop).map_err(|error| Failure::io(format!("starting the thread {name}"), &error))
}

/// Says so when its thread ends, by a panic too.
struct EndsTheProcess {
    end: Sender<Failure>,
    failure: Option<Failure>,
}

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if let Some(failure) = self.failure.take() {
            let _ = self.end.send(failure);
        }
    }
}

/// A panic's message may hold a payload; its place does not.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        journal::error("a thread panicked", &[("place", place.into())]);
    }));
}

fn report_torn(torn: &Torn) {
    journal::error(
        "the last batch was cut short by a crash and was removed; none of it was acknowledged",
        &[
            ("segment", torn.segment.into()),
            ("byte", torn.offset.into()),
            ("bytes", torn.bytes.into()),
            ("copy", torn.copy.clone().into()),
        ],
    );
}

fn announce(mode: Mode, addresses: &[String], store: &Path, plan: gate::Plan, wanted: usize) {
    let urls: Vec<String> = addresses
        .iter()
        .map(|address| match address.strip_prefix("unix:") {
            Some(_) => address.to_owned(),
            None => format!("http://{address}"),
        })
        .collect();
    journal::info(
        "OpenExec serves",
        &[
            ("mode", mode.name().into()),
            ("url", urls.join(", ").into()),
            ("store", store.display().to_string().into()),
            ("connections", plan.connections.into()),
            ("threads_max", plan.threads.into()),
        ],
    );
    if plan.is_lowered(wanted) {
        journal::error(
            "the file limit allows fewer connections than configured; raise it (LimitNOFILE=, \
             ulimit -n) or lower OPENEXEC_MAX_CONNECTIONS",
            &[("configured", wanted.into()), ("allowed", plan.connections.into())],
        );
    }
    let url = urls.iter().find(|url| url.starts_with("http:"));
    if let Some(url) = url.filter(|_| mode == Mode::Demo)
        && page::stderr_is_terminal()
    {
        journal::info(
            "demo mode checks no approvals. Try:",
            &[(
                "",
                format!(
                    "curl -s {url}/execute -H 'Content-Type: application/json' -d \
                     '{{\"action\":\"echo\",\"payload\":{{\"msg\":\"hello world\"}},\
                     \"nonce\":\"unique-1\"}}'"
                )
                .into(),
            )],
        );
    }
}
