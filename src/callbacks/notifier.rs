//! The loop: takes events that are due, and has each delivered in a task of its own.
//!
//! It takes no more than it can deliver at once, so that no lease runs while an event waits. It
//! looks when the doorbell rings, when the next event comes due, when a delivery made room or put
//! its event back, and once a second in any case. While the store is away it asks ever more
//! slowly.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{CallbackSettings, client::GuardedClient, delivery::Courier, signature::SigningSecret};
use crate::{
    clock::Clock,
    store::{Callbacks, Doorbell, Ring, Store, StoreError},
    telemetry::Metrics,
};

/// The longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The shortest time between two looks for events that come due, so that an event that another
/// notifier is about to take makes no busy loop.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// The most events that are taken at once.
const TAKE_MAX: usize = 100;

/// The first wait after the store failed; it doubles up to [`LOOK_MAX`].
const OUTAGE_WAIT: Duration = Duration::from_millis(100);

/// The longest time-out of an attempt, and the longest wait between two.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);
const WAIT_MAX: Duration = Duration::from_hours(24);

/// Delivers events until it is stopped.
pub struct Notifier {
    courier: Arc<Courier>,
    callbacks: Arc<dyn Callbacks>,
    doorbell: Doorbell,
    concurrency: usize,
}

/// A notifier can't be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// There is nothing to sign with.
    #[error("there is no signing secret")]
    NoSecret,
    /// No attempt could be made at all.
    #[error("callbacks.concurrency: give a number of at least 1")]
    Concurrency,
    /// No attempt could succeed, or one might never end.
    #[error("callbacks.timeout: give a duration above 0, at most 1h")]
    Timeout,
    /// A wait is too long to be meant.
    #[error("callbacks.schedule: give durations of at most 24h")]
    Schedule,
    /// The HTTP client can't be made.
    #[error("the callback client can't be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// Deliveries under way. Each ends with whether its event comes due again.
type Open = JoinSet<bool>;

/// Since when the store is away, and how long to wait before it is asked again.
#[derive(Default)]
struct Outage(Option<(Instant, Duration)>);

// === impl Notifier ===

impl Notifier {
    /// A notifier of `store`. `public_url` is where clients reach the API.
    ///
    /// # Errors
    /// [`NotifierError`].
    pub fn new(
        store: &Store,
        clock: Clock,
        settings: &CallbackSettings,
        secrets: Vec<SigningSecret>,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        let callbacks = store.callbacks.clone();
        Self::of(callbacks, store.doorbell.clone(), clock, settings, secrets, public_url, metrics)
    }

    fn of(
        callbacks: Arc<dyn Callbacks>,
        doorbell: Doorbell,
        clock: Clock,
        settings: &CallbackSettings,
        secrets: Vec<SigningSecret>,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        if secrets.is_empty() {
            return Err(NotifierError::NoSecret);
        }
        if settings.concurrency == 0 {
            return Err(NotifierError::Concurrency);
        }
        if settings.timeout.is_zero() || settings.timeout > TIMEOUT_MAX {
            return Err(NotifierError::Timeout);
        }
        if settings.schedule.iter().any(|wait| *wait > WAIT_MAX) {
            return Err(NotifierError::Schedule);
        }
        let courier = Courier {
            callbacks: callbacks.clone(),
            client: GuardedClient::new(settings.timeout, settings.allow_private_networks)?,
            clock,
            secrets,
            public_url,
            schedule: settings.schedule.clone(),
            timeout: settings.timeout,
            metrics,
        };
        let concurrency = usize::try_from(settings.concurrency).unwrap_or(usize::MAX);
        Ok(Self { courier: Arc::new(courier), callbacks, doorbell, concurrency })
    }

