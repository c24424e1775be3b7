//! What the notifiers do, and what becomes of a batch once its client knows.

use std::time::Duration;

use ringback::{
    domain::batch::CallbackState,
    store::{Attempt, AttemptEnd, Verdict},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, all_sent};

pub(super) async fn an_event_is_taken_once_and_recorded(on: Fixture) {
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

pub(super) async fn an_interrupted_attempt_uses_up_its_number(on: Fixture) {
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

pub(super) async fn a_late_record_changes_nothing(on: Fixture) {
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

pub(super) async fn what_was_kept_long_enough_is_erased_to_the_last_key(on: Fixture) {
    let before = on.raw.contents().await;
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
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(on.store.reading.batch(ACCOUNT, draft.id).await.expect("a read").is_none());
    assert_eq!(on.raw.contents().await, before, "something was left behind");
    on.open(&on.keyed("k")).await;
}
