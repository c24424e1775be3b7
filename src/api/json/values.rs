//! Single values of the document: strings, numbers, booleans, borrowed from the body wherever
//! they hold no escapes. Numbers keep the digits they were written with.

use std::borrow::Cow;

use memchr::memchr;
use serde::de::MapAccess;
use serde_json::value::RawValue;

use super::{Faults, Pointer};
use crate::domain::time::UnixMs;

/// A value whose JSON is well formed.
#[derive(Debug, PartialEq)]
pub(in crate::api) enum Value<'de> {
    /// A string, unescaped.
    Text(Cow<'de, str>),
    /// A number, as written.
    Number(&'de str),
    /// `true` or `false`.
    Bool(&'de str),
    /// `null`.
    Null,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A string or number that is well formed and still can't be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::api) enum Unfit {
    /// It holds U+0000, which no message can carry.
    #[error("the text holds the character NUL")]
    Nul,
    /// It holds half of a UTF-16 pair.
    #[error("the text holds an escape that is only half a character")]
    Surrogate,
    /// It is beyond what a double can hold.
    #[error("the number is out of range")]
    Range,
}

// === impl Value ===

impl<'de> Value<'de> {
    /// Reads `raw`, which the JSON parser has found well formed.
    pub(in crate::api) fn read(raw: &'de RawValue) -> Result<Self, Unfit> {
        let json = raw.get();
        match json.as_bytes().first() {
            Some(b'"') => unescape(json).map(Self::Text),
            Some(b'{') => Ok(Self::Object),
            Some(b'[') => Ok(Self::Array),
            Some(b't' | b'f') => Ok(Self::Bool(json)),
            Some(b'n') => Ok(Self::Null),
            _ if json.parse::<f64>().is_ok_and(f64::is_finite) => Ok(Self::Number(json)),
            _ => Err(Unfit::Range),
        }
    }

    pub(in crate::api) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Null => "null",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

// === impl Unfit ===

impl Unfit {
    pub(in crate::api) fn code(&self) -> &'static str {
        match self {
            Self::Nul | Self::Surrogate => "invalid_text",
            Self::Range => "out_of_range",
        }
    }
}

/// The next member's value, if it is a string of at most `max_bytes`; `None` for `null`, and for
/// anything else after noting it.
pub(in crate::api) fn next_text<'de, A: MapAccess<'de>>(
    members: &mut A,
    at: &Pointer<'_>,
    max_bytes: usize,
    faults: &mut Faults,
) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(text(members.next_value()?, at, max_bytes, faults))
}

/// The text that stands at `at`, if it is a string of at most `max_bytes`; `None` for `null`, and
/// for anything else after noting it.
pub(in crate::api) fn text<'de>(
    raw: &'de RawValue,
    at: &Pointer<'_>,
    max_bytes: usize,
    faults: &mut Faults,
) -> Option<Cow<'de, str>> {
    match Value::read(raw) {
        Ok(Value::Text(text)) => {
            faults.check_length(at, &text, max_bytes);
            return Some(text);
        }
        Ok(Value::Null) => {}
        Ok(other) => faults.wrong_type(at, "a string", other.kind()),
        Err(unfit) => faults.add(at, unfit.code(), unfit),
    }
    None
}

/// Checks a text that the JSON parser has unescaped already.
pub(in crate::api) fn check_text(text: &str) -> Result<(), Unfit> {
    if memchr(0, text.as_bytes()).is_some() { Err(Unfit::Nul) } else { Ok(()) }
}

/// The text of a JSON string. One without escapes can't hold a NUL: JSON forbids it bare.
fn unescape(json: &str) -> Result<Cow<'_, str>, Unfit> {
    let inner = json.get(1..json.len() - 1).unwrap_or_default();
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    let text: String = serde_json::from_str(json).map_err(|_| Unfit::Surrogate)?;
    check_text(&text)?;
    Ok(Cow::Owned(text))
}

/// Reads an RFC 3339 time.
pub(in crate::api) fn instant(text: &str, at: &Pointer<'_>, faults: &mut Faults) -> Option<UnixMs> {
    let instant = text.parse::<jiff::Timestamp>();
    if instant.is_err() {
        let detail = "this is an RFC 3339 time, as in 2026-12-01T09:00:00Z";
        faults.add(at, "invalid_value", detail);
    }
    instant.ok().map(UnixMs::from)
}
