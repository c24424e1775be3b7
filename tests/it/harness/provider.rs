//! A provider as Ringback's kind `http` expects it, which keeps a book of every call.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header::RETRY_AFTER};
use parking_lot::Mutex;
use serde::Deserialize;

use super::{
    PATIENCE, eventually,
    hosted::{Host, Hosted, Step, Whole},
};

/// The provider. Ends when dropped.
pub(crate) struct Provider {
    address: SocketAddr,
    /// Nothing while it is dead.
    hosted: Mutex<Option<Hosted>>,
    desk: Arc<Desk>,
}

/// How calls are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Accepted, with an id of 34 characters.
    Accept,
    /// Accepted, after this long.
    Delay(Duration),
    /// 429 with `Retry-After` until then; accepted afterwards.
    Throttle { until: Instant, retry_after_s: u32 },
    /// This status until then, which is not final; accepted afterwards.
    Storm { until: Instant, status: u16 },
    /// 503 this many times for each message; then accepted.
    FailTimes(u32),
    /// This status, which is final, with the provider's own code `E7`.
    Reject(u16),
    /// Taken in, and the connection reset.
    Reset,
    /// Taken in, and never answered.
    Hang,
    /// The message of this body is taken in and never answered; others are accepted.
    HangOn(&'static str),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it was read to its end.
    pub(crate) at: Instant,
    /// The message's id.
    pub(crate) message_id: String,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: String,
    /// The recipient.
    pub(crate) to: String,
    /// The sender.
    pub(crate) from: Option<String>,
    /// The rendered body.
    pub(crate) body: String,
    /// What the caller was told.
    pub(crate) fate: Fate,
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// That the message was accepted.
    Accepted,
    /// That it was not.
    Refused,
    /// Nothing, though the message was taken in.
    Silence,
}

struct Desk {
    mode: Mutex<Mode>,
    calls: Mutex<Vec<Call>>,
    failures: Mutex<HashMap<String, u32>>,
    accepted: AtomicU64,
    open: AtomicUsize,
    open_at_most: AtomicUsize,
}

/// An exchange under way.
struct Exchange<'a>(&'a Desk);

#[derive(Deserialize)]
struct Submission {
    message_id: String,
    to: String,
    from: Option<String>,
    body: String,
}

// === impl Provider ===

impl Provider {
    /// Starts a provider that accepts everything.
    pub(crate) fn start() -> Self {
        let desk = Arc::new(Desk {
            mode: Mutex::new(Mode::Accept),
            calls: Mutex::default(),
            failures: Mutex::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            open_at_most: AtomicUsize::new(0),
        });
        let hosted = Hosted::start(Arc::clone(&desk));
        Self { address: hosted.address, hosted: Mutex::new(Some(hosted)), desk }
    }

    /// Where messages are posted to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/messages", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets its connections and refuses new ones from now on.
    pub(crate) fn die(&self) {
        self.hosted.lock().take();
    }

    /// Is there again, with its book.
    pub(crate) async fn revive(&self) {
        // The one that died may still be closing.
        let bound = async || Hosted::try_start_at(Arc::clone(&self.desk), self.address).ok();
        *self.hosted.lock() = Some(eventually("its port", PATIENCE, bound).await);
    }

    /// The most calls that were under way at once.
    pub(crate) fn open_at_most(&self) -> usize {
        self.desk.open_at_most.load(Ordering::Relaxed)
    }

    /// Answers in another way from now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self.desk.mode.lock() = mode;
    }

    /// The book, in the order of the calls.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.desk.calls.lock().clone()
    }

    /// How many calls there were.
    pub(crate) fn count(&self) -> usize {
        self.desk.calls.lock().len()
    }

    /// How often each message was taken in: accepted, or met with silence.
    pub(crate) fn taken_in(&self) -> HashMap<String, u32> {
        let mut taken = HashMap::new();
        for call in self.desk.calls.lock().iter().filter(|call| call.fate != Fate::Refused) {
            *taken.entry(call.message_id.clone()).or_default() += 1;
        }
        taken
    }

    /// The most calls in any one second.
    pub(crate) fn busiest_second(&self) -> usize {
        let calls = self.desk.calls.lock();
        let mut first = 0;
        let mut most = 0;
        for (last, call) in calls.iter().enumerate() {
            while call.at - calls[first].at >= Duration::from_secs(1) {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }
}

// === impl Desk ===

impl Host for Desk {
    async fn step(&self, request: Whole) -> Step {
        let Ok(submission) = serde_json::from_slice::<Submission>(request.body()) else {
            return answer(StatusCode::BAD_REQUEST, "{\"error\":\"malformed\"}".to_owned());
        };
        let _open = Exchange::begin(self);
        let mode = *self.mode.lock();
        let fate = self.decide(mode, &submission);
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
        self.calls.lock().push(Call {
            at: Instant::now(),
            message_id: submission.message_id,
            idempotency_key: key.unwrap_or_default().to_owned(),
            to: submission.to,
            from: submission.from,
            body: submission.body,
            fate,
        });
        match (mode, fate) {
            (Mode::Throttle { retry_after_s, .. }, Fate::Refused) => throttled(retry_after_s),
            (Mode::Storm { status, .. }, Fate::Refused) => {
                answer(StatusCode::from_u16(status).unwrap(), "{}".to_owned())
            }
            (Mode::Reject(status), _) => {
                answer(StatusCode::from_u16(status).unwrap(), "{\"code\":\"E7\"}".to_owned())
            }
            (_, Fate::Refused) => answer(StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
            (Mode::Hang | Mode::HangOn(_), Fate::Silence) => std::future::pending().await,
            (Mode::Reset, _) => Step::Reset,
            (Mode::Delay(delay), _) => {
                tokio::time::sleep(delay).await;
                self.accept()
            }
            _ => self.accept(),
        }
    }
}

impl Desk {
    fn decide(&self, mode: Mode, submission: &Submission) -> Fate {
        match mode {
            Mode::Throttle { until, .. } | Mode::Storm { until, .. } if Instant::now() < until => {
                Fate::Refused
            }
            Mode::FailTimes(times) => {
                let mut failures = self.failures.lock();
                let failed = failures.entry(submission.message_id.clone()).or_default();
                *failed += 1;
                if *failed <= times { Fate::Refused } else { Fate::Accepted }
            }
            Mode::Reject(_) => Fate::Refused,
            Mode::Hang | Mode::Reset => Fate::Silence,
            Mode::HangOn(body) if submission.body == body => Fate::Silence,
            _ => Fate::Accepted,
        }
    }

    fn accept(&self) -> Step {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        answer(StatusCode::OK, format!("{{\"id\":\"SM{number:032x}\"}}"))
    }
}

// === impl Exchange ===

impl<'a> Exchange<'a> {
    fn begin(desk: &'a Desk) -> Self {
        let open = desk.open.fetch_add(1, Ordering::Relaxed) + 1;
        desk.open_at_most.fetch_max(open, Ordering::Relaxed);
        Self(desk)
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn throttled(retry_after_s: u32) -> Step {
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(RETRY_AFTER, retry_after_s.into());
    Step::Answer(response)
}

fn answer(status: StatusCode, body: String) -> Step {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Step::Answer(response)
}
