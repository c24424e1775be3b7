//! What every store must do, case by case. The cases are listed once and run on each store.

use ringback::{
    domain::{
        batch::{BatchState, CallbackState},
        message::{FinalState, MessageState},
        time::UnixMs,
    },
    store::{
        Attempt, AttemptEnd, BatchFilter, Holding, IntakeError, Opened, Release, Settled,
        Settlement, Standing, Verdict, Wish, WishError,
    },
};
use std::time::Duration;

use super::fixture::{ACCOUNT, Fixture, all_sent, changes, chunks, settlement, waiting};

const THREE: [&str; 3] = ["+15551230001", "+15551230002", "+15551230003"];

macro_rules! cases {
    ($($case:ident)*) => {
        mod on_redis {
            $(#[tokio::test] async fn $case() { super::$case(super::Fixture::start().await).await })*
        }
    };
}

cases! {
    a_batch_is_claimed_settled_and_completed_with_one_event
    an_empty_batch_completes_when_it_is_sealed
    a_batch_of_invalid_numbers_completes_when_it_is_sealed
    a_chunk_of_invalid_numbers_is_passed_over
    nothing_is_claimed_before_the_seal
    a_seal_with_chunks_missing_is_refused
    an_upload_that_stopped_vanishes_and_frees_its_key
    an_abandoned_upload_frees_its_key
    one_key_is_one_batch
    the_same_claim_again_gives_the_same_chunk
    the_same_settlement_again_changes_nothing
    the_last_settlement_again_is_still_done
    a_settlement_out_of_order_is_told_what_is_missing
    a_stale_token_changes_nothing
    a_final_state_is_never_overwritten
    a_lease_that_ran_out_is_claimed_by_another
    a_lease_is_kept_by_its_heartbeat
    a_waiting_message_is_parked_until_it_is_due
    what_is_unsent_can_be_claimed_again_at_once
    cancel_counts_what_was_never_claimed_at_once
    cancel_closes_parked_chunks_by_the_sweep
    cancel_closes_a_held_chunk_when_it_is_let_go
    cancel_closes_a_held_chunk_when_its_lease_runs_out
    cancel_leaves_in_doubt_what_may_have_been_accepted
    a_shorter_lease_elsewhere_takes_nothing_from_a_longer_one
    a_paused_batch_is_not_claimed_until_it_is_resumed
    a_wish_reaches_who_holds_the_batch
    a_wish_for_what_is_over_is_refused
    accounts_take_turns_then_their_batches
    another_account_sees_nothing
    an_event_is_taken_once_and_recorded
    an_interrupted_attempt_uses_up_its_number
    a_late_record_changes_nothing
    what_was_kept_long_enough_is_erased_to_the_last_key
    the_list_is_newest_first_and_pages
    messages_are_told_with_their_states
    a_pause_of_a_provider_holds_for_all
    grants_never_overlap
}

async fn a_batch_is_claimed_settled_and_completed_with_one_event(on: Fixture) {
    let id = on.accept(&THREE, 2).await;
    assert_eq!(on.batch(id).await.state, BatchState::Queued);

    let first = on.claim().await.expect("the first chunk");
    let second = on.claim().await.expect("the second chunk");
    assert_eq!((first.first, first.states.len()), (0, 2));
    assert_eq!((second.first, second.states.len()), (2, 1));
    assert!(on.claim().await.is_none());
    let running = on.batch(id).await;
    assert_eq!((running.state, running.counts.sending), (BatchState::Running, 3));
    assert!(running.started_at.is_some());

    assert_eq!(on.settle(&all_sent(&first)).await, Settled::Done { completed: false });
    assert_eq!(on.events(id).await, 0, "an event before the end");
    assert_eq!(on.settle(&all_sent(&second)).await, Settled::Done { completed: true });

    let done = on.batch(id).await;
    assert_eq!((done.state, done.counts.ended[FinalState::Sent]), (BatchState::Completed, 3));
    assert_eq!((done.counts.sending, done.counts.queued()), (0, 0));
    assert!(done.completed_at.is_some());
    assert_eq!(on.events(id).await, 1);
}

async fn an_empty_batch_completes_when_it_is_sealed(on: Fixture) {
    let id = on.accept(&[], 2).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.total), (BatchState::Completed, 0));
    assert_eq!(on.events(id).await, 1);
}

