//! How far long work is, for whoever sits at a terminal.

use std::io::{IsTerminal, Write};

/// Reading less than this takes no time worth a word: a few segments.
const WORTH_SHOWING_BYTES: u64 = 128 << 20;

/// Shows on standard error, if that is a terminal, how many of `total` bytes have been read.
pub fn show(done: u64, total: u64) {
    let mut stderr = std::io::stderr();
    if total >= WORTH_SHOWING_BYTES && stderr.is_terminal() {
        let _ = write!(stderr, "\r{} of {} MiB read", done >> 20, total >> 20);
        let _ = if done == total { writeln!(stderr) } else { stderr.flush() };
    }
}
