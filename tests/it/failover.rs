//! A provider that is away, and the one that stands in for it. The books of both say who accepted what.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Client, Fate, Kind, Mode, PATIENCE, Provider, Setup, eventually, on_each_store},
    scene::{Scene, accepted, counts, messages, number, numbers, one_report, these},
};

on_each_store! {
    a_provider_that_dies_in_the_middle_is_stood_in_for
    at_most_once_what_was_in_flight_is_not_moved
    what_may_have_been_accepted_waits_for_its_own_provider
    what_the_fallback_may_have_accepted_goes_there_again
    the_fallbacks_own_bounds_are_obeyed
    without_a_fallback_an_open_breaker_changes_nothing
}

/// How long a batch may take on a busy machine.
const LONG: Duration = Duration::from_mins(2);

/// The open exchanges of the first provider.
const IN_FLIGHT: usize = 64;

/// A scene whose provider `carrier` has the fallback `second`.
async fn scene(on: Kind, second: &Provider, settings: impl FnOnce(Setup) -> Setup) -> Scene {
    Scene::start_on_with(on, |setup| {
        let setup = setup
            .set("providers.second.kind", "http")
            .set("providers.second.url", &second.url())
            .set("providers.carrier.fallback", "second")
            .set("providers.carrier.breaker.cool_down", "1s")
            .set("log.filter", "info");
        settings(setup)
    })
    .await
}

/// The ids in a provider's book: of messages that it accepted, as far as it knows.
fn book(provider: &Provider) -> HashSet<String> {
    let calls = provider.calls().into_iter().filter(|call| call.fate == Fate::Accepted);
    calls.map(|call| call.message_id).collect()
}

