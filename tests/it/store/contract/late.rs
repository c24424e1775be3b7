//! Receipts that come late: what is told of them, and what is erased all the same.

use ringback::{
    domain::{
        batch::{CallbackSpec, CallbackState, Wanted},
        event::{LateReceipts, Occurrence},
        ids::BatchId,
        message::FinalState,
        state_byte::StateByte,
    },
    store::{EventView, Heard, Release, Settled, Settlement, event_body},
};

use super::{
    THREE,
    receipts::{all_handed_over, handed_over, hear, lapse, message},
};
use crate::{
    harness::{PATIENCE, eventually},
    store::fixture::{ACCOUNT, Fixture, HOST, callback_to, changes, settlement},
};

use FinalState::{Delivered, Undelivered};

const AMENDED: Wanted =
    Wanted { dispatched: false, progress: None, failures: false, amended: true };

/// Receipts are waited for no more, and the completion is told.
async fn end(on: &Fixture, id: BatchId) {
    lapse(on).await;
    on.end_callback(id, CallbackState::Delivered).await;
}

/// The last event of a batch as the feed has it.
async fn last_event(on: &Fixture, id: BatchId) -> EventView {
    let views = on.store.reading.events_after(ACCOUNT, Some(id.event()), 10).await;
    views.expect("a read").expect("a known event").pop().expect("an event")
}

/// What is kept as the body of an event that was read.
async fn body(on: &Fixture, view: &EventView) -> Option<String> {
    let (callbacks, reading) = (&*on.store.callbacks, &*on.store.reading);
    event_body(callbacks, reading, &view.event, &view.batch, "").await.expect("an answer")
}

pub(super) async fn a_body_of_late_receipts_is_kept_if_it_tells_of_all_of_them(on: Fixture) {
    let id = handed_over(&on, AMENDED).await;
    end(&on, id).await;
    assert_eq!(hear(&on, id, &[(0, Delivered)]).await, [Heard::Late]);
    let stale = last_event(&on, id).await;
    assert_eq!(hear(&on, id, &[(1, Undelivered)]).await, [Heard::Late]);
    assert_eq!(body(&on, &stale).await, None, "the second would never be told");
    let fresh = last_event(&on, id).await;
    assert_eq!(fresh.event.id, stale.event.id);
    let kept = body(&on, &fresh).await.expect("a body");
    let told = r#""late_receipts":{"revision":1,"delivered":1,"undelivered":1}"#;
    assert!(kept.contains(told), "{kept}");
    // It was read: what comes now is told of by another one.
    assert_eq!(hear(&on, id, &[(2, Delivered)]).await, [Heard::Late]);
    let next = LateReceipts { revision: 2, delivered: 2, undelivered: 1 };
    assert_eq!(last_event(&on, id).await.event.what, Occurrence::Amended(next));
    assert_eq!(body(&on, &stale).await, Some(kept));
}

pub(super) async fn what_came_before_the_end_is_not_told_of_as_late(on: Fixture) {
    let callback = CallbackSpec { events: AMENDED, ..callback_to(HOST) };
    let id = on.accept_draft(&on.draft_with(callback), &THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let states =
        [(0, FinalState::Unknown.into()), (1, StateByte::AWAITING), (2, StateByte::AWAITING)];
    let release = Some(Release::Now);
    on.settle(&Settlement { changes: changes(&states), release, ..settlement(&claimed) }).await;
    assert_eq!(hear(&on, id, &[(0, Delivered)]).await, [Heard::Late]);
    end(&on, id).await;
    assert_eq!(hear(&on, id, &[(1, Undelivered)]).await, [Heard::Late]);
    let told = LateReceipts { revision: 1, delivered: 0, undelivered: 1 };
    assert_eq!(last_event(&on, id).await.event.what, Occurrence::Amended(told));
    let late = message(&on, id, 0).await.late_receipt;
    assert_eq!(late.expect("a late receipt").state, Delivered);
}

pub(super) async fn a_late_receipt_brings_back_nothing_that_is_erased(on: Fixture) {
    let before = on.raw.contents().await;
    // More chunks than one step erases; the last one has been sent.
    let recipients: Vec<_> = ["nobody"; 120].into_iter().chain(["+15551230001"]).collect();
    let callback = CallbackSpec { events: AMENDED, ..callback_to(HOST) };
    let id = on.accept_draft(&on.draft_with(callback), &recipients, 1).await;
    let claimed = eventually("the last chunk", PATIENCE, async || on.claim().await).await;
    assert_eq!(on.settle(&all_handed_over(&claimed)).await, Settled::Done);
    end(&on, id).await;
    on.store.intake.erase(ACCOUNT, id).await.expect("to be erased");
    assert_eq!(hear(&on, id, &[(120, Delivered)]).await, [Heard::Unknown]);
    let swept = on.store.dispatch.sweep().await.expect("a sweep");
    assert_eq!(swept.batches_purged, 0, "erased in one step");
    assert_eq!(hear(&on, id, &[(120, Delivered)]).await, [Heard::Unknown]);
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(on.claim().await.is_none());
    assert_eq!(on.raw.contents().await, before, "something was left behind");
}

pub(super) async fn what_receipts_ended_is_erased_with_its_leases(on: Fixture) {
    let before = on.raw.contents().await;
    let id = on.accept(&THREE, 3).await;
    let held = on.claim().await.expect("a chunk");
    let said = [(0, Delivered), (1, Delivered), (2, Delivered)];
    assert_eq!(hear(&on, id, &said).await, [Heard::Early; 3]);
    on.end_callback(id, CallbackState::Delivered).await;
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert_eq!(on.settle(&all_handed_over(&held)).await, Settled::Lost);
    assert!(on.claim().await.is_none());
    assert_eq!(on.raw.contents().await, before, "something was left behind");
}
