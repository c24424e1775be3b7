//! What must hold for any input. Each property is a function of bytes that panics where it does not;
//! fuzzers look for such bytes, and the tests run what they have found.

mod batch;
mod callback_url;
mod lines;
mod stored;
mod table;
mod template;

/// A property, and the folder of its inputs in `fuzz/corpus`.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 6] = [
    ("batch", batch::check),
    ("lines", lines::check),
    ("table", table::check),
    ("template", template::check),
    ("callback_url", callback_url::check),
    ("stored", stored::check),
];
