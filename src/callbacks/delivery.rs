//! One attempt at one event, from the body to the record.
//!
//! What can't be recorded is left to the lease: the attempt then reads `interrupted`, and the event
//! comes due again. So a receiver may get an event twice, never with another id or body.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

use super::{
    client::{Exchange, GuardedClient},
    schedule,
    signature::{self, SigningSecret},
};
use crate::{
    clock::Clock,
    domain::{
        batch::{CallbackSpec, CallbackState},
        callback_url::CallbackUrl,
        event,
    },
    store::{Attempt, AttemptEnd, Callbacks, StoreError, TakenEvent, Verdict},
    telemetry::Metrics,
};

/// How much longer than an exchange a lease is: the time for the store's part of an attempt.
const LEASE_SLACK: Duration = Duration::from_secs(5);

/// How long an event's body may take to be stored, so that enough of the lease is left.
const BODY_MAX: Duration = Duration::from_secs(2);

/// The first wait before the store is asked again; it doubles up to the longest.
const STORE_WAIT: Duration = Duration::from_millis(50);
const STORE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Headers that a client can't choose, besides those that begin with `webhook-` or `content-`:
/// they belong to the exchange itself.
const RESERVED: [&str; 10] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Makes attempts. Shared by all that are under way.
pub(super) struct Courier {
    pub(super) callbacks: Arc<dyn Callbacks>,
    pub(super) client: GuardedClient,
    pub(super) clock: Clock,
    pub(super) secrets: Vec<SigningSecret>,
    pub(super) public_url: String,
    pub(super) schedule: Vec<Duration>,
    pub(super) timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
}

// === impl Courier ===

impl Courier {
    /// How long an attempt holds its event.
    pub(super) fn lease(&self) -> Duration {
        self.timeout.saturating_add(LEASE_SLACK)
    }

    /// Makes one attempt. Gives whether the event comes due again.
    pub(super) async fn deliver(&self, taken: TakenEvent) -> bool {
        let begin = Instant::now();
        let body = match &taken.body {
            Some(body) => body.clone(),
            None => match self.store_body(&taken, begin).await {
                Ok(body) => body,
                Err(error) => {
                    tracing::warn!(batch.id = %taken.batch.id, attempt.number = taken.number, error = %error,
                        "the event's body could not be stored; its attempt is left to the lease");
                    return true;
                }
            },
        };
        let url = self.url(&taken);
        let exchange = match &url {
            Ok(url) => self.post(&taken, url, body).await,
            Err(reason) => Exchange::failed(reason.clone()),
        };
        let Exchange { end, retry_after } = exchange;
        self.metrics.callback_attempted(Duration::from_millis(end.latency_ms));
        let dice = rand::random();
        let verdict = schedule::verdict(taken.number, &end, retry_after, &self.schedule, dice);
        log(&taken, url.ok().as_ref(), &end, verdict);
        self.record(Attempt { batch: taken.batch.id, number: taken.number, end, verdict }, begin)
            .await;
        matches!(verdict, Verdict::Again(_))
    }

    async fn store_body(&self, taken: &TakenEvent, begin: Instant) -> Result<String, StoreError> {
        let rendered = event::render(&taken.batch, &self.public_url);
        let store = || self.callbacks.body(taken.batch.id, rendered.clone());
        persevere(begin + BODY_MAX, store).await
    }

    fn url(&self, taken: &TakenEvent) -> Result<CallbackUrl, String> {
        let callback = taken.batch.spec.callback.as_ref();
        let callback = callback.ok_or("the batch has no callback URL")?;
        self.client.judge(&callback.url).map_err(|forbidden| forbidden.to_string())
    }

    async fn post(&self, taken: &TakenEvent, url: &CallbackUrl, body: String) -> Exchange {
        let id = taken.batch.id.event().to_string();
        let timestamp_s = self.clock.now().0 / 1000;
        let signatures = signature::sign(&self.secrets, &id, timestamp_s, &body);
        let mut headers = taken.batch.spec.callback.as_ref().map(chosen).unwrap_or_default();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
        for (name, value) in [("webhook-id", id), ("webhook-signature", signatures)] {
            // Letters, digits, `_`, base64, commas and spaces: always a header's value.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        self.client.post(url, headers, Bytes::from(body)).await
    }

    async fn record(&self, attempt: Attempt, begin: Instant) {
        let record = || self.callbacks.record(&attempt);
        match persevere(begin + self.lease(), record).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(batch.id = %attempt.batch, attempt.number = attempt.number,
                    "the attempt had lost its lease before it was recorded");
            }
            Err(error) => {
                tracing::warn!(batch.id = %attempt.batch, attempt.number = attempt.number, error = %error,
                    "the attempt could not be recorded and is left to the lease");
            }
        }
    }
}

/// The headers the client chose, less those that are not its to choose.
fn chosen(callback: &CallbackSpec) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(callback.headers.len() + 4);
    for (name, value) in &callback.headers {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        if is_reserved(name.as_str()) {
            continue;
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers
}

/// Whether a callback's header, in lower case, is not the client's to choose.
fn is_reserved(name: &str) -> bool {
    name.starts_with("webhook-") || name.starts_with("content-") || RESERVED.contains(&name)
}

/// Asks the store again, with growing waits, while its failure may pass and time is left.
async fn persevere<T, F: Future<Output = Result<T, StoreError>>>(
    deadline: Instant,
    operation: impl Fn() -> F,
) -> Result<T, StoreError> {
    let mut wait = STORE_WAIT;
    loop {
        match operation().await {
            Err(error) if error.is_passing() && Instant::now() + wait < deadline => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(STORE_WAIT_MAX);
            }
            ended => return ended,
        }
    }
}

/// The one line of an attempt. Of the URL only host and port are shown.
fn log(taken: &TakenEvent, url: Option<&CallbackUrl>, end: &AttemptEnd, verdict: Verdict) {
    macro_rules! line {
        ($level:ident, $text:literal $(, $field:ident = $value:expr)?) => {
            tracing::$level!(
                batch.id = %taken.batch.id,
                event.id = %taken.batch.id.event(),
                attempt.number = taken.number,
                http.status = end.status,
                latency_ms = end.latency_ms,
                callback.host = url.map(CallbackUrl::host_and_port),
                error = end.error,
                $($field = $value,)?
                $text
            )
        };
    }
    match verdict {
        Verdict::Ended(CallbackState::Delivered) => line!(info, "callback delivered"),
        Verdict::Ended(CallbackState::Gone) => {
            line!(warn, "callback ended: the receiver wants it no more");
        }
        Verdict::Ended(_) => line!(warn, "callback ended: its schedule is used up"),
        Verdict::Again(wait) => {
            line!(
                warn,
                "callback failed and is tried again",
                retry_in_ms = crate::domain::time::millis(wait)
            );
        }
    }
}
