//! What the service survives. The book of the provider and that of the receiver are the oracle:
//! they are kept outside the service and see what it really did.
//!
//! On Redis every scene keeps the API in a process that is left alone, so that clients can be told
//! what happens, and hurts the worker, the notifier or Redis under load. On the embedded store there
//! is one process, and it is hurt as a whole.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{
        Client, Kind, Mode, PATIENCE, Provider, Receiver, Redis, Reply, Ringback, Setup, eventually,
    },
    scene::{
        SECRET, Scene, accepted, batch, counts, messages, numbers, one_report, setup, shown,
        shown_when, these, with_callback,
    },
};

/// The most open exchanges of a worker; it has twice as many slots, so this is half of what a crash
/// may repeat.
const IN_FLIGHT: u32 = 64;

/// How long a batch may take on a busy machine.
const LONG: Duration = Duration::from_mins(2);

/// The API in a process of its own, and everything around it.
struct Stage {
    _api: Ringback,
    client: Client,
    provider: Provider,
    receiver: Receiver,
    redis: Redis,
}

// === impl Stage ===

impl Stage {
    async fn set() -> Self {
        let (redis, provider) = (Redis::start().await, Provider::start());
        provider.set(Mode::Delay(Duration::from_millis(3)));
        let api = setup(&redis, &provider).role("api").role("notifier").start().await;
        let client = api.client();
        Self { _api: api, client, provider, receiver: Receiver::start(), redis }
    }

    /// A worker that sends through the stage's provider.
    fn worker(&self) -> Setup {
        worker(&self.redis, &self.provider)
    }

    async fn post(&self, messages: usize) -> String {
        accepted(&self.client, &with_callback(batch(numbers(0..messages)), &self.receiver)).await
    }

    /// Waits until the provider was called so often.
    async fn calls(&self, count: usize) {
        calls(&self.provider, count).await;
    }

    /// Whether a batch is complete. The store may be away for a moment.
    async fn is_complete(&self, id: &str) -> bool {
        eventually("an answer", PATIENCE, async || {
            let answer = self.client.get(&format!("/v1/batches/{id}")).await;
            (answer.status == 200).then(|| !answer.json()["completed_at"].is_null())
        })
        .await
    }

    /// Waits for the end of a batch, of which all must have been sent.
    async fn all_sent(&self, id: &str, total: u64) {
        all_sent(&self.client, &self.provider, &self.receiver, id, total).await;
    }

    /// How many calls were repeats of what was, or may have been, accepted before.
    fn repeats(&self) -> u32 {
        repeats(&self.provider.taken_in())
    }
}

/// Waits until the provider was called so often.
async fn calls(provider: &Provider, count: usize) {
    let what = format!("call {count} of the provider");
    eventually(&what, LONG, async || (provider.count() >= count).then_some(())).await;
}

/// Waits for the end of a batch. All of it must have been sent, the provider must have taken in
/// every message, and one event must tell so.
async fn all_sent(client: &Client, provider: &Provider, receiver: &Receiver, id: &str, total: u64) {
    let complete = one_report(client, receiver, id, LONG).await;
    assert_eq!(complete["state"], "completed");
    assert_eq!(counts(&complete), these([("sent", total)]));
    let taken_in = provider.taken_in();
    let lost: Vec<_> =
        (0..total).filter(|index| !taken_in.contains_key(&format!("{id}.{index}"))).collect();
    assert!(lost.is_empty(), "the provider never saw {lost:?}");
    assert_eq!(taken_in.len() as u64, total);
    assert_eq!(receiver.deliveries().len(), 1);
}

/// A worker with a short lease.
fn worker(redis: &Redis, provider: &Provider) -> Setup {
    setup(redis, provider)
        .role("worker")
        .set("worker.lease", "2s")
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("log.filter", "info")
}

fn repeats(taken_in: &HashMap<String, u32>) -> u32 {
    taken_in.values().map(|times| times - 1).sum()
}

