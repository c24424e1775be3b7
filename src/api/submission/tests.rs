//! What the tests of submissions share; they are by theme.

mod callback;
mod document;
mod lines;
mod recipients;
mod syntax;

use std::sync::LazyLock;

use super::*;
use crate::domain::chunk::{Entry, entry_at, offsets};

fn providers() -> BTreeMap<String, ProviderFacts> {
    BTreeMap::from([
        ("mock".to_owned(), ProviderFacts::default()),
        ("carrier".to_owned(), ProviderFacts { needs_from: true, ..ProviderFacts::default() }),
        (
            "housed".to_owned(),
            ProviderFacts { needs_from: true, has_default_from: true, ..ProviderFacts::default() },
        ),
    ])
}

/// 2026-09-21T14:13:20Z.
const NOW: UnixMs = UnixMs(1_790_000_000_000);

/// Callbacks go to public addresses.
static PUBLIC: LazyLock<callback_url::Rules> = LazyLock::new(callback_url::Rules::default);

fn rules(providers: &BTreeMap<String, ProviderFacts>) -> Rules<'_> {
    Rules {
        account: "acme",
        providers,
        default_provider: "mock",
        chunk_size: 500,
        recipients_max: u32::MAX,
        counts_invalid: false,
        callbacks: &PUBLIC,
        now: NOW,
    }
}

fn parsed(body: impl AsRef<[u8]>) -> Result<Submission, Refusal> {
    parse(body.as_ref(), &rules(&providers()))
}

/// The pointers and codes of everything wrong with `body`.
fn faults(body: &str) -> Vec<(String, String)> {
    listed(parsed(body))
}

fn listed(read: Result<Submission, Refusal>) -> Vec<(String, String)> {
    match read {
        Err(Refusal::Fields(errors)) => {
            errors.into_iter().map(|error| (error.pointer, error.code)).collect()
        }
        other => panic!("it gave {other:?}"),
    }
}

/// A submission with `members` besides the required ones.
fn with(members: &str) -> String {
    format!(r#"{{"body":"Hi","recipients":["+15551230001"],{members}}}"#)
}

/// A submission of `recipients`.
fn to(recipients: &str) -> String {
    format!(r#"{{"body":"Hi","recipients":[{recipients}]}}"#)
}

/// Number, reference, and variables of every recipient.
type Read = (String, Option<String>, Vec<(String, String)>);

fn recipients(submission: &Submission) -> Vec<Read> {
    let read = |entry: Entry<'_>| {
        let variables =
            entry.variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        (entry.to.to_owned(), entry.reference.map(str::to_owned), variables.collect())
    };
    let of_chunk = |chunk: &NewChunk| {
        let offsets = offsets(&chunk.recipients, chunk.states.len());
        let entries = offsets.iter().take(chunk.states.len());
        entries.map(|offset| read(entry_at(&chunk.recipients, *offset))).collect::<Vec<_>>()
    };
    submission.chunks.iter().flat_map(of_chunk).collect()
}
