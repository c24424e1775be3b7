//! A batch as one JSON document: collected, read in one pass, and then uploaded.

use std::sync::Arc;

use axum::body::Body;

use super::{Received, Sealed};
use crate::api::{
    AppState,
    auth::Account,
    body::{self, Collected},
    digest::{Sha256, sha256},
    problem::Problem,
    submission::{self, Refusal, Submission},
    upload::Opening,
};

/// The longest body that is read in place, in bytes; longer ones are read on a blocking thread.
pub(super) const INLINE_BYTES_MAX: usize = 64 * 1024;

/// What was made of a request's body.
struct Work {
    submission: Submission,
    body_hash: Sha256,
}

/// Takes a batch to its acceptance.
///
/// # Errors
/// [`Problem`]: then nothing is accepted, unless it is `outcome_unknown`.
pub(super) async fn receive(
    app: &AppState,
    account: &Account,
    key: Option<String>,
    body: Body,
    bytes_max: u64,
) -> Result<Received, Problem> {
    let server = &app.api.server;
    let collected = body::collect(body, bytes_max, &app.large_bodies, server.body_timeout).await?;
    // Kept to the end: the chunks take the memory that the body leaves.
    let Collected { bytes, place: _place } = collected;
    let Work { submission, body_hash } = read(app, account, bytes).await?;
    let Submission { spec, chunks, messages, invalid, skipped } = submission;
    let draft = app.draft(account, spec, key);
    match app.open(&draft, account).await? {
        Opening::New(mut upload) => {
            upload.take(chunks).await?;
            let opted_out = upload.seal(body_hash, skipped).await?;
            let sealed = Sealed { draft, messages, invalid, opted_out, skipped };
            Ok(Received::New(Box::new(sealed)))
        }
        Opening::Earlier(earlier) => earlier.repeated_by(body_hash).map(Received::Again),
    }
}

/// Reads and hashes a body, off the asynchronous threads if it is long.
async fn read(app: &AppState, account: &Account, body: Vec<u8>) -> Result<Work, Problem> {
    let (app, account) = (Arc::clone(app), account.clone());
    let is_short = body.len() <= INLINE_BYTES_MAX;
    let work = move || -> Result<Work, Refusal> {
        let submission = submission::parse(&body, &app.rules(&account))?;
        Ok(Work { submission, body_hash: sha256(&body) })
    };
    let done = if is_short {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "reading a submission failed");
            Problem::internal()
        })?
    };
    done.map_err(Problem::from)
}
