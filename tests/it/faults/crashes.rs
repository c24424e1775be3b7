//! Row 2: processes that end at named points, between a step and its record.
//!
//! What was recorded at the crash is never sent again; what was accepted and not recorded may be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Books, Bounds, Found, Row, Stage, after, compare, insist, scene, worker};
use crate::{
    harness::{Client, Kind, PATIENCE, Provider, Receiver, Redis, Reply},
    scene::{SECRET, accepted, batch, messages, numbers, setup, shown_when, with_callback},
};

const MESSAGES: usize = 2_000;

/// On Redis the worker alone crashes, so what is recorded can be seen before it starts again.
async fn a_worker_crashes(point: &'static str, times: u32, may_repeat: bool) {
    let mut row = Row::begin(2, point, Kind::Redis, "I1 I2 I3 I5 I6");
    let mut stage = Stage::set().await;
    let mut worker = stage.worker().crash_at(point, times).start().await;
    let id = stage.post(MESSAGES).await;
    worker.wait_for_exit(PATIENCE).await;
    row.inject("abort");
    let called = stage.provider.count();
    let recorded = final_ones(&stage.client, &id).await;
    worker.restart_after_its_crash().await;
    let bounds = if may_repeat { after(1) } else { Bounds::default() };
    let found = stage.compare(bounds).await;
    found.all_sent();
    let again: Vec<_> = stage.provider.calls().split_off(called);
    let again = again.iter().filter(|call| recorded.contains(&call.message_id)).count();
    assert_eq!(again, 0, "messages whose end was recorded");
    row.end(&found, format!("{} were recorded, none of them went again", recorded.len()));
}

