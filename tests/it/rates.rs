//! Rates as carriers mean them: in segments, of each sender, of a pool of senders, by prefix.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Call, Kind, Setup, on_each_store},
    scene::{Scene, accepted, batch, counts, numbers, setup, these},
};

on_each_store! {
    a_message_takes_as_much_of_a_rate_in_segments_as_it_has
    a_message_that_can_not_be_rendered_takes_nothing_of_a_rate_in_segments
    each_sender_has_a_rate_of_its_own_and_keeps_up_no_other
    a_recipient_hears_from_one_sender_of_the_pool_always
    a_prefix_has_a_rate_of_its_own_and_keeps_up_no_other
    a_batch_that_is_canceled_or_paused_stops_beside_a_sender_that_goes_on
    what_is_sent_at_most_once_keeps_the_rate_of_its_sender
    a_batch_keeps_its_own_rate_within_that_of_its_sender
}

const ONE: &str = "+15550001111";
const OTHER: &str = "+15550002222";

/// What a rate may catch up, and what a machine that stalls may move.
const SLACK: Duration = Duration::from_millis(150);

async fn a_message_takes_as_much_of_a_rate_in_segments_as_it_has(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        carrier(setup, &[("rate", "20/s"), ("rate_unit", "segment")])
    })
    .await;
    // One of three segments, then one of one.
    let long = |(nth, to): (usize, String)| {
        let text = "x".repeat(if nth % 2 == 0 { 400 } else { 10 });
        json!({"to": to, "variables": {"text": text}})
    };
    let recipients: Vec<Value> = numbers(0..20).into_iter().enumerate().map(long).collect();
    let mut batch = scene.batch(recipients);
    batch["body"] = "{{text}}".into();
    let id = accepted(&scene.client, &batch).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 20)]));
    let mut calls = scene.provider.calls();
    calls.sort_by_key(|call| call.at);
    assert_eq!(calls.len(), 20);
    // Whatever left within a second came to no more than the rate, and one message.
    for first in &calls {
        let second = calls.iter().filter(|call| call.at >= first.at);
        let second = second.take_while(|call| call.at + SLACK < first.at + Duration::from_secs(1));
        let segments: usize = second.map(|call| if call.body.len() > 160 { 3 } else { 1 }).sum();
        assert!(segments <= 20 + 1 + 2, "{segments}");
    }
    assert!(span(&calls) + SLACK >= Duration::from_millis(1_800), "{:?}", span(&calls));
}

async fn a_message_that_can_not_be_rendered_takes_nothing_of_a_rate_in_segments(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        carrier(setup, &[("rate", "1/m"), ("rate_unit", "segment")])
    })
    .await;
    let mut batch = scene.batch(numbers(0..50));
    batch["body"] = "Hi {{name}}".into();
    batch["recipients"][49] = json!({"to": "+15551230001", "variables": {"name": "Ann"}});
    let id = accepted(&scene.client, &batch).await;
    let report = scene.report(&id).await;
    assert_eq!(counts(&report), these([("failed", 49), ("sent", 1)]));
}

async fn each_sender_has_a_rate_of_its_own_and_keeps_up_no_other(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| carrier(setup, &[("sender_rate", "10/s")])).await;
    let second = match on {
        Kind::Redis => {
            let setup = setup(&scene.store, &scene.provider).role("worker");
            Some(carrier(setup, &[("sender_rate", "10/s")]).start().await)
        }
        Kind::Embedded => None,
    };
    let mut ids = Vec::new();
    for from in [ONE, OTHER] {
        ids.push(accepted(&scene.client, &from_sender(scene.batch(numbers(0..30)), from)).await);
    }
    for id in &ids {
        assert_eq!(counts(&scene.report(id).await), these([("sent", 30)]));
    }
    drop(second);
    let calls = scene.provider.calls();
    for from in [ONE, OTHER] {
        let of: Vec<Call> =
            calls.iter().filter(|c| c.from.as_deref() == Some(from)).cloned().collect();
        assert_eq!(of.len(), 30);
        assert!(span(&of) + SLACK >= Duration::from_millis(2_900), "{from}: {:?}", span(&of));
    }
    // One after the other they would take twice as long.
    assert!(span(&calls) < Duration::from_secs(5), "{:?}", span(&calls));
}

async fn a_recipient_hears_from_one_sender_of_the_pool_always(on: Kind) {
    let pool = format!("{ONE},{OTHER},+15550003333");
    let scene = Scene::start_on_with(on, |setup| {
        carrier(setup, &[("senders", &pool), ("sender_rate", "20/s")])
    })
    .await;
    for _ in 0..2 {
        let id = scene.post(numbers(0..60)).await;
        scene.report(&id).await;
    }
    let mut senders = BTreeMap::<String, BTreeSet<String>>::new();
    for call in scene.provider.calls() {
        senders.entry(call.to).or_default().insert(call.from.expect("a sender"));
    }
    assert_eq!(senders.len(), 60);
    assert!(senders.values().all(|of_one| of_one.len() == 1), "{senders:?}");
    let used: BTreeSet<_> = senders.values().flatten().map(String::as_str).collect();
    assert_eq!(used, pool.split(',').collect());
    // A batch that says where it is from is from there.
    let own = from_sender(scene.batch(numbers(0..3)), "+15559999999");
    let id = accepted(&scene.client, &own).await;
    scene.report(&id).await;
    let calls = scene.provider.calls();
    let of_own = calls.iter().filter(|call| call.from.as_deref() == Some("+15559999999"));
    assert_eq!(of_own.count(), 3);
}