async fn a_batch_of_invalid_numbers_completes_when_it_is_sealed(on: Fixture) {
    let id = on.accept(&["nobody", "+0", ""], 2).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.ended[FinalState::Failed]), (BatchState::Completed, 3));
    assert_eq!(on.events(id).await, 1);
    assert!(on.claim().await.is_none());
}

async fn a_chunk_of_invalid_numbers_is_passed_over(on: Fixture) {
    let id = on.accept(&["nobody", "no one", "+15551230001"], 2).await;
    let claimed = on.claim().await.expect("the chunk with a number");
    assert_eq!(claimed.chunk, 1);
    on.settle(&all_sent(&claimed)).await;
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.ended[FinalState::Failed], counts.ended[FinalState::Sent]), (2, 1));
    assert_eq!(on.events(id).await, 1);
}

async fn nothing_is_claimed_before_the_seal(on: Fixture) {
    let draft = on.draft(true);
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 2)).await.expect("an append");
    assert!(on.claim().await.is_none());
    assert_eq!(on.batch(draft.id).await.state, BatchState::Receiving);
}

async fn a_seal_with_chunks_missing_is_refused(on: Fixture) {
    let draft = on.draft(true);
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 2)[..1]).await.expect("an append");
    let sealed = on.store.intake.seal(&upload, 2, [0; 32]).await;
    assert!(matches!(sealed, Err(IntakeError::Gone)), "{sealed:?}");
    assert!(on.claim().await.is_none());
}

async fn an_upload_that_stopped_vanishes_and_frees_its_key(on: Fixture) {
    let before = on.keys().await;
    let draft = on.keyed("k");
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 1)).await.expect("an append");
    on.lapse_uploads().await;
    assert_eq!(on.sweep().await.uploads_dropped, 1);

    let late = on.store.intake.append(&upload, &chunks(&THREE, 1)).await;
    assert!(matches!(late, Err(IntakeError::Gone)), "{late:?}");
    let sealed = on.store.intake.seal(&upload, 3, [0; 32]).await;
    assert!(matches!(sealed, Err(IntakeError::Gone)), "{sealed:?}");
    assert!(on.store.reading.batch(ACCOUNT, draft.id).await.expect("a read").is_none());
    assert_eq!(on.keys().await, before, "something was left behind");
    on.open(&on.keyed("k")).await;
}

async fn an_abandoned_upload_frees_its_key(on: Fixture) {
    let upload = on.open(&on.keyed("k")).await;
    on.store.intake.abandon(&upload).await.expect("abandoned");
    on.open(&on.keyed("k")).await;
}

async fn one_key_is_one_batch(on: Fixture) {
    let first = on.keyed("k");
    let upload = on.open(&first).await;
    assert_eq!(on.store.intake.open(&first).await.expect("again"), Opened::New(upload));
    assert_eq!(on.store.intake.open(&on.keyed("k")).await.expect("other"), Opened::UnderWay);
    on.store.intake.seal(&upload, 0, [9; 32]).await.expect("a seal");
    on.store.intake.seal(&upload, 0, [9; 32]).await.expect("the same seal again");
    let replayed = Opened::Replayed { id: first.id, body_hash: [9; 32] };
    assert_eq!(on.store.intake.open(&on.keyed("k")).await.expect("repeat"), replayed);

    let mut elsewhere = on.keyed("k");
    elsewhere.spec.account = "other".into();
    on.open(&elsewhere).await;
}

async fn the_same_claim_again_gives_the_same_chunk(on: Fixture) {
    on.accept(&THREE, 1).await;
    let claimed = on.claim_with(42).await.expect("a chunk");
    let again = on.claim_with(42).await.expect("the same chunk");
    assert_eq!((again.chunk, &again.token), (claimed.chunk, &claimed.token));
    let other = on.claim_with(43).await.expect("another chunk");
    assert_ne!(other.chunk, claimed.chunk);
    assert_ne!(other.token, claimed.token);
}

