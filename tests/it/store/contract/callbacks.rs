//! What the notifiers do: how an event is taken, recorded and tried again, and what a host gets.

use std::time::Duration;

use ringback::{
    domain::batch::CallbackState,
    store::{AttemptEnd, HostSign, RETENTION_MAX, Recorded, Verdict},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, HOST, RULES, all_sent};

const AGAIN: Verdict = Verdict::Again(Duration::ZERO);
const DELIVERED: Verdict = Verdict::Ended(CallbackState::Delivered);

pub(super) async fn an_event_is_taken_once_and_recorded(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let callbacks = &on.store.callbacks;
    let taken = on.take_one().await;
    assert_eq!((taken.event.id, taken.batch.id, taken.event.sequence), (id.event(), id, 1));
    assert_eq!((taken.number, taken.tries, taken.interrupted), (1, 1, false));
    assert!(on.take(10).await.is_empty());
    for body in ["first", "second"] {
        let kept = callbacks.body(id.event(), body.into()).await.expect("a body");
        assert_eq!(kept.as_deref(), Some("first"), "{body}");
    }
    assert_eq!(on.record(&taken, DELIVERED).await, Recorded::Kept);
    assert_eq!(on.record(&taken, DELIVERED).await, Recorded::Kept, "recorded again");
    assert_eq!(on.batch(id).await.callback, CallbackState::Delivered);
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert_eq!((view.attempts.len(), view.next_attempt_at), (1, None));
    let end = &view.attempts[0].end;
    assert_eq!((view.attempts[0].number, end.status, end.latency_ms), (1, Some(200), 3));
    assert!(on.take(10).await.is_empty());
    assert_eq!(callbacks.next_due().await.expect("an answer"), None);
    let stats = on.store.reading.stats(&[]).await.expect("figures");
    assert_eq!((stats.callbacks_pending, stats.callbacks_ended["delivered"]), (0, 1));
}

pub(super) async fn an_event_waits_for_its_next_attempt(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let taken = on.take_one().await;
    on.record(&taken, Verdict::Again(Duration::from_mins(1))).await;
    assert!(on.take(10).await.is_empty());
    let due = on.store.callbacks.next_due().await.expect("an answer").expect("an event");
    assert!(due <= Duration::from_mins(1), "{due:?}");
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert!(view.next_attempt_at.is_some());
    on.raw.events_come_due().await;
    let taken = on.take_one().await;
    assert_eq!((taken.number, taken.tries), (2, 2));
}

pub(super) async fn an_interrupted_attempt_is_handed_out_to_be_recorded(on: Fixture) {
    let id = on.accept(&[], 1).await;
    on.take_one().await;
    on.raw.lapse_attempts().await;
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert_eq!(view.attempts[0].end, AttemptEnd::interrupted());
    let again = on.take_one().await;
    assert_eq!((again.number, again.tries, again.interrupted), (1, 1, true));
    assert!(on.take(10).await.is_empty(), "its new lease runs");
    on.record_with(&again, AGAIN, HostSign::None).await;
    let next = on.take_one().await;
    assert_eq!((next.number, next.tries, next.interrupted), (2, 2, false));
    let view = on.store.reading.attempts(ACCOUNT, id).await.expect("a read").expect("the batch");
    assert_eq!(view.attempts.len(), 2);
    assert_eq!(view.attempts[1].end, AttemptEnd::default(), "it is under way");
}

pub(super) async fn a_late_record_changes_nothing(on: Fixture) {
    let id = on.accept(&[], 1).await;
    let first = on.take_one().await;
    on.raw.lapse_attempts().await;
    let again = on.take_one().await;
    on.record_with(&again, AGAIN, HostSign::None).await;
    let second = on.take_one().await;
    let exhausted = Verdict::Ended(CallbackState::Exhausted);
    assert_eq!(on.record(&first, exhausted).await, Recorded::Lost);
    assert_eq!(on.batch(id).await.callback, CallbackState::Pending);
    assert_eq!(on.record(&second, DELIVERED).await, Recorded::Kept);
    assert_eq!(on.batch(id).await.callback, CallbackState::Delivered);
}

pub(super) async fn a_host_gets_so_many_at_once_and_the_others_theirs(on: Fixture) {
    for _ in 0..10 {
        on.over(HOST).await;
    }
    let other = on.over("b.example:80").await;
    let taken = on.take(100).await;
    let at_once = RULES.hosts.at_once as usize;
    assert_eq!(taken.len(), at_once + 1);
    assert!(taken.iter().any(|event| event.batch.id == other));
    assert!(on.take(100).await.is_empty());
    let mine: Vec<_> = taken.iter().filter(|event| event.batch.id != other).collect();
    on.record(mine[0], DELIVERED).await;
    on.record(mine[1], AGAIN).await;
    assert_eq!(on.take(100).await.len(), 2, "two places are free");
    // Leases that ran out keep their places until they are recorded.
    on.raw.lapse_attempts().await;
    let taken = on.take(100).await;
    assert_eq!(taken.len(), at_once + 1);
    assert!(taken.iter().all(|event| event.interrupted));
}

