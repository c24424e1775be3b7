//! Reads the body of `POST /v1/batches` in one pass, straight into chunks: one JSON document as a
//! whole ([`parse`]), or lines ([`begin`]) and tables ([`begin_table`]) as they come.
//!
//! What is not JSON is refused at the first wrong byte. What is JSON is read to its end, so that
//! the answer lists everything that is wrong with it, up to a bound. Strings are borrowed from the
//! body; recipients go into chunks one by one and are never held as a list.

mod amendment;
mod authorization;
mod callback;
mod document;
mod duplicates;
mod lines;
mod metadata;
mod pace;
mod recipients;
mod rows;
mod schedule;
mod table;
mod texts;
mod variables;

use std::collections::BTreeMap;

pub(super) use self::amendment::amended;
pub(super) use self::callback::signing_secret;
use self::{
    document::{Document, Root},
    recipients::Sink,
};
pub(super) use self::{
    duplicates::Numbers,
    lines::{LINE_BYTES_MAX, begin},
    recipients::Rest,
    rows::Rows,
    table::begin as begin_table,
};
use super::{
    ProviderFacts,
    json::{self, Faults, Pointer},
    model::{Duplicates, FieldError},
};
use crate::domain::{batch::BatchSpec, callback_url, chunk::NewChunk, time::UnixMs};

/// The longest reference of a batch or a message, in bytes.
const REFERENCE_BYTES_MAX: usize = 256;

/// What a submission is judged by.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The account it comes from.
    pub(super) account: &'a str,
    /// The providers there are.
    pub(super) providers: &'a BTreeMap<String, ProviderFacts>,
    /// The provider of submissions that name none.
    pub(super) default_provider: &'a str,
    /// The most messages in a chunk.
    pub(super) chunk_size: u16,
    /// The most recipients in a batch of this account.
    pub(super) recipients_max: u32,
    /// Whether invalid recipients are only counted, whatever the submission asks for.
    pub(super) counts_invalid: bool,
    /// Where callbacks may go.
    pub(super) callbacks: &'a callback_url::Rules,
    /// The time of day.
    pub(super) now: UnixMs,
}

/// A submission that can be accepted.
#[derive(Debug)]
pub(super) struct Submission {
    /// What the client asks for.
    pub(super) spec: BatchSpec,
    /// The recipients.
    pub(super) chunks: Vec<NewChunk>,
    /// How many messages are in the chunks.
    pub(super) messages: u32,
    /// How many of them are invalid.
    pub(super) invalid: u32,
    /// How many recipients were left out, since the batch had their numbers already.
    pub(super) skipped: u64,
}

/// Why a submission can't be accepted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not JSON; the sentence says where it stops being that.
    Syntax(String),
    /// Some fields are wrong.
    Fields(Vec<FieldError>),
    /// The numbers so far can't be kept, to compare further ones with.
    Scratch(rusqlite::Error),
    /// A line is longer than [`LINE_BYTES_MAX`].
    LineTooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// The client wants none of it sent if a recipient is invalid, and some are.
    InvalidRecipients {
        /// The first ones, as field errors.
        errors: Vec<FieldError>,
        /// How many there are.
        count: u32,
    },
}

/// Reads and judges `body`, a JSON document.
///
/// # Errors
/// [`Refusal`], with everything that is wrong.
pub(super) fn parse(body: &[u8], rules: &Rules<'_>) -> Result<Submission, Refusal> {
    let at = Pointer::Root;
    let (mut document, mut sink, mut faults) = read_with(body, rules, Duplicates::Keep)?;
    if document.duplicates == Duplicates::Skip {
        // It may stand behind the recipients, and was not known when they were read.
        (document, sink, faults) = read_with(body, rules, Duplicates::Skip)?;
    }
    let (on_invalid, has_recipients) = (document.on_invalid, document.gives("recipients"));
    // A document that is no object at all lacks no fields.
    let spec = document.is_object.then(|| document.into_spec(rules, &at, &mut faults));
    if spec.is_some() && !has_recipients {
        faults.missing("recipients", &at);
    }
    let Some(spec) = spec.filter(|_| faults.is_empty()) else {
        return Err(Refusal::Fields(faults.into_errors()));
    };
    sink.judge_invalid(on_invalid)?;
    let Rest { chunks, messages, invalid, skipped } = sink.finish()?;
    Ok(Submission { spec, chunks, messages, invalid, skipped })
}

fn read_with<'de>(
    body: &'de [u8],
    rules: &Rules<'_>,
    duplicates: Duplicates,
) -> Result<(Document<'de>, Sink, Faults), Refusal> {
    let (mut document, mut faults) = (Document::default(), Faults::default());
    let mut sink = Sink::new(rules, duplicates);
    let root = Root {
        at: &Pointer::Root,
        document: &mut document,
        sink: Some(&mut sink),
        faults: &mut faults,
    };
    json::read(body, root).map_err(|flaw| Refusal::Syntax(flaw.to_string()))?;
    Ok((document, sink, faults))
}

#[cfg(test)]
mod tests;