/// The messages of a batch that are final.
async fn final_ones(client: &Client, id: &str) -> BTreeSet<String> {
    let ended =
        |message: &Value| !["queued", "sending"].contains(&message["state"].as_str().unwrap());
    let messages = messages(client, id).await;
    let ended = messages.iter().filter(|message| ended(message));
    ended.map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

/// On the embedded store the one process crashes.
async fn the_process_crashes(point: &'static str, times: u32, may_repeat: bool) {
    let mut row = Row::begin(2, point, Kind::Embedded, "I1 I2 I3 I5 I6");
    let mut scene = scene(Kind::Embedded, |setup| {
        setup.crash_at(point, times).set("callbacks.timeout", "500ms")
    })
    .await;
    // It may crash before it answers.
    let batch = scene.batch(numbers(0..MESSAGES));
    scene.client.try_post_batch_once("k", &batch).await;
    scene.ringback.restart_after_its_crash().await;
    row.inject("abort");
    let id = insist(&scene.client, "k", &batch).await;
    let mut bounds = if may_repeat { after(1) } else { Bounds::default() };
    // The notifier may be in the middle of the callback when the worker's end takes it along.
    bounds.reports = 1;
    let found = compare(&scene, &[(id, MESSAGES as u64)], bounds).await;
    found.all_sent();
    row.end(&found, "");
}

#[tokio::test]
async fn claimed_on_redis() {
    a_worker_crashes("claimed", 1, false).await;
}

#[tokio::test]
async fn claimed_on_embedded() {
    the_process_crashes("claimed", 1, false).await;
}

#[tokio::test]
async fn accepted_and_not_recorded_on_redis() {
    a_worker_crashes("accepted", 700, true).await;
}

#[tokio::test]
async fn accepted_and_not_recorded_on_embedded() {
    the_process_crashes("accepted", 700, true).await;
}

#[tokio::test]
async fn recorded_and_not_completed_on_redis() {
    a_worker_crashes("recorded", 10, true).await;
}

#[tokio::test]
async fn recorded_and_not_completed_on_embedded() {
    the_process_crashes("recorded", 10, true).await;
}

#[tokio::test]
async fn completed_and_the_callback_not_claimed_on_redis() {
    a_worker_crashes("completed", 1, false).await;
}

#[tokio::test]
async fn completed_and_the_callback_not_claimed_on_embedded() {
    the_process_crashes("completed", 1, false).await;
}

#[tokio::test]
async fn taken_by_the_receiver_and_not_recorded_on_redis() {
    let mut row = Row::begin(2, "delivered", Kind::Redis, "I3 I4");
    let (redis, provider, receiver) = (Redis::start().await, Provider::start(), Receiver::start());
    let api = setup(&redis, &provider).role("api").start().await;
    let _worker = worker(&redis, &provider).start().await;
    let notifier = setup(&redis, &provider).role("notifier").set("callbacks.timeout", "500ms");
    let notifier = notifier.set("callbacks.schedule", "100ms,1h");
    let mut notifier = notifier.crash_at("delivered", 1).start().await;
    let id = accepted(&api.client(), &with_callback(batch(numbers(0..100)), &receiver)).await;
    notifier.restart_after_its_crash().await;
    row.inject("abort");
    let client = api.client();
    let books = Books { client: &client, providers: &[&provider], receiver: &receiver };
    let found = books.compare(&[(id, 100)], Bounds { reports: 1, ..Bounds::default() }).await;
    assert_eq!(found.deliveries, 2);
    row.end(&found, "the same id and bytes again");
}

#[tokio::test]
async fn taken_by_the_receiver_and_not_recorded_on_embedded() {
    let mut row = Row::begin(2, "delivered", Kind::Embedded, "I3 I4");
    let mut scene = scene(Kind::Embedded, |setup| {
        let setup = setup.crash_at("delivered", 1).set("callbacks.timeout", "500ms");
        setup.set("callbacks.schedule", "100ms,1h")
    })
    .await;
    let id = scene.post(numbers(0..100)).await;
    scene.ringback.restart_after_its_crash().await;
    row.inject("abort");
    let bounds = Bounds { reports: 1, ..Bounds::default() };
    let found = compare(&scene, &[(id, 100)], bounds).await;
    assert_eq!(found.deliveries, 2);
    row.end(&found, "the same id and bytes again");
}

/// The callback of a notifier that dies while the receiver has it is delivered by the next one, and
/// the attempt is told of as interrupted.
#[tokio::test]
async fn a_callback_whose_notifier_died_is_delivered_by_the_next_one() {
    let (redis, provider) = (Redis::start().await, Provider::start());
    let notifier = || setup(&redis, &provider).role("notifier").set("callbacks.timeout", "1s");
    let rest = setup(&redis, &provider).role("api").role("worker").start().await;
    let receiver = Receiver::scripted([Reply::Hang]);
    let client = rest.client();
    let mut row = Row::begin(2, "notifier killed while it waits", Kind::Redis, "I3 I4");
    let mut first = notifier().start().await;
    let mut batch = with_callback(batch(numbers(0..3)), &receiver);
    batch["metadata"] = serde_json::json!({"b": 1, "a": 2});
    let id = accepted(&client, &batch).await;
    receiver.wait_for(1, PATIENCE).await;
    first.kill();
    row.inject("SIGKILL");
    let path = format!("/v1/batches/{id}/callbacks");
    let attempts = client.get(&path).await.json();
    let begun = &attempts["attempts"][0];
    // Until its lease is over, nobody can tell it from one that is under way.
    assert_eq!((&begun["number"], &begun["error"]), (&1.into(), &Value::Null), "{attempts}");
    assert!(begun["status"].is_null() && !attempts["next_attempt_at"].is_null(), "{attempts}");
    let _second = notifier().set("callbacks.schedule", "100ms,1h").start().await;
    shown_when(&client, &id, "the delivery", |batch| batch["callback"]["state"] == "delivered")
        .await;
    let deliveries = receiver.deliveries();
    for delivery in &deliveries {
        delivery.verify(SECRET);
    }
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[0].header("webhook-id"), deliveries[1].header("webhook-id"));
    assert_eq!(deliveries[0].body, deliveries[1].body);
    let attempts = client.get(&path).await.json();
    let told = |number: usize| {
        let attempt = &attempts["attempts"][number - 1];
        assert_eq!(attempt["number"], number);
        (attempt["status"].as_u64(), attempt["error"].as_str().map(str::to_owned))
    };
    assert_eq!(told(1), (None, Some("interrupted".to_owned())));
    assert_eq!(told(2), (Some(200), None));
    assert!(attempts["next_attempt_at"].is_null());
    row.end(&Found::reports(1, 2), "");
}
