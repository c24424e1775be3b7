//! What is no JSON at all: where a text stops being that, and why.

use std::{fmt, str::Utf8Error};

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::{Expect, Place};

/// Where a text stops being JSON.
#[derive(Debug)]
pub(in crate::api) struct Flaw {
    what: String,
    /// Counted from 1, as the column is.
    line: u64,
    /// In bytes.
    column: usize,
}

/// Reads `body`, which is to be one JSON value, as what is expected at `place`.
///
/// # Errors
/// [`Flaw`] at the first byte that is wrong.
pub(in crate::api) fn read<'de>(body: &'de [u8], place: impl Expect<'de>) -> Result<(), Flaw> {
    let mut json = serde_json::Deserializer::from_str(utf8(body)?);
    Ok(Place(place).deserialize(&mut json).and_then(|()| json.end())?)
}

/// The one JSON value that `body` is to be.
///
/// # Errors
/// [`Flaw`] at the first byte that is wrong.
pub(in crate::api) fn raw(body: &[u8]) -> Result<&RawValue, Flaw> {
    Ok(serde_json::from_str(utf8(body)?)?)
}

fn utf8(body: &[u8]) -> Result<&str, Flaw> {
    let text = std::str::from_utf8(body).map_err(|error| Flaw::not_utf8(body, error))?;
    if text.starts_with('\u{feff}') {
        return Err(Flaw { what: "JSON has no byte order mark".into(), line: 1, column: 1 });
    }
    Ok(text)
}

// === impl Flaw ===

impl Flaw {
    /// The flaw of a text that is itself one line of many.
    pub(in crate::api) fn in_line(self, line: u64) -> Self {
        Self { line, ..self }
    }

    fn not_utf8(body: &[u8], error: Utf8Error) -> Self {
        let good = &body[..error.valid_up_to()];
        let line = memchr::memchr_iter(b'\n', good).count() as u64 + 1;
        let column = good.len() - memchr::memrchr(b'\n', good).map_or(0, |at| at + 1) + 1;
        Self { what: "invalid UTF-8".into(), line, column }
    }
}

impl From<serde_json::Error> for Flaw {
    fn from(error: serde_json::Error) -> Self {
        let mut what = error.to_string();
        // The parser's sentence ends with the place.
        what.truncate(what.rfind(" at line ").unwrap_or(what.len()));
        Self { what, line: error.line() as u64, column: error.column() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.what, self.line, self.column)
    }
}
