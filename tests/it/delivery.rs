//! From a posted batch to its one callback: what becomes of messages, whatever the provider says.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ringback::{clock::Clock, domain::time::UnixMs};
use serde_json::{Value, json};

use crate::{
    harness::{
        Call, Fate, Kind, Mode, PATIENCE, Receiver, Redis, Ringback, Setup, eventually,
        on_each_store,
    },
    scene::{
        SECRET, Scene, accepted, batch, counts, messages, number, numbers, one_report, setup,
        shown, shown_when, these, wish, with_callback,
    },
};

on_each_store! {
    a_scheduled_batch_leaves_at_its_time
    what_has_not_left_in_time_expires
    a_thousand_messages_are_sent_once_each_and_reported_once
    an_empty_batch_is_complete_at_once_and_reported
    a_small_batch_does_not_wait_for_a_large_one
    what_fails_for_now_is_tried_again_until_it_is_sent
    when_the_tries_are_used_up_a_message_has_failed
    silence_is_an_unknown_outcome_and_is_tried_again_under_the_same_key
    a_canceled_batch_sends_nothing_more_and_reports_what_was_sent
    a_canceled_batch_drops_what_waits_for_another_try
    a_paused_batch_stands_still_until_it_is_resumed
    messages_are_read_in_pages_and_by_state
    a_message_in_a_workers_hands_is_sending_and_a_waiting_one_is_queued
    a_retry_that_waits_over_a_restart_keeps_its_attempts
}

/// Retries that are over soon.
fn quick_retries(setup: Setup) -> Setup {
    setup
        .set("providers.carrier.retry.attempts", "3")
        .set("providers.carrier.retry.first", "50ms")
        .set("providers.carrier.retry.longest", "100ms")
}

/// The calls, by the message's id.
fn by_message(calls: Vec<Call>) -> HashMap<String, Vec<Call>> {
    let mut by_message: HashMap<String, Vec<Call>> = HashMap::new();
    for call in calls {
        by_message.entry(call.message_id.clone()).or_default().push(call);
    }
    by_message
}

async fn a_small_batch_does_not_wait_for_a_large_one(on: Kind) {
    let scene =
        Scene::start_on_with(on, |setup| setup.set("providers.carrier.rate", "100/s")).await;
    let large = accepted(&scene.client, &scene.batch(numbers(0..100_000))).await;
    shown_when(&scene.client, &large, "its first messages", |batch| batch["counts"]["sent"] != 0)
        .await;
    for (priority, within) in [("normal", 3_000), ("high", 1_500)] {
        let mut small = scene.batch(numbers(0..10));
        small["priority"] = priority.into();
        let began = Instant::now();
        let id = accepted(&scene.client, &small).await;
        let report = scene.report(&id).await;
        let took = began.elapsed();
        assert_eq!(counts(&report), these([("sent", 10)]));
        println!("a batch of 10, {priority}, beside 100,000 at 100/s: {took:?}");
        assert!(took < Duration::from_millis(within), "{priority}: {took:?}");
    }
    assert_eq!(shown(&scene.client, &large).await["state"], "running");
}

async fn a_thousand_messages_are_sent_once_each_and_reported_once(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut batch = scene.batch(numbers(0..1_000));
    batch["from"] = "+15550001111".into();
    batch["reference"] = "spring".into();
    batch["metadata"] = json!({"plan": ["a", 1.5]});
    batch["callback_headers"] = json!({"X-Api-Token": "letmein"});
    let id = accepted(&scene.client, &batch).await;
    let complete = scene.report(&id).await;
    assert_eq!(complete["state"], "completed");
    assert_eq!(counts(&complete), these([("sent", 1_000)]));
    let messages = messages(&scene.client, &id).await;
    let calls = by_message(scene.provider.calls());
    assert_eq!((scene.provider.count(), calls.len()), (1_000, 1_000));
    for (index, message) in messages.iter().enumerate() {
        let call = &calls[message["id"].as_str().unwrap()][0];
        assert_eq!(call.idempotency_key, call.message_id);
        assert_eq!(call.to, number(index));
        assert_eq!((call.body.as_str(), call.from.as_deref()), ("Hello", Some("+15550001111")));
        assert_eq!((&message["to"], &message["attempts"]), (&json!(call.to), &json!(1)));
        assert!(message["error"].is_null(), "{message}");
        let name = message["provider_message_id"].as_str().unwrap();
        assert!(name.starts_with("SM") && name.len() == 34, "{name}");
    }
    let report = &scene.receiver.deliveries()[0];
    assert_eq!(report.header("x-api-token"), "letmein");
    assert_eq!(report.header("content-type"), "application/json");
    let results = report.json()["data"]["results_url"].as_str().unwrap().to_owned();
    assert!(results.ends_with(&format!("/v1/batches/{id}/messages")), "{results}");
}

