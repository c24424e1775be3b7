//! Receipts: they carry no lease, move messages forward only, and hold up the end of their batch no longer
//! than they are waited for.

use std::time::Duration;

use ringback::{
    domain::{
        audit::Finding,
        batch::{Batch, BatchState, CallbackSpec, Wanted},
        event::{LateReceipts, Occurrence},
        ids::{BatchId, MessageId},
        message::{Ended, FinalState, MessageState},
        outcome::SendError,
        receipt::{Receipt, ReceiptRecord, ReceiptWord},
        record,
        state_byte::StateByte,
        time::UnixMs,
    },
    store::{
        Claimed, Heard, MessageView, Release, Settled, Settlement, StoredReceipt, Wish, audit,
    },
};

use super::THREE;
use crate::{
    harness::eventually,
    store::fixture::{ACCOUNT, Fixture, HOST, callback_to, changes, fresh_id, settlement, waiting},
};

use FinalState::{Delivered, Undelivered};

/// Every open message of a chunk is handed over, and its receipt waited for.
pub(super) fn all_handed_over(claimed: &Claimed) -> Settlement {
    let open = (0_u16..).zip(&*claimed.states).filter(|(_, state)| **state == 0);
    let handed: Vec<_> = open.map(|(place, _)| (place, StateByte::AWAITING)).collect();
    Settlement { changes: changes(&handed), release: Some(Release::Now), ..settlement(claimed) }
}

fn receipt(id: BatchId, index: u32, state: FinalState) -> StoredReceipt {
    let (word, error) = match state {
        Delivered => (ReceiptWord::Delivered, None),
        _ => (ReceiptWord::Undelivered, Some(SendError::permanent("unreachable", "no handset"))),
    };
    let receipt = Receipt { message: MessageId { batch: id, index }, word, at: None, error };
    let record = ReceiptRecord::write(&receipt, UnixMs(id.created_at().0 + 5_000));
    StoredReceipt { index, state, record }
}

pub(super) async fn hear(on: &Fixture, id: BatchId, said: &[(u32, FinalState)]) -> Vec<Heard> {
    let receipts: Vec<_> = said.iter().map(|(index, state)| receipt(id, *index, *state)).collect();
    let providers = [on.provider.clone()];
    on.store.receipts.take(&providers, id, &receipts).await.expect("receipts taken")
}

/// How many messages are sent, delivered and undelivered.
pub(super) fn counts(batch: &Batch) -> [u64; 3] {
    [FinalState::Sent, Delivered, Undelivered].map(|state| batch.counts.ended[state])
}

pub(super) async fn message(on: &Fixture, id: BatchId, index: u32) -> MessageView {
    let (messages, _) = on.store.reading.messages(id, None, index, 1).await.expect("messages");
    messages.into_iter().next().expect("a message")
}

pub(super) async fn findings(on: &Fixture, id: BatchId) -> Vec<Finding> {
    let audited = audit::audit(&*on.store.audit, id).await.expect("an audit").expect("a batch");
    audited.findings.expect("a batch that does not move")
}

/// A batch of three, in one chunk, all of it handed over.
pub(super) async fn handed_over(on: &Fixture, wanted: Wanted) -> BatchId {
    let callback = CallbackSpec { events: wanted, ..callback_to(HOST) };
    let id = on.accept_draft(&on.draft_with(callback), &THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(on.settle(&all_handed_over(&claimed)).await, Settled::Done);
    id
}

/// Sweeps until receipts are waited for no more.
pub(super) async fn lapse(on: &Fixture) {
    let longest = Duration::from_secs(10);
    eventually("the end of the wait", longest, async || {
        (on.sweep().await.waits_ended == 1).then_some(())
    })
    .await;
}

/// The record of a submission may come after its receipt, and even after the batch is over by it.
pub(super) async fn a_chunk_is_its_holders_until_it_lets_go_whatever_receipts_say(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let early = [(1, Delivered), (2, Delivered)];
    assert_eq!(hear(&on, id, &early).await, [Heard::Early, Heard::Early]);
    let first = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) };
    assert_eq!(on.settle(&first).await, Settled::Completed);
    assert!(on.batch(id).await.is_over());
    // The same again tells that the rest need not be sent.
    assert_eq!(on.settle(&first).await, Settled::Applied(Wish::Go));
    let ended = Ended {
        state: FinalState::Sent,
        attempts: 1,
        provider_message_id: Some("SM1".into()),
        receipt_follows: true,
        error: None,
    };
    let mut log = Vec::new();
    record::write_ended(&mut log, 1, &ended, None, 5);
    let second = Settlement { sequence: 2, log: log.into(), ..settlement(&claimed) };
    assert_eq!(on.settle(&second).await, Settled::Applied(Wish::Pause));
    let last = Settlement { sequence: 3, release: Some(Release::Now), ..settlement(&claimed) };
    assert_eq!(on.settle(&last).await, Settled::Done);
    let told = message(&on, id, 1).await;
    assert_eq!(told.provider_message_id.as_deref(), Some("SM1"));
    assert!(on.claim().await.is_none());
    assert_eq!(findings(&on, id).await, []);
}

