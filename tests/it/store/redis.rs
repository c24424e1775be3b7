//! What the store on Redis promises beyond the contract.

use std::time::Duration;

use ringback::{
    domain::message::FinalState,
    store::{Release, Settled, Settlement},
};

use super::fixture::{Fixture, all_sent, changes, settlement};
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
        self.0.url().replace("redis://", "redis://limited:word@")
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
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Done { completed: true });
    let batch = on.batch(id).await;
    assert_eq!(batch.counts.ended[FinalState::Sent], 2);
    assert_eq!((batch.counts.total, batch.counts.ended.sum()), (3, 3));
    assert_eq!(on.take_one().await.batch.id, id);
    on.store.intake.set_stopped(&on.provider, true).await.expect("stopped");
    on.store.dispatch.throttle(&on.provider, Duration::from_secs(1)).await.expect("paused");
}