#[tokio::test]
async fn each_recipient_gets_its_own_words_and_one_without_them_fails_alone() {
    let scene = Scene::start().await;
    let mut batch = scene.batch(json!([
        number(0),
        {"to": number(1), "variables": {"name": "Ann", "code": 81}, "reference": "user-42"},
        {"to": number(2), "variables": {"name": "{{code}}", "vip": true}},
        {"to": number(3), "variables": {"code": "Ω{}"}},
    ]));
    batch["body"] = "Hi {{ name }}, {{code}}{{vip}} {brace}".into();
    batch["variables"] = json!({"name": "there", "vip": false});
    let id = accepted(&scene.client, &batch).await;
    let complete = scene.report(&id).await;
    assert_eq!(counts(&complete), these([("sent", 2), ("failed", 2)]));
    let calls = by_message(scene.provider.calls());
    assert_eq!(calls[&format!("{id}.1")][0].body, "Hi Ann, 81false {brace}");
    assert_eq!(calls[&format!("{id}.3")][0].body, "Hi there, Ω{}false {brace}");
    assert_eq!(calls.len(), 2);
    let messages = messages(&scene.client, &id).await;
    assert_eq!(messages[1]["reference"], "user-42");
    for index in [0, 2] {
        let error = &messages[index]["error"];
        assert_eq!(
            (&messages[index]["state"], &error["code"]),
            (&json!("failed"), &json!("template_variable_missing"))
        );
        assert!(error["detail"].as_str().unwrap().contains("code"), "{error}");
        assert_eq!(error["permanent"], true);
    }
}

#[tokio::test]
async fn numbers_that_are_none_are_counted_as_failed_and_never_sent() {
    let scene = Scene::start().await;
    let wrong =
        ["", "15551230001", "+1555123000x", "+0555123", "tel:+15551230001", "+1 555 123 0001"];
    let mut recipients: Vec<Value> = wrong.iter().map(|text| json!(text)).collect();
    recipients.insert(2, json!(number(7)));
    recipients.push(json!({"to": "+１５５５1230001", "reference": "wide"}));
    let id = scene.post(recipients).await;
    let complete = scene.report(&id).await;
    assert_eq!(counts(&complete), these([("sent", 1), ("failed", 7)]));
    assert_eq!(scene.provider.count(), 1);
    let messages = messages(&scene.client, &id).await;
    assert_eq!(messages[2]["state"], "sent");
    for message in messages.iter().filter(|message| message["index"] != 2) {
        assert_eq!(
            (&message["error"]["code"], &message["attempts"]),
            (&json!("invalid_number"), &json!(0))
        );
    }
    assert_eq!(messages[7]["to"], "+１５５５1230001");
    // All of them wrong: nothing is to be sent, and the batch is over at once.
    let id = scene.post(json!(wrong)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("failed", 6)]));
    assert_eq!(scene.provider.count(), 1);
}

async fn an_empty_batch_is_complete_at_once_and_reported(on: Kind) {
    let scene = Scene::start_on(on).await;
    let answer = scene.client.post_batch(&scene.batch(json!([]))).await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        (&answer.json()["state"], &answer.json()["counts"]["total"]),
        (&json!("completed"), &json!(0))
    );
    let complete = scene.report(&answer.batch_id()).await;
    assert_eq!(complete["counts"]["total"], 0);
    assert!(complete["started_at"].is_null());
}

