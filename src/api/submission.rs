//! Reads the body of `POST /v1/batches` in one pass, straight into chunks.
//!
//! What is not JSON is refused at the first wrong byte. What is JSON is read to its end, so that
//! the answer lists everything that is wrong with it, up to a bound. Strings are borrowed from the
//! body; recipients go into chunks one by one and are never held as a list.

mod document;
mod faults;
mod headers;
mod metadata;
mod places;
mod recipients;
mod values;
mod variables;

use std::{collections::BTreeMap, str::Utf8Error};

use serde::de::DeserializeSeed;

use self::{
    document::{Document, Root},
    faults::Faults,
    places::Place,
    recipients::Sink,
};
use super::{
    ProviderFacts,
    model::{FieldError, OnInvalid},
    problem::ERRORS_MAX,
};
use crate::domain::{batch::BatchSpec, chunk::NewChunk, message::FinalState};

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
    /// Whether callbacks may go to local networks.
    pub(super) allow_private_networks: bool,
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
}

/// Why a submission can't be accepted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not JSON; the sentence says where it stops being that.
    Syntax(String),
    /// Some fields are wrong.
    Fields(Vec<FieldError>),
    /// The client wants none of it sent if a recipient is invalid, and some are.
    InvalidRecipients {
        /// The first ones, as field errors.
        errors: Vec<FieldError>,
        /// How many there are.
        count: u32,
    },
}

/// Reads and judges `body`.
///
/// # Errors
/// [`Refusal`], with everything that is wrong.
pub(super) fn parse(body: &[u8], rules: &Rules<'_>) -> Result<Submission, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error))?;
    if text.starts_with('\u{feff}') {
        return Err(Refusal::Syntax("JSON has no byte order mark at line 1 column 1".into()));
    }
    let (mut document, mut faults) = (Document::default(), Faults::default());
    let mut sink = Sink::new(rules.chunk_size);
    let mut json = serde_json::Deserializer::from_str(text);
    let root = Root { document: &mut document, sink: &mut sink, faults: &mut faults };
    Place(root)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| Refusal::Syntax(error.to_string()))?;
    let on_invalid = document.on_invalid;
    // A document that is no object at all lacks no fields.
    let spec = document.is_object.then(|| document.into_spec(rules, &mut faults));
    let Some(spec) = spec.filter(|_| faults.is_empty()) else {
        return Err(Refusal::Fields(faults.into_errors()));
    };
    let (chunks, messages) = sink.finish();
    let invalid = chunks.iter().map(NewChunk::failed).sum();
    if invalid > 0 && on_invalid == OnInvalid::RejectBatch {
        let errors = invalid_recipients(&chunks);
        return Err(Refusal::InvalidRecipients { errors, count: invalid });
    }
    Ok(Submission { spec, chunks, messages, invalid })
}

/// The first invalid recipients, as field errors.
fn invalid_recipients(chunks: &[NewChunk]) -> Vec<FieldError> {
    let indexes = chunks.iter().flat_map(|chunk| {
        let states = (chunk.first..).zip(&chunk.states);
        states.filter(|(_, state)| **state == FinalState::Failed as u8).map(|(index, _)| index)
    });
    let error = |index| FieldError {
        pointer: format!("/recipients/{index}"),
        code: "invalid_number".into(),
        detail: crate::domain::recipient::InvalidNumber.to_string(),
    };
    indexes.take(ERRORS_MAX).map(error).collect()
}

fn not_utf8(body: &[u8], error: Utf8Error) -> Refusal {
    let good = &body[..error.valid_up_to()];
    let line = memchr::memchr_iter(b'\n', good).count() + 1;
    let column = good.len() - memchr::memrchr(b'\n', good).map_or(0, |at| at + 1) + 1;
    Refusal::Syntax(format!("invalid UTF-8 at line {line} column {column}"))
}

#[cfg(test)]
mod tests;
