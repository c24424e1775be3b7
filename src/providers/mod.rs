//! The port to providers, and what they have in common.
//!
//! To add a provider: write its file with its settings and its [`Provider`], and name its kind in
//! [`registry`]. Pacing, retries, leases and counting are not its business: it makes one exchange
//! and says what came of it.

mod away;
mod exchange;
pub mod http;
pub mod mock;
pub mod registry;
mod signed;
pub mod twilio;

use std::{collections::BTreeMap, time::Duration};

pub use away::{BreakerSettings, judge_fallback};

use ::http::HeaderMap;
use futures_util::{future::BoxFuture, stream::BoxStream};
use serde::{Deserialize, Serialize};

use crate::domain::{
    ids::MessageId,
    inbound::Inbound,
    outcome::Outcome,
    price::Price,
    receipt::Receipt,
    retry::RetryPolicy,
    time::UnixMs,
    units::{Rate, RateUnit, span},
};

/// A way for messages to leave.
pub trait Provider: Send + Sync {
    /// Submits one message and says what came of it, within the provider's time-out; where it looks a lost
    /// answer up, within twice that and a second. May be called any number of times at once.
    ///
    /// The future may be dropped at any moment: then the message may or may not have been
    /// accepted. Calling again with the same [`Submission::id`] must be as safe as the provider
    /// allows: where it knows idempotency keys, the id is the key.
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome>;

    /// The receipts of a provider that is in this process, once: whoever asks first has them.
    fn own_receipts(&self) -> Option<BoxStream<'static, Receipt>> {
        None
    }

    /// Reads a request in which the provider reports receipts.
    ///
    /// # Errors
    /// [`ReceiptRefusal`], if it can't be shown to be the provider's, or can't be read.
    fn read_receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefusal> {
        let _ = call;
        Err(ReceiptRefusal::NotTaken)
    }

    /// Reads a request in which the provider reports a message that somebody has sent to one of our
    /// senders.
    ///
    /// # Errors
    /// [`ReceiptRefusal`], if it can't be shown to be the provider's, or can't be read.
    fn read_inbound(&self, call: &ReceiptCall<'_>) -> Result<Inbound, ReceiptRefusal> {
        let _ = call;
        Err(ReceiptRefusal::NotTaken)
    }
}

/// A request in which a provider reports receipts, as it came.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptCall<'a> {
    /// The URL as the provider knows it: the API's public one, with the query as it came.
    pub url: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
    /// When it came.
    pub now: UnixMs,
}

/// Why a request in which receipts are reported is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRefusal {
    /// The provider is of a kind that has none, or is not set up for them.
    #[error("this provider reports no receipts")]
    NotTaken,
    /// It is not signed as the provider signs.
    #[error("the signature does not hold")]
    Forged,
    /// It is the provider's, and can't be read.
    #[error("{0}")]
    Malformed(String),
}

/// One message on its way out.
#[derive(Clone, Copy)]
pub struct Submission<'a> {
    /// Its id, the same at every try.
    pub id: MessageId,
    /// The recipient's number, E.164.
    pub to: &'a str,
    /// The sender: the batch's, or else the provider's default.
    pub from: Option<&'a str>,
    /// The rendered body.
    pub body: &'a str,
    /// Tries used up before this one.
    pub attempts: u8,
    /// How long the carrier may go on trying to deliver it; as long as it likes if nothing is said.
    pub valid_for: Option<Duration>,
}

/// What every provider's table in the configuration may set, whatever its kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct CommonSettings {
    /// The most messages a period, over all workers; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether throttling cuts the rate for a while.
    pub adaptive: bool,
    /// The most open exchanges of one process.
    pub max_in_flight: u32,
    /// The longest one exchange may take.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// How failures are tried again.
    pub retry: RetrySettings,
    /// The sender of batches that give none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether the carrier reports what became of a message; as the kind does by default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<bool>,
    /// How long after a batch was handed over its receipts are waited for.
    #[serde(with = "span")]
    pub receipt_timeout: Duration,
    /// The provider that stands in while this one is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// When it counts as away.
    pub breaker: BreakerSettings,
    /// What a segment costs, for estimates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_segment: Option<Price>,
    /// What the rates count.
    pub rate_unit: RateUnit,
    /// The most that leaves from each sender a period, over all workers; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_rate: Option<Rate>,
    /// The senders that the recipients of batches without one are shared among.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<String>,
    /// The most that leaves a period, over all workers, to numbers that begin so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prefix_rates: BTreeMap<String, Rate>,
}

/// See [`RetryPolicy`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Tries in all, the first included.
    pub attempts: u8,
    /// The wait after the first failure.
    #[serde(with = "span")]
    pub first: Duration,
    /// The longest wait.
    #[serde(with = "span")]
    pub longest: Duration,
    /// No try is begun later than this after the first one.
    #[serde(with = "span")]
    pub give_up_after: Duration,
}

/// The longest time a provider's `Retry-After` can pause it.
pub const PAUSE_MAX: Duration = Duration::from_mins(10);

// === impl ReceiptRefusal ===

impl ReceiptRefusal {
    /// The word for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotTaken => "not_taken",
            Self::Forged => "forged",
            Self::Malformed(_) => "malformed",
        }
    }
}

// === impl CommonSettings ===

impl CommonSettings {
    /// Whether there is more to its rate than messages of the provider: rates of senders or prefixes, or one
    /// that counts segments.
    #[must_use]
    pub fn has_levels(&self) -> bool {
        let counts = self.rate_unit == RateUnit::Segment && self.rate.is_some();
        counts || self.sender_rate.is_some() || !self.prefix_rates.is_empty()
    }
}

impl CommonSettings {
    /// Whether a batch needs no sender of its own.
    #[must_use]
    pub fn has_sender(&self) -> bool {
        self.from.is_some() || !self.senders.is_empty()
    }
}

impl Default for CommonSettings {
    fn default() -> Self {
        Self {
            rate: None,
            adaptive: true,
            max_in_flight: 64,
            timeout: Duration::from_secs(10),
            retry: RetrySettings::default(),
            from: None,
            receipts: None,
            receipt_timeout: Duration::from_hours(72),
            fallback: None,
            breaker: BreakerSettings::default(),
            price_per_segment: None,
            rate_unit: RateUnit::default(),
            sender_rate: None,
            senders: Vec::new(),
            prefix_rates: BTreeMap::new(),
        }
    }
}

// === impl RetrySettings ===

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 6,
            first: Duration::from_millis(500),
            longest: Duration::from_mins(1),
            give_up_after: Duration::from_hours(24),
        }
    }
}

impl From<&RetrySettings> for RetryPolicy {
    fn from(settings: &RetrySettings) -> Self {
        Self {
            attempts: settings.attempts.max(1),
            first: settings.first,
            longest: settings.longest,
            give_up_after: settings.give_up_after,
        }
    }
}
