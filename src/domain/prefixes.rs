//! Rates by the beginning of a recipient's number: the longest one that fits says how fast.

use std::{collections::BTreeMap, time::Duration};

use super::units::Rate;

/// The most digits of a prefix: no number has more.
const DIGITS_MAX: usize = 15;

/// Prefixes, each with the time between two messages to its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeMap<String, Duration>);

/// The text is not the beginning of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the beginning of a number: + and 1 to {DIGITS_MAX} digits, the first one not 0")]
pub struct InvalidPrefix;

// === impl Prefixes ===

impl Prefixes {
    /// The prefixes with these rates. One that [is none](check) fits no number.
    #[must_use]
    pub fn new(rates: &BTreeMap<String, Rate>) -> Self {
        Self(rates.iter().map(|(prefix, rate)| (prefix.clone(), rate.interval())).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The longest prefix of `number`, and the time between two messages.
    #[must_use]
    pub fn of(&self, number: &str) -> Option<(&str, Duration)> {
        let longest = number.len().min(DIGITS_MAX + 1);
        let beginnings = (2..=longest).rev().filter_map(|length| number.get(..length));
        let mut fitting = beginnings.filter_map(|beginning| self.0.get_key_value(beginning));
        fitting.next().map(|(prefix, interval)| (prefix.as_str(), *interval))
    }
}

/// Judges a prefix by form.
///
/// # Errors
/// [`InvalidPrefix`] if no number begins so.
pub fn check(prefix: &str) -> Result<(), InvalidPrefix> {
    let digits = prefix.as_bytes().strip_prefix(b"+").ok_or(InvalidPrefix)?;
    let well_formed = matches!(digits, [b'1'..=b'9', ..])
        && digits.len() <= DIGITS_MAX
        && digits.iter().all(u8::is_ascii_digit);
    if well_formed { Ok(()) } else { Err(InvalidPrefix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_that_fits_wins() {
        let rates = [("+1", "100/s"), ("+49", "20/s"), ("+4917", "5/s"), ("+15551230001", "1/s")];
        let rates = rates.map(|(prefix, rate)| (prefix.to_owned(), rate.parse().unwrap()));
        let prefixes = Prefixes::new(&BTreeMap::from(rates));
        let found = |number| prefixes.of(number).map(|(prefix, _)| prefix);
        assert_eq!(found("+4917012345678"), Some("+4917"));
        assert_eq!(found("+4916012345678"), Some("+49"));
        assert_eq!(found("+15551230002"), Some("+1"));
        assert_eq!(found("+15551230001"), Some("+15551230001"));
        assert_eq!(found("+33123456789"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("+€€€"), None);
        let slow = prefixes.of("+4917012345678").map(|(_, interval)| interval);
        assert_eq!(slow, Some(Duration::from_millis(200)));
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_number() {
        for prefix in ["+1", "+4917", "+123456789012345"] {
            assert_eq!(check(prefix), Ok(()), "{prefix}");
        }
        for other in ["", "+", "1", "+0", "+1 ", "+1555x", "+1234567890123456", "0049"] {
            assert_eq!(check(other), Err(InvalidPrefix), "{other}");
        }
    }
}
