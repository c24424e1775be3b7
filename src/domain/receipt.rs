//! Receipts: what a carrier says of a message after it was handed over.
//!
//! A receipt names its message by our id, which every submission carries, so that nothing is looked up to
//! tell whose it is, and one may come before our own record of the answer.

use serde::{Deserialize, Serialize};

use super::{ids::MessageId, outcome::SendError, record::ErrorRecord, time::UnixMs};

/// One word of a carrier on one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// What became of it.
    pub word: ReceiptWord,
    /// When, as the carrier says.
    pub at: Option<UnixMs>,
    /// Why it was not delivered.
    pub error: Option<SendError>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptWord {
    /// It is on its way: nothing follows from this.
    Passing,
    /// It was delivered.
    Delivered,
    /// It was not, and will not be.
    Undelivered,
}

/// A receipt as a store keeps it behind the place of its message in its chunk: two bytes, big end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord<'a> {
    /// When, in milliseconds after the batch was created.
    pub after_ms: u64,
    /// Why it was not delivered.
    #[serde(borrow)]
    pub error: Option<ErrorRecord<'a>>,
}

// === impl ReceiptRecord ===

impl ReceiptRecord<'_> {
    /// What is kept of `receipt`, which came at `now`. What the carrier says of the time is believed unless
    /// it lies before the batch or ahead.
    #[must_use]
    pub fn write(receipt: &Receipt, now: UnixMs) -> Vec<u8> {
        let created_at = receipt.message.batch.created_at();
        let at = receipt.at.filter(|at| (created_at..=now).contains(at)).unwrap_or(now);
        let after_ms = at.0.saturating_sub(created_at.0);
        let record = ReceiptRecord { after_ms, error: receipt.error.as_ref().map(Into::into) };
        // Numbers and texts alone: postcard can't fail to write them.
        postcard::to_allocvec(&record).unwrap_or_default()
    }
}

/// The receipts of a chunk with their places, in the order in which they came. Reading ends at the first
/// one that can't be read.
pub fn read(mut log: &[u8]) -> impl Iterator<Item = (u16, ReceiptRecord<'_>)> {
    std::iter::from_fn(move || {
        let (place, rest) = log.split_first_chunk()?;
        let (record, rest) = postcard::take_from_bytes(rest).ok()?;
        log = rest;
        Some((u16::from_be_bytes(*place), record))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::BatchId;

    const CREATED: UnixMs = UnixMs(1_790_000_000_000);

    fn receipt(at: Option<UnixMs>, error: Option<SendError>) -> Receipt {
        let message = MessageId { batch: BatchId::new(CREATED, 1, 0), index: 7 };
        Receipt { message, word: ReceiptWord::Undelivered, at, error }
    }

    #[test]
    fn what_is_kept_reads_back_in_order() {
        let error =
            SendError::permanent("unreachable", "no such handset").with_provider_code("30003");
        let now = UnixMs(CREATED.0 + 90_000);
        let mut log = Vec::new();
        for (place, receipt) in
            [(499_u16, receipt(None, Some(error.clone()))), (0, receipt(None, None))]
        {
            log.extend(place.to_be_bytes());
            log.extend(ReceiptRecord::write(&receipt, now));
        }
        let read: Vec<_> = read(&log).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0, read[0].1.after_ms), (499, 90_000));
        assert_eq!(SendError::from(read[0].1.error.clone().unwrap()), error);
        assert_eq!((read[1].0, &read[1].1.error), (0, &None));
    }

    #[test]
    fn a_delivery_costs_at_most_8_bytes() {
        let record = ReceiptRecord::write(&receipt(None, None), UnixMs(CREATED.0 + 3_600_000));
        assert!(2 + record.len() <= 8, "{}", record.len());
    }

    #[test]
    fn a_time_that_can_not_be_is_not_believed() {
        let now = UnixMs(CREATED.0 + 5_000);
        let kept = |at| {
            let bytes = ReceiptRecord::write(&receipt(Some(UnixMs(at)), None), now);
            postcard::from_bytes::<ReceiptRecord<'_>>(&bytes).unwrap().after_ms
        };
        assert_eq!(kept(CREATED.0 + 1_200), 1_200);
        assert_eq!(kept(CREATED.0 - 1), 5_000);
        assert_eq!(kept(now.0 + 1), 5_000);
    }
}