    /// Delivers events. After `soft` it takes no more and lets open deliveries end; after `hard`
    /// it abandons them, and their events come due again when their leases run out.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) {
        let mut open = Open::new();
        // Dropping the set abandons what is in it.
        let _ = hard.run_until_cancelled(self.serve(&soft, &mut open)).await;
        if !open.is_empty() {
            tracing::warn!(
                callbacks.abandoned = open.len(),
                "open callback attempts are abandoned"
            );
        }
    }

    async fn serve(&self, soft: &CancellationToken, open: &mut Open) {
        let mut bell = self.doorbell.listen();
        let mut outage = Outage::default();
        while !soft.is_cancelled() {
            match self.round(open).await {
                Ok(wait) => {
                    outage.over();
                    let rung = async { while !is_for_us(&bell.next().await) {} };
                    self.pause(wait, rung, open, soft).await;
                    // One look answers all rings so far.
                    while bell.next().now_or_never().is_some() {}
                }
                Err(error) => {
                    let wait = outage.wait(&error);
                    let _ = soft.run_until_cancelled(sleep(wait)).await;
                }
            }
        }
        while let Some(ended) = open.join_next().await {
            comes_again(ended);
        }
    }

    /// Takes what is due and there is room for. Gives how long nothing more is to be expected.
    async fn round(&self, open: &mut Open) -> Result<Duration, StoreError> {
        let room = self.concurrency.saturating_sub(open.len()).min(TAKE_MAX);
        if room == 0 {
            return Ok(LOOK_MAX);
        }
        let taken = self.callbacks.take(room, self.courier.lease()).await?;
        let is_full = taken.len() >= room;
        for event in taken {
            let courier = self.courier.clone();
            open.spawn(async move { courier.deliver(event).await });
        }
        if is_full {
            // There may be more: at once if there is room, else when there is.
            return Ok(if open.len() < self.concurrency { Duration::ZERO } else { LOOK_MAX });
        }
        let due = self.callbacks.next_due().await?;
        Ok(due.map_or(LOOK_MAX, |due| due.clamp(LOOK_MIN, LOOK_MAX)))
    }

    /// Waits until there is a reason to look again.
    async fn pause(
        &self,
        wait: Duration,
        rung: impl Future<Output = ()>,
        open: &mut Open,
        soft: &CancellationToken,
    ) {
        let is_full = open.len() >= self.concurrency;
        let made_room = async {
            loop {
                let Some(ended) = open.join_next().await else {
                    return std::future::pending().await;
                };
                if comes_again(ended) || is_full {
                    return;
                }
            }
        };
        tokio::select! {
            () = soft.cancelled() => {}
            () = made_room => {}
            () = rung, if !is_full => {}
            () = sleep(wait) => {}
        }
    }
}

/// Whether a delivery's event comes due again. A panic ends no more than its own delivery.
fn comes_again(ended: Result<bool, JoinError>) -> bool {
    ended.unwrap_or_else(|error| {
        tracing::error!(error = %error, "a callback attempt panicked and is left to its lease");
        true
    })
}

fn is_for_us(ring: &Ring) -> bool {
    matches!(ring, Ring::Event | Ring::Everything)
}

// === impl Outage ===

impl Outage {
    /// Notes a failure: it is logged once an outage. Gives how long to wait.
    fn wait(&mut self, error: &StoreError) -> Duration {
        let (since, wait) = if let Some((since, wait)) = self.0 {
            (since, (wait * 2).min(LOOK_MAX))
        } else {
            tracing::warn!(error = %error, "callbacks wait: the store fails");
            (Instant::now(), OUTAGE_WAIT)
        };
        self.0 = Some((since, wait));
        wait
    }

