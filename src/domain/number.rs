//! A phone number as an integer: how lists of a million of them are kept.

use std::{fmt, str::FromStr};

use super::recipient::{InvalidNumber, Masked, Recipient};

/// The digits of an E.164 number. There are at most 15 of them, so they fit 50 bits; and none begins with
/// 0, so two numbers never share their integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

// === impl Number ===

impl Number {
    /// The number with these digits; `None` if there is none.
    #[must_use]
    pub fn of_digits(digits: u64) -> Option<Self> {
        (1_000_000..=999_999_999_999_999).contains(&digits).then_some(Self(digits))
    }

    /// Its digits.
    #[must_use]
    pub fn digits(self) -> u64 {
        self.0
    }
}

impl From<Recipient<'_>> for Number {
    fn from(recipient: Recipient<'_>) -> Self {
        // It is `+` and at most 15 digits.
        let digits = recipient.as_str().bytes().skip(1);
        Self(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }
}

impl FromStr for Number {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        Recipient::parse(text).map(Self::from)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Masked(&self.to_string()), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_back_as_it_was_written() {
        for text in ["+1234567", "+15551230001", "+999999999999999", "+1000000"] {
            let number: Number = text.parse().unwrap();
            assert_eq!(number.to_string(), text);
            assert_eq!(Number::of_digits(number.digits()), Some(number));
        }
        for text in ["15551230001", "+0555123000", "+123456", "+1234567890123456", ""] {
            assert_eq!(text.parse::<Number>(), Err(InvalidNumber), "{text}");
        }
    }

    #[test]
    fn digits_that_are_no_number_are_none() {
        for digits in [0, 999_999, 1_000_000_000_000_000, u64::MAX] {
            assert_eq!(Number::of_digits(digits), None, "{digits}");
        }
    }

    #[test]
    fn a_number_in_a_log_is_masked() {
        assert_eq!(format!("{:?}", "+15551230042".parse::<Number>().unwrap()), "+…42");
    }
}
