//! What clients wish of their batches: to cancel, pause and resume them.

use std::time::Duration;

use ringback::{
    clock::Clock,
    domain::{
        batch::{BatchSpec, BatchState, CallbackState},
        ids::BatchId,
        message::{FinalState, MessageState, Open},
        time::UnixMs,
    },
    store::{Draft, Holding, Release, Settled, Settlement, Standing, Verdict, Wish, WishError},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, all_sent, changes, settlement, waiting};

pub(super) async fn cancel_counts_what_was_never_claimed_at_once(on: Fixture) {
    let id = on.accept(&["+15551230001", "nobody", "+15551230003"], 1).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled again");
    let batch = on.batch(id).await;
    assert_eq!(batch.state, BatchState::Canceled);
    assert_eq!(batch.counts.ended[FinalState::Canceled], 2);
    assert_eq!(batch.counts.ended[FinalState::Failed], 1);
    assert!(batch.completed_at.is_some());
    assert_eq!(on.raw.events(id).await, 1);
    assert!(on.claim().await.is_none());
    let (messages, _) = on.store.reading.messages(id, None, 0, 10).await.expect("messages");
    let states: Vec<_> = messages.iter().map(|message| message.state).collect();
    assert_eq!(states, [MessageState::Canceled, MessageState::Failed, MessageState::Canceled]);
}

pub(super) async fn cancel_closes_parked_chunks_by_the_sweep(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let parked = Settlement {
        waiting: vec![waiting(0, 1)],
        release: Some(Release::At(UnixMs(claimed.now.0 + 60_000))),
        ..settlement(&claimed)
    };
    on.settle(&parked).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(on.raw.events(id).await, 0);
    assert_eq!(on.sweep().await.chunks_closed, 1);
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Canceled], 3);
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn cancel_closes_a_held_chunk_when_it_is_let_go(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(on.batch(id).await.completed_at, None);
    let flight = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) };
    assert_eq!(on.settle(&flight).await, Settled::Applied(Wish::Cancel));
    let rest = Settlement { sequence: 2, release: Some(Release::Now), ..settlement(&claimed) };
    assert_eq!(on.settle(&rest).await, Settled::Completed);
    let batch = on.batch(id).await;
    assert_eq!(batch.state, BatchState::Canceled);
    assert_eq!(batch.counts.ended[FinalState::Sent], 1);
    assert_eq!(batch.counts.ended[FinalState::Canceled], 2);
    assert_eq!(batch.counts.sending, 0);
}

pub(super) async fn cancel_closes_a_held_chunk_when_its_lease_runs_out(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.raw.lapse_leases().await;
    let swept = on.sweep().await;
    assert_eq!((swept.leases_lost, swept.chunks_closed), (1, 1));
    // Its worker may have sent any of them.
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Unknown], 3);
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Lost);
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn cancel_leaves_in_doubt_what_may_have_been_accepted(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let mut doubtful = waiting(1, 1);
    doubtful.open.maybe_accepted = true;
    let parked = Settlement {
        waiting: vec![waiting(0, 1), doubtful],
        release: Some(Release::At(UnixMs(claimed.now.0 + 60_000))),
        ..settlement(&claimed)
    };
    on.settle(&parked).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.sweep().await;
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.ended[FinalState::Canceled], counts.ended[FinalState::Unknown]), (2, 1));
    let (messages, _) = on.store.reading.messages(id, None, 0, 3).await.expect("messages");
    assert_eq!(messages[1].state, MessageState::Unknown);
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_paused_batch_is_not_claimed_until_it_is_resumed(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let held = on.claim().await.expect("a chunk");
    on.store.intake.pause(ACCOUNT, id).await.expect("paused");
    on.store.intake.pause(ACCOUNT, id).await.expect("paused again");
    assert_eq!(on.batch(id).await.state, BatchState::Paused);
    assert!(on.claim().await.is_none());
    let back = Settlement { release: Some(Release::Now), ..settlement(&held) };
    assert_eq!(on.settle(&back).await, Settled::Applied(Wish::Pause));
    on.sweep().await;
    assert!(on.claim().await.is_none(), "what came back was put in the ring");
    on.store.intake.resume(ACCOUNT, id).await.expect("resumed");
    on.store.intake.resume(ACCOUNT, id).await.expect("resumed again");
    assert_eq!(on.batch(id).await.state, BatchState::Running);
    assert_eq!(on.claim().await.expect("the returned chunk").chunk, held.chunk);
}

