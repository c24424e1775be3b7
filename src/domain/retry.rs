//! How often, how long and how far apart a message is tried again.

use std::time::Duration;

/// A provider's policy for messages that were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least 1.
    pub attempts: u8,
    /// The wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// No try is begun later than this after the first one.
    pub give_up_after: Duration,
}

/// How far a wait strays from its nominal length, so that failures that came together don't come
/// together again: a fifth either way.
const SPREAD: f64 = 0.2;

// === impl RetryPolicy ===

impl RetryPolicy {
    /// No wait of this policy's own is longer.
    #[must_use]
    pub fn wait_max(&self) -> Duration {
        spread(self.longest, 1.0)
    }

    /// The wait after `attempts` failures. `dice` is a random number in 0..1.
    #[must_use]
    pub fn delay(&self, attempts: u8, dice: f64) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        let nominal = self.first.saturating_mul(1 << doublings).min(self.longest);
        spread(nominal, dice)
    }
}

/// `nominal`, moved by up to a fifth either way. `dice` is a random number in 0..1.
#[must_use]
pub fn spread(nominal: Duration, dice: f64) -> Duration {
    nominal.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * dice.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 6,
        first: Duration::from_millis(500),
        longest: Duration::from_mins(1),
        give_up_after: Duration::from_hours(24),
    };

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let waits: Vec<_> =
            (1..=9).map(|attempts| POLICY.delay(attempts, 0.5).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(POLICY.delay(u8::MAX, 0.5), POLICY.longest);
    }

    #[test]
    fn the_dice_move_it_by_a_fifth() {
        assert_eq!(POLICY.delay(1, 0.0), Duration::from_millis(400));
        assert_eq!(POLICY.delay(1, 1.0), Duration::from_millis(600));
    }
}
