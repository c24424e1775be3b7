//! Events: those that are told besides the completion, how they are read, and how they are
//! delivered again.

use std::time::Duration;

use ringback::{
    domain::{
        batch::{BatchSpec, CallbackSpec, CallbackState, Pace, Wanted},
        event::Occurrence,
        ids::{BatchId, EventId},
        message::FinalState,
        time::UnixMs,
    },
    store::{Draft, EventFilter, EventView, Recorded, ReplayError, ReplayOrder, Verdict},
};

use super::THREE;
use crate::{
    harness::{PATIENCE, eventually},
    store::fixture::{
        ACCOUNT, Fixture, HOST, all_sent, callback_to, changes, fresh_id, settlement,
    },
};

const AGAIN: Verdict = Verdict::Again(Duration::ZERO);
const DELIVERED: Verdict = Verdict::Ended(CallbackState::Delivered);
const TEN: [&str; 10] = ["+15551230001"; 10];

fn wanting(events: Wanted) -> CallbackSpec {
    CallbackSpec { events, ..callback_to(HOST) }
}

fn every_half() -> CallbackSpec {
    wanting(Wanted { progress: Some(Pace::Percent(50)), ..Wanted::default() })
}

impl Fixture {
    /// Sends the next `chunks` chunks.
    async fn send(&self, chunks: usize) {
        for _ in 0..chunks {
            let claimed = self.claim().await.expect("a chunk");
            self.settle(&all_sent(&claimed)).await;
        }
    }

    async fn feed(&self, after: Option<EventId>, limit: usize) -> Vec<EventId> {
        let views = self.store.reading.events_after(ACCOUNT, after, limit).await;
        ids(&views.expect("a read").expect("a known event"))
    }

    async fn events(&self, filter: &EventFilter) -> Vec<EventView> {
        let events = self.store.reading.events(ACCOUNT, filter, None, 1_000).await;
        events.expect("a read").expect("no cursor").0
    }

    async fn order(&self, order: &ReplayOrder) -> u64 {
        self.store.intake.order_replay(ACCOUNT, order).await.expect("an order");
        self.sweep().await.events_replayed
    }
}

fn ids(views: &[EventView]) -> Vec<EventId> {
    views.iter().map(|view| view.event.id).collect()
}

fn exhausted_since(since: UnixMs) -> ReplayOrder {
    ReplayOrder { nonce: rand::random(), state: CallbackState::Exhausted, since, host: None }
}

pub(super) async fn the_dispatch_is_told_before_the_completion(on: Fixture) {
    let wanted = Wanted { dispatched: true, ..Wanted::default() };
    let id = on.accept_draft(&on.draft_with(wanting(wanted)), &THREE, 2).await;
    on.send(1).await;
    assert!(on.take(10).await.is_empty());
    on.send(1).await;
    let mut taken = on.take(10).await;
    taken.sort_by_key(|event| event.event.sequence);
    let [dispatched, completed] = &taken[..] else { panic!("{taken:?}") };
    let Occurrence::Dispatched(counts) = dispatched.event.what else { panic!("{dispatched:?}") };
    assert_eq!((counts.total, counts.sending, counts.ended[FinalState::Sent]), (3, 0, 3));
    assert_eq!(dispatched.event.id, id.further_event(1));
    assert_eq!((completed.event.what, completed.event.sequence), (Occurrence::Completed, 2));
}

pub(super) async fn progress_is_told_one_at_a_time_and_the_completion_last(on: Fixture) {
    let id = on.accept_draft(&on.draft_with(every_half()), &TEN, 1).await;
    on.send(4).await;
    assert!(on.take(10).await.is_empty());
    on.send(1).await;
    let half = on.take_one().await;
    let Occurrence::Progress(counts) = half.event.what else { panic!("{half:?}") };
    assert_eq!((counts.total, counts.ended.sum(), counts.queued()), (10, 5, 5));
    on.send(5).await;
    assert!(on.batch(id).await.is_over());
    assert!(on.take(10).await.is_empty(), "the completion waits for the report under way");
    let skipped = Verdict::Ended(CallbackState::Skipped);
    assert_eq!(on.record(&half, skipped).await, Recorded::Kept);
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
}

pub(super) async fn a_replay_does_not_overtake_the_report_under_way(on: Fixture) {
    let id = on.accept_draft(&on.draft_with(every_half()), &TEN, 1).await;
    on.send(5).await;
    let half = on.take_one().await;
    on.send(5).await;
    on.store.intake.replay(ACCOUNT, id).await.expect("a replay");
    assert!(on.take(10).await.is_empty(), "the completion waits all the same");
    on.record(&half, DELIVERED).await;
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
}

