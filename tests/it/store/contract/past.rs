//! What lost leases leave behind: marks, losses, suspects, and doubt.

use ringback::{
    domain::{
        batch::{BatchSpec, DeliveryGuarantee},
        ids::BatchId,
        message::FinalState,
        past::{Mark, Past, Suspect},
    },
    store::{Claimed, Draft, Release, Settled, Settlement, Wish},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, all_sent, changes, settlement, waiting};

async fn accept_at_most_once(on: &Fixture) -> BatchId {
    let guarantee = DeliveryGuarantee::AtMostOnce;
    let spec = BatchSpec { guarantee, ..on.spec(true) };
    on.accept_draft(&Draft { spec, ..on.draft(true) }, &THREE, 3).await
}

async fn claimed(on: &Fixture) -> Claimed {
    on.claim().await.expect("a chunk")
}

/// Every lease is lost, and the chunk claimed again.
async fn lost(on: &Fixture) -> Claimed {
    on.raw.lapse_leases().await;
    assert_eq!(on.sweep().await.leases_lost, 1);
    claimed(on).await
}

/// The first `upto` messages are started.
fn marking(claimed: &Claimed, sequence: u32, upto: u32) -> Settlement {
    let mark = Some(Mark { upto, claimed_at: claimed.now });
    Settlement { sequence, mark, ..settlement(claimed) }
}

async fn mark(on: &Fixture, claimed: &Claimed, sequence: u32, upto: u32) {
    assert_eq!(on.settle(&marking(claimed, sequence, upto)).await, Settled::Applied(Wish::Go));
}

pub(super) async fn a_mark_outlives_its_lease_and_ends_with_the_next_ones_first_word(on: Fixture) {
    let id = accept_at_most_once(&on).await;
    let first = claimed(&on).await;
    assert_eq!(first.past, Past::default());
    mark(&on, &first, 1, 1).await;
    mark(&on, &first, 2, 2).await;
    let stands = Past { mark: Some(Mark { upto: 2, claimed_at: first.now }), ..Past::default() };
    let second = lost(&on).await;
    assert_eq!(second.past, stands);
    // Who is lost before saying anything changes nothing.
    let third = lost(&on).await;
    assert_eq!(third.past, stands);
    assert_eq!(on.settle(&marking(&second, 1, 3)).await, Settled::Lost);
    let ended = [(0, FinalState::Unknown), (1, FinalState::Unknown)];
    let word = Settlement { changes: changes(&ended), ..settlement(&third) };
    on.settle(&word).await;
    let fourth = lost(&on).await;
    assert_eq!(fourth.past, Past::default());
    on.settle(&all_sent(&fourth)).await;
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.ended[FinalState::Unknown], counts.ended[FinalState::Sent]), (2, 1));
}

pub(super) async fn who_lets_go_takes_the_mark_away(on: Fixture) {
    accept_at_most_once(&on).await;
    let first = claimed(&on).await;
    mark(&on, &first, 1, 3).await;
    let unsent = Settlement { sequence: 2, release: Some(Release::Now), ..settlement(&first) };
    on.settle(&unsent).await;
    assert_eq!(claimed(&on).await.past, Past::default());
}

pub(super) async fn losses_in_a_row_are_counted_until_there_is_progress(on: Fixture) {
    on.accept(&THREE, 3).await;
    claimed(&on).await;
    assert_eq!(lost(&on).await.past.losses, Some(1));
    let third = lost(&on).await;
    assert_eq!(third.past.losses, Some(2));
    on.settle(&Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&third) })
        .await;
    assert_eq!(lost(&on).await.past.losses, Some(1));
    lost(&on).await;
    let careful = lost(&on).await;
    assert!(careful.past.needs_care(), "{:?}", careful.past);
    // Progress does not end the care.
    on.settle(&Settlement { waiting: vec![waiting(1, 1)], ..settlement(&careful) }).await;
    assert_eq!(lost(&on).await.past.losses, Some(4));
}

pub(super) async fn who_is_started_alone_and_lost_is_a_suspect(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    claimed(&on).await;
    for _ in 0..3 {
        lost(&on).await;
    }
    on.raw.lapse_leases().await;
    on.sweep().await;
    for starts in 1..=3 {
        let claimed = claimed(&on).await;
        mark(&on, &claimed, 1, 2).await;
        on.raw.lapse_leases().await;
        on.sweep().await;
        let again = on.claim().await.expect("the chunk again");
        assert_eq!(again.past.suspect, Some(Suspect { place: 1, starts }));
        assert_eq!(again.past.mark, None);
        let back = Settlement { release: Some(Release::Now), ..settlement(&again) };
        on.settle(&back).await;
    }
    let last = claimed(&on).await;
    assert_eq!(last.past.poison(), Some(1));
    on.settle(&all_sent(&last)).await;
    assert!(on.batch(id).await.completed_at.is_some());
}

pub(super) async fn what_was_marked_is_unknown_when_the_batch_closes(on: Fixture) {
    // Whether the lease is lost before the cancel, or after it.
    for cancel_first in [true, false] {
        let id = accept_at_most_once(&on).await;
        let first = claimed(&on).await;
        mark(&on, &first, 1, 2).await;
        if cancel_first {
            on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
        }
        on.raw.lapse_leases().await;
        on.sweep().await;
        if !cancel_first {
            on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
            on.sweep().await;
        }
        let counts = on.batch(id).await.counts;
        let ended = [FinalState::Unknown, FinalState::Canceled].map(|state| counts.ended[state]);
        assert_eq!(ended, [2, 1], "cancel first: {cancel_first}");
        assert_eq!(on.raw.events(id).await, 1);
    }
}

pub(super) async fn a_lost_chunk_that_came_back_is_in_doubt_when_the_batch_closes(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let first = claimed(&on).await;
    on.settle(&Settlement { changes: changes(&[(1, FinalState::Sent)]), ..settlement(&first) })
        .await;
    on.raw.lapse_leases().await;
    on.sweep().await;
    on.store.intake.cancel(ACCOUNT, id).await.expect("canceled");
    on.sweep().await;
    let counts = on.batch(id).await.counts;
    let ended = [FinalState::Sent, FinalState::Unknown].map(|state| counts.ended[state]);
    assert_eq!(ended, [1, 2]);
}
