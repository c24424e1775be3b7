//! What follows from an attempt: the one rule, free of I/O.
//!
//! A 2xx delivers, 410 stops, anything else is tried again after the next wait of the schedule,
//! until the schedule is used up: by its attempts, or, if the receiver gives no answer, by its
//! time, so that events that wait long behind a dead host come to an end. The n-th try is followed
//! by the next one after `schedule[n - 1]`. A report of progress is tried once: the next one tells
//! more.

use std::time::Duration;

use crate::{
    domain::{batch::CallbackState, event::Occurrence, retry::spread},
    store::{AttemptEnd, TakenEvent, Verdict},
};

/// The longest wait a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// The waits between attempts.
#[derive(Clone, Debug)]
pub struct Schedule {
    waits: Vec<Duration>,
    /// How long all of it may last: the waits, as long as the dice can make them, and the attempts.
    time: Duration,
}

// === impl Schedule ===

impl Schedule {
    /// A schedule of these waits between attempts, each of which may last for `longest`.
    #[must_use]
    pub fn new(waits: Vec<Duration>, longest: Duration) -> Self {
        let attempts = u32::try_from(waits.len()).unwrap_or(u32::MAX).saturating_add(1);
        let waiting = waits.iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
        // The dice add a fifth at most.
        let waiting = waiting.saturating_add(waiting / 5);
        Self { waits, time: waiting.saturating_add(longest.saturating_mul(attempts)) }
    }

    /// What follows from the attempt at `event` that came to `end`. `retry_after` is what the
    /// answer asked for, obeyed on 429 and 503; `dice` is a random number in 0..1.
    #[must_use]
    pub fn verdict(
        &self,
        event: &TakenEvent,
        end: &AttemptEnd,
        retry_after: Option<Duration>,
        dice: f64,
    ) -> Verdict {
        let asked = match end.status {
            Some(200..=299) => return Verdict::Ended(CallbackState::Delivered),
            Some(410) => return Verdict::Ended(CallbackState::Gone),
            Some(429 | 503) => retry_after.unwrap_or_default().min(RETRY_AFTER_MAX),
            _ => Duration::ZERO,
        };
        if matches!(event.event.what, Occurrence::Progress(_)) {
            return Verdict::Ended(CallbackState::Skipped);
        }
        let is_silent_too_long = end.status.is_none() && event.age > self.time;
        let waits_used = usize::try_from(event.tries.saturating_sub(1)).unwrap_or(usize::MAX);
        match self.waits.get(waits_used).filter(|_| !is_silent_too_long) {
            Some(wait) => Verdict::Again(spread(*wait, dice).max(asked)),
            None => Verdict::Ended(CallbackState::Exhausted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        callbacks::fixture::{completion, progress},
        store::AttemptEnd,
    };

    fn schedule() -> Schedule {
        let waits = vec![Duration::from_secs(5), Duration::from_secs(30)];
        Schedule::new(waits, Duration::from_secs(10))
    }

    fn end(status: Option<u16>) -> AttemptEnd {
        AttemptEnd { status, ..AttemptEnd::default() }
    }

    fn after(tries: u32, status: Option<u16>, retry_after_s: Option<u64>) -> Verdict {
        let event = TakenEvent { tries, ..completion() };
        let retry_after = retry_after_s.map(Duration::from_secs);
        schedule().verdict(&event, &end(status), retry_after, 0.5)
    }

    fn again(secs: u64) -> Verdict {
        Verdict::Again(Duration::from_secs(secs))
    }

    #[test]
    fn every_2xx_delivers_and_410_stops() {
        for status in [200, 202, 204, 299] {
            assert_eq!(after(1, Some(status), None), Verdict::Ended(CallbackState::Delivered));
            assert_eq!(after(9, Some(status), None), Verdict::Ended(CallbackState::Delivered));
        }
        assert_eq!(after(1, Some(410), Some(9)), Verdict::Ended(CallbackState::Gone));
        assert_eq!(after(9, Some(410), None), Verdict::Ended(CallbackState::Gone));
    }

    #[test]
    fn anything_else_goes_by_the_schedule_to_its_end() {
        for status in [None, Some(199), Some(301), Some(400), Some(404), Some(500), Some(503)] {
            assert_eq!(after(1, status, None), again(5));
            assert_eq!(after(2, status, None), again(30));
            assert_eq!(after(3, status, None), Verdict::Ended(CallbackState::Exhausted));
            assert_eq!(after(u32::MAX, status, None), Verdict::Ended(CallbackState::Exhausted));
        }
    }

    #[test]
    fn a_receiver_that_is_busy_says_for_how_long() {
        for status in [429, 503] {
            assert_eq!(after(1, Some(status), Some(60)), again(60));
            assert_eq!(after(1, Some(status), Some(1)), again(5));
            assert_eq!(after(1, Some(status), Some(u64::MAX)), again(86_400));
            let end = Verdict::Ended(CallbackState::Exhausted);
            assert_eq!(after(3, Some(status), Some(60)), end);
        }
        assert_eq!(after(1, Some(500), Some(60)), again(5));
    }

    #[test]
    fn the_dice_move_a_wait_by_a_fifth_but_never_below_what_was_asked() {
        let wait = |dice, asked| schedule().verdict(&completion(), &end(Some(503)), asked, dice);
        assert_eq!(wait(0.0, None), again(4));
        assert_eq!(wait(1.0, None), again(6));
        assert_eq!(wait(0.0, Some(Duration::from_secs(5))), again(5));
    }

    #[test]
    fn a_silence_that_lasts_longer_than_the_schedule_ends_it() {
        let of_age = |age_s, status| {
            let event = TakenEvent { age: Duration::from_secs(age_s), ..completion() };
            schedule().verdict(&event, &end(status), None, 0.5)
        };
        assert_eq!(of_age(72, None), again(5));
        assert_eq!(of_age(73, None), Verdict::Ended(CallbackState::Exhausted));
        assert_eq!(of_age(73, Some(500)), again(5), "who answers gets every attempt");
    }

    #[test]
    fn progress_is_tried_once() {
        let of = |status| schedule().verdict(&progress(), &end(status), None, 0.5);
        assert_eq!(of(Some(200)), Verdict::Ended(CallbackState::Delivered));
        assert_eq!(of(Some(410)), Verdict::Ended(CallbackState::Gone));
        for status in [None, Some(500), Some(503)] {
            assert_eq!(of(status), Verdict::Ended(CallbackState::Skipped));
        }
    }
}
