//! How many recipients an account has had in a day.

use std::time::Duration;

use futures_util::future::join_all;
use ringback::{
    domain::batch::BatchState,
    store::{Day, DayShare, Draft, IntakeError, Seal},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, chunks, seal_of};

/// The seal of a batch of so many recipients in one chunk, whose account may have so many a day.
fn share(recipients: u64, recipients_max: u64) -> Seal {
    let account = ACCOUNT.to_owned();
    Seal { day: Some(DayShare { account, recipients, recipients_max }), ..seal_of(1) }
}

/// Uploads a batch to the first so many of three recipients, and seals it.
async fn sealed(on: &Fixture, draft: &Draft, recipients: u64, max: u64) -> Result<(), IntakeError> {
    let upload = on.open(draft).await;
    let to = &THREE[..usize::try_from(recipients).expect("a few")];
    on.store.intake.append(&upload, &chunks(to, 3)).await.expect("an append");
    on.store.intake.seal(&upload, &share(recipients, max)).await
}

async fn counted(on: &Fixture, account: &str) -> u64 {
    let Day { recipients, left } = on.store.intake.day(account).await.expect("a day");
    assert!(left > Duration::ZERO && left <= Duration::from_hours(24), "{left:?}");
    recipients
}

pub(super) async fn a_day_has_room_for_so_many_recipients(on: Fixture) {
    assert_eq!(counted(&on, ACCOUNT).await, 0);
    sealed(&on, &on.draft(true), 3, 5).await.expect("the first");
    let draft = on.keyed("k");
    match sealed(&on, &draft, 3, 5).await {
        Err(IntakeError::DayFull(day)) => assert_eq!(day.recipients, 3),
        other => panic!("{other:?}"),
    }
    // It is as open as it was, and can be given up.
    assert_eq!(on.batch(draft.id).await.state, BatchState::Receiving);
    assert!(on.claim().await.is_some() && on.claim().await.is_none(), "it was begun on");
    let upload = on.open(&draft).await;
    on.store.intake.abandon(&upload).await.expect("abandoned");
    sealed(&on, &on.keyed("k"), 2, 5).await.expect("what there is room for");
    assert_eq!(counted(&on, ACCOUNT).await, 5);
    assert!(matches!(sealed(&on, &on.draft(true), 1, 5).await, Err(IntakeError::DayFull(_))));
    assert_eq!((counted(&on, ACCOUNT).await, counted(&on, "other").await), (5, 0));
    // What may be had counts, not what could be had when the others were counted.
    sealed(&on, &on.draft(true), 1, 6).await.expect("a higher limit");
}

pub(super) async fn a_batch_is_counted_once_however_often_it_is_sealed(on: Fixture) {
    let upload = on.open(&on.draft(true)).await;
    on.store.intake.append(&upload, &chunks(&THREE, 3)).await.expect("an append");
    let (one, two) = (share(3, 3), share(3, 3));
    let both =
        tokio::join!(on.store.intake.seal(&upload, &one), on.store.intake.seal(&upload, &two),);
    assert!(matches!(both, (Ok(()), Ok(()))), "{both:?}");
    on.store.intake.seal(&upload, &one).await.expect("the same seal again");
    assert_eq!(counted(&on, ACCOUNT).await, 3);
}

pub(super) async fn a_batch_that_is_not_accepted_is_not_counted(on: Fixture) {
    let upload = on.open(&on.draft(true)).await;
    // Its chunk is missing.
    let refused = on.store.intake.seal(&upload, &share(3, 5)).await;
    assert!(matches!(refused, Err(IntakeError::Gone)), "{refused:?}");
    assert_eq!(counted(&on, ACCOUNT).await, 0);
    on.store.intake.append(&upload, &chunks(&THREE, 3)).await.expect("an append");
    on.store.intake.seal(&upload, &share(3, 5)).await.expect("a seal");
    assert_eq!(counted(&on, ACCOUNT).await, 3);
}

pub(super) async fn the_next_day_begins_anew(on: Fixture) {
    sealed(&on, &on.draft(true), 3, 3).await.expect("the first");
    assert!(matches!(sealed(&on, &on.draft(true), 1, 3).await, Err(IntakeError::DayFull(_))));
    on.raw.end_the_day().await;
    assert_eq!(counted(&on, ACCOUNT).await, 0);
    sealed(&on, &on.draft(true), 2, 3).await.expect("the next day");
    let on = on.reopened().await;
    assert_eq!(counted(&on, ACCOUNT).await, 2);
}

pub(super) async fn many_at_once_take_no_more_than_the_day_has(on: Fixture) {
    let drafts: Vec<_> = (0..20).map(|_| on.draft(true)).collect();
    let all = drafts.iter().map(|draft| sealed(&on, draft, 3, 30));
    let ended = join_all(all).await;
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 10);
    assert_eq!(counted(&on, ACCOUNT).await, 30);
}
