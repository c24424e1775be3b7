//! The loop: takes events that are due, and has each delivered in a task of its own.
//!
//! It takes no more than it can deliver at once, so that no lease runs while an event waits. It
//! looks when the doorbell rings, when the next event comes due, when a delivery made room or put
//! its event back, and once a second in any case. While the store is away it asks ever more
//! slowly.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    CallbackSettings, Signers,
    client::{ClientError, GuardedClient},
    delivery::{self, Courier},
    poster::Poster,
    schedule::Schedule,
};
use crate::{
    clock::Clock,
    store::{Callbacks, Doorbell, Reading, Ring, Store, StoreError},
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
const TIMEOUT_MAX: Duration = Duration::from_mins(30);
const WAIT_MAX: Duration = Duration::from_hours(24);

/// Delivers events until it is stopped.
pub struct Notifier {
    courier: Arc<Courier>,
    callbacks: Arc<dyn Callbacks>,
    doorbell: Doorbell,
    concurrency: usize,
}

/// What a notifier needs of the store.
struct Ports {
    callbacks: Arc<dyn Callbacks>,
    reading: Arc<dyn Reading>,
    doorbell: Doorbell,
}

/// A notifier can't be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// No attempt could be made at all.
    #[error("callbacks.concurrency: give a number of at least 1")]
    Concurrency,
    /// Nobody could be sent anything.
    #[error("callbacks.host_concurrency: give a number of at least 1")]
    HostConcurrency,
    /// Every host would be left alone from the beginning.
    #[error("callbacks.breaker_failures: give a number of at least 1")]
    BreakerFailures,
    /// A host would be left alone for longer than is meant.
    #[error("callbacks.breaker_cool_down: give a duration of at most 24h")]
    BreakerCoolDown,
    /// No attempt could succeed, or one might never end.
    #[error("callbacks.timeout: give a duration above 0, at most 30m")]
    Timeout,
    /// A wait is too long to be meant.
    #[error("callbacks.schedule: give durations of at most 24h")]
    Schedule,
    /// The HTTP client can't be made.
    #[error("the callback client can't be made: {0}")]
    Client(#[from] ClientError),
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
        signers: Signers,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        let Store { callbacks, reading, doorbell, .. } = store.clone();
        let ports = Ports { callbacks, reading, doorbell };
        Self::of(ports, clock, settings, signers, public_url, metrics)
    }

    fn of(
        Ports { callbacks, reading, doorbell }: Ports,
        clock: Clock,
        settings: &CallbackSettings,
        signers: Signers,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        if settings.concurrency == 0 {
            return Err(NotifierError::Concurrency);
        }
        if settings.host_concurrency == 0 {
            return Err(NotifierError::HostConcurrency);
        }
        if settings.breaker_failures == 0 {
            return Err(NotifierError::BreakerFailures);
        }
        if settings.breaker_cool_down > WAIT_MAX {
            return Err(NotifierError::BreakerCoolDown);
        }
        if settings.timeout.is_zero() || settings.timeout > TIMEOUT_MAX {
            return Err(NotifierError::Timeout);
        }
        if settings.schedule.iter().any(|wait| *wait > WAIT_MAX) {
            return Err(NotifierError::Schedule);
        }
        let client = GuardedClient::new(settings)?;
        let lease = delivery::lease(settings.timeout, settings.verify_endpoint);
        let courier = Courier {
            callbacks: callbacks.clone(),
            reading,
            poster: Poster { client, clock, signers },
            public_url,
            schedule: Schedule::new(settings.schedule.clone(), lease),
            lease,
            asks_first: settings.verify_endpoint,
            welcomes: Mutex::default(),
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
        let taken = self.callbacks.take(room, self.courier.lease).await?;
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
    use standardwebhooks::Webhook;

    use super::*;
    use crate::{
        callbacks::{
            fixture::{Events, PATIENCE, Unread, event, events, progress},
            receiver::{Act, Received, Receiver},
        },
        domain::{batch::CallbackState, event::render, signature::SigningSecret},
        store::{Attempt, HostSign, TakenEvent, Verdict},
    };

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

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
            let reading = Arc::new(Unread);
            let notifier = Notifier::of(
                Ports { callbacks: events.clone(), reading, doorbell: doorbell.clone() },
                Clock::system(),
                settings,
                Signers::of(vec![SigningSecret::parse(SECRET).unwrap()]),
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
            allow_private_networks: true,
            timeout: PATIENCE,
            schedule: vec![Duration::from_secs(5); 3],
            concurrency: 16,
            host_concurrency: 16,
            breaker_failures: 5,
            breaker_cool_down: Duration::from_secs(30),
            ..CallbackSettings::default()
        }
    }

    fn due(taken: TakenEvent) -> Events {
        Events { due: Mutex::new([taken].into()), ..Events::default() }
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
        let taken = event(0, "");
        assert_eq!(requests[0].header("webhook-id"), taken.event.id.to_string());
        let body = render(&taken.event, &taken.batch, None, "https://sms.example");
        assert_eq!(requests[0].body, body);
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
            let id = event(number, "").event.id;
            records.iter().filter(move |attempt| attempt.event == id).collect::<Vec<_>>()
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
    async fn an_interrupted_attempt_is_recorded_and_not_made_again() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let interrupted = TakenEvent { interrupted: true, ..event(0, &receiver.url()) };
        let running = Running::start(due(interrupted));
        let records = running.events.recorded(2).await;
        assert_eq!(records[0].end, crate::store::AttemptEnd::interrupted());
        assert_eq!((records[0].number, records[0].host), (1, HostSign::None));
        assert!(matches!(records[0].verdict, Verdict::Again(wait) if wait.as_secs() >= 4));
        assert_eq!((records[1].number, records[1].host), (2, HostSign::Answered));
        assert_eq!(receiver.requests().len(), 1);
    }

    #[tokio::test]
    async fn interrupted_attempts_use_up_the_schedule() {
        let last = TakenEvent { interrupted: true, tries: 4, ..event(0, "http://127.0.0.1:1/") };
        let running = Running::start(due(last));
        assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Exhausted));
    }

    #[tokio::test]
    async fn a_report_of_progress_is_tried_once() {
        let receiver = Receiver::start([Act::answer(500, "")]).await;
        let mut report = progress();
        report.batch.spec = event(0, &receiver.url()).batch.spec;
        let running = Running::start(due(report));
        assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Skipped));
        assert_eq!(receiver.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_host_without_an_answer_is_told_from_one_that_was_not_asked() {
        let silent = Receiver::start([Act::Reset]).await;
        let once = CallbackSettings { schedule: Vec::new(), ..settings() };
        let running = Running::start_with(events(&[silent.url()]), &once);
        assert_eq!(running.events.recorded(1).await[0].host, HostSign::Silent);
        let closed = CallbackSettings { allow_private_networks: false, ..once };
        let running = Running::start_with(events(&[silent.url()]), &closed);
        assert_eq!(running.events.recorded(1).await[0].host, HostSign::None);
    }

    #[tokio::test]
    async fn a_new_host_is_asked_by_a_signed_ping_once() {
        let receiver =
            Receiver::start([Act::answer(204, ""), Act::answer(200, ""), Act::answer(200, "")])
                .await;
        let asking = CallbackSettings { verify_endpoint: true, concurrency: 1, ..settings() };
        let running = Running::start_with(events(&[receiver.url(), receiver.url()]), &asking);
        running.events.recorded(2).await;
        let requests = receiver.requests();
        requests.iter().for_each(verify);
        assert!(requests[0].body.contains("\"webhook.ping\""), "{}", requests[0].body);
        assert_eq!(requests[0].header("x-api-token"), "t0ken");
        assert_ne!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
        assert!(requests[1..].iter().all(|request| request.body.contains("batch.completed")));
        assert_eq!(requests.len(), 3);
        assert_eq!(running.events.welcomes.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_host_that_refuses_the_ping_gets_no_callback() {
        let receiver = Receiver::start([Act::answer(404, "")]).await;
        let asking = CallbackSettings { verify_endpoint: true, schedule: Vec::new(), ..settings() };
        let running = Running::start_with(events(&[receiver.url()]), &asking);
        let attempt = &running.events.recorded(1).await[0];
        let error = attempt.end.error.as_deref().unwrap();
        assert!(error.starts_with("the host did not welcome a ping: "), "{error}");
        assert_eq!(receiver.requests().len(), 1);
        assert!(running.events.welcomes.lock().is_empty());
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
            let signers = Signers::of(vec![SigningSecret::parse(SECRET).unwrap()]);
            let ports = Ports {
                callbacks: Arc::new(Events::default()),
                reading: Arc::new(Unread),
                doorbell: Doorbell::default(),
            };
            let (clock, url, metrics) = (Clock::system(), String::new(), Arc::default());
            let notifier = Notifier::of(ports, clock, settings, signers, url, metrics);
            notifier.err().unwrap().to_string()
        };
        let none = CallbackSettings { concurrency: 0, ..settings() };
        assert!(refused(&none).starts_with("callbacks.concurrency: "));
        let none = CallbackSettings { host_concurrency: 0, ..settings() };
        assert!(refused(&none).starts_with("callbacks.host_concurrency: "));
        let none = CallbackSettings { breaker_failures: 0, ..settings() };
        assert!(refused(&none).starts_with("callbacks.breaker_failures: "));
        let endless = CallbackSettings { breaker_cool_down: Duration::MAX, ..settings() };
        assert!(refused(&endless).starts_with("callbacks.breaker_cool_down: "));
        for timeout in [Duration::ZERO, Duration::MAX] {
            let settings = CallbackSettings { timeout, ..settings() };
            assert!(refused(&settings).starts_with("callbacks.timeout: "));
        }
        let endless = CallbackSettings { schedule: vec![Duration::MAX], ..settings() };
        assert!(refused(&endless).starts_with("callbacks.schedule: "));
    }
}
