//! Quantities as people write them in a configuration: "250ms", "64MiB", "100/s".
//!
//! [`span`] and [`size`] are for `#[serde(with = "…")]`, so that the settings themselves hold plain
//! [`Duration`]s and byte counts. What is read is written back in the same form.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::share::Share;

/// How many a period: "100/s", "600/m" or "10000/h".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// Messages, whatever their length.
    #[default]
    Message,
    /// The segments of each.
    Segment,
}

/// The text is not a rate.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a rate: give a whole number above 0 and a period, as in \"100/s\", \"600/m\", \"9000/h\""
)]
pub struct InvalidRate;

// === impl Rate ===

impl Rate {
    /// The time from one to the next, rounded up to whole nanoseconds: never too fast.
    #[must_use]
    pub fn interval(self) -> Duration {
        let period_ns = self.period.seconds() * 1_000_000_000;
        Duration::from_nanos(period_ns.div_ceil(u64::from(self.count)))
    }

    /// So much of it, as people write it: "62.5/s"; to three places, rounded down.
    #[must_use]
    pub fn at(self, share: Share) -> String {
        let thousandths = u64::from(self.count) * u64::from(share.millionths()) / 1_000;
        let (whole, rest) = (thousandths / 1_000, format!("{:03}", thousandths % 1_000));
        let (point, rest) = match rest.trim_end_matches('0') {
            "" => ("", ""),
            rest => (".", rest),
        };
        format!("{whole}{point}{rest}/{}", self.period.word())
    }

    /// How many a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a period has at most 3,600 seconds")]
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.period.seconds() as f64
    }
}

impl Period {
    fn word(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, period) = text.split_once('/').ok_or(InvalidRate)?;
        let period = match period.trim() {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            _ => return Err(InvalidRate),
        };
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or(InvalidRate)?;
        Ok(Self { count, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period.word())
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Durations: "250ms", "15s", "2h", "7d".
pub mod span {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    /// Reads a duration.
    ///
    /// # Errors
    /// If the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map_err(de::Error::custom)
    }

    /// Writes a duration.
    ///
    /// # Errors
    /// Only those of `serializer`.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*span))
    }

    pub(super) fn parse(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text).map_err(|_| {
            format!("not a duration: {text:?}; give a number and a unit, as in \"250ms\", \"15s\", \"2h\", \"7d\"")
        })
    }
}

/// Lists of durations: `["5s", "2m"]`.
pub mod spans {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, span};

    /// Reads the list.
    ///
    /// # Errors
    /// If one of the texts is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| span::parse(text))
            .collect::<Result<_, _>>()
            .map_err(de::Error::custom)
    }

    /// Writes the list.
    ///
    /// # Errors
    /// Only those of `serializer`.
    pub fn serialize<S: Serializer>(spans: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(spans.iter().map(|span| humantime::format_duration(*span).to_string()))
    }
}

/// Sizes in bytes: "64MiB", "1MB".
pub mod size {
    use bytesize::ByteSize;

    use super::{Deserialize, Deserializer, Serializer};

    /// Reads a size.
    ///
    /// # Errors
    /// If the text is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        ByteSize::deserialize(deserializer).map(|size| size.as_u64())
    }

    /// Writes a size exactly: in the largest unit that leaves no rest.
    ///
    /// # Errors
    /// Only those of `serializer`.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let fitting = units.into_iter().find(|(unit, _)| *bytes > 0 && bytes.is_multiple_of(*unit));
        let (unit, name) = fitting.unwrap_or((1, "B"));
        serializer.collect_str(&format_args!("{}{name}", bytes / unit))
    }
}

/// Sizes that may be absent.
pub mod size_if_any {
    use super::{Deserializer, Serializer, size};

    /// Reads the size that is there.
    ///
    /// # Errors
    /// If the text is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        size::deserialize(deserializer).map(Some)
    }

    /// Writes the size, if there is one.
    ///
    /// # Errors
    /// Only those of `serializer`.
    pub fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => size::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_rate_is_shown_to_three_places() {
        let at = |rate: &str, millionths| {
            rate.parse::<Rate>().unwrap().at(Share::from_millionths(millionths))
        };
        assert_eq!(at("100/s", 1_000_000), "100/s");
        assert_eq!(at("600/m", 500_000), "300/m");
        assert_eq!(at("1000/h", 62_500), "62.5/h");
        assert_eq!(at("1/s", 62_500), "0.062/s");
        assert_eq!(at("4294967295/s", 999_999), "4294963000.032/s");
    }

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Sample {
        #[serde(with = "span")]
        wait: Duration,
        #[serde(with = "spans")]
        schedule: Vec<Duration>,
        #[serde(with = "size")]
        bytes: u64,
        rate: Rate,
    }

    #[test]
    fn quantities_read_and_write_back() {
        let text = r#"{"wait":"7d","schedule":["250ms","2h"],"bytes":"64MiB","rate":"600/m"}"#;
        let sample: Sample = serde_json::from_str(text).unwrap();
        assert_eq!(sample.wait, Duration::from_hours(168));
        assert_eq!(sample.schedule, [Duration::from_millis(250), Duration::from_hours(2)]);
        assert_eq!(sample.bytes, 64 << 20);
        assert_eq!(sample.rate.interval(), Duration::from_millis(100));
        for bytes in [sample.bytes, 0, 1_000_001, 3 << 10] {
            let written = Sample { bytes, schedule: sample.schedule.clone(), ..sample };
            let again = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
            assert_eq!(written, again);
        }
    }

    #[test]
    fn what_is_no_quantity_says_what_is() {
        for rate in ["", "100", "0/s", "-1/s", "1.5/s", "100/d", "/s", "99999999999/s"] {
            assert!(rate.parse::<Rate>().is_err(), "{rate:?}");
        }
        let wrong = r#"{"wait":"soon","schedule":[],"bytes":"1","rate":"1/s"}"#;
        let error = serde_json::from_str::<Sample>(wrong).unwrap_err().to_string();
        assert!(error.contains("\"soon\"") && error.contains("250ms"), "{error}");
    }
}
