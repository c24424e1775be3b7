//! What tests build on: servers around the service, the service itself, and a client.
//!
//! Everything is on loopback, starts on a port of its own, and ends with the test that started it.

mod authority;
mod backing;
mod client;
mod cluster;
mod crowd;
mod hosted;
mod hostile;
mod names;
mod oracle;
mod provider;
mod proxy;
mod ran;
mod receiver;
mod redis;
mod ringback;
mod sentinels;
mod stranger;
mod twilio;
mod watched;

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

pub(crate) use self::{
    authority::Authority,
    backing::{Backing, Kind, StoreUrl},
    client::{Answer, Client},
    cluster::Cluster,
    crowd::{Crowd, Held, Manner},
    hostile::{Habit, Hostile},
    names::{NameServer, Records},
    oracle::Oracle,
    provider::{Call, Fate, Mode, Provider},
    proxy::{Proxy, Way, Wire},
    ran::{Ran, run_to_end},
    receiver::{Delivery, Receiver, Reply},
    redis::{Redis, rule},
    ringback::{Ringback, Setup, command, variable},
    sentinels::{SENTINEL_PASSWORD, Sentinels},
    stranger::Stranger,
    twilio::{ACCOUNT, API_KEY, API_SECRET, Asked, Create, TOKEN, Twilio},
    watched::Watched,
};

/// Makes a test of each case on each store, in the modules `on_redis` and `on_embedded`. A case is a
/// function of the store's [`Kind`].
macro_rules! on_each_store {
    ($($case:ident)*) => {
        mod on_redis {
            $(#[tokio::test] async fn $case() { super::$case(crate::harness::Kind::Redis).await })*
        }
        mod on_embedded {
            $(
                #[tokio::test]
                async fn $case() { super::$case(crate::harness::Kind::Embedded).await }
            )*
        }
    };
}

pub(crate) use on_each_store;

/// How long tests wait for what should come at once on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until there is something to see; fails the test after `longest`.
pub(crate) async fn eventually<T>(
    what: &str,
    longest: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + longest;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "{what} did not happen within {longest:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that nobody listens on, and that no outgoing connection is given: below the range the
/// system takes those from. Else a client that looks for a server that is gone could meet itself.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_mul(7).wrapping_add(step)) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// What the configuration keeps of an API key: `sha256:` and its SHA-256 in hexadecimal.
pub(crate) fn key_hash(key: &str) -> String {
    let hash = digest(&SHA256, key.as_bytes());
    hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Changes a limit of one process, such as `--nofile=40`.
pub(crate) fn limit(what: &str, pid: u32) {
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), what]).status().unwrap();
    assert!(status.success(), "{what}: {status}");
}

/// A figure of `/proc/<pid>/status`, such as `VmHWM`, in KiB.
pub(crate) fn memory_kib(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Sends a signal to one process.
fn signal(name: &str, pid: u32) {
    // The shell has this command built in, where the program may be missing.
    let kill = format!("kill -s {name} {pid}");
    let status = Command::new("/bin/sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "{kill}: {status}");
}
