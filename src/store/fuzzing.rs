//! Stored records as functions of bytes, for `fuzz/`. Only with the feature `fuzzing`, which the tests
//! turn on.

use super::stored::{read_spec, write_spec};
use crate::domain::batch::BatchSpec;

/// Reads a batch's spec.
#[must_use]
pub fn spec(bytes: &[u8]) -> Option<BatchSpec> {
    read_spec(bytes).ok()
}

/// A spec as it is stored.
#[must_use]
pub fn stored(spec: &BatchSpec) -> Vec<u8> {
    write_spec(spec)
}