#[tokio::test]
async fn the_mocks_scripted_numbers_end_as_described() {
    let redis = Redis::start().await;
    let setup = Ringback::on(&redis)
        .set("callbacks.signing_secrets", SECRET)
        .set("providers.mock.retry.attempts", "3")
        .set("providers.mock.retry.first", "50ms");
    let ringback = setup.start().await;
    let (client, receiver) = (ringback.client(), Receiver::start());
    let scripted: Vec<_> = (1..=4).map(|last| format!("+1500555000{last}")).collect();
    let mut recipients = scripted;
    recipients.push(number(0));
    let id = accepted(&client, &with_callback(batch(recipients), &receiver)).await;
    let complete = one_report(&client, &receiver, &id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("failed", 1), ("sent", 3), ("unknown", 1)]));
    let seen: Vec<_> = messages(&client, &id)
        .await
        .iter()
        .map(|message| {
            let code = message["error"]["code"].as_str().unwrap_or_default().to_owned();
            (
                message["state"].as_str().unwrap().to_owned(),
                message["attempts"].as_u64().unwrap(),
                code,
            )
        })
        .collect();
    let expected = [
        ("failed", 1, "invalid_number"),
        ("sent", 1, ""),
        ("sent", 3, ""),
        ("unknown", 3, "retries_exhausted"),
        ("sent", 1, ""),
    ];
    assert_eq!(
        seen,
        expected.map(|(state, attempts, code)| (state.to_owned(), attempts, code.to_owned()))
    );
}

async fn what_fails_for_now_is_tried_again_until_it_is_sent(on: Kind) {
    let scene = Scene::start_on_with(on, quick_retries).await;
    scene.provider.set(Mode::FailTimes(2));
    let id = scene.post(numbers(0..50)).await;
    let complete = scene.report(&id).await;
    assert_eq!(counts(&complete), these([("sent", 50)]));
    for (id, calls) in by_message(scene.provider.calls()) {
        let fates: Vec<_> = calls.iter().map(|call| call.fate).collect();
        assert_eq!(fates, [Fate::Refused, Fate::Refused, Fate::Accepted], "{id}");
        assert!(calls.iter().all(|call| call.idempotency_key == id));
        // The waits are 50 ms and 100 ms, less a fifth.
        assert!(calls[1].at - calls[0].at >= Duration::from_millis(40), "{id}");
        assert!(calls[2].at - calls[1].at >= Duration::from_millis(80), "{id}");
    }
    for message in messages(&scene.client, &id).await {
        assert_eq!((&message["attempts"], &message["error"]), (&json!(3), &Value::Null));
    }
}

async fn when_the_tries_are_used_up_a_message_has_failed(on: Kind) {
    let scene = Scene::start_on_with(on, quick_retries).await;
    scene.provider.set(Mode::FailTimes(u32::MAX));
    let id = scene.post(numbers(0..20)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("failed", 20)]));
    assert_eq!(scene.provider.count(), 60);
    for message in messages(&scene.client, &id).await {
        assert_eq!(
            (&message["attempts"], &message["error"]["code"]),
            (&json!(3), &json!("retries_exhausted"))
        );
        let detail = message["error"]["detail"].as_str().unwrap();
        assert!(detail.contains("answered 503"), "{detail}");
    }
}

#[tokio::test]
async fn what_the_provider_refuses_for_good_fails_with_its_reason() {
    let scene = Scene::start().await;
    scene.provider.set(Mode::Reject(422));
    let id = scene.post(numbers(0..20)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("failed", 20)]));
    assert_eq!(scene.provider.count(), 20);
    let expected = json!({"code": "provider_rejected", "detail": "answered 422", "provider_code": "E7", "permanent": true});
    for message in messages(&scene.client, &id).await {
        assert_eq!((&message["attempts"], &message["error"]), (&json!(1), &expected));
    }
}

async fn silence_is_an_unknown_outcome_and_is_tried_again_under_the_same_key(on: Kind) {
    let scene = Scene::start_on_with(on, quick_retries).await;
    scene.provider.set(Mode::Reset);
    let id = scene.post(numbers(0..5)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("unknown", 5)]));
    for (id, calls) in by_message(scene.provider.calls()) {
        assert_eq!(calls.len(), 3, "{id}");
        assert!(calls.iter().all(|call| call.idempotency_key == id));
    }
    // Once it may have been accepted, a message can't be said to have failed.
    let retried = scene.post(numbers(5..6)).await;
    eventually("the first try", PATIENCE, async || (scene.calls_of(&retried) > 0).then_some(()))
        .await;
    scene.provider.set(Mode::Reject(400));
    assert_eq!(counts(&scene.report(&retried).await), these([("unknown", 1)]));
}

