//! What the API writes: uploads, which are sealed or leave nothing.

use ringback::{
    domain::{batch::BatchState, message::FinalState},
    store::{IntakeError, Opened},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, chunks, seal_of};

pub(super) async fn an_empty_batch_completes_when_it_is_sealed(on: Fixture) {
    let id = on.accept(&[], 2).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.total), (BatchState::Completed, 0));
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_batch_of_invalid_numbers_completes_when_it_is_sealed(on: Fixture) {
    let id = on.accept(&["nobody", "+0", ""], 2).await;
    let batch = on.batch(id).await;
    assert_eq!((batch.state, batch.counts.ended[FinalState::Failed]), (BatchState::Completed, 3));
    assert_eq!(on.raw.events(id).await, 1);
    assert!(on.claim().await.is_none());
}

pub(super) async fn nothing_is_claimed_before_the_seal(on: Fixture) {
    let draft = on.draft(true);
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 2)).await.expect("an append");
    assert!(on.claim().await.is_none());
    assert_eq!(on.batch(draft.id).await.state, BatchState::Receiving);
}

pub(super) async fn a_seal_with_chunks_missing_is_refused(on: Fixture) {
    let draft = on.draft(true);
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 2)[..1]).await.expect("an append");
    let sealed = on.store.intake.seal(&upload, &seal_of(2)).await;
    assert!(matches!(sealed, Err(IntakeError::Gone)), "{sealed:?}");
    assert!(on.claim().await.is_none());
}

pub(super) async fn an_upload_that_stopped_vanishes_and_frees_its_key(on: Fixture) {
    let before = on.raw.contents().await;
    let draft = on.keyed("k");
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 1)).await.expect("an append");
    on.raw.lapse_uploads().await;
    assert_eq!(on.sweep().await.uploads_dropped, 1);

    let late = on.store.intake.append(&upload, &chunks(&THREE, 1)).await;
    assert!(matches!(late, Err(IntakeError::Gone)), "{late:?}");
    let sealed = on.store.intake.seal(&upload, &seal_of(3)).await;
    assert!(matches!(sealed, Err(IntakeError::Gone)), "{sealed:?}");
    assert!(on.store.reading.batch(ACCOUNT, draft.id).await.expect("a read").is_none());
    assert_eq!(on.raw.contents().await, before, "something was left behind");
    on.open(&on.keyed("k")).await;
}

pub(super) async fn an_abandoned_upload_frees_its_key(on: Fixture) {
    let upload = on.open(&on.keyed("k")).await;
    on.store.intake.abandon(&upload).await.expect("abandoned");
    on.open(&on.keyed("k")).await;
}

pub(super) async fn one_key_is_one_batch(on: Fixture) {
    let first = on.keyed("k");
    let upload = on.open(&first).await;
    assert_eq!(on.store.intake.open(&first).await.expect("again"), Opened::New(upload));
    assert_eq!(on.store.intake.open(&on.keyed("k")).await.expect("other"), Opened::UnderWay);
    on.store.intake.seal(&upload, &seal_of(0)).await.expect("a seal");
    on.store.intake.seal(&upload, &seal_of(0)).await.expect("the same seal again");
    let replayed = Opened::Replayed { id: first.id, body_hash: [7; 32] };
    assert_eq!(on.store.intake.open(&on.keyed("k")).await.expect("repeat"), replayed);

    let mut elsewhere = on.keyed("k");
    elsewhere.spec.account = "other".into();
    on.open(&elsewhere).await;
}
