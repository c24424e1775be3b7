//! Lists of recipients as CSV: bytes in, one recipient after the other out, as JSON. And what can be
//! wrong with a list, whatever it is written as.

pub(crate) mod csv;
pub(crate) mod flaw;
pub(crate) mod header;
pub(crate) mod numbers;
mod record;

use self::flaw::ListError;

/// The longest record of a list, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The byte order mark that some programs begin a text with.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One recipient: a JSON text without line breaks, as the API takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// The line of the list that it begins in, from 1.
    pub(crate) number: u64,
    /// Itself.
    pub(crate) json: &'a [u8],
}

/// Where recipients go.
pub(crate) trait Take {
    /// Takes one.
    ///
    /// # Errors
    /// [`ListError::Unwanted`] if it wants no more.
    fn take(&mut self, line: Line<'_>) -> Result<(), ListError>;
}
