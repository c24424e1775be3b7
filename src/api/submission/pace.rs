//! When messages may leave: a rate of the batch's own, and its quiet hours.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::value::RawValue;

use crate::{
    api::json::{Faults, Pointer, members, text},
    domain::{
        quiet_hours::{Offset, QuietHours, TimeOfDay},
        time::UnixMs,
        units::Rate,
    },
};

/// The longest name of a time zone, in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// How far ahead changes of a zone's offset are looked up: a batch begins within a year, and what is
/// not over after two more goes by the last offset known.
const LOOK_AHEAD: Duration = Duration::from_hours(3 * 366 * 24);

/// The most changes that are kept. Zones have two a year, or none.
const CHANGES_MAX: usize = 16;

/// Quiet hours as given: the zone's rules are not looked up yet.
pub(super) struct Window {
    start: TimeOfDay,
    end: TimeOfDay,
    zone: TimeZone,
    name: String,
}

/// Reads a rate.
pub(super) fn rate(text: &str, at: &Pointer<'_>, faults: &mut Faults) -> Option<Rate> {
    text.parse().map_err(|error| faults.add(at, "invalid_value", error)).ok()
}

// === impl Window ===

impl Window {
    /// Reads `quiet_hours`; `None` for `null`, and for what is wrong after noting it.
    pub(super) fn read(raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) -> Option<Self> {
        if raw.get() == "null" {
            return None;
        }
        let [start, end, zone] = members(raw, at, ["start", "end", "time_zone"], faults)?;
        let start = time_of_day("start", start, at, faults);
        let end = time_of_day("end", end, at, faults);
        let zone = time_zone(zone, at, faults);
        let (start, end, (zone, name)) = (start?, end?, zone?);
        if start == end {
            let at = Pointer::Key(at, "end");
            faults.add(&at, "invalid_value", "this is `start` again: nothing could be told apart");
            return None;
        }
        Some(Self { start, end, zone, name })
    }

    /// The quiet hours of a batch that is created at `now`.
    pub(super) fn resolve(self, now: UnixMs) -> QuietHours {
        let created = timestamp(now);
        let last = timestamp(now.after(LOOK_AHEAD));
        let first = Offset { from: UnixMs(0), seconds: self.zone.to_offset(created).seconds() };
        let changes = self.zone.following(created).take_while(|change| change.timestamp() <= last);
        let later = changes.take(CHANGES_MAX).map(|change| Offset {
            from: change.timestamp().into(),
            seconds: change.offset().seconds(),
        });
        let offsets = std::iter::once(first).chain(later).collect();
        QuietHours { start: self.start, end: self.end, time_zone: self.name, offsets }
    }
}

fn time_of_day(
    name: &str,
    raw: Option<&RawValue>,
    object: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<TimeOfDay> {
    let at = Pointer::Key(object, name);
    let text = wanted(name, raw, object, faults)?;
    text.parse().map_err(|error| faults.add(&at, "invalid_value", error)).ok()
}

fn time_zone(
    raw: Option<&RawValue>,
    object: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<(TimeZone, String)> {
    let given = wanted("time_zone", raw, object, faults)?;
    let zone = TimeZone::get(&given).ok();
    if zone.is_none() {
        let at = Pointer::Key(object, "time_zone");
        faults.add(&at, "invalid_value", "this is the name of a time zone, as in Europe/Berlin");
    }
    zone.map(|zone| (zone.clone(), zone.iana_name().unwrap_or(&given).to_owned()))
}

/// The text of a member that must be there.
fn wanted(
    name: &str,
    raw: Option<&RawValue>,
    object: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<String> {
    let Some(raw) = raw else {
        faults.missing(name, object);
        return None;
    };
    let at = Pointer::Key(object, name);
    text(raw, &at, ZONE_BYTES_MAX, faults).map(std::borrow::Cow::into_owned)
}

/// Times that a batch may have lie within what a timestamp can tell.
fn timestamp(at: UnixMs) -> Timestamp {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}