pub(super) async fn a_report_of_progress_is_not_replayed(on: Fixture) {
    on.accept_draft(&on.draft_with(every_half()), &TEN, 1).await;
    on.send(5).await;
    on.record(&on.take_one().await, Verdict::Ended(CallbackState::Gone)).await;
    on.send(5).await;
    on.record(&on.take_one().await, Verdict::Ended(CallbackState::Gone)).await;
    let gone = ReplayOrder { state: CallbackState::Gone, ..exhausted_since(UnixMs(0)) };
    assert_eq!(on.order(&gone).await, 1);
    assert_eq!(on.take_one().await.event.what, Occurrence::Completed);
}

pub(super) async fn the_completion_waits_for_a_report_no_longer_than_its_lease(on: Fixture) {
    let id = on.accept_draft(&on.draft_with(every_half()), &TEN, 1).await;
    on.send(5).await;
    on.take_one().await;
    on.send(5).await;
    on.raw.lapse_attempts().await;
    on.raw.events_come_due().await;
    let taken = on.take(10).await;
    assert!(taken.iter().any(|event| event.event.id == id.event()), "{taken:?}");
    assert!(taken.iter().any(|event| event.interrupted), "{taken:?}");
}

pub(super) async fn a_report_that_waits_at_the_end_is_given_up(on: Fixture) {
    let id = on.accept_draft(&on.draft_with(every_half()), &TEN, 1).await;
    on.send(10).await;
    let taken = on.take_one().await;
    assert_eq!((taken.event.what, taken.event.sequence), (Occurrence::Completed, 2));
    on.record(&taken, DELIVERED).await;
    let skipped = EventFilter { state: Some(CallbackState::Skipped), host: None };
    assert_eq!(ids(&on.events(&skipped).await), [id.further_event(2)]);
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
}

pub(super) async fn progress_by_time_is_told_when_something_changed(on: Fixture) {
    let pace = Some(Pace::Every(1));
    let callback = wanting(Wanted { progress: pace, ..Wanted::default() });
    on.accept_draft(&on.draft_with(callback), &TEN, 1).await;
    for sent in 1..=3 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert!(on.take(10).await.is_empty());
        on.send(1).await;
        let report = on.take_one().await;
        let Occurrence::Progress(counts) = report.event.what else { panic!("{report:?}") };
        assert_eq!(counts.ended.sum(), sent);
        on.record(&report, DELIVERED).await;
    }
}

pub(super) async fn each_failed_message_is_told_once(on: Fixture) {
    let wanted = Wanted { failures: true, ..Wanted::default() };
    let recipients = ["+15551230001", "nobody", "+15551230002", "+15551230003"];
    let id = on.accept_draft(&on.draft_with(wanting(wanted)), &recipients, 2).await;
    on.send(1).await;
    let claimed = on.claim().await.expect("a chunk");
    let ended = changes(&[(0, FinalState::Failed), (1, FinalState::Failed)]);
    let failing = ringback::store::Settlement { changes: ended, ..settlement(&claimed) };
    on.settle(&failing).await;
    on.settle(&failing).await;
    let mut taken = on.take(10).await;
    taken.sort_by_key(|event| event.event.sequence);
    let told: Vec<_> = taken.iter().map(|event| event.event.what).collect();
    let failed = Occurrence::MessageFailed;
    assert_eq!(told, [failed(2), failed(3), Occurrence::Completed]);
    assert_eq!(taken[0].event.id, id.further_event((1 << 32) + 2));
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Failed], 3);
}

pub(super) async fn a_batch_is_kept_until_all_its_events_have_ended(on: Fixture) {
    let before = on.raw.contents().await;
    let wanted = Wanted {
        failures: true,
        dispatched: true,
        progress: Some(Pace::Percent(1)),
        ..Wanted::default()
    };
    let id = on.accept_draft(&on.draft_with(wanting(wanted)), &THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let ended = changes(&[(0, FinalState::Failed), (1, FinalState::Sent), (2, FinalState::Sent)]);
    on.settle(&ringback::store::Settlement { changes: ended, ..settlement(&claimed) }).await;
    assert!(on.claim().await.is_none());
    let taken = on.take(10).await;
    assert_eq!(taken.len(), 3);
    for event in &taken[1..] {
        on.record(event, DELIVERED).await;
    }
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 0, "one is still to be told");
    on.record(&taken[0], Verdict::Ended(CallbackState::Exhausted)).await;
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
    assert!(on.store.reading.batch(ACCOUNT, id).await.expect("a read").is_none());
    assert!(on.feed(None, 10).await.is_empty());
    assert_eq!(on.raw.contents().await, before, "something was left behind");
}