/// A counter of this process.
async fn figure(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.text;
    let name = format!("ringback_process_{name}_total{{provider=\"carrier\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Waits until a provider is called no more; a stop takes half a second to be known everywhere.
async fn nothing_more_leaves(provider: &Provider) {
    eventually("an end of the calls", PATIENCE, async || {
        let before = provider.count();
        tokio::time::sleep(Duration::from_millis(600)).await;
        (provider.count() == before).then_some(())
    })
    .await;
}

/// Waits until the provider was called so often.
async fn calls(provider: &Provider, count: usize) {
    eventually("calls", LONG, async || (provider.count() >= count).then_some(())).await;
}

/// The provider `carrier` as the API shows it.
async fn provider(client: &Client) -> Value {
    let list = client.get("/v1/providers").await.json();
    let providers = list["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["name"] == "carrier").unwrap().clone()
}

/// Which provider each message is shown with, by id.
fn shown_providers(told: &[Value]) -> HashMap<String, String> {
    let text = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
    told.iter().map(|message| (text(message, "id"), text(message, "provider"))).collect()
}

async fn a_provider_that_dies_in_the_middle_is_stood_in_for(on: Kind) {
    const MESSAGES: usize = 20_000;
    let second = Provider::start();
    let scene = scene(on, &second, |setup| setup).await;
    scene.provider.set(Mode::Delay(Duration::from_millis(3)));
    second.set(Mode::Delay(Duration::from_millis(3)));
    let begun = Instant::now();
    let id = scene.post(numbers(0..MESSAGES)).await;
    calls(&scene.provider, MESSAGES / 2).await;
    let died = Instant::now();
    scene.provider.die();
    calls(&second, 1).await;
    let away = eventually("an open breaker", PATIENCE, async || {
        let told = provider(&scene.client).await;
        (told["breaker"] != "closed").then_some(told)
    })
    .await;
    assert_eq!(away["fallback"], "second");
    // Nearly all of the rest leaves while it is dead; then it is back for what only it may be asked.
    calls(&second, MESSAGES / 2 - 3 * IN_FLIGHT).await;
    let first_book = book(&scene.provider);
    scene.provider.revive().await;
    let complete = one_report(&scene.client, &scene.receiver, &id, LONG).await;
    let took = begun.elapsed();
    assert_eq!(counts(&complete), these([("sent", MESSAGES as u64)]));

    let [first, other] = [&scene.provider, &second].map(book);
    assert_eq!(first.intersection(&other).count(), 0, "nothing was accepted by both");
    assert_eq!(first.len() + other.len(), MESSAGES, "everything was accepted by one");
    assert_eq!(second.count(), other.len(), "the fallback was asked once for each");
    let repeats = scene.provider.count() - first.len();
    assert!(repeats <= 2 * IN_FLIGHT, "{repeats} of them again, under their keys");
    let shown = shown_providers(&messages(&scene.client, &id).await);
    for (ids, name) in [(&first, "carrier"), (&other, "second")] {
        assert!(ids.iter().all(|id| shown[id] == name), "{name} is not shown");
    }

    let told = provider(&scene.client).await;
    assert_eq!((&told["breaker"], &told["state"]), (&json!("closed"), &json!("running")));
    let log = scene.ringback.log();
    let said = |line: &str| log.matches(line).count();
    assert_eq!([said("a provider is away"), said("a provider is back")], [1, 1]);
    assert_eq!(figure(&scene.client, "provider_aways").await, 1);
    assert_eq!(figure(&scene.client, "messages_failed_over").await, other.len() as u64);
    let at = |call: &crate::harness::Call| call.at;
    let last = scene.provider.calls().iter().map(at).filter(|at| *at <= died).max().unwrap();
    let stood_in = second.calls().iter().map(at).min().unwrap();
    eprintln!(
        "failover on {on:?}: {MESSAGES} sent in {took:.1?}; {} by the first before it died, {} by the \
         second, {} by the first afterwards, {repeats} of them again; {:.0?} between the last call of one \
         and the first of the other",
        first_book.len(),
        other.len(),
        first.len() - first_book.len(),
        stood_in.saturating_duration_since(last),
    );
}

async fn at_most_once_what_was_in_flight_is_not_moved(on: Kind) {
    const MESSAGES: usize = 4_000;
    let second = Provider::start();
    let scene = scene(on, &second, |setup| setup).await;
    scene.provider.set(Mode::Delay(Duration::from_millis(3)));
    let mut wanted = scene.batch(numbers(0..MESSAGES));
    wanted["delivery_guarantee"] = "at_most_once".into();
    let id = accepted(&scene.client, &wanted).await;
    calls(&scene.provider, MESSAGES / 4).await;
    // It stays away.
    scene.provider.die();
    let complete = one_report(&scene.client, &scene.receiver, &id, LONG).await;
    let counts = counts(&complete);
    let unknown = usize::try_from(counts.get("unknown").copied().unwrap_or(0)).unwrap();
    assert!(unknown <= IN_FLIGHT, "{unknown} unknown");
    assert_eq!(counts["sent"], (MESSAGES - unknown) as u64, "{complete}");
    let [first, other] = [&scene.provider, &second].map(book);
    assert_eq!(first.intersection(&other).count(), 0, "nothing was asked of both");
    for message in messages(&scene.client, &id).await {
        let is_unknown = message["state"] == "unknown";
        let id = message["id"].as_str().unwrap();
        assert!(!(is_unknown && other.contains(id)), "{message}");
        assert!(is_unknown || first.contains(id) != other.contains(id), "{message}");
    }
    let calls = [&scene.provider, &second].map(Provider::count);
    assert_eq!(calls, [first.len(), other.len()], "one call each");
}

async fn what_may_have_been_accepted_waits_for_its_own_provider(on: Kind) {
    const MESSAGES: usize = 20;
    let second = Provider::start();
    let scene = scene(on, &second, |setup| {
        setup.set("providers.carrier.timeout", "300ms").set("providers.carrier.retry.first", "50ms")
    })
    .await;
    // All are in flight at once, and nobody knows what became of them.
    scene.provider.set(Mode::Hang);
    let id = scene.post(numbers(0..MESSAGES)).await;
    calls(&scene.provider, MESSAGES).await;
    let away = async || scene.ringback.log().contains("a provider is away").then_some(());
    eventually("an open breaker", PATIENCE, away).await;
    // What comes later goes.
    let later = scene.post(numbers(50..60)).await;
    let report = scene.report(&later).await;
    assert_eq!(counts(&report), these([("sent", 10)]));
    // At most one a cool-down finds out whether it is back.
    let before = scene.provider.count();
    assert!(before <= MESSAGES + 10, "{before} calls");
    scene.provider.set(Mode::Accept);
    assert_eq!(counts(&scene.report(&id).await), these([("sent", MESSAGES as u64)]));
    let of_first = |call: &crate::harness::Call| call.message_id.starts_with(&format!("{id}."));
    assert!(!second.calls().iter().any(of_first), "none of them was moved");
    let told = messages(&scene.client, &id).await;
    assert!(told.iter().all(|message| message["provider"] == "carrier"), "{told:?}");
    let told = messages(&scene.client, &later).await;
    assert!(told.iter().any(|message| message["provider"] == "second"), "{told:?}");
}

async fn what_the_fallback_may_have_accepted_goes_there_again(on: Kind) {
    let second = Provider::start();
    let scene = scene(on, &second, |setup| {
        setup
            .set("providers.carrier.breaker.failures", "1")
            .set("providers.carrier.retry.first", "50ms")
            .set("providers.carrier.retry.attempts", "100")
            .set("providers.carrier.retry.longest", "200ms")
            .set("providers.second.timeout", "300ms")
            .set("providers.second.breaker.cool_down", "1s")
    })
    .await;
    scene.provider.die();
    second.set(Mode::Hang);
    let id = scene.post(numbers(0..1)).await;
    calls(&second, 1).await;
    scene.provider.revive().await;
    // Others leave through the first again, once one of them has found out that it is back.
    let other = eventually("a message through the first", PATIENCE, async || {
        let other = scene.post(numbers(1..2)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        (scene.calls_of(&other) > 0).then_some(other)
    })
    .await;
    assert_eq!(counts(&scene.report(&other).await), these([("sent", 1)]));
    second.set(Mode::Accept);
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 1)]));
    assert_eq!(scene.calls_of(&id), 0, "the first provider was not asked");
    let told = messages(&scene.client, &id).await;
    assert_eq!(told[0]["provider"], "second");
    assert!(told[0]["provider_message_id"].is_string(), "{}", told[0]);
    assert_eq!(messages(&scene.client, &other).await[0]["provider"], "carrier");
}