pub(super) async fn a_batch_is_over_once_every_receipt_is_in(on: Fixture) {
    let id = handed_over(&on, Wanted::default()).await;
    let batch = on.batch(id).await;
    assert_eq!(
        (batch.state, counts(&batch), batch.counts.queued()),
        (BatchState::Running, [3, 0, 0], 0)
    );
    assert_eq!(message(&on, id, 0).await.state, MessageState::Sent);
    assert_eq!(findings(&on, id).await, []);
    assert!(on.take(100).await.is_empty());
    let said = [(0, Delivered), (1, Undelivered)];
    assert_eq!(hear(&on, id, &said).await, [Heard::Counted, Heard::Counted]);
    assert_eq!(counts(&on.batch(id).await), [1, 1, 1]);
    assert!(!on.batch(id).await.is_over());
    assert_eq!(findings(&on, id).await, []);
    assert_eq!(hear(&on, id, &[(2, Delivered)]).await, [Heard::Counted]);
    let batch = on.batch(id).await;
    assert_eq!((batch.state, counts(&batch)), (BatchState::Completed, [0, 2, 1]));
    assert_eq!(findings(&on, id).await, []);
    let event = on.take_one().await;
    assert_eq!(event.event.what, Occurrence::Completed);
    let undelivered = message(&on, id, 1).await;
    assert_eq!(undelivered.state, MessageState::Undelivered);
    assert_eq!(undelivered.error.expect("an error").code, "unreachable");
    assert_eq!(undelivered.updated_at, UnixMs(id.created_at().0 + 5_000));
    assert!(undelivered.late_receipt.is_none());
}

pub(super) async fn the_dispatch_is_told_when_the_last_message_was_handed_over(on: Fixture) {
    let wanted = Wanted { dispatched: true, ..Wanted::default() };
    let id = handed_over(&on, wanted).await;
    let event = on.take_one().await;
    let Occurrence::Dispatched(counts) = event.event.what else { panic!("{event:?}") };
    assert_eq!((counts.ended[FinalState::Sent], counts.queued()), (3, 0));
    hear(&on, id, &[(0, Delivered), (1, Delivered), (2, Delivered)]).await;
    let event = on.take_one().await;
    assert_eq!((event.event.what, event.event.sequence), (Occurrence::Completed, 2));
}

pub(super) async fn receipts_are_waited_for_so_long_and_no_longer(on: Fixture) {
    let id = handed_over(&on, Wanted::default()).await;
    hear(&on, id, &[(1, Undelivered)]).await;
    assert_eq!(on.sweep().await.waits_ended, 0);
    lapse(&on).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, counts(&batch)), (BatchState::Completed, [2, 0, 1]));
    assert_eq!(findings(&on, id).await, []);
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
    // What comes now is kept beside what is known, once.
    let said = [(0, Delivered), (0, Delivered), (0, Undelivered), (1, Delivered)];
    let expected = [Heard::Late, Heard::Again, Heard::Contrary, Heard::Contrary];
    assert_eq!(hear(&on, id, &said).await, expected);
    assert_eq!(on.batch(id).await, batch);
    let late = message(&on, id, 0).await;
    assert_eq!(late.state, MessageState::Sent);
    assert_eq!(late.late_receipt.expect("a late receipt").state, Delivered);
    assert_eq!(findings(&on, id).await, []);
    assert!(on.take(100).await.is_empty());
}

pub(super) async fn a_receipt_that_is_early_is_not_overwritten_by_the_record(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(hear(&on, id, &[(1, Undelivered)]).await, [Heard::Early]);
    let batch = on.batch(id).await;
    assert_eq!((counts(&batch), batch.counts.sending), ([0, 0, 1], 2));
    assert_eq!(findings(&on, id).await, []);
    assert_eq!(on.settle(&all_handed_over(&claimed)).await, Settled::Done);
    let batch = on.batch(id).await;
    assert_eq!((counts(&batch), batch.counts.sending), ([2, 0, 1], 0));
    assert_eq!(findings(&on, id).await, []);
    assert_eq!(hear(&on, id, &[(0, Delivered), (2, Delivered)]).await, [Heard::Counted; 2]);
    assert!(on.batch(id).await.is_over());
}

