//! What carriers say of messages after they were handed over.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{ids::BatchId, message::FinalState};

/// The most receipts that are taken in one go.
pub const RECEIPTS_MAX: usize = 500;

/// Receipts are waited for no longer than this: an instant further ahead than that, and a day, means that the
/// clock was stepped back.
pub const RECEIPT_TIMEOUT_MAX: Duration = Duration::from_hours(31 * 24);

/// The receipts' view of the store.
#[async_trait]
pub trait Receipts: Send + Sync {
    /// Takes receipts for messages of one batch, at most [`RECEIPTS_MAX`]. They carry no lease and move
    /// messages forward only: what is final stays what it is (see
    /// [`StateByte::hear`](crate::domain::state_byte::StateByte::hear)). The one that leaves no message open
    /// completes the batch. `providers` are those the batch may have been sent through: receipts for
    /// others' batches are [`Heard::Unknown`]. Gives what each one came to.
    ///
    /// # Errors
    /// [`StoreError`]. Taking them again changes nothing.
    async fn take(
        &self,
        providers: &[String],
        batch: BatchId,
        receipts: &[StoredReceipt],
    ) -> Result<Vec<Heard>, StoreError>;
}

/// A receipt on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReceipt {
    /// The message's index in its batch.
    pub index: u32,
    /// `Delivered` or `Undelivered`.
    pub state: FinalState,
    /// What [`ReceiptRecord::write`](crate::domain::receipt::ReceiptRecord::write) made of it.
    pub record: Vec<u8>,
}

/// What a receipt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// Its message is final by it.
    Counted,
    /// The same, and it came before our own record of the submission.
    Early,
    /// It had been said before.
    Again,
    /// Its message was final: it is kept beside that.
    Late,
    /// It is against what is known of its message, which stays.
    Contrary,
    /// No such message was handed over.
    Unknown,
}

// === impl Heard ===

impl Heard {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Counted, Self::Early, Self::Again, Self::Late, Self::Contrary, Self::Unknown];

    /// The word for logs, metrics and answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Early => "early",
            Self::Again => "repeated",
            Self::Late => "late",
            Self::Contrary => "contrary",
            Self::Unknown => "unknown",
        }
    }
}
