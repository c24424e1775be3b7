//! A cluster: partitions on several servers, of which one may be lost.

use std::time::{Duration, Instant};

use ringback::store::{self, Ring};

use super::{IN_FLIGHT, Load};
use crate::{
    harness::{Cluster, Mode, PATIENCE, Provider, Receiver, Redis, StoreUrl, eventually},
    scene::setup,
    store::fixture::{Fixture, RULES, all_sent, settings},
};

#[tokio::test]
async fn a_master_that_is_killed_is_replaced_and_every_batch_ends() {
    const BATCHES: usize = 100;
    const MESSAGES: usize = 1_000;
    let mut cluster = Cluster::start(1).await;
    let (provider, receiver) = (Provider::start(), Receiver::start());
    let ringback = setup(&cluster, &provider)
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("log.filter", "info")
        .start()
        .await;
    let began = Instant::now();
    let load = Load::accepted(ringback.client(), provider, receiver, BATCHES, MESSAGES).await;
    let partitions = load.partitions();
    assert!(partitions > 12, "{partitions} partitions");
    let killed_at = load.provider.count();
    cluster.masters[0].kill();
    let killed = Instant::now();
    cluster.wait_for_failover(0).await;
    let (replaced, meanwhile) = (killed.elapsed(), load.provider.count() - killed_at);
    assert!(killed_at < BATCHES * MESSAGES, "the kill came too late");
    let books = load.ended().await;
    books.check(
        &format!(
            "a master of three killed after {killed_at} submissions in {partitions} partitions, its \
             replica master after {:.1} s and {meanwhile} submissions more",
            replaced.as_secs_f64()
        ),
        began,
    );
    let log = ringback.log();
    let said = log.lines().filter(|line| line.contains("slots of the store are another server's"));
    // Once; but nodes may differ for a moment, and the one that is asked be behind.
    assert!((1..=3).contains(&said.count()), "{log}");
}

#[tokio::test]
async fn a_master_that_is_away_holds_up_its_own_partitions_only() {
    const MESSAGES: usize = 500;
    let mut cluster = Cluster::start(0).await;
    cluster.serve_what_is_left();
    let (provider, receiver) = (Provider::start(), Receiver::start());
    provider.set(Mode::Delay(Duration::from_millis(3)));
    let ringback = setup(&cluster, &provider)
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("worker.lease", "5s")
        .set("log.filter", "info")
        .start()
        .await;
    let began = Instant::now();
    let load = Load::accepted(ringback.client(), provider, receiver, 30, MESSAGES).await;
    eventually("load", PATIENCE, async || (load.provider.count() > 2_000).then_some(())).await;
    let killed_at = load.provider.count();
    cluster.masters[1].kill();
    // What lies on the others ends meanwhile: about two thirds.
    let ended = async || {
        let mut ended = 0;
        for id in &load.ids {
            let answer = load.client.get(&format!("/v1/batches/{id}")).await;
            assert!([200, 503].contains(&answer.status), "{}", answer.text);
            ended += usize::from(answer.status == 200 && !answer.json()["completed_at"].is_null());
        }
        ended
    };
    let held_up = load.ids.len() - cluster.on(&load.ids, &[0, 2]);
    eventually("the end of the others", PATIENCE, async || {
        (ended().await >= load.ids.len() - held_up).then_some(())
    })
    .await;
    let others = began.elapsed().as_secs_f64();
    assert_eq!(load.client.get("/readyz").await.status, 200);
    cluster.masters[1].restart().await;
    let books = load.ended().await;
    let what = format!(
        "a master of three killed after {killed_at} submissions, without a replica: the others' \
         batches ended by {others:.1} s, its own {held_up} after its start"
    );
    books.check(&what, began);
    let log = ringback.log();
    for line in ["can't claim provider.name=\"carrier\"", "the reaper can't", "can't be learnt"] {
        let count = log.lines().filter(|said| said.contains(line)).count();
        assert!(count <= 1, "{line:?} is said {count} times\n{log}");
    }
}

#[tokio::test]
async fn a_master_that_stands_still_is_replaced_and_not_missed_when_it_wakes() {
    let cluster = Cluster::start(1).await;
    let (provider, receiver) = (Provider::start(), Receiver::start());
    provider.set(Mode::Delay(Duration::from_millis(3)));
    let ringback = setup(&cluster, &provider)
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .start()
        .await;
    let began = Instant::now();
    let load = Load::accepted(ringback.client(), provider, receiver, 30, 500).await;
    eventually("load", PATIENCE, async || (load.provider.count() > 2_000).then_some(())).await;
    let stopped_at = load.provider.count();
    cluster.masters[0].pause();
    cluster.wait_for_failover(0).await;
    let books = load.ended().await;
    cluster.masters[0].resume();
    books.check(&format!("a master stopped after {stopped_at} submissions"), began);
    eventually("the old master as a replica", PATIENCE, async || {
        cluster.masters[0].ask("ROLE").contains("slave").then_some(())
    })
    .await;
    // It answers again, and has nothing to say.
    assert_eq!(load.client.get("/v1/batches").await.status, 200);
}

