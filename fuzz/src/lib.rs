//! What all fuzzers share.

mod properties;

/// Checks the property of this name.
///
/// # Panics
/// If there is none, or it does not hold.
pub fn check(property: &str, input: &[u8]) {
    let found = properties::TARGETS.iter().find(|(name, _)| *name == property);
    found.expect("a property").1(input);
}
