//! Requests a second and latency over real sockets, each beside what bounds it, in one run.
//!
//! `cargo bench --bench service` prints one table a question. Every row is the median of several
//! rounds in which the two sides take turns, so that a machine that is busy is busy for both; only
//! the ratios are claims. The servers are processes of their own, on loopback, with a store in the
//! directory that `OPENEXEC_BENCH_DIR` names (default: the system's temporary one).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the product")]

mod load;
#[path = "../../tests/common/plain.rs"]
mod plain;
mod rivals;
#[path = "../../tests/common/signer.rs"]
mod signer;

use std::path::PathBuf;
use std::process::ExitCode;

use load::{Load, Measured, Running};
use openexec::core::json::Object;
use openexec::handlers::{Call, Effect, Failure, HANDLERS, Handler, Settings};
use plain::PLAIN;

/// One handler with an effect, whose effect costs nothing: what is left is the claim's own sync.
static BENCH_HANDLERS: &[Handler] = &[
    Handler { ..ECHO },
    Handler {
        action: "touch",
        summary: "Claims first, then does nothing.",
        effect: Effect::Idempotent,
        ..PLAIN
    },
];

const ECHO: Handler = Handler {
    action: "echo",
    summary: "Returns its payload.",
    result_bytes_max: 1024 * 1024,
    run: &echo,
    ..PLAIN
};

fn echo(call: &Call, _: &Settings) -> Result<Object, Failure> {
    Ok([("echo".to_owned(), call.payload.clone().into())].into_iter().collect())
}

const CONNECTIONS: [usize; 4] = [1, 8, 32, 128];

fn main() -> ExitCode {
    assert!(HANDLERS.iter().any(|handler| handler.action == ECHO.action));
    // The same program is each of the servers: see `load::Running`.
    match std::env::var("OPENEXEC_BENCH_ROLE").as_deref() {
        Ok("openexec") => return openexec::main(BENCH_HANDLERS),
        Ok(role) => return rivals::serve(role),
        Err(_) => {}
    }
    let directory =
        std::env::var_os("OPENEXEC_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let mut bench = Bench { directory, number: 0 };
    println!(
        "# Executions, beside the same path without checks (goal: ratio >= 0.8, p50 <= 1.25x)"
    );
    header("openexec", "ceiling");
    bench.compare("echo", "openexec", "gate-sync");
    println!("\n# Claims first, beside echo (two syncs beside one)");
    header("touch", "echo");
    bench.compare("touch", "openexec", "openexec");
    println!("\n# Replays, beside echo (no sync beside one)");
    header("replay", "echo");
    bench.compare("replay", "openexec", "openexec");
    println!("\n# Clawshield mode with a fresh approval each, beside echo in demo mode");
    header("approved", "echo");
    bench.compare("approved", "openexec", "openexec");
    println!("\n# The gate before tiny_http, beside tiny_http bare, the same handler that syncs");
    header("gate", "bare");
    bench.compare("post", "gate-sync", "bare-sync");
    println!(
        "\n# The same, where a sync takes 1 ms at least (goal: ratio >= 0.95 at 32 and 128, p50 <= 1.3x at 1)"
    );
    header("gate", "bare");
    bench.compare("post", "gate-slow", "bare-slow");
    println!("\n# The same, with a handler that does nothing");
    header("gate", "bare");
    bench.compare("post", "gate-nothing", "bare-nothing");
    println!("\n# The disk alone: one write and sync of one batch");
    rivals::disk_alone(&bench.directory);
    ExitCode::SUCCESS
}

fn header(left: &str, right: &str) {
    println!(
        "| connections | {left}/s | {right}/s | ratio | {left} p50, p99 ms | {right} p50, p99 ms | p50 ratio |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
}

struct Bench {
    directory: PathBuf,
    number: u32,
}

impl Bench {
    /// Measures `workload` on the server `left`, beside `echo` (or the same) on `right`.
    fn compare(&mut self, workload: &str, left: &str, right: &str) {
        const ROUNDS: usize = 5;
        let other = if left == right { "echo" } else { workload };
        let left = Running::start(left, workload, &self.scratch());
        let right = Running::start(right, other, &self.scratch());
        for connections in CONNECTIONS {
            let mut sides = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                sides.0.push(Load::new(workload, connections, round).run(&left));
                sides.1.push(Load::new(other, connections, round).run(&right));
            }
            let (a, b) = (Measured::median(sides.0), Measured::median(sides.1));
            println!(
                "| {connections} | {:.0} | {:.0} | {:.2} | {:.2}, {:.2} | {:.2}, {:.2} | {:.2} |",
                a.each_second,
                b.each_second,
                a.each_second / b.each_second,
                a.p50_ms,
                a.p99_ms,
                b.p50_ms,
                b.p99_ms,
                a.p50_ms / b.p50_ms
            );
        }
    }

    fn scratch(&mut self) -> PathBuf {
        self.number += 1;
        let name = format!("openexec-bench-{}-{}", std::process::id(), self.number);
        self.directory.join(name)
    }
}
