//! The wheel in the clients' hands: batches that are changed before they begin and tried again after
//! they ended, and providers that are stopped.

use std::time::Duration;

use ringback::clock::Clock;
use serde_json::{Value, json};

use crate::{
    api::new_key,
    harness::{Client, Kind, Mode, PATIENCE, eventually, on_each_store},
    scene::{Scene, accepted, batch, counts, messages, number, numbers, shown, these, wish},
};

on_each_store! {
    a_stopped_provider_sends_nothing_until_it_is_resumed
    a_stop_outlives_the_process
    a_batch_that_waits_can_be_changed
    what_failed_is_tried_again_as_a_new_batch
    a_batch_with_a_rate_is_spread_over_time_and_holds_up_no_other
    nothing_leaves_in_quiet_hours
}

/// An instant so long from now.
fn ahead(wait: Duration) -> String {
    Clock::system().now().after(wait).to_string()
}

async fn provider(client: &Client) -> Value {
    let list = client.get("/v1/providers").await.json();
    let providers = list["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["name"] == "carrier").unwrap().clone()
}

async fn provider_is(client: &Client, word: &str) -> Value {
    let answer = client.post(&format!("/v1/providers/carrier/{word}"), &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let told = answer.json();
    assert_eq!(told["state"], provider(client).await["state"]);
    told
}

async fn a_stopped_provider_sends_nothing_until_it_is_resumed(on: Kind) {
    for rate in ["", "500/s"] {
        let scene = Scene::start_on_with(on, |setup| match rate {
            "" => setup,
            rate => setup.set("providers.carrier.rate", rate),
        })
        .await;
        // Without a rate, slowness keeps the batch from being over too soon.
        scene.provider.set(Mode::Delay(Duration::from_millis(50)));
        let id = scene.post(numbers(0..3_000)).await;
        eventually("some calls", PATIENCE, async || (scene.calls_of(&id) >= 50).then_some(()))
            .await;
        assert_eq!(provider_is(&scene.client, "pause").await["state"], "paused");
        let idle = async || (provider(&scene.client).await["in_flight"] == 0).then_some(());
        eventually("an end of what is in flight", PATIENCE, idle).await;
        let sent = scene.calls_of(&id);
        assert!(sent < 3_000, "all was sent already");
        let later = scene.post(numbers(0..10)).await;
        assert_eq!(provider_is(&scene.client, "pause").await["queued"], 3_010 - sent);
        // Longer than any look of a worker.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(scene.calls_of(&id) + scene.calls_of(&later), sent, "rate {rate:?}");
        assert_eq!(shown(&scene.client, &later).await["state"], "queued");
        assert_eq!(provider_is(&scene.client, "resume").await["state"], "running");
        assert_eq!(counts(&scene.report(&id).await), these([("sent", 3_000)]));
        scene.report(&later).await;
        assert_eq!(scene.provider.count(), 3_010, "nothing was sent twice");
    }
}

async fn a_stop_outlives_the_process(on: Kind) {
    let mut scene = Scene::start_on(on).await;
    provider_is(&scene.client, "pause").await;
    let id = accepted(&scene.client, &batch(numbers(0..10))).await;
    scene.ringback.kill();
    scene.ringback.restart().await;
    let shown = provider(&scene.client).await;
    let told = ["state", "kind", "queued", "max_in_flight"].map(|field| shown[field].clone());
    assert_eq!(told, [json!("paused"), json!("http"), json!(10), json!(64)]);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(scene.calls_of(&id), 0);
    provider_is(&scene.client, "resume").await;
    scene.client.wait_until_complete(&id, PATIENCE).await;
}

#[tokio::test]
async fn only_an_admin_stops_a_provider_or_sees_how_much_waits() {
    let (ops, acme) = (new_key("ops"), new_key("acme"));
    let scene = Scene::start_with(|setup| {
        setup
            .set("accounts.ops.api_key_hashes", &ops.1)
            .set("accounts.ops.admin", "true")
            .set("accounts.acme.api_key_hashes", &acme.1)
    })
    .await;
    let (ops, acme) = (scene.client.with_key(&ops.0), scene.client.with_key(&acme.0));
    for word in ["pause", "resume"] {
        let path = format!("/v1/providers/carrier/{word}");
        let refused = acme.post(&path, &[], "").await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("forbidden")));
        assert_eq!(scene.client.post(&path, &[], "").await.status, 401);
        assert_eq!(ops.post("/v1/providers/nobody/pause", &[], "").await.status, 404);
    }
    assert_eq!(provider(&acme).await["state"], "running");
    assert_eq!(provider(&acme).await["queued"], Value::Null);
    assert_eq!(provider(&ops).await["queued"], 0);
    provider_is(&ops, "pause").await;
    assert_eq!(provider(&acme).await["state"], "paused");
}

