//! The completion callback, as receivers of every kind see it.

use std::time::Duration;

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    harness::{
        Backing, Client, Kind, PATIENCE, Provider, Receiver, Reply, Ringback, Setup, StoreUrl,
        command, eventually, free_port, on_each_store, variable,
    },
    scene::{SECRET, accepted, batch, numbers, setup, shown_when, with_callback},
};

on_each_store! {
    a_callback_is_repeated_with_one_id_and_body_until_it_is_taken
    a_callback_that_nobody_takes_is_exhausted_and_stays_visible
    while_a_callback_waits_its_next_attempt_is_announced
    without_a_configured_secret_the_stores_own_is_used_and_shown
    a_callback_that_waits_is_delivered_after_a_crash
    crashes_use_up_the_schedule_like_any_attempt
}

/// A service, and the receiver of its callbacks.
///
/// The order of the fields is the order in which they end: the service first.
struct Line {
    ringback: Ringback,
    client: Client,
    receiver: Receiver,
    provider: Provider,
    store: Backing,
}

// === impl Line ===

impl Line {
    /// A service on Redis, whose receiver answers as `script` says, and 200 afterwards.
    async fn to(
        script: impl IntoIterator<Item = Reply>,
        settings: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        Self::on(Kind::Redis, script, settings).await
    }

    /// The same on a store of this kind.
    async fn on(
        kind: Kind,
        script: impl IntoIterator<Item = Reply>,
        settings: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let (store, provider) = (Backing::start(kind).await, Provider::start());
        let ringback = settings(setup(&store, &provider)).start().await;
        let client = ringback.client();
        Self { ringback, client, receiver: Receiver::scripted(script), provider, store }
    }

    async fn post(&self) -> String {
        accepted(&self.client, &with_callback(batch(numbers(0..2)), &self.receiver)).await
    }

    /// Posts a batch that reports to `url`.
    async fn post_to(&self, url: &str) -> String {
        let mut batch = batch(numbers(0..2));
        batch["callback_url"] = url.into();
        accepted(&self.client, &batch).await
    }

    /// Waits until the callback of a batch is in `state`; gives what the API tells of its attempts.
    async fn attempts_once(&self, id: &str, state: &str) -> Value {
        shown_when(&self.client, id, &format!("a callback that is {state}"), |batch| {
            batch["callback"]["state"] == state
        })
        .await;
        self.attempts(id).await
    }

