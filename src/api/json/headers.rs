//! Callback headers: names and values that may be added to a callback without making it another
//! request than the one that is signed.

use http::{HeaderName, HeaderValue};
use serde::de::MapAccess;

use super::{Expect, Faults, Key, Pointer, next_text};
use crate::domain::callback_headers;

/// The most callback headers.
const HEADERS_MAX: usize = 20;

/// The longest names and values together, in bytes.
const HEADERS_BYTES_MAX: usize = 4 * 1024;

/// The place of an object of headers.
pub(in crate::api) struct Headers<'r> {
    pub(in crate::api) at: Pointer<'r>,
    pub(in crate::api) pairs: &'r mut Vec<(String, String)>,
    pub(in crate::api) faults: &'r mut Faults,
}

// === impl Headers ===

impl<'de> Expect<'de> for Headers<'_> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&self.at, "an object", found);
    }

    fn null(self) {}

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (mut count, mut bytes) = (0, 0);
        while let Some(name) = members.next_key_seed(Key)? {
            let at = Pointer::Key(&self.at, &name);
            let value = next_text(&mut members, &at, HEADERS_BYTES_MAX, self.faults)?;
            let value = value.unwrap_or_default();
            count += 1;
            bytes += name.len() + value.len();
            if count <= HEADERS_MAX && bytes <= HEADERS_BYTES_MAX {
                if let Some((code, detail)) = flaw(&name, &value) {
                    self.faults.add(&at, code, detail);
                } else if self.pairs.iter().any(|(given, _)| given.eq_ignore_ascii_case(&name)) {
                    self.faults.add(&at, "duplicate_field", "this header is given twice");
                }
                self.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        if count > HEADERS_MAX {
            let detail = format_args!("{count} headers, where {HEADERS_MAX} are allowed");
            self.faults.add(&self.at, "too_many", detail);
        }
        if bytes > HEADERS_BYTES_MAX {
            let detail = format_args!("{bytes} bytes, where {HEADERS_BYTES_MAX} are allowed");
            self.faults.add(&self.at, "too_long", detail);
        }
        Ok(())
    }
}

/// What is wrong with a header, as a code and a sentence.
fn flaw(name: &str, value: &str) -> Option<(&'static str, &'static str)> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some(("invalid_header", "this is no header name"));
    }
    if callback_headers::is_reserved(&lower) {
        return Some(("invalid_header", "this header is not the client's to set"));
    }
    // The type also takes bytes beyond ASCII.
    if !value.is_ascii() || HeaderValue::from_str(value).is_err() {
        return Some(("invalid_header", "a header's value is visible ASCII, blanks and tabs"));
    }
    None
}