#[tokio::test]
async fn what_rings_on_one_node_is_heard_everywhere() {
    let cluster = Cluster::start(0).await;
    // Each process listens to a node of its own choice.
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(store::open(&settings(&cluster), RULES).await.unwrap());
    }
    for (place, store) in processes.iter().enumerate() {
        let mut listening: Vec<_> = processes.iter().map(|one| one.doorbell.listen()).collect();
        // Which of the nodes rings is up to the slot of the provider's name.
        let providers: Vec<_> = (0..8).map(|number| format!("p{place}-{number}")).collect();
        for provider in &providers {
            store.intake.set_stopped(provider, true).await.unwrap();
        }
        for bell in &mut listening {
            let mut missing = providers.clone();
            let heard = async {
                while !missing.is_empty() {
                    match bell.next().await {
                        Ring::Paused(provider) => missing.retain(|one| *one != provider),
                        // It listens only now, and may have missed what rang before.
                        Ring::Everything => missing.clear(),
                        _ => {}
                    }
                }
            };
            tokio::time::timeout(PATIENCE, heard).await.expect("a ring");
        }
    }
}

#[tokio::test]
async fn a_partition_stands_still_while_its_slot_is_moved_and_then_goes_on() {
    let cluster = Cluster::start(0).await;
    let on = Fixture::on(&cluster).await;
    let id = on.accept(&["+15551230001", "+15551230002"], 10).await;
    let slot = cluster.masters[0].ask("CLUSTER KEYSLOT rb:{p00}:");
    let slot = slot.trim().trim_start_matches(':').to_owned();
    let number: usize = slot.parse().unwrap();
    let from = &cluster.masters[number * 3 / 16_384];
    let to = &cluster.masters[(number * 3 / 16_384 + 1) % 3];
    let (from_id, to_id) = (node_id(from), node_id(to));
    to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    // Half of the keys are here, half there: nothing may be done with either.
    let keys = keys_in(from, &slot);
    assert!(keys.len() > 4, "{keys:?}");
    for key in &keys[..keys.len() / 2] {
        from.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port()));
    }
    let claim = store::Claim { provider: on.provider.clone(), partition: 0, nonce: 1 };
    let refused = on.store.dispatch.claim(&claim).await.expect_err("a claim of a half");
    assert!(refused.is_passing(), "{refused}");
    assert!(keys_in(to, &slot).len() == keys.len() / 2, "something was written there");
    for key in &keys[keys.len() / 2..] {
        from.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port()));
    }
    for node in [to, from] {
        node.ask(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    let claimed = on.claim_with(1).await.expect("the chunk");
    assert_eq!(claimed.batch, id);
    on.settle(&all_sent(&claimed)).await;
    assert!(on.batch(id).await.completed_at.is_some());
}

#[tokio::test]
async fn the_number_of_partitions_is_kept_from_the_first_start() {
    let cluster = Cluster::start(0).await;
    let open = async |partitions| {
        let settings = store::StoreSettings { partitions, ..settings(&cluster) };
        store::open(&settings, RULES).await.map(|store| store.dispatch.partitions())
    };
    assert_eq!(open(None).await.unwrap(), 16);
    assert_eq!(open(Some(16)).await.unwrap(), 16);
    let refused = open(Some(8)).await.unwrap_err().to_string();
    assert!(refused.contains("store.partitions is 8") && refused.contains("with 16"), "{refused}");
    cluster.flush();
    assert_eq!(open(Some(8)).await.unwrap(), 8);
    assert_eq!(open(None).await.unwrap(), 8);
}

#[tokio::test]
async fn a_node_alone_is_not_taken_for_a_server() {
    let cluster = Cluster::start(0).await;
    let url = cluster.store_url().replace("redis-cluster", "redis");
    let (one, _) = url.split_once(',').unwrap();
    let alone = store::StoreSettings { url: one.into(), ..settings(&cluster) };
    let refused = store::open(&alone, RULES).await.err().expect("no store").to_string();
    assert!(refused.contains("redis-cluster://") && !refused.contains("hush"), "{refused}");
    let server = Redis::start().await;
    let url = server.url().replace("redis", "redis-cluster");
    let none = store::StoreSettings { url: url.into(), ..settings(&cluster) };
    let refused = store::open(&none, RULES).await.err().expect("no store").to_string();
    assert!(refused.contains("cluster support disabled"), "{refused}");
}

fn node_id(node: &Redis) -> String {
    node.ask("CLUSTER MYID").lines().nth(1).unwrap().to_owned()
}

fn keys_in(node: &Redis, slot: &str) -> Vec<String> {
    let answer = node.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
    answer.lines().filter(|line| line.starts_with("rb:")).map(str::to_owned).collect()
}
