//! A receiver of callbacks, which keeps a book of every delivery and answers as it is told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{HeaderValue, LOCATION, RETRY_AFTER},
};
use parking_lot::Mutex;
use ringback::{clock::Clock, domain::time::UnixMs};
use standardwebhooks::Webhook;

use super::{
    eventually,
    hosted::{Host, Hosted, Step, Whole},
};

/// How far a delivery's timestamp may lie from its arrival, in seconds, as Standard Webhooks advise.
const TOLERANCE_S: i64 = 300;

/// The receiver. Ends when dropped.
pub(crate) struct Receiver {
    hosted: Hosted,
    desk: Arc<Desk>,
}

/// One delivery.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// When it was read to its end.
    pub(crate) at: Instant,
    /// The same by the clock.
    came: UnixMs,
    /// Path and query.
    pub(crate) path: String,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The body, byte for byte.
    pub(crate) body: Bytes,
    /// How it was answered.
    pub(crate) reply: Reply,
}

/// How a delivery is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// With this status.
    Status(u16),
    /// With this status and `Retry-After`, in seconds.
    RetryAfter(u16, u32),
    /// With 307 and another path of this receiver.
    Redirect,
    /// Not at all.
    Hang,
    /// By a reset, once it is read.
    Reset,
}

struct Desk {
    script: Mutex<VecDeque<Reply>>,
    /// What follows the script.
    afterwards: Mutex<Reply>,
    deliveries: Mutex<Vec<Delivery>>,
}

// === impl Receiver ===

impl Receiver {
    /// Starts a receiver that answers 200.
    pub(crate) fn start() -> Self {
        Self::scripted([])
    }

    /// Starts a receiver that answers the first deliveries as the script says, and 200 afterwards.
    pub(crate) fn scripted(script: impl IntoIterator<Item = Reply>) -> Self {
        let desk = Desk::following(script);
        Self { hosted: Hosted::start(Arc::clone(&desk)), desk }
    }

    /// Starts a receiver at this address that answers 200.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::scripted_at(address, [])
    }

    /// The two together.
    pub(crate) fn scripted_at(
        address: SocketAddr,
        script: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let desk = Desk::following(script);
        Self { hosted: Hosted::start_at(Arc::clone(&desk), address), desk }
    }

    /// Where callbacks are posted to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/sms", self.hosted.address)
    }

    /// Answers like this from now on, once the script is at its end.
    pub(crate) fn set(&self, reply: Reply) {
        *self.desk.afterwards.lock() = reply;
    }

    /// The book, in the order of arrival.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.desk.deliveries.lock().clone()
    }

    /// Waits until there were `count` deliveries, and gives the book.
    pub(crate) async fn wait_for(&self, count: usize, longest: Duration) -> Vec<Delivery> {
        let what = format!("delivery of {count} callbacks");
        eventually(&what, longest, async || {
            Some(self.deliveries()).filter(|deliveries| deliveries.len() >= count)
        })
        .await
    }
}

// === impl Delivery ===

impl Delivery {
    /// Fails the test unless the delivery is signed with `secret`, as Standard Webhooks say, and was when it
    /// came: the book may be read long after that.
    pub(crate) fn verify(&self, secret: &str) {
        let timestamp: i64 = self.header("webhook-timestamp").parse().unwrap();
        let came = (self.came.0 / 1_000).cast_signed();
        assert!((came - timestamp).abs() <= TOLERANCE_S, "signed for {timestamp}, came at {came}");
        let webhook = Webhook::new(secret).unwrap();
        let expected = webhook.sign(self.header("webhook-id"), timestamp, &self.body).unwrap();
        let given = self.header("webhook-signature");
        assert!(given.split(' ').any(|signature| signature == expected), "{given}");
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

// === impl Desk ===

impl Desk {
    fn following(script: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            afterwards: Mutex::new(Reply::Status(200)),
            deliveries: Mutex::default(),
        })
    }
}

impl Host for Desk {
    async fn step(&self, request: Whole) -> Step {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let reply = self.script.lock().pop_front().unwrap_or(*self.afterwards.lock());
        let (at, came, headers) = (Instant::now(), Clock::system().now(), head.headers);
        let delivery = Delivery { at, came, path, headers, body, reply };
        self.deliveries.lock().push(delivery);
        match reply {
            Reply::Status(status) => Step::Answer(response(status)),
            Reply::RetryAfter(status, seconds) => {
                let mut response = response(status);
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                Step::Answer(response)
            }
            Reply::Redirect => {
                let mut response = response(307);
                response.headers_mut().insert(LOCATION, HeaderValue::from_static("/elsewhere"));
                Step::Answer(response)
            }
            Reply::Hang => std::future::pending().await,
            Reply::Reset => Step::Reset,
        }
    }
}

fn response(status: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
