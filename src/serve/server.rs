//! `openexec serve`: puts the parts together and waits for the first reason to end.
//!
//! Crash-only: there is no shutdown path. What is acknowledged is on the disk, so the process may be
//! killed at any moment; it ends itself only when going on would be a lie, with an exit code that
//! says why.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::core::proposal::Policy;
use crate::core::record::Mode;
use crate::evidence::guard::Guard;
use crate::evidence::service::{Task, Witness};
use crate::executor::Executor;
use crate::serve::approvals::{self, Pending};
use crate::serve::config::Config;
use crate::serve::front::{self, Front};
use crate::serve::gate::{self, Counters, Gate, Watch, connections_allowed};
use crate::serve::opening::{self, INNER_SOCKET, no_inner_socket, store_lost};
use crate::serve::outcomes::Judge;
use crate::serve::queue::{self, Carrier, Request};
use crate::serve::source::{Opened, Source};
use crate::serve::status::{self, Status};
use crate::sys::answer::Reply;
use crate::sys::clock::clocks;
use crate::sys::exit::{self, Failure};
use crate::sys::journal;
use crate::sys::limits::{OUTCOMES_AT_ONCE, WITNESS_REQUESTS_MAX};
use crate::sys::metrics::Metrics;
use crate::sys::page;

/// Given to the answers that are on their way when the process must end.
const LAST_ANSWERS_MS: u64 = 250;

/// Serves until something ends it, which is never well.
pub fn serve(config: Config, mut source: Box<dyn Source>) -> Result<(), Failure> {
    journal::start(config.log);
    // Memory holds tokens and keys: a core dump of this process holds none of it (core(5)). A system that has no such
    // switch, or not for us, has its own: LimitCORE=0, --ulimit core=0.
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
    let mode = config.policy.mode();
    let disk = source.hold(&config, &mut |label, text| {
        if label == "warning: " {
            journal::error("warning", &[("warning", text.into())]);
        }
        Ok(())
    })?;
    let name = source.name();
    let (listeners, addresses) = opening::listen(&config)?;
    disk.publish(&addresses[0]).map_err(Failure::while_doing(format_args!(
        "writing LOCK in {}",
        config.store.display()
    )))?;
    let policy = Arc::new(config.policy);
    let callers = policy.callers.as_ref().map(Vec::len);
    let metrics = Arc::new(Metrics::default());
    let status = Arc::new(Status::default());
    let counters = Arc::new(Counters::default());
    let (end, ended) = channel();
    let plan = connections_allowed(config.connections_max);
    let (queue, requests) = sync_channel::<Request>(plan.connections + 1 + OUTCOMES_AT_ONCE);
    let (carrier, answers) = queue::carrier();
    forever("answers", &end, move || answers.carry())?;
    // By the directory's handle: of any length, and where the store is.
    let no_inner = |error| no_inner_socket(&config.store, &error);
    let inner_path = disk.dir().at(INNER_SOCKET).map_err(no_inner)?;
    // The gate uses it for the life of the process, whatever else has ended.
    std::mem::forget(disk.clone());
    let inner = gate::listen::bind_unix(&inner_path, 0o600).map_err(no_inner)?;
    let inner = tiny_http::Server::from_listener(inner, None)
        .map_err(|error| Failure::new(exit::BUG, format!("starting tiny_http: {error}")))?;
    let (tasks, witness_tasks) = sync_channel(WITNESS_REQUESTS_MAX);
    let has_log_key = config.guard.as_ref().is_some_and(|guard| guard.key.is_some());
    let pending = Arc::new(Pending::default());
    if policy.approvals.is_some() {
        let (pending, policy, queue) = (pending.clone(), policy.clone(), queue.clone());
        forever("approvals", &end, move || {
            if let Some(required) = &policy.approvals {
                approvals::look(&pending, required, &queue);
            }
        })?;
    }
    let judge = Judge {
        queue: queue.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        told: Cell::new((Instant::now(), 0)),
    };
    source.outcomes(&policy, judge).map_or(Ok(()), |watch| spawn("outcomes", &end, watch))?;
    let front = Front {
        openapi: front::document(&policy, &None),
        policy: policy.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        queue,
        witness: has_log_key.then(|| tasks.clone()),
        counters: counters.clone(),
    };
    forever("front", &end, move || front.serve(&inner))?;
    let witness = config.guard.map(|guard| (guard, witness_tasks));
    let executor = Starting {
        source,
        policy,
        metrics,
        status: status.clone(),
        pending,
        witness,
        end: end.clone(),
    };
    // A sender stays here: the answers' thread must not end, and give a reason of its own, in the
    // moment between the executor's end and its saying why. So does one of `tasks`: without a log key
    // nobody asks the witness, and the file follows the log all the same.
    let executors = carrier.clone();
    spawn("executor", &end, move || executor.run(&requests, &executors))?;

    let settings = gate::Settings {
        allowed_hosts: config.allowed_hosts,
        tokens: config.tokens,
        mode: mode.name(),
        body_bytes_max: config.body_bytes_max,
        connections_max: plan.connections,
        bounds: gate::Bounds::default(),
    };
    let fatal = end.clone();
    let watch = Watch {
        is_idle: Box::new(move || status.is_idle()),
        fatal: Box::new(move |why| {
            let _ = fatal.send(Failure::new(exit::BUG, why.to_owned()));
        }),
    };
    let gates = Gate::open(listeners, &inner_path, settings, counters, watch)
        .map_err(Failure::while_doing("opening the gate"))?;
    announce(mode, &addresses, name, callers, plan, config.connections_max);
    for gate in gates {
        spawn("gate", &end, move || gate.run())?;
    }

    let failure = ended.recv().unwrap_or_else(|_| Failure::new(exit::BUG, "every thread ended"));
    std::thread::sleep(Duration::from_millis(LAST_ANSWERS_MS));
    drop((carrier, tasks));
    Err(failure)
}

