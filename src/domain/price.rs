//! What a segment costs, as a decimal number and a currency: "0.0079 USD".
//!
//! Amounts are exact: they are whole numbers of the price's last decimal place.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most digits before the point, and after it.
const DIGITS_MAX: usize = 9;

/// A price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// In units of the last decimal place.
    units: u64,
    /// How many decimal places there are.
    places: usize,
    currency: Currency,
}

/// A currency's code of three capital letters (ISO 4217).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

/// The text is not a price.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a price: give a decimal number with at most {DIGITS_MAX} digits before and after the \
     point, and a currency, as in \"0.0079 USD\""
)]
pub struct InvalidPrice;

// === impl Price ===

impl Price {
    /// What so many cost: a decimal number with as many places as the price has.
    #[must_use]
    pub fn of(self, count: u64) -> String {
        self.amount(u128::from(self.units) * u128::from(count))
    }

    /// The currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    fn amount(self, units: u128) -> String {
        let digits = format!("{units:0width$}", width = self.places + 1);
        let (whole, places) = digits.split_at(digits.len() - self.places);
        if places.is_empty() { whole.to_owned() } else { format!("{whole}.{places}") }
    }
}

impl FromStr for Price {
    type Err = InvalidPrice;

    fn from_str(text: &str) -> Result<Self, InvalidPrice> {
        let (number, currency) = text.trim().split_once(' ').ok_or(InvalidPrice)?;
        let (whole, places) = match number.split_once('.') {
            Some((whole, places)) if !places.is_empty() => (whole, places),
            Some(_) => return Err(InvalidPrice),
            None => (number, ""),
        };
        let is_number = (1..=DIGITS_MAX).contains(&whole.len())
            && places.len() <= DIGITS_MAX
            && [whole, places].concat().bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(InvalidPrice);
        }
        let units = [whole, places].concat().parse().map_err(|_| InvalidPrice)?;
        Ok(Self { units, places: places.len(), currency: currency.trim().parse()? })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.of(1), self.currency)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Currency ===

impl FromStr for Currency {
    type Err = InvalidPrice;

    fn from_str(text: &str) -> Result<Self, InvalidPrice> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| InvalidPrice)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(InvalidPrice) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_exact() {
        for (price, count, amount) in [
            ("0.0079 USD", 0, "0.0000"),
            ("0.0079 USD", 1, "0.0079"),
            ("0.0079 USD", 1_000_000, "7900.0000"),
            ("0.1 EUR", 3, "0.3"),
            ("2 JPY", 7, "14"),
            ("007.50 EUR", 2, "15.00"),
            ("999999999.999999999 EUR", u64::MAX, "18446744073709551596553255926.290448385"),
        ] {
            let price: Price = price.parse().unwrap();
            assert_eq!(price.of(count), amount, "{price}");
        }
    }

    #[test]
    fn a_price_is_written_as_it_was_read() {
        for text in ["0.0079 USD", "12 EUR", "0.10 GBP"] {
            assert_eq!(text.parse::<Price>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in [
            "",
            "0.0079",
            "USD",
            "0.0079USD",
            "0,0079 USD",
            "-1 USD",
            "+1 USD",
            ".5 USD",
            "1. USD",
            "1e3 USD",
            "1.2.3 USD",
            "1 usd",
            "1 DOLLAR",
            "1 US",
            "1234567890 USD",
            "0.1234567890 USD",
            "1 €",
        ] {
            assert!(text.parse::<Price>().is_err(), "{text}");
        }
    }
}
