//! Receivers' hosts beside each other: what one does is no business of the others.

use std::{
    future::ready,
    net::TcpListener,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use ringback::clock::Clock;
use serde_json::json;

use crate::{
    faults::{Found, Row},
    harness::{Kind, PATIENCE, Receiver, eventually, free_port, on_each_store},
    scene::{Scene, accepted, latency, shown_when, with_callback},
};

on_each_store! {
    a_dead_host_holds_up_nobody
    a_host_that_answers_again_gets_what_waited
}

/// How many events wait for the dead host, and how many go to the live one.
const DEAD: usize = 2_000;
const LIVE: usize = 200;

/// From the completion to the receiver, for 99 of 100 callbacks: far less than the dead one's time-out,
/// and more than a machine that is busy with other tests takes (alone it is some milliseconds).
const LATENCY_MAX: Duration = Duration::from_millis(500);

async fn a_dead_host_holds_up_nobody(on: Kind) {
    let mut row = Row::begin(26, "a dead receiver with 2,000 callbacks", on, "latency bounded");
    let scene = Scene::start_on_with(on, |setup| setup.set("callbacks.timeout", "2s")).await;
    // It takes connections and says nothing.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut batch = json!({"body": "Hello", "recipients": []});
    batch["callback_url"] = format!("http://{}/", dead.local_addr().unwrap()).into();
    let posts = stream::iter(0..DEAD).map(|_| accepted(&scene.client, &batch));
    posts.buffer_unordered(8).for_each(|_| ready(())).await;
    let (zero, now) = (Instant::now(), Clock::system().now());
    let live = with_callback(json!({"body": "Hello", "recipients": []}), &scene.receiver);
    for _ in 0..LIVE {
        accepted(&scene.client, &live).await;
    }
    let deliveries = scene.receiver.wait_for(LIVE, Duration::from_secs(20)).await;
    let mut latencies: Vec<_> =
        deliveries.iter().map(|delivery| latency(delivery, zero, now)).collect();
    latencies.sort_unstable();
    let (median, p99) = (latencies[LIVE / 2], latencies[LIVE * 99 / 100]);
    assert!(p99 <= LATENCY_MAX, "{p99:?}");
    // The last of the living are recorded a moment after they arrive.
    let pending = format!("ringback_callbacks_pending {DEAD}");
    eventually("the pending ones to be the dead one's", PATIENCE, async || {
        scene.client.get("/metrics").await.text.contains(&pending).then_some(())
    })
    .await;
    row.inject_times("callback for the dead one", u32::try_from(DEAD).unwrap());
    let measured = format!("completion to callback: median {median:.1?}, p99 {p99:.1?}");
    row.end(&Found::reports(LIVE, deliveries.len()), measured);
}

async fn a_host_that_answers_again_gets_what_waited(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("callbacks.schedule", "50ms,50ms,50ms,50ms,50ms,1h")
            .set("callbacks.breaker_failures", "3")
            .set("callbacks.breaker_cool_down", "1s")
    })
    .await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut batch = json!({"body": "Hello", "recipients": []});
    batch["callback_url"] = format!("http://{address}/hooks/sms").into();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(accepted(&scene.client, &batch).await);
    }
    eventually("the log line", Duration::from_secs(10), async || {
        scene.ringback.log().contains("gives no answer").then_some(())
    })
    .await;
    // Now somebody listens there.
    let receiver = Receiver::start_at(address);
    for id in &ids {
        shown_when(&scene.client, id, "a delivered callback", |batch| {
            batch["callback"]["state"] == "delivered"
        })
        .await;
    }
    assert_eq!(receiver.deliveries().len(), ids.len());
    assert!(scene.ringback.log().contains("answers again"), "{}", scene.ringback.log());
}