async fn the_same_settlement_again_changes_nothing(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let one = Settlement {
        changes: changes(&[(1, FinalState::Sent)]),
        log: b"once".to_vec().into(),
        ..settlement(&claimed)
    };
    assert_eq!(on.settle(&one).await, Settled::Applied(Wish::Go));
    let after = (on.batch(id).await, on.keys().await);
    assert_eq!(on.settle(&one).await, Settled::Applied(Wish::Go));
    assert_eq!((on.batch(id).await, on.keys().await), after);
    assert_eq!(after.0.counts.ended[FinalState::Sent], 1);
    assert_eq!(after.0.counts.sending, 2);
}

async fn the_last_settlement_again_is_still_done(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Done { completed: true });
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Done { completed: false });
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 3);
}

async fn a_settlement_out_of_order_is_told_what_is_missing(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let third = Settlement {
        sequence: 3,
        changes: changes(&[(0, FinalState::Sent)]),
        ..settlement(&claimed)
    };
    assert_eq!(on.settle(&third).await, Settled::Behind(0));
    assert_eq!(on.batch(id).await.counts.ended.sum(), 0);
}

async fn a_stale_token_changes_nothing(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let stale = on.claim().await.expect("a chunk");
    on.lapse_leases().await;
    assert_eq!(on.sweep().await.leases_lost, 1);
    let after = on.batch(id).await;
    assert_eq!(on.settle(&all_sent(&stale)).await, Settled::Lost);
    let fresh = on.claim().await.expect("the chunk again");
    assert_eq!(on.settle(&all_sent(&stale)).await, Settled::Lost);
    assert_eq!(after.counts.ended.sum(), 0);
    assert_eq!(on.batch(id).await.counts.ended.sum(), 0);
    assert_eq!(on.settle(&all_sent(&fresh)).await, Settled::Done { completed: true });
    assert_eq!(on.events(id).await, 1);
}

async fn a_final_state_is_never_overwritten(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let sent = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) };
    on.settle(&sent).await;
    let failed = Settlement {
        sequence: 2,
        changes: changes(&[(0, FinalState::Failed), (1, FinalState::Failed)]),
        ..settlement(&claimed)
    };
    on.settle(&failed).await;
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.ended[FinalState::Sent], counts.ended[FinalState::Failed]), (1, 1));
}

async fn a_lease_that_ran_out_is_claimed_by_another(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let first = on.claim().await.expect("a chunk");
    let one = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&first) };
    on.settle(&one).await;
    on.lapse_leases().await;
    on.sweep().await;
    assert_eq!(on.batch(id).await.counts.queued(), 2);
    let second = on.claim().await.expect("the chunk again");
    assert_eq!(second.chunk, first.chunk);
    assert_eq!(&second.states[..], [1, 0, 0], "what was settled is not sent again");
    on.settle(&all_sent(&second)).await;
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 3);
}

async fn a_lease_is_kept_by_its_heartbeat(on: Fixture) {
    on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let holding =
        Holding { batch: claimed.batch, chunk: claimed.chunk, token: claimed.token.clone() };
    on.lapse_leases().await;
    let held = on.store.dispatch.hold(std::slice::from_ref(&holding)).await.expect("held");
    assert_eq!(held, [Standing::Held(Wish::Go)]);
    assert_eq!(on.sweep().await.leases_lost, 0);
    on.lapse_leases().await;
    on.sweep().await;
    let lost = on.store.dispatch.hold(&[holding]).await.expect("an answer");
    assert_eq!(lost, [Standing::Lost]);
}

async fn a_waiting_message_is_parked_until_it_is_due(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let parked = Settlement {
        changes: changes(&[(0, FinalState::Sent), (2, FinalState::Sent)]),
        waiting: vec![waiting(1, 4)],
        release: Some(Release::At(UnixMs(claimed.now.0 + 60_000))),
        ..settlement(&claimed)
    };
    assert_eq!(on.settle(&parked).await, Settled::Applied(Wish::Go));
    assert!(on.claim().await.is_none(), "claimed before it was due");
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.queued(), counts.sending), (1, 0));
    on.come_due(id).await;
    assert_eq!(on.sweep().await.batches_due, 1);
    let again = on.claim().await.expect("the parked chunk");
    assert_eq!(again.waiting.len(), 1);
    assert_eq!((again.waiting[0].0, again.waiting[0].1.attempts), (1, 4));
    assert_eq!(on.settle(&all_sent(&again)).await, Settled::Done { completed: true });
}

