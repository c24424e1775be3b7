//! A provider that throttles gets less for a while, from all workers together.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    harness::{
        Backing, Client, Fate, Kind, Mode, PATIENCE, Provider, Receiver, Setup, eventually,
        on_each_store,
    },
    scene::{Scene, accepted, batch, counts, numbers, one_report, setup, these, with_callback},
};

on_each_store! {
    a_provider_that_throttles_gets_half_and_the_rest_step_by_step
    a_rate_that_is_not_to_adapt_stays_as_it_is
}

const RATE: usize = 200;

/// What the carrier is asked: how many of its messages it accepted, from so long after `from` on, in so long.
fn accepted_within(provider: &Provider, from: Instant, begin: Duration, long: Duration) -> usize {
    let calls = provider.calls();
    let within = |at: Instant| at >= from + begin && at < from + begin + long;
    calls.iter().filter(|call| call.fate == Fate::Accepted && within(call.at)).count()
}

/// The provider as the API shows it.
async fn shown(client: &Client) -> Value {
    let list = client.get("/v1/providers").await.json();
    let providers = list["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["name"] == "carrier").unwrap().clone()
}

/// The current rate as a number.
async fn current(client: &Client) -> f64 {
    let shown = shown(client).await["current_rate"].as_str().unwrap().to_owned();
    shown.strip_suffix("/s").unwrap().parse().unwrap()
}

/// Has the provider throttle once: everything in the next moment. Gives when it accepts again.
async fn throttle(provider: &Provider) -> Instant {
    let before = provider.count();
    let until = Instant::now() + Duration::from_millis(200);
    provider.set(Mode::Throttle { until, retry_after_s: 1 });
    let first = eventually("a refusal", PATIENCE, async || {
        let calls = provider.calls();
        calls[before..].iter().find(|call| call.fate == Fate::Refused).map(|call| call.at)
    })
    .await;
    first + Duration::from_secs(1)
}

fn rated(setup: Setup) -> Setup {
    setup.set("providers.carrier.rate", &format!("{RATE}/s")).set("log.filter", "info")
}

async fn a_provider_that_throttles_gets_half_and_the_rest_step_by_step(on: Kind) {
    let scene = Scene::start_on_with(on, rated).await;
    assert_eq!(shown(&scene.client).await["current_rate"], json!("200/s"));
    let id = scene.post(numbers(0..1_600)).await;
    eventually("calls", PATIENCE, async || (scene.provider.count() >= 200).then_some(())).await;
    let goes_on = throttle(&scene.provider).await;
    let cut = async || {
        let rate = current(&scene.client).await;
        (rate < 200.0).then_some(rate)
    };
    let rate = eventually("a cut", PATIENCE, cut).await;
    assert!((100.0..103.0).contains(&rate), "{rate}");
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 1_600)]));

    // Growing by 3.3 a second each second: about 102 in the first, 105 in the second. Up to a tick of the
    // pause's end and 50 ms of the rate may be amiss.
    let in_second = |nth| {
        accepted_within(&scene.provider, goes_on, Duration::from_secs(nth), Duration::from_secs(1))
    };
    let seconds: Vec<_> = (0..5).map(in_second).collect();
    eprintln!(
        "adaptive on {on:?}: accepted in each second after the pause, of {RATE}/s: {seconds:?}"
    );
    assert!(seconds.iter().all(|sent| (75..=135).contains(sent)), "{seconds:?}");
    assert!(seconds[4] > seconds[0] || seconds[4] > 100, "{seconds:?}");
    let log = scene.ringback.log();
    assert_eq!(log.matches("a provider's rate is cut").count(), 1);
    assert!(!log.contains("back in full"), "not yet");
    // Half of the minute after the pause it is back.
    let full = async || (current(&scene.client).await >= 200.0).then_some(());
    eventually("the full rate", Duration::from_mins(1), full).await;
    let took = goes_on.elapsed();
    assert!(took > Duration::from_secs(20) && took < Duration::from_secs(40), "{took:?}");
    let said =
        async || scene.ringback.log().contains("a provider's rate is back in full").then_some(());
    eventually("its line", PATIENCE, said).await;
}

async fn a_rate_that_is_not_to_adapt_stays_as_it_is(on: Kind) {
    let scene =
        Scene::start_on_with(on, |setup| rated(setup).set("providers.carrier.adaptive", "false"))
            .await;
    let id = scene.post(numbers(0..800)).await;
    eventually("calls", PATIENCE, async || (scene.provider.count() >= 200).then_some(())).await;
    let goes_on = throttle(&scene.provider).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 800)]));
    let sent = accepted_within(&scene.provider, goes_on, Duration::ZERO, Duration::from_secs(1));
    assert!(sent > 150, "{sent} in the first second");
    assert_eq!(shown(&scene.client).await["current_rate"], json!("200/s"));
    assert!(!scene.ringback.log().contains("is cut"));
}

#[tokio::test]
async fn all_workers_obey_one_cut() {
    let (store, provider, receiver) =
        (Backing::start(Kind::Redis).await, Provider::start(), Receiver::start());
    let api = rated(setup(&store, &provider)).start().await;
    let worker = || rated(setup(&store, &provider)).role("worker");
    let others = [worker().start().await, worker().start().await];
    let client = api.client();
    // Each of the three gets its chunks.
    let mut ids = Vec::new();
    for _ in 0..3 {
        let wanted = with_callback(batch(numbers(0..500)), &receiver);
        ids.push(accepted(&client, &wanted).await);
    }
    eventually("calls", PATIENCE, async || (provider.count() >= 200).then_some(())).await;
    let goes_on = throttle(&provider).await;
    for id in &ids {
        let report = one_report(&client, &receiver, id, PATIENCE).await;
        assert_eq!(counts(&report), these([("sent", 500)]));
    }
    let seconds: Vec<_> = (0..5)
        .map(|nth| {
            accepted_within(&provider, goes_on, Duration::from_secs(nth), Duration::from_secs(1))
        })
        .collect();
    eprintln!("adaptive, three workers: accepted in each second after the pause: {seconds:?}");
    assert!(seconds.iter().all(|sent| (75..=135).contains(sent)), "{seconds:?}");
    let cuts = [&api, &others[0], &others[1]]
        .map(|process| process.log().matches("a provider's rate is cut").count());
    assert_eq!(cuts.iter().sum::<usize>(), 1, "{cuts:?}");
}
