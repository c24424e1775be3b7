//! A batch made of recipients of an earlier one: those whose messages ended in certain states.

use std::iter;

use super::{Received, Sealed};
use crate::{
    api::{
        App,
        auth::Account,
        digest::sha256,
        json::{Faults, Pointer, elements, members, raw, text},
        params::no_batch,
        problem::Problem,
        upload::Opening,
    },
    domain::{
        batch::{Batch, BatchSpec},
        chunk::Chunker,
        ids::BatchId,
        message::FinalState,
    },
    store::WishError,
};

/// The states that a message can be tried again from. What was accepted is not.
const RETRIED: [FinalState; 5] = [
    FinalState::Failed,
    FinalState::Expired,
    FinalState::Canceled,
    FinalState::Undelivered,
    FinalState::Unknown,
];

/// How many messages are looked at in one go.
const PAGE: usize = 1_000;

/// Takes a batch of the recipients of `parent` that `body` asks for to its acceptance.
///
/// # Errors
/// [`Problem`]: then nothing is accepted, unless it is `outcome_unknown`.
pub(super) async fn receive(
    app: &App,
    account: &Account,
    key: Option<String>,
    parent: BatchId,
    body: &[u8],
) -> Result<Received, Problem> {
    let states = states(body)?;
    let batch = app.api.store.reading.batch(&account.0, parent).await?.ok_or_else(no_batch)?;
    if !batch.is_over() {
        return Err(WishError::State(batch.state).into());
    }
    // The same key for another batch is another request.
    let body_hash = sha256(&[parent.to_string().as_bytes(), body].concat());
    let draft = app.draft(account, spec(app, &batch), key);
    let mut upload = match app.open(&draft, account).await? {
        Opening::New(upload) => upload,
        Opening::Earlier(earlier) => return earlier.repeated_by(body_hash).map(Received::Again),
    };
    let (mut chunker, mut from) = (Chunker::new(app.api.chunk_size), Some(0));
    while let Some(next) = from {
        let page = app.api.store.reading.recipients(parent, &states, next, PAGE);
        let (recipients, rest) = upload.during(page).await??;
        for recipient in &recipients {
            if let Some(full) = chunker.push(&recipient.entry()) {
                upload.take(vec![full]).await?;
            }
        }
        from = rest;
    }
    let (messages, invalid) = (chunker.next_index(), chunker.invalid());
    if u64::from(messages) != states.iter().map(|state| batch.counts.ended[*state]).sum::<u64>() {
        // It was erased while it was read.
        return Err(no_batch());
    }
    if let Some(last) = chunker.finish() {
        upload.take(vec![last]).await?;
    }
    let opted_out = upload.seal(body_hash, 0).await?;
    Ok(Received::New(Box::new(Sealed { draft, messages, invalid, opted_out, skipped: 0 })))
}

/// What the new batch is to do: the same, at once.
fn spec(app: &App, parent: &Batch) -> BatchSpec {
    let still_ahead = parent.spec.expire_at.filter(|at| *at > app.api.clock.now());
    BatchSpec {
        send_at: None,
        expire_at: still_ahead,
        parent: Some(parent.id),
        ..parent.spec.clone()
    }
}

/// Reads and judges which messages are wanted.
fn states(body: &[u8]) -> Result<Vec<FinalState>, Problem> {
    let (root, mut faults, mut states) = (Pointer::Root, Faults::default(), Vec::new());
    let found = members(raw(body)?, &root, ["states"], &mut faults);
    let at = Pointer::Key(&root, "states");
    let given = found.and_then(|[states]| states);
    let listed = given.map(|raw| elements(raw, &at, RETRIED.len(), &mut faults));
    for (index, raw) in iter::zip(0.., listed.unwrap_or_default()) {
        let at = Pointer::Index(&at, index);
        if raw.get() == "null" {
            faults.wrong_type(&at, "a string", "null");
        }
        let Some(word) = text(raw, &at, usize::MAX, &mut faults) else { continue };
        match RETRIED.into_iter().find(|state| state.word() == word) {
            None => {
                let known = RETRIED.map(FinalState::word).join(", ");
                faults.add(&at, "invalid_value", format_args!("this is one of {known}"));
            }
            Some(state) if states.contains(&state) => {
                faults.add(&at, "duplicate_value", "this state is named twice");
            }
            Some(state) => states.push(state),
        }
    }
    if faults.is_empty() && states.is_empty() {
        let detail = "name the states to try again, such as [\"failed\", \"expired\"]";
        faults.add(&at, if given.is_some() { "empty" } else { "missing" }, detail);
    }
    if faults.is_empty() {
        Ok(states)
    } else {
        Err(Problem::invalid_request(faults.into_errors(), &[]))
    }
}
