//! Rows 3, 23 and 24, and of row 2 what concerns uploads: batches that are half there, of every
//! extreme, and posted twice at once.

use std::{fmt::Write, time::Duration};

use futures_util::future::join_all;
use ringback::clock::Clock;
use serde_json::{Value, json};

use super::{Bounds, Row, compare, scene};
use crate::{
    harness::{Kind, PATIENCE, eventually, on_each_store},
    ndjson::Sending,
    scene::{Scene, accepted, counts, number, numbers, these, wish},
};

on_each_store! {
    an_upload_that_its_process_did_not_survive_leaves_nothing
    a_crash_between_the_chunks_and_the_seal_accepts_nothing
    a_crash_between_the_seal_and_the_answer_accepts_once
    batches_of_every_extreme_report_once
    one_key_is_one_batch_whoever_posts_it
}

/// How long the store may take to drop an upload and give its space back.
const CLEARED: Duration = Duration::from_secs(15);

async fn an_upload_that_its_process_did_not_survive_leaves_nothing(on: Kind) {
    const MESSAGES: usize = 40_000;
    const OFFSETS: [usize; 4] = [0, 400, 20_000, 39_990];
    let mut row = Row::begin(3, "api killed within uploads", on, "I7, space reclaimed");
    let mut scene = scene(on, |setup| setup).await;
    let keys_before = keys(&mut scene);
    let mut sendings = Vec::new();
    for offset in OFFSETS {
        let key = format!("upload-{offset}");
        let mut sending = Sending::begin(&scene.ringback, Some(&key)).await;
        let mut lines = format!("{}\n", json!({"body": "Hello"}));
        for index in 0..offset {
            writeln!(lines, "\"{}\"", number(index)).unwrap();
        }
        sending.send(&lines).await;
        sendings.push(sending);
    }
    until_there_are_uploads(&scene, OFFSETS.len()).await;
    scene.ringback.restart().await;
    row.inject_times("SIGKILL within an upload", u32::try_from(OFFSETS.len()).unwrap());
    drop(sendings);
    // Their keys are free again, for a batch of another body.
    let mut ids = Vec::new();
    for offset in OFFSETS {
        let key = format!("upload-{offset}");
        let batch = scene.batch(numbers(0..10));
        let answer = eventually("a key that is free", CLEARED, async || {
            let answer = scene.client.post_batch_once(&key, &batch).await;
            (answer.status == 202).then_some(answer)
        })
        .await;
        ids.push((answer.batch_id(), 10));
    }
    let found = compare(&scene, &ids, Bounds::default()).await;
    found.all_sent();
    assert_eq!(scene.provider.count(), 10 * OFFSETS.len(), "nothing of a half batch was sent");
    for (id, _) in &ids {
        assert_eq!(scene.client.delete(&format!("/v1/batches/{id}")).await.status, 202);
    }
    // All that is left of it is gone once it is erased.
    eventually("the space to be given back", CLEARED, async || {
        let list = scene.client.get("/v1/batches").await.json();
        let is_empty = list["batches"].as_array().unwrap().is_empty();
        (is_empty && keys(&mut scene) <= keys_before).then_some(())
    })
    .await;
    row.end(&found, format!("of {MESSAGES} lines each, after {OFFSETS:?}"));
}

/// Waits until so many uploads are under way.
async fn until_there_are_uploads(scene: &Scene, count: usize) {
    eventually("uploads under way", PATIENCE, async || {
        let list = scene.client.get("/v1/batches?state=receiving").await.json();
        (list["batches"].as_array().unwrap().len() == count).then_some(())
    })
    .await;
}

/// How many keys, or rows of chunks, the store has.
fn keys(scene: &mut Scene) -> i64 {
    match &scene.store {
        crate::harness::Backing::Redis(redis) => {
            let keys = redis.ask("KEYS rb:{p00}b:*");
            let count = keys.lines().filter(|line| line.starts_with("rb:")).count();
            i64::try_from(count).unwrap()
        }
        crate::harness::Backing::Embedded(folder) => {
            let db = rusqlite::Connection::open(folder.path().join("ringback.db")).unwrap();
            db.busy_timeout(Duration::from_secs(5)).unwrap();
            db.query_row("SELECT count(*) FROM chunk", [], |row| row.get::<_, i64>(0)).unwrap()
        }
    }
}

/// Posts a batch whose process crashes at this point, and again after it was started anew.
async fn posted_over_a_crash(on: Kind, point: &'static str) -> (Scene, Vec<u16>, String) {
    let mut scene = scene(on, |setup| setup.crash_at(point, 1)).await;
    let batch = scene.batch(numbers(0..2_000));
    let answer = scene.client.try_post_batch_once("k", &batch).await;
    assert!(answer.is_none(), "it answered before it crashed");
    scene.ringback.restart_after_its_crash().await;
    let mut statuses = Vec::new();
    let answer = eventually("its acceptance", CLEARED, async || {
        let answer = scene.client.post_batch_once("k", &batch).await;
        statuses.push(answer.status);
        [200, 202].contains(&answer.status).then_some(answer)
    })
    .await;
    let id = answer.batch_id();
    (scene, statuses, id)
}

async fn a_crash_between_the_chunks_and_the_seal_accepts_nothing(on: Kind) {
    let mut row = Row::begin(2, "appended", on, "I7");
    let (scene, statuses, id) = posted_over_a_crash(on, "appended").await;
    row.inject("abort");
    assert_eq!(statuses.last(), Some(&202), "the first one was accepted");
    let found = compare(&scene, &[(id, 2_000)], Bounds::default()).await;
    found.all_sent();
    row.end(&found, "accepted when it was repeated");
}

