//! Metadata: any JSON of the client's, kept as given, and so judged at every depth: what others
//! will have to read must mean one thing.

use std::collections::HashSet;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::{Deserializer, value::RawValue};

use crate::api::json::{Expect, Faults, Key, Place, Pointer, Value, check_text};

/// The longest metadata, in bytes as given.
const METADATA_BYTES_MAX: usize = 4 * 1024;

/// The deepest nesting.
const DEPTH_MAX: u32 = 64;

/// The inside of an object or an array.
struct Nested<'r> {
    at: &'r Pointer<'r>,
    depth: u32,
    faults: &'r mut Faults,
}

/// Judges `raw`.
pub(super) fn check(raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
    faults.check_length(at, raw.get(), METADATA_BYTES_MAX);
    if raw.get().len() <= METADATA_BYTES_MAX {
        Nested { at, depth: 0, faults }.value(raw);
    }
}

// === impl Nested ===

impl Nested<'_> {
    fn value(self, raw: &RawValue) {
        match Value::read(raw) {
            Ok(Value::Object | Value::Array) if self.depth == DEPTH_MAX => {
                let detail = format_args!("nested deeper than {DEPTH_MAX} levels");
                self.faults.add(self.at, "too_deep", detail);
            }
            Ok(Value::Object | Value::Array) => {
                let mut json = Deserializer::from_str(raw.get());
                // The parser has found `raw` well formed; only a key can still be half a character.
                let (at, faults) = (self.at, &mut *self.faults);
                let inside = Nested { at, depth: self.depth, faults };
                if Place(inside).deserialize(&mut json).is_err() {
                    self.faults.add(self.at, "invalid_text", "a key holds half a character");
                }
            }
            Ok(_) => {}
            Err(unfit) => self.faults.add(self.at, unfit.code(), unfit),
        }
    }

    fn child(&mut self, at: &Pointer<'_>, raw: &RawValue) {
        Nested { at, depth: self.depth + 1, faults: &mut *self.faults }.value(raw);
    }
}

impl<'de> Expect<'de> for Nested<'_> {
    // Only objects and arrays are read this way.
    fn wrong(self, _found: &'static str) {}

    fn object<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = members.next_key_seed(Key)? {
            let at = Pointer::Key(self.at, &key);
            if let Err(unfit) = check_text(&key) {
                self.faults.add(&at, unfit.code(), unfit);
            }
            if seen.contains(&key) {
                self.faults.add(&at, "duplicate_field", "this key is given twice");
            }
            self.child(&at, members.next_value()?);
            seen.insert(key);
        }
        Ok(())
    }

    fn array<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(raw) = elements.next_element()? {
            self.child(&Pointer::Index(self.at, index), raw);
            index += 1;
        }
        Ok(())
    }
}
