//! Opening and auditing: time, the most memory that each takes, and bytes an execution.
//!
//! `cargo bench --bench store` measures 10 k and 1 M executions; `-- 10000000` a size of one's own,
//! `-- 10000000 batch=7` with so many executions in a batch (32, unless said), `approvals=3` with so
//! many for each execution. Each opening and each
//! audit is a process of its own, whose peak is what a service or `verify` holds. Beside it the same
//! files are read and hashed on one thread without being understood, and as many signatures are verified
//! on one thread: the ratios say what the rest costs, whatever the machine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the product")]

mod generate;
#[path = "../../tests/common/signer.rs"]
mod signer;
mod unsynced;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use ed25519_compact::{KeyPair, Seed};
use generate::Plan;
use openexec::core::hash::sha256;
use openexec::evidence::audit::audit;
use openexec::store::{GEOMETRY, Store, open};
use openexec::sys::disk::{Directory, Disk};

/// Signatures that the raw rate is measured with.
const VERIFIED: u64 = 100_000;
/// Different ones among them.
const SIGNED: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [task, path] = &arguments[..]
        && let "open" | "audit" | "read" | "raw" = task.as_str()
    {
        return alone(task, Path::new(path));
    }
    let sizes: Vec<u64> = arguments.iter().filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes };
    let number = |name: &str| {
        let number = arguments.iter().find_map(|argument| argument.strip_prefix(name));
        number.map(|number| number.parse().expect("a number"))
    };
    let approvals = number("approvals=").unwrap_or(0);
    let batch = number("batch=").unwrap_or(Plan::of(0, 0).batch);
    for executions in sizes {
        measure(Plan { executions, approvals, batch });
    }
}

fn measure(plan: Plan) {
    let path = std::env::temp_dir().join(format!("openexec-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    generate::generate(&path, GEOMETRY, plan);
    let [opened, audited, read] = ["open", "audit", "read"].map(|task| run(task, &path));
    println!(
        "{} executions, {} in a batch, {} approvals each: {} bytes each",
        plan.executions,
        plan.batch,
        plan.approvals,
        opened.amount / plan.executions
    );
    println!("  read and hash alone  {:.2} s", read.seconds);
    for (what, run) in [("opening", &opened), ("an audit", &audited)] {
        let (ratio, work) = (run.seconds / read.seconds, run.processor / read.processor);
        println!(
            "  {what:<20} {:.2} s, {ratio:.2} times that, {work:.2} times the processor's time; {} MiB",
            run.seconds,
            run.peak >> 20
        );
    }
    if plan.approvals > 0 {
        let raw = run("raw", &path);
        let (each, raw) = (raw.processor / raw.amount as f64, raw.amount as f64 / raw.seconds);
        // The key that signed is the first that is tried, and of several on average the middle one.
        let verifications = plan.executions * plan.approvals * (plan.approvals + 1) / 2;
        let rate = verifications as f64 / audited.seconds;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let ratio = rate / raw / cores as f64;
        println!("  signatures           {raw:.0}/s on one thread alone");
        println!("  in the audit         {rate:.0}/s, {ratio:.2} of that times {cores} cores");
        let share = each * verifications as f64 / audited.processor;
        println!("  of its processor's time {share:.2} is theirs");
    }
    let _ = std::fs::remove_dir_all(&path);
}

struct Run {
    seconds: f64,
    /// Seconds of all cores together: what other load takes away does not show in it.
    processor: f64,
    /// The most bytes that were resident.
    peak: u64,
    amount: u64,
}

fn run(task: &str, path: &Path) -> Run {
    let itself = std::env::current_exe().expect("this program");
    let output = Command::new(itself).arg(task).arg(path).output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [millis, ticks, peak, amount] = numbers[..] else { panic!("numbers, and not {text:?}") };
    Run { seconds: millis as f64 / 1000.0, processor: ticks as f64 / 100.0, peak, amount }
}

/// Does one thing and prints milliseconds, ticks of the processor, the most bytes that were resident, and how much it was: of an
/// opening the store's bytes, of the raw rate signatures.
fn alone(task: &str, path: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(Directory::open(path).expect("the directory"));
    let began = Instant::now();
    let amount = match task {
        "open" => open::open(disk, GEOMETRY, &mut |_, _| {}).expect("opens").0.room().used,
        "audit" => {
            let audited = audit(disk.as_ref(), GEOMETRY, None, None, &mut |_, _| {});
            audited.expect("a good store").records
        }
        "raw" => verify_alone(),
        _ => read_and_hash(disk.as_ref()),
    };
    println!("{} {} {} {amount}", began.elapsed().as_millis(), ticks(), peak());
}

/// Messages as long as an approval's, one after another, as a processor that learns would like them least.
fn verify_alone() -> u64 {
    let key = KeyPair::from_seed(Seed::new([1; 32]));
    let sign = |n: u64| {
        let message = [n.to_le_bytes(); 18].concat();
        let signature = key.sk.sign(&message, None);
        (message, signature)
    };
    let signed: Vec<_> = (0..SIGNED).map(sign).collect();
    for (message, signature) in signed.iter().cycle().take(VERIFIED as usize) {
        std::hint::black_box(&key.pk).verify(message, signature).expect("verifies");
    }
    VERIFIED
}

fn read_and_hash(disk: &dyn Disk) -> u64 {
    let mut buffer = vec![0; GEOMETRY.segment_bytes as usize];
    for number in 1.. {
        let name = openexec::store::segment::name(number);
        if disk.length(&name).is_err() {
            break;
        }
        disk.read_at(&name, 0, &mut buffer).expect("read");
        std::hint::black_box(sha256(&[&buffer]));
    }
    0
}

/// What this process has used, in hundredths of a second (proc_pid_stat(5): `utime` and `stime`).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("on Linux");
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The most bytes that were resident in this process at once.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
