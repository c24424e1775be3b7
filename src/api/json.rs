//! JSON as clients send it, read in one pass: a value that is not wanted is noted with a pointer to
//! its place and read over, so that one answer tells everything that is wrong.
//!
//! What is no JSON at all ends the reading at its first wrong byte. Strings are borrowed from the
//! body wherever they hold no escapes. No error repeats a value: it may be a secret.

mod faults;
mod headers;
mod object;
mod places;
mod syntax;
mod values;

pub(super) use self::{
    faults::{Faults, Pointer},
    headers::Headers,
    object::{elements, headers, members},
    places::{Expect, Key, Place},
    syntax::{Flaw, raw, read},
    values::{Value, check_text, instant, next_text, text},
};