pub(super) async fn events_whose_batches_are_lost_keep_no_place_of_their_host(on: Fixture) {
    for _ in 0..RULES.hosts.at_once {
        let id = on.over(HOST).await;
        on.raw.lose_batch(id).await;
        assert!(on.store.reading.batch(ACCOUNT, id).await.expect("a read").is_none());
    }
    assert!(on.take(100).await.is_empty());
    let whole = on.over(HOST).await;
    assert_eq!(on.take_one().await.batch.id, whole);
    let stats = on.store.reading.stats(&[]).await.expect("figures");
    let given_up = stats.callbacks_ended["exhausted"];
    assert_eq!((stats.callbacks_pending, given_up), (1, u64::from(RULES.hosts.at_once)));
}

pub(super) async fn many_events_of_one_host_hide_no_other(on: Fixture) {
    for _ in 0..60 {
        on.over(HOST).await;
    }
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(on.over("b.example:80").await);
    }
    let taken = on.take(8).await;
    assert_eq!(taken.iter().filter(|event| live.contains(&event.batch.id)).count(), 3);
}

pub(super) async fn a_silent_host_is_left_alone_then_tried_with_one(on: Fixture) {
    for _ in 0..6 {
        on.over(HOST).await;
    }
    let taken = on.take(100).await;
    let mut signs = Vec::new();
    for event in &taken {
        signs.push(on.record_with(event, AGAIN, HostSign::Silent).await);
    }
    assert_eq!(signs, [Recorded::Kept, Recorded::Kept, Recorded::HostLeftAlone, Recorded::Kept]);
    assert!(on.take(100).await.is_empty(), "it is left alone");
    let other = on.over("b.example:80").await;
    assert_eq!(on.take_one().await.batch.id, other);
    let due = on.store.callbacks.next_due().await.expect("an answer").expect("events");
    assert!(due <= RULES.hosts.left_alone);

    on.raw.events_come_due().await;
    let probe = on.take_one().await;
    assert!(on.take(100).await.is_empty(), "one at a time");
    assert_eq!(on.record_with(&probe, AGAIN, HostSign::Silent).await, Recorded::Kept);
    assert!(on.take(100).await.is_empty(), "left alone again");

    on.raw.events_come_due().await;
    let probe = on.take_one().await;
    assert_eq!(on.record(&probe, DELIVERED).await, Recorded::HostBack);
    let taken = on.take(100).await;
    assert_eq!(taken.len(), RULES.hosts.at_once as usize);
    assert!(taken.iter().all(|event| event.tries <= 3), "who waited used up nothing");
}

pub(super) async fn an_answer_ends_a_row_of_silences(on: Fixture) {
    for _ in 0..4 {
        on.over(HOST).await;
    }
    let taken = on.take(100).await;
    for (event, sign) in
        taken.iter().zip([HostSign::Silent, HostSign::Silent, HostSign::Answered, HostSign::Silent])
    {
        assert_eq!(on.record_with(event, AGAIN, sign).await, Recorded::Kept);
    }
    assert_eq!(on.take(100).await.len(), 4);
}

pub(super) async fn a_welcome_is_kept_for_its_account_and_host(on: Fixture) {
    let callbacks = &on.store.callbacks;
    assert!(!callbacks.is_welcome(ACCOUNT, HOST).await.expect("an answer"));
    callbacks.welcome(ACCOUNT, HOST).await.expect("kept");
    callbacks.welcome(ACCOUNT, HOST).await.expect("kept again");
    assert!(callbacks.is_welcome(ACCOUNT, HOST).await.expect("an answer"));
    assert!(!callbacks.is_welcome("other", HOST).await.expect("an answer"));
    assert!(!callbacks.is_welcome(ACCOUNT, "a.example:80").await.expect("an answer"));
}

pub(super) async fn nothing_is_erased_because_the_clock_was_set_back(on: Fixture) {
    let id = on.accept_draft(&on.draft(false), &[], 1).await;
    on.raw.step_clock_back(RETENTION_MAX).await;
    assert_eq!(on.sweep().await.batches_purged, 0);
    assert!(on.batch(id).await.is_over());
    // Further ahead than any step that is meant: it would be kept for ever.
    on.raw.step_clock_back(RETENTION_MAX).await;
    assert_eq!(on.sweep().await.batches_purged, 1);
}

pub(super) async fn what_was_kept_long_enough_is_erased_to_the_last_key(on: Fixture) {
    let before = on.raw.contents().await;
    let draft = on.keyed("k");
    on.accept_draft(&draft, &THREE, 1).await;
    while let Some(claimed) = on.claim().await {
        on.settle(&all_sent(&claimed)).await;
    }
    on.end_callback(draft.id, CallbackState::Gone).await;
    assert_eq!(on.sweep().await.batches_purged, 0, "erased too early");
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(on.store.reading.batch(ACCOUNT, draft.id).await.expect("a read").is_none());
    // Whoever has read the event before that comes too late with its body.
    let body = on.store.callbacks.body(draft.id.event(), "late".into()).await.expect("an answer");
    assert_eq!(body, None);
    assert_eq!(on.raw.contents().await, before, "something was left behind");
    on.open(&on.keyed("k")).await;
}
