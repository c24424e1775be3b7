//! `Retry-After`, as providers and callback receivers send it (RFC 9110, 10.2.3).
//!
//! It is a number of seconds or a date. A date is read against the answer's own `Date`, so that
//! neither side's clock matters.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

/// How long `value` asks to wait. `date` is the answer's `Date`. `None` if that can't be told.
#[must_use]
pub fn parse(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a very long time, not none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let wait: SignedDuration = instant(value)?.duration_since(instant(date?)?);
    Some(wait.try_into().unwrap_or_default())
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn seconds_are_taken_as_they_are() {
        assert_eq!(parse("0", None), Some(Duration::ZERO));
        assert_eq!(parse(" 120 ", None), Some(Duration::from_mins(2)));
        assert_eq!(parse("99999999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn a_date_counts_from_the_answers_own() {
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(parse(later, DATE), Some(Duration::from_secs(30)));
        assert_eq!(parse(later, None), None);
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT", DATE), Some(Duration::ZERO));
    }

    #[test]
    fn anything_else_says_nothing() {
        for value in ["", "soon", "-1", "1.5", "+3", "１０", "Sun, 99 Nov 1994 08:50:07 GMT"] {
            assert_eq!(parse(value, DATE), None, "{value:?}");
        }
    }
}
