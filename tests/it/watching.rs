//! Clients that wait for a batch, follow it, or read all of its messages at once.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ringback::clock::Clock;
use serde_json::Value;

use crate::{
    api::new_key,
    harness::{Kind, PATIENCE, on_each_store},
    scene::{Scene, accepted, batch, counts, messages, number, numbers, shown, these, wish},
};

on_each_store! {
    a_long_poll_is_answered_at_the_end_or_when_the_time_is_up
    a_batch_that_is_known_is_not_sent_again
    a_stream_follows_a_batch_to_its_end
    all_messages_come_in_one_answer
}

/// One event of a stream.
#[derive(Debug)]
struct Told {
    name: String,
    id: String,
    batch: Value,
}

/// Follows a batch to the end of the stream.
async fn follow(scene: &Scene, id: &str) -> Vec<Told> {
    let path = format!("/v1/batches/{id}/events");
    let answer = scene.client.get(&path).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    let of = |event: &str, field: &str| {
        let lines = event.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        lines.unwrap_or_else(|| panic!("no {field} in {event}")).to_owned()
    };
    let events = answer.text.split("\n\n").filter(|event| event.contains("data: "));
    events
        .map(|event| Told {
            name: of(event, "event"),
            id: of(event, "id"),
            batch: serde_json::from_str(&of(event, "data")).unwrap(),
        })
        .collect()
}

async fn at_fifty_a_second(kind: Kind) -> Scene {
    Scene::start_on_with(kind, |setup| setup.set("providers.carrier.rate", "50/s")).await
}

async fn a_long_poll_is_answered_at_the_end_or_when_the_time_is_up(kind: Kind) {
    let scene = at_fifty_a_second(kind).await;
    let id = accepted(&scene.client, &batch(numbers(0..50))).await;
    let begin = Instant::now();
    let batch_over = scene.client.get(&format!("/v1/batches/{id}?wait=25s")).await.json();
    assert_eq!(counts(&batch_over), these([("sent", 50)]));
    assert!(begin.elapsed() > Duration::from_millis(500) && begin.elapsed() < PATIENCE / 2);
    // One that is over is not waited for.
    let begin = Instant::now();
    assert_eq!(scene.client.get(&format!("/v1/batches/{id}?wait=25s")).await.json(), batch_over);
    assert!(begin.elapsed() < Duration::from_secs(5));

    let held = accepted(&scene.client, &batch(numbers(0..500))).await;
    wish(&scene.client, &held, "pause").await;
    let begin = Instant::now();
    let answer = scene.client.get(&format!("/v1/batches/{held}?wait=600ms")).await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &"paused".into()));
    assert!(begin.elapsed() >= Duration::from_millis(600));
    for wrong in ["", "30", "6m", "-1s"] {
        let answer = scene.client.get(&format!("/v1/batches/{held}?wait={wrong}")).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &"/wait".into()));
    }
}

async fn a_batch_that_is_known_is_not_sent_again(kind: Kind) {
    let scene = Scene::start_on(kind).await;
    let id = accepted(&scene.client, &batch(numbers(0..3))).await;
    let path = format!("/v1/batches/{id}");
    scene.client.wait_until_complete(&id, PATIENCE).await;
    let first = scene.client.get(&path).await;
    let etag = first.header("etag").to_owned();
    let known = scene.client.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", &*etag));
    let other = accepted(&scene.client, &batch(numbers(0..3))).await;
    let path = format!("/v1/batches/{other}");
    let answer = scene.client.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &other.into()));
}

