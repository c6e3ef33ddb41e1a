//! What the gate has seen, for `/metrics`.

use std::fmt::Write;

use crate::sys::metrics::{Counter, counter, gauge, head};

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
    /// Connections that have a place.
    pub open: Counter,
    /// Requests for the executor, inside or in line.
    pub waiting: Counter,
    pub accepted: Counter,
    pub evicted: Counter,
    pub refused: Counter,
    pub accept_errors: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    cut: [Counter; CUT_NAMES.len()],
}

impl Counters {
    /// One connection more that was cut.
    pub fn cut(&self, by: CutBy) {
        self.cut[by as usize].add(1);
    }

    /// Connections cut for one reason so far.
    pub fn cuts(&self, by: CutBy) -> u64 {
        self.cut[by as usize].get()
    }

    /// Appends them in the Prometheus text format, 0.0.4.
    pub fn render(&self, out: &mut String) {
        let help = "Connections that do not wait for the executor.";
        gauge(out, "connections_open", help, self.open.get());
        let help = "Requests that wait for the executor.";
        gauge(out, "requests_waiting", help, self.waiting.get());
        let evicted = "Connections closed to make room for another.";
        let refused = "Requests answered 503 because too many wait for the executor.";
        let errors = "Times that accepting, or a thread for it, failed.";
        for (name, help, value) in [
            ("connections_accepted_total", "Connections accepted.", &self.accepted),
            ("connections_evicted_total", evicted, &self.evicted),
            ("requests_refused_total", refused, &self.refused),
            ("accept_errors_total", errors, &self.accept_errors),
            ("received_bytes_total", "Bytes read from clients.", &self.bytes_in),
            ("sent_bytes_total", "Bytes written to clients.", &self.bytes_out),
        ] {
            counter(out, name, help, value);
        }
        let help = "Connections cut at a deadline or for the bytes they held.";
        head(out, "connections_cut_total", help, "counter");
        for (by, counter) in CUT_NAMES.iter().zip(&self.cut) {
            let _ =
                writeln!(out, "openexec_connections_cut_total{{by=\"{by}\"}} {}", counter.get());
        }
    }
}
