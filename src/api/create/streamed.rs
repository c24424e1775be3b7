//! A batch as lines or as a table: read, cut into chunks and uploaded piece by piece while it arrives.
//!
//! The first line, or the settings of a table, opens the upload and claims the idempotency key; the end of the body seals it. In
//! between nothing is held but the piece in hand and what is on its way to the store, so the memory
//! is the same for any number of lines. The socket waits for the store: the next piece is asked for
//! when the store has taken enough of the last one.

use axum::body::Body;
use bytes::Bytes;
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{block_in_place, yield_now},
};

use super::{Received, Sealed};
use crate::{
    api::{
        App,
        auth::Account,
        body::{self, Pieces},
        digest::Sha256,
        problem::Problem,
        submission::{self, LINE_BYTES_MAX, Refusal, Rest, Rows},
        upload::{Opening, Uploading},
    },
    domain::chunk::NewChunk,
};

/// How much is read in one go before other tasks have their turn, in bytes: well below a
/// millisecond's work.
pub(super) const SLICE_BYTES: usize = 32 * 1024;

/// A batch on its way from the socket into the store.
struct Stream<'a> {
    app: &'a App,
    pieces: Pieces,
    rows: Rows,
    upload: &'a mut Uploading,
    /// Its place among the large ones, once it is one of them.
    place: Option<OwnedSemaphorePermit>,
}

/// A body that was read to its end.
struct Read {
    messages: u32,
    /// How many of the messages are invalid.
    invalid: u32,
    /// How many recipients were left out.
    skipped: u64,
    body_hash: Sha256,
}

/// Takes a batch to its acceptance: lines, the first of which is the batch, or a table, where
/// `settings` are that.
///
/// # Errors
/// [`Problem`]: then nothing is accepted, unless it is `outcome_unknown`.
pub(super) async fn receive(
    app: &App,
    account: &Account,
    key: Option<String>,
    settings: Option<&[u8]>,
    body: Body,
    bytes_max: u64,
) -> Result<Received, Problem> {
    let mut pieces = Pieces::of(body, bytes_max);
    let (spec, rows, rest) = match settings {
        None => {
            let (first_line, rest) = first_line(&mut pieces).await?;
            let (spec, rows) = submission::begin(&first_line, &app.rules(account))?;
            (spec, rows, rest)
        }
        Some(settings) => {
            let (spec, rows) = submission::begin_table(settings, &app.rules(account))?;
            // A repeat has to be the same in both.
            pieces.hash_too(settings);
            (spec, rows, Bytes::new())
        }
    };
    let draft = app.draft(account, spec, key);
    match app.open(&draft, account).await? {
        Opening::New(mut upload) => {
            let stream = Stream { app, pieces, rows, upload: &mut upload, place: None };
            match stream.run(rest).await {
                Ok(Read { messages, invalid, skipped, body_hash }) => {
                    let opted_out = upload.seal(body_hash, skipped).await?;
                    let sealed = Sealed { draft, messages, invalid, opted_out, skipped };
                    Ok(Received::New(Box::new(sealed)))
                }
                Err(problem) => {
                    // The client may try again as soon as it has its answer.
                    upload.abandon().await;
                    Err(problem)
                }
            }
        }
        Opening::Earlier(earlier) => {
            while pieces.next().await?.is_some() {}
            earlier.repeated_by(pieces.hash()).map(Received::Again)
        }
    }
}

/// The first line without its end, and what came with it. One that is too long is cut off.
pub(super) async fn first_line(pieces: &mut Pieces) -> Result<(Vec<u8>, Bytes), Problem> {
    let mut line = Vec::new();
    while line.len() <= LINE_BYTES_MAX {
        let Some(mut piece) = pieces.next().await? else { break };
        if let Some(end) = memchr::memchr(b'\n', &piece) {
            line.extend_from_slice(&piece.split_to(end));
            return Ok((line, piece.slice(1..)));
        }
        line.extend_from_slice(&piece);
    }
    Ok((line, Bytes::new()))
}

// === impl Stream ===

impl Stream<'_> {
    /// Reads on from `first` to the end of the body, all of which is then with the upload.
    async fn run(mut self, first: Bytes) -> Result<Read, Problem> {
        let mut next = Some(first);
        while let Some(piece) = next {
            self.store(&piece).await?;
            if self.rows.reject() {
                return Err(self.reject().await);
            }
            self.take_place().await?;
            next = self.upload.during(self.pieces.next()).await??;
        }
        let Rest { chunks, messages, invalid, skipped } = self.rows.finish()?;
        self.upload.take(chunks).await?;
        Ok(Read { messages, invalid, skipped, body_hash: self.pieces.hash() })
    }

    async fn store(&mut self, piece: &[u8]) -> Result<(), Problem> {
        for slice in piece.chunks(SLICE_BYTES) {
            let chunks = take(&mut self.rows, slice)?;
            self.upload.take(chunks).await?;
            if slice.len() == SLICE_BYTES {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// A large upload needs a place; small ones are as good as over.
    async fn take_place(&mut self) -> Result<(), Problem> {
        if self.place.is_none() && self.pieces.is_large() {
            let place = body::a_place(&self.app.large_uploads, self.app.api.server.body_timeout);
            self.place = Some(self.upload.during(place).await??);
        }
        Ok(())
    }

    /// Gives the upload up, and reads to the end only to tell how many recipients are invalid.
    async fn reject(mut self) -> Problem {
        self.upload.abandon().await;
        match count(&mut self.pieces, &mut self.rows).await {
            Ok(()) => self.rows.finish().map_or_else(Problem::from, |_| Problem::internal()),
            Err(problem) => problem,
        }
    }
}

/// Reads a slice. Where that may wait for the disk, no other task waits with it.
fn take(rows: &mut Rows, slice: &[u8]) -> Result<Vec<NewChunk>, Refusal> {
    if rows.may_block() { block_in_place(|| rows.take(slice)) } else { rows.take(slice) }
}

/// Reads to the end of the body, and drops what is in it.
async fn count(pieces: &mut Pieces, rows: &mut Rows) -> Result<(), Problem> {
    while let Some(piece) = pieces.next().await? {
        for slice in piece.chunks(SLICE_BYTES) {
            drop(take(rows, slice)?);
            yield_now().await;
        }
    }
    Ok(())
}
