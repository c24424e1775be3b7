//! A run of send times: a first one, and others an interval apart.
//!
//! A message leaves at its time or after. A time that has passed for more than the burst is dropped:
//! what was not sent in time is not caught up.

use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub(super) struct Run {
    next: Instant,
    left: u32,
    interval: Duration,
    /// How long after its time a message may still leave.
    burst: Duration,
}

// === impl Run ===

impl Run {
    /// A run whose first time lies `first_in_us` from `now`; negative if it has passed.
    pub(super) fn new(
        now: Instant,
        first_in_us: i64,
        times: u32,
        interval: Duration,
        burst: Duration,
    ) -> Self {
        let distance = Duration::from_micros(first_in_us.unsigned_abs());
        let passed = first_in_us < 0;
        let next = if passed { now.checked_sub(distance) } else { Some(now + distance) };
        Self { next: next.unwrap_or(now), left: times, interval, burst }
    }

    /// A run without any times.
    pub(super) fn none(now: Instant) -> Self {
        Self::new(now, 0, 0, Duration::ZERO, Duration::ZERO)
    }

    /// The next time, if there is one that was not missed by `now`.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        while self.left > 0 && self.next + self.burst < now {
            self.use_one();
        }
        (self.left > 0).then_some(self.next)
    }

    /// How many messages may leave at `now`.
    pub(super) fn due(&mut self, now: Instant) -> usize {
        let Some(waited) = self.next(now).and_then(|next| now.checked_duration_since(next)) else {
            return 0;
        };
        let later = waited.as_nanos() / self.interval.as_nanos().max(1);
        usize::try_from(later).map_or(usize::MAX, |later| later + 1).min(self.left as usize)
    }

    /// The next time is used up.
    pub(super) fn use_one(&mut self) {
        self.next += self.interval;
        self.left -= 1;
    }

    /// When the last time is missed.
    pub(super) fn ends(&self) -> Instant {
        self.next + self.interval.saturating_mul(self.left.saturating_sub(1)) + self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);
    const BURST: Duration = Duration::from_millis(50);

    #[test]
    fn times_come_due_one_after_the_other() {
        let now = Instant::now();
        let mut run = Run::new(now, 5_000, 3, STEP, BURST);
        assert_eq!(run.due(now), 0);
        assert_eq!(run.next(now), Some(now + Duration::from_millis(5)));
        assert_eq!(run.due(now + Duration::from_millis(5)), 1);
        assert_eq!(run.due(now + Duration::from_millis(45)), 3);
        run.use_one();
        assert_eq!(run.due(now + Duration::from_millis(45)), 2);
    }

    #[test]
    fn times_that_were_missed_are_dropped() {
        let now = Instant::now();
        let mut run = Run::new(now, -60_000, 3, STEP, BURST);
        assert_eq!(run.due(now), 2);
        assert_eq!(run.next(now), now.checked_sub(Duration::from_millis(40)));
        assert_eq!(run.ends(), now + Duration::from_millis(30));
        assert_eq!(run.next(run.ends() + STEP), None);
        assert_eq!(run.due(now + Duration::from_secs(9)), 0);
    }
}