pub(super) async fn a_replay_begins_the_schedule_anew(on: Fixture) {
    let id = on.over(HOST).await;
    let first = on.take_one().await;
    on.store.callbacks.body(id.event(), "the body".into()).await.expect("a body");
    on.record(&first, AGAIN).await;
    let second = on.take_one().await;
    on.record(&second, Verdict::Ended(CallbackState::Exhausted)).await;
    on.store.intake.replay(ACCOUNT, id).await.expect("a replay");
    on.store.intake.replay(ACCOUNT, id).await.expect("the replay again");
    assert_eq!(on.batch(id).await.callback, CallbackState::Pending);
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 0, "it is not kept yet, it is told again");
    let again = on.take_one().await;
    assert_eq!((again.event.id, again.number, again.tries), (id.event(), 3, 1));
    assert_eq!(again.body.as_deref(), Some("the body"));
    assert!(again.age < Duration::from_secs(20));
    on.store.intake.replay(ACCOUNT, id).await.expect("a replay of what is under way");
    on.record(&again, DELIVERED).await;
    assert!(on.take(10).await.is_empty());
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
}

pub(super) async fn what_waits_for_nothing_is_not_held_up_by_a_clock_that_is_set_back(on: Fixture) {
    let again = on.over("b.example:80").await;
    on.end_callback(again, CallbackState::Exhausted).await;
    on.store.intake.replay(ACCOUNT, again).await.expect("a replay");
    let new = on.over(HOST).await;
    for view in on.events(&EventFilter::default()).await {
        let due = view.next_attempt_at.expect("an instant");
        assert!(due >= view.event.at, "{view:?}");
    }
    let attempts = on.store.reading.attempts(ACCOUNT, new).await.expect("a read").expect("a batch");
    assert!(attempts.next_attempt_at >= on.batch(new).await.completed_at, "{attempts:?}");
    on.raw.step_clock_back(Duration::from_hours(2)).await;
    assert_eq!(on.store.callbacks.next_due().await.expect("an answer"), Some(Duration::ZERO));
    let taken = on.take(10).await;
    let mut batches: Vec<_> = taken.iter().map(|event| event.batch.id).collect();
    batches.sort_unstable();
    let mut expected = [again, new];
    expected.sort_unstable();
    assert_eq!(batches, expected);
}

pub(super) async fn a_replay_of_what_waits_comes_at_once(on: Fixture) {
    let id = on.over(HOST).await;
    let taken = on.take_one().await;
    on.record(&taken, Verdict::Again(Duration::from_hours(6))).await;
    on.store.intake.replay(ACCOUNT, id).await.expect("a replay");
    let again = on.take_one().await;
    assert_eq!((again.number, again.tries), (2, 1));
}

pub(super) async fn a_replay_that_makes_no_sense_is_refused(on: Fixture) {
    let replay = async |account: &str, id: BatchId| on.store.intake.replay(account, id).await;
    let open = on.accept(&THREE, 3).await;
    assert!(matches!(replay(ACCOUNT, open).await, Err(ReplayError::NotOver)));
    let over = on.over(HOST).await;
    assert!(matches!(replay("other", over).await, Err(ReplayError::NotFound)));
    assert!(matches!(replay(ACCOUNT, fresh_id()).await, Err(ReplayError::NotFound)));
    let silent = on.accept_draft(&on.draft(false), &[], 1).await;
    assert!(matches!(replay(ACCOUNT, silent).await, Err(ReplayError::NoCallback)));
}

pub(super) async fn an_order_replays_what_ended_so(on: Fixture) {
    let (mut exhausted, mut others) = (Vec::new(), Vec::new());
    for state in [CallbackState::Exhausted, CallbackState::Delivered, CallbackState::Gone] {
        for host in [HOST, "b.example:80"] {
            let id = on.over(host).await;
            on.end_callback(id, state).await;
            if state == CallbackState::Exhausted { &mut exhausted } else { &mut others }.push(id);
        }
    }
    let late = exhausted_since(UnixMs(u64::from(u32::MAX) * 1_000_000));
    assert_eq!(on.order(&late).await, 0);
    let elsewhere = ReplayOrder { host: Some("c.example".into()), ..exhausted_since(UnixMs(0)) };
    assert_eq!(on.order(&elsewhere).await, 0);
    let one = ReplayOrder { host: Some("b.example".into()), ..exhausted_since(UnixMs(0)) };
    assert_eq!(on.order(&one).await, 1);
    assert_eq!(on.order(&one).await, 0, "the same order again");
    assert_eq!(on.take_one().await.batch.id, exhausted[1]);
    assert_eq!(on.order(&exhausted_since(UnixMs(0))).await, 1);
    assert_eq!(on.take_one().await.batch.id, exhausted[0]);
    for id in others {
        assert_ne!(on.batch(id).await.callback, CallbackState::Pending);
    }
}

