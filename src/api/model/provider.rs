//! Providers, as clients see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{domain::units::RateUnit, receipts::Tally};

/// The providers of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    /// In the order of their names.
    pub providers: Vec<ProviderResource>,
}

/// A provider as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Provider)]
pub struct ProviderResource {
    /// Its name in the configuration.
    #[schema(example = "carrier")]
    pub name: String,
    /// Its kind.
    #[schema(example = "http")]
    pub kind: String,
    /// Whether messages leave through it.
    pub state: ProviderState,
    /// Until when it asked to be left alone; null if it didn't, or the time has passed.
    #[schema(format = DateTime)]
    pub paused_until: Option<String>,
    /// The most that leaves a period, over all workers; null if there is no limit.
    #[schema(example = "100/s")]
    pub rate: Option<String>,
    /// What `rate`, `sender_rate` and `prefix_rates` count.
    pub rate_unit: RateUnit,
    /// The most that leaves from each sender a period, over all workers; null if there is no limit.
    #[schema(example = "10/s")]
    pub sender_rate: Option<String>,
    /// How many senders share the recipients of batches without `from`; 0 if the provider has no such pool.
    pub senders: usize,
    /// The most that leaves a period, over all workers, to numbers that begin so. The longest prefix counts.
    #[schema(example = json!({"+1": "100/s", "+4917": "5/s"}))]
    pub prefix_rates: BTreeMap<String, String>,
    /// How much of it may be used now: less than all for a while after the provider throttled; null if there is
    /// no limit.
    #[schema(example = "62.5/s")]
    pub current_rate: Option<String>,
    /// The provider that stands in while this one is away; null if none does.
    pub fallback: Option<String>,
    /// Whether it is away, as workers last found.
    pub breaker: BreakerState,
    /// The most open exchanges of one process.
    pub max_in_flight: u32,
    /// Messages that wait for it, of all accounts; null for accounts without `admin`.
    pub queued: Option<u64>,
    /// Messages in workers' hands, of all accounts; null for accounts without `admin`.
    pub in_flight: Option<u64>,
}

/// What reported receipts came to, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReceiptsTaken {
    /// Their messages are final by them.
    pub counted: u64,
    /// The same, and they came before the answer to the submission was recorded.
    pub early: u64,
    /// They had been reported before.
    pub repeated: u64,
    /// Their messages were final: they are kept beside that, as `late_receipt`.
    pub late: u64,
    /// They are against what is known of their messages, which stays.
    pub contrary: u64,
    /// No such messages were handed over to this provider.
    pub unknown: u64,
    /// They say no end.
    pub passing: u64,
}

/// Whether messages leave through a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderState {
    /// They do.
    Running,
    /// Not until `paused_until`: the provider asked for that.
    Throttled,
    /// Not until it is resumed.
    Paused,
}

/// Whether a provider is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// It is not: messages leave through it.
    Closed,
    /// It is, and is left alone for a while: messages leave through its fallback, if it has one.
    Open,
    /// It was: the next message finds out whether it is back.
    HalfOpen,
}

// === impl ReceiptsTaken ===

impl From<Tally> for ReceiptsTaken {
    fn from(tally: Tally) -> Self {
        let of = |word| tally.get(word).copied().unwrap_or_default();
        Self {
            counted: of("counted"),
            early: of("early"),
            repeated: of("repeated"),
            late: of("late"),
            contrary: of("contrary"),
            unknown: of("unknown"),
            passing: of("passing"),
        }
    }
}

// === impl ProviderState ===

impl ProviderState {
    /// The word clients read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Throttled => "throttled",
            Self::Paused => "paused",
        }
    }
}
