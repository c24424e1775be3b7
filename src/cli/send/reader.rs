//! A list in either format: bytes in, one recipient after the other out, as JSON.

use super::ndjson::NdjsonReader;
use crate::domain::list::{Take, csv::CsvReader, flaw::ListError, header::Needs};

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a header line (RFC 4180)
    Csv,
    /// One recipient a line, as JSON
    Ndjson,
}

/// Reads a list.
pub(super) enum Reader {
    /// As CSV.
    Csv(Box<CsvReader>),
    /// As NDJSON.
    Ndjson(NdjsonReader),
}

// === impl Format ===

impl Format {
    /// The format that a list begins like. A header can't begin with `{`, nor with a quoted number.
    pub(super) fn guess(head: &[u8]) -> Self {
        match head.trim_ascii_start() {
            [b'{', ..] | [b'"', b'+', ..] => Self::Ndjson,
            _ => Self::Csv,
        }
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(format: Format, needs: Needs) -> Self {
        match format {
            Format::Csv => Self::Csv(Box::new(CsvReader::new(needs))),
            Format::Ndjson => Self::Ndjson(NdjsonReader::default()),
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// The first flaw, or what `take` says.
    pub(super) fn push(&mut self, input: &[u8], take: &mut impl Take) -> Result<(), ListError> {
        match self {
            Self::Csv(reader) => reader.push(input, take),
            Self::Ndjson(reader) => reader.push(input, take),
        }
    }

    /// Reads the end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn finish(&mut self, take: &mut impl Take) -> Result<(), ListError> {
        match self {
            Self::Csv(reader) => reader.finish(take),
            Self::Ndjson(reader) => reader.finish(take),
        }
    }
}
