//! Rows 15, 17 and 25: receivers that are away, that send callbacks elsewhere or have no good
//! certificate, and name servers that fail. Row 16 is in `guard.rs`.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Bounds, Found, Row, compare, scene};
use crate::{
    harness::{
        Kind, NameServer, PATIENCE, Receiver, Records, Reply, Stranger, eventually, free_port,
        on_each_store,
    },
    scene::{Scene, accepted, numbers, shown_when},
};

on_each_store! {
    a_receiver_that_was_away_gets_every_callback_once_it_is_back
}

async fn a_receiver_that_was_away_gets_every_callback_once_it_is_back(on: Kind) {
    const BATCHES: usize = 30;
    let mut row = Row::begin(15, "receiver down, 500, resets", on, "I3 I4");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let scene = scene(on, |setup| {
        setup
            .set("callbacks.schedule", "50ms,100ms,200ms,400ms,400ms,400ms,400ms,400ms,1s,1s,1h")
            .set("callbacks.breaker_cool_down", "300ms")
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..BATCHES {
        let mut batch = scene.batch(numbers(0..20));
        batch["callback_url"] = format!("http://{address}/hooks/sms").into();
        ids.push((accepted(&scene.client, &batch).await, 20));
    }
    // Nobody is there; then somebody who answers 500, and then one who reads and resets.
    eventually("the log line", PATIENCE, async || {
        scene.ringback.log().contains("gives no answer").then_some(())
    })
    .await;
    row.inject_times("refused connection", 5);
    let receiver = Receiver::start_at(address);
    for reply in [Reply::Status(500), Reply::Reset] {
        receiver.set(reply);
        let before = receiver.deliveries().len();
        receiver.wait_for(before + BATCHES / 2, PATIENCE).await;
    }
    receiver.set(Reply::Status(200));
    let Scene { client, provider, .. } = &scene;
    let books = super::Books { client, providers: &[provider], receiver: &receiver };
    let found = books.compare(&ids, Bounds::default()).await;
    let replies = receiver.deliveries();
    let count = |reply| u32::try_from(replies.iter().filter(|each| each.reply == reply).count());
    row.inject_times("500", count(Reply::Status(500)).unwrap());
    row.inject_times("reset", count(Reply::Reset).unwrap());
    assert_eq!(count(Reply::Status(200)).unwrap() as usize, BATCHES);
    // One whose schedule is at its end stays visible, and comes when it is asked for.
    row.end(&found, "each taken once");
}

#[tokio::test]
async fn an_exhausted_callback_stays_visible_and_can_be_asked_for() {
    let mut row = Row::begin(15, "receiver down beyond the schedule", Kind::Redis, "I3 I4");
    let scene = scene(Kind::Redis, |setup| setup.set("callbacks.schedule", "20ms,20ms")).await;
    scene.receiver.set(Reply::Status(500));
    let id = scene.post(numbers(0..20)).await;
    shown_when(&scene.client, &id, "its end", |batch| batch["callback"]["state"] == "exhausted")
        .await;
    row.inject_times("500", 3);
    scene.receiver.set(Reply::Status(200));
    let path = format!("/v1/batches/{id}/callbacks/replay");
    assert_eq!(scene.client.post(&path, &[], "").await.status, 202);
    let found = compare(&scene, &[(id, 20)], Bounds::default()).await;
    assert_eq!(found.deliveries, 4);
    row.end(&found, "replayed with the same bytes");
}

#[tokio::test]
async fn a_redirect_a_410_and_a_bad_certificate_end_with_a_clear_reason() {
    let mut row =
        Row::begin(17, "redirect, 410, bad certificate", Kind::Redis, "no second hop; told why");
    let scene = scene(Kind::Redis, |setup| setup.set("callbacks.schedule", "20ms,20ms")).await;
    let (redirecting, gone) = (Receiver::start(), Receiver::start());
    redirecting.set(Reply::Redirect);
    gone.set(Reply::Status(410));
    let stranger = Stranger::start();
    let cases = [
        ("redirect", redirecting.url(), "exhausted", "redirects are not followed"),
        ("410", gone.url(), "gone", "the receiver answered 410"),
        ("bad certificate", stranger.url(), "exhausted", "certificate"),
    ];
    for (what, url, state, reason) in cases {
        let batch = json!({"body": "Hello", "recipients": [], "callback_url": url});
        let id = accepted(&scene.client, &batch).await;
        shown_when(&scene.client, &id, what, |batch| batch["callback"]["state"] == state).await;
        let told = scene.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
        for attempt in told["attempts"].as_array().unwrap() {
            let error = attempt["error"].as_str().unwrap();
            assert!(error.contains(reason), "{what}: {error}");
            row.inject(what);
        }
    }
    let paths: Vec<_> = redirecting.deliveries().into_iter().map(|each| each.path).collect();
    assert_eq!(paths, ["/hooks/sms"; 3], "nobody went on to where it was redirected");
    assert_eq!(gone.deliveries().len(), 1, "it was left alone");
    assert_eq!(stranger.requests(), 0, "nothing was said to a stranger");
    row.end(&Found::reports(3, 4), "");
}

#[tokio::test]
async fn name_servers_that_fail_hold_up_nobody_else() {
    const GOOD: usize = 100;
    const BAD: usize = 20;
    let mut row =
        Row::begin(25, "DNS fails, is silent, slow, changes", Kind::Redis, "bounded, temporary");
    let ip = Ipv4Addr::LOCALHOST;
    let found = || Records::Addresses(vec![ip]);
    let names = NameServer::start([
        ("good.example", vec![found()]),
        ("failing.example", vec![Records::Failure]),
        ("silent.example", vec![Records::Silence]),
        ("slow.example", vec![Records::Late(Duration::from_millis(700), vec![ip])]),
        ("mended.example", vec![Records::Unknown, Records::Unknown, found()]),
    ]);
    let scene = scene(Kind::Redis, |setup| {
        setup
            .set("callbacks.dns_servers", &names.address())
            .set("callbacks.timeout", "2s")
            .set("callbacks.schedule", "100ms,100ms,100ms")
            .set("callbacks.breaker_failures", "100000")
    })
    .await;
    let port =
        scene.receiver.url().rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let to = |name: &str| {
        let url = format!("http://{name}.example:{port}/hooks/sms");
        json!({"body": "Hello", "recipients": [], "callback_url": url})
    };
    let mut bad = Vec::new();
    for name in ["failing", "silent"] {
        for _ in 0..BAD {
            bad.push(accepted(&scene.client, &to(name)).await);
            row.inject(name);
        }
    }
    let slow = accepted(&scene.client, &to("slow")).await;
    let mended = accepted(&scene.client, &to("mended")).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..GOOD {
        let posted = Instant::now();
        let before = scene.receiver.deliveries().len();
        let id = accepted(&scene.client, &to("good")).await;
        eventually("its callback", PATIENCE, async || {
            let event = format!("evt_{}", id.strip_prefix("bat_").unwrap());
            let deliveries = scene.receiver.deliveries().split_off(before);
            deliveries.iter().any(|each| each.header("webhook-id") == event).then_some(())
        })
        .await;
        slowest = slowest.max(posted.elapsed());
    }
    for id in &bad {
        ended(&scene, id, "exhausted", 4).await;
    }
    ended(&scene, &slow, "delivered", 1).await;
    let told = ended(&scene, &mended, "delivered", 3).await;
    assert!(told[0]["error"].as_str().unwrap().contains("was not found"), "{told:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    row.inject("slow");
    row.inject("mended");
    let deliveries = scene.receiver.deliveries().len();
    assert_eq!(deliveries, GOOD + 2);
    row.end(&Found::reports(GOOD + 2, deliveries), format!("others within {slowest:.0?}"));
}

/// Waits until a callback is in this state after so many attempts; gives them.
async fn ended(scene: &Scene, id: &str, state: &str, attempts: usize) -> Vec<Value> {
    shown_when(&scene.client, id, state, |batch| batch["callback"]["state"] == state).await;
    let told = scene.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
    let told = told["attempts"].as_array().unwrap().clone();
    assert_eq!(told.len(), attempts, "{told:?}");
    told
}