    async fn attempts(&self, id: &str) -> Value {
        let answer = self.client.get(&format!("/v1/batches/{id}/callbacks")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }
}

/// Number, status and error of each attempt.
fn told(attempts: &Value) -> Vec<(u64, Option<u64>, Option<String>)> {
    let attempts = attempts["attempts"].as_array().unwrap().iter();
    attempts
        .map(|attempt| {
            let error = attempt["error"].as_str().map(str::to_owned);
            (attempt["number"].as_u64().unwrap(), attempt["status"].as_u64(), error)
        })
        .collect()
}

async fn a_callback_is_repeated_with_one_id_and_body_until_it_is_taken(on: Kind) {
    let failure = Reply::Status(500);
    let line = Line::on(on, [failure, failure, failure], |setup| {
        // The last wait lasts into another second, whatever the spread.
        setup.set("callbacks.schedule", "50ms,100ms,1500ms,1h")
    })
    .await;
    let id = line.post().await;
    line.receiver.wait_for(3, PATIENCE).await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let deliveries = line.receiver.deliveries();
    assert_eq!(deliveries.len(), 4);
    let event = format!("evt_{}", id.strip_prefix("bat_").unwrap());
    let stamps: Vec<i64> = deliveries
        .iter()
        .map(|delivery| {
            delivery.verify(SECRET);
            assert_eq!(delivery.header("webhook-id"), event);
            assert_eq!(delivery.body, deliveries[0].body);
            delivery.header("webhook-timestamp").parse().unwrap()
        })
        .collect();
    assert!(stamps.is_sorted() && stamps[3] > stamps[2], "{stamps:?}");
    assert!(deliveries[3].at - deliveries[2].at >= Duration::from_millis(1_200));
    let failed = |number| (number, Some(500), Some("the receiver answered 500".to_owned()));
    assert_eq!(told(&attempts), [failed(1), failed(2), failed(3), (4, Some(200), None)]);
    assert!(attempts["next_attempt_at"].is_null());
    let times: Vec<_> = attempts["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["at"].as_str().unwrap().to_owned())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let line = Line::to([Reply::RetryAfter(503, 2), Reply::RetryAfter(429, 1)], |setup| {
        setup.set("callbacks.schedule", "20ms,20ms,1h")
    })
    .await;
    let id = line.post().await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let at: Vec<_> = line.receiver.deliveries().iter().map(|delivery| delivery.at).collect();
    assert_eq!(told(&attempts).len(), 3);
    assert!(at[1] - at[0] >= Duration::from_secs(2), "{:?}", at[1] - at[0]);
    assert!(at[2] - at[1] >= Duration::from_secs(1), "{:?}", at[2] - at[1]);
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone() {
    let line =
        Line::to([Reply::Status(410)], |setup| setup.set("callbacks.schedule", "10ms")).await;
    let id = line.post().await;
    let attempts = line.attempts_once(&id, "gone").await;
    assert_eq!(told(&attempts), [(1, Some(410), Some("the receiver answered 410".to_owned()))]);
    assert!(attempts["next_attempt_at"].is_null());
    // The next batch's callback goes its way, and nothing comes beside it.
    let next = line.post().await;
    line.attempts_once(&next, "delivered").await;
    assert_eq!(line.receiver.deliveries().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let line = Line::to([Reply::Redirect], |setup| setup.set("callbacks.schedule", "50ms")).await;
    let id = line.post().await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let error = "the receiver answered 307; redirects are not followed".to_owned();
    assert_eq!(told(&attempts), [(1, Some(307), Some(error)), (2, Some(200), None)]);
    let paths: Vec<_> =
        line.receiver.deliveries().into_iter().map(|delivery| delivery.path).collect();
    assert_eq!(paths, ["/hooks/sms", "/hooks/sms"]);
}

#[tokio::test]
async fn a_receiver_that_says_nothing_ends_the_attempt_and_no_more() {
    let line = Line::to([Reply::Hang, Reply::Reset], |setup| {
        setup.set("callbacks.timeout", "400ms").set("callbacks.schedule", "50ms,50ms")
    })
    .await;
    let id = line.post().await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let told = told(&attempts);
    assert_eq!(told[0], (1, None, Some("no answer within 400ms".to_owned())));
    assert!(told[1].1.is_none() && told[1].2.is_some(), "{told:?}");
    assert_eq!(told[2], (3, Some(200), None));
    let latency_ms = attempts["attempts"][0]["latency_ms"].as_u64().unwrap();
    assert!(latency_ms >= 400, "{latency_ms}");
    let deliveries = line.receiver.deliveries();
    assert_eq!(deliveries[0].body, deliveries[2].body);
}

async fn a_callback_that_nobody_takes_is_exhausted_and_stays_visible(on: Kind) {
    let line =
        Line::on(on, [Reply::Status(500); 3], |setup| setup.set("callbacks.schedule", "20ms,40ms"))
            .await;
    let id = line.post().await;
    let attempts = line.attempts_once(&id, "exhausted").await;
    let failed = |number| (number, Some(500), Some("the receiver answered 500".to_owned()));
    assert_eq!(told(&attempts), [failed(1), failed(2), failed(3)]);
    assert!(attempts["next_attempt_at"].is_null());
    let metrics = line.client.get("/metrics").await.text;
    assert!(metrics.contains("ringback_callbacks_ended_total{state=\"exhausted\"} 1"), "{metrics}");
    // Nobody listens at all: the reason is told, without the address's secrets.
    let id = line.post_to(&format!("http://127.0.0.1:{}/hook?token=hush", free_port())).await;
    let told = told(&line.attempts_once(&id, "exhausted").await);
    assert!(told[0].2.as_deref().unwrap().starts_with("could not connect"), "{told:?}");
    assert!(!line.ringback.log().contains("hush"));
    assert_eq!(line.receiver.deliveries().len(), 3);
}

async fn while_a_callback_waits_its_next_attempt_is_announced(on: Kind) {
    let line =
        Line::on(on, [Reply::Status(500)], |setup| setup.set("callbacks.schedule", "1h")).await;
    let id = line.post().await;
    line.receiver.wait_for(1, PATIENCE).await;
    let announced = eventually("the record of the attempt", PATIENCE, async || {
        let attempts = line.attempts(&id).await;
        (attempts["attempts"][0]["status"] == 500).then_some(attempts)
    })
    .await;
    let (at, next) = (&announced["attempts"][0]["at"], &announced["next_attempt_at"]);
    let instant = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait_s = instant(next).as_second() - instant(at).as_second();
    assert!((2_880..=4_330).contains(&wait_s), "an hour, give or take a fifth: {wait_s} s");
}

async fn a_callback_that_waits_is_delivered_after_a_crash(on: Kind) {
    let mut line =
        Line::on(on, [Reply::Status(500)], |setup| setup.set("callbacks.schedule", "2s")).await;
    let id = line.post().await;
    eventually("the record of the attempt", PATIENCE, async || {
        (line.attempts(&id).await["attempts"][0]["status"] == 500).then_some(())
    })
    .await;
    line.ringback.restart().await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let error = "the receiver answered 500".to_owned();
    assert_eq!(told(&attempts), [(1, Some(500), Some(error)), (2, Some(200), None)]);
    same_event_twice(&line.receiver);
}

// With several processes on Redis: a_callback_whose_notifier_died_is_delivered_by_the_next_one.
#[tokio::test]
async fn an_attempt_that_a_crash_ended_is_followed_by_another() {
    let settings =
        |setup: Setup| setup.set("callbacks.timeout", "1s").set("callbacks.schedule", "10ms,1h");
    let mut line = Line::on(Kind::Embedded, [Reply::Hang], settings).await;
    let id = line.post().await;
    line.receiver.wait_for(1, PATIENCE).await;
    line.ringback.restart().await;
    let attempts = line.attempts_once(&id, "delivered").await;
    let interrupted = Some("interrupted".to_owned());
    assert_eq!(told(&attempts), [(1, None, interrupted), (2, Some(200), None)]);
    same_event_twice(&line.receiver);
}

async fn crashes_use_up_the_schedule_like_any_attempt(on: Kind) {
    let settings =
        |setup: Setup| setup.set("callbacks.timeout", "1s").set("callbacks.schedule", "10ms");
    // A third attempt would be taken, and be told of as delivered.
    let mut line = Line::on(on, [Reply::Hang; 2], settings).await;
    let id = line.post().await;
    for attempt in 1..=2 {
        line.receiver.wait_for(attempt, PATIENCE).await;
        line.ringback.restart().await;
    }
    let attempts = line.attempts_once(&id, "exhausted").await;
    let interrupted = |number| (number, None, Some("interrupted".to_owned()));
    assert_eq!(told(&attempts), [interrupted(1), interrupted(2)]);
    assert_eq!(line.receiver.deliveries().len(), 2);
}

/// There were two deliveries, of the same event with the same bytes.
fn same_event_twice(receiver: &Receiver) {
    let deliveries = receiver.deliveries();
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[0].header("webhook-id"), deliveries[1].header("webhook-id"));
    assert_eq!(deliveries[0].body, deliveries[1].body);
    for delivery in &deliveries {
        delivery.verify(SECRET);
    }
}

#[tokio::test]
async fn addresses_within_private_networks_are_refused_by_default() {
    let line = Line::to([], |setup| setup.set("callbacks.allow_private_networks", "false")).await;
    let local = [
        line.receiver.url(),
        "http://2130706433/".to_owned(),
        "http://0x7f.1/".to_owned(),
        "http://１２７.0.0.1/".to_owned(),
        "http://localhost/".to_owned(),
        "http://hooks.internal/".to_owned(),
        "http://[::1]/".to_owned(),
        "http://10.1.2.3/".to_owned(),
        "https://192.168.0.1/".to_owned(),
    ];
    let never = [
        "http://169.254.169.254/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::808:808]/",
        "http://224.0.0.1/",
        "ftp://example.com/",
        "http://user:hush@example.com/",
        "//example.com/",
        "",
    ];
    let refuse = async |url: &str| {
        let mut batch = batch(numbers(0..2));
        batch["callback_url"] = url.into();
        let answer = line.client.post_batch(&batch).await;
        assert_eq!(answer.status, 422, "{url}: {}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["code"], "callback_url_forbidden", "{url}");
        assert_eq!(problem["errors"][0]["pointer"], "/callback_url", "{url}");
        assert!(!answer.text.contains("hush"));
        problem["detail"].as_str().unwrap().to_owned()
    };
    for url in &local {
        let detail = refuse(url).await;
        assert!(detail.contains("callbacks.allow_private_networks"), "{url}: {detail}");
    }
    for url in never {
        refuse(url).await;
    }
    assert_eq!(line.client.get("/v1/batches").await.json()["batches"], json!([]));
    assert_eq!((line.provider.count(), line.receiver.deliveries().len()), (0, 0));
}

#[tokio::test]
async fn an_address_is_judged_again_when_the_callback_is_delivered() {
    let line = Line::to([], |setup| setup.role("api").role("worker")).await;
    // The API took the address; the notifier's settings forbid it.
    let _notifier = setup(&line.store, &line.provider)
        .role("notifier")
        .set("callbacks.allow_private_networks", "false")
        .set("callbacks.schedule", "10ms")
        .start()
        .await;
    let id = line.post().await;
    let told = told(&line.attempts_once(&id, "exhausted").await);
    assert_eq!(told.len(), 2);
    assert!(told[0].2.as_deref().unwrap().contains("callbacks.allow_private_networks"), "{told:?}");
    assert!(line.receiver.deliveries().is_empty());
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_signatures_are_there() {
    let other = "whsec_YW5vdGhlciBzZWNyZXQgb2YgZW5vdWdoIGJ5dGVzIQ==";
    let both = format!("{SECRET},{other}");
    let line = Line::to([], |setup| setup.set("callbacks.signing_secrets", &both)).await;
    line.post().await;
    let delivery = line.receiver.wait_for(1, PATIENCE).await.remove(0);
    assert_eq!(delivery.header("webhook-signature").split(' ').count(), 2);
    delivery.verify(SECRET);
    delivery.verify(other);
    let stranger = Webhook::new("whsec_c3RyYW5nZXJzIHNlY3JldCB3aXRoIDMyIGJ5dGVzIQ==").unwrap();
    assert!(stranger.verify(&delivery.body, &delivery.headers).is_err());
}

async fn without_a_configured_secret_the_stores_own_is_used_and_shown(on: Kind) {
    let line = Line::on(on, [], |setup| setup.set("callbacks.signing_secrets", "")).await;
    line.post().await;
    let delivery = line.receiver.wait_for(1, PATIENCE).await.remove(0);
    let shown = command()
        .args(["secret", "show"])
        .env(variable("store.url"), line.store.store_url())
        .output()
        .unwrap();
    delivery.verify(String::from_utf8(shown.stdout).unwrap().trim());
}

#[tokio::test]
async fn without_a_url_nobody_is_told() {
    let line = Line::to([], |setup| setup).await;
    let id = accepted(&line.client, &batch(numbers(0..2))).await;
    let complete = line.client.wait_until_complete(&id, PATIENCE).await;
    assert!(complete["callback"].is_null());
    assert_eq!(line.attempts(&id).await, json!({"attempts": [], "next_attempt_at": null}));
}
