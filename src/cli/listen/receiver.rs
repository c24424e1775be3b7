//! The receiver: takes any request, checks it, answers it, and reports it.
//!
//! Bodies are read up to [`BODY_BYTES_MAX`], connections, headers and time are bounded by the
//! server below. A request is answered once its report has found room in the queue, so whoever reads
//! the reports sets the pace.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
};
use bytes::Bytes;
use http::{Response, StatusCode, request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::Attempts,
    forward::Forwarder,
    report::{Answered, Report, Signature},
};
use crate::app::receiving::{self, Clock, UnixMs, Verifier};

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How many reports wait to be read.
const REPORTS_MAX: usize = 64;

/// A running receiver. Stops when dropped.
pub(in crate::cli) struct Receiver {
    address: SocketAddr,
    shutdown: CancellationToken,
}

/// What a receiver does with requests.
pub(in crate::cli) struct Desk {
    verifiers: Vec<Verifier>,
    reply: Reply,
    clock: Clock,
    attempts: Mutex<Attempts>,
}

/// How requests are answered.
pub(in crate::cli) enum Reply {
    /// With 200.
    Taken,
    /// With this status: the first ones, or all of them.
    Status {
        /// The status.
        status: StatusCode,
        /// How many, if not all.
        times: Option<u64>,
        /// How many were so far.
        given: Mutex<u64>,
    },
    /// As another receiver answers.
    Forward(Forwarder),
}

/// Why a body was not taken.
#[derive(Clone, Copy)]
enum Refused {
    TooLong,
    Broken,
}

type Desks = (Arc<Desk>, mpsc::Sender<Report>);

// === impl Receiver ===

impl Receiver {
    /// Starts to receive on `address`, and gives the reports of what comes. They end when the
    /// receiver was asked to stop and has answered what was open.
    ///
    /// # Errors
    /// If the address can't be listened on.
    pub(in crate::cli) async fn start(
        address: SocketAddr,
        desk: Desk,
    ) -> io::Result<(Self, mpsc::Receiver<Report>)> {
        let listener = TcpListener::bind(address).await?;
        let (address, shutdown) = (listener.local_addr()?, CancellationToken::new());
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let routes = Router::new().fallback(receive).with_state((Arc::new(desk), sender));
        tokio::spawn(receiving::serve(routes, listener, shutdown.clone()));
        Ok((Self { address, shutdown }, reports))
    }

    /// Where it listens.
    pub(in crate::cli) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it to take nothing more.
    pub(in crate::cli) fn stop(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Desk ===

impl Desk {
    /// A desk that checks with `verifiers` and answers with `reply`.
    pub(in crate::cli) fn new(verifiers: Vec<Verifier>, reply: Reply) -> Self {
        Self { verifiers, reply, clock: Clock::system(), attempts: Mutex::default() }
    }

    async fn take(&self, head: request::Parts, body: Body) -> (Response<Body>, Report) {
        let body = read(body).await;
        let (at, arrived) = (self.clock.now(), Instant::now());
        let signature = self.check(&head, body.as_deref().ok(), at);
        let mut report =
            Report::new(at, arrived, head, body.clone().unwrap_or_default(), signature);
        if let Some(id) = &report.event_id {
            report.attempt = self.attempts.lock().count(id, &report.body);
        }
        let (response, answered) = match body {
            Ok(body) => self.reply.answer(&report, body).await,
            Err(refused) => refused.answer(),
        };
        report.answered = answered;
        (response, report)
    }

    fn check(&self, head: &request::Parts, body: Option<&[u8]>, now: UnixMs) -> Signature {
        let Some(body) = body else { return Signature::NoBody };
        if self.verifiers.is_empty() {
            return Signature::NotChecked;
        }
        match receiving::check(&self.verifiers, &head.headers, body, now) {
            Ok(place) => Signature::Holds { secret: place + 1, of: self.verifiers.len() },
            Err(refusal) => Signature::Fails(refusal),
        }
    }
}

// === impl Reply ===

impl Reply {
    async fn answer(&self, report: &Report, body: Bytes) -> (Response<Body>, Answered) {
        match self {
            Self::Taken => plain(StatusCode::OK),
            Self::Status { status, times, given } => {
                let mut given = given.lock();
                if times.is_some_and(|times| *given >= times) {
                    return plain(StatusCode::OK);
                }
                *given += 1;
                let answered = Answered::Scripted { status: *status, number: *given, of: *times };
                (empty(*status), answered)
            }
            Self::Forward(forwarder) => forward(forwarder, report, body).await,
        }
    }
}

// === impl Refused ===

impl Refused {
    fn answer(self) -> (Response<Body>, Answered) {
        let (status, why) = match self {
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB"),
            Self::Broken => (StatusCode::BAD_REQUEST, "the body broke off, or took too long"),
        };
        let mut response = Response::new(Body::from(format!("{why}\n")));
        *response.status_mut() = status;
        (response, Answered::Refused { status, why })
    }
}

async fn receive(State((desk, reports)): State<Desks>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (response, report) = desk.take(head, body).await;
    // Nobody reads them any more once the receiver is to end.
    let _ = reports.send(report).await;
    response
}

async fn read(mut body: Body) -> Result<Bytes, Refused> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    let mut bytes = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::Broken)?;
        let Some(piece) = frame.data_ref() else { continue };
        if bytes.len() + piece.len() > BODY_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes.into())
}

async fn forward(
    forwarder: &Forwarder,
    report: &Report,
    body: Bytes,
) -> (Response<Body>, Answered) {
    let to = forwarder.place();
    match forwarder.pass(&report.method, &report.headers, body).await {
        Ok(answer) => {
            let status = answer.status();
            (answer.map(Body::from), Answered::Forwarded { status, to })
        }
        Err(why) => {
            let mut response = Response::new(Body::from(format!("{to}: {why}\n")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            (response, Answered::NotForwarded { to, why })
        }
    }
}

fn plain(status: StatusCode) -> (Response<Body>, Answered) {
    (empty(status), Answered::Plain { status })
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
