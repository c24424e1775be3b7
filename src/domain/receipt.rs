//! Receipts: what a carrier says of a message after it was handed over.
//!
//! A receipt names its message by our id, which every submission carries, so that nothing is looked up to
//! tell whose it is, and one may come before our own record of the answer.

use super::{ids::MessageId, outcome::SendError, time::UnixMs};

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
