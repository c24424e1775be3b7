//! The readers of batches as functions of bytes, for `fuzz/`. Only with the feature `fuzzing`, which the
//! tests turn on.

use std::collections::BTreeMap;

use super::{
    ProviderFacts,
    submission::{self, Refusal, Rest, Rows, Rules, Submission},
};
use crate::domain::{
    batch::BatchSpec,
    callback_url,
    chunk::{Entry, NewChunk, entry_at, offsets},
    time::UnixMs,
};

/// When the batches come: 2026-09-21T14:13:20Z.
const NOW: UnixMs = UnixMs(1_790_000_000_000);

/// The most messages in a chunk: few, so that short inputs fill some.
const CHUNK_SIZE: u16 = 3;

/// A batch that would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What is asked for.
    pub spec: BatchSpec,
    /// Its recipients in their order.
    pub recipients: Vec<Recipient>,
    /// How many of them are no numbers.
    pub invalid: u32,
    /// How many more were left out.
    pub skipped: u64,
}

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Its number, as given.
    pub to: String,
    /// The client's own name for the message.
    pub reference: Option<String>,
    /// Its variables in the order given.
    pub variables: Vec<(String, String)>,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no JSON.
    Syntax,
    /// Pointer and code of everything that is wrong.
    Fields(Vec<(String, String)>),
    /// A line or a record is too long.
    TooLong,
    /// There are invalid numbers, and the batch says that it wants none.
    Invalid(u32),
}

/// Reads a JSON document.
///
/// # Errors
/// [`Refused`].
pub fn document(body: &[u8]) -> Result<Batch, Refused> {
    judged(|rules| {
        let Submission { spec, chunks, messages, invalid, skipped } =
            submission::parse(body, rules)?;
        Ok((spec, Vec::new(), Rest { chunks, messages, invalid, skipped }))
    })
}

/// Reads lines that come in pieces of so many bytes.
///
/// # Errors
/// [`Refused`].
pub fn lines(body: &[u8], cut: usize) -> Result<Batch, Refused> {
    let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let rest = body.get(end + 1..).unwrap_or_default();
    judged(|rules| {
        let (spec, rows) = submission::begin(&body[..end], rules)?;
        let (chunks, rest) = streamed(rows, rest, cut)?;
        Ok((spec, chunks, rest))
    })
}

/// Reads a table that comes in pieces of so many bytes.
///
/// # Errors
/// [`Refused`].
pub fn table(settings: &[u8], body: &[u8], cut: usize) -> Result<Batch, Refused> {
    judged(|rules| {
        let (spec, rows) = submission::begin_table(settings, rules)?;
        let (chunks, rest) = streamed(rows, body, cut)?;
        Ok((spec, chunks, rest))
    })
}

fn streamed(mut rows: Rows, body: &[u8], cut: usize) -> Result<(Vec<NewChunk>, Rest), Refusal> {
    let mut chunks = Vec::new();
    for piece in body.chunks(cut.max(1)) {
        chunks.extend(rows.take(piece)?);
    }
    Ok((chunks, rows.finish()?))
}

fn judged(
    read: impl FnOnce(&Rules<'_>) -> Result<(BatchSpec, Vec<NewChunk>, Rest), Refusal>,
) -> Result<Batch, Refused> {
    let needs_from = ProviderFacts { needs_from: true, ..ProviderFacts::default() };
    let providers = BTreeMap::from([
        ("mock".to_owned(), ProviderFacts::default()),
        ("carrier".to_owned(), needs_from),
    ]);
    let rules = Rules {
        counts_invalid: false,
        account: "acme",
        providers: &providers,
        default_provider: "mock",
        chunk_size: CHUNK_SIZE,
        recipients_max: 1_000,
        callbacks: &callback_url::Rules::default(),
        now: NOW,
    };
    let (spec, mut chunks, rest) = read(&rules)?;
    chunks.extend(rest.chunks);
    let recipients: Vec<_> = chunks.iter().flat_map(recipients).collect();
    assert_eq!(u32::try_from(recipients.len()), Ok(rest.messages), "messages that can't be read");
    Ok(Batch { spec, recipients, invalid: rest.invalid, skipped: rest.skipped })
}

fn recipients(chunk: &NewChunk) -> Vec<Recipient> {
    let offsets = offsets(&chunk.recipients, chunk.states.len());
    let entries = offsets.iter().take(chunk.states.len());
    entries.map(|offset| entry_at(&chunk.recipients, *offset).into()).collect()
}

impl From<Entry<'_>> for Recipient {
    fn from(entry: Entry<'_>) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            to: entry.to.to_owned(),
            reference: entry.reference.map(str::to_owned),
            variables: entry.variables.iter().map(owned).collect(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Syntax(_) => Self::Syntax,
            Refusal::Fields(errors) => {
                Self::Fields(errors.into_iter().map(|error| (error.pointer, error.code)).collect())
            }
            Refusal::LineTooLong { .. } => Self::TooLong,
            Refusal::InvalidRecipients { count, .. } => Self::Invalid(count),
            Refusal::Scratch(error) => panic!("the scratch file failed: {error}"),
        }
    }
}
