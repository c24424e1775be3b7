//! Batches that are sent slowly: by a rate of their own, and not in their quiet hours.

use std::time::{Duration, Instant};

use ringback::{
    clock::Clock,
    domain::{
        batch::{BatchSpec, BatchState},
        quiet_hours::{Offset, QuietHours},
        time::UnixMs,
    },
    store::{Claimed, Draft, Release, SendTimes, Settlement},
};

use super::THREE;
use crate::{
    harness::{PATIENCE, eventually},
    store::fixture::{ACCOUNT, Fixture, all_sent, settlement},
};

/// Nothing may leave until `end`: local time then jumps out of the window.
fn quiet_until(end: UnixMs) -> QuietHours {
    let of_day_s = i32::try_from(end.0 / 1_000 % 86_400).expect("a second of a day");
    let hour_s = 3_600;
    QuietHours {
        start: "06:00".parse().expect("a time"),
        end: "12:00".parse().expect("a time"),
        time_zone: "Test/Zone".to_owned(),
        offsets: vec![
            Offset { from: UnixMs(0), seconds: 9 * hour_s - of_day_s },
            Offset { from: end, seconds: 15 * hour_s - of_day_s },
        ],
    }
}

/// The next chunk, as soon as there is one to claim.
async fn next(on: &Fixture) -> Claimed {
    eventually("a chunk", PATIENCE, async || {
        on.sweep().await;
        on.claim().await
    })
    .await
}

fn slow(on: &Fixture, rate: &str) -> Draft {
    let rate = Some(rate.parse().expect("a rate"));
    Draft { spec: BatchSpec { rate, ..on.spec(true) }, ..on.draft(true) }
}

fn times(claimed: &Claimed) -> SendTimes {
    claimed.times.expect("send times")
}

async fn give_back(on: &Fixture, claimed: &Claimed) {
    let unsent = Settlement { release: Some(Release::Now), ..settlement(claimed) };
    on.settle(&unsent).await;
}

pub(super) async fn a_batch_in_its_quiet_hours_rests_until_they_end(on: Fixture) {
    let end = Clock::system().now().after(Duration::from_millis(700));
    let spec = BatchSpec { quiet_hours: Some(quiet_until(end)), ..on.spec(true) };
    let id = on.accept_draft(&Draft { spec, ..on.draft(true) }, &THREE, 3).await;
    on.sweep().await;
    assert!(on.claim().await.is_none());
    assert_eq!(on.batch(id).await.state, BatchState::Queued);
    // Others are not held up, and a pause in between changes nothing.
    let other = on.accept(&THREE[..1], 1).await;
    let claimed = on.claim().await.expect("the other batch's chunk");
    assert_eq!((claimed.batch, claimed.times), (other, None));
    on.settle(&all_sent(&claimed)).await;
    on.store.intake.pause(ACCOUNT, id).await.expect("paused");
    on.store.intake.resume(ACCOUNT, id).await.expect("resumed");
    assert!(on.claim().await.is_none());
    let claimed = next(&on).await;
    assert!(claimed.now >= end, "{} before {end}", claimed.now);
    assert_eq!(claimed.batch, id);
    on.settle(&all_sent(&claimed)).await;
    assert_eq!(on.batch(id).await.state, BatchState::Completed);
}

pub(super) async fn a_batch_expires_in_its_quiet_hours(on: Fixture) {
    let now = Clock::system().now();
    let spec = BatchSpec {
        quiet_hours: Some(quiet_until(now.after(Duration::from_hours(1)))),
        expire_at: Some(now.after(Duration::from_millis(300))),
        ..on.spec(true)
    };
    let id = on.accept_draft(&Draft { spec, ..on.draft(true) }, &THREE, 3).await;
    assert!(on.claim().await.is_none());
    eventually("the end", PATIENCE, async || {
        on.sweep().await;
        on.batch(id).await.completed_at
    })
    .await;
    assert_eq!(on.raw.events(id).await, 1);
}

pub(super) async fn a_rate_of_its_own_hands_out_times_that_never_overlap(on: Fixture) {
    let recipients = [THREE[0]; 100];
    let id = on.accept_draft(&slow(&on, "50/s"), &recipients, 50).await;
    let begun = Instant::now();
    // Where runs begin and end, in microseconds from here.
    let mut runs: Vec<(i64, i64)> = Vec::new();
    let rested = loop {
        let Some(claimed) = on.claim().await else { break begun.elapsed() };
        let SendTimes { first_in_us, messages } = times(&claimed);
        assert_eq!(messages, 20, "0.4 s of the rate");
        let at = i64::try_from(begun.elapsed().as_micros()).expect("short") + first_in_us;
        runs.push((at, at + 20 * 20_000));
        give_back(&on, &claimed).await;
    };
    assert!(rested < Duration::from_millis(300), "no claim waits: {rested:?}");
    assert!(runs.len() >= 2, "{runs:?}");
    // The store's clock is read a little before ours: allow for the reply's way.
    let slack_us = 20_000;
    for pair in runs.windows(2) {
        assert!(pair[1].0 >= pair[0].1 - slack_us, "{runs:?}");
    }
    assert!(runs[0].0 >= -50_000, "no more than the burst is caught up: {runs:?}");
    // Others are not held up.
    let other = on.accept(&THREE[..1], 1).await;
    assert_eq!(on.claim().await.expect("the other batch's chunk").batch, other);
    let claimed = next(&on).await;
    assert_eq!(claimed.batch, id);
    assert!(times(&claimed).first_in_us > 300_000, "it comes ahead of its time: {claimed:?}");
}

pub(super) async fn a_slow_rate_gives_one_message_at_a_time(on: Fixture) {
    on.accept_draft(&slow(&on, "1/h"), &THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    assert_eq!(times(&claimed).messages, 1);
    give_back(&on, &claimed).await;
    on.sweep().await;
    assert!(on.claim().await.is_none());
}

pub(super) async fn the_same_claim_again_gives_times_of_its_own(on: Fixture) {
    on.accept_draft(&slow(&on, "50/s"), &THREE, 3).await;
    let nonce = rand::random();
    let first = on.claim_with(nonce).await.expect("a chunk");
    let again = on.claim_with(nonce).await.expect("the same chunk");
    assert_eq!((first.batch, first.token.clone()), (again.batch, again.token.clone()));
    assert!(times(&again).first_in_us > times(&first).first_in_us, "{first:?}, {again:?}");
}
