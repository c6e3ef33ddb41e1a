//! Opening and auditing: time, the most memory that each takes, and bytes an execution.
//!
//! `cargo bench --bench store` measures 10 k and 1 M executions; `-- 10000000` a size of one's own,
//! and `-- 10000000 approvals=3` with so many approvals for each execution. Each opening and each
//! audit is a process of its own, whose peak is what a service or `verify` holds. Beside it the same
//! files are read and hashed without being understood: the ratio says what understanding costs,
//! whatever the machine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the product")]

mod generate;
mod unsynced;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use openexec::core::hash::sha256;
use openexec::evidence::audit::audit;
use openexec::store::{GEOMETRY, Store, open};
use openexec::sys::disk::{Directory, Disk};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [task, path] = &arguments[..]
        && let "open" | "audit" | "read" = task.as_str()
    {
        return alone(task, Path::new(path));
    }
    let sizes: Vec<u64> = arguments.iter().filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes };
    let approvals = arguments.iter().find_map(|argument| argument.strip_prefix("approvals="));
    let approvals = approvals.map_or(0, |number| number.parse().expect("approvals=NUMBER"));
    println!(
        "| executions | approvals each | bytes each | opening | read and hash alone | ratio | it holds \
         | an execution | an audit | it holds | of the opening's |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for size in sizes {
        measure(size, approvals);
    }
}

fn measure(executions: u64, approvals: u64) {
    let path = std::env::temp_dir().join(format!("openexec-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    generate::generate(&path, GEOMETRY, executions, approvals);
    let [opened, audited, read] = ["open", "audit", "read"].map(|task| {
        let itself = std::env::current_exe().expect("this program");
        let output = Command::new(itself).arg(task).arg(&path).output().expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("numbers");
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [millis, peak, bytes] = numbers[..] else { panic!("three numbers, and not {text:?}") };
        (millis as f64 / 1000.0, peak, bytes)
    });
    println!(
        "| {executions} | {approvals} | {} | {:.2} s | {:.2} s | {:.2} | {} MiB | {} bytes | {:.2} s | {} MiB | {:.2} |",
        opened.2 / executions,
        opened.0,
        read.0,
        opened.0 / read.0,
        opened.1 >> 20,
        opened.1 / executions,
        audited.0,
        audited.1 >> 20,
        audited.1 as f64 / opened.1 as f64
    );
    let _ = std::fs::remove_dir_all(&path);
}

/// Does one thing and prints milliseconds, the most bytes that were resident, and the store's bytes.
fn alone(task: &str, path: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(Directory::open(path).expect("the directory"));
    let began = Instant::now();
    let bytes = match task {
        "open" => open::open(disk, GEOMETRY, &mut |_, _| {}).expect("opens").0.room().used,
        "audit" => {
            audit(disk.as_ref(), GEOMETRY, None, None, &mut |_, _| {}).expect("a good store");
            0
        }
        _ => {
            read_and_hash(disk.as_ref());
            0
        }
    };
    println!("{} {} {bytes}", began.elapsed().as_millis(), peak());
}

fn read_and_hash(disk: &dyn Disk) {
    let mut buffer = vec![0; GEOMETRY.segment_bytes as usize];
    for number in 1.. {
        let name = openexec::store::segment::name(number);
        if disk.length(&name).is_err() {
            break;
        }
        disk.read_at(&name, 0, &mut buffer).expect("read");
        std::hint::black_box(sha256(&[&buffer]));
    }
}

/// The most bytes that were resident in this process at once.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
