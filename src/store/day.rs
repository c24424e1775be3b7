//! An account's day: how many recipients it has had since midnight UTC, over all processes.

use std::time::Duration;

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// How far the day of an account has come, by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// The recipients that are counted: those of batches that were sealed with a [`DayShare`].
    pub recipients: u64,
    /// How long until the next day begins, and the count with it.
    pub left: Duration,
}

/// What a batch is counted with in its account's day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayShare {
    /// The account.
    pub account: String,
    /// The recipients of the batch.
    pub recipients: u64,
    /// The most that the account may have in a day.
    pub recipients_max: u64,
}

/// When the day of `now` ends, both in milliseconds since the Unix epoch.
pub(super) fn end_of_day(now: u64) -> u64 {
    (now / DAY_MS + 1).saturating_mul(DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMs;

    #[test]
    fn a_day_ends_at_midnight_utc() {
        let midnight = "2026-12-01T00:00:00.000Z";
        for now in ["2026-11-30T00:00:00Z", "2026-11-30T23:59:59.999Z"] {
            let now = UnixMs::from(now.parse::<jiff::Timestamp>().unwrap());
            assert_eq!(UnixMs(end_of_day(now.0)).to_string(), midnight);
        }
    }
}