/// A figure of `/metrics`; 0 if it is not there.
async fn figure(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_worker_killed_eight_times_loses_nothing_and_repeats_little() {
    const KILLS: u32 = 8;
    const MESSAGES: usize = 40_000;
    let stage = Stage::set().await;
    let id = stage.post(MESSAGES).await;
    let mut worker = stage.worker().start().await;
    for kill in 1..=KILLS {
        stage.calls(4_000 * kill as usize).await;
        worker.kill();
        assert!(!stage.is_complete(&id).await, "kill {kill} came too late");
        worker = stage.worker().start().await;
    }
    stage.all_sent(&id, MESSAGES as u64).await;
    let (repeats, bound) = (stage.repeats(), KILLS * 2 * IN_FLIGHT);
    eprintln!(
        "{KILLS} kills within {MESSAGES} messages: {repeats} repeats, at most {bound} allowed"
    );
    assert!(repeats <= bound, "{repeats} repeats");
    assert!(figure(&stage.client, "ringback_leases_lost_total").await > 0);
}

#[tokio::test]
async fn the_one_process_of_an_embedded_store_killed_five_times_loses_nothing_and_repeats_little() {
    const KILLS: u32 = 5;
    const MESSAGES: usize = 30_000;
    // The lease is as long as it is by default: nobody has to wait for its end.
    let mut scene = Scene::start_on_with(Kind::Embedded, |setup| {
        setup.set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
    })
    .await;
    scene.provider.set(Mode::Delay(Duration::from_millis(3)));
    let id = scene.post(numbers(0..MESSAGES)).await;
    let began = Instant::now();
    for kill in 1..=KILLS {
        calls(&scene.provider, 4_500 * kill as usize).await;
        scene.ringback.restart().await;
        let complete = &shown(&scene.client, &id).await["completed_at"];
        assert!(complete.is_null(), "kill {kill} came too late");
    }
    all_sent(&scene.client, &scene.provider, &scene.receiver, &id, MESSAGES as u64).await;
    let (repeats, bound) = (repeats(&scene.provider.taken_in()), KILLS * 2 * IN_FLIGHT);
    eprintln!(
        "{KILLS} kills of the one process within {MESSAGES} messages: {repeats} repeats, at most \
         {bound} allowed; {:.1} s in all",
        began.elapsed().as_secs_f64()
    );
    assert!(repeats <= bound, "{repeats} repeats");
}

#[tokio::test]
async fn a_worker_that_stood_still_past_its_lease_changes_nothing_afterwards() {
    const MESSAGES: u32 = 6_000;
    let stage = Stage::set().await;
    // Each worker has a provider of its own, so that their calls can be told apart.
    let beside = Provider::start();
    let still = worker(&stage.redis, &beside).start().await;
    beside.set(Mode::Delay(Duration::from_millis(20)));
    let id = stage.post(MESSAGES as usize).await;
    eventually("load", PATIENCE, async || (beside.count() >= 1_000).then_some(())).await;
    still.pause();
    let other = stage.worker().start().await;
    let complete = one_report(&stage.client, &stage.receiver, &id, LONG).await;
    assert_eq!(counts(&complete), these([("sent", u64::from(MESSAGES))]));
    let before = beside.taken_in();
    still.resume();
    eventually("its notice that leases are lost", PATIENCE, async || {
        (figure(&still.health(), "ringback_process_leases_lost_total").await > 0).then_some(())
    })
    .await;
    // Nothing has moved: neither the counts, nor the event, nor a message's record.
    let again = one_report(&stage.client, &stage.receiver, &id, LONG).await;
    assert_eq!(again, complete);
    let late = figure(&still.health(), "ringback_process_late_outcomes_refused_total").await;
    // What had left its hands when it was stopped may still reach the provider, and no more.
    let after = beside.taken_in();
    let woken = after.values().sum::<u32>() - before.values().sum::<u32>();
    assert!(woken <= IN_FLIGHT, "{woken} calls after its lease was over");
    let mut both = after;
    for (message, times) in stage.provider.taken_in() {
        *both.entry(message).or_default() += times;
    }
    assert_eq!(both.len(), MESSAGES as usize, "none is lost");
    let repeats = repeats(&both);
    eprintln!(
        "a stop past the lease: {repeats} repeats, at most {} allowed; {late} late outcomes \
         refused, {woken} calls after waking",
        2 * IN_FLIGHT
    );
    assert!(repeats <= 2 * IN_FLIGHT, "{repeats} repeats");
    // It works on.
    drop(other);
    let next = stage.post(200).await;
    let complete = one_report(&stage.client, &stage.receiver, &next, LONG).await;
    assert_eq!(counts(&complete), these([("sent", 200)]));
}

#[tokio::test]
async fn workers_that_are_replaced_one_after_the_other_repeat_nothing() {
    const MESSAGES: usize = 16_000;
    let stage = Stage::set().await;
    let id = stage.post(MESSAGES).await;
    let mut old = stage.worker().start().await;
    for turn in 1..=3 {
        stage.calls(3_500 * turn).await;
        let new = stage.worker().start().await;
        old.terminate();
        let status = old.wait_for_exit(Duration::from_secs(25)).await;
        assert_eq!(status.code(), Some(0));
        assert!(!stage.is_complete(&id).await, "turn {turn} came too late");
        old = new;
    }
    stage.all_sent(&id, MESSAGES as u64).await;
    assert_eq!(stage.repeats(), 0);
    assert_eq!(stage.provider.count(), MESSAGES);
    // What the workers gave back was free at once: no lease had to run out.
    assert_eq!(figure(&stage.client, "ringback_leases_lost_total").await, 0);
}

#[tokio::test]
async fn redis_may_crash_under_load_and_nobody_needs_a_restart() {
    const MESSAGES: usize = 12_000;
    let mut stage = Stage::set().await;
    let _worker = stage.worker().set("worker.lease", "30s").start().await;
    let id = stage.post(MESSAGES).await;
    stage.calls(4_000).await;
    stage.redis.restart().await;
    assert!(!stage.is_complete(&id).await, "the first crash came too late");
    // The second time it stays away, for longer than anything is repeated on the quiet.
    stage.calls(8_000).await;
    stage.redis.kill();
    let refused = stage.client.post_batch(&batch(numbers(0..1))).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("store_unavailable")));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.client.get("/readyz").await.status, 503);
    stage.redis.restart().await;
    assert!(!stage.is_complete(&id).await, "the second crash came too late");
    stage.all_sent(&id, MESSAGES as u64).await;
    // What was refused was not kept.
    let known = stage.client.get("/v1/batches").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), 1, "{known}");
    let repeats = stage.repeats();
    eprintln!("2 crashes of Redis: {repeats} repeats, at most {} allowed", 4 * IN_FLIGHT);
    assert!(repeats <= 4 * IN_FLIGHT, "{repeats} repeats");
}

