//! How many connections this process can carry, from its file limit.
//!
//! Running out of files inside `tiny_http` panics its accept thread, so the limit on connections is
//! chosen such that it cannot happen.

use crate::sys::limits::{
    CONNECTIONS_PER_RESERVED, FILES_PER_CONNECTION, FILES_PER_INNER, FILES_RESERVED,
    THREADS_RESERVED,
};

/// What the process may reach, said at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Connections allowed: what was wanted, or what the file limit leaves.
    pub connections: usize,
    /// Threads the process can reach: for `TasksMax` and pids limits.
    pub threads: usize,
}

/// The plan for this process (`proc_pid_limits(5)`). A limit that cannot be read is taken as none.
pub fn connections_allowed(wanted: usize) -> Plan {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    plan(wanted, files_limit(&limits))
}

fn plan(wanted: usize, files: Option<usize>) -> Plan {
    let needed = |connections| {
        FILES_PER_CONNECTION * connections + FILES_PER_INNER * inner(connections) + FILES_RESERVED
    };
    let is_affordable =
        |connections: &usize| files.is_none_or(|files| needed(*connections) <= files);
    let connections = (2..=wanted).rev().find(is_affordable).unwrap_or(2);
    // The gate's: one for each, and one whose request waits for the executor. And `tiny_http`'s.
    Plan { connections, threads: 2 * connections + inner(connections) + THREADS_RESERVED }
}

/// Inner connections for so many places: as many requests may wait for the executor, and others are
/// answered beside them.
pub(super) fn inner(places: usize) -> usize {
    places + (places / CONNECTIONS_PER_RESERVED).max(1)
}

/// `Max open files            1024                 4096                 files`: the first number.
fn files_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_limit_lowers_the_connections() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             95765                95765                processes\n\
                      Max open files            64                   4096                 files\n";
        assert_eq!(files_limit(limits), Some(64));
        assert_eq!(files_limit("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(plan(128, Some(64)).connections, 5);
        assert_eq!(plan(128, Some(695)).connections, 127);
        assert_eq!(plan(128, Some(696)).connections, 128);
        assert_eq!(plan(128, None).connections, 128);
        assert_eq!(plan(128, Some(8)).connections, 2);
        assert_eq!(plan(128, None).threads, 392 + THREADS_RESERVED);
    }

    #[test]
    fn this_process_has_a_limit() {
        let limits = std::fs::read_to_string("/proc/self/limits").expect("read");
        assert!(files_limit(&limits).is_some());
    }
}
