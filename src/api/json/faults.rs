//! What is wrong with a document: every fault with a pointer to its place, up to a bound.
//!
//! Places are kept as links on the stack while the document is read, so that a document without
//! faults pays nothing for them.

use std::fmt;

use crate::api::{model::FieldError, problem::ERRORS_MAX};

/// A key longer than this is not repeated in an answer, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// A place in the document (RFC 6901).
#[derive(Clone, Copy, Debug)]
pub(in crate::api) enum Pointer<'p> {
    /// The whole document.
    Root,
    /// A member of an object.
    Key(&'p Self, &'p str),
    /// An element of an array.
    Index(&'p Self, u64),
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(in crate::api) struct Faults(Vec<FieldError>);

// === impl Faults ===

impl Faults {
    /// Notes that something is wrong at `at`; in silence once there are enough.
    pub(in crate::api) fn add(
        &mut self,
        at: &Pointer<'_>,
        code: &'static str,
        detail: impl fmt::Display,
    ) {
        if self.0.len() < ERRORS_MAX {
            let (pointer, code, detail) = (at.to_string(), code.into(), detail.to_string());
            self.0.push(FieldError { pointer, code, detail });
        }
    }

    /// A value of another type than is wanted.
    pub(in crate::api) fn wrong_type(&mut self, at: &Pointer<'_>, wanted: &str, found: &str) {
        self.add(at, "wrong_type", format_args!("{wanted} is wanted here, not {found}"));
    }

    /// A member of the object at `of` that must be there and is not, unless something else is wrong
    /// with it already.
    pub(in crate::api) fn missing(&mut self, member: &str, of: &Pointer<'_>) {
        let at = Pointer::Key(of, member);
        if !self.concern(&at) {
            self.add(&at, "missing", "this field is required");
        }
    }

    /// A text longer than `max_bytes`, if it is.
    pub(in crate::api) fn check_length(&mut self, at: &Pointer<'_>, text: &str, max_bytes: usize) {
        if text.len() > max_bytes {
            let len = text.len();
            self.add(at, "too_long", format_args!("{len} bytes, where {max_bytes} are allowed"));
        }
    }

    /// Whether something was found wrong at `at`.
    pub(in crate::api) fn concern(&self, at: &Pointer<'_>) -> bool {
        let pointer = at.to_string();
        self.0.iter().any(|fault| fault.pointer == pointer)
    }

    pub(in crate::api) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::api) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

// === impl Pointer ===

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
            Self::Key(parent, key) if key.len() > KEY_BYTES_MAX => parent.fmt(f),
            Self::Key(parent, key) => {
                write!(f, "{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
            }
        }
    }
}
