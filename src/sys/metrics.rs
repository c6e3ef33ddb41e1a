//! Counters of the front and the executor, in the Prometheus text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::{clock, journal};

/// A number that anybody may add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters told apart by one label, whose values are words of ours.
#[derive(Default)]
pub struct Labelled(Mutex<BTreeMap<&'static str, u64>>);

impl Labelled {
    pub fn add(&self, label: &'static str, more: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_insert(0) += more;
    }

    fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Upper bounds of the buckets of a duration, in microseconds.
const BUCKETS_MICROS: [u64; 10] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];

/// A histogram of durations.
#[derive(Default)]
pub struct Durations {
    buckets: [Counter; BUCKETS_MICROS.len()],
    count: Counter,
    sum_micros: Counter,
}

impl Durations {
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_MICROS) {
            if micros <= bound {
                bucket.add(1);
            }
        }
        self.count.add(1);
        self.sum_micros.add(micros);
    }
}

/// Everything that is counted beside the gate's own numbers.
#[derive(Default)]
pub struct Metrics {
    /// By outcome.
    pub executions: Labelled,
    /// By code; those not stored are among them.
    pub refusals: Labelled,
    /// By code.
    pub refusals_not_stored: Labelled,
    pub replays: Counter,
    pub batches: Counter,
    pub batch_requests: Counter,
    /// One write and one sync of a batch.
    pub syncs: Durations,
    /// By action.
    pub handler_micros: Labelled,
    pub handler_runs: Labelled,
    /// Runs of over a second, by action.
    pub handler_slow_runs: Labelled,
    pub store_bytes: Counter,
    pub store_records: Counter,
    pub store_executions: Counter,
    /// Segments that wait behind the current one.
    pub segments_prepared: Counter,
    /// 1 while the wanted segment cannot be made.
    pub segment_failing: Counter,
    pub frozen: Counter,
    /// Claims that are owed a receipt.
    pub owed: Counter,
    /// Second of the Unix time of the oldest of them; 0 where there is none.
    pub owed_since: Counter,
    /// 1 while the checkpoint file cannot be written.
    pub checkpoint_failing: Counter,
    /// Records that the checkpoint file covers.
    pub checkpoint_records: Counter,
}

impl Metrics {
    /// Appends all of it to `text`.
    pub fn render(&self, text: &mut String) {
        counter(text, "replays_total", "Answers given again.", &self.replays);
        counter(text, "batches_total", "Batches written and synced.", &self.batches);
        counter(text, "batch_requests_total", "Requests answered by them.", &self.batch_requests);
        let not_stored = "Refused attempts that were counted, not stored, by code.";
        let slow = "Runs of over a second, by action.";
        for (name, help, label, values) in [
            ("executions_total", "Executions by outcome.", "outcome", &self.executions),
            ("refusals_total", "Refused attempts by code.", "code", &self.refusals),
            ("refusals_not_stored_total", not_stored, "code", &self.refusals_not_stored),
            ("handler_runs_total", "Runs by action.", "action", &self.handler_runs),
            ("handler_slow_runs_total", slow, "action", &self.handler_slow_runs),
            ("handler_seconds_total", "Time in them, by action.", "action", &self.handler_micros),
        ] {
            labelled(text, name, help, label, values);
        }
        histogram(text, "sync_seconds", "One write and sync of a batch.", &self.syncs);
        let since = self.owed_since.get();
        let now = u64::try_from(clock::now().seconds()).unwrap_or(0);
        let age = if since == 0 { 0 } else { now.saturating_sub(since) };
        for (name, help, value) in [
            ("store_bytes", "Bytes of the store in use.", self.store_bytes.get()),
            ("store_records", "Records in the store.", self.store_records.get()),
            ("store_executions", "Executions in the store.", self.store_executions.get()),
            ("segments_prepared", "Segments that wait their turn.", self.segments_prepared.get()),
            ("segment_failing", "1 while none can be made.", self.segment_failing.get()),
            ("frozen", "1 while execution is frozen.", self.frozen.get()),
            ("checkpoint_failing", "1 while it cannot be written.", self.checkpoint_failing.get()),
            ("checkpoint_records", "Records that it covers.", self.checkpoint_records.get()),
            ("owed_receipts", "Claims that are owed a receipt.", self.owed.get()),
            ("owed_oldest_seconds", "Age of the oldest of them.", age),
            ("log_lines_dropped", "Log lines dropped, not waited for.", journal::dropped_lines()),
        ] {
            gauge(text, name, help, value);
        }
    }
}

/// Appends the lines before the values of a metric.
pub fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP openexec_{name} {help}\n# TYPE openexec_{name} {kind}");
}

/// Appends one counter.
pub fn counter(text: &mut String, name: &str, help: &str, value: &Counter) {
    head(text, name, help, "counter");
    let _ = writeln!(text, "openexec_{name} {}", value.get());
}

/// Appends one gauge.
pub fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    head(text, name, help, "gauge");
    let _ = writeln!(text, "openexec_{name} {value}");
}

/// Appends one counter for each value of a label. Its name says its unit, as Prometheus has it.
fn labelled(text: &mut String, name: &str, help: &str, label: &str, values: &Labelled) {
    head(text, name, help, "counter");
    for (value, count) in values.all() {
        let shown = match name.ends_with("_seconds_total") {
            true => as_seconds(count),
            false => count.to_string(),
        };
        let _ = writeln!(text, "openexec_{name}{{{label}=\"{value}\"}} {shown}");
    }
}

fn histogram(text: &mut String, name: &str, help: &str, durations: &Durations) {
    head(text, name, help, "histogram");
    for (bucket, bound) in durations.buckets.iter().zip(BUCKETS_MICROS) {
        let (bound, count) = (as_seconds(bound), bucket.get());
        let _ = writeln!(text, "openexec_{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let count = durations.count.get();
    let _ = writeln!(text, "openexec_{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "openexec_{name}_sum {}", as_seconds(durations.sum_micros.get()));
    let _ = writeln!(text, "openexec_{name}_count {count}");
}

fn as_seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
