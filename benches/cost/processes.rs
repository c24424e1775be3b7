//! What processes use, as Linux counts it.

use std::fs;

use crate::harness::{Backing, Ringback};

/// Ticks of a processor's time a second.
const TICKS: f64 = 100.0;

/// The processes that do a service's work: itself, and its store's server if there is one.
pub(crate) fn workers(service: &Ringback, store: &Backing) -> Vec<u32> {
    [Some(service.pid()), server_pid(store)].into_iter().flatten().collect()
}

/// The time that processors spent on a process.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    // utime and stime are fields 14 and 15; the name, which may hold blanks, is the second.
    let ticks = [fields[11], fields[12]].map(|field| field.parse::<f64>().expect("ticks"));
    (ticks[0] + ticks[1]) / TICKS
}

/// The memory a process has, in MiB.
pub(crate) fn memory_mib(pid: u32) -> f64 {
    status_kib(pid, "VmRSS:") / 1_024.0
}

/// The most memory a process had, in MiB: ever, or since [`forget_peak`].
pub(crate) fn peak_mib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM:") / 1_024.0
}

/// Lets [`peak_mib`] begin anew.
pub(crate) fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of our own");
}

/// The process of the store's server, if it has one.
fn server_pid(store: &Backing) -> Option<u32> {
    let Backing::Redis(redis) = store else { return None };
    let info = redis.ask("INFO server");
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    Some(pid.and_then(|pid| pid.trim().parse().ok()).expect("the server's process"))
}

fn status_kib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