async fn a_prefix_has_a_rate_of_its_own_and_keeps_up_no_other(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        carrier(setup, &[("prefix_rates.+1", "100/s"), ("prefix_rates.+1555", "10/s")])
    })
    .await;
    let others = (0..20).map(|nth| format!("+4917{nth:08}"));
    let recipients: Vec<String> = numbers(0..20).into_iter().chain(others).collect();
    let id = scene.post(recipients).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 40)]));
    let (slow, fast): (Vec<Call>, Vec<Call>) =
        scene.provider.calls().into_iter().partition(|call| call.to.starts_with("+1555"));
    assert_eq!((slow.len(), fast.len()), (20, 20));
    assert!(span(&slow) + SLACK >= Duration::from_millis(1_900), "{:?}", span(&slow));
    assert!(span(&fast) < Duration::from_secs(1), "{:?}", span(&fast));
}

async fn a_batch_that_is_canceled_or_paused_stops_beside_a_sender_that_goes_on(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| carrier(setup, &[("sender_rate", "20/s")])).await;
    let goes_on = accepted(&scene.client, &from_sender(scene.batch(numbers(0..40)), ONE)).await;
    let stops = accepted(&scene.client, &from_sender(scene.batch(numbers(0..400)), OTHER)).await;
    let begun = async || (scene.calls_of(&stops) > 3).then_some(());
    crate::harness::eventually("a few messages", crate::harness::PATIENCE, begun).await;
    crate::scene::wish(&scene.client, &stops, "cancel").await;
    let report = counts(&scene.report(&stops).await);
    assert_eq!(report["sent"] + report["canceled"], 400, "{report:?}");
    assert_eq!(report["sent"], scene.calls_of(&stops) as u64);
    assert_eq!(counts(&scene.report(&goes_on).await), these([("sent", 40)]));
}

async fn what_is_sent_at_most_once_keeps_the_rate_of_its_sender(on: Kind) {
    let pool = format!("{ONE},{OTHER}");
    let scene = Scene::start_on_with(on, |setup| {
        carrier(setup, &[("senders", &pool), ("sender_rate", "50/s")])
    })
    .await;
    let mut batch = scene.batch(numbers(0..200));
    batch["delivery_guarantee"] = "at_most_once".into();
    let id = accepted(&scene.client, &batch).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 200)]));
    assert!(scene.provider.taken_in().values().all(|times| *times == 1));
}

/// The provider's rate is shared by senders, a sender's by batches, and a batch has one of its own.
async fn a_batch_keeps_its_own_rate_within_that_of_its_sender(on: Kind) {
    let keys = [("rate", "100/s"), ("sender_rate", "20/s")];
    let scene = Scene::start_on_with(on, |setup| carrier(setup, &keys)).await;
    let mut slow = from_sender(scene.batch(numbers(0..10)), ONE);
    slow["rate"] = "5/s".into();
    let slow = accepted(&scene.client, &slow).await;
    let fast = accepted(&scene.client, &from_sender(scene.batch(numbers(10..50)), ONE)).await;
    for (id, messages) in [(&slow, 10), (&fast, 40)] {
        assert_eq!(counts(&scene.report(id).await), these([("sent", messages)]));
    }
    let calls = scene.provider.calls();
    assert!(span(&calls) + SLACK >= Duration::from_millis(49 * 50), "{:?}", span(&calls));
    let (of_slow, of_fast): (Vec<Call>, Vec<Call>) =
        calls.into_iter().partition(|call| call.message_id.starts_with(&slow));
    assert_eq!(of_slow.len(), 10);
    assert!(span(&of_slow) + SLACK >= Duration::from_millis(9 * 200), "{:?}", span(&of_slow));
    assert!(span(&of_fast) < Duration::from_secs(4), "{:?}", span(&of_fast));
}

#[tokio::test]
async fn the_levels_are_shown_with_the_provider() {
    let pool = format!("{ONE},{OTHER}");
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        let levels = [
            ("rate", "15/s"),
            ("rate_unit", "segment"),
            ("sender_rate", "10/s"),
            ("senders", &pool),
            ("prefix_rates.+1", "100/s"),
        ];
        carrier(setup, &levels)
    })
    .await;
    let answer = scene.client.get("/v1/providers").await.json();
    let carrier =
        answer["providers"].as_array().unwrap().iter().find(|one| one["name"] == "carrier");
    let carrier = carrier.unwrap();
    assert_eq!(carrier["rate"], "15/s");
    assert_eq!(carrier["rate_unit"], "segment");
    assert_eq!(carrier["sender_rate"], "10/s");
    assert_eq!(carrier["senders"], 2);
    assert_eq!(carrier["prefix_rates"], json!({"+1": "100/s"}));
    // A long message is told to take its time.
    let mut long = batch(numbers(0..30));
    long["body"] = "x".repeat(300).into();
    let estimate = scene.client.post("/v1/estimate", &[], long.to_string()).await.json();
    assert_eq!(estimate["segments"], 60);
}

fn carrier(setup: Setup, keys: &[(&str, &str)]) -> Setup {
    keys.iter()
        .fold(setup, |setup, (key, value)| setup.set(&format!("providers.carrier.{key}"), value))
}

fn from_sender(mut batch: Value, from: &str) -> Value {
    batch["from"] = from.into();
    batch
}

/// From the first call to the last.
fn span(calls: &[Call]) -> Duration {
    let at = || calls.iter().map(|call| call.at);
    at().max().zip(at().min()).map_or(Duration::ZERO, |(last, first)| last - first)
}
