//! What is counted, in the Prometheus text format 0.0.4: kinds of metrics, and the table of those of the front, the
//! executor and the witness.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::{clock, locked};

/// Makes of a table the type whose fields are its metrics. A row: field, kind, the name less `openexec_`, what it says,
/// and by what it is told apart.
macro_rules! metrics {
    ($(#[$about:meta])* $Table:ident {
        $($field:ident: $Kind:ty = $name:literal, $help:literal $(by $label:literal)?;)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $Table { $(pub $field: $Kind,)* }

        impl $Table {
            /// Appends all of it to `text`.
            pub fn render(&self, text: &mut String) {
                $(
                    $crate::sys::metrics::head(text, $name, $help, <$Kind>::KIND);
                    self.$field.render(text, $name, concat!($($label)?));
                )*
            }
        }
    };
}
pub(crate) use metrics;

metrics! {
    /// Everything that is counted beside the gate's own numbers.
    Metrics {
        replays: Counter = "replays_total", "Answers given again.";
        batches: Counter = "batches_total", "Batches written and synced.";
        batch_requests: Counter = "batch_requests_total", "Requests answered by them.";
        executions: Labelled = "executions_total", "Executions by outcome." by "outcome";
        refusals: Labelled = "refusals_total", "Refused attempts by code." by "code";
        refusals_not_stored: Labelled = "refusals_not_stored_total",
            "Refused attempts that were counted, not stored, by code." by "code";
        handler_runs: Labelled = "handler_runs_total", "Runs by action." by "action";
        handler_slow_runs: Labelled = "handler_slow_runs_total",
            "Runs of over a second, by action." by "action";
        handler_micros: Labelled = "handler_seconds_total", "Time in them, by action." by "action";
        syncs: Durations = "sync_seconds", "One write and sync of a batch.";
        store_bytes: Gauge = "store_bytes", "Bytes of the store in use.";
        store_records: Gauge = "store_records", "Records in the store.";
        store_executions: Gauge = "store_executions", "Executions in the store.";
        segments_prepared: Gauge = "segments_prepared", "Segments that wait their turn.";
        segment_failing: Gauge = "segment_failing", "1 while none can be made.";
        frozen: Gauge = "frozen", "1 while execution is frozen.";
        checkpoint_failing: Gauge = "checkpoint_failing", "1 while it cannot be written.";
        checkpoint_records: Gauge = "checkpoint_records", "Records that it covers.";
        owed: Gauge = "owed_receipts", "Claims that are owed a receipt.";
        owed_since: Age = "owed_oldest_seconds", "Age of the oldest of them.";
        completions: Labelled = "completions_total", "Completions recorded, by outcome." by "outcome";
        outcomes_ignored: Counter = "outcomes_ignored_total", "Files of workers that were ignored.";
        pending: Gauge = "pending_proposals", "Proposals that are pending.";
        pending_since: Age = "pending_oldest_seconds", "Age of the oldest of them.";
        open_jobs: Gauge = "open_jobs", "Jobs of which nobody has said what became of them.";
        open_jobs_since: Age = "open_jobs_oldest_seconds", "Age of the oldest of them.";
        handler_running: Gauge = "handler_running", "1 while a handler runs.";
        handler_running_seconds: Gauge = "handler_running_seconds",
            "For how long the handler that runs now has run.";
        callers: Gauge = "callers", "Callers that are configured; 0 where nobody is asked.";
        log_lines_dropped: Gauge = "log_lines_dropped", "Log lines dropped, not waited for.";
    }
}

/// A number that anybody may add to; or, where it may fall as well, set.
#[derive(Debug, Default)]
pub struct Number<const MAY_FALL: bool>(AtomicU64);
pub type Counter = Number<false>;
pub type Gauge = Number<true>;

impl<const MAY_FALL: bool> Number<MAY_FALL> {
    pub(crate) const KIND: &str = if MAY_FALL { "gauge" } else { "counter" };

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn render(&self, text: &mut String, name: &str, _: &str) {
        let _ = writeln!(text, "openexec_{name} {}", self.get());
    }
}

impl Gauge {
    pub fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Seconds since a second of the Unix time, which is its value; 0 is none.
#[derive(Debug, Default)]
pub struct Age(pub Gauge);

impl Age {
    const KIND: &str = Gauge::KIND;

    fn render(&self, text: &mut String, name: &str, _: &str) {
        let (now, since) = (u64::try_from(clock::now().seconds()).unwrap_or(0), self.0.get());
        let age = if since == 0 { 0 } else { now.saturating_sub(since) };
        let _ = writeln!(text, "openexec_{name} {age}");
    }
}

/// Counters told apart by one label, whose values are words of ours.
#[derive(Debug, Default)]
pub struct Labelled(Mutex<BTreeMap<&'static str, u64>>);

impl Labelled {
    const KIND: &str = Counter::KIND;

    pub fn add(&self, label: &'static str, more: u64) {
        *locked(&self.0).entry(label).or_insert(0) += more;
    }

    /// Its name says its unit, as Prometheus has it.
    fn render(&self, text: &mut String, name: &str, label: &str) {
        for (value, count) in &*locked(&self.0) {
            let is_micros = name.ends_with("_seconds_total");
            let shown = if is_micros { as_seconds(*count) } else { count.to_string() };
            let _ = writeln!(text, "openexec_{name}{{{label}=\"{value}\"}} {shown}");
        }
    }
}

/// Upper bounds of the buckets of a duration, in microseconds.
const BUCKETS_MICROS: [u64; 10] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; BUCKETS_MICROS.len()],
    count: Counter,
    sum_micros: Counter,
}

impl Durations {
    const KIND: &str = "histogram";

    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_MICROS) {
            bucket.add(u64::from(micros <= bound));
        }
        self.count.add(1);
        self.sum_micros.add(micros);
    }

    fn render(&self, text: &mut String, name: &str, _: &str) {
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_MICROS) {
            let (bound, count) = (as_seconds(bound), bucket.get());
            let _ = writeln!(text, "openexec_{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let count = self.count.get();
        let _ = writeln!(text, "openexec_{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "openexec_{name}_sum {}", as_seconds(self.sum_micros.get()));
        let _ = writeln!(text, "openexec_{name}_count {count}");
    }
}

/// Appends the lines before the values of a metric.
pub(crate) fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP openexec_{name} {help}\n# TYPE openexec_{name} {kind}");
}

fn as_seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
