//! Providers, as clients see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// The most messages a period, over all workers; null if there is no limit.
    #[schema(example = "100/s")]
    pub rate: Option<String>,
    /// The most open exchanges of one process.
    pub max_in_flight: u32,
    /// Messages that wait for it, of all accounts; null for accounts without `admin`.
    pub queued: Option<u64>,
    /// Messages in workers' hands, of all accounts; null for accounts without `admin`.
    pub in_flight: Option<u64>,
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