    fn over(&mut self) {
        if let Some((since, _)) = self.0.take() {
            let outage_ms = crate::domain::time::millis(since.elapsed());
            tracing::info!(outage_ms, "callbacks go on: the store answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::{
        callbacks::{
            receiver::{Act, Received, Receiver},
            signature::{SecretsError, signing_secrets},
        },
        domain::{
            batch::{
                Batch, BatchSpec, BatchState, CallbackSpec, CallbackState, Counts, FinalCounts,
            },
            ids::BatchId,
            message::FinalState,
            time::UnixMs,
        },
        store::{Attempt, TakenEvent, Verdict},
    };

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A store of events in memory: those that are due, and what was recorded.
    #[derive(Default)]
    struct Events {
        due: Mutex<VecDeque<TakenEvent>>,
        held: Mutex<Vec<TakenEvent>>,
        records: Mutex<Vec<Attempt>>,
        secret: Mutex<Option<String>>,
        /// How many times `take`, and `record`, fail from now on.
        take_failures: Mutex<usize>,
        record_failures: Mutex<usize>,
        takes: Mutex<usize>,
        recorded: tokio::sync::Notify,
    }

    // === impl Events ===

    #[async_trait]
    impl Callbacks for Events {
        async fn take(&self, limit: usize, _: Duration) -> Result<Vec<TakenEvent>, StoreError> {
            *self.takes.lock() += 1;
            fail(&self.take_failures)?;
            let mut due = self.due.lock();
            let room = limit.min(due.len());
            let taken: Vec<_> = due.drain(..room).collect();
            self.held.lock().extend(taken.iter().cloned());
            Ok(taken)
        }

        async fn body(&self, batch: BatchId, body: String) -> Result<String, StoreError> {
            let mut held = self.held.lock();
            let event = held.iter_mut().find(|event| event.batch.id == batch).unwrap();
            Ok(event.body.get_or_insert(body).clone())
        }

        async fn record(&self, attempt: &Attempt) -> Result<bool, StoreError> {
            fail(&self.record_failures)?;
            let mut held = self.held.lock();
            let Some(at) = held.iter().position(|event| event.batch.id == attempt.batch) else {
                return Ok(false);
            };
            let mut event = held.remove(at);
            if let Verdict::Again(_) = attempt.verdict {
                // However long the wait, it is over at once.
                event.number += 1;
                self.due.lock().push_back(event);
            }
            self.records.lock().push(attempt.clone());
            self.recorded.notify_waiters();
            Ok(true)
        }

        async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
            Ok((!self.due.lock().is_empty()).then_some(Duration::ZERO))
        }

        async fn signing_secret(&self, secret: &str) -> Result<String, StoreError> {
            Ok(self.secret.lock().get_or_insert(secret.to_owned()).clone())
        }
    }

    impl Events {
        /// Waits until this many attempts are recorded.
        async fn recorded(&self, attempts: usize) -> Vec<Attempt> {
            loop {
                let recorded = self.recorded.notified();
                if self.records.lock().len() >= attempts {
                    return self.records.lock().clone();
                }
                let wait = tokio::time::timeout(PATIENCE, recorded);
                wait.await.expect("too few attempts were recorded");
            }
        }
    }

    fn fail(failures: &Mutex<usize>) -> Result<(), StoreError> {
        let mut failures = failures.lock();
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(StoreError::Unreachable("as the test wishes".into()))
    }

    /// A notifier at work on a store in memory.
    struct Running {
        events: Arc<Events>,
        doorbell: Doorbell,
        soft: CancellationToken,
        hard: CancellationToken,
        done: tokio::task::JoinHandle<()>,
    }

    // === impl Running ===

    impl Running {
        fn start(events: Events) -> Self {
            Self::start_with(events, &settings())
        }

        fn start_with(events: Events, settings: &CallbackSettings) -> Self {
            let (events, doorbell) = (Arc::new(events), Doorbell::default());
            let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
            let notifier = Notifier::of(
                events.clone(),
                doorbell.clone(),
                Clock::system(),
                settings,
                vec![SigningSecret::parse(SECRET).unwrap()],
                "https://sms.example".into(),
                Arc::default(),
            )
            .unwrap();
            let done = tokio::spawn(notifier.run(soft.clone(), hard.clone()));
            Self { events, doorbell, soft, hard, done }
        }

        async fn stopped(self) {
            tokio::time::timeout(PATIENCE, self.done).await.expect("it stops").unwrap();
        }
    }

    fn settings() -> CallbackSettings {
        CallbackSettings {
            signing_secrets: Vec::new(),
            allow_private_networks: true,
            timeout: PATIENCE,
            schedule: vec![Duration::from_secs(5); 3],
            concurrency: 16,
        }
    }

    fn event(number: u64, url: &str) -> TakenEvent {
        let mut ended = FinalCounts::default();
        ended.add(FinalState::Sent, 2);
        let headers = vec![
            ("X-Api-Token".into(), "t0ken".into()),
            ("Webhook-Id".into(), "evt_forged".into()),
            ("Content-Type".into(), "text/plain".into()),
        ];
        let callback = Some(CallbackSpec { url: url.into(), headers });
        let batch = Batch {
            id: BatchId::new(UnixMs(1_790_000_000_000 + number), 99 << 30, 0),
            spec: BatchSpec { callback, ..BatchSpec::default() },
            state: BatchState::Completed,
            counts: Counts { total: 2, sending: 0, ended },
            started_at: Some(UnixMs(1_790_000_000_010)),
            completed_at: Some(UnixMs(1_790_000_000_250)),
            callback: CallbackState::Pending,
        };
        TakenEvent { batch, number: 1, body: None }
    }

    fn events(urls: &[String]) -> Events {
        let due = (0..).zip(urls).map(|(number, url)| event(number, url)).collect();
        Events { due: Mutex::new(due), ..Events::default() }
    }

    fn verify(received: &Received) {
        let webhook = Webhook::new(SECRET).unwrap();
        webhook.verify(received.body.as_bytes(), &received.headers).unwrap();
    }

    fn ended(attempt: &Attempt) -> Option<CallbackState> {
        match attempt.verdict {
            Verdict::Ended(state) => Some(state),
            Verdict::Again(_) => None,
        }
    }

    #[tokio::test]
    async fn an_event_is_delivered_once_and_its_signature_holds() {
        let receiver = Receiver::start([Act::answer(200, "thanks")]).await;
        let running = Running::start(events(&[receiver.url()]));
        let records = running.events.recorded(1).await;
        assert_eq!(ended(&records[0]), Some(CallbackState::Delivered));
        assert_eq!((records[0].number, records[0].end.status), (1, Some(200)));
        assert_eq!(records[0].end.answer.as_deref(), Some("thanks"));
        running.soft.cancel();
        running.stopped().await;

        let requests = receiver.requests();
        assert_eq!(requests.len(), 1);
        verify(&requests[0]);
        let batch = event(0, "").batch;
        assert_eq!(requests[0].header("webhook-id"), batch.id.event().to_string());
        assert_eq!(requests[0].body, crate::domain::event::render(&batch, "https://sms.example"));
        assert_eq!(requests[0].header("content-type"), "application/json");
        assert_eq!(requests[0].header("x-api-token"), "t0ken");
        assert_eq!(requests[0].headers.get_all("webhook-id").iter().count(), 1);
        assert!(requests[0].header("user-agent").starts_with("ringback/"));
    }

    #[tokio::test]
    async fn a_failed_attempt_is_repeated_with_the_same_id_and_bytes() {
        let receiver = Receiver::start([Act::answer(500, "oh"), Act::answer(200, "")]).await;
        let events = events(&[receiver.url()]);
        let running = Running::start(events);
        let records = running.events.recorded(2).await;
        assert!(matches!(records[0].verdict, Verdict::Again(wait) if wait.as_secs() >= 4));
        assert_eq!(records[0].end.error.as_deref(), Some("the receiver answered 500"));
        assert_eq!(ended(&records[1]), Some(CallbackState::Delivered));
        assert_eq!(records[1].number, 2);
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        requests.iter().for_each(verify);
        assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
        assert_eq!(requests[0].body, requests[1].body);
    }

    #[tokio::test]
    async fn the_stored_body_is_sent_with_a_fresh_timestamp() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let stored = TakenEvent {
            number: 2,
            body: Some("{\"stored\":1}".into()),
            ..event(0, &receiver.url())
        };
        let before_s = Clock::system().now().0 / 1000;
        let running =
            Running::start(Events { due: Mutex::new([stored].into()), ..Events::default() });
        running.events.recorded(1).await;
        let request = &receiver.requests()[0];
        verify(request);
        assert_eq!(request.body, "{\"stored\":1}");
        let timestamp_s: u64 = request.header("webhook-timestamp").parse().unwrap();
        assert!((before_s..=before_s + 10).contains(&timestamp_s), "{timestamp_s}");
    }

