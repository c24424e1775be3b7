//! One attempt at one event, from the body to the record.
//!
//! What can't be recorded is left to the lease: the attempt then comes back as interrupted, and is
//! recorded as such. So a receiver may get an event twice, never with another id or body.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    client::Exchange,
    ping::ping,
    poster::{Address, Poster},
    schedule::Schedule,
    welcomes::Welcomes,
};
use crate::{
    crash,
    domain::{batch::CallbackState, callback_url::CallbackUrl},
    store::{
        Attempt, AttemptEnd, Callbacks, EVENT_LEASE_MAX, HostSign, Reading, Recorded, StoreError,
        TakenEvent, Verdict, event_body,
    },
    telemetry::{CallbackResult, Metrics},
};

/// How much longer than an exchange a lease is: the time for the store's part of an attempt.
const LEASE_SLACK: Duration = Duration::from_secs(5);

/// How long an event's body may take to be stored, so that enough of the lease is left.
const BODY_MAX: Duration = Duration::from_secs(2);

/// The first wait before the store is asked again; it doubles up to the longest.
const STORE_WAIT: Duration = Duration::from_millis(50);
const STORE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an attempt holds its event, of exchanges that take at most `timeout`; there are two if
/// the host is asked first.
pub(super) fn lease(timeout: Duration, asks_first: bool) -> Duration {
    let exchanges = if asks_first { 2 } else { 1 };
    timeout.saturating_mul(exchanges).saturating_add(LEASE_SLACK).min(EVENT_LEASE_MAX)
}

/// Makes attempts. Shared by all that are under way.
pub(super) struct Courier {
    pub(super) callbacks: Arc<dyn Callbacks>,
    pub(super) reading: Arc<dyn Reading>,
    pub(super) poster: Poster,
    pub(super) public_url: String,
    pub(super) schedule: Schedule,
    pub(super) lease: Duration,
    /// Whether a host must answer a ping before an account's first callback.
    pub(super) asks_first: bool,
    pub(super) welcomes: Welcomes,
    pub(super) metrics: Arc<Metrics>,
}

// === impl Courier ===

impl Courier {
    /// Makes one attempt. Gives whether the event comes due again.
    pub(super) async fn deliver(&self, taken: TakenEvent) -> bool {
        let begin = Instant::now();
        let url = self.url(&taken);
        let Exchange { end, retry_after, host } = match &url {
            _ if taken.interrupted => {
                Exchange { end: AttemptEnd::interrupted(), ..Exchange::default() }
            }
            Ok(url) => {
                let Some(body) = self.body(&taken, begin).await else { return true };
                self.post(&taken, url, body).await
            }
            Err(reason) => Exchange::failed(reason.clone()),
        };
        if matches!(end.status, Some(200..=299)) {
            crash::point("delivered");
        }
        let result = result(&taken, &end, host);
        self.metrics.callback_attempted(result, Duration::from_millis(end.latency_ms));
        let verdict = self.schedule.verdict(&taken, &end, retry_after, rand::random());
        log(&taken, url.ok().as_ref(), &end, verdict);
        let attempt = Attempt { event: taken.event.id, number: taken.number, end, verdict, host };
        self.record(&taken, attempt, begin).await;
        matches!(verdict, Verdict::Again(_))
    }

    /// The event's body. Without one the attempt is left to its lease.
    async fn body(&self, taken: &TakenEvent, begin: Instant) -> Option<String> {
        if let Some(body) = &taken.body {
            return Some(body.clone());
        }
        let render = || {
            let (callbacks, reading) = (&*self.callbacks, &*self.reading);
            event_body(callbacks, reading, &taken.event, &taken.batch, &self.public_url)
        };
        persevere(begin + BODY_MAX, render).await.unwrap_or_else(|error| {
            tracing::warn!(event.id = %taken.event.id, attempt.number = taken.number, error = %error,
                "the event's body could not be stored; its attempt is left to the lease");
            None
        })
    }

    fn url(&self, taken: &TakenEvent) -> Result<CallbackUrl, String> {
        let callback = taken.batch.spec.callback.as_ref();
        let callback = callback.ok_or("the batch has no callback URL")?;
        self.poster.judge(&callback.url).map_err(|forbidden| forbidden.to_string())
    }