async fn what_is_unsent_can_be_claimed_again_at_once(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let released = Settlement {
        changes: changes(&[(0, FinalState::Sent)]),
        release: Some(Release::Now),
        ..settlement(&claimed)
    };
    assert_eq!(on.settle(&released).await, Settled::Applied(Wish::Go));
    assert_eq!(on.settle(&released).await, Settled::Applied(Wish::Go), "repeated");
    assert_eq!(on.batch(id).await.counts.queued(), 2);
    let again = on.claim().await.expect("the rest");
    assert_eq!(&again.states[..], [1, 0, 0]);
    assert!(on.claim().await.is_none());
}

async fn cancel_counts_what_was_never_claimed_at_once(on: Fixture) {
    let id = on.accept(&["+15551230001", "nobody", "+15551230003"], 1).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled again");
    let batch = on.batch(id).await;
    assert_eq!(batch.state, BatchState::Canceled);
    assert_eq!(batch.counts.ended[FinalState::Canceled], 2);
    assert_eq!(batch.counts.ended[FinalState::Failed], 1);
    assert!(batch.completed_at.is_some());
    assert_eq!(on.events(id).await, 1);
    assert!(on.claim().await.is_none());
    let (messages, _) = on.store.reading.messages(id, None, 0, 10).await.expect("messages");
    let states: Vec<_> = messages.iter().map(|message| message.state).collect();
    assert_eq!(states, [MessageState::Canceled, MessageState::Failed, MessageState::Canceled]);
}

async fn cancel_closes_parked_chunks_by_the_sweep(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let parked = Settlement {
        waiting: vec![waiting(0, 1)],
        release: Some(Release::At(UnixMs(claimed.now.0 + 60_000))),
        ..settlement(&claimed)
    };
    on.settle(&parked).await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(on.events(id).await, 0);
    assert_eq!(on.sweep().await.chunks_closed, 1);
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Canceled], 3);
    assert_eq!(on.events(id).await, 1);
}

async fn cancel_closes_a_held_chunk_when_it_is_let_go(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    assert_eq!(on.batch(id).await.completed_at, None);
    let flight = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) };
    assert_eq!(on.settle(&flight).await, Settled::Applied(Wish::Cancel));
    let rest = Settlement { sequence: 2, release: Some(Release::Now), ..settlement(&claimed) };
    assert_eq!(on.settle(&rest).await, Settled::Done { completed: true });
    let batch = on.batch(id).await;
    assert_eq!(batch.state, BatchState::Canceled);
    assert_eq!(batch.counts.ended[FinalState::Sent], 1);
    assert_eq!(batch.counts.ended[FinalState::Canceled], 2);
    assert_eq!(batch.counts.sending, 0);
}

async fn cancel_closes_a_held_chunk_when_its_lease_runs_out(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.lapse_leases().await;
    let swept = on.sweep().await;
    assert_eq!((swept.leases_lost, swept.chunks_closed), (1, 1));
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Canceled], 3);
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Lost);
    assert_eq!(on.events(id).await, 1);
}

async fn cancel_leaves_in_doubt_what_may_have_been_accepted(on: Fixture) {
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
    assert_eq!(on.events(id).await, 1);
}

async fn a_shorter_lease_elsewhere_takes_nothing_from_a_longer_one(on: Fixture) {
    on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let hasty = on.with_lease(Duration::from_secs(1)).await;
    assert_eq!(hasty.sweep().await.expect("a sweep").leases_lost, 0);
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Done { completed: true });
}

async fn a_paused_batch_is_not_claimed_until_it_is_resumed(on: Fixture) {
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

async fn a_wish_reaches_who_holds_the_batch(on: Fixture) {
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

async fn a_wish_for_what_is_over_is_refused(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let refused = on.store.intake.cancel(ACCOUNT, id).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Completed))), "{refused:?}");
    let refused = on.store.intake.resume(ACCOUNT, id).await;
    assert!(matches!(refused, Err(WishError::State(BatchState::Completed))), "{refused:?}");
}

async fn accounts_take_turns_then_their_batches(on: Fixture) {
    let mut order = Vec::new();
    for account in ["one", "one", "two"] {
        let mut draft = on.draft(false);
        draft.spec.account = account.into();
        order.push(on.accept_draft(&draft, &THREE, 1).await);
    }
    let mut claimed = Vec::new();
    while let Some(chunk) = on.claim().await {
        claimed.push(order.iter().position(|id| *id == chunk.batch).expect("one of ours"));
    }
    assert_eq!(claimed, [0, 2, 1, 2, 0, 2, 1, 0, 1]);
}