async fn a_crash_between_the_seal_and_the_answer_accepts_once(on: Kind) {
    let mut row = Row::begin(2, "sealed", on, "I1 I7");
    let (scene, statuses, id) = posted_over_a_crash(on, "sealed").await;
    row.inject("abort");
    assert_eq!(statuses, [200], "the first one was accepted");
    let found = compare(&scene, &[(id, 2_000)], super::after(1)).await;
    found.all_sent();
    let known = scene.client.get("/v1/batches").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), 1);
    row.end(&found, "the same batch when it was repeated");
}

async fn batches_of_every_extreme_report_once(on: Kind) {
    const MANY: usize = 1_000_000;
    let mut row = Row::begin(23, "batches of every extreme", on, "I1 I3 I5");
    let scene = scene(on, |setup| setup).await;
    let mut ended = Vec::new();
    let mut post = async |what: &'static str, batch: Value| {
        let id = accepted(&scene.client, &batch).await;
        let total = batch["recipients"].as_array().unwrap().len() as u64;
        row.inject(what);
        ended.push((id.clone(), total, what));
        id
    };
    post("empty", scene.batch(json!([]))).await;
    post("one message", scene.batch(numbers(0..1))).await;
    post("all invalid", scene.batch(vec!["nobody"; 700])).await;
    let ahead = |wait| json!(Clock::system().now().after(wait).to_string());
    let mut waits = scene.batch(numbers(0..700));
    waits["send_at"] = ahead(Duration::from_hours(1));
    let canceled = post("all canceled", waits.clone()).await;
    wish(&scene.client, &canceled, "cancel").await;
    // Nothing of it can leave before it expires: the provider is stopped.
    waits["send_at"] = ahead(Duration::from_millis(900));
    waits["expire_at"] = ahead(Duration::from_secs(1));
    let provider = async |word: &str| {
        let path = format!("/v1/providers/carrier/{word}");
        assert_eq!(scene.client.post(&path, &[], "").await.status, 200);
    };
    provider("pause").await;
    let expired = post("all expired", waits).await;
    scene.client.wait_until_complete(&expired, PATIENCE).await;
    provider("resume").await;
    let large = upload_and_cancel(&scene, MANY).await;
    row.inject("a million");
    let mut ids = Vec::new();
    for (id, total, what) in ended {
        let over = scene.client.wait_until_complete(&id, PATIENCE).await;
        let expected = match what {
            "empty" => these([]),
            "one message" => these([("sent", total)]),
            "all invalid" => these([("failed", total)]),
            "all canceled" => these([("canceled", total)]),
            _ => these([("expired", total)]),
        };
        assert_eq!(counts(&over), expected, "{what}");
        ids.push((id, total));
    }
    ids.push((large, MANY as u64));
    let found = compare(&scene, &ids, Bounds::default()).await;
    row.end(&found, "");
}

/// A batch of lines, which is canceled as soon as it is accepted.
async fn upload_and_cancel(scene: &Scene, messages: usize) -> String {
    let head = json!({"body": "Hello", "callback_url": scene.receiver.url()});
    let mut lines = format!("{head}\n");
    for index in 0..messages {
        writeln!(lines, "\"{}\"", number(index)).unwrap();
    }
    let form = [("content-type", "application/x-ndjson")];
    let answer = scene.client.post("/v1/batches", &form, lines).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.batch_id();
    wish(&scene.client, &id, "cancel").await;
    id
}

async fn one_key_is_one_batch_whoever_posts_it(on: Kind) {
    const AT_ONCE: usize = 24;
    let mut row = Row::begin(24, "one key, many requests", on, "I7");
    let scene = scene(on, |setup| setup).await;
    let batch_of = |messages| scene.batch(numbers(0..messages));
    let batch = batch_of(1_000);
    let answers =
        join_all((0..AT_ONCE).map(|_| scene.client.post_batch_once("at-once", &batch))).await;
    row.inject_times("request", u32::try_from(AT_ONCE).unwrap());
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    let told = [202, 200, 409].map(count);
    assert_eq!((told[0], told.iter().sum::<usize>()), (1, AT_ONCE), "{told:?}");
    let first = answers.iter().find(|answer| answer.status == 202).unwrap().batch_id();
    // Slowly, and meanwhile once more; then with another body.
    let mut slow = Sending::begin(&scene.ringback, Some("slow")).await;
    let head = json!({"body": "Hello", "callback_url": scene.receiver.url()});
    slow.send(&format!("{head}\n\"{}\"\n", number(0))).await;
    until_there_are_uploads(&scene, 1).await;
    let refused = scene.client.post_batch_once("slow", &batch).await;
    assert_eq!((refused.status, refused.header("retry-after")), (409, "1"), "{}", refused.text);
    slow.send(&format!("\"{}\"\n", number(1))).await;
    let (status, slow) = slow.end().await;
    assert_eq!(status, 202, "{slow}");
    let other = scene.client.post_batch_once("at-once", &batch_of(999)).await;
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    let slow = slow["id"].as_str().unwrap().to_owned();
    let found = compare(&scene, &[(first, 1_000), (slow, 2)], Bounds::default()).await;
    found.all_sent();
    row.end(&found, format!("202, 200, 409: {told:?}"));
}
