//! Quiet hours: a window of local hours, every day, in which nothing of a batch leaves.
//!
//! The zone's rules are looked up once, where the batch is read, and kept as the few changes of its
//! offset that lie ahead. From then on this is arithmetic, the same in every store and worker.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::time::UnixMs;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// A window of local hours. It may go over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// The local minute of the day from which on nothing leaves.
    pub start: TimeOfDay,
    /// The local minute of the day from which on messages leave again.
    pub end: TimeOfDay,
    /// The zone's name, as in "Europe/Berlin".
    pub time_zone: String,
    /// The zone's offsets, in the order of their instants; the first one holds for all before.
    pub offsets: Vec<Offset>,
}

/// What local time is ahead of UTC, from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// From when on.
    pub from: UnixMs,
    /// By how much, in seconds; negative west of Greenwich.
    pub seconds: i32,
}

/// A minute of the day: "08:30".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOfDay {
    minutes: u16,
}

/// The text is not a time of day.
#[derive(Debug, thiserror::Error)]
#[error("not a time of day: give hours and minutes, from \"00:00\" to \"23:59\"")]
pub struct InvalidTimeOfDay;

// === impl QuietHours ===

impl QuietHours {
    /// Until when nothing may leave, if `now` is within the window. To be asked again then: where the
    /// zone's offset changes before the window ends, it is that instant.
    #[must_use]
    pub fn rest_until(&self, now: UnixMs) -> Option<UnixMs> {
        let utc = i64::try_from(now.0).unwrap_or(i64::MAX);
        let (offset_ms, changes_at) = self.offset_at(now);
        let local = utc.saturating_add(offset_ms);
        let since_start = (local - self.start.millis()).rem_euclid(DAY_MS);
        let length = (self.end.millis() - self.start.millis()).rem_euclid(DAY_MS);
        if since_start >= length {
            return None;
        }
        let left_ms = u64::try_from(length - since_start).unwrap_or(0);
        let ends_at = now.after(Duration::from_millis(left_ms));
        Some(changes_at.map_or(ends_at, |changes_at| ends_at.min(changes_at)))
    }

    /// The offset that holds at `now`, in milliseconds, and when the next one follows.
    fn offset_at(&self, now: UnixMs) -> (i64, Option<UnixMs>) {
        let later = self.offsets.iter().position(|offset| offset.from > now);
        let current =
            later.map_or(self.offsets.last(), |later| self.offsets.get(later.saturating_sub(1)));
        let seconds = current.map_or(0, |offset| i64::from(offset.seconds));
        let next = later.filter(|later| *later > 0).map(|later| self.offsets[later].from);
        (seconds * 1_000, next)
    }

    /// In the form that stores work with: the start and the end in milliseconds of the day, then for
    /// each offset its instant and itself in milliseconds.
    #[must_use]
    pub fn packed(&self) -> String {
        let offsets = self
            .offsets
            .iter()
            .map(|offset| format!(" {} {}", offset.from.0, i64::from(offset.seconds) * 1_000));
        format!("{} {}{}", self.start.millis(), self.end.millis(), offsets.collect::<String>())
    }
}

// === impl TimeOfDay ===

impl TimeOfDay {
    fn millis(self) -> i64 {
        i64::from(self.minutes) * MINUTE_MS
    }
}

impl FromStr for TimeOfDay {
    type Err = InvalidTimeOfDay;

    fn from_str(text: &str) -> Result<Self, InvalidTimeOfDay> {
        let number = |part: &str, end: u16| -> Result<u16, InvalidTimeOfDay> {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|number| digits && *number < end);
            number.ok_or(InvalidTimeOfDay)
        };
        let (hours, minutes) = text.split_once(':').ok_or(InvalidTimeOfDay)?;
        Ok(Self { minutes: number(hours, 24)? * 60 + number(minutes, 60)? })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    /// 2026-11-30T00:00:00Z.
    const MIDNIGHT: u64 = 1_795_996_800_000;

    fn at(hour: u64) -> UnixMs {
        UnixMs(MIDNIGHT + hour * HOUR_MS)
    }

    fn quiet(start: &str, end: &str, offsets: &[(u64, i32)]) -> QuietHours {
        let offset =
            |(from, seconds): &(u64, i32)| Offset { from: UnixMs(*from), seconds: *seconds };
        QuietHours {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
            time_zone: "Europe/Berlin".to_owned(),
            offsets: offsets.iter().map(offset).collect(),
        }
    }

    #[test]
    fn a_window_within_a_day_rests_until_its_end() {
        let quiet = quiet("12:00", "14:00", &[(0, 3_600)]);
        assert_eq!(quiet.rest_until(UnixMs(at(11).0 - 1)), None);
        assert_eq!(quiet.rest_until(at(11)), Some(at(13)));
        assert_eq!(quiet.rest_until(UnixMs(at(13).0 - 1)), Some(at(13)));
        assert_eq!(quiet.rest_until(at(13)), None);
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let quiet = quiet("21:00", "08:00", &[(0, -5 * 3_600)]);
        // 21:00 in New York is 02:00 in UTC.
        assert_eq!(quiet.rest_until(at(1)), None);
        assert_eq!(quiet.rest_until(at(2)), Some(at(13)));
        assert_eq!(quiet.rest_until(at(12)), Some(at(13)));
        assert_eq!(quiet.rest_until(at(13)), None);
    }

    #[test]
    fn where_the_offset_changes_the_window_is_looked_at_again() {
        // At 01:00 UTC clocks go from +1 h to +2 h: 08:00 local is then 06:00 UTC, not 07:00.
        let quiet = quiet("21:00", "08:00", &[(0, 3_600), (at(1).0, 7_200)]);
        assert_eq!(quiet.rest_until(at(0)), Some(at(1)));
        assert_eq!(quiet.rest_until(at(1)), Some(at(6)));
        assert_eq!(quiet.rest_until(at(6)), None);
    }

    #[test]
    fn stores_get_plain_numbers() {
        let quiet = quiet("21:00", "08:00", &[(0, 3_600), (5, -7_200)]);
        assert_eq!(quiet.packed(), "75600000 28800000 0 3600000 5 -7200000");
    }

    #[test]
    fn a_time_of_day_reads_back_and_others_are_refused() {
        for text in ["00:00", "08:30", "23:59"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        for text in ["", "8:30", "24:00", "12:60", "+1:00", "12:5", "12:00:00", "noon"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text:?}");
        }
    }
}
