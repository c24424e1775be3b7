//! Rows 11 and 12: connections that are cut, and networks that lose or hold back what is sent.

use std::time::{Duration, Instant};

use super::{Books, Bounds, LONG, Row, after, calls, figure, insist, worker};
use crate::{
    harness::{
        Kind, Mode, PATIENCE, Provider, Proxy, Receiver, Redis, Ringback, Way, Wire, eventually,
    },
    scene::{batch, numbers, setup, with_callback},
};

/// Sets the wires so until each has cut so many connections.
async fn cut(wires: &[&Proxy], shape: Wire, times: usize) {
    for wire in wires {
        let before = wire.cuts();
        wire.set(shape);
        eventually("cut connections", PATIENCE, async || {
            (wire.cuts() >= before + times).then_some(())
        })
        .await;
        wire.set(Wire::Pass);
    }
}

#[tokio::test]
async fn a_connection_cut_within_a_call_or_before_its_answer_repeats_nothing() {
    const ROUNDS: usize = 5;
    const CUTS: usize = 2;
    const MESSAGES: usize = 1_000;
    let mut row = Row::begin(11, "connection to Redis cut", Kind::Redis, "I1–I3 I5 I6 = 0 I7");
    let (redis, provider, receiver) = (Redis::start().await, Provider::start(), Receiver::start());
    provider.set(Mode::Delay(Duration::from_millis(10)));
    let [front, back] = [(); 2].map(|()| Proxy::before(redis.address()));
    let api = setup(&front, &provider).role("api").role("notifier").start().await;
    // No lease may run out: then nothing may be sent twice.
    let _worker = worker(&back, &provider).set("worker.lease", "30s").start().await;
    let client = api.client();
    let mut accepted = Vec::new();
    let wires = [&front, &back];
    for round in 0..ROUNDS {
        for (what, shape) in
            [("cut within a call", Wire::CutRequest), ("cut before an answer", Wire::CutReply)]
        {
            let key = format!("{round}-{what}");
            let batch = with_callback(batch(numbers(0..MESSAGES)), &receiver);
            let (id, ()) = tokio::join!(insist(&client, &key, &batch), cut(&wires, shape, CUTS));
            accepted.push((id, MESSAGES as u64));
        }
    }
    row.inject_times("connection cut", u32::try_from(front.cuts() + back.cuts()).unwrap());
    // A notifier may have been cut between the receiver's answer and its record's.
    let bounds = Bounds { reports: row.injected(), ..Bounds::default() };
    let found = Books { client: &client, providers: &[&provider], receiver: &receiver }
        .compare(&accepted, bounds)
        .await;
    found.all_sent();
    let known = client.get("/v1/batches?limit=1000").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), accepted.len(), "one batch a key");
    row.end(&found, "");
}

#[tokio::test]
async fn a_worker_behind_a_broken_network_sends_nothing_past_its_lease() {
    const MESSAGES: usize = 2_000;
    // The worker goes on to extend its lease for nine tenths of a second, and it lasts for one.
    const FREE_WITHIN: Duration = Duration::from_millis(4_500);
    let mut row = Row::begin(12, "worker cut off from Redis", Kind::Redis, "I2 I6 I8 I10");
    let (redis, receiver) = (Redis::start().await, Receiver::start());
    let [provider, beside] = [(); 2].map(|()| Provider::start());
    let wire = Proxy::before(redis.address());
    let api = setup(&redis, &provider).role("api").role("notifier").start().await;
    let client = api.client();
    let cut_off: Ringback = worker(&wire, &beside).start().await;
    let shapes = [
        ("lost to Redis", Wire::Swallow(Way::ToServer)),
        ("lost from Redis", Wire::Swallow(Way::ToClient)),
        ("lost both ways", Wire::Swallow(Way::Both)),
        ("late both ways", Wire::Hold(Way::Both)),
    ];
    let mut accepted = Vec::new();
    let (mut late, mut took) = (0, Vec::new());
    for (what, shape) in shapes {
        for each in [&provider, &beside] {
            each.set(Mode::Delay(Duration::from_millis(50)));
        }
        let before = beside.count();
        let batch = with_callback(batch(numbers(0..MESSAGES)), &receiver);
        let id = insist(&client, what, &batch).await;
        accepted.push((id.clone(), MESSAGES as u64));
        calls(&beside, before + 300).await;
        let lost_before = figure(&client, "ringback_leases_lost_total").await;
        wire.set(shape);
        let parted = Instant::now();
        row.inject(what);
        let other = worker(&redis, &provider).start().await;
        eventually("a lease that ran out", PATIENCE, async || {
            (figure(&client, "ringback_leases_lost_total").await > lost_before).then_some(())
        })
        .await;
        // Nobody waits for more than its lease, whatever the worker itself still waits for.
        let free = parted.elapsed();
        assert!(free < FREE_WITHIN, "{what}: {free:?} until the chunk was free");
        // From here on the chunk may be another's.
        let over = beside.count();
        provider.set(Mode::Accept);
        client.wait_until_complete(&id, LONG).await;
        late += beside.count() - over;
        wire.set(Wire::Pass);
        drop(other);
        eventually("its readiness", PATIENCE, async || {
            let answer = cut_off.health().try_get("/readyz").await?;
            (answer.status == 200).then_some(())
        })
        .await;
        took.push(format!("{what}: free after {free:.1?}"));
    }
    assert_eq!(late, 0, "calls after its lease was over");
    let shapes = row.injected();
    let found = Books { client: &client, providers: &[&provider, &beside], receiver: &receiver }
        .compare(&accepted, after(shapes))
        .await;
    found.all_sent();
    row.end(&found, format!("no call after the lease; {}", took.join("; ")));
}
