//! The process: how it starts, what it binds, and how it stops.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    faults::{Found, Row},
    harness::{
        Backing, Client, Kind, Mode, PATIENCE, Provider, Receiver, Redis, Ringback, Setup,
        StoreUrl, command, eventually, free_port, key_hash, on_each_store, variable,
    },
    scene::shown_when,
};

const KEY: &str = "rbk_a-key-that-only-this-test-knows";

on_each_store! {
    all_roles_together_do_the_whole_job
    asked_to_stop_it_finishes_what_is_open
    what_does_not_finish_in_time_is_dropped
}

fn batch(recipients: usize) -> Value {
    let to: Vec<_> = (0..recipients).map(|number| format!("+1555{number:07}")).collect();
    json!({"from": "+15550001111", "body": "Hi", "recipients": to})
}

/// A process that sends through `provider`, which may be slow.
fn through(provider: &Provider, store: &impl StoreUrl) -> Setup {
    Ringback::on(store).carrier(&provider.url()).set("providers.carrier.timeout", "60s")
}

/// Posts a batch and waits until the provider has its first message.
async fn post_and_wait_for_the_call(ringback: &Ringback, provider: &Provider) -> String {
    let posted = ringback.client().post_batch(&batch(1)).await;
    assert_eq!(posted.status, 202, "{}", posted.text);
    eventually("a call", PATIENCE, async || (provider.count() > 0).then_some(())).await;
    posted.batch_id()
}

async fn all_roles_together_do_the_whole_job(on: Kind) {
    let (store, provider, receiver) =
        (Backing::start(on).await, Provider::start(), Receiver::start());
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let setup = through(&provider, &store).set("callbacks.signing_secrets", secret);
    let ringback = setup.start().await;
    let client = ringback.client();
    let mut batch = batch(3);
    batch["callback_url"] = receiver.url().into();
    let posted = client.post_batch_once("once", &batch).await;
    assert_eq!(posted.status, 202, "{}", posted.text);
    let completed = client.wait_until_complete(&posted.batch_id(), PATIENCE).await;
    assert_eq!(completed["counts"]["sent"], 3, "{completed}");
    assert_eq!(provider.taken_in().len(), 3);
    let delivery = receiver.wait_for(1, PATIENCE).await.remove(0);
    delivery.verify(secret);
    assert_eq!(delivery.json()["data"]["counts"], completed["counts"]);
}

async fn asked_to_stop_it_finishes_what_is_open(on: Kind) {
    let (store, provider) = (Backing::start(on).await, Provider::start());
    provider.set(Mode::Delay(Duration::from_millis(500)));
    let mut first = through(&provider, &store).start().await;
    let id = post_and_wait_for_the_call(&first, &provider).await;
    first.terminate();
    let status = first.wait_for_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(0));
    assert!(first.log().contains("stopped"));
    // What was accepted is known to the next one, and not sent again.
    let second = through(&provider, &store).start().await;
    let completed = second.client().wait_until_complete(&id, PATIENCE).await;
    assert_eq!(completed["counts"]["sent"], 1, "{completed}");
    assert_eq!(provider.count(), 1);
}

#[tokio::test]
async fn a_second_signal_stops_it_at_once() {
    let (redis, provider) = (Redis::start().await, Provider::start());
    provider.set(Mode::Hang);
    let mut ringback = through(&provider, &redis).start().await;
    post_and_wait_for_the_call(&ringback, &provider).await;
    ringback.terminate();
    eventually("the first signal's line", PATIENCE, async || {
        ringback.log().contains("what is open is being finished").then_some(())
    })
    .await;
    let asked = Instant::now();
    ringback.terminate();
    let status = ringback.wait_for_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

async fn what_does_not_finish_in_time_is_dropped(on: Kind) {
    let (store, provider) = (Backing::start(on).await, Provider::start());
    provider.set(Mode::Hang);
    let setup = through(&provider, &store).set("worker.drain_timeout", "200ms");
    let mut ringback = setup.start().await;
    post_and_wait_for_the_call(&ringback, &provider).await;
    ringback.terminate();
    assert_eq!(ringback.wait_for_exit(Duration::from_secs(15)).await.code(), Some(0));
    assert!(ringback.log().contains("worker.drain_timeout is over"));
}

#[tokio::test]
async fn it_may_start_before_the_store() {
    let mut redis = Redis::start().await;
    redis.kill();
    let mut ringback = Ringback::on(&redis).spawn();
    eventually("a line about the store", PATIENCE, async || {
        ringback.log().contains("waiting for the store").then_some(())
    })
    .await;
    assert!(ringback.client().try_get("/readyz").await.is_none_or(|answer| answer.status == 503));
    redis.restart().await;
    ringback.wait_until_ready().await;
}

#[tokio::test]
async fn while_it_waits_for_the_store_it_can_be_stopped() {
    let mut redis = Redis::start().await;
    redis.kill();
    let mut ringback = Ringback::on(&redis).spawn();
    eventually("a line about the store", PATIENCE, async || {
        ringback.log().contains("waiting for the store").then_some(())
    })
    .await;
    ringback.terminate();
    assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_store_that_may_throw_keys_away_is_refused() {
    let redis = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let mut ringback = Ringback::on(&redis).spawn();
    assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(1));
    assert!(ringback.log().contains("maxmemory-policy"), "{}", ringback.log());
}

#[tokio::test]
async fn a_store_whose_bell_may_not_be_rung_or_heard_is_refused() {
    let redis = Redis::start().await;
    for rights in ["+@all", "&rb:bell +@all -subscribe", "&rb:bell +@all -publish"] {
        redis.ask(&format!("ACL SETUSER limited reset on >word ~rb:* {rights}"));
        let url = format!("redis://limited:word@127.0.0.1:{}", redis.port());
        let mut ringback = Ringback::on(&redis).set("store.url", &url).spawn();
        assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(1), "{rights}");
        let log = ringback.log();
        assert!(log.contains("ACL SETUSER") && log.contains("&rb:bell"), "{rights}: {log}");
    }
    redis.ask("ACL SETUSER limited reset on >word ~rb:* &rb:bell +@all");
    let url = format!("redis://limited:word@127.0.0.1:{}", redis.port());
    Ringback::on(&redis).set("store.url", &url).start().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let redis = Redis::start().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut ringback = Ringback::on(&redis).set("server.listen", &address).spawn();
    assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(1));
    let log = ringback.log();
    assert!(log.contains("server.listen") && log.contains(&address), "{log}");
}