pub(super) async fn a_wish_reaches_who_holds_the_batch(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let holding = [Holding { batch: id, chunk: claimed.chunk, token: claimed.token.clone() }];
    on.store.intake.pause(ACCOUNT, id).await.expect("paused");
    let standing = on.store.dispatch.hold(&holding).await.expect("an answer");
    assert_eq!(standing, [Standing::Held(Wish::Pause)]);
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    let standing = on.store.dispatch.hold(&holding).await.expect("an answer");
    assert_eq!(standing, [Standing::Held(Wish::Cancel)]);
}

pub(super) async fn a_wish_for_what_is_over_is_refused(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let refused = on.store.intake.cancel(ACCOUNT, id).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Completed))), "{refused:?}");
    let refused = on.store.intake.resume(ACCOUNT, id).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Completed))), "{refused:?}");
}

const AN_HOUR_MS: u64 = 3_600_000;

impl Fixture {
    /// A batch that begins so long from now.
    async fn scheduled(&self, ahead_ms: u64) -> BatchId {
        let send_at = Some(UnixMs(Clock::system().now().0 + ahead_ms));
        self.accept_at(BatchSpec { send_at, ..self.spec(true) }).await
    }

    /// A batch that expires in an hour.
    async fn expiring(&self) -> BatchId {
        let expire_at = Some(UnixMs(Clock::system().now().0 + AN_HOUR_MS));
        self.accept_at(BatchSpec { expire_at, ..self.spec(true) }).await
    }

    async fn accept_at(&self, spec: BatchSpec) -> BatchId {
        let draft = Draft { spec, ..self.draft(true) };
        self.accept_draft(&draft, &THREE, 2).await
    }

    async fn state(&self, id: BatchId) -> BatchState {
        self.batch(id).await.state
    }
}

pub(super) async fn a_batch_waits_for_its_time(on: Fixture) {
    let id = on.scheduled(AN_HOUR_MS).await;
    assert_eq!(on.state(id).await, BatchState::Scheduled);
    assert_eq!(on.sweep().await.batches_begun, 0);
    assert!(on.claim().await.is_none());
    on.raw.time_has_come(id).await;
    assert!(on.claim().await.is_none(), "the sweep has it begin");
    assert_eq!(on.sweep().await.batches_begun, 1);
    assert_eq!(on.state(id).await, BatchState::Queued);
    assert_eq!(on.claim().await.expect("a chunk").batch, id);
    assert_eq!(on.state(id).await, BatchState::Running);
    assert_eq!(on.sweep().await.batches_begun, 0);
    // One whose time has passed already does not wait.
    let late = on.scheduled(0).await;
    assert_eq!(on.state(late).await, BatchState::Queued);
    // Nor does one that waits for longer than can be: the clock was stepped back.
    let never = on.scheduled(400 * 86_400_000).await;
    assert_eq!(on.state(never).await, BatchState::Queued);
}

