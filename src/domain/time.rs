//! Instants as the store and the wire know them: whole milliseconds since the Unix epoch, UTC.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

/// An instant in milliseconds since the Unix epoch. Serialised for people as RFC 3339 (see
/// [`UnixMs::rfc3339`]), in stored records as the number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

// === impl UnixMs ===

impl UnixMs {
    /// This instant, `delay` later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(millis(delay)))
    }

    /// How long after `earlier` this instant lies; zero if it lies before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Serialises as an RFC 3339 string; for `#[serde(serialize_with)]` on what clients read.
    ///
    /// # Errors
    /// Only those of `serializer`.
    pub fn rfc3339<S: Serializer>(at: &Self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }
}

impl From<Timestamp> for UnixMs {
    fn from(at: Timestamp) -> Self {
        Self(u64::try_from(at.as_millisecond()).unwrap_or(0))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_as_rfc_3339_with_milliseconds() {
        assert_eq!(UnixMs(1_796_000_000_120).to_string(), "2026-11-30T00:53:20.120Z");
    }

    #[test]
    fn what_lies_before_is_no_time_ago() {
        assert_eq!(UnixMs(5).since(UnixMs(9)), Duration::ZERO);
        assert_eq!(UnixMs(9).since(UnixMs(5)), Duration::from_millis(4));
    }
}
