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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use standardwebhooks::Webhook;

    use super::*;
    use crate::{
        callbacks::receiver::{Act, Receiver},
        domain::signature::SigningSecret,
    };

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OWN_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn pinger(allow_private_networks: bool) -> Pinger {
        let timeout = Duration::from_secs(10);
        let settings =
            CallbackSettings { allow_private_networks, timeout, ..CallbackSettings::default() };
        let signers = Signers::of(vec![SigningSecret::parse(SECRET).unwrap()]);
        Pinger::new(&settings, Clock::system(), signers).unwrap()
    }

    #[tokio::test]
    async fn a_ping_is_signed_and_told_of() {
        let receiver = Receiver::start([Act::answer(200, "hello"), Act::answer(500, "")]).await;
        let (pinger, url) = (pinger(true), receiver.url());
        let headers = [("X-Api-Token".to_owned(), "t0ken".to_owned())];
        let taken = pinger.ping("default", &url, &headers, None).await.unwrap();
        assert_eq!((taken.status, taken.error), (Some(200), None));
        assert_eq!(taken.answer.as_deref(), Some("hello"));
        let refused = pinger.ping("default", &url, &[], Some(OWN_SECRET)).await.unwrap();
        assert_eq!(refused.error.as_deref(), Some("the receiver answered 500"));

        let requests = receiver.requests();
        assert_eq!(requests[0].header("x-api-token"), "t0ken");
        assert_ne!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
        for (request, secret) in requests.iter().zip([SECRET, OWN_SECRET]) {
            assert!(request.header("webhook-id").starts_with("evt_"));
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body["type"], "webhook.ping");
            assert!(body["timestamp"].is_string() && body["data"].is_object(), "{body}");
            let webhook = Webhook::new(secret).unwrap();
            webhook.verify(request.body.as_bytes(), &request.headers).unwrap();
        }
    }

    #[tokio::test]
    async fn a_ping_goes_nowhere_that_callbacks_do_not_go() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        assert!(pinger(false).ping("default", &receiver.url(), &[], None).await.is_err());
        assert!(receiver.requests().is_empty());
    }
}