pub(super) async fn a_batch_that_waits_is_amended_by_one_at_a_time(on: Fixture) {
    let intake = &on.store.intake;
    let id = on.scheduled(AN_HOUR_MS).await;
    let was = on.batch(id).await.spec;
    let later = was.send_at.map(|at| at.after(Duration::from_hours(1)));
    let one = BatchSpec { body: "one".into(), send_at: later, expire_at: later, ..was.clone() };
    let other = BatchSpec { body: "other".into(), ..was.clone() };
    assert!(intake.amend(id, &was, &one).await.expect("amended"));
    assert!(intake.amend(id, &was, &one).await.expect("the same again"));
    assert!(!intake.amend(id, &was, &other).await.expect("refused"), "what was is not any more");
    assert_eq!(on.batch(id).await.spec, one);
    let theirs = BatchSpec { account: "zeta".into(), ..one.clone() };
    assert!(matches!(intake.amend(id, &theirs, &other).await, Err(WishError::NotFound)));
    // What it is to expire by now holds, and what it was to begin by does not.
    assert_eq!((on.sweep().await.batches_expired, on.state(id).await), (0, BatchState::Scheduled));
    let at_once = BatchSpec { send_at: None, expire_at: None, ..one.clone() };
    assert!(intake.amend(id, &one, &at_once).await.expect("amended"));
    assert_eq!(on.state(id).await, BatchState::Queued);
    let refused = intake.amend(id, &at_once, &one).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Queued))), "{refused:?}");
    on.raw.expire(id).await;
    assert_eq!(on.sweep().await.batches_expired, 0, "it expires no more");
    assert_eq!(on.claim().await.expect("a chunk").batch, id);
    let spec = on.store.dispatch.spec(id).await.expect("a read");
    assert_eq!(spec.map(|spec| spec.body), Some("one".into()));
}

pub(super) async fn a_batch_that_waits_can_be_paused_and_canceled(on: Fixture) {
    let intake = &on.store.intake;
    let id = on.scheduled(AN_HOUR_MS).await;
    intake.resume(ACCOUNT, id).await.expect("nothing to resume");
    intake.pause(ACCOUNT, id).await.expect("paused");
    assert_eq!(on.state(id).await, BatchState::Paused);
    intake.resume(ACCOUNT, id).await.expect("resumed");
    assert_eq!(on.state(id).await, BatchState::Scheduled);
    intake.pause(ACCOUNT, id).await.expect("paused again");
    on.raw.time_has_come(id).await;
    assert_eq!(on.sweep().await.batches_begun, 0, "it is paused");
    intake.resume(ACCOUNT, id).await.expect("resumed");
    assert_eq!(on.state(id).await, BatchState::Queued);
    assert_eq!(on.claim().await.expect("a chunk").batch, id);

    let other = on.scheduled(AN_HOUR_MS).await;
    intake.cancel(ACCOUNT, other).await.expect("canceled");
    let batch = on.batch(other).await;
    assert_eq!((batch.state, batch.started_at), (BatchState::Canceled, None));
    assert_eq!(batch.counts.ended[FinalState::Canceled], 3);
    assert!(batch.completed_at.is_some());
    assert_eq!(on.raw.events(other).await, 1);
}

pub(super) async fn a_batch_is_erased_once_nothing_is_left_to_be_told(on: Fixture) {
    let (intake, before) = (&on.store.intake, on.raw.contents().await);
    let id = on.accept_draft(&on.draft(true), &THREE, 3).await;
    let refused = intake.erase(ACCOUNT, id).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Queued))), "{refused:?}");
    assert!(matches!(intake.erase("other", id).await, Err(WishError::NotFound)));
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_sent(&claimed)).await;
    intake.erase(ACCOUNT, id).await.expect("to be erased");
    intake.erase(ACCOUNT, id).await.expect("to be erased again");
    assert_eq!(on.sweep().await.batches_purged, 0, "its completion is still to be told");
    assert!(on.claim().await.is_none());
    on.record(&on.take_one().await, Verdict::Ended(CallbackState::Delivered)).await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(matches!(intake.erase(ACCOUNT, id).await, Err(WishError::NotFound)));
    assert_eq!(on.raw.contents().await, before, "something was left behind");
}

