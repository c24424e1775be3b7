//! The `[worker]` section.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::units::span;

/// How workers hold and cut their work.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// How long a worker holds a chunk without a heartbeat.
    #[serde(with = "span")]
    pub lease: Duration,
    /// The most messages in a chunk.
    pub chunk_size: u16,
    /// How long open exchanges may take to finish at a shutdown.
    #[serde(with = "span")]
    pub drain_timeout: Duration,
}
