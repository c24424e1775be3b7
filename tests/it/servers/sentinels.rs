//! A master that sentinels watch, and replace when it is gone.

use std::time::{Duration, Instant};

use super::{IN_FLIGHT, Load};
use crate::{
    harness::{
        Mode, PATIENCE, Provider, Receiver, SENTINEL_PASSWORD, Sentinels, Setup, eventually,
    },
    scene::{accepted, batch, counts, numbers, setup, these},
};

/// With the user that sentinels know.
fn watched(setup: Setup) -> Setup {
    setup
        .set("store.sentinel.username", "watcher")
        .set("store.sentinel.password", SENTINEL_PASSWORD)
}

#[tokio::test]
async fn a_master_that_is_killed_is_replaced_and_the_batch_ends_without_a_restart() {
    const MESSAGES: usize = 12_000;
    let mut servers = Sentinels::start().await;
    let (provider, receiver) = (Provider::start(), Receiver::start());
    provider.set(Mode::Delay(Duration::from_millis(3)));
    let ringback = watched(setup(&servers, &provider))
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("log.filter", "info")
        .start()
        .await;
    let began = Instant::now();
    let load = Load::accepted(ringback.client(), provider, receiver, 1, MESSAGES).await;
    eventually("load", PATIENCE, async || (load.provider.count() > 3_000).then_some(())).await;
    let killed_at = load.provider.count();
    servers.master.kill();
    let killed = Instant::now();
    servers.wait_for_failover().await;
    let replaced = killed.elapsed().as_secs_f64();
    let client = load.client.clone();
    let books = load.ended().await;
    books.check(
        &format!(
            "the master killed after {killed_at} submissions, its replica master after \
             {replaced:.1} s"
        ),
        began,
    );
    let log = ringback.log();
    for (line, provider) in [
        ("the store has another master", ""),
        ("can't claim", "carrier"),
        ("can't settle", "carrier"),
    ] {
        let is_meant = |said: &&str| said.contains(line) && said.contains(provider);
        let count = log.lines().filter(is_meant).count();
        assert!(count <= 1, "{line:?} is said {count} times\n{log}");
    }
    assert!(log.contains("the store has another master"), "{log}");
    // The old master comes back as a replica, and nobody is led astray.
    servers.master.restart().await;
    eventually("the old master as a replica", PATIENCE, async || {
        servers.master.ask("ROLE").contains("slave").then_some(())
    })
    .await;
    let id = accepted(&client, &batch(numbers(0..20))).await;
    let complete = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("sent", 20)]));
}

#[tokio::test]
async fn a_failover_that_somebody_orders_is_followed_although_the_old_master_answers() {
    let servers = Sentinels::start().await;
    let provider = Provider::start();
    let ringback = watched(setup(&servers, &provider)).start().await;
    let client = ringback.client();
    accepted(&client, &batch(numbers(0..20))).await;
    servers.order_failover();
    eventually("another master", PATIENCE, async || {
        ringback.log().contains("the store has another master").then_some(())
    })
    .await;
    // The old one does not know it yet: it would take what is then lost.
    assert!(servers.master.ask("ROLE").contains("master"));
    let id = accepted(&client, &batch(numbers(0..20))).await;
    let complete = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("sent", 20)]));
    // It is where it should be: an old master would have lost it when it became a replica.
    let key = format!("EXISTS rb:{{p00}}:b:{}", id.trim_start_matches("bat_"));
    assert_eq!(servers.replica.ask(&key), ":1\r\n");
}
