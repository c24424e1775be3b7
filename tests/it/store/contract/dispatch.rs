//! What the workers do: claims, leases and settlements.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ringback::{
    domain::{
        batch::{BatchState, Priority},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{Holding, Release, Settled, Settlement, Standing, Wish},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, all_sent, changes, settlement, waiting};

pub(super) async fn a_batch_is_claimed_settled_and_completed_with_one_event(on: Fixture) {
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

    assert_eq!(on.settle(&all_sent(&first)).await, Settled::Done);
    assert_eq!(on.raw.events(id).await, 0, "an event before the end");
    assert_eq!(on.settle(&all_sent(&second)).await, Settled::Completed);

    let done = on.batch(id).await;
    assert_eq!((done.state, done.counts.ended[FinalState::Sent]), (BatchState::Completed, 3));
    assert_eq!((done.counts.sending, done.counts.queued()), (0, 0));
    assert!(done.completed_at.is_some());
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_chunk_of_invalid_numbers_is_passed_over(on: Fixture) {
    let id = on.accept(&["nobody", "no one", "+15551230001"], 2).await;
    let claimed = on.claim().await.expect("the chunk with a number");
    assert_eq!(claimed.chunk, 1);
    on.settle(&all_sent(&claimed)).await;
    let counts = on.batch(id).await.counts;
    assert_eq!((counts.ended[FinalState::Failed], counts.ended[FinalState::Sent]), (2, 1));
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn the_same_claim_again_gives_the_same_chunk(on: Fixture) {
    on.accept(&THREE, 1).await;
    let claimed = on.claim_with(42).await.expect("a chunk");
    let again = on.claim_with(42).await.expect("the same chunk");
    assert_eq!((again.chunk, &again.token), (claimed.chunk, &claimed.token));
    let other = on.claim_with(43).await.expect("another chunk");
    assert_ne!(other.chunk, claimed.chunk);
    assert_ne!(other.token, claimed.token);
}

pub(super) async fn the_same_settlement_again_changes_nothing(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let one = Settlement {
        changes: changes(&[(1, FinalState::Sent)]),
        log: b"once".to_vec().into(),
        ..settlement(&claimed)
    };
    assert_eq!(on.settle(&one).await, Settled::Applied(Wish::Go));
    let after = (on.batch(id).await, on.raw.contents().await);
    assert_eq!(on.settle(&one).await, Settled::Applied(Wish::Go));
    assert_eq!((on.batch(id).await, on.raw.contents().await), after);
    assert_eq!(after.0.counts.ended[FinalState::Sent], 1);
    assert_eq!(after.0.counts.sending, 2);
}

pub(super) async fn the_last_settlement_again_is_still_done(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Completed);
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Done);
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 3);
}

pub(super) async fn a_settlement_out_of_order_is_told_what_is_missing(on: Fixture) {
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

pub(super) async fn a_stale_token_changes_nothing(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let stale = on.claim().await.expect("a chunk");
    on.raw.lapse_leases().await;
    assert_eq!(on.sweep().await.leases_lost, 1);
    let after = on.batch(id).await;
    assert_eq!(on.settle(&all_sent(&stale)).await, Settled::Lost);
    let fresh = on.claim().await.expect("the chunk again");
    assert_eq!(on.settle(&all_sent(&stale)).await, Settled::Lost);
    assert_eq!(after.counts.ended.sum(), 0);
    assert_eq!(on.batch(id).await.counts.ended.sum(), 0);
    assert_eq!(on.settle(&all_sent(&fresh)).await, Settled::Completed);
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_final_state_is_never_overwritten(on: Fixture) {
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

pub(super) async fn a_lease_that_ran_out_is_claimed_by_another(on: Fixture) {
    let id = on.accept(&THREE, 3).await;
    let first = on.claim().await.expect("a chunk");
    let one = Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&first) };
    on.settle(&one).await;
    on.raw.lapse_leases().await;
    on.sweep().await;
    assert_eq!(on.batch(id).await.counts.queued(), 2);
    let second = on.claim().await.expect("the chunk again");
    assert_eq!(second.chunk, first.chunk);
    assert_eq!(&second.states[..], [1, 0, 0], "what was settled is not sent again");
    on.settle(&all_sent(&second)).await;
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 3);
}

pub(super) async fn a_lease_is_kept_by_its_heartbeat(on: Fixture) {
    on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let holding =
        Holding { batch: claimed.batch, chunk: claimed.chunk, token: claimed.token.clone() };
    on.raw.lapse_leases().await;
    let held = on.store.dispatch.hold(std::slice::from_ref(&holding)).await.expect("held");
    assert_eq!(held, [Standing::Held(Wish::Go)]);
    assert_eq!(on.sweep().await.leases_lost, 0);
    on.raw.lapse_leases().await;
    on.sweep().await;
    let lost = on.store.dispatch.hold(&[holding]).await.expect("an answer");
    assert_eq!(lost, [Standing::Lost]);
}

