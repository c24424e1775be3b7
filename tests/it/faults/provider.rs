//! Rows 13 and 14: providers whose answers can't be understood, and providers that have enough.

use std::time::{Duration, Instant};

use super::{Books, Bounds, Row, SLOTS, calls, scene, within_rate};
use crate::{
    harness::{Kind, Mode, PATIENCE, Provider, Proxy, Setup, Wire, on_each_store},
    scene::{accepted, batch, numbers, with_callback},
};

on_each_store! {
    an_answer_that_tells_nothing_is_tried_again_under_the_same_key
    a_provider_that_has_enough_is_left_alone_and_slows_no_other
}

/// A further provider of kind `http`.
fn further(setup: Setup, name: &str, provider: &Provider) -> Setup {
    setup
        .set(&format!("providers.{name}.kind"), "http")
        .set(&format!("providers.{name}.url"), &provider.url())
}

/// Many quick retries.
fn patient(setup: Setup) -> Setup {
    setup
        .set("providers.carrier.timeout", "400ms")
        .set("providers.carrier.retry.attempts", "20")
        .set("providers.carrier.retry.first", "20ms")
        .set("providers.carrier.retry.longest", "200ms")
}

async fn an_answer_that_tells_nothing_is_tried_again_under_the_same_key(on: Kind) {
    const MESSAGES: usize = 3_000;
    const ONCE: usize = 100;
    let mut row = Row::begin(13, "answers that tell nothing", on, "I1 I2 I5 I6");
    let ambiguous = Provider::start();
    let wire = Proxy::before(ambiguous.address());
    let scene = scene(on, |setup| {
        patient(further(setup, "once", &ambiguous))
            .set("providers.once.timeout", "400ms")
            .set("providers.once.retry.attempts", "1")
            // The carrier is behind the wire.
            .set("providers.carrier.url", &format!("http://{}/messages", wire.address()))
    })
    .await;
    let [delay, pass] = [Mode::Delay(Duration::from_millis(3)), Mode::Accept];
    ambiguous.set(delay);
    let id = scene.post(numbers(0..MESSAGES)).await;
    for (what, mode) in [("time-outs", Mode::Hang), ("resets", Mode::Reset)] {
        calls(&ambiguous, ambiguous.count() + 300).await;
        ambiguous.set(mode);
        row.inject(what);
        calls(&ambiguous, ambiguous.count() + 200).await;
        ambiguous.set(delay);
    }
    calls(&ambiguous, ambiguous.count() + 300).await;
    let before = ambiguous.count();
    wire.set(Wire::Garble);
    row.inject("garbage");
    calls(&ambiguous, before + 200).await;
    wire.set(Wire::Pass);
    let garbled = u32::try_from(ambiguous.count() - before).unwrap() + SLOTS;
    // Where nothing is tried again, it ends as unknown.
    scene.client.wait_until_complete(&id, PATIENCE).await;
    ambiguous.set(Mode::Hang);
    let mut once = with_callback(batch(numbers(0..ONCE)), &scene.receiver);
    once["provider"] = "once".into();
    let once = accepted(&scene.client, &once).await;
    scene.client.wait_until_complete(&once, PATIENCE).await;
    ambiguous.set(pass);
    let books =
        Books { client: &scene.client, providers: &[&ambiguous], receiver: &scene.receiver };
    let bounds = Bounds { repeats: garbled, retries: u32::MAX, reports: 0 };
    let found = books.compare(&[(id, MESSAGES as u64), (once.clone(), ONCE as u64)], bounds).await;
    assert_eq!(found.states.get("sent"), Some(&(MESSAGES as u64)), "{found:?}");
    assert_eq!(found.states.get("unknown"), Some(&(ONCE as u64)), "{found:?}");
    let of_once =
        ambiguous.calls().iter().filter(|call| call.message_id.starts_with(&once)).count();
    assert_eq!(of_once, ONCE, "one call each, where one try is all");
    row.end(&found, format!("{ONCE} unknown after one try"));
}

async fn a_provider_that_has_enough_is_left_alone_and_slows_no_other(on: Kind) {
    const RATE: usize = 600;
    const MESSAGES: usize = 1_800;
    const OTHERS: usize = 1_000;
    let mut row = Row::begin(14, "429, 503 storm, 2 s latency", on, "I1 I6 = 0 I9");
    let other = Provider::start();
    let scene = scene(on, |setup| {
        let rate = format!("{RATE}/s");
        patient(further(setup, "other", &other))
            .set("providers.carrier.rate", &rate)
            .set("providers.carrier.timeout", "5s")
    })
    .await;
    scene.provider.set(Mode::Accept);
    let id = scene.post(numbers(0..MESSAGES)).await;
    let mut ids = vec![(id, MESSAGES as u64)];
    let second = Duration::from_secs(1);
    let mut slowest = Duration::ZERO;
    let mut held = 0;
    for what in ["429 for 1 s", "503 for 1 s", "2 s latency"] {
        calls(&scene.provider, scene.provider.count() + 300).await;
        let until = Instant::now() + second;
        let before = scene.provider.count();
        scene.provider.set(match what {
            "429 for 1 s" => Mode::Throttle { until, retry_after_s: 1 },
            "503 for 1 s" => Mode::Storm { until, status: 503 },
            _ => Mode::Delay(2 * second),
        });
        row.inject(what);
        let mut beside = with_callback(batch(numbers(0..OTHERS)), &scene.receiver);
        beside["provider"] = "other".into();
        let posted = Instant::now();
        let id = accepted(&scene.client, &beside).await;
        scene.client.wait_until_complete(&id, PATIENCE).await;
        slowest = slowest.max(posted.elapsed());
        ids.push((id, OTHERS as u64));
        tokio::time::sleep_until(until.into()).await;
        if what == "429 for 1 s" {
            let later = scene.provider.calls().into_iter().skip(before);
            held = later.filter(|call| call.at < until).count();
        }
        scene.provider.set(Mode::Accept);
    }
    let books = Books {
        client: &scene.client,
        providers: &[&scene.provider, &other],
        receiver: &scene.receiver,
    };
    let found = books.compare(&ids, Bounds::default()).await;
    found.all_sent();
    let most = within_rate(&scene.provider, RATE);
    assert!(held <= SLOTS as usize, "{held} calls while it asked for a pause");
    assert!(slowest < Duration::from_secs(5), "the other provider took {slowest:?}");
    row.end(
        &found,
        format!(
            "at most {most} in any second, of {RATE}; {held} calls after the 429; the other's \
             {OTHERS} within {slowest:.1?}"
        ),
    );
}
