//! What one try at submitting a message came to, as the provider's adapter saw it.
//!
//! The adapter decides, since only it knows what its provider's answers mean. Nobody looks at a
//! status code later.

use std::{borrow::Cow, time::Duration};

/// The end of one submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took the message.
    Accepted {
        /// The provider's own name for it, if it gave one.
        provider_message_id: Option<String>,
        /// Whether a receipt is to be waited for.
        receipt_follows: bool,
    },
    /// Not accepted, it seems; another try may do.
    Temporary {
        /// Whether that is certain: a batch that is sent at most once tries again only then.
        certain: bool,
        /// The earliest time for another try, as the provider asked.
        after: Option<Duration>,
        /// Why not.
        error: SendError,
    },
    /// Not accepted because the provider, or the sender there, has too much to do (429). Then that pauses, and the
    /// message has used up no attempt.
    Throttled {
        /// How long to leave alone who has too much to do.
        after: Duration,
        /// Who that is.
        who: Throttled,
        /// What it said.
        error: SendError,
    },
    /// Not accepted, and no other try would change that.
    Rejected {
        /// Why not.
        error: SendError,
    },
    /// It may or may not have been accepted: a time-out, a reset, an answer cut short.
    Unknown {
        /// What is known.
        error: SendError,
    },
}

/// Who has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttled {
    /// The provider.
    Provider,
    /// The sender of the message, at the provider: others may go on.
    Sender,
}

/// Why a message was not accepted, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// A stable word in `snake_case`, e.g. `provider_rejected`.
    pub code: Cow<'static, str>,
    /// One sentence, never with a phone number, a body or a secret in it.
    pub detail: String,
    /// The provider's own code, if it gave one.
    pub provider_code: Option<String>,
    /// Whether another try with the same message is pointless.
    pub permanent: bool,
}

/// The code of a recipient who has opted out: no message leaves for them.
pub const OPTED_OUT: &str = "opted_out";

// === impl SendError ===

impl SendError {
    /// An error that another try may get past.
    pub fn passing(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), provider_code: None, permanent: false }
    }

    /// An error that stays.
    pub fn permanent(code: &'static str, detail: impl Into<String>) -> Self {
        Self { permanent: true, ..Self::passing(code, detail) }
    }

    /// The recipient is on the account's list of those who get nothing.
    #[must_use]
    pub fn opted_out() -> Self {
        Self::permanent(OPTED_OUT, "the recipient has opted out")
    }

    /// The same error with the provider's own code.
    #[must_use]
    pub fn with_provider_code(mut self, code: impl Into<String>) -> Self {
        self.provider_code = Some(code.into());
        self
    }
}