pub(super) async fn a_waiting_message_is_parked_until_it_is_due(on: Fixture) {
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
    on.raw.come_due(id).await;
    assert_eq!(on.sweep().await.batches_due, 1);
    let again = on.claim().await.expect("the parked chunk");
    assert_eq!(again.waiting.len(), 1);
    assert_eq!((again.waiting[0].0, again.waiting[0].1.attempts), (1, 4));
    assert_eq!(on.settle(&all_sent(&again)).await, Settled::Completed);
}

pub(super) async fn what_is_unsent_can_be_claimed_again_at_once(on: Fixture) {
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

pub(super) async fn accounts_take_turns_then_their_batches(on: Fixture) {
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

/// Claims `turns` chunks, and gives how many of them were of each batch.
async fn turns_of(on: &Fixture, ids: &[BatchId], turns: usize) -> Vec<usize> {
    let mut had = vec![0; ids.len()];
    for _ in 0..turns {
        let claimed = on.claim().await.expect("a chunk");
        had[ids.iter().position(|id| *id == claimed.batch).expect("one of ours")] += 1;
    }
    had
}

async fn accept_as(on: &Fixture, priority: Priority) -> BatchId {
    let mut draft = on.draft(false);
    draft.spec.priority = priority;
    on.accept_draft(&draft, &["+15551230001"; 60], 1).await
}

pub(super) async fn priorities_share_the_turns_by_weight(on: Fixture) {
    let mut ids = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        ids.push(accept_as(&on, priority).await);
    }
    assert_eq!(turns_of(&on, &ids, 21).await, [1, 4, 16]);
    assert_eq!(turns_of(&on, &ids, 42).await, [2, 8, 32]);
    on.store.intake.pause(ACCOUNT, ids[2]).await.expect("a pause");
    assert_eq!(turns_of(&on, &ids, 25).await, [5, 20, 0]);
}

pub(super) async fn a_priority_saves_up_no_turns(on: Fixture) {
    let low = accept_as(&on, Priority::Low).await;
    let normal = accept_as(&on, Priority::Normal).await;
    turns_of(&on, &[low, normal], 40).await;
    let high = accept_as(&on, Priority::High).await;
    assert_eq!(on.claim().await.expect("a chunk").batch, high, "the most urgent one waits");
    let had = turns_of(&on, &[low, normal, high], 20).await;
    assert!(had[2] >= 15 && had[2] <= 16, "high had {had:?}");
}

pub(super) async fn many_workers_at_once_keep_the_counts_right(on: Fixture) {
    const WORKERS: usize = 8;
    const CHUNKS: usize = 40;
    let on = Arc::new(on);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(on.accept(&["+15551230001"; 4 * CHUNKS], 4).await);
    }
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work(Arc::clone(&on)))).collect();
    let (mut chunks, mut completed) = (Vec::new(), Vec::new());
    for worker in workers {
        let done = worker.await.expect("a worker that works");
        chunks.extend(done.0);
        completed.extend(done.1);
    }
    assert_eq!(chunks.len(), ids.len() * CHUNKS);
    assert_eq!(chunks.iter().collect::<HashSet<_>>().len(), chunks.len(), "claimed twice");
    assert_eq!(completed.len(), ids.len(), "completed twice");
    for id in ids {
        let batch = on.batch(id).await;
        assert_eq!(batch.state, BatchState::Completed);
        assert_eq!(batch.counts.ended[FinalState::Sent], CHUNKS as u64);
        assert_eq!(batch.counts.ended[FinalState::Failed], 3 * CHUNKS as u64);
        assert_eq!((batch.counts.queued(), batch.counts.sending), (0, 0));
        assert_eq!(on.raw.events(id).await, 1);
    }
}

/// Claims all there is, and settles each chunk in two settlements and one that repeats the first.
/// Gives the chunks, and the batches that it completed.
async fn work(on: Arc<Fixture>) -> (Vec<(BatchId, u32)>, Vec<BatchId>) {
    let (mut chunks, mut completed) = (Vec::new(), Vec::new());
    while let Some(claimed) = on.claim().await {
        let one = Settlement { changes: changes(&[(1, FinalState::Sent)]), ..settlement(&claimed) };
        let ended = [0, 1, 2, 3].map(|place| (place, FinalState::Failed));
        let (changes, release) = (changes(&ended), Some(Release::Now));
        let rest = Settlement { sequence: 2, changes, release, ..settlement(&claimed) };
        for one in [&one, &one] {
            assert_eq!(on.settle(one).await, Settled::Applied(Wish::Go));
        }
        match on.settle(&rest).await {
            Settled::Completed => completed.push(claimed.batch),
            settled => assert_eq!(settled, Settled::Done),
        }
        chunks.push((claimed.batch, claimed.chunk));
    }
    (chunks, completed)
}

pub(super) async fn a_shorter_lease_elsewhere_takes_nothing_from_a_longer_one(on: Fixture) {
    on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let hasty = on.with_lease(Duration::from_secs(1)).await;
    assert_eq!(hasty.sweep().await.expect("a sweep").leases_lost, 0);
    assert_eq!(on.settle(&all_sent(&claimed)).await, Settled::Completed);
}