#[tokio::test]
async fn a_full_redis_takes_nothing_new_and_finishes_what_it_has() {
    const MESSAGES: usize = 12_000;
    let stage = Stage::set().await;
    let _worker = stage.worker().start().await;
    let id = stage.post(MESSAGES).await;
    stage.calls(1_000).await;
    stage.redis.ask("CONFIG SET maxmemory 1");
    assert!(!stage.is_complete(&id).await, "it was full too late");
    let refused = stage.client.post_batch(&batch(numbers(0..1))).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("store_full")));
    stage.all_sent(&id, MESSAGES as u64).await;
    let attempts = stage.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
    assert_eq!(attempts["attempts"].as_array().unwrap().len(), 1, "{attempts}");
    assert_eq!(stage.repeats(), 0);
    stage.redis.ask("CONFIG SET maxmemory 0");
    let next = stage.post(200).await;
    one_report(&stage.client, &stage.receiver, &next, LONG).await;
}

#[tokio::test]
async fn a_process_that_starts_while_redis_is_full_helps_to_finish() {
    let (redis, provider) = (Redis::start().await, Provider::start());
    // Nobody has set a signing secret: the one that was made at the first start is asked for, too.
    let process = || Ringback::on(&redis).carrier(&provider.url()).set("worker.lease", "2s");
    let mut first = process().start().await;
    provider.set(Mode::Delay(Duration::from_millis(500)));
    let id = accepted(&first.client(), &batch(numbers(0..50))).await;
    calls(&provider, 1).await;
    first.kill();
    redis.ask("CONFIG SET maxmemory 1");
    let second = process().start().await;
    second.client().wait_until_complete(&id, LONG).await;
    assert_eq!(counts(&shown(&second.client(), &id).await), these([("sent", 50)]));
}

