//! The `[callbacks]` section.

use std::{fmt, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::units::{span, spans};

/// How completions are reported.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackSettings {
    /// What callbacks are signed with, each `whsec_` and base64: with every one of them, so that
    /// receivers can change over from one to the next. If none is given, the store's own serves.
    #[serde(serialize_with = "masked")]
    pub signing_secrets: Vec<SecretString>,
    /// Whether callbacks may go to private and loopback addresses.
    pub allow_private_networks: bool,
    /// The longest one attempt may take, from the connection to the end of the answer.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// The waits between one attempt and the next.
    #[serde(with = "spans")]
    pub schedule: Vec<Duration>,
    /// The most attempts that one process makes at a time.
    pub concurrency: u32,
}

// === impl CallbackSettings ===

impl fmt::Debug for CallbackSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSettings")
            .field("signing_secrets", &self.signing_secrets.len())
            .field("allow_private_networks", &self.allow_private_networks)
            .field("timeout", &self.timeout)
            .field("schedule", &self.schedule)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}

fn masked<S: Serializer>(secrets: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|_| "********"))
}