#[tokio::test]
async fn a_provider_that_asks_for_a_pause_gets_it_from_every_worker() {
    const PAUSE: Duration = Duration::from_secs(2);
    let scene = Scene::start_with(|setup| {
        setup.set("providers.carrier.max_in_flight", "4").set("worker.chunk_size", "10")
    })
    .await;
    let until = Instant::now() + Duration::from_mins(10);
    scene.provider.set(Mode::Throttle { until, retry_after_s: 2 });
    let id = scene.post(numbers(0..100)).await;
    eventually("a refusal", PATIENCE, async || (scene.provider.count() > 0).then_some(())).await;
    let log = || scene.ringback.log();
    eventually("the pause", PATIENCE, async || log().contains("asked for a pause").then_some(()))
        .await;
    // What is called from now on is accepted; a worker that joins knows of the pause.
    scene.provider.set(Mode::Accept);
    let others = ["a1", "a2", "a3", "a4", "a5", "a6"]
        .iter()
        .fold(setup(&scene.store, &scene.provider).role("worker"), |setup, name| {
            setup.set(&format!("providers.{name}.kind"), "mock")
        });
    let second = others.start().await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 100)]));
    drop(second);
    let calls = scene.provider.calls();
    let (refused, accepted): (Vec<_>, Vec<_>) =
        calls.iter().partition(|call| call.fate == Fate::Refused);
    assert!(refused.len() <= 4, "{} calls were open when the first was refused", refused.len());
    assert_eq!(accepted.len(), 100);
    let quiet = accepted.iter().map(|call| call.at).min().unwrap() - refused[0].at;
    assert!(quiet >= PAUSE, "the provider was left alone for {quiet:?}");
    for message in messages(&scene.client, &id).await {
        assert_eq!(message["attempts"], 1, "a refusal uses up no attempt: {message}");
    }
}

async fn a_canceled_batch_sends_nothing_more_and_reports_what_was_sent(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup.set("providers.carrier.rate", "100/s").set("worker.chunk_size", "100")
    })
    .await;
    let id = scene.post(numbers(0..2_000)).await;
    eventually("some calls", PATIENCE, async || (scene.calls_of(&id) >= 20).then_some(())).await;
    assert_eq!(wish(&scene.client, &id, "cancel").await["state"], "canceled");
    let complete = scene.report(&id).await;
    assert_eq!(complete["state"], "canceled");
    let sent = scene.calls_of(&id);
    assert!((20..1_900).contains(&sent), "{sent}");
    let sent_count = u64::try_from(sent).unwrap();
    assert_eq!(counts(&complete), these([("sent", sent_count), ("canceled", 2_000 - sent_count)]));
    // Another batch goes its way, and nothing of the canceled one is sent beside it.
    let next = scene.post(numbers(0..10)).await;
    scene.report(&next).await;
    assert_eq!(scene.calls_of(&id), sent);
    assert_eq!(wish(&scene.client, &id, "cancel").await, shown(&scene.client, &id).await);
    for word in ["pause", "resume"] {
        let refused = scene.client.post(&format!("/v1/batches/{id}/{word}"), &[], "").await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (409, &json!("batch_state")),
            "{word}"
        );
    }
    let refused = scene.client.post(&format!("/v1/batches/{next}/cancel"), &[], "").await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("batch_state")));
}

async fn a_canceled_batch_drops_what_waits_for_another_try(on: Kind) {
    let scene =
        Scene::start_on_with(on, |setup| setup.set("providers.carrier.retry.first", "1h")).await;
    scene.provider.set(Mode::FailTimes(u32::MAX));
    let id = scene.post(numbers(0..10)).await;
    shown_when(&scene.client, &id, "ten messages that wait", |batch| {
        scene.calls_of(&id) == 10 && counts(batch) == these([("queued", 10)])
    })
    .await;
    wish(&scene.client, &id, "cancel").await;
    assert_eq!(counts(&scene.report(&id).await), these([("canceled", 10)]));
    assert_eq!(scene.calls_of(&id), 10);
}