#[tokio::test]
async fn while_redis_stands_still_clients_are_told_so_and_then_all_goes_on() {
    const MESSAGES: usize = 12_000;
    let stage = Stage::set().await;
    let worker = stage.worker().start().await;
    let id = stage.post(MESSAGES).await;
    stage.calls(3_000).await;
    stage.redis.pause();
    let lines_before = worker.log().lines().count();
    let mut late = with_callback(batch(numbers(0..3)), &stage.receiver);
    late["reference"] = "late".into();
    let path = format!("/v1/batches/{id}");
    let stall = tokio::time::sleep(Duration::from_secs(6));
    let client = &stage.client;
    let during = async {
        let ready = client.get("/readyz").await;
        assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("not_ready")));
        assert_eq!(client.get("/healthz").await.status, 200);
        let read = client.get(&path).await;
        assert_eq!((read.status, &read.json()["code"]), (503, &json!("store_unavailable")));
        assert_eq!(read.header("retry-after"), "1");
    };
    let posted = async {
        let ((), ()) = tokio::join!(stall, during);
        stage.redis.resume();
    };
    let (first, ()) = tokio::join!(client.post_batch_once("late", &late), posted);
    // Whatever it was told, its sender may repeat it until it is accepted, and it is sent once.
    assert!([202, 503].contains(&first.status), "{}", first.text);
    let repeated = eventually("an end of the first request", PATIENCE, async || {
        let answer = client.post_batch_once("late", &late).await;
        [200, 202].contains(&answer.status).then_some(answer)
    })
    .await;
    if first.status == 202 {
        assert_eq!(repeated.batch_id(), first.batch_id());
    }
    one_report(client, &stage.receiver, &repeated.batch_id(), LONG).await;
    let known = client.get("/v1/batches?reference=late").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), 1, "{known}");
    let complete = one_report(client, &stage.receiver, &id, LONG).await;
    assert_eq!(counts(&complete), these([("sent", MESSAGES as u64)]));
    let taken_in = stage.provider.taken_in();
    assert_eq!(taken_in.len(), MESSAGES + 3);
    // The leases have run out meanwhile: what was in flight or not settled may be sent again.
    let repeats = repeats(&taken_in);
    eprintln!("6 s without Redis: {repeats} repeats, at most {} allowed", 2 * IN_FLIGHT);
    assert!(repeats <= 2 * IN_FLIGHT, "{repeats} repeats");
    let lines = worker.log().lines().count() - lines_before;
    assert!(lines < 1_000, "a loop that is busy with nothing: {lines} lines in the log");
}

#[tokio::test]
async fn a_callback_whose_notifier_died_is_delivered_by_the_next_one() {
    let (redis, provider) = (Redis::start().await, Provider::start());
    let notifier = || setup(&redis, &provider).role("notifier").set("callbacks.timeout", "3s");
    let rest = setup(&redis, &provider).role("api").role("worker").start().await;
    let receiver = Receiver::scripted([Reply::Hang]);
    let client = rest.client();
    let mut first = notifier().start().await;
    let mut batch = with_callback(batch(numbers(0..3)), &receiver);
    batch["metadata"] = json!({"b": 1, "a": 2});
    let id = accepted(&client, &batch).await;
    receiver.wait_for(1, PATIENCE).await;
    first.kill();
    let path = format!("/v1/batches/{id}/callbacks");
    let attempts = client.get(&path).await.json();
    let begun = &attempts["attempts"][0];
    // Until its lease is over, nobody can tell it from one that is under way.
    assert_eq!((&begun["number"], &begun["error"]), (&json!(1), &Value::Null), "{attempts}");
    assert!(begun["status"].is_null() && !attempts["next_attempt_at"].is_null(), "{attempts}");
    let _second = notifier().start().await;
    let deliveries = receiver.wait_for(2, PATIENCE).await;
    for delivery in &deliveries {
        delivery.verify(SECRET);
    }
    assert_eq!(deliveries[0].header("webhook-id"), deliveries[1].header("webhook-id"));
    assert_eq!(deliveries[0].body, deliveries[1].body);
    shown_when(&client, &id, "the delivery", |batch| batch["callback"]["state"] == "delivered")
        .await;
    let attempts = client.get(&path).await.json();
    let seen: Vec<_> = attempts["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| {
            (attempt["number"].clone(), attempt["status"].clone(), attempt["error"].clone())
        })
        .collect();
    let expected =
        [(json!(1), Value::Null, json!("interrupted")), (json!(2), json!(200), Value::Null)];
    assert_eq!(seen, expected);
    assert!(attempts["next_attempt_at"].is_null());
    assert_eq!(messages(&client, &id).await.len(), 3);
}
