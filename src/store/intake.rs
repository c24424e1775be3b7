//! What the API writes: batches, piece by piece, and what clients wish of them.

use std::time::Duration;

use async_trait::async_trait;

use super::{Day, DayShare, ReplayError, ReplayOrder, StoreError};
use crate::domain::{
    batch::{BatchSpec, BatchState},
    chunk::NewChunk,
    ids::BatchId,
};

/// The intake's view of the store.
///
/// A batch is opened, appended to and sealed. Until it is sealed nothing of it is sent, and if
/// its upload stops it vanishes.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Opens a batch, and claims its idempotency key in the same step. The upload must be
    /// appended to or sealed within the upload lease.
    ///
    /// # Errors
    /// [`StoreError`]. After a lost reply the same draft opens the same upload; a crash leaves an
    /// upload that the reaper drops.
    async fn open(&self, draft: &Draft) -> Result<Opened, StoreError>;

    /// Adds chunks, in any order, each at most once, and renews the upload's lease.
    ///
    /// # Errors
    /// [`IntakeError::Gone`] if the reaper took the upload. A crash leaves an upload that the
    /// reaper drops.
    async fn append(&self, upload: &Upload, chunks: &[NewChunk]) -> Result<(), IntakeError>;

    /// Seals an upload: from then on the batch is accepted. With a share of its account's day it is so
    /// only if there is room for it, and then it is counted, once.
    ///
    /// # Errors
    /// [`IntakeError::Gone`] if the reaper took the upload, [`IntakeError::DayFull`] if there is no
    /// room. Sealing again changes nothing. A crash may leave a batch counted that is not accepted, and
    /// never one accepted that is not counted.
    async fn seal(&self, upload: &Upload, seal: &Seal) -> Result<(), IntakeError>;

    /// How far an account's day has come.
    ///
    /// # Errors
    /// [`StoreError`]. It changes nothing.
    async fn day(&self, account: &str) -> Result<Day, StoreError>;

    /// Drops an upload that is not sealed, and frees its idempotency key.
    ///
    /// # Errors
    /// [`StoreError`]; the reaper then drops it.
    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError>;

    /// Cancels a batch: what no worker holds becomes `canceled` at once, whatever its number; what
    /// a worker holds, when it lets go of it.
    ///
    /// # Errors
    /// [`WishError`]. Canceling again changes nothing.
    async fn cancel(&self, account: &str, id: BatchId) -> Result<(), WishError>;

    /// Pauses a batch: nothing more of it is claimed.
    ///
    /// # Errors
    /// [`WishError`]. Pausing again changes nothing.
    async fn pause(&self, account: &str, id: BatchId) -> Result<(), WishError>;

    /// Resumes a paused batch.
    ///
    /// # Errors
    /// [`WishError`]. Resuming a running batch changes nothing.
    async fn resume(&self, account: &str, id: BatchId) -> Result<(), WishError>;

    /// Changes what a batch that waits for its time is to do: its body, and when it begins and
    /// expires. False if it is not as `was` says any more: then nothing was changed.
    ///
    /// # Errors
    /// [`WishError`]. The same again changes nothing.
    async fn amend(
        &self,
        id: BatchId,
        was: &BatchSpec,
        becomes: &BatchSpec,
    ) -> Result<bool, WishError>;

    /// Has a batch that is over erased, with all that belongs to it, once nothing is left to be told
    /// of it.
    ///
    /// # Errors
    /// [`WishError`]. Erasing again changes nothing, until it is gone.
    async fn erase(&self, account: &str, id: BatchId) -> Result<(), WishError>;

    /// Has a batch's completion event delivered again, at once and from the beginning of the
    /// schedule.
    ///
    /// # Errors
    /// [`ReplayError`]. An event that is under way is left as it is.
    async fn replay(&self, account: &str, id: BatchId) -> Result<(), ReplayError>;

    /// Has ended events delivered again that match `order`. The order is kept until it is carried
    /// out, by [`Dispatch::sweep`](super::Dispatch::sweep).
    ///
    /// # Errors
    /// [`StoreError`]. Ordering again, with the same nonce, changes nothing.
    async fn order_replay(&self, account: &str, order: &ReplayOrder) -> Result<(), StoreError>;

    /// Stops a provider for every worker, or has it go on. It outlives every process.
    ///
    /// # Errors
    /// [`StoreError`]. The same again changes nothing.
    async fn set_stopped(&self, provider: &str, stopped: bool) -> Result<(), StoreError>;

    /// The number of partitions new batches are spread over.
    fn partitions(&self) -> u16;
}

/// A batch waits for its time no longer than this: an instant further ahead means that the clock was
/// stepped back.
pub const SCHEDULE_MAX: Duration = Duration::from_hours(366 * 24);

/// A batch to be opened.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its id; [`BatchId::partition`] must be the partition of `key`, if there is one.
    pub id: BatchId,
    /// What the client asked for.
    pub spec: BatchSpec,
    /// The client's idempotency key.
    pub key: Option<IdempotencyKey>,
    /// A random word that only this upload knows.
    pub token: u64,
    /// The most batches that the account may have under way, this one included.
    pub batches_max: Option<u32>,
    /// How long its receipts are waited for once it is handed over, at most
    /// [`RECEIPT_TIMEOUT_MAX`](super::RECEIPT_TIMEOUT_MAX).
    pub receipt_timeout: Duration,
}

/// How an upload ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// How many chunks it has.
    pub chunks: u32,
    /// The SHA-256 of the decoded request body, which repeats under the same key are compared with.
    pub body_hash: [u8; 32],
    /// How many recipients were left out, since the batch had their numbers already.
    pub skipped: u64,
    /// What is counted in its account's day, if that has a limit.
    pub day: Option<DayShare>,
}

/// A client's idempotency key, in the form the store keeps: its SHA-256 in hexadecimal, so that
/// it is short and harmless whatever the client chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

/// What opening came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The batch is open.
    New(Upload),
    /// The key belongs to a sealed batch.
    Replayed {
        /// That batch.
        id: BatchId,
        /// The SHA-256 of the body it was sealed with.
        body_hash: [u8; 32],
    },
    /// The key belongs to an upload that is still under way.
    UnderWay,
    /// The account has as many batches under way as it may. Over several partitions those that come
    /// at the same moment may exceed it.
    TooMany,
}

/// An open upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its batch.
    pub id: BatchId,
    /// The word that proves it is ours.
    pub token: u64,
}

/// An upload could not go on.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The upload took too long, and the reaper dropped it.
    #[error("the upload took too long and was dropped")]
    Gone,
    /// Its recipients would be more than its account may have that day.
    #[error("the account has had {} recipients today, and may not have these", .0.recipients)]
    DayFull(Day),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A wish could not be granted.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// The account has no such batch.
    #[error("no such batch")]
    NotFound,
    /// The batch is in a state that does not allow it.
    #[error("the batch is {}", .0.word())]
    State(BatchState),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
