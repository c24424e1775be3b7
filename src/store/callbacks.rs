//! What the notifiers do: take events that are due, and record what each attempt came to.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{batch::CallbackState, ids::BatchId};

/// No event waits longer than this for its next attempt: the longest `Retry-After`, and some.
pub const EVENT_DELAY_MAX: Duration = Duration::from_hours(30);

/// The notifiers' view of the store.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// Takes at most `limit` events that are due, writes down that an attempt of each begins, and
    /// leases them for `lease`.
    ///
    /// # Errors
    /// [`StoreError`]. A crash after it leaves attempts that read `interrupted`; the events come
    /// due again when their lease runs out.
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError>;

    /// Keeps `body` as the event's body unless it has one, and gives the one it has.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn body(&self, batch: BatchId, body: String) -> Result<String, StoreError>;

    /// Records the end of an attempt and what follows from it. `false` if the attempt had lost its
    /// lease: then nothing was changed.
    ///
    /// # Errors
    /// [`StoreError`]. Recording again changes nothing.
    async fn record(&self, attempt: &Attempt) -> Result<bool, StoreError>;

    /// How long until the next event is due; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn next_due(&self) -> Result<Option<Duration>, StoreError>;

    /// Keeps `secret` as the installation's signing secret unless it has one, and gives the one it
    /// has.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError>;
}

/// An event that is to be delivered now.
#[derive(Clone, Debug)]
pub struct TakenEvent {
    /// Its batch, as it stood when the event was created.
    pub batch: crate::domain::batch::Batch,
    /// The number of the attempt that begins, from 1.
    pub number: u32,
    /// The stored body, if it was rendered before.
    pub body: Option<String>,
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The event's batch.
    pub batch: BatchId,
    /// The attempt's number.
    pub number: u32,
    /// What it came to.
    pub end: AttemptEnd,
    /// What follows.
    pub verdict: Verdict,
}

/// What an attempt came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttemptEnd {
    /// The receiver's HTTP status, if it answered.
    pub status: Option<u16>,
    /// From the beginning to the end of the exchange, in milliseconds.
    pub latency_ms: u64,
    /// The first bytes of the answer's body.
    pub answer: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event has ended in this state.
    Ended(CallbackState),
    /// It is tried again, this long from now.
    Again(Duration),
}

// === impl AttemptEnd ===

impl AttemptEnd {
    /// The end of an attempt that nobody recorded.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { error: Some("interrupted".to_owned()), ..Self::default() }
    }
}
