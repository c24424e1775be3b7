//! Clients that hold connections open, and those that send a byte now and then, harm nobody else; and
//! they are closed in time. `benches/cost`, case `slow`, does the same with more of them.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    harness::{Backing, Client, Crowd, Held, Kind, Manner, PATIENCE, Ringback},
    scene::{Scene, accepted, numbers},
};

/// From one byte to the next.
const DRIP: Duration = Duration::from_millis(50);

/// Healthy requests, one after the other.
const REQUESTS: usize = 200;

/// The longest that 99 of 100 healthy requests take, on a machine that is busy with other tests.
const LATENCY_MAX: Duration = Duration::from_millis(500);

/// By how much the service may grow with 500 connections, in KiB.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// All that only wait, in equal parts.
fn idle(each: usize) -> [(Manner, usize); 4] {
    [Manner::Silent, Manner::Half, Manner::Kept, Manner::DripsHead].map(|manner| (manner, each))
}

/// Posts batches and looks at them, each time on a connection of its own; gives the 99th percentile.
async fn healthy(ringback: &Ringback) -> Duration {
    let mut times = Vec::new();
    for _ in 0..REQUESTS / 2 {
        // A client that was not used before has no connection.
        let client = Client::of(&format!("http://{}", ringback.address()));
        let begun = Instant::now();
        let id = accepted(&client, &json!({"body": "Hi", "recipients": numbers(0..1)})).await;
        times.push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(client.get(&format!("/v1/batches/{id}")).await.status, 200);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The memory that a process has, in KiB.
fn memory_kib(ringback: &Ringback) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", ringback.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn idle_and_dripping_clients_keep_nobody_out() {
    let scene = Scene::start_with(|setup| setup.set("server.connections_max", "400")).await;
    let (alone, before_kib) = (healthy(&scene.ringback).await, memory_kib(&scene.ringback));
    let members = [&idle(100)[..], &[(Manner::DripsBody, 100)]].concat();
    let crowd = Crowd::gather(&scene.ringback.address(), DRIP, &members);
    // More than there are places, and they come back.
    crowd.wait_until_open(350, PATIENCE).await;
    let beside = healthy(&scene.ringback).await;
    let (open, after_kib) = (crowd.open(), memory_kib(&scene.ringback));
    println!(
        "p99 {alone:?} alone, {beside:?} beside {open} connections of others; memory {before_kib} KiB \
         before, {after_kib} beside them"
    );
    assert!(open >= 300, "{open}");
    assert!(beside < LATENCY_MAX, "{beside:?}");
    assert!(after_kib < before_kib + GROWTH_KIB_MAX, "{before_kib} KiB became {after_kib}");
    assert!(!scene.ringback.log().contains("panicked"));
}

#[tokio::test]
async fn idle_and_dripping_clients_are_closed_in_time() {
    let store = Backing::start(Kind::Embedded).await;
    let ringback = Ringback::on(&store)
        .set("server.header_timeout", "1s")
        .set("server.body_timeout", "2s")
        .start()
        .await;
    let members = [&idle(10)[..], &[(Manner::DripsBody, 10)]].concat();
    let crowd = Crowd::gather(&ringback.address(), DRIP, &members);
    crowd.wait_until_open(50, PATIENCE).await;
    let held = crowd.wait_until_closed(PATIENCE).await;
    assert_eq!(held.len(), 50);
    for Held { manner, time, status } in held {
        let (least, expected) = match manner {
            Manner::DripsBody => (2_000, 408),
            Manner::Kept => (1_000, 200),
            Manner::Silent | Manner::Half | Manner::DripsHead => (1_000, status),
        };
        assert!([0, 200, 408].contains(&status) && status == expected, "{manner:?}: {status}");
        assert!(time >= Duration::from_millis(least * 9 / 10), "{manner:?}: {time:?}");
    }
    assert_eq!(ringback.client().get("/v1/batches").await.json()["batches"], json!([]));
}

#[tokio::test]
async fn a_process_that_may_open_no_more_files_makes_room() {
    let store = Backing::start(Kind::Embedded).await;
    let ringback = Ringback::on(&store).files_max(Some(200)).start().await;
    let crowd = Crowd::gather(&ringback.address(), DRIP, &idle(75));
    crowd.wait_until_open(150, PATIENCE).await;
    let p99 = healthy(&ringback).await;
    println!("p99 {p99:?} where the process has no more files");
    assert!(p99 < PATIENCE / 2, "{p99:?}");
    let log = ringback.log();
    assert!(log.contains("a connection could not be accepted") && !log.contains("panicked"));
}