async fn a_batch_that_waits_can_be_changed(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut waits = scene.batch(numbers(0..3));
    waits["send_at"] = ahead(Duration::from_hours(1)).into();
    let id = accepted(&scene.client, &waits).await;
    let path = format!("/v1/batches/{id}");
    let (later, end) = (ahead(Duration::from_hours(2)), ahead(Duration::from_hours(3)));
    let change = json!({"body": "Bye", "send_at": later, "expire_at": end});
    let answer = scene.client.patch(&path, &change).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let changed = answer.json();
    assert_eq!((&changed["send_at"], &changed["expire_at"]), (&json!(later), &json!(end)));
    assert_eq!(changed["state"], "scheduled");
    assert_eq!(changed, shown(&scene.client, &id).await);

    for (change, pointer, code) in [
        (json!({"from": "x"}), "/from", "unknown_field"),
        (json!({"body": "{{"}), "/body", "template_invalid"),
        (json!({"body": null}), "/body", "missing"),
        (json!({"send_at": 5}), "/send_at", "wrong_type"),
        (json!({"smart_encoding": "yes"}), "/smart_encoding", "wrong_type"),
        (json!({"max_segments": 0}), "/max_segments", "invalid_value"),
        (json!({"send_at": ahead(Duration::from_hours(4))}), "/expire_at", "out_of_range"),
    ] {
        let refused = scene.client.patch(&path, &change).await;
        assert_eq!(refused.status, 422, "{change}: {}", refused.text);
        let error = &refused.json()["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)));
    }
    assert_eq!(scene.client.patch(&path, &json!({})).await.json()["send_at"], json!(later));

    // Without a time it begins at once.
    let begun = scene.client.patch(&path, &json!({"send_at": null, "expire_at": null})).await;
    assert_eq!((begun.status, &begun.json()["expire_at"]), (200, &Value::Null));
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 3)]));
    assert!(scene.provider.calls().iter().all(|call| call.body == "Bye"));
    let refused = scene.client.patch(&path, &json!({"body": "Late"})).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("batch_state")));
    let nowhere = "/v1/batches/bat_01M8504YGB5C2D44B7XT9Y7P00";
    assert_eq!(scene.client.patch(nowhere, &json!({})).await.status, 404);
}

async fn what_failed_is_tried_again_as_a_new_batch(on: Kind) {
    let scene =
        Scene::start_on_with(on, |setup| setup.set("providers.carrier.retry.attempts", "1")).await;
    let mut first = scene.batch(json!([
        number(0),
        {"to": number(1), "variables": {"name": "Ann"}, "reference": "user-1"},
        "nobody",
        {"to": number(3), "variables": {"name": "Bob"}},
    ]));
    first["body"] = "Hi {{name}}".into();
    first["reference"] = "spring".into();
    scene.provider.set(Mode::Reject(400));
    let parent = accepted(&scene.client, &first).await;
    // One lacks its variable, one is no number, and the provider refuses the other two.
    assert_eq!(counts(&scene.report(&parent).await), these([("failed", 4)]));

    scene.provider.set(Mode::Accept);

    let path = format!("/v1/batches/{parent}/retry");
    for (body, pointer, code) in [
        (json!({}), "/states", "missing"),
        (json!({"states": []}), "/states", "empty"),
        (json!({"states": ["sent"]}), "/states/0", "invalid_value"),
        (json!({"states": ["failed", "failed"]}), "/states/1", "duplicate_value"),
        (json!({"states": "failed"}), "/states", "wrong_type"),
        (json!({"state": []}), "/state", "unknown_field"),
    ] {
        let refused = scene.client.post(&path, &[], body.to_string()).await;
        assert_eq!(refused.status, 422, "{body}: {}", refused.text);
        let error = &refused.json()["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)));
    }
    let wanted = json!({"states": ["failed", "expired"]}).to_string();
    let once = [("idempotency-key", "again")];
    let answer = scene.client.post(&path, &once, wanted.clone()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.batch_id();
    assert_eq!((answer.json()["parent"].as_str(), id != parent), (Some(&*parent), true));
    let repeated = scene.client.post(&path, &once, wanted.clone()).await;
    assert_eq!((repeated.status, repeated.batch_id()), (200, id.clone()));
    let report = scene.report(&id).await;
    assert_eq!(counts(&report), these([("sent", 2), ("failed", 2)]));
    assert_eq!(report["reference"], "spring");
    let told = messages(&scene.client, &id).await;
    assert_eq!((&told[1]["reference"], &told[1]["state"]), (&json!("user-1"), &json!("sent")));
    let bodies: Vec<_> = scene.provider.calls().into_iter().rev().take(2).collect();
    assert!(bodies.iter().all(|call| ["Hi Ann", "Hi Bob"].contains(&call.body.as_str())));
    let reused = scene.client.post(&format!("/v1/batches/{id}/retry"), &once, wanted).await;
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("idempotency_key_reused")));
}

