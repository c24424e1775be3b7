//! What a batch wants of its texts beyond what they say.

use std::num::NonZeroU8;

use serde_json::value::RawValue;

use crate::api::json::{Faults, Pointer, Value};

/// Reads `smart_encoding`; `false` for `null`, and for what is wrong after noting it.
pub(super) fn smart_encoding(raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) -> bool {
    match Value::read(raw) {
        Ok(Value::Bool(word)) => return word == "true",
        Ok(Value::Null) => {}
        Ok(other) => faults.wrong_type(at, "a boolean", other.kind()),
        Err(unfit) => faults.add(at, unfit.code(), unfit),
    }
    false
}

/// Reads `max_segments`; `None` for `null`, and for what is wrong after noting it.
pub(super) fn segments_max(
    raw: &RawValue,
    at: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<NonZeroU8> {
    match Value::read(raw) {
        Ok(Value::Number(digits)) => {
            let most = digits.parse().ok();
            if most.is_none() {
                faults.add(at, "invalid_value", "this is a whole number from 1 to 255");
            }
            return most;
        }
        Ok(Value::Null) => {}
        Ok(other) => faults.wrong_type(at, "a number", other.kind()),
        Err(unfit) => faults.add(at, unfit.code(), unfit),
    }
    None
}