async fn another_account_sees_nothing(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let reading = &on.store.reading;
    assert!(reading.batch("other", id).await.expect("a read").is_none());
    assert!(reading.attempts("other", id).await.expect("a read").is_none());
    let (list, _) =
        reading.batches("other", &BatchFilter::default(), None, 10).await.expect("a list");
    assert!(list.is_empty());
    let canceled = on.store.intake.cancel("other", id).await;
    assert!(matches!(canceled, Err(WishError::NotFound)), "{canceled:?}");
}

async fn an_event_is_taken_once_and_recorded(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let callbacks = &on.store.callbacks;
    let lease = Duration::from_secs(20);
    let taken = callbacks.take(10, lease).await.expect("taken");
    assert_eq!((taken.len(), taken[0].batch.id, taken[0].number), (1, id, 1));
    assert!(callbacks.take(10, lease).await.expect("taken").is_empty());
    assert_eq!(callbacks.body(id, "first".into()).await.expect("a body"), "first");
    assert_eq!(callbacks.body(id, "second".into()).await.expect("a body"), "first");
    let end = AttemptEnd { status: Some(200), latency_ms: 3, ..AttemptEnd::default() };
    let verdict = Verdict::Ended(CallbackState::Delivered);
    let attempt = Attempt { batch: id, number: 1, end: end.clone(), verdict };
    assert!(callbacks.record(&attempt).await.expect("recorded"));
    assert!(callbacks.record(&attempt).await.expect("recorded again"));
    assert_eq!(on.batch(id).await.callback, CallbackState::Delivered);
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert_eq!((view.attempts.len(), view.next_attempt_at), (1, None));
    assert_eq!((view.attempts[0].number, &view.attempts[0].end), (1, &end));
    assert_eq!(callbacks.next_due().await.expect("an answer"), None);
}

async fn an_interrupted_attempt_uses_up_its_number(on: Fixture) {
    let id = on.accept(&[], 1).await;
    on.store.callbacks.take(1, Duration::ZERO).await.expect("taken");
    let again = loop {
        let taken = on.store.callbacks.take(1, Duration::from_secs(9)).await.expect("taken");
        if let Some(event) = taken.into_iter().next() {
            break event;
        }
    };
    assert_eq!(again.number, 2);
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert_eq!(view.attempts[0].end.error.as_deref(), Some("interrupted"));
    assert_eq!(view.attempts[1].end, AttemptEnd::default(), "it is under way");
    assert!(view.next_attempt_at.is_some());
}

async fn a_late_record_changes_nothing(on: Fixture) {
    let id = on.accept(&[], 1).await;
    on.store.callbacks.take(1, Duration::ZERO).await.expect("taken");
    while on.store.callbacks.take(1, Duration::from_secs(9)).await.expect("taken").is_empty() {}
    let late = Attempt {
        batch: id,
        number: 1,
        end: AttemptEnd::default(),
        verdict: Verdict::Ended(CallbackState::Exhausted),
    };
    assert!(!on.store.callbacks.record(&late).await.expect("an answer"));
    assert_eq!(on.batch(id).await.callback, CallbackState::Pending);
}