async fn a_batch_with_a_rate_is_spread_over_time_and_holds_up_no_other(on: Kind) {
    for provider_rate in ["", "1000/s"] {
        let scene = Scene::start_on_with(on, |setup| match provider_rate {
            "" => setup,
            rate => setup.set("providers.carrier.rate", rate),
        })
        .await;
        let mut slow = scene.batch(numbers(0..150));
        slow["rate"] = "100/s".into();
        let slow = accepted(&scene.client, &slow).await;
        let other = scene.post(numbers(0..600)).await;
        let report = scene.report(&other).await;
        assert_eq!(counts(&report), these([("sent", 600)]));
        assert_eq!(shown(&scene.client, &slow).await["completed_at"], Value::Null);
        let report = scene.report(&slow).await;
        assert_eq!(counts(&report), these([("sent", 150)]));
        assert_eq!(shown(&scene.client, &slow).await["rate"], "100/s");

        let calls = scene.provider.calls();
        let of_slow = calls.iter().filter(|call| call.message_id.starts_with(&slow));
        let mut times: Vec<_> = of_slow.map(|call| call.at).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 150);
        let took = times[149] - times[0];
        println!("{on:?}, provider's rate {provider_rate:?}: 150 at 100/s took {took:?}");
        // 50 ms of the rate may be caught up: 5 messages, and 2 for the way to the book.
        for (first, at) in times.iter().enumerate() {
            let within =
                times[first..].iter().filter(|later| **later - *at < Duration::from_millis(500));
            assert!(within.count() <= 50 + 7, "more than the rate");
        }
        assert!(took >= Duration::from_millis(1_380), "{took:?}");
        assert!(took <= Duration::from_secs(4), "{took:?}");
    }
}

async fn nothing_leaves_in_quiet_hours(on: Kind) {
    let scene = Scene::start_on(on).await;
    let minute_of_day = Clock::system().now().0 / 60_000 % 1_440;
    let time = |minutes: u64| {
        let minute = (minute_of_day + minutes) % 1_440;
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    let window = |start, end| json!({"start": start, "end": end, "time_zone": "utc"});
    let mut rests = scene.batch(numbers(0..3));
    rests["quiet_hours"] = window(time(1_440 - 1), time(60));
    rests["expire_at"] = ahead(Duration::from_millis(1_200)).into();
    let rests = accepted(&scene.client, &rests).await;
    let mut goes = scene.batch(numbers(0..3));
    goes["quiet_hours"] = window(time(60), time(120));
    let goes = accepted(&scene.client, &goes).await;
    assert_eq!(counts(&scene.report(&goes).await), these([("sent", 3)]));
    let told = json!({"start": time(60), "end": time(120), "time_zone": "UTC"});
    assert_eq!(shown(&scene.client, &goes).await["quiet_hours"], told);
    assert_eq!(counts(&scene.report(&rests).await), these([("expired", 3)]));
    assert_eq!(scene.provider.count(), 3);
}

#[tokio::test]
async fn what_is_not_over_is_not_tried_again() {
    let scene = Scene::start_with(|setup| setup.set("providers.carrier.rate", "20/s")).await;
    let id = scene.post(numbers(0..100)).await;
    let path = format!("/v1/batches/{id}/retry");
    let wanted = json!({"states": ["canceled"]}).to_string();
    let refused = scene.client.post(&path, &[], wanted.clone()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("batch_state")));
    wish(&scene.client, &id, "cancel").await;
    let over = scene.report(&id).await;
    let answer = scene.client.post(&path, &[], wanted).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json()["counts"]["total"], over["counts"]["canceled"]);
}