/// What the executor's thread needs before there is an executor.
struct Starting {
    source: Box<dyn Source>,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    pending: Arc<Pending>,
    /// With a checkpoint file: what the witness is asked.
    witness: Option<(Guard, Receiver<(Reply, Task)>)>,
    end: Sender<Failure>,
}

impl Starting {
    /// Opens the store, completes what a crash left, then serves.
    fn run(self, requests: &Receiver<Request>, carrier: &Carrier) -> Result<(), Failure> {
        let guard = self.witness.as_ref().map(|(guard, _)| guard);
        let Opened { store, log, saved } = self.source.open(guard, &self.status)?;
        let (executions, records) = (store.state().executions.into(), store.size());
        let name = store.identity().store.clone();
        let status = self.status;
        let metrics = self.metrics.clone();
        let watch = status::watch(status.clone(), self.metrics, self.policy.clone());
        let mut executor =
            Executor::new(store, self.policy, watch, clocks(), carrier.clone().answers());
        if let Some(((guard, tasks), saved)) = self.witness.zip(saved) {
            let file = guard.file()?;
            let mut witness = Witness::new(guard, name, log, file, saved, metrics);
            let status = status.clone();
            forever("witness", &self.end, move || {
                witness.serve(&tasks, &|working| status.lock().witnessing = working);
            })?;
        }
        let recovered = executor.recover();
        let settled = |lost| executor.settle(lost, &mut || {});
        recovered.or_else(settled).map_err(store_lost)?;
        status.lock().open = true;
        let counts = [("executions", executions), ("records", records.into())];
        journal::info("OpenExec serves", &counts);
        queue::serve(&mut executor, requests, carrier, &status, &self.pending).map_err(store_lost)
    }
}

fn forever(
    name: &'static str,
    end: &Sender<Failure>,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), Failure> {
    spawn(name, end, || {
        body();
        Ok(())
    })
}

/// Starts a thread whose end ends the process, a panic too.
fn spawn(
    name: &'static str,
    end: &Sender<Failure>,
    body: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let end = end.clone();
    let started = Builder::new().name(name.to_owned()).spawn(move || {
        let failure = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => Failure::new(exit::BUG, format!("the thread {name} ended")),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::new(exit::BUG, format!("the thread {name} panicked")),
        };
        let _ = end.send(failure);
    });
    started.map(drop).map_err(Failure::while_doing(format_args!("starting the thread {name}")))
}

fn announce(
    mode: Mode,
    addresses: &[String],
    store: String,
    callers: Option<usize>,
    plan: gate::Plan,
    wanted: usize,
) {
    let url = |address: &String| match address.strip_prefix("unix:") {
        Some(_) => address.to_owned(),
        None => format!("http://{address}"),
    };
    let urls: Vec<String> = addresses.iter().map(url).collect();
    journal::info(
        "OpenExec listens",
        &[
            ("mode", mode.name().into()),
            ("url", urls.join(", ").into()),
            ("store", store.into()),
            ("callers", callers.into()),
            ("connections", plan.connections.into()),
            ("threads_max", plan.threads.into()),
        ],
    );
    if plan.connections < wanted {
        journal::error(
            "the file limit allows fewer connections than configured; raise it (LimitNOFILE=, \
             ulimit -n) or lower OPENEXEC_MAX_CONNECTIONS",
            &[("configured", wanted.into()), ("allowed", plan.connections.into())],
        );
    }
    let url = urls.iter().find(|url| url.starts_with("http:"));
    if let Some(url) = url.filter(|_| mode == Mode::Demo && callers.is_none())
        && page::stderr_is_terminal()
    {
        let curl = format!(
            "curl -s {url}/execute -H 'Content-Type: application/json' -d \
             '{{\"action\":\"echo\",\"payload\":{{\"msg\":\"hello world\"}},\"nonce\":\"unique-1\"}}'"
        );
        journal::info("demo mode checks no approvals. Try:", &[("", curl.into())]);
    }
}