pub(super) async fn an_order_is_carried_out_at_a_measured_pace(on: Fixture) {
    for _ in 0..130 {
        let id = on.over(HOST).await;
        on.end_callback(id, CallbackState::Exhausted).await;
    }
    assert_eq!(on.order(&exhausted_since(UnixMs(0))).await, 100);
    assert_eq!(on.sweep().await.events_replayed, 30);
    assert_eq!(on.sweep().await.events_replayed, 0);
    let stats = on.store.reading.stats(&[]).await.expect("figures");
    assert_eq!(stats.callbacks_pending, 130);
}

pub(super) async fn a_big_order_of_one_account_holds_up_no_other(on: Fixture) {
    for _ in 0..220 {
        let id = on.over(HOST).await;
        on.end_callback(id, CallbackState::Exhausted).await;
    }
    let spec = BatchSpec { account: "other".into(), ..on.spec(true) };
    let other = on.accept_draft(&Draft { spec, ..on.draft(true) }, &[], 1).await;
    on.end_callback(other, CallbackState::Exhausted).await;
    for account in [ACCOUNT, ACCOUNT, ACCOUNT, "other"] {
        let order = exhausted_since(UnixMs(0));
        on.store.intake.order_replay(account, &order).await.expect("an order");
        on.store.intake.order_replay(account, &order).await.expect("the order again");
    }
    let mut replayed = Vec::new();
    for _ in 0..8 {
        replayed.push(on.sweep().await.events_replayed);
    }
    assert_eq!(replayed, [100, 1, 100, 20, 0, 0, 0, 0]);
}

pub(super) async fn the_feed_is_in_order_and_pages(on: Fixture) {
    let mut made = Vec::new();
    for _ in 0..7 {
        // Batches' ids are random here: the order of the feed is that of the events.
        made.push(on.over(HOST).await.event());
    }
    // With several partitions an event is given once its millisecond is over.
    let all = eventually("all events", PATIENCE, async || {
        Some(on.feed(None, 100).await).filter(|feed| feed.len() >= made.len())
    });
    assert_eq!(all.await, made);
    assert_eq!(on.feed(None, 3).await, made[..3]);
    assert_eq!(on.feed(Some(made[2]), 3).await, made[3..6]);
    assert_eq!(on.feed(Some(made[5]), 3).await, made[6..]);
    assert!(on.feed(Some(made[6]), 3).await.is_empty());
    let reading = &on.store.reading;
    for (account, after) in [("other", made[0]), (ACCOUNT, fresh_id().event())] {
        let answer = reading.events_after(account, Some(after), 3).await.expect("a read");
        assert!(answer.is_none(), "{account}");
    }
    assert!(reading.events_after("other", None, 9).await.expect("a read").unwrap().is_empty());
}

pub(super) async fn the_list_of_events_is_newest_first_and_filters(on: Fixture) {
    let (one, two) = (on.over(HOST).await, on.over("b.example:80").await);
    on.end_callback(one, CallbackState::Delivered).await;
    let all = on.events(&EventFilter::default()).await;
    assert_eq!(ids(&all), [two.event(), one.event()]);
    assert_eq!((all[1].state, all[1].attempts), (CallbackState::Delivered, 1));
    assert_eq!(all[1].batch.id, one);
    for (state, host, expected) in [
        (Some(CallbackState::Pending), None, vec![two.event()]),
        (None, Some("a.example"), vec![one.event()]),
        (None, Some("b.example:80"), vec![two.event()]),
        (Some(CallbackState::Gone), None, vec![]),
        (Some(CallbackState::Delivered), Some("b.example"), vec![]),
    ] {
        let filter = EventFilter { state, host: host.map(str::to_owned) };
        assert_eq!(ids(&on.events(&filter).await), expected, "{filter:?}");
    }
    let reading = &on.store.reading;
    let all = EventFilter::default();
    let page = reading.events(ACCOUNT, &all, None, 1).await.expect("a read").expect("a page");
    assert_eq!((ids(&page.0), page.1), (vec![two.event()], Some(two.event())));
    let page = reading.events(ACCOUNT, &all, page.1, 1).await.expect("a read").expect("a page");
    assert_eq!(ids(&page.0), [one.event()]);
    let gone = reading.events(ACCOUNT, &all, Some(fresh_id().event()), 1).await.expect("a read");
    assert!(gone.is_none());
}
