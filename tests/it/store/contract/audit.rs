//! Audits: what is noted is compared with what is there, and put right.

use ringback::{
    domain::{
        audit::{Finding, Recount},
        batch::BatchState,
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{
        Concern, Matter, Release, Settlement,
        audit::{self, Audited},
    },
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, all_sent, settlement, waiting};

async fn audited(on: &Fixture, id: BatchId) -> Audited {
    audit::audit(&*on.store.audit, id).await.expect("an audit").expect("a batch")
}

async fn findings(on: &Fixture, id: BatchId) -> Vec<Finding> {
    audited(on, id).await.findings.expect("a batch that does not move")
}

/// Repairs what an audit finds.
pub(super) async fn repair(on: &Fixture, id: BatchId) {
    let Audited { notes, recount, .. } = audited(on, id).await;
    assert!(on.store.audit.repair(id, &notes, &recount).await.expect("a repair"));
    assert_eq!(findings(on, id).await, []);
}

/// Whatever of a batch can be claimed is sent.
async fn send_all(on: &Fixture) {
    while let Some(claimed) = on.claim().await {
        on.settle(&all_sent(&claimed)).await;
    }
}

pub(super) async fn what_is_in_order_gives_no_finding(on: Fixture) {
    let id = on.accept(&["+15551230001", "nobody", "+15551230003"], 1).await;
    assert_eq!(on.store.audit.batches(ACCOUNT).await.expect("ids"), [id]);
    assert_eq!(findings(&on, id).await, []);
    let held = on.claim().await.expect("a chunk");
    assert_eq!(findings(&on, id).await, []);
    let later = Release::At(UnixMs(held.now.0 + 60_000));
    let parked =
        Settlement { waiting: vec![waiting(0, 1)], release: Some(later), ..settlement(&held) };
    on.settle(&parked).await;
    assert_eq!(findings(&on, id).await, []);
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(findings(&on, id).await, []);
    on.sweep().await;
    let over = audited(&on, id).await;
    assert_eq!(over.findings, Some(vec![]));
    assert!(over.notes.is_over);
    assert_eq!((over.recount.total, over.recount.open()), (3, 0));
    let nobody = crate::store::fixture::fresh_id();
    assert!(audit::audit(&*on.store.audit, nobody).await.expect("an audit").is_none());
}

pub(super) async fn false_counts_are_found_and_put_right(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    on.raw.miscount(id).await;
    let expected = [
        Finding::Open { noted: 2, counted: 3 },
        Finding::Count { state: FinalState::Sent, noted: 1, counted: 0 },
    ];
    assert_eq!(findings(&on, id).await, expected);
    repair(&on, id).await;
    send_all(&on).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.ended[FinalState::Sent]), (BatchState::Completed, 3));
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_chunk_that_nobody_has_is_found_and_can_be_claimed_again(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let lost = on.claim().await.expect("a chunk");
    on.raw.orphan(id, lost.chunk).await;
    let found = findings(&on, id).await;
    assert!(found.contains(&Finding::Orphans(vec![lost.chunk])), "{found:?}");
    repair(&on, id).await;
    send_all(&on).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.counts.ended[FinalState::Sent], batch.counts.sending), (3, 0));
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn an_orphan_of_a_canceled_batch_is_closed_by_the_repair(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    on.claim().await.expect("a chunk");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.raw.orphan(id, 0).await;
    on.sweep().await;
    assert!(on.batch(id).await.completed_at.is_none(), "nobody comes back to it");
    repair(&on, id).await;
    assert!(on.batch(id).await.completed_at.is_some());
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_batch_that_moved_since_is_not_repaired(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let Audited { notes, .. } = audited(&on, id).await;
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_sent(&claimed)).await;
    let repaired = on.store.audit.repair(id, &notes, &Recount::default()).await;
    assert!(!repaired.expect("an answer"));
    assert_eq!(findings(&on, id).await, []);
}

pub(super) async fn who_is_in_no_ring_is_put_back(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let paused = on.accept(&THREE, 1).await;
    on.store.intake.pause(ACCOUNT, paused).await.expect("paused");
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    on.raw.lose_place(id).await;
    assert!(on.claim().await.is_none());
    assert_eq!(findings(&on, id).await, [Finding::NotQueued]);
    // Who was just looked after is left alone.
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    on.raw.lapse_watch().await;
    let found = on.store.audit.look_after().await.expect("a look");
    assert_eq!(found, [Concern { batch: id, what: Matter::Requeued }]);
    assert_eq!(on.claim().await.expect("a chunk").batch, id);
}

pub(super) async fn who_stands_still_is_told_of_again_and_again(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    for _ in 0..2 {
        on.raw.lapse_watch().await;
        let found = on.store.audit.look_after().await.expect("a look");
        let what = Matter::StandsStill { open: 3, since: UnixMs(1) };
        assert_eq!(found, [Concern { batch: id, what }]);
    }
    // Who moves does not.
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_sent(&claimed)).await;
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    // Nobody looks after what is over.
    send_all(&on).await;
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
}
