//! The executor in a simulated world, over the files and over a store in memory: random histories of clients, crashes, lying
//! disks and restarts, each a function of one seed, and the promises of the store checked after each
//! restart.
//!
//! - `cargo test --test simulation`: a fixed number of fixed seeds.
//! - `OPENEXEC_SIM_SECONDS=60 cargo test --release --test simulation -- --nocapture`: fresh seeds
//!   for that long.
//! - `OPENEXEC_SIM_SEED=n cargo test --test simulation random_histories -- --nocapture`: that
//!   history again, step by step.

#![allow(clippy::disallowed_methods, reason = "tests look at the environment and the clock")]

mod checkpoint;
mod clock;
mod disk;
mod handlers;
mod judged;
mod lying;
mod memory;
mod notes;
mod random;
mod refusals;
mod requests;
mod room;
mod shown;
#[path = "../common/signer.rs"]
mod signer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use requests::Catalogue;
use world::{Tally, history};

/// Histories of a plain `cargo test`.
const HISTORIES: u64 = 1_000;

#[test]
fn random_histories() {
    let catalogue = Catalogue::new();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("OPENEXEC_SIM_SEED") {
        let ended = history(seed, &catalogue, true);
        println!("seed {seed}: {ended:?}");
        return assert!(ended.is_ok(), "{ended:?}");
    }
    let lasts = number("OPENEXEC_SIM_SECONDS").map(Duration::from_secs);
    let first = match lasts {
        Some(_) => {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
        }
        None => 0,
    };
    let began = Instant::now();
    // Each history is a function of its seed alone, so they may run beside one another.
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let worker = |worker: u64| {
        let mut tally = Tally::default();
        let mut count = 0;
        for number in (worker..).step_by(threads as usize) {
            if !lasts.map_or(number < HISTORIES, |lasts| began.elapsed() < lasts) {
                break;
            }
            let seed = first.wrapping_add(number);
            match catch_unwind(AssertUnwindSafe(|| history(seed, &catalogue, false))) {
                Ok(Ok(one)) => tally.add(&one),
                Ok(Err(violation)) => fail(seed, &violation),
                Err(_) => fail(seed, "a panic"),
            }
            count += 1;
        }
        (tally, count)
    };
    let (tally, count) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || worker(n))).collect();
        let mut sum = (Tally::default(), 0u64);
        for worker in workers {
            let (tally, count) = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            sum.0.add(&tally);
            sum.1 += count;
        }
        sum
    });
    let took = began.elapsed();
    let rate = count as f64 / took.as_secs_f64();
    println!("{count} histories in {took:.1?}, {rate:.0} a second: {tally:?}");
    // A simulation that meets nothing proves nothing.
    let met = [
        tally.crashes,
        tally.crashes_while_opening,
        tally.faults,
        tally.torn,
        tally.poisoned,
        tally.executed,
        tally.replayed,
        tally.refused,
        tally.no_space,
        tally.store_full,
        tally.run_again,
        tally.interrupted,
        tally.segments,
        tally.steps,
        tally.clock_behind,
        tally.clock_jumped,
        tally.fenced,
        tally.settled,
        tally.proposed,
        tally.completed,
        tally.decided,
        tally.expired,
        tally.promised,
        tally.kept,
        tally.approved,
        tally.set_off,
        tally.refused_then,
    ];
    assert!(met.iter().all(|times| *times > 0), "never met: {tally:?}");
}

fn fail(seed: u64, violation: &str) -> ! {
    panic!(
        "seed {seed}: {violation}\nreplay it: OPENEXEC_SIM_SEED={seed} \
         cargo test --test simulation random_histories -- --nocapture"
    );
}
