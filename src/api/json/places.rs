//! How a place in the document is read: one that expects a certain type takes any, and notes a
//! fault if it is another one, so that reading goes on to the end and finds all faults.
//!
//! Errors that end the reading are those of JSON's syntax alone.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a place expects. The methods a place does not write are those of types it does not want.
pub(in crate::api) trait Expect<'de>: Sized {
    /// Notes that what is here is not wanted; `found` names its type.
    fn wrong(self, found: &'static str);

    /// Takes a string.
    fn text(self, _text: &str) {
        self.wrong("a string");
    }

    /// Takes `null`.
    fn null(self) {
        self.wrong("null");
    }

    /// Takes an object, to its end.
    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.wrong("an object");
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    /// Takes an array, to its end.
    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.wrong("an array");
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Reads whatever stands at a place.
pub(in crate::api) struct Place<E>(pub(in crate::api) E);

/// Reads an object's key, borrowed unless it has escapes.
pub(in crate::api) struct Key;

// === impl Place ===

impl<'de, E: Expect<'de>> DeserializeSeed<'de> for Place<E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E: Expect<'de>> Visitor<'de> for Place<E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<X: Error>(self, _value: bool) -> Result<(), X> {
        self.0.wrong("a boolean");
        Ok(())
    }

    fn visit_i64<X: Error>(self, _value: i64) -> Result<(), X> {
        self.0.wrong("a number");
        Ok(())
    }

    fn visit_u64<X: Error>(self, _value: u64) -> Result<(), X> {
        self.0.wrong("a number");
        Ok(())
    }

    fn visit_f64<X: Error>(self, _value: f64) -> Result<(), X> {
        self.0.wrong("a number");
        Ok(())
    }

    fn visit_unit<X: Error>(self) -> Result<(), X> {
        self.0.null();
        Ok(())
    }

    fn visit_str<X: Error>(self, text: &str) -> Result<(), X> {
        self.0.text(text);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        self.0.object(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<(), A::Error> {
        self.0.array(elements)
    }
}

// === impl Key ===

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<X: Error>(self, key: &'de str) -> Result<Self::Value, X> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<X: Error>(self, key: &str) -> Result<Self::Value, X> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