async fn a_stream_follows_a_batch_to_its_end(kind: Kind) {
    let scene = at_fifty_a_second(kind).await;
    let id = accepted(&scene.client, &batch(numbers(0..100))).await;
    let begin = Instant::now();
    let both = tokio::join!(follow(&scene, &id), follow(&scene, &id));
    let looks = begin.elapsed().as_millis() / 250 + 2;
    for told in [both.0, both.1] {
        assert!(told.len() > 2 && told.len() as u128 <= looks, "{looks} looks: {told:?}");
        let (last, before) = told.split_last().unwrap();
        assert!(before.iter().all(|told| told.name == "progress"), "{before:?}");
        assert!(before.windows(2).all(|two| two[0].id != two[1].id), "{before:?}");
        assert_eq!((&*last.name, &*last.id), ("completed", "completed"));
        assert_eq!(last.batch, shown(&scene.client, &id).await);
    }
    let path = format!("/v1/batches/{id}/events");
    let again = scene.client.get_with(&path, &[("last-event-id", "completed")]).await;
    assert_eq!((again.status, again.text.as_str()), (204, ""));
    let told = follow(&scene, &id).await;
    assert_eq!(told.len(), 1, "{told:?}");
    // A client's JSON may have line breaks; an event's data is one line.
    let text = "{\"body\": \"Hi\", \"recipients\": [], \"metadata\": {\r\n\"a\":\n1}}";
    let broken = scene.client.post("/v1/batches", &[], text).await.batch_id();
    assert_eq!(follow(&scene, &broken).await[0].batch["metadata"], serde_json::json!({"a": 1}));
    let nothing = scene.client.get("/v1/batches/bat_01M850VKVVFR222NAP7FS08R00/events").await;
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn who_follows_what_others_follow_sees_it_at_once_if_it_is_the_accounts() {
    let (acme, zeta) = (new_key("acme"), new_key("zeta"));
    let scene = Scene::start_with(|setup| {
        setup
            .set("accounts.acme.api_key_hashes", &acme.1)
            .set("accounts.zeta.api_key_hashes", &zeta.1)
    })
    .await;
    let (acme, zeta) = (scene.client.with_key(&acme.0), scene.client.with_key(&zeta.0));
    let mut waits = batch(numbers(0..1));
    waits["send_at"] = Clock::system().now().after(Duration::from_hours(1)).to_string().into();
    let id = accepted(&acme, &waits).await;
    let path = format!("/v1/batches/{id}/events");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = acme.stream(&path).await;
        let first = stream.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: progress\n"), "{first:?}");
        assert_eq!(zeta.get(&path).await.status, 404);
        streams.push(stream);
    }
    wish(&acme, &id, "cancel").await;
    for mut stream in streams {
        let last = stream.next().await.unwrap().unwrap();
        assert!(last.starts_with(b"event: completed\n"), "{last:?}");
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn a_stream_does_not_hold_up_a_shutdown() {
    let mut scene = at_fifty_a_second(Kind::Redis).await;
    let id = accepted(&scene.client, &batch(numbers(0..500))).await;
    wish(&scene.client, &id, "pause").await;
    let mut stream = scene.client.stream(&format!("/v1/batches/{id}/events")).await;
    assert!(stream.next().await.unwrap().unwrap().starts_with(b"event: progress\n"));
    let waits = format!("/v1/batches/{id}?wait=29s");
    let (waiting, begin) = (scene.client.get(&waits), Instant::now());
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.ringback.terminate();
        while stream.next().await.is_some() {}
    };
    assert_eq!(tokio::join!(waiting, ending).0.json()["state"], "paused");
    assert!(scene.ringback.wait_for_exit(PATIENCE).await.success());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

async fn all_messages_come_in_one_answer(kind: Kind) {
    let scene = Scene::start_on_with(kind, |setup| setup.set("worker.chunk_size", "300")).await;
    let mut recipients: Vec<Value> = numbers(0..2_500).into_iter().map(Value::from).collect();
    recipients[1_700] = "nobody".into();
    recipients[3] = serde_json::json!({"to": number(3), "reference": "a, \"b\""});
    let id = accepted(&scene.client, &batch(recipients)).await;
    scene.client.wait_until_complete(&id, PATIENCE).await;
    let path = format!("/v1/batches/{id}/messages");
    let get = async |query: &str, accept: &str| {
        scene.client.get_with(&format!("{path}{query}"), &[("accept", accept)]).await
    };

    let lines = get("", "application/x-ndjson").await;
    assert_eq!((lines.status, lines.header("content-type")), (200, "application/x-ndjson"));
    let read: Vec<Value> =
        lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, messages(&scene.client, &id).await);

    let csv = get("", "text/csv").await.text;
    let rows: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 2_501);
    assert!(rows[0].starts_with("id,index,to,reference,state,"), "{}", rows[0]);
    let fourth = format!("{id}.3,3,{},\"a, \"\"b\"\"\",sent,", number(3));
    assert!(rows[4].starts_with(&fourth), "{}", rows[4]);

    let failed = get("?state=failed", "application/x-ndjson").await.text;
    assert_eq!(failed.lines().count(), 1);
    assert!(failed.contains("\"to\":\"nobody\""), "{failed}");
    let paged = get("?limit=3", "text/csv").await;
    assert_eq!((paged.status, &paged.json()["errors"][0]["pointer"]), (422, &"/limit".into()));
}