    async fn post(&self, taken: &TakenEvent, url: &CallbackUrl, body: String) -> Exchange {
        let callback = taken.batch.spec.callback.as_ref();
        let to = Address {
            account: &taken.batch.spec.account,
            url,
            headers: callback.map_or(&[], |callback| &callback.headers),
            secret: callback.and_then(|callback| callback.secret.as_deref()),
        };
        match self.ask_first(&to).await {
            Ok(()) => self.poster.post(&to, &taken.event.id.to_string(), body).await,
            Err(refused) => *refused,
        }
    }

    /// Makes sure that the host wants the account's callbacks, if it is to be asked.
    async fn ask_first(&self, to: &Address<'_>) -> Result<(), Box<Exchange>> {
        let pair = (to.account.to_owned(), to.url.host_and_port());
        if !self.asks_first || self.welcomes.know(&pair, Instant::now()) {
            return Ok(());
        }
        self.welcomes.ask(pair, self.ask(to)).await
    }

    /// Asks the store, and then the host itself. A store that fails meanwhile only means that the
    /// host is asked again.
    async fn ask(&self, to: &Address<'_>) -> Result<(), Box<Exchange>> {
        let (account, host) = (to.account, to.url.host_and_port());
        if self.callbacks.is_welcome(account, &host).await.unwrap_or(false) {
            return Ok(());
        }
        let mut answer = ping(&self.poster, to).await;
        if let Some(error) = answer.end.error.take() {
            answer.end.error = Some(format!("the host did not welcome a ping: {error}"));
            return Err(Box::new(answer));
        }
        tracing::info!(callback.host = host, "a receiver's host welcomed a ping");
        if let Err(error) = self.callbacks.welcome(account, &host).await {
            tracing::warn!(callback.host = host, %error, "the host's welcome is not stored");
        }
        Ok(())
    }

    async fn record(&self, taken: &TakenEvent, attempt: Attempt, begin: Instant) {
        let record = || self.callbacks.record(&attempt);
        let host = taken.batch.spec.callback.as_ref().map(|callback| &*callback.host);
        match persevere(begin + self.lease, record).await {
            Ok(Recorded::Kept) => {}
            Ok(Recorded::HostLeftAlone) => {
                self.metrics.host_left_alone();
                tracing::warn!(
                    callback.host = host,
                    "a receiver's host gives no answer; its callbacks wait"
                );
            }
            Ok(Recorded::HostBack) => {
                tracing::info!(
                    callback.host = host,
                    "a receiver's host answers again; its callbacks go on"
                );
            }
            Ok(Recorded::Lost) => {
                tracing::warn!(event.id = %attempt.event, attempt.number = attempt.number,
                    "the attempt had lost its lease before it was recorded");
            }
            Err(error) => {
                tracing::warn!(event.id = %attempt.event, attempt.number = attempt.number, error = %error,
                    "the attempt could not be recorded and is left to the lease");
            }
        }
    }
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

/// What came of an attempt, as it is counted.
fn result(taken: &TakenEvent, end: &AttemptEnd, host: HostSign) -> CallbackResult {
    match (end.status, host) {
        _ if taken.interrupted => CallbackResult::Interrupted,
        (Some(200..=299), _) => CallbackResult::Delivered,
        (_, HostSign::Answered) => CallbackResult::Refused,
        (_, HostSign::Silent) => CallbackResult::Silent,
        (_, HostSign::None) => CallbackResult::Forbidden,
    }
}

/// The one line of an attempt. Of the URL only host and port are shown.
fn log(taken: &TakenEvent, url: Option<&CallbackUrl>, end: &AttemptEnd, verdict: Verdict) {
    macro_rules! line {
        ($level:ident, $text:literal $(, $field:ident = $value:expr)?) => {
            tracing::$level!(
                batch.id = %taken.batch.id,
                event.id = %taken.event.id,
                "event.type" = taken.event.what.word(),
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
        Verdict::Ended(CallbackState::Skipped) => {
            line!(info, "a report of progress was not delivered; the next one tells more");
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
