//! The `[callbacks]` section.

use std::{net::SocketAddr, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::domain::{
    callback_url::{Network, Ports, Rules},
    signature::masked,
    units::{span, spans},
};

/// How completions are reported.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(Default))]
#[serde(deny_unknown_fields)]
pub struct CallbackSettings {
    /// What callbacks are signed with, each `whsec_` and base64: with every one of them, so that
    /// receivers can change over from one to the next. If none is given, the store's own serves.
    #[serde(serialize_with = "masked")]
    pub signing_secrets: Vec<SecretString>,
    /// Ed25519 keys that callbacks are signed with besides, each `whsk_` and base64. The server
    /// publishes their public keys.
    #[serde(serialize_with = "masked")]
    pub signing_keys: Vec<SecretString>,
    /// Whether callbacks may go to private and loopback addresses.
    pub allow_private_networks: bool,
    /// Networks that callbacks may go to whatever they are. The longest network that holds an
    /// address decides.
    pub allow_networks: Vec<Network>,
    /// Networks that callbacks never go to.
    pub deny_networks: Vec<Network>,
    /// The only ports that callbacks go to; all if there are none.
    pub allow_ports: Vec<Ports>,
    /// Ports that callbacks never go to.
    pub deny_ports: Vec<Ports>,
    /// Whether callbacks go to `https` URLs only.
    pub https_only: bool,
    /// The name servers that are asked for receivers' hosts; the system's resolver if there are
    /// none.
    pub dns_servers: Vec<SocketAddr>,
    /// The longest one attempt may take, from the connection to the end of the answer.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// The waits between one attempt and the next.
    #[serde(with = "spans")]
    pub schedule: Vec<Duration>,
    /// The most attempts that one process makes at a time.
    pub concurrency: u32,
    /// The most attempts at a time to one receiver's host, by all processes.
    pub host_concurrency: u32,
    /// After so many attempts in a row without any answer a host is left alone.
    pub breaker_failures: u32,
    /// For how long; then it is tried with a single event.
    #[serde(with = "span")]
    pub breaker_cool_down: Duration,
    /// Whether a host must answer a ping with 2xx before it gets an account's first callback.
    pub verify_endpoint: bool,
}

// === impl CallbackSettings ===

impl CallbackSettings {
    /// Where callbacks may go.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            allow_private_networks: self.allow_private_networks,
            https_only: self.https_only,
            allow_networks: self.allow_networks.clone().into(),
            deny_networks: self.deny_networks.clone().into(),
            allow_ports: self.allow_ports.clone().into(),
            deny_ports: self.deny_ports.clone().into(),
        }
    }
}
