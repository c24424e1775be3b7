//! What can be wrong with a list, and where.
//!
//! A place is a line and a column, both from 1, as an editor shows them: the column counts
//! characters. A flaw always says which field it is in, where that has a name.

use std::{fmt, io};

use super::RECORD_BYTES_MAX;

/// Why a list was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The file or the stream behind it failed.
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is not what a list has to be.
    #[error(transparent)]
    Flawed(#[from] Flaw),
    /// Whoever takes the recipients wants no more of them.
    #[error("the reading was broken off")]
    Unwanted,
}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Where it is.
    pub(crate) at: Place,
    /// The name of its column, if it is in a named one.
    pub(crate) column: Option<String>,
    /// What it is.
    pub(crate) fault: Fault,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line, from 1.
    pub(crate) line: u64,
    /// The character of that line, from 1.
    pub(crate) column: u64,
}

/// What is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A CSV file without its first line.
    #[error("the list is empty: a CSV list begins with a header line")]
    NoHeader,
    /// No column says whom to send to.
    #[error(
        "the header has no column `to`, but {0} (commas separate columns, and `To` is not `to`)"
    )]
    NoRecipients(String),
    /// Two columns of one name.
    #[error("the header has two columns of this name")]
    DuplicateColumn,
    /// The body needs a variable that nothing gives.
    #[error(
        "the body uses {{{{{0}}}}}, and there is neither a column `{0}` nor a `--variable {0}=…`"
    )]
    NoVariable(String),
    /// A record with more fields than the header.
    #[error("the record goes on here, where the header ends after {0} columns")]
    TooManyFields(usize),
    /// A record with fewer fields than the header.
    #[error("the record ends here after {given} of {wanted} fields")]
    TooFewFields {
        /// How many fields it has.
        given: usize,
        /// How many the header has.
        wanted: usize,
    },
    /// Bytes that are no text.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A character that no message can carry.
    #[error("the text holds the character NUL")]
    Nul,
    /// A quoted field that goes on after its closing quote.
    #[error("text follows the quote that closes this field; write a quote within quotes twice")]
    AfterQuote,
    /// The list ends within quotes.
    #[error("the quote that opens here is never closed")]
    Unclosed,
    /// More than one recipient may take.
    #[error("the record is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    /// More than one recipient may take, within quotes: the likely reason is another one.
    #[error(
        "the record is longer than {RECORD_BYTES_MAX} bytes; is the quote that opens here closed?"
    )]
    TooLongInQuotes,
    /// A line of NDJSON that is no recipient.
    #[error("{0}")]
    NoRecipient(String),
}

// === impl Flaw ===

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.at.line, self.at.column)?;
        match &self.column {
            Some(name) => write!(f, "`{name}`: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for Flaw {}

// === impl Place ===

impl Place {
    /// Where a text begins.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// Goes past `bytes`. A byte that continues a character takes no column.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let last_line = match memchr::memrchr(b'\n', bytes) {
            None => bytes,
            Some(end) => {
                // A usize fits a u64 on every system there is.
                self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
                self.column = 1;
                &bytes[end + 1..]
            }
        };
        self.column += last_line.iter().filter(|byte| (**byte & 0xC0) != 0x80).count() as u64;
    }

    /// This is wrong here.
    pub(crate) fn flaw(self, fault: Fault) -> Flaw {
        Flaw { at: self, column: None, fault }
    }
}
