//! Row 22: a process that is out of file descriptors. (One whose log nobody reads is in
//! `process.rs` of the parts.)

use tokio::net::TcpStream;

use super::{Row, after, calls, compare, scene};
use crate::{
    harness::{Kind, PATIENCE, eventually, limit, on_each_store},
    scene::numbers,
};

on_each_store! {
    a_process_out_of_file_descriptors_panics_not_and_loses_nothing
}

async fn a_process_out_of_file_descriptors_panics_not_and_loses_nothing(on: Kind) {
    const MESSAGES: usize = 4_000;
    let mut row = Row::begin(22, "out of file descriptors", on, "I1 I6; no panic");
    let mut scene = scene(on, |setup| {
        setup
            .set("server.header_timeout", "1s")
            .set("providers.carrier.retry.attempts", "50")
            .set("providers.carrier.retry.first", "50ms")
            .set("providers.carrier.retry.longest", "200ms")
            .set("callbacks.schedule", "200ms,200ms,200ms,500ms,1s,1s,1s,1s,1s,1s,1h")
            // A descriptor that is missing looks like a host that is.
            .set("callbacks.breaker_cool_down", "300ms")
    })
    .await;
    let id = scene.post(numbers(0..MESSAGES)).await;
    calls(&scene.provider, 200).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", scene.ringback.pid())).unwrap().count();
    limit(&format!("--nofile={open}:"), scene.ringback.pid());
    row.inject("limit of descriptors");
    // Clients that only connect take whatever comes free.
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(scene.ringback.address()).await.unwrap());
        row.inject("idle connection");
    }
    eventually("a word about it", PATIENCE, async || {
        let log = scene.ringback.log();
        (log.contains("Too many open files") || log.contains("os error 24")).then_some(())
    })
    .await;
    drop(idle);
    // A new process has its old limit, and what was accepted is in the store.
    scene.ringback.restart().await;
    row.inject("SIGKILL");
    let found = compare(&scene, &[(id, MESSAGES as u64)], after(1)).await;
    found.all_sent();
    assert!(!scene.ringback.log().contains("panicked"), "{}", scene.ringback.log());
    row.end(&found, format!("{open} descriptors"));
}