    #[tokio::test]
    async fn a_gone_receiver_stops_it_and_a_failing_one_uses_up_the_schedule() {
        let gone = Receiver::start([Act::answer(410, "")]).await;
        let failing = Receiver::start([Act::answer(500, "")]).await;
        let running = Running::start(events(&[gone.url(), failing.url()]));
        let records = running.events.recorded(5).await;
        let of = |number| {
            let id = event(number, "").batch.id;
            records.iter().filter(move |attempt| attempt.batch == id).collect::<Vec<_>>()
        };
        assert_eq!(
            of(0).iter().map(|attempt| ended(attempt)).collect::<Vec<_>>(),
            [Some(CallbackState::Gone)]
        );
        assert_eq!(of(1).len(), 4);
        assert_eq!(ended(of(1)[3]), Some(CallbackState::Exhausted));
        assert_eq!((gone.requests().len(), failing.requests().len()), (1, 4));
    }

    #[tokio::test]
    async fn a_forbidden_url_is_never_posted_to() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let closed =
            CallbackSettings { allow_private_networks: false, schedule: Vec::new(), ..settings() };
        let running = Running::start_with(events(&[receiver.url()]), &closed);
        let records = running.events.recorded(1).await;
        assert_eq!(ended(&records[0]), Some(CallbackState::Exhausted));
        let error = records[0].end.error.as_deref().unwrap();
        assert!(error.contains("callbacks.allow_private_networks"), "{error}");
        assert!(receiver.requests().is_empty());
    }

    #[tokio::test]
    async fn the_doorbell_wakes_it_and_no_more_are_open_than_allowed() {
        let receiver = Receiver::start([Act::Hang(String::new())]).await;
        let two = CallbackSettings { concurrency: 2, ..settings() };
        let begin = Instant::now();
        let running = Running::start_with(Events::default(), &two);
        while *running.events.takes.lock() == 0 {
            tokio::task::yield_now().await;
        }
        running.events.due.lock().extend((0..5).map(|number| event(number, &receiver.url())));
        running.doorbell.ring(Ring::Event);
        receiver.received(2).await;
        assert!(begin.elapsed() < LOOK_MAX, "it looked of itself: {:?}", begin.elapsed());
        running.doorbell.ring(Ring::Everything);
        running.hard.cancel();
        let events = running.events.clone();
        running.stopped().await;
        assert_eq!((events.due.lock().len(), events.records.lock().len()), (3, 0));
        assert_eq!(receiver.requests().len(), 2);
    }

    #[tokio::test]
    async fn what_is_open_ends_before_a_soft_stop() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n";
        let receiver = Receiver::start([Act::Drip(answer.into())]).await;
        let running = Running::start(events(&[receiver.url()]));
        receiver.received(1).await;
        running.soft.cancel();
        let events = running.events.clone();
        running.stopped().await;
        assert_eq!(ended(&events.records.lock()[0]), Some(CallbackState::Delivered));
    }

    #[tokio::test]
    async fn a_store_that_fails_for_a_while_is_asked_again_without_hurry() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let failing = Events { take_failures: Mutex::new(3), ..events(&[receiver.url()]) };
        let begin = Instant::now();
        let running = Running::start(failing);
        let ring = running.doorbell.clone();
        let noise = tokio::spawn(async move {
            loop {
                ring.ring(Ring::Everything);
                tokio::task::yield_now().await;
            }
        });
        let records = running.events.recorded(1).await;
        noise.abort();
        assert!(begin.elapsed() >= OUTAGE_WAIT * 7, "asked too often: {:?}", begin.elapsed());
        assert_eq!(ended(&records[0]), Some(CallbackState::Delivered));
        assert_eq!(receiver.requests().len(), 1);
    }

    #[tokio::test]
    async fn what_can_not_be_recorded_at_once_is_recorded_later() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let failing = Events { record_failures: Mutex::new(2), ..events(&[receiver.url()]) };
        let running = Running::start(failing);
        assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Delivered));
        assert_eq!(receiver.requests().len(), 1);
    }

    #[test]
    fn settings_that_can_not_serve_are_named() {
        let refused = |settings: &CallbackSettings| {
            let secrets = vec![SigningSecret::parse(SECRET).unwrap()];
            let (events, doorbell) = (Arc::new(Events::default()), Doorbell::default());
            let (clock, url, metrics) = (Clock::system(), String::new(), Arc::default());
            let notifier = Notifier::of(events, doorbell, clock, settings, secrets, url, metrics);
            notifier.err().unwrap().to_string()
        };
        let none = CallbackSettings { concurrency: 0, ..settings() };
        assert!(refused(&none).starts_with("callbacks.concurrency: "));
        for timeout in [Duration::ZERO, Duration::MAX] {
            let settings = CallbackSettings { timeout, ..settings() };
            assert!(refused(&settings).starts_with("callbacks.timeout: "));
        }
        let endless = CallbackSettings { schedule: vec![Duration::MAX], ..settings() };
        assert!(refused(&endless).starts_with("callbacks.schedule: "));
    }

    #[tokio::test]
    async fn the_stores_secret_serves_where_none_is_configured() {
        let events = Events::default();
        let made = signing_secrets(&events, &settings()).await.unwrap();
        let kept = signing_secrets(&events, &settings()).await.unwrap();
        assert_eq!(made[0].reveal(), kept[0].reveal());
        let configured = CallbackSettings { signing_secrets: vec![SECRET.into()], ..settings() };
        assert_eq!(signing_secrets(&events, &configured).await.unwrap()[0].reveal(), SECRET);
        let broken =
            CallbackSettings { signing_secrets: vec![SECRET.into(), "hush".into()], ..settings() };
        let error: SecretsError = signing_secrets(&events, &broken).await.unwrap_err();
        assert!(error.to_string().starts_with("callbacks.signing_secrets[1]: "), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