pub(super) async fn early_receipts_can_end_a_batch_whose_chunk_is_held(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let said = [(0, Delivered), (1, Delivered), (2, Delivered)];
    assert_eq!(hear(&on, id, &said).await, [Heard::Early; 3]);
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.sending), (BatchState::Completed, 0));
    assert_eq!(on.settle(&all_handed_over(&claimed)).await, Settled::Done);
    assert_eq!(on.batch(id).await.counts, batch.counts);
    assert_eq!(findings(&on, id).await, []);
    on.take_one().await;
    assert!(on.take(100).await.is_empty());
}

pub(super) async fn a_parked_chunk_that_receipts_end_is_claimed_no_more(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let later = Release::At(UnixMs(claimed.now.0 + 60_000));
    let waits = (0..3).map(|place| waiting(place, 1)).collect();
    let parked = Settlement { waiting: waits, release: Some(later), ..settlement(&claimed) };
    assert_eq!(on.settle(&parked).await, Settled::Applied(Wish::Go));
    let said = [(0, Delivered), (1, Delivered), (2, Undelivered)];
    assert_eq!(hear(&on, id, &said).await, [Heard::Early; 3]);
    assert_eq!(counts(&on.batch(id).await), [0, 2, 1]);
    assert!(on.batch(id).await.is_over());
    assert_eq!(findings(&on, id).await, []);
    on.raw.come_due(id).await;
    on.sweep().await;
    assert!(on.claim().await.is_none());
}

pub(super) async fn only_what_may_have_been_handed_over_has_receipts(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    on.claim().await.expect("a chunk");
    let said = [(0, Delivered), (1, Delivered), (3, Delivered)];
    assert_eq!(hear(&on, id, &said).await, [Heard::Early, Heard::Unknown, Heard::Unknown]);
    assert_eq!(hear(&on, fresh_id(), &[(0, Delivered)]).await, [Heard::Unknown]);
    let stranger = ["stranger".to_owned()];
    let receipts = [receipt(id, 0, Undelivered)];
    let heard = on.store.receipts.take(&stranger, id, &receipts).await.expect("taken");
    assert_eq!(heard, [Heard::Unknown]);
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(hear(&on, id, &[(2, Delivered)]).await, [Heard::Unknown]);
    let batch = on.batch(id).await;
    assert_eq!((counts(&batch), batch.counts.ended[FinalState::Canceled]), ([0, 1, 0], 2));
    assert_eq!(findings(&on, id).await, []);
}

pub(super) async fn a_canceled_batch_waits_for_what_was_handed_over(on: Fixture) {
    let id = on.accept(&THREE, 2).await;
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_handed_over(&claimed)).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    let batch = on.batch(id).await;
    assert_eq!(
        (batch.state, batch.is_over(), counts(&batch)),
        (BatchState::Canceled, false, [2, 0, 0])
    );
    assert_eq!(hear(&on, id, &[(0, Delivered), (1, Delivered)]).await, [Heard::Counted; 2]);
    let batch = on.batch(id).await;
    assert_eq!(
        (batch.state, batch.is_over(), counts(&batch)),
        (BatchState::Canceled, true, [0, 2, 0])
    );
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
}

pub(super) async fn each_undelivered_message_is_told_once_on_request(on: Fixture) {
    let id = handed_over(&on, Wanted { failures: true, ..Wanted::default() }).await;
    let said = [(0, Delivered), (1, Undelivered), (1, Undelivered)];
    hear(&on, id, &said).await;
    let event = on.take_one().await;
    assert_eq!(event.event.what, Occurrence::MessageFailed(1));
    lapse(&on).await;
    assert_eq!(hear(&on, id, &[(2, Undelivered)]).await, [Heard::Late]);
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
}

pub(super) async fn late_receipts_are_told_of_together_on_request(on: Fixture) {
    let id = handed_over(&on, Wanted { amended: true, ..Wanted::default() }).await;
    lapse(&on).await;
    on.end_callback(id, ringback::domain::batch::CallbackState::Delivered).await;
    assert_eq!(hear(&on, id, &[(0, Delivered)]).await, [Heard::Late]);
    assert!(on.take(100).await.is_empty(), "told before others could come");
    assert_eq!(hear(&on, id, &[(1, Undelivered)]).await, [Heard::Late]);
    let due = async || on.take(100).await.into_iter().next();
    let event = eventually("the amendment", Duration::from_secs(10), due).await;
    let told = LateReceipts { revision: 1, delivered: 1, undelivered: 1 };
    assert_eq!((event.event.what, event.event.sequence), (Occurrence::Amended(told), 2));
    // Its attempt is under way: what comes now is told of by another one.
    assert_eq!(hear(&on, id, &[(2, Delivered)]).await, [Heard::Late]);
    let event = eventually("another one", Duration::from_secs(10), due).await;
    let told = LateReceipts { revision: 2, delivered: 2, undelivered: 1 };
    assert_eq!(event.event.what, Occurrence::Amended(told));
    assert_eq!(counts(&on.batch(id).await), [3, 0, 0]);
}