pub(super) async fn what_was_never_claimed_expires_at_once(on: Fixture) {
    let id = on.expiring().await;
    assert_eq!(on.sweep().await.batches_expired, 0);
    on.raw.expire(id).await;
    assert_eq!(on.sweep().await.batches_expired, 1);
    assert_eq!(on.sweep().await.batches_expired, 0);
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.ended[FinalState::Expired]), (BatchState::Completed, 3));
    assert!(batch.completed_at.is_some());
    assert_eq!(on.raw.events(id).await, 1);
    assert!(on.claim().await.is_none());
    let (messages, _) = on.store.reading.messages(id, None, 0, 10).await.expect("messages");
    assert!(messages.iter().all(|message| message.state == MessageState::Expired), "{messages:?}");
    // One that is over by then is left as it is, and one that waits for its time expires too.
    let over = on.expiring().await;
    for _ in 0..2 {
        on.settle(&all_sent(&on.claim().await.expect("a chunk"))).await;
    }
    let send_at = Some(UnixMs(Clock::system().now().0 + AN_HOUR_MS));
    let expire_at = Some(UnixMs(Clock::system().now().0 + 2 * AN_HOUR_MS));
    let waiting = on.accept_at(BatchSpec { send_at, expire_at, ..on.spec(true) }).await;
    on.raw.expire(over).await;
    on.raw.expire(waiting).await;
    assert_eq!(on.sweep().await.batches_expired, 1);
    assert_eq!(on.batch(over).await.counts.ended[FinalState::Sent], 3);
    assert_eq!(on.batch(waiting).await.counts.ended[FinalState::Expired], 3);
}

pub(super) async fn what_is_parked_or_held_expires_as_it_comes_back(on: Fixture) {
    let id = on.expiring().await;
    let first = on.claim().await.expect("a chunk");
    let doubtful = Open { maybe_accepted: true, ..waiting(0, 1).open };
    let parked = Settlement {
        waiting: vec![ringback::store::Waiting { open: doubtful, ..waiting(0, 1) }, waiting(1, 1)],
        release: Some(Release::At(UnixMs(first.now.0 + 60_000))),
        ..settlement(&first)
    };
    on.settle(&parked).await;
    let held = on.claim().await.expect("the other chunk");
    on.raw.expire(id).await;
    let swept = on.sweep().await;
    assert_eq!((swept.batches_expired, swept.chunks_closed), (1, 0));
    assert_eq!(on.sweep().await.chunks_closed, 1);
    let counts = on.batch(id).await.counts;
    assert_eq!(counts.ended[FinalState::Expired], 1);
    assert_eq!(counts.ended[FinalState::Unknown], 1, "it may have been accepted");
    let holding = Holding { batch: id, chunk: held.chunk, token: held.token.clone() };
    let standing = on.store.dispatch.hold(&[holding]).await.expect("standings");
    assert_eq!(standing, [Standing::Held(Wish::Expire)]);
    let back = Settlement { release: Some(Release::Now), ..settlement(&held) };
    assert_eq!(on.settle(&back).await, Settled::Completed);
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.sending), (BatchState::Completed, 0));
    assert_eq!(batch.counts.ended[FinalState::Expired], 2);
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_batch_that_has_expired_can_be_canceled(on: Fixture) {
    let id = on.expiring().await;
    let held = on.claim().await.expect("a chunk");
    on.raw.expire(id).await;
    on.sweep().await;
    on.store.intake.pause(ACCOUNT, id).await.expect("paused");
    on.store.intake.resume(ACCOUNT, id).await.expect("resumed");
    assert!(on.claim().await.is_none());
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    let back = Settlement { release: Some(Release::Now), ..settlement(&held) };
    assert_eq!(on.settle(&back).await, Settled::Completed);
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.ended[FinalState::Expired]), (BatchState::Canceled, 3));
    assert_eq!(on.raw.events(id).await, 1);
}
