//! Variables: an object of names and values, the batch's or a recipient's own.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use crate::{
    api::json::{Expect, Faults, Key, Pointer, Value},
    domain::template::is_name,
};

/// The most variables of one object.
const VARIABLES_MAX: usize = 100;

/// The longest value, in bytes.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Names and values in the order given.
pub(super) type Pairs<'de> = Vec<(Cow<'de, str>, Cow<'de, str>)>;

/// The place of a `variables` object.
pub(super) struct Variables<'r, 'de> {
    pub(super) at: Pointer<'r>,
    pub(super) pairs: &'r mut Pairs<'de>,
    pub(super) faults: &'r mut Faults,
}

// === impl Variables ===

impl<'de> Expect<'de> for Variables<'_, 'de> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&self.at, "an object", found);
    }

    fn null(self) {}

    fn object<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Key)? {
            if self.pairs.len() == VARIABLES_MAX {
                let detail = format_args!("more than {VARIABLES_MAX} variables");
                self.faults.add(&self.at, "too_many", detail);
                members.next_value::<IgnoredAny>()?;
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(());
            }
            let value = self.value(&name, members.next_value()?);
            self.pairs.push((name, value));
        }
        Ok(())
    }
}

impl<'de> Variables<'_, 'de> {
    /// Judges one variable; gives an empty value in place of one that is wrong.
    fn value(&mut self, name: &str, raw: &'de RawValue) -> Cow<'de, str> {
        let at = Pointer::Key(&self.at, name);
        if !is_name(name) {
            let detail = "a variable's name is 1 to 64 letters, digits or underscores";
            self.faults.add(&at, "invalid_name", detail);
        } else if self.pairs.iter().any(|(earlier, _)| earlier == name) {
            self.faults.add(&at, "duplicate_field", "this variable is given twice");
        }
        match Value::read(raw) {
            Ok(Value::Text(text)) => {
                self.faults.check_length(&at, &text, VALUE_BYTES_MAX);
                return text;
            }
            Ok(Value::Number(text) | Value::Bool(text)) => {
                self.faults.check_length(&at, text, VALUE_BYTES_MAX);
                return Cow::Borrowed(text);
            }
            Ok(other) => {
                self.faults.wrong_type(&at, "a string, a number or a boolean", other.kind());
            }
            Err(unfit) => self.faults.add(&at, unfit.code(), unfit),
        }
        Cow::Borrowed("")
    }
}
