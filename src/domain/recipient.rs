//! Phone numbers, by form.

use std::fmt;

/// A phone number in E.164 form (ITU-T E.164): `+`, a first digit 1 to 9, 7 to 15 digits in all.
///
/// Only the form is judged. Whether a number is in use is the carrier's to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient<'a>(&'a str);

/// The text does not have the form of an E.164 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an E.164 number: + and 7 to 15 digits, the first one not 0")]
pub struct InvalidNumber;

// === impl Recipient ===

impl<'a> Recipient<'a> {
    /// Judges `text` byte by byte; nothing is trimmed or repaired.
    ///
    /// # Errors
    /// [`InvalidNumber`] if the form is not E.164.
    pub fn parse(text: &'a str) -> Result<Self, InvalidNumber> {
        let digits = text.as_bytes().strip_prefix(b"+").ok_or(InvalidNumber)?;
        let well_formed = matches!(digits, [b'1'..=b'9', ..])
            && (7..=15).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit);
        if well_formed { Ok(Self(text)) } else { Err(InvalidNumber) }
    }

    /// The number as given.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Recipient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Masked(self.0), f)
    }
}

/// A number as logs may show it: its last two digits, the rest masked.
#[derive(Clone, Copy)]
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_two = self.0.len().checked_sub(2).and_then(|at| self.0.get(at..));
        write!(f, "+…{}", last_two.unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e164_numbers_are_taken_as_given() {
        for number in ["+15551230001", "+4915112345678", "+1234567", "+123456789012345"] {
            assert_eq!(Recipient::parse(number).unwrap().as_str(), number);
        }
    }

    #[test]
    fn anything_else_is_no_number() {
        let others = [
            "",
            "+",
            "15551230001",
            "+0555123000",
            "+123456",
            "+1234567890123456",
            "+1555 123001",
            "tel:+15551230001",
            "+1555123000a",
            "+１５５５１２３０００１",
            "+1555123\u{0}001",
            " +15551230001",
            "++15551230001",
        ];
        for other in others {
            assert_eq!(Recipient::parse(other), Err(InvalidNumber), "{other:?}");
        }
    }

    #[test]
    fn a_masked_number_keeps_two_digits() {
        assert_eq!(Masked("+15551230042").to_string(), "+…42");
        assert_eq!(Masked("é").to_string(), "+…é");
        assert_eq!(Masked("aé").to_string(), "+…é");
        assert_eq!(Masked("x").to_string(), "+…");
        assert!(!format!("{:?}", Recipient::parse("+15551230042").unwrap()).contains("555"));
    }
}
