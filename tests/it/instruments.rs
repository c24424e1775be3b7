//! The instruments themselves: a test is worth as much as the books it trusts.

use std::time::{Duration, Instant};

use serde_json::json;
use standardwebhooks::Webhook;

use crate::harness::{Client, Fate, Mode, PATIENCE, Provider, Receiver, Redis, Reply, eventually};

/// A client of one of the servers around the service, and the path it serves.
fn split(url: &str) -> (Client, &str) {
    let path = url.match_indices('/').nth(2).unwrap().0;
    (Client::of(&url[..path]), &url[path..])
}

async fn submit(provider: &Provider, id: &str) -> u16 {
    let url = provider.url();
    let (client, path) = split(&url);
    let message = json!({"message_id": id, "to": "+15551230001", "from": null, "body": "Hi"});
    let headers = [("idempotency-key", id)];
    client.post(path, &headers, message.to_string()).await.status
}

#[tokio::test]
async fn redis_keeps_its_data_over_a_crash_and_stands_still_when_told() {
    let mut redis = Redis::start_with(&["--maxmemory", "100mb"]).await;
    assert!(redis.ask("CONFIG GET maxmemory").contains("104857600"));
    assert!(redis.ask("CONFIG GET maxmemory-policy").contains("noeviction"));
    redis.ask("SET kept yes");
    redis.restart().await;
    assert!(redis.ask("GET kept").contains("yes"));
    redis.pause();
    assert!(redis.try_ask("PING", Duration::from_millis(100)).is_err());
    redis.resume();
    assert!(redis.ask("PING").contains("PONG"));
}

#[tokio::test]
async fn the_provider_writes_down_what_it_was_sent_and_what_it_said() {
    let provider = Provider::start();
    assert_eq!(submit(&provider, "m0").await, 200);
    provider.set(Mode::FailTimes(1));
    assert_eq!(submit(&provider, "m1").await, 503);
    assert_eq!(submit(&provider, "m1").await, 200);
    let until = Instant::now() + Duration::from_mins(10);
    provider.set(Mode::Throttle { until, retry_after_s: 7 });
    assert_eq!(submit(&provider, "m2").await, 429);
    provider.set(Mode::Delay(Duration::from_millis(50)));
    let before = Instant::now();
    assert_eq!(submit(&provider, "m3").await, 200);
    assert!(before.elapsed() >= Duration::from_millis(50));
    let fates: Vec<_> = provider.calls().iter().map(|call| call.fate).collect();
    let expected = [Fate::Accepted, Fate::Refused, Fate::Accepted, Fate::Refused, Fate::Accepted];
    assert_eq!(fates, expected);
    assert_eq!(provider.count(), 5);
    assert_eq!(provider.busiest_second(), 5);
    let taken = provider.taken_in();
    assert_eq!((taken.len(), taken["m1"]), (3, 1));
    let call = provider.calls().remove(0);
    assert_eq!((call.to.as_str(), call.body.as_str(), call.from), ("+15551230001", "Hi", None));
    assert_eq!(call.idempotency_key, call.message_id);
    assert!(call.at < before);
}

#[tokio::test]
async fn a_provider_that_says_nothing_has_taken_the_message_in() {
    let provider = Provider::start();
    let url = provider.url();
    for mode in [Mode::Reset, Mode::Hang] {
        provider.set(mode);
        let body = r#"{"message_id": "m", "to": "+1", "from": "+2", "body": ""}"#;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300));
        let sent = client.build().unwrap().post(&url).body(body).send().await;
        let error = sent.unwrap_err();
        assert_eq!(error.is_timeout(), matches!(mode, Mode::Hang), "{mode:?}: {error:?}");
    }
    assert_eq!(provider.taken_in()["m"], 2);
}

#[tokio::test]
async fn the_receiver_follows_its_script_and_checks_signatures() {
    let replies = [Reply::Status(500), Reply::RetryAfter(503, 9), Reply::Reset, Reply::Hang];
    let receiver = Receiver::scripted(replies);
    let url = receiver.url();
    let (client, path) = split(&url);
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let now = seconds_now();
    let signature = Webhook::new(secret).unwrap().sign("evt_1", now, b"{\"a\":1}").unwrap();
    let now = now.to_string();
    let headers =
        [("webhook-id", "evt_1"), ("webhook-timestamp", &now), ("webhook-signature", &signature)];
    assert_eq!(client.post(path, &headers, "{\"a\":1}").await.status, 500);
    let second = client.post(path, &[], "{}").await;
    assert_eq!((second.status, second.header("retry-after")), (503, "9"));
    for _ in 0..2 {
        assert!(client.try_get(path).await.is_none());
    }
    assert_eq!(client.get(path).await.status, 200);
    let deliveries = receiver.wait_for(5, PATIENCE).await;
    deliveries[0].verify(secret);
    assert_eq!(deliveries[0].json(), json!({"a": 1}));
    assert_eq!((deliveries[0].header("webhook-id"), deliveries[0].path.as_str()), ("evt_1", path));
    assert!(deliveries[0].at <= deliveries[1].at);
}

#[tokio::test]
#[should_panic(expected = "the flight of pigs did not happen within 20ms")]
async fn what_does_not_happen_fails_the_test() {
    eventually("the flight of pigs", Duration::from_millis(20), async || None::<()>).await;
}

/// Seconds since the epoch, for a signature that must be fresh.
fn seconds_now() -> i64 {
    let ms = ringback::clock::Clock::system().now().0;
    i64::try_from(ms / 1_000).unwrap()
}
