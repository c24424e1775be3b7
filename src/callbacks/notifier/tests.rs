//! The notifier at work on a store in memory and receivers on real sockets.

mod endings;
mod handshake;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use standardwebhooks::Webhook;

use super::*;
use crate::{
    callbacks::{
        fixture::{Events, PATIENCE, Unread, event, events, progress},
        receiver::{Act, Received, Receiver},
    },
    domain::{batch::CallbackState, event::render, signature::SigningSecret, time::UnixMs},
    store::{Attempt, AttemptEnd, HostSign, Recorded, TakenEvent, Verdict},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a batch brought along.
const OWN_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A notifier at work on a store in memory.
struct Running {
    events: Arc<Events>,
    doorbell: Doorbell,
    metrics: Arc<Metrics>,
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
        let (reading, metrics) = (Arc::new(Unread), Arc::new(Metrics::default()));
        let notifier = Notifier::of(
            Ports { callbacks: events.clone(), reading, doorbell: doorbell.clone() },
            hasty_clock(),
            settings,
            Signers::of(vec![SigningSecret::parse(SECRET).unwrap()]),
            "https://sms.example".into(),
            metrics.clone(),
        )
        .unwrap();
        let done = tokio::spawn(notifier.run(soft.clone(), hard.clone()));
        Self { events, doorbell, metrics, soft, hard, done }
    }

    /// What this process has counted, as a line for each figure.
    fn figures(&self) -> String {
        let mut text = String::new();
        self.metrics.encode(&mut text);
        text
    }

    async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.done).await.expect("it stops").unwrap();
    }
}

/// The machine's clock, but a second further each time it is asked.
fn hasty_clock() -> Clock {
    let looks = AtomicU64::new(0);
    Clock::new(move || UnixMs(Clock::system().now().0 + 1_000 * looks.fetch_add(1, Relaxed)))
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
    assert!(is_signed_with(SECRET, received), "{received:?}");
}

fn is_signed_with(secret: &str, received: &Received) -> bool {
    let webhook = Webhook::new(secret).unwrap();
    webhook.verify(received.body.as_bytes(), &received.headers).is_ok()
}

fn timestamp_s(received: &Received) -> u64 {
    received.header("webhook-timestamp").parse().unwrap()
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
async fn failed_attempts_are_repeated_with_the_same_id_and_bytes_and_a_fresh_timestamp() {
    let receiver = Receiver::start([
        Act::answer(500, "oh"),
        Act::Reset,
        Act::answer(302, ""),
        Act::answer(200, ""),
    ])
    .await;
    let running = Running::start(events(&[receiver.url()]));
    let records = running.events.recorded(4).await;
    for failed in &records[..3] {
        assert!(matches!(failed.verdict, Verdict::Again(wait) if wait.as_secs() >= 4));
    }
    assert_eq!(records[0].end.error.as_deref(), Some("the receiver answered 500"));
    assert_eq!(ended(&records[3]), Some(CallbackState::Delivered));
    let numbers: Vec<_> = records.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4);
    requests.iter().for_each(verify);
    for pair in requests.windows(2) {
        assert_eq!(pair[0].header("webhook-id"), pair[1].header("webhook-id"));
        assert_eq!(pair[0].body, pair[1].body);
        assert!(timestamp_s(&pair[0]) < timestamp_s(&pair[1]));
        assert_ne!(pair[0].header("webhook-signature"), pair[1].header("webhook-signature"));
    }
}

#[tokio::test]
async fn a_batch_with_a_secret_of_its_own_is_signed_with_that_one_alone() {
    let receiver = Receiver::start([Act::answer(204, ""), Act::answer(200, "")]).await;
    let mut taken = event(0, &receiver.url());
    taken.batch.spec.callback.as_mut().unwrap().secret = Some(OWN_SECRET.into());
    let asking = CallbackSettings { verify_endpoint: true, ..settings() };
    let running = Running::start_with(due(taken), &asking);
    running.events.recorded(1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2, "a ping and the callback");
    for request in &requests {
        assert!(is_signed_with(OWN_SECRET, request), "{request:?}");
        assert!(!is_signed_with(SECRET, request), "{request:?}");
    }
}

#[tokio::test]
async fn the_stored_body_is_sent_with_a_fresh_timestamp() {
    let receiver = Receiver::start([Act::answer(200, "")]).await;
    let stored =
        TakenEvent { number: 2, body: Some("{\"stored\":1}".into()), ..event(0, &receiver.url()) };
    let before_s = Clock::system().now().0 / 1000;
    let running = Running::start(due(stored));
    running.events.recorded(1).await;
    let request = &receiver.requests()[0];
    verify(request);
    assert_eq!(request.body, "{\"stored\":1}");
    let timestamp_s = timestamp_s(request);
    assert!((before_s..=before_s + 10).contains(&timestamp_s), "{timestamp_s}");
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
async fn attempts_are_counted_by_what_came_of_them() {
    let receiver = Receiver::start([
        Act::answer(410, ""),
        Act::Reset,
        Act::Write("220 no HTTP\r\n\r\n".into()),
        Act::answer(200, ""),
    ])
    .await;
    let one = CallbackSettings { concurrency: 1, ..settings() };
    let interrupted = TakenEvent { interrupted: true, tries: 4, ..event(2, &receiver.url()) };
    let metadata_service = event(3, "http://169.254.169.254/");
    let events = events(&[receiver.url(), receiver.url()]);
    events.due.lock().extend([interrupted, TakenEvent { tries: 4, ..metadata_service }]);
    *events.said.lock() = Some(Recorded::HostLeftAlone);
    let running = Running::start_with(events, &one);
    // Gone; silent; interrupted; forbidden; the silent one again, and once more.
    running.events.recorded(6).await;
    let figures = running.figures();
    for line in [
        "callback_attempts_total{result=\"delivered\"} 1",
        "callback_attempts_total{result=\"refused\"} 2",
        "callback_attempts_total{result=\"silent\"} 1",
        "callback_attempts_total{result=\"forbidden\"} 1",
        "callback_attempts_total{result=\"interrupted\"} 1",
        "callback_attempt_seconds_count 4",
        "callback_hosts_left_alone_total 1",
    ] {
        let line = format!("ringback_process_{line}");
        assert!(figures.lines().any(|found| found == line), "{line} is not in\n{figures}");
    }
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
