//! What a message is worth: a second submission, or its loss. And what becomes of one that ends whoever
//! sends it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    faults::{Bounds, Row, compare},
    harness::{Kind, Mode, PATIENCE, eventually, on_each_store},
    scene::{Scene, accepted, batch, counts, messages, number, numbers, one_report, these, wish},
};

on_each_store! {
    at_most_once_five_kills_double_nothing
    at_most_once_no_crash_between_two_steps_doubles_anything
    at_most_once_what_may_have_left_is_not_tried_again
    a_message_that_ends_whoever_sends_it_is_set_aside
    what_a_dead_worker_may_have_sent_is_not_called_canceled
}

/// How long a batch may take on a busy machine.
const LONG: Duration = Duration::from_mins(2);

/// What a worker and provider may have started and not settled.
const WINDOW: u64 = 256;

async fn start(on: Kind) -> Scene {
    Scene::start_on_with(on, |setup| {
        setup.set("worker.lease", "1s").set("providers.carrier.timeout", "30s")
    })
    .await
}

/// The states of a batch's messages, by id.
async fn states(scene: &Scene, id: &str) -> BTreeMap<String, String> {
    let told = messages(&scene.client, id).await;
    let pair = |message: Value| {
        let text = |field: &str| message[field].as_str().unwrap().to_owned();
        (text("id"), text("state"))
    };
    told.into_iter().map(pair).collect()
}

async fn at_most_once_five_kills_double_nothing(on: Kind) {
    const KILLS: u64 = 5;
    const MESSAGES: u64 = 20_000;
    let mut row = Row::begin(1, "killed, at_most_once", on, "I1 I2 I3 I5 I6");
    let mut scene = start(on).await;
    scene.provider.set(Mode::Delay(Duration::from_millis(1)));
    let mut wanted = scene.batch(numbers(0..20_000));
    wanted["delivery_guarantee"] = "at_most_once".into();
    let id = accepted(&scene.client, &wanted).await;
    for kill in 1..=KILLS {
        let calls = usize::try_from(3_000 * kill).unwrap();
        eventually("load", LONG, async || (scene.provider.count() >= calls).then_some(())).await;
        scene.ringback.restart().await;
        row.inject("SIGKILL");
    }
    let complete = one_report(&scene.client, &scene.receiver, &id, LONG).await;
    let (sent, unknown) = (&complete["counts"]["sent"], &complete["counts"]["unknown"]);
    let (sent, unknown) = (sent.as_u64().unwrap(), unknown.as_u64().unwrap());
    let book = scene.provider.taken_in();
    let doubled = book.values().filter(|times| **times > 1).count();
    assert_eq!(doubled, 0);
    assert_eq!(sent + unknown, MESSAGES, "{complete}");
    assert!(unknown <= WINDOW * KILLS, "{unknown} unknown");
    // What is called sent is in the provider's book, and what is not there is unknown.
    for (message, state) in states(&scene, &id).await {
        assert!(state == "unknown" || book.contains_key(&message), "{message} is {state}");
    }
    let found = compare(&scene, &[(id, MESSAGES)], Bounds::default()).await;
    row.end(&found, format!("{unknown} unknown (≤ {})", WINDOW * KILLS));
}

/// What had ended, or had not been marked, when the process ended is not `unknown`.
async fn at_most_once_no_crash_between_two_steps_doubles_anything(on: Kind) {
    const MESSAGES: u64 = 2_000;
    for (point, times) in [("claimed", 2), ("marked", 3), ("accepted", 700), ("recorded", 10)] {
        let mut row = Row::begin(2, point, on, "I1 I2 I3 I5 I6");
        let mut scene = Scene::start_on_with(on, |setup| {
            setup.set("worker.lease", "1s").crash_at(point, times)
        })
        .await;
        scene.provider.set(Mode::Delay(Duration::from_millis(3)));
        let mut wanted = scene.batch(numbers(0..2_000));
        wanted["delivery_guarantee"] = "at_most_once".into();
        // It may crash before it answers.
        scene.client.try_post_batch_once("k", &wanted).await;
        scene.ringback.restart_after_its_crash().await;
        row.inject("abort, at_most_once");
        let id = scene.client.post_batch_once("k", &wanted).await.batch_id();
        let found = compare(&scene, &[(id, MESSAGES)], Bounds::default()).await;
        let of = |state: &str| found.states.get(state).copied().unwrap_or_default();
        assert_eq!(of("sent") + of("unknown"), MESSAGES, "{point}: {found:?}");
        assert!(of("unknown") <= WINDOW, "{point}: {found:?}");
        // Between a claim and its first mark nothing can have left.
        assert!(point != "claimed" || of("unknown") <= WINDOW / 2, "{point}: {found:?}");
        row.end(&found, format!("{} unknown (≤ {WINDOW})", of("unknown")));
    }
}

