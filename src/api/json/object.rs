//! Small values that are read in one piece: objects of a few known members, short lists, headers.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde_json::{Deserializer, value::RawValue};

use super::{Expect, Faults, Headers, Key, Place, Pointer};

/// The place of an object with these members.
struct Members<'r, 'de, const N: usize> {
    at: &'r Pointer<'r>,
    known: [&'static str; N],
    found: &'r mut Option<[Option<&'de RawValue>; N]>,
    faults: &'r mut Faults,
}

/// The place of a list.
struct Elements<'r, 'de> {
    at: &'r Pointer<'r>,
    longest: usize,
    found: &'r mut Vec<&'de RawValue>,
    faults: &'r mut Faults,
}

/// The members of the object at `at`, in the order of `known`, those that are `null` as if they
/// were not there; `None` if it is no object. What else is in it is noted.
pub(in crate::api) fn members<'de, const N: usize>(
    raw: &'de RawValue,
    at: &Pointer<'_>,
    known: [&'static str; N],
    faults: &mut Faults,
) -> Option<[Option<&'de RawValue>; N]> {
    let mut found = None;
    let place = Members { at, known, found: &mut found, faults: &mut *faults };
    within(place, raw).unwrap_or_else(|HalfCharacter| note_half(at, faults));
    found.map(|found| found.map(|raw| raw.filter(|raw| raw.get() != "null")))
}

/// The elements of the list at `at`, which has `longest` at most; none for `null`. What is no list,
/// or a longer one, is noted.
pub(in crate::api) fn elements<'de>(
    raw: &'de RawValue,
    at: &Pointer<'_>,
    longest: usize,
    faults: &mut Faults,
) -> Vec<&'de RawValue> {
    let mut found = Vec::new();
    let place = Elements { at, longest, found: &mut found, faults: &mut *faults };
    within(place, raw).unwrap_or_else(|HalfCharacter| note_half(at, faults));
    found
}

/// The headers at `at`; none for `null`. What is wrong with them is noted, see [`Headers`].
pub(in crate::api) fn headers(
    raw: &RawValue,
    at: &Pointer<'_>,
    faults: &mut Faults,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let place = Headers { at: *at, pairs: &mut pairs, faults: &mut *faults };
    within(place, raw).unwrap_or_else(|HalfCharacter| note_half(at, faults));
    pairs
}

/// A key holds half of a UTF-16 pair: all that can still be wrong with the syntax of a value that
/// the parser has found well formed.
struct HalfCharacter;

fn within<'de>(place: impl Expect<'de>, raw: &'de RawValue) -> Result<(), HalfCharacter> {
    let mut json = Deserializer::from_str(raw.get());
    Place(place).deserialize(&mut json).map_err(|_| HalfCharacter)
}

fn note_half(at: &Pointer<'_>, faults: &mut Faults) {
    faults.add(at, "invalid_text", "a key holds half a character");
}

// === impl Members ===

impl<'de, const N: usize> Expect<'de> for Members<'_, 'de, N> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(self.at, "an object", found);
    }

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let found = self.found.insert([None; N]);
        while let Some(name) = members.next_key_seed(Key)? {
            let at = Pointer::Key(self.at, &name);
            let raw: &RawValue = members.next_value()?;
            match self.known.iter().position(|known| *known == name) {
                None => self.faults.add(&at, "unknown_field", "there is no such field"),
                Some(member) => {
                    if found[member].replace(raw).is_some() {
                        self.faults.add(&at, "duplicate_field", "this field is given twice");
                    }
                }
            }
        }
        Ok(())
    }
}

// === impl Elements ===

impl<'de> Expect<'de> for Elements<'_, 'de> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(self.at, "an array", found);
    }

    fn null(self) {}

    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while self.found.len() < self.longest {
            let Some(raw) = elements.next_element()? else { return Ok(()) };
            self.found.push(raw);
        }
        if elements.next_element::<IgnoredAny>()?.is_some() {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            let detail = format_args!("more elements than the {} that are allowed", self.longest);
            self.faults.add(self.at, "too_many", detail);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    fn codes(faults: Faults) -> Vec<(String, String)> {
        faults.into_errors().into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn an_object_gives_its_known_members_and_notes_the_others() {
        let mut faults = Faults::default();
        let json = raw(r#"{"c": 1, "a": [2], "a": 3, "b": null}"#);
        let found = members(json, &Pointer::Root, ["a", "b"], &mut faults).unwrap();
        assert_eq!(found.map(|raw| raw.map(RawValue::get)), [Some("3"), None]);
        let expected = [("/c", "unknown_field"), ("/a", "duplicate_field")];
        assert_eq!(codes(faults), expected.map(|(at, code)| (at.to_owned(), code.to_owned())));
    }

    #[test]
    fn what_is_no_object_or_has_half_a_key_is_noted() {
        for (json, code) in [("[]", "wrong_type"), (r#"{"\ud800": 1}"#, "invalid_text")] {
            let mut faults = Faults::default();
            members(raw(json), &Pointer::Root, ["a"], &mut faults);
            assert_eq!(codes(faults), [(String::new(), code.to_owned())], "{json}");
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        let mut faults = Faults::default();
        assert_eq!(elements(raw("[1, 2]"), &Pointer::Root, 2, &mut faults).len(), 2);
        assert!(faults.is_empty());
        assert_eq!(elements(raw("[1, 2, 3, 4]"), &Pointer::Root, 2, &mut faults).len(), 2);
        assert_eq!(codes(faults), [(String::new(), "too_many".to_owned())]);
    }
}
