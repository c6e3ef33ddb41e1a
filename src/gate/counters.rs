//! What the gate has seen, for `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why the gate ended a connection that its client would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutBy {
    Idle,
    Head,
    Body,
    Answer,
    HeldBytes,
}

const CUT_NAMES: [&str; 5] = ["idle", "head", "body", "answer", "held_bytes"];

/// Counted without locks: every connection's thread adds to them.
#[derive(Debug, Default)]
pub struct Counters {
    pub open: AtomicU64,
    pub accepted: AtomicU64,
    pub evicted: AtomicU64,
    pub refused: AtomicU64,
    pub accept_errors: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    cut: [AtomicU64; CUT_NAMES.len()],
}

impl Counters {
    /// One connection more that was cut.
    pub fn cut(&self, by: CutBy) {
        add(&self.cut[by as usize], 1);
    }

    /// Connections cut for one reason so far.
    pub fn cuts(&self, by: CutBy) -> u64 {
        read(&self.cut[by as usize])
    }

    /// Appends them in the Prometheus text format, 0.0.4.
    pub fn render(&self, out: &mut String) {
        let open = read(&self.open);
        family(out, "connections_open", "gauge", "Connections that are open");
        let _ = writeln!(out, "openexec_connections_open {open}");
        let totals = [
            ("connections_accepted", "Connections accepted", &self.accepted),
            ("connections_evicted", "Connections closed to make room for another", &self.evicted),
            (
                "connections_refused",
                "Connections answered 503 because none could make room",
                &self.refused,
            ),
            (
                "accept_errors",
                "Times that accepting, or a thread for it, failed",
                &self.accept_errors,
            ),
            ("received_bytes", "Bytes read from clients", &self.bytes_in),
            ("sent_bytes", "Bytes written to clients", &self.bytes_out),
        ];
        for (name, help, counter) in totals {
            let name = format!("{name}_total");
            family(out, &name, "counter", help);
            let _ = writeln!(out, "openexec_{name} {}", read(counter));
        }
        let help = "Connections cut at a deadline or for the bytes they held";
        family(out, "connections_cut_total", "counter", help);
        for (by, counter) in CUT_NAMES.iter().zip(&self.cut) {
            let count = read(counter);
            let _ = writeln!(out, "openexec_connections_cut_total{{by=\"{by}\"}} {count}");
        }
    }
}

/// Adds, in no order with anything else: these are only ever read to be shown.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP openexec_{name} {help}\n# TYPE openexec_{name} {kind}");
}
