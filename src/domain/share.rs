//! How much of a provider's rate may be used, after it throttled: additive increase, multiplicative
//! decrease.
//!
//! A cut halves the share, down to a sixteenth. From then on it grows steadily, by the whole in
//! [`Share::RECOVERY`]: so after one cut the rate is back in full within half of that.

use std::time::Duration;

/// A part of the whole, in millionths: from a sixteenth to all of it, which is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

// === impl Share ===

impl Share {
    /// All of it.
    pub const FULL: Self = Self(1_000_000);

    /// As little as cuts leave.
    pub const FLOOR: Self = Self(1_000_000 / 16);

    /// In so long a share grows by the whole.
    pub const RECOVERY: Duration = Duration::from_mins(1);

    /// Cuts are at least so far apart.
    pub const CUT_EVERY: Duration = Duration::from_secs(1);

    /// So many millionths, but within the bounds.
    #[must_use]
    pub fn from_millionths(millionths: u32) -> Self {
        Self(millionths).clamp(Self::FLOOR, Self::FULL)
    }

    /// In millionths.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// After a cut.
    #[must_use]
    pub fn cut(self) -> Self {
        Self(self.0 / 2).max(Self::FLOOR)
    }

    /// What it has grown to, so long after a cut.
    #[must_use]
    pub fn grown(self, after: Duration) -> Self {
        let whole = u128::from(Self::FULL.0);
        let grown = after.as_nanos().saturating_mul(whole) / Self::RECOVERY.as_nanos();
        let grown = u32::try_from(grown.min(whole)).unwrap_or(Self::FULL.0);
        Self(self.0 + grown).min(Self::FULL)
    }

    /// The time that is lost, against the full rate, until the share is that again: half of what is missing,
    /// for as long as it takes.
    #[must_use]
    pub fn lost(self) -> Duration {
        let missing = f64::from(Self::FULL.0 - self.0) / f64::from(Self::FULL.0);
        Self::RECOVERY.mul_f64(missing * missing / 2.0)
    }

    /// The time from one message to the next, if it is `interval` at the full rate; rounded up.
    #[must_use]
    pub fn stretch(self, interval: Duration) -> Duration {
        let whole = u128::from(Self::FULL.0);
        let ns = (interval.as_nanos() * whole).div_ceil(u128::from(self.0.max(1)));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::FULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn cuts_halve_it_down_to_a_sixteenth() {
        let cuts = std::iter::successors(Some(Share::FULL), |share| Some(share.cut()));
        let millionths: Vec<_> = cuts.take(6).map(Share::millionths).collect();
        assert_eq!(millionths, [1_000_000, 500_000, 250_000, 125_000, 62_500, 62_500]);
    }

    #[test]
    fn it_grows_steadily_and_is_full_again_after_half_a_minute_or_a_minute() {
        let once = Share::FULL.cut();
        assert_eq!(once.grown(Duration::ZERO), once);
        assert_eq!(once.grown(3 * SECOND).millionths(), 550_000);
        assert!(once.grown(29 * SECOND) < Share::FULL);
        assert_eq!(once.grown(30 * SECOND), Share::FULL);
        assert_eq!(Share::FLOOR.grown(Share::RECOVERY), Share::FULL);
        assert_eq!(Share::FULL.grown(Duration::MAX), Share::FULL);
    }

    #[test]
    fn the_time_between_two_messages_is_stretched_and_never_too_short() {
        let interval = Duration::from_millis(10);
        assert_eq!(Share::FULL.stretch(interval), interval);
        assert_eq!(Share::FULL.cut().stretch(interval), 2 * interval);
        assert_eq!(Share::FLOOR.stretch(interval), 16 * interval);
        assert_eq!(Share(999_999).stretch(Duration::from_nanos(1)), Duration::from_nanos(2));
    }

    #[test]
    fn what_is_lost_is_the_area_under_the_full_rate() {
        assert_eq!(Share::FULL.lost(), Duration::ZERO);
        // Half the rate is missing at first, none after 30 s: a quarter of those.
        assert_eq!(Share::FULL.cut().lost(), Duration::from_millis(7_500));
    }

    #[test]
    fn what_is_read_lies_within_the_bounds() {
        assert_eq!(Share::from_millionths(0), Share::FLOOR);
        assert_eq!(Share::from_millionths(u32::MAX), Share::FULL);
        assert_eq!(Share::from_millionths(500_000).millionths(), 500_000);
    }
}
