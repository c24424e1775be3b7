//! How a batch with a rate of its own is paced: whoever claims a chunk gets a run of send times with
//! it.
//!
//! The rate's clock belongs to the batch and moves ahead by each run (GCRA), so that all workers
//! together never exceed it, at no call of its own. The numbers here are every store's; the steps
//! are `claim.lua` on Redis and `next_run` in one process.

use std::time::Duration;

/// A run of send times of a batch's own rate, an interval of that rate apart. Whoever has the chunk
/// sends at most so many of its messages, each at its time or a little after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendTimes {
    /// The first one's distance from the store's time at the claim, in microseconds; negative if it
    /// has passed.
    pub first_in_us: i64,
    /// How many there are.
    pub messages: u32,
}

/// What a batch may catch up: a send time that passed longer ago is dropped.
pub const BURST: Duration = Duration::from_millis(50);

/// How far in the past a run may begin: less than the burst, so that its first time is not missed on
/// its way to the worker.
pub(super) const CATCH_UP: Duration = Duration::from_millis(25);

/// How far ahead of its first send time a chunk is handed out at most. More than a tick of the sweep,
/// which brings the batch back into its ring.
pub(super) const AHEAD: Duration = Duration::from_millis(600);

/// A run has as many messages as the rate lets leave in this time, and one at least.
pub(super) const RUN: Duration = Duration::from_millis(400);

/// Until when a batch rests whose rate's clock stands at `clock_us`, in milliseconds; `None` if its
/// next send time is near enough.
pub(super) fn rests_until(clock_us: i64, now_ms: i64, interval: Duration) -> Option<i64> {
    let too_far = next_time(clock_us, now_ms, interval) - micros(AHEAD);
    (too_far > 0).then(|| now_ms + too_far / 1_000 + 1)
}

/// The next send times for a chunk with `open` messages, and where the clock stands after them.
pub(super) fn next_run(
    clock_us: i64,
    now_ms: i64,
    interval: Duration,
    open: i64,
) -> (SendTimes, i64) {
    let first_in_us = next_time(clock_us, now_ms, interval);
    let run = i64::try_from(RUN.as_nanos() / interval.as_nanos().max(1)).unwrap_or(i64::MAX);
    let messages = u32::try_from(run.max(1).min(open)).unwrap_or(u32::MAX);
    let taken_us = micros(interval.saturating_mul(messages));
    let clock_us = (now_ms * 1_000 + first_in_us).saturating_add(taken_us);
    (SendTimes { first_in_us, messages }, clock_us)
}

/// How far ahead the next send time lies, in microseconds; negative if it has passed. A clock further
/// ahead than runs reach was set before the machine's was stepped back.
fn next_time(clock_us: i64, now_ms: i64, interval: Duration) -> i64 {
    let ahead_us = clock_us - now_ms * 1_000;
    let furthest = micros(AHEAD) + micros(RUN).max(micros(interval));
    if ahead_us > furthest { 0 } else { ahead_us.max(-micros(CATCH_UP)) }
}

/// In whole nanoseconds.
pub(super) fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// In whole microseconds, rounded up.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000_000;

    #[test]
    fn runs_follow_each_other_without_overlap_until_they_reach_too_far_ahead() {
        let interval = Duration::from_millis(20);
        let (first, clock) = next_run(0, NOW_MS, interval, 500);
        assert_eq!(first, SendTimes { first_in_us: -25_000, messages: 20 });
        assert_eq!(clock, NOW_MS * 1_000 - 25_000 + 400_000);
        assert_eq!(rests_until(clock, NOW_MS, interval), None);
        let (second, clock) = next_run(clock, NOW_MS, interval, 500);
        assert_eq!(second, SendTimes { first_in_us: 375_000, messages: 20 });
        assert_eq!(rests_until(clock, NOW_MS, interval), Some(NOW_MS + 775 - 600 + 1));
    }

    #[test]
    fn a_run_is_no_longer_than_the_chunk_and_has_one_message_at_least() {
        assert_eq!(next_run(0, NOW_MS, Duration::from_millis(1), 7).0.messages, 7);
        let (slow, clock) = next_run(0, NOW_MS, Duration::from_hours(1), 500);
        assert_eq!(slow.messages, 1);
        assert_eq!(clock, NOW_MS * 1_000 - 25_000 + 3_600_000_000);
    }

    #[test]
    fn a_clock_that_was_stepped_back_freezes_nothing() {
        let (ahead, interval) = (NOW_MS * 1_000 + 3_600_000_000, Duration::from_millis(20));
        assert_eq!(rests_until(ahead, NOW_MS, interval), None);
        assert_eq!(next_run(ahead, NOW_MS, interval, 500).0.first_in_us, 0);
        // A slow rate's clock may lie that far ahead.
        assert!(rests_until(ahead, NOW_MS, Duration::from_hours(1)).is_some());
    }
}