async fn what_was_kept_long_enough_is_erased_to_the_last_key(on: Fixture) {
    let before = on.keys().await;
    let draft = on.keyed("k");
    on.accept_draft(&draft, &THREE, 1).await;
    while let Some(claimed) = on.claim().await {
        on.settle(&all_sent(&claimed)).await;
    }
    on.store.callbacks.take(1, Duration::from_secs(9)).await.expect("taken");
    let verdict = Verdict::Ended(CallbackState::Gone);
    let attempt = Attempt { batch: draft.id, number: 1, end: AttemptEnd::default(), verdict };
    on.store.callbacks.record(&attempt).await.expect("recorded");
    assert_eq!(on.sweep().await.batches_purged, 0, "erased too early");
    on.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(on.store.reading.batch(ACCOUNT, draft.id).await.expect("a read").is_none());
    let own = ["rb:{p00}:stats", "rb:{p00}:turn"];
    let left: Vec<_> = on.keys().await;
    let left: Vec<_> =
        left.iter().filter(|key| !before.contains(key) && !own.contains(&key.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
    on.open(&on.keyed("k")).await;
}

async fn the_list_is_newest_first_and_pages(on: Fixture) {
    let mut ids = Vec::new();
    for reference in ["a", "b", "a"] {
        let mut draft = on.draft(false);
        draft.spec.reference = Some(reference.into());
        ids.push(on.accept_draft(&draft, &[], 1).await);
    }
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let all = BatchFilter::default();
    let reading = &on.store.reading;
    let (first, next) = reading.batches(ACCOUNT, &all, None, 2).await.expect("a page");
    let (second, end) = reading.batches(ACCOUNT, &all, next, 2).await.expect("a page");
    let listed: Vec<_> = first.iter().chain(&second).map(|batch| batch.id).collect();
    assert_eq!(listed, ids);
    assert_eq!(end, None);
    let only_b = BatchFilter { reference: Some("b".into()), ..BatchFilter::default() };
    let (found, _) = reading.batches(ACCOUNT, &only_b, None, 10).await.expect("a page");
    assert_eq!(found.len(), 1);
}

async fn messages_are_told_with_their_states(on: Fixture) {
    let id = on.accept(&["+15551230001", "nobody", "+15551230003", "+15551230004"], 3).await;
    let claimed = on.claim().await.expect("the first chunk");
    on.settle(&Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) })
        .await;
    let reading = &on.store.reading;
    let (messages, end) = reading.messages(id, None, 0, 10).await.expect("messages");
    let states: Vec<_> = messages.iter().map(|message| message.state).collect();
    assert_eq!(
        states,
        [MessageState::Sent, MessageState::Failed, MessageState::Sending, MessageState::Queued]
    );
    assert_eq!(end, None);
    assert_eq!(messages[1].to, "nobody");
    assert_eq!(messages[1].error.as_ref().expect("an error").code, "invalid_number");
    let (page, next) = reading.messages(id, None, 1, 2).await.expect("messages");
    assert_eq!(page.iter().map(|message| message.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(next, Some(3));
    let queued = Some(MessageState::Queued);
    let (queued, _) = reading.messages(id, queued, 0, 10).await.expect("messages");
    assert_eq!(queued.len(), 1);
}

async fn a_pause_of_a_provider_holds_for_all(on: Fixture) {
    let dispatch = &on.store.dispatch;
    assert_eq!(dispatch.paused(&on.provider).await.expect("an answer"), Duration::ZERO);
    dispatch.throttle(&on.provider, Duration::from_mins(1)).await.expect("paused");
    dispatch.throttle(&on.provider, Duration::from_secs(1)).await.expect("not shortened");
    let left = dispatch.paused(&on.provider).await.expect("an answer");
    assert!(left > Duration::from_secs(50) && left <= Duration::from_mins(1), "{left:?}");
    let request = request(&on.provider, 10);
    let granted = dispatch.grant(&request).await.expect("an answer");
    assert!(matches!(granted, ringback::store::Grant::Later { paused: true, .. }), "{granted:?}");
}

async fn grants_never_overlap(on: Fixture) {
    let (interval_us, wanted) = (5_000, 10);
    let mut firsts = Vec::new();
    let begun = std::time::Instant::now();
    for _ in 0..8 {
        match on.store.dispatch.grant(&request(&on.provider, wanted)).await.expect("an answer") {
            ringback::store::Grant::Run { first_in_us } => {
                let at = i64::try_from(begun.elapsed().as_micros()).expect("short") + first_in_us;
                firsts.push(at);
            }
            later @ ringback::store::Grant::Later { .. } => panic!("{later:?}"),
        }
    }
    let run_us = interval_us * i64::from(wanted);
    // The server's clock is read a little before ours: allow for the reply's way.
    let slack_us = 20_000;
    for (nth, first) in firsts.iter().enumerate() {
        let nth = i64::try_from(nth).expect("few");
        assert!(*first >= firsts[0] + nth * run_us - slack_us, "{firsts:?}");
    }
}

fn request(provider: &str, wanted: u32) -> ringback::store::GrantRequest<'_> {
    ringback::store::GrantRequest {
        provider,
        interval: Duration::from_millis(5),
        burst_us: 50_000,
        wanted,
    }
}