#[tokio::test]
async fn roles_are_split_over_processes() {
    let redis = Redis::start().await;
    let setup = || Ringback::on(&redis).set("accounts.acme.api_key_hashes", &key_hash(KEY));
    let api = setup().role("api").start().await;
    let unused = format!("127.0.0.1:{}", free_port());
    let worker = setup().set("server.listen", &unused).role("worker").role("notifier");
    let worker = worker.start().await;
    assert!(Client::of(&format!("http://{unused}")).try_get("/healthz").await.is_none());
    assert_eq!(worker.health().get("/metrics").await.status, 200);
    assert_eq!(api.client().post_batch(&batch(2)).await.status, 401);
    let client = api.client().with_key(KEY);
    let posted = client.post_batch(&batch(2)).await;
    let completed = client.wait_until_complete(&posted.batch_id(), PATIENCE).await;
    assert_eq!(completed["counts"]["sent"], 2, "{completed}");
}

#[tokio::test]
async fn a_process_that_listens_nowhere_does_its_part_until_it_is_stopped() {
    let (redis, receiver) = (Redis::start().await, Receiver::start());
    let api = Ringback::on(&redis).role("api").start().await;
    let alone = |role| Ringback::on(&redis).role(role).untold().spawn();
    let mut others = ["worker", "notifier"].map(alone);
    for _ in 0..2 {
        let client = api.client();
        let mut batch = batch(2);
        batch["callback_url"] = receiver.url().into();
        let id = client.post_batch(&batch).await.batch_id();
        shown_when(&client, &id, "its callback", |batch| batch["callback"]["state"] == "delivered")
            .await;
    }
    for other in &mut others {
        other.terminate();
        assert_eq!(other.wait_for_exit(PATIENCE).await.code(), Some(0), "{}", other.log());
    }
}

#[tokio::test]
async fn metrics_have_a_listener_of_their_own_where_one_is_set() {
    let redis = Redis::start().await;
    let address = format!("127.0.0.1:{}", free_port());
    let setup = Ringback::on(&redis).set("accounts.acme.api_key_hashes", &key_hash(KEY));
    let ringback = setup.set("server.metrics_listen", &address).start().await;
    let (api, own) = (ringback.client(), Client::of(&format!("http://{address}")));
    assert!(own.get("/metrics").await.text.contains("ringback_store_up 1"));
    assert_eq!(api.get("/metrics").await.status, 404);
    for path in ["/healthz", "/readyz"] {
        assert_eq!((own.get(path).await.status, api.get(path).await.status), (200, 200), "{path}");
    }
    // It answers nothing else, whoever asks.
    for path in ["/v1/batches", "/openapi.json", "/"] {
        assert_eq!(own.with_key(KEY).get(path).await.status, 404, "{path}");
    }
    let document = api.get("/openapi.json").await.json();
    assert!(document["paths"]["/metrics"].is_null() && document["paths"]["/healthz"].is_object());
}

#[tokio::test]
async fn a_process_that_stood_still_goes_on() {
    let redis = Redis::start().await;
    let ringback = Ringback::start(&redis).await;
    ringback.pause();
    assert!(ringback.client().try_get("/healthz").await.is_none());
    ringback.resume();
    assert_eq!(ringback.client().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut row = Row::begin(22, "log that nobody reads", Kind::Redis, "I1");
    let redis = Redis::start().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = command();
    for (key, value) in
        [("store.url", redis.url().as_str()), ("server.listen", &listen), ("log.filter", "trace")]
    {
        command.env(variable(key), value);
    }
    // A pipe takes 64 KiB; whoever writes more waits for its reader.
    let mut child = command.arg("serve").stderr(Stdio::piped()).spawn().unwrap();
    let client = Client::of(&format!("http://{listen}"));
    eventually("readiness", PATIENCE, async || {
        client.try_get("/readyz").await.filter(|answer| answer.status == 200)
    })
    .await;
    let posted = client.post_batch(&batch(3_000)).await;
    let completed = client.wait_until_complete(&posted.batch_id(), PATIENCE).await;
    child.kill().unwrap();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut log).unwrap();
    child.wait().unwrap();
    assert_eq!(completed["counts"]["sent"], 3_000, "{completed}");
    assert!(log.len() > 60_000, "only {} bytes were logged, which proves nothing", log.len());
    row.inject("full pipe");
    row.end(&Found { messages: 3_000, ..Found::reports(1, 0) }, "");
}
