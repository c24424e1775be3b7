//! The wait for receipts ends, also of batches whose store was damaged, and not too early.

use std::time::Duration;

use ringback::{
    domain::{audit::Finding, batch::Wanted, ids::BatchId, message::FinalState::Delivered},
    store::{Draft, Heard, RECEIPT_TIMEOUT_MAX, Settled},
};

use super::{
    THREE,
    audit::repair,
    receipts::{all_handed_over, counts, findings, handed_over, hear},
};
use crate::store::fixture::Fixture;

/// Hands over the next chunk.
async fn hand_over(on: &Fixture) {
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_handed_over(&claimed)).await;
}

/// The wait for a batch's receipts ends, and the batch with it.
async fn end_the_wait(on: &Fixture, id: BatchId) {
    on.raw.lapse_receipts(id).await;
    assert_eq!(on.sweep().await.waits_ended, 1);
    assert!(on.batch(id).await.is_over());
    assert_eq!(findings(on, id).await, []);
}

pub(super) async fn who_waits_for_receipts_and_is_not_known_to_waits_again(on: Fixture) {
    let id = handed_over(&on, Wanted::default()).await;
    on.raw.lose_wait(id).await;
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    assert_eq!(on.sweep().await.waits_ended, 0, "waited for no longer than before");
    end_the_wait(&on, id).await;
}

pub(super) async fn a_repair_has_receipts_waited_for(on: Fixture) {
    let id = handed_over(&on, Wanted::default()).await;
    on.raw.lose_wait(id).await;
    on.raw.miscount_waits(id).await;
    assert_eq!(findings(&on, id).await, [Finding::Awaiting { noted: 2, counted: 3 }]);
    repair(&on, id).await;
    end_the_wait(&on, id).await;
}

pub(super) async fn no_wait_ends_while_messages_are_open(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    hand_over(&on).await;
    hand_over(&on).await;
    // As far as the batch knows nothing is open, and receipts are waited for.
    on.raw.miscount(id).await;
    assert_eq!(hear(&on, id, &[(0, Delivered)]).await, [Heard::Counted]);
    repair(&on, id).await;
    on.raw.lapse_receipts(id).await;
    on.sweep().await;
    assert_eq!(counts(&on.batch(id).await), [1, 1, 0]);
    assert_eq!(findings(&on, id).await, []);
    hand_over(&on).await;
    on.raw.lapse_watch().await;
    assert_eq!(on.store.audit.look_after().await.expect("a look"), []);
    end_the_wait(&on, id).await;
    assert_eq!(counts(&on.batch(id).await), [2, 1, 0]);
}

pub(super) async fn a_clock_that_is_stepped_back_a_little_ends_no_wait(on: Fixture) {
    let draft = Draft { receipt_timeout: RECEIPT_TIMEOUT_MAX, ..on.draft(true) };
    let id = on.accept_draft(&draft, &THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(on.settle(&all_handed_over(&claimed)).await, Settled::Done);
    on.raw.step_clock_back(Duration::from_hours(23)).await;
    assert_eq!(on.sweep().await.waits_ended, 0);
    assert!(!on.batch(id).await.is_over());
    // Further ahead than any wait, it would be waited for too long.
    on.raw.step_clock_back(Duration::from_hours(23)).await;
    assert_eq!(on.sweep().await.waits_ended, 1);
    assert!(on.batch(id).await.is_over());
}