async fn the_fallbacks_own_bounds_are_obeyed(on: Kind) {
    const RATE: usize = 200;
    const MESSAGES: usize = 500;
    let second = Provider::start();
    second.set(Mode::Delay(Duration::from_millis(100)));
    let scene = scene(on, &second, |setup| {
        setup
            .set("providers.carrier.from", "+15550000001")
            .set("providers.second.from", "+15550000002")
            .set("providers.second.rate", &format!("{RATE}/s"))
            .set("providers.second.max_in_flight", "10")
    })
    .await;
    scene.provider.die();
    let id = scene.post(numbers(0..MESSAGES)).await;
    // Beside it the second provider has a batch of its own.
    let mut own = scene.batch(numbers(0..50));
    own["provider"] = "second".into();
    let own = accepted(&scene.client, &own).await;
    assert_eq!(counts(&scene.report(&own).await), these([("sent", 50)]));
    // A stop of the fallback holds what would leave through it.
    stop(&scene.client, "second", "pause").await;
    nothing_more_leaves(&second).await;
    assert!(second.count() < MESSAGES, "all was sent already");
    stop(&scene.client, "second", "resume").await;
    // So does a stop of the provider itself: a fallback is no way around it.
    let before = second.count();
    calls(&second, before + 20).await;
    stop(&scene.client, "carrier", "pause").await;
    nothing_more_leaves(&second).await;
    assert!(second.count() < MESSAGES, "all was sent already");
    stop(&scene.client, "carrier", "resume").await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", MESSAGES as u64)]));
    assert!(second.open_at_most() <= 10, "{} at once", second.open_at_most());
    let most = second.busiest_second();
    assert!(most <= RATE + RATE / 10, "{most} in a second");
    assert!(second.calls().iter().all(|call| call.from.as_deref() == Some("+15550000002")));
    assert_eq!(scene.provider.count(), 0);
}

async fn stop(client: &Client, provider: &str, word: &str) {
    let answer = client.post(&format!("/v1/providers/{provider}/{word}"), &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn without_a_fallback_an_open_breaker_changes_nothing(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.retry.first", "50ms")
            .set("providers.carrier.retry.attempts", "3")
            .set("providers.carrier.breaker.cool_down", "10m")
    })
    .await;
    scene.provider.die();
    let id = scene.post(numbers(0..20)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("failed", 20)]));
    let log = scene.ringback.log();
    assert_eq!(log.matches("a provider is away").count(), 1);
    // No cool-down keeps anything from a provider that is back.
    scene.provider.revive().await;
    let id = scene.post(json!([number(0)])).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 1)]));
    assert!(scene.ringback.log().contains("a provider is back"));
}