async fn a_paused_batch_stands_still_until_it_is_resumed(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup.set("providers.carrier.rate", "200/s").set("worker.chunk_size", "100")
    })
    .await;
    let id = scene.post(numbers(0..400)).await;
    eventually("some calls", PATIENCE, async || (scene.calls_of(&id) >= 20).then_some(())).await;
    assert_eq!(wish(&scene.client, &id, "pause").await["state"], "paused");
    let paused = shown_when(&scene.client, &id, "an end of what is in flight", |batch| {
        batch["counts"]["sending"] == 0
    })
    .await;
    let sent = scene.calls_of(&id);
    let sent_count = u64::try_from(sent).unwrap();
    assert!((20..400).contains(&sent), "{sent}");
    assert_eq!(counts(&paused), these([("sent", sent_count), ("queued", 400 - sent_count)]));
    // Another batch takes its turns, and the paused one none.
    let next = scene.post(numbers(0..100)).await;
    scene.report(&next).await;
    assert_eq!(scene.calls_of(&id), sent);
    assert_eq!(wish(&scene.client, &id, "pause").await, shown(&scene.client, &id).await);
    assert_eq!(wish(&scene.client, &id, "resume").await["state"], "running");
    assert_eq!(wish(&scene.client, &id, "resume").await["state"], "running");
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 400)]));
    assert_eq!(scene.calls_of(&id), 400, "nothing was sent twice");
}

#[tokio::test]
async fn a_paused_batch_can_be_canceled() {
    let scene = Scene::start_with(|setup| setup.set("providers.carrier.rate", "50/s")).await;
    let id = scene.post(numbers(0..1_000)).await;
    wish(&scene.client, &id, "pause").await;
    wish(&scene.client, &id, "cancel").await;
    let complete = scene.report(&id).await;
    let sent = u64::try_from(scene.calls_of(&id)).unwrap();
    let canceled = complete["counts"]["canceled"].as_u64().unwrap();
    assert!(canceled >= 500, "{complete}");
    assert_eq!(canceled + sent, 1_000);
}

async fn messages_are_read_in_pages_and_by_state(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("worker.chunk_size", "7")).await;
    let recipients: Vec<_> = (0..25)
        .map(|index| if index % 5 == 0 { "nobody".to_owned() } else { number(index) })
        .collect();
    let id = scene.post(recipients).await;
    scene.report(&id).await;
    let path = format!("/v1/batches/{id}/messages");
    let mut seen = Vec::new();
    let mut query = "?limit=10".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = scene.client.get(&format!("{path}{query}")).await.json();
        let messages = page["messages"].as_array().unwrap();
        sizes.push(messages.len());
        seen.extend(messages.iter().map(|message| message["index"].as_u64().unwrap()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=10&cursor={next}");
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    let failed = scene.client.get(&format!("{path}?state=failed")).await.json();
    let indexes: Vec<_> =
        failed["messages"].as_array().unwrap().iter().map(|m| m["index"].clone()).collect();
    assert_eq!(indexes, [0, 5, 10, 15, 20]);
    let one = scene.client.get(&format!("{path}/6")).await.json();
    assert_eq!(
        (&one["to"], &one["state"], &one["provider"]),
        (&json!(number(6)), &json!("sent"), &json!("carrier"))
    );
    for nowhere in ["25", "-1", "06x", "4294967296"] {
        assert_eq!(scene.client.get(&format!("{path}/{nowhere}")).await.status, 404, "{nowhere}");
    }
    for wrong in ["state=asleep", "limit=0", "limit=1001", "limit=x", "cursor=x"] {
        let refused = scene.client.get(&format!("{path}?{wrong}")).await;
        assert_eq!(refused.status, 422, "{wrong}: {}", refused.text);
    }
}

async fn a_message_in_a_workers_hands_is_sending_and_a_waiting_one_is_queued(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup.set("providers.carrier.max_in_flight", "1").set("worker.chunk_size", "3")
    })
    .await;
    scene.provider.set(Mode::Hang);
    let id = scene.post(numbers(0..9)).await;
    let running =
        shown_when(&scene.client, &id, "a claimed chunk", |batch| batch["counts"]["sending"] == 3)
            .await;
    assert_eq!((&running["state"], &running["completed_at"]), (&json!("running"), &Value::Null));
    assert_eq!(counts(&running), these([("sending", 3), ("queued", 6)]));
}

async fn a_retry_that_waits_over_a_restart_keeps_its_attempts(on: Kind) {
    let mut scene = Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.retry.attempts", "3")
            .set("providers.carrier.retry.first", "1s")
            .set("providers.carrier.retry.longest", "1s")
    })
    .await;
    scene.provider.set(Mode::FailTimes(u32::MAX));
    let id = scene.post(numbers(0..3)).await;
    let path = format!("/v1/batches/{id}/messages");
    eventually("three messages that wait", PATIENCE, async || {
        let page = scene.client.get(&path).await.json();
        let waits = |message: &&Value| message["state"] == "queued" && message["attempts"] == 1;
        (page["messages"].as_array().unwrap().iter().filter(waits).count() == 3).then_some(())
    })
    .await;
    scene.ringback.restart().await;
    assert_eq!(counts(&scene.report(&id).await), these([("failed", 3)]));
    for (id, calls) in by_message(scene.provider.calls()) {
        assert_eq!(calls.len(), 3, "{id}");
    }
    for message in messages(&scene.client, &id).await {
        assert_eq!(
            (&message["attempts"], &message["error"]["code"]),
            (&json!(3), &json!("retries_exhausted"))
        );
    }
}

