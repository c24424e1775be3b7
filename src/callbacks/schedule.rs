//! What follows from an attempt: the one rule, free of I/O.
//!
//! A 2xx delivers, 410 stops, anything else is tried again after the next wait of the schedule,
//! until the schedule is used up. Attempt n + 1 follows attempt n after `schedule[n - 1]`.

use std::time::Duration;

use crate::{
    domain::{batch::CallbackState, retry::spread},
    store::{AttemptEnd, Verdict},
};

/// The longest wait a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// What follows from attempt `number` (from 1), which came to `end`. `retry_after` is what the
/// answer asked for, obeyed on 429 and 503; `dice` is a random number in 0..1.
#[must_use]
pub fn verdict(
    number: u32,
    end: &AttemptEnd,
    retry_after: Option<Duration>,
    schedule: &[Duration],
    dice: f64,
) -> Verdict {
    let asked = match end.status {
        Some(200..=299) => return Verdict::Ended(CallbackState::Delivered),
        Some(410) => return Verdict::Ended(CallbackState::Gone),
        Some(429 | 503) => retry_after.unwrap_or_default().min(RETRY_AFTER_MAX),
        _ => Duration::ZERO,
    };
    let waits_used = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    match schedule.get(waits_used) {
        Some(wait) => Verdict::Again(spread(*wait, dice).max(asked)),
        None => Verdict::Ended(CallbackState::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

    fn after(number: u32, status: Option<u16>, retry_after_s: Option<u64>) -> Verdict {
        let end = AttemptEnd { status, ..AttemptEnd::default() };
        verdict(number, &end, retry_after_s.map(Duration::from_secs), &SCHEDULE, 0.5)
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
        let end = AttemptEnd { status: Some(503), ..AttemptEnd::default() };
        let wait = |dice, asked| verdict(1, &end, asked, &SCHEDULE, dice);
        assert_eq!(wait(0.0, None), again(4));
        assert_eq!(wait(1.0, None), again(6));
        assert_eq!(wait(0.0, Some(Duration::from_secs(5))), again(5));
    }
}
