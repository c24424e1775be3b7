//! Pings: signed messages that say nothing but hello. One asks a new host whether it wants callbacks,
//! another tries a URL out for its owner.

use std::sync::Arc;

use serde_json::json;

use super::{
    CallbackSettings, Signers,
    client::{ClientError, Exchange, GuardedClient},
    poster::{Address, Poster},
};
use crate::{
    clock::Clock,
    domain::{callback_url::Forbidden, ids::BatchId},
    store::AttemptEnd,
};

/// Sends pings that were asked for.
#[derive(Clone)]
pub struct Pinger(Arc<Poster>);

// === impl Pinger ===

impl Pinger {
    /// A pinger that goes by the settings of callbacks.
    ///
    /// # Errors
    /// If the HTTP client can't be made.
    pub fn new(
        settings: &CallbackSettings,
        clock: Clock,
        signers: Signers,
    ) -> Result<Self, ClientError> {
        let client = GuardedClient::new(settings)?;
        Ok(Self(Arc::new(Poster { client, clock, signers })))
    }

    /// Sends one ping in the account's name, with these headers, signed with `secret` if one is
    /// given, and tells what came of it.
    ///
    /// # Errors
    /// [`Forbidden`]: nothing was sent.
    pub async fn ping(
        &self,
        account: &str,
        url: &str,
        headers: &[(String, String)],
        secret: Option<&str>,
    ) -> Result<AttemptEnd, Forbidden> {
        let url = self.0.judge(url)?;
        let to = Address { account, url: &url, headers, secret };
        Ok(ping(&self.0, &to).await.end)
    }
}

/// Posts a ping under an id of its own.
pub(super) async fn ping(poster: &Poster, to: &Address<'_>) -> Exchange {
    let now = poster.clock.now();
    let id = BatchId::new(now, rand::random(), 0).event().to_string();
    let body = json!({"type": "webhook.ping", "timestamp": now.to_string(), "data": {}});
    poster.post(to, &id, body.to_string()).await
}
