//! What the store on Redis promises beyond the contract.

use std::time::Duration;

use ringback::{
    domain::{ids::BatchId, message::FinalState, number::Number, time::UnixMs},
    store::{Draft, Release, Settled, Settlement},
};

use super::fixture::{ACCOUNT, Fixture, HOST, RULES, all_sent, callback_to, changes, settlement};
use crate::harness::{Redis, StoreUrl};

/// A server as a user without many rights sees it.
struct Limited(Redis);

// === impl Limited ===

impl Limited {
    async fn start() -> Self {
        let redis = Redis::start().await;
        redis.ask("ACL SETUSER limited on >word ~rb:* &rb:bell +@all");
        Self(redis)
    }
}

impl StoreUrl for Limited {
    fn store_url(&self) -> String {
        format!("redis://limited:word@127.0.0.1:{}", self.0.port())
    }
}

#[tokio::test]
async fn a_bell_that_may_not_be_rung_any_more_ends_no_step_in_its_middle() {
    let limited = Limited::start().await;
    let on = Fixture::on(&limited).await;
    limited.0.ask("ACL SETUSER limited resetchannels");
    let id = on.accept(&["+15551230001", "nobody", "+15551230002"], 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let one = Settlement {
        changes: changes(&[(0, FinalState::Sent)]),
        release: Some(Release::Now),
        ..settlement(&claimed)
    };
    assert!(matches!(on.settle(&one).await, Settled::Applied(_)));
    let claimed = on.claim().await.expect("the chunk again");
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Completed);
    let batch = on.batch(id).await;
    assert_eq!(batch.counts.ended[FinalState::Sent], 2);
    assert_eq!((batch.counts.total, batch.counts.ended.sum()), (3, 3));
    assert_eq!(on.take_one().await.batch.id, id);
    on.store.intake.set_stopped(&on.provider, true).await.expect("stopped");
    on.store.dispatch.throttle(&on.provider, Duration::from_secs(1), false).await.expect("paused");
}

/// How many partitions a store in partitions has here.
const PARTITIONS: u16 = 4;

/// Accepts a batch that is over at once, with a completion to report to `host`.
async fn over_in(on: &Fixture, partition: u16, host: &str) -> BatchId {
    let id = BatchId::new(UnixMs(1_795_000_000_000), rand::random(), partition);
    let draft = Draft { id, ..on.draft_with(callback_to(host)) };
    on.accept_draft(&draft, &[], 1).await
}

#[tokio::test]
async fn events_are_taken_from_each_partition_in_its_turn() {
    let redis = Redis::start().await;
    let on = Fixture::in_partitions(&redis, PARTITIONS).await;
    for host in ["a.example:443", "b.example:443", "c.example:443", "d.example:443"] {
        for partition in 0..PARTITIONS {
            over_in(&on, partition, host).await;
        }
    }
    let mut partitions = Vec::new();
    for _ in 0..PARTITIONS {
        let taken = on.take(1).await;
        partitions.extend(taken.iter().map(|event| event.event.id.partition()));
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3]);
    assert_eq!(on.take(100).await.len(), 12, "none is left out");
}

#[tokio::test]
async fn partitions_share_what_a_host_gets_at_once() {
    let redis = Redis::start().await;
    let on = Fixture::in_partitions(&redis, PARTITIONS).await;
    for partition in 0..PARTITIONS {
        for _ in 0..3 {
            over_in(&on, partition, HOST).await;
        }
    }
    assert_eq!(on.take(100).await.len(), RULES.hosts.at_once as usize);
}

#[tokio::test]
async fn what_was_taken_is_not_thrown_away_because_another_partition_fails() {
    let redis = Redis::start().await;
    let on = Fixture::in_partitions(&redis, PARTITIONS).await;
    let whole = over_in(&on, 0, HOST).await;
    let broken = format!("rb:{{p01}}:b:{}", over_in(&on, 1, HOST).await.ulid());
    redis.ask(&format!("DEL {broken}"));
    redis.ask(&format!("SET {broken} rubbish"));
    assert_eq!(on.take_one().await.batch.id, whole);
}

#[tokio::test]
async fn a_million_opt_outs_cost_twenty_bytes_each_at_most() {
    const ENTRIES: u64 = 1_000_000;
    let redis = Redis::start().await;
    let on = Fixture::on(&redis).await;
    // Numbers as they come: anywhere among those of a country, in no order.
    let numbers = (0..ENTRIES).map(|nth| 12_000_000_000 + nth * 7_919_191 % 7_999_999_993);
    let numbers: Vec<_> = numbers.filter_map(Number::of_digits).collect();
    let before = redis.used_memory();
    let added = on.store.optouts.add(ACCOUNT, &numbers).await.expect("added");
    assert_eq!(
        (added, on.store.optouts.count(ACCOUNT).await.expect("a count")),
        (ENTRIES, ENTRIES)
    );
    let bytes = redis.used_memory() - before;
    let hundredths = bytes * 100 / ENTRIES;
    eprintln!("{}.{:02} bytes an entry", hundredths / 100, hundredths % 100);
    assert!(bytes <= 20 * ENTRIES, "{bytes} bytes");
}