#[tokio::test]
async fn the_one_process_of_an_embedded_store_keeps_the_rate() {
    let scene = Scene::start_on_with(Kind::Embedded, paced).await;
    sent_at_the_rate(&scene).await;
}

#[tokio::test]
async fn workers_share_one_rate() {
    let scene = Scene::start_with(paced).await;
    let _second = paced(setup(&scene.store, &scene.provider)).role("worker").start().await;
    sent_at_the_rate(&scene).await;
}

/// How many messages a second [`paced`] allows.
const RATE: usize = 100;

fn paced(setup: Setup) -> Setup {
    setup.set("providers.carrier.rate", &format!("{RATE}/s"))
}

/// Sends a batch that takes some seconds at the rate. It must be kept, and made use of.
async fn sent_at_the_rate(scene: &Scene) {
    const MESSAGES: usize = 300;
    let id = scene.post(numbers(0..MESSAGES)).await;
    scene.report(&id).await;
    let calls = scene.provider.calls();
    assert_eq!(calls.len(), MESSAGES);
    // A rate may catch up 50 ms of itself; a machine that stalls moves a few calls more together.
    let allowed = RATE + RATE / 20 + RATE / 10;
    assert!(scene.provider.busiest_second() <= allowed, "{}", scene.provider.busiest_second());
    let took = calls[MESSAGES - 1].at - calls[0].at;
    let shortest = Duration::from_millis(1_000 * (MESSAGES - RATE / 20 - 1) as u64 / RATE as u64);
    assert!(took + Duration::from_millis(100) >= shortest, "{took:?}");
}

async fn a_scheduled_batch_leaves_at_its_time(kind: Kind) {
    let scene = Scene::start_on(kind).await;
    let send_at = UnixMs(Clock::system().now().0 + 1_500);
    let (begin, mut batch) = (Instant::now(), scene.batch(numbers(0..20)));
    batch["send_at"] = send_at.to_string().into();
    let answer = scene.client.post_batch(&batch).await;
    assert_eq!((answer.status, &answer.json()["state"]), (202, &"scheduled".into()));
    let report = scene.report(&answer.batch_id()).await;
    assert_eq!(counts(&report), these([("sent", 20)]));
    let calls = scene.provider.calls();
    let first = calls.iter().map(|call| call.at.duration_since(begin)).min().unwrap();
    let at = Duration::from_millis(1_490);
    assert!(first >= at && first < at + Duration::from_secs(5), "{first:?}");
    assert_eq!(report["send_at"], send_at.to_string());
}

async fn what_has_not_left_in_time_expires(kind: Kind) {
    let scene =
        Scene::start_on_with(kind, |setup| setup.set("providers.carrier.rate", "100/s")).await;
    let expire_at = UnixMs(Clock::system().now().0 + 1_500);
    let (zero, now) = (Instant::now(), Clock::system().now());
    let mut batch = scene.batch(numbers(0..1_200));
    batch["expire_at"] = expire_at.to_string().into();
    let id = accepted(&scene.client, &batch).await;
    let report = scene.report(&id).await;
    assert_eq!(report["state"], "completed");
    let counts = counts(&report);
    let (sent, expired) = (counts["sent"], counts["expired"]);
    assert_eq!((sent + expired, sent), (1_200, scene.calls_of(&id) as u64));
    assert!((60..=160).contains(&sent), "{counts:?}");
    // It is over within a second of its time, and nothing left after it.
    let completed: jiff::Timestamp = report["completed_at"].as_str().unwrap().parse().unwrap();
    let late = UnixMs::from(completed).since(expire_at);
    assert!(late < Duration::from_secs(1), "{late:?}");
    let last = scene.provider.calls().iter().map(|call| call.at).max().unwrap();
    let by = zero + expire_at.since(now) + Duration::from_millis(100);
    assert!(last < by, "{:?} late", last - by);
}
