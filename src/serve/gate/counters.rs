//! What the gate has seen, for `/metrics`.

use std::fmt::Write;

use crate::core::line::words;
use crate::sys::metrics::{Counter, Gauge, metrics};

words! {
    /// Why the gate ended a connection that its client would have kept.
    CutBy {
        Idle = "idle",
        Head = "head",
        Body = "body",
        Answer = "answer",
        HeldBytes = "held_bytes",
    }
}

metrics! {
    /// Counted without locks: every connection's thread adds to them.
    Counters {
        open: Gauge = "connections_open", "Connections that do not wait for the executor.";
        waiting: Gauge = "requests_waiting", "Requests that wait for the executor.";
        accepted: Counter = "connections_accepted_total", "Connections accepted.";
        evicted: Counter = "connections_evicted_total", "Connections closed to make room for another.";
        refused: Counter = "requests_refused_total",
            "Requests answered 503 because too many wait for the executor.";
        accept_errors: Counter = "accept_errors_total",
            "Times that accepting, or a thread for it, failed.";
        bytes_in: Counter = "received_bytes_total", "Bytes read from clients.";
        bytes_out: Counter = "sent_bytes_total", "Bytes written to clients.";
        cut: Cuts = "connections_cut_total",
            "Connections cut at a deadline or for the bytes they held." by "by";
    }
}

/// Counted by reason.
#[derive(Debug, Default)]
pub struct Cuts([Counter; CutBy::ALL.len()]);

impl Cuts {
    const KIND: &str = Counter::KIND;

    pub fn by(&self, by: CutBy) -> &Counter {
        &self.0[by as usize]
    }

    fn render(&self, text: &mut String, name: &str, label: &str) {
        for (by, counter) in CutBy::ALL.iter().zip(&self.0) {
            let (by, count) = (by.name(), counter.get());
            let _ = writeln!(text, "openexec_{name}{{{label}=\"{by}\"}} {count}");
        }
    }
}