async fn at_most_once_what_may_have_left_is_not_tried_again(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.timeout", "300ms")
            .set("providers.carrier.retry.first", "10ms")
            .set("providers.carrier.retry.attempts", "3")
    })
    .await;
    let cases = [
        (Mode::Hang, "unknown", 1),
        (Mode::Reset, "unknown", 1),
        (Mode::Reject(500), "unknown", 1),
        (Mode::Reject(408), "unknown", 1),
        (Mode::FailTimes(1), "sent", 2),
        (Mode::Reject(503), "failed", 3),
        (Mode::Reject(400), "failed", 1),
    ];
    for (mode, state, tries) in cases {
        scene.provider.set(mode);
        let mut wanted = scene.batch(numbers(0..2));
        wanted["delivery_guarantee"] = "at_most_once".into();
        let id = accepted(&scene.client, &wanted).await;
        let report = scene.report(&id).await;
        assert_eq!(counts(&report), these([(state, 2)]), "{mode:?}");
        assert_eq!(scene.calls_of(&id), 2 * tries, "{mode:?}");
    }
    // The same is tried again if the batch does not ask for anything else.
    scene.provider.set(Mode::Reset);
    let id = scene.post(numbers(0..1)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("unknown", 1)]));
    assert_eq!(scene.calls_of(&id), 3);
}

async fn a_message_that_ends_whoever_sends_it_is_set_aside(on: Kind) {
    const POISON: &str = "Hello, poison";
    let mut row = Row::begin(19, "poison", on, "I1 I2 I3 I5 I6 I10");
    let mut scene = start(on).await;
    scene.provider.set(Mode::HangOn(POISON));
    let mut list: Vec<Value> = numbers(0..32).into_iter().map(Value::from).collect();
    list[17] = json!({"to": number(17), "variables": {"who": "poison"}});
    let mut wanted = scene.batch(list);
    wanted["body"] = "Hello, {{who}}".into();
    wanted["variables"] = json!({"who": "world"});
    let id = accepted(&scene.client, &wanted).await;
    let poison = format!("{id}.17");
    // As soon as it is submitted, the worker is dead.
    let (mut deaths, mut known) = (0, 0);
    let complete = loop {
        let seen = |scene: &Scene| scene.provider.taken_in().get(&poison).copied().unwrap_or(0);
        let is_over = eventually("a submission or the end", LONG, async || {
            let completed = scene.client.get(&format!("/v1/batches/{id}")).await.json();
            let is_over = !completed["completed_at"].is_null();
            (is_over || seen(&scene) > known).then_some(is_over)
        })
        .await;
        if is_over {
            break one_report(&scene.client, &scene.receiver, &id, LONG).await;
        }
        // The next one may come before the new process is known to be ready.
        known = seen(&scene);
        scene.ringback.restart().await;
        deaths += 1;
        row.inject("death at its submission");
        assert!(deaths <= 20, "it is never set aside");
    };
    assert_eq!(counts(&complete), these([("sent", 31), ("failed", 1)]));
    let told = scene.client.get(&format!("/v1/batches/{id}/messages/17")).await.json();
    assert_eq!((&told["state"], &told["error"]["code"]), (&json!("failed"), &json!("poison")));
    let bounds = Bounds { repeats: deaths * 128, retries: deaths, ..Bounds::default() };
    let found = compare(&scene, &[(id, 32)], bounds).await;
    row.end(&found, "set aside, the rest sent");
}

async fn what_a_dead_worker_may_have_sent_is_not_called_canceled(on: Kind) {
    let mut scene = start(on).await;
    scene.provider.set(Mode::Hang);
    let id = scene.post(numbers(0..1_000)).await;
    eventually("some calls", PATIENCE, async || (scene.calls_of(&id) >= 20).then_some(())).await;
    scene.ringback.kill();
    // From here on each submission ends, slowly enough for the cancel to come first.
    scene.provider.set(Mode::Delay(Duration::from_millis(100)));
    scene.ringback.restart().await;
    wish(&scene.client, &id, "cancel").await;
    let complete = one_report(&scene.client, &scene.receiver, &id, LONG).await;
    let book = scene.provider.taken_in();
    for (message, state) in states(&scene, &id).await {
        assert!(state != "canceled" || !book.contains_key(&message), "{message} was taken in");
    }
    assert!(complete["counts"]["canceled"].as_u64().unwrap() >= 200, "{complete}");
    // Others go their way.
    scene.provider.set(Mode::Accept);
    let next = accepted(&scene.client, &batch(numbers(0..10))).await;
    scene.client.wait_until_complete(&next, PATIENCE).await;
}
